//! `wavekeep-agent run --joulescope`: one instrument, several, or all that are and will be plugged in.
//!
//! A thread for each waits until it can be opened; from then on it is a capture like any other. So one that is missing, or in trouble,
//! delays no other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use tracing::{info, warn};
use wavekeep_agent::capture::Capture;
use wavekeep_agent::clock::Clock;
use wavekeep_agent::source::joulescope::keep::{self, Instrument, Trouble};
use wavekeep_agent::source::joulescope::libusb::Libusb;
use wavekeep_agent::source::joulescope::settings::Settings;
use wavekeep_agent::source::joulescope::usb::Usb as _;
use wavekeep_agent::stop::StopToken;

use super::agent::{LOOK_INTERVAL, Session};
use super::progress::Progress;
use super::signals::Signals;
use super::{CliError, CommonArgs};

/// In place of a serial number.
pub(crate) const ALL: &str = "all";
/// Between two looks for instruments that were plugged in.
const FIND_INTERVAL: Duration = Duration::from_secs(1);
/// Instruments that were opened and are not captured yet.
const OPENED_MAX: usize = 4;

/// What is to be captured.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// None: all.
    serials: Option<BTreeSet<String>>,
    device: Option<String>,
    settings: Settings,
}

impl Wanted {
    /// As the options say.
    pub(crate) fn new(given: &[String], device: Option<String>, settings: Settings) -> Result<Self, CliError> {
        let serials: BTreeSet<String> = given.iter().cloned().collect();
        let is_all = serials.contains(ALL);
        if is_all && serials.len() > 1 {
            return Err(CliError::Usage(
                "--joulescope without a serial number means all of them: leave the numbers out, or give each".into(),
            ));
        }
        if device.is_some() && (is_all || serials.len() > 1) {
            return Err(CliError::Usage(
                "--device is the name of one instrument: give --joulescope with its serial number (`wavekeep-agent devices` lists them), or leave --device out, and each is named for its model and serial number".into(),
            ));
        }
        Ok(Self {
            serials: (!is_all).then_some(serials),
            device,
            settings,
        })
    }

    /// What the uplink calls itself.
    fn agent_name(&self) -> String {
        let host = || {
            let name = nix::unistd::gethostname().ok()?;
            Some(name.to_string_lossy().into_owned()).filter(|name| !name.is_empty())
        };
        self.device.clone().or_else(host).unwrap_or_else(|| "joulescope".into())
    }
}

pub(crate) fn run(wanted: Wanted, duration: Option<Duration>, common: CommonArgs) -> Result<(), CliError> {
    let signals = Signals::listen()?;
    let usb = Libusb::new().map_err(CliError::failed)?;
    let count = wanted.serials.as_ref().map(BTreeSet::len);
    let session = Session::start(common, &wanted.agent_name(), signals)?;
    let (opened, to_capture) = mpsc::sync_channel(OPENED_MAX);
    let stop = session.signals.stop.clone();
    let opener = Opener {
        usb,
        device: wanted.device,
        settings: wanted.settings,
        clock: Arc::clone(&session.clock),
        stop,
        opened,
    };
    match wanted.serials {
        Some(serials) => serials.into_iter().try_for_each(|serial| opener.begin(serial))?,
        None => opener.begin_all()?,
    }
    let captures = capture_all(&session, &to_capture, count, duration)?;
    if captures.is_empty() {
        return Err(CliError::Incomplete(
            "no instrument was captured: `wavekeep-agent devices` says what is wrong".into(),
        ));
    }
    session.finish(captures, duration.is_some(), None)
}

/// Opens instruments, in threads that end with the program.
#[derive(Clone)]
struct Opener {
    usb: Libusb,
    device: Option<String>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    stop: StopToken,
    opened: SyncSender<Instrument<Libusb>>,
}

impl Opener {
    fn begin(&self, serial: String) -> Result<(), CliError> {
        let (opener, name) = (self.clone(), format!("open-{serial}"));
        let thread = std::thread::Builder::new().name(name.chars().take(15).collect());
        let waits = move || {
            let wanted = keep::Wanted {
                usb: opener.usb,
                serial,
                device: opener.device,
                settings: opener.settings,
                clock: opener.clock,
            };
            let opened = wanted.wait(&opener.stop, &mut |trouble: &Trouble| warn!("{trouble}"));
            if let Some(instrument) = opened {
                // Nobody takes it when the program ends.
                let _ = opener.opened.send(instrument);
            }
        };
        thread.spawn(waits).map(drop).map_err(CliError::failed)
    }

    fn begin_all(self) -> Result<(), CliError> {
        let thread = std::thread::Builder::new().name("find".into());
        thread
            .spawn(move || self.find_all())
            .map(drop)
            .map_err(CliError::failed)
    }

    /// Each is begun once: its own thread keeps it, also when it is unplugged.
    fn find_all(mut self) {
        let (mut begun, mut told) = (BTreeSet::new(), BTreeSet::new());
        let mut is_first = true;
        loop {
            match self.usb.find() {
                Ok(all) => {
                    if all.is_empty() && is_first {
                        info!("no Joulescope is plugged in: each is captured as soon as it is");
                    }
                    for found in all {
                        match (&found.serial, Trouble::check(&found)) {
                            (Ok(serial), Ok(())) => {
                                if begun.insert(serial.clone())
                                    && let Err(error) = self.begin(serial.clone())
                                {
                                    warn!("{error}");
                                }
                            }
                            (Ok(_), Err(trouble)) => tell(&mut told, &trouble),
                            (Err(error), _) => tell(&mut told, &Trouble::of(&found, error.clone().into())),
                        }
                    }
                }
                Err(error) => tell(&mut told, &Trouble::List(error)),
            }
            is_first = false;
            if self.stop.wait(FIND_INTERVAL) {
                return;
            }
        }
    }
}

fn tell(told: &mut BTreeSet<String>, trouble: &Trouble) {
    let text = trouble.to_string();
    if told.len() < 1_000 && !told.contains(&text) {
        warn!("{text}");
        told.insert(text);
    }
}

/// Until they end, or a signal. `count`: how many there are to be; none: nobody knows.
fn capture_all(
    session: &Session,
    opened: &Receiver<Instrument<Libusb>>,
    count: Option<usize>,
    duration: Option<Duration>,
) -> Result<Vec<Capture>, CliError> {
    let mut captures: Vec<Capture> = Vec::new();
    let mut progress = Progress::start("joulescope", 0, false);
    loop {
        while let Ok(instrument) = opened.try_recv() {
            let options = session.capture_options(duration);
            captures.push(session.agent.capture(instrument, options).map_err(CliError::failed)?);
        }
        let are_all_there = count.is_none_or(|count| captures.len() == count);
        if are_all_there && !captures.is_empty() && captures.iter().all(Capture::is_finished) {
            return Ok(captures);
        }
        if session.signals.stop.wait(LOOK_INTERVAL) {
            captures.iter().for_each(Capture::stop);
            while !captures.iter().all(Capture::is_finished) {
                if session.signals.now.wait(LOOK_INTERVAL) {
                    break;
                }
            }
            return Ok(captures);
        }
        let statuses = captures.iter().map(Capture::status);
        let samples = statuses
            .map(|status| status.sample_count + status.gap_sample_count)
            .sum();
        progress.set(samples, &|| session.waiting_for());
    }
}
