//! The encodings as they ship, on every recording of the shared data folder: bytes a sample, speed, and what `auto` takes.
//!
//! The source of the table in docs/BENCHMARKS.md. Chunks are cut as the agent cuts them: 65,536 samples, or a second. `auto` runs in the
//! agent's own encoder, on a clock that leaves a chunk's time between chunks: the recording at its own pace.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use wavekeep_agent::chunker::{Cut, CutColumn};
use wavekeep_agent::clock::Clock;
use wavekeep_agent::encode::{ColumnEncoder, EncodingChoice};
use wavekeep_proto::chunk::{ChunkKind, ColumnContent, Reason};
use wavekeep_proto::codec::{Decoder, Encoder, Encoding};
use wavekeep_proto::id::{Epoch, StreamId};
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};

/// Of a recording that fits; a large one is timed once.
const PASSES: usize = 5;
const PASSES_BYTES_MAX: usize = 8 << 20;

/// Samples of one signal.
pub(super) struct Recording {
    pub(super) name: String,
    pub(super) sample_type: SampleType,
    pub(super) rate_hz: f64,
    pub(super) raw: Vec<u8>,
}

impl Recording {
    pub(super) fn f32(name: &str, rate_hz: f64, raw: Vec<u8>) -> Self {
        Self {
            name: name.into(),
            sample_type: SampleType::F32,
            rate_hz,
            raw,
        }
    }

    fn samples(&self) -> u64 {
        self.raw.len() as u64 * 8 / u64::from(self.sample_type.bits())
    }

    fn chunk_samples(&self) -> u64 {
        self.rate_hz.min(65_536.0) as u64
    }

    fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.raw.chunks(self.sample_type.bytes(self.chunk_samples()) as usize)
    }
}

/// Prints the table.
pub(super) fn run(data: &Path, synthetic: Vec<Recording>) -> anyhow::Result<()> {
    println!(
        "\n| recording | samples | chunks of | shuffle+zstd | encode, decode MB/s | pco | encode, decode MB/s | auto takes |\n\
         |---|---:|---:|---:|---:|---:|---:|---|"
    );
    let mut recordings = synthetic;
    recordings.extend(all(data)?);
    for recording in &recordings {
        let mut cells = vec![
            format!("{}, {}", recording.name, recording.sample_type.name()),
            recording.samples().to_string(),
            recording.chunk_samples().to_string(),
        ];
        for encoding in [Encoding::ShuffleZstd, Encoding::Pco] {
            if encoding.has(recording.sample_type) {
                let [bytes, encode, decode] = measure(recording, encoding)?;
                cells.extend([size(bytes), format!("{encode:.0}, {decode:.0}")]);
            } else {
                cells.extend(["".into(), "".into()]);
            }
        }
        cells.push(auto(recording));
        println!("| {} |", cells.join(" | "));
    }
    Ok(())
}

/// Bytes a sample, and MB of samples a second each way.
fn measure(recording: &Recording, encoding: Encoding) -> anyhow::Result<[f64; 3]> {
    let (mut encoder, mut decoder, mut out) = (Encoder::new(), Decoder::new(), Vec::new());
    let passes = if recording.raw.len() <= PASSES_BYTES_MAX {
        PASSES
    } else {
        1
    };
    let (mut best, mut bytes) = ([f64::INFINITY; 2], 0);
    for _ in 0..passes {
        let mut seconds = [0.0; 2];
        bytes = 0;
        for chunk in recording.chunks() {
            let start = Instant::now();
            let (used, encoded) = encoder.encode(encoding, recording.sample_type, chunk);
            seconds[0] += start.elapsed().as_secs_f64();
            let count = chunk.len() * 8 / recording.sample_type.bits() as usize;
            let start = Instant::now();
            decoder.decode_into(used, recording.sample_type, count, &encoded, &mut out)?;
            seconds[1] += start.elapsed().as_secs_f64();
            ensure!(out == chunk, "{} did not come back bit for bit", recording.name);
            bytes += encoded.len();
        }
        best = [best[0].min(seconds[0]), best[1].min(seconds[1])];
    }
    let mb = recording.raw.len() as f64 / 1e6;
    Ok([bytes as f64 / recording.samples() as f64, mb / best[0], mb / best[1]])
}

/// Which encoding most chunks of an `auto` capture have, and the bytes a sample of all.
fn auto(recording: &Recording) -> String {
    let definition = StreamDefinition {
        id: StreamId([1; 16]),
        device: "bench".into(),
        epoch: Epoch([2; 16]),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz: recording.rate_hz,
        first_sample: 0,
        signals: vec![Signal {
            number: 0,
            name: "signal".into(),
            sample_type: recording.sample_type,
            unit: String::new(),
            finite_only: false,
        }],
        attributes: BTreeMap::new(),
    };
    let mut encoder = ColumnEncoder::new(EncodingChoice::Auto);
    let clock = Paced {
        start: Instant::now(),
        ahead: Mutex::new(Duration::ZERO),
    };
    let (mut bytes, mut uses) = (0, BTreeMap::<Encoding, usize>::new());
    for samples in recording.chunks() {
        let count = samples.len() as u64 * 8 / u64::from(recording.sample_type.bits());
        let column = CutColumn {
            absent: None,
            samples: samples.to_vec(),
        };
        let cut = Cut {
            kind: ChunkKind::Samples,
            reason: Reason::None,
            first_sample: 0,
            count,
            utc_ns: 0,
            markers: Vec::new(),
            columns: &[column],
        };
        let (headers, columns) = encoder.encode(&definition, &cut, &clock);
        if let ColumnContent::Present { encoding, .. } = headers[0].content {
            *uses.entry(encoding).or_default() += 1;
        }
        bytes += columns[0].len();
        clock.pass(Duration::from_secs_f64(count as f64 / recording.rate_hz));
    }
    let most = uses.iter().max_by_key(|(_, chunks)| **chunks);
    let most = most.map_or("nothing", |(encoding, _)| encoding.name());
    format!("{most}, {}", size(bytes as f64 / recording.samples() as f64))
}

