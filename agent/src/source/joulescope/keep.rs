//! One instrument through all of its openings: it is waited for until it is there, captured, and waited for again when it is unplugged.
//!
//! # Invariants
//! - I4: from the last sample before an outage to the first one after it, every sample that would have been taken is in a gap
//!   `unplugged`, as far as the host's clock can tell.
//! - I11: each opening has its own epoch, all of them the same device.
//! - What was set while it was captured is set again when it is opened again.
//! - Whatever one instrument does, nobody waits for it but its own thread.

use std::sync::Arc;
use std::time::Duration;

use wavekeep_proto::chunk::Reason;

use super::settings::Settings;
use super::source::{Gone, JoulescopeSource, OpenError};
use super::usb::{Found, Usb, UsbError};
use super::{Kind, limits, product};
use crate::clock::Clock;
use crate::controls::Controls;
use crate::source::{Description, Sink, Source, SourceError};
use crate::stop::StopToken;

/// An instrument that is to be captured, whether it is there or not.
#[derive(Clone)]
pub struct Wanted<U> {
    /// The way to it.
    pub usb: U,
    /// Its serial number.
    pub serial: String,
    /// The name that its streams are to have; none: model and serial number.
    pub device: Option<String>,
    /// How it is to measure.
    pub settings: Settings,
    /// When what is.
    pub clock: Arc<dyn Clock>,
}

/// Why an instrument is not captured at the moment, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nobody has plugged it in.
    #[error("no Joulescope {0} is plugged in: it is captured as soon as it is")]
    Absent(String),
    /// It waits for new firmware.
    #[error(
        "the {model} {serial} waits for new firmware and measures nothing: update it with the maker's software, or plug it in again"
    )]
    Updater {
        /// Of it.
        model: &'static str,
        /// Of it.
        serial: String,
    },
    /// It is not for us.
    #[error("the {model} {serial} cannot be captured by this version, which knows the JS220")]
    Unknown {
        /// Of it.
        model: &'static str,
        /// Of it.
        serial: String,
    },
    /// The system forbids it.
    #[error("this user may not open the {model} {serial}: {UDEV_FIX}")]
    Denied {
        /// Of it.
        model: &'static str,
        /// Of it.
        serial: String,
    },
    /// Somebody else has it.
    #[error("the {model} {serial} is used by another program: end that one")]
    Busy {
        /// Of it.
        model: &'static str,
        /// Of it.
        serial: String,
    },
    /// It is there, and something else is wrong.
    #[error("the {model} {serial} cannot be captured: {why}")]
    Open {
        /// Of it.
        model: &'static str,
        /// Of it.
        serial: String,
        /// In its own words.
        why: OpenError,
    },
    /// USB itself.
    #[error("the instruments cannot be listed: {0}")]
    List(UsbError),
}

/// Lets every user open Joulescopes, until the rules are removed.
pub const UDEV_FIX: &str = "as root, `echo 'SUBSYSTEM==\"usb\", ATTR{idVendor}==\"16d0\", MODE=\"0666\", TAG+=\"uaccess\"' > /etc/udev/rules.d/72-joulescope.rules && udevadm control --reload && udevadm trigger`";

impl Trouble {
    /// What opening it said.
    #[must_use]
    pub fn of(found: &Found, why: OpenError) -> Self {
        let (model, serial) = (product(found.product).model, serial_of(found));
        match why {
            OpenError::Usb(UsbError::Denied) => Self::Denied { model, serial },
            OpenError::Usb(UsbError::Busy) => Self::Busy { model, serial },
            why => Self::Open { model, serial, why },
        }
    }

    /// Before it is opened: can it be captured at all?
    pub fn check(found: &Found) -> Result<(), Self> {
        let product = product(found.product);
        let (model, serial) = (product.model, serial_of(found));
        match product.kind {
            Kind::Instrument => Ok(()),
            Kind::Updater => Err(Self::Updater { model, serial }),
            Kind::Unknown => Err(Self::Unknown { model, serial }),
        }
    }
}

