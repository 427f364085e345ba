//! What kind of instrument is emulated, and the text that says it.
//!
//! Instruments are separated by `;`, settings by `,`:
//! `js220,serial=001122,seed=3,fifo=262144,scale=0.5,ppm=20,start=4293000000,frame=504,loses=both,fw=1.3.0,fault=lose:10@s2000000`.

use crate::fault::Fault;
use crate::limits;

/// How a host can tell that frames were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Losing {
    /// Frame ids and sample ids jump.
    Both,
    /// Sample ids jump; frames are numbered when they leave.
    Sample,
    /// Frame ids jump; samples are numbered as if none were missing.
    Frame,
}

/// One instrument.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Its serial number.
    pub serial: String,
    /// The seed of its waveform.
    pub seed: u64,
    /// The bytes of frames of streams that it holds until they are read.
    pub fifo_bytes: usize,
    /// Bytes of samples in a frame of a stream: a multiple of 4, to 504.
    pub frame_bytes: usize,
    /// Seconds of the sample clock in one second of the time given.
    pub scale: f64,
    /// How much too fast the sample clock is, in millionths.
    pub ppm: f64,
    /// The sample id when it is plugged in.
    pub start: u64,
    /// What loss looks like.
    pub losing: Losing,
    /// Version of firmware and FPGA: major << 24 | minor << 16 | patch.
    pub version: u32,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            serial: String::from("001122"),
            seed: 1,
            fifo_bytes: 256 * 1024,
            frame_bytes: 504,
            scale: 1.0,
            ppm: 0.0,
            start: 0,
            losing: Losing::Both,
            version: 0x0103_0000,
            faults: Vec::new(),
        }
    }
}

/// A text that means no instruments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Another model.
    #[error("{0:?} is no model of instrument: it is js220")]
    Model(String),
    /// No setting, or not such a value.
    #[error(
        "{0:?} is no setting: serial=, seed=, fifo=, frame=, scale=, ppm=, start=, loses=both|sample|frame, fw=1.3.0, fault=ACTION@WHEN"
    )]
    Setting(String),
}

/// The instruments that a text means.
pub fn parse(text: &str) -> Result<Vec<Settings>, SettingsError> {
    text.split(';').filter(|one| !one.trim().is_empty()).map(one).collect()
}

fn one(text: &str) -> Result<Settings, SettingsError> {
    let mut parts = text.trim().split(',');
    let model = parts.next().unwrap_or_default();
    if model != "js220" {
        return Err(SettingsError::Model(model.to_owned()));
    }
    let mut settings = Settings::default();
    for part in parts {
        set(&mut settings, part).ok_or_else(|| SettingsError::Setting(part.to_owned()))?;
    }
    Ok(settings)
}

fn set(settings: &mut Settings, part: &str) -> Option<()> {
    let (name, value) = part.split_once('=')?;
    match name {
        "serial" => settings.serial = Some(value).filter(|v| v.is_ascii() && v.len() < 64)?.to_owned(),
        "seed" => settings.seed = value.parse().ok()?,
        "fifo" => settings.fifo_bytes = value.parse().ok().filter(|&bytes| bytes <= limits::FIFO_BYTES)?,
        "frame" => {
            let bytes: usize = value.parse().ok()?;
            settings.frame_bytes = Some(bytes).filter(|b| (4..=504).contains(b) && b % 4 == 0)?;
        }
        "scale" => settings.scale = value.parse().ok().filter(|s| (1e-6..=1e6).contains(s))?,
        "ppm" => settings.ppm = value.parse().ok().filter(|p: &f64| p.abs() <= 100_000.0)?,
        "start" => settings.start = value.parse().ok().filter(|&start: &u64| start < 1 << 60)?,
        "loses" => {
            settings.losing = match value {
                "both" => Losing::Both,
                "sample" => Losing::Sample,
                "frame" => Losing::Frame,
                _ => return None,
            }
        }
        "fw" => {
            let mut numbers = value.split('.').map(str::parse::<u32>);
            let mut next = |bits: u32| numbers.next()?.ok().filter(|&number| number < 1 << bits);
            settings.version = next(8)? << 24 | next(8)? << 16 | next(16)?;
        }
        "fault" if settings.faults.len() < limits::FAULTS => settings.faults.push(Fault::parse(value)?),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Action, Trigger};

    #[test]
    fn a_text_means_instruments() {
        let found =
            parse("js220,serial=1,seed=3,fifo=4096,loses=frame,fw=1.2.3,fault=stall@f7; js220,start=4294967295;")
                .unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0],
            Settings {
                serial: String::from("1"),
                seed: 3,
                fifo_bytes: 4096,
                losing: Losing::Frame,
                version: 0x0102_0003,
                faults: vec![Fault {
                    at: Trigger::Frame(7),
                    action: Action::Stall
                }],
                ..Settings::default()
            }
        );
        assert_eq!(found[1].start, 0xFFFF_FFFF);
        assert_eq!(parse(""), Ok(Vec::new()));
        for wrong in [
            "js110",
            "js220,seed",
            "js220,frame=502",
            "js220,scale=0",
            "js220,fault=nothing@t0",
            "js220,fw=1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