/// The host's clock, and the time in which nothing is done.
struct Paced {
    start: Instant,
    ahead: Mutex<Duration>,
}

impl Paced {
    fn pass(&self, time: Duration) {
        *self.ahead.lock().expect("one thread") += time;
    }
}

impl Clock for Paced {
    fn now(&self) -> Duration {
        self.start.elapsed() + *self.ahead.lock().expect("one thread")
    }
    fn utc_ns(&self) -> i64 {
        0
    }
}

/// Two digits after the point, three significant ones where that is less.
fn size(bytes: f64) -> String {
    let digits = if bytes >= 0.1 { 2 } else { 4 };
    format!("{bytes:.digits$}")
}

/// Every recording of the folder (`SOURCES.md` describes them); the JLS file has annotations alone.
fn all(data: &Path) -> anyhow::Result<Vec<Recording>> {
    let mut recordings = Vec::new();
    for name in ["52-p", "in-p"] {
        let raw = zipped(
            &data.join("ppk2").join(format!("{name}.zip")),
            &format!("{name}/current.f32.bin"),
        )?;
        recordings.push(Recording::f32(&format!("PPK2 {name}"), 100e3, raw));
    }
    for (folder, monitor, names) in [
        (
            "mlperf_tiny_js110",
            "JS110",
            &[
                "arty-a7-100t_ad_AD08",
                "arty-a7-100t_ic_CNV-W1A1",
                "arty-a7-100t_ic_RN07",
                "arty-a7-100t_kws_KWS-W3A3",
            ][..],
        ),
        (
            "mlperf_tiny_lpm01a",
            "LPM01A",
            &["NUCLEO_U575ZI_Q_kws", "NUCLEO_U575ZI_Q_vww"],
        ),
    ] {
        for name in names {
            // A version byte and the rate come before the samples.
            let raw = file(&data.join(folder).join(name).join("trace1-energy.bin"))?.split_off(5);
            let short = name
                .trim_start_matches("arty-a7-100t_")
                .trim_start_matches("NUCLEO_U575ZI_Q_");
            recordings.push(Recording::f32(&format!("{monitor} energy {short}"), 1e3, raw));
        }
    }
    for (name, short, rate_hz, analog) in [
        ("ad5258_read_once_write_continuously_triangle", "AD5258", 4e6, true),
        ("sainsmart_dds120_powerup_scl_analog", "DDS120", 8e6, true),
        ("dcf77_120s", "DCF77", 1e6, false),
    ] {
        let path = data.join("sigrok").join(format!("{name}.sr"));
        if analog {
            recordings.push(Recording::f32(
                &format!("sigrok {short} analog"),
                rate_hz,
                zipped(&path, "analog-1-9")?,
            ));
        }
        let logic = zipped(&path, "logic-1")?;
        let bit = |bytes: &[u8]| (0..8).fold(0, |packed, at| packed | (bytes[at] >> 1 & 1) << at);
        let packed = logic.as_chunks::<8>().0.iter().map(|bytes| bit(bytes)).collect();
        for (what, sample_type, raw) in [("logic", SampleType::U8, logic), ("D1 alone", SampleType::U1, packed)] {
            recordings.push(Recording {
                name: format!("sigrok {short} {what}"),
                sample_type,
                rate_hz,
                raw,
            });
        }
    }
    // Headers of the file, the waveform and its data.
    let scope = file(&data.join("scope").join("agilent_5.bin"))?.split_off(12 + 140 + 12);
    recordings.push(Recording::f32("Agilent scope, voltage", 20e6, scope));
    let mut traces = file(&data.join("side_channel").join("2020.03.10-19.15.39_0traces.npy"))?;
    let header = usize::from(u16::from_le_bytes([traces[8], traces[9]]));
    recordings.push(Recording {
        name: "ChipWhisperer traces".into(),
        sample_type: SampleType::F64,
        rate_hz: 1e6,
        raw: traces.split_off(10 + header),
    });
    Ok(recordings)
}

fn file(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}: set WAVEKEEP_SHARED", path.display()))
}

/// What an archive has under this name; or its parts, `name-1`, `name-2`, …
fn zipped(path: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let open = fs::File::open(path).with_context(|| format!("cannot read {}: set WAVEKEEP_SHARED", path.display()))?;
    let mut archive = zip::ZipArchive::new(open)?;
    let mut raw = Vec::new();
    let parts = (1..).map(|part| format!("{name}-{part}"));
    for entry in std::iter::once(name.to_owned()).chain(parts) {
        match archive.by_name(&entry) {
            Ok(mut content) => {
                content.read_to_end(&mut raw)?;
            }
            Err(_) if entry == name => {}
            Err(_) => break,
        }
    }
    ensure!(!raw.is_empty(), "{} holds no {name}", path.display());
    Ok(raw)
}