/// As people read it; where it cannot be read, why.
fn serial_of(found: &Found) -> String {
    match &found.serial {
        Ok(serial) => serial.clone(),
        Err(error) => format!("at bus {} address {} ({error})", found.bus, found.address),
    }
}

impl<U: Usb + Clone> Wanted<U> {
    /// One attempt.
    pub fn open(&mut self) -> Result<Instrument<U>, Trouble> {
        let all = self.usb.find().map_err(Trouble::List)?;
        let is_it = |found: &&Found| found.serial.as_ref() == Ok(&self.serial);
        // While it restarts, both may be there for a moment.
        let found = all
            .iter()
            .filter(is_it)
            .min_by_key(|found| Trouble::check(found).is_err());
        let found = found.ok_or_else(|| Trouble::Absent(self.serial.clone()))?;
        Trouble::check(found)?;
        let device = self.device.clone();
        let device = device.unwrap_or_else(|| format!("{}-{}", product(found.product).model, self.serial));
        let source = JoulescopeSource::open(&mut self.usb, found, &device, &self.settings, Arc::clone(&self.clock))
            .map_err(|why| Trouble::of(found, why))?;
        Ok(Instrument {
            wanted: self.clone(),
            source,
            outage: None,
        })
    }

    /// Attempts until it is there, or until `stop`. `tell` hears why it is not, whenever that changes.
    pub fn wait(mut self, stop: &StopToken, tell: &mut dyn FnMut(&Trouble)) -> Option<Instrument<U>> {
        let (mut wait, mut told) = (limits::REOPEN_WAIT_MIN, None);
        loop {
            match self.open() {
                Ok(instrument) => return Some(instrument),
                Err(trouble) => {
                    if told.as_ref() != Some(&trouble) {
                        tell(&trouble);
                        // Something has changed: it may be about to be there.
                        wait = limits::REOPEN_WAIT_MIN;
                        told = Some(trouble);
                    }
                }
            }
            if stop.wait(wait) {
                return None;
            }
            wait = (wait * 2).min(limits::REOPEN_WAIT_MAX);
        }
    }
}

/// See the module's documentation.
pub struct Instrument<U: Usb> {
    wanted: Wanted<U>,
    source: JoulescopeSource<U>,
    outage: Option<Outage>,
}

/// Since when it is gone.
struct Outage {
    gone: Gone,
    /// On the host's clock, which nobody sets.
    since: Duration,
}

impl<U: Usb + Clone + 'static> Source for Instrument<U>
where
    U::Link: 'static,
{
    fn describe(&self) -> Description {
        self.source.describe()
    }

    fn run(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        match self.source.run(sink, stop) {
            Err(SourceError::Gone(gone)) => {
                let why = format!("{gone}; it is captured again as soon as it is back");
                let since = self.wanted.clock.now();
                self.outage = Some(Outage { gone: *gone, since });
                Err(SourceError::Away(why))
            }
            other => other,
        }
    }

    fn reopen(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<Option<Box<dyn Source>>, SourceError> {
        let Some(outage) = self.outage.take() else {
            return Ok(None);
        };
        let device = self.source.describe().device;
        // Nobody can open it while we have it.
        self.source.release();
        let mut wanted = self.wanted.clone();
        wanted.settings = self.source.settings().clone();
        let next = wanted.wait(stop, &mut |trouble| {
            if !matches!(trouble, Trouble::Absent(_)) {
                tracing::warn!("{device}: {trouble}");
            }
        });
        let seconds = self.wanted.clock.now().saturating_sub(outage.since).as_secs_f64();
        for (stream, shape) in self.source.describe().streams.iter().enumerate() {
            let first = sink
                .next_sample(stream)
                .max(outage.gone.next_samples.get(stream).copied().unwrap_or(0));
            // At least one: it was away.
            let missing = ((seconds * shape.rate_hz).round() as u64).max(1);
            sink.gap(stream, first..first.saturating_add(missing), Reason::Unplugged)?;
        }
        Ok(next.map(|mut next| {
            next.source.follow(&self.source);
            Box::new(next) as Box<dyn Source>
        }))
    }

    fn controls(&self) -> Option<Arc<Controls>> {
        self.source.controls()
    }
}
