//! A JS220 as a source: the thin loop between USB, the machine and the sink.
//!
//! # Invariants
//! - A value is one opening: from [`JoulescopeSource::open`], which returns when the first samples are there, until the instrument is
//!   stopped or gone.
//! - Every answer that the instrument waits for is sent before samples are handed on, which may take long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use super::counters::Counters;
use super::js220::{Identity, Js220, Js220Error, Request};
use super::live::Live;
use super::settings::Settings;
use super::streams::{Delivery, Moment};
use super::usb::{Found, Link, Usb, UsbError};
use super::{VENDOR, limits};
use crate::clock::Clock;
use crate::controls::Controls;
use crate::source::{BadInput, Description, Sink, SinkError, Source, SourceError};
use crate::stop::StopToken;

/// The product that a JS220 is, for USB.
pub const PRODUCT_JS220: u16 = 0x10ba;

const CONTROL_BYTES: u16 = 1;

/// One opening of a JS220. Dropping it closes the link.
pub struct JoulescopeSource<U: Usb> {
    /// None once it was given up.
    link: Option<U::Link>,
    machine: Js220,
    clock: Arc<dyn Clock>,
    description: Description,
    transfer: Vec<u8>,
    /// How long it has been waited for bytes in vain.
    silent: Duration,
    live: Live,
}

/// Why an instrument cannot be captured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum OpenError {
    #[error("{0}")]
    Usb(#[from] UsbError),
    #[error(transparent)]
    Instrument(#[from] Js220Error),
    #[error("this agent does not know instruments of product {0:04x}: it captures the JS220")]
    Product(u16),
}

/// The instrument is there no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the instrument is gone: {why}")]
pub struct Gone {
    /// What USB or the silence says.
    pub why: GoneWhy,
    /// Of each stream, as in the description: the sample after the last one that was delivered.
    pub next_samples: Vec<u64>,
    /// When that of the first stream would have been taken; by the instrument's clock where it told one, else by the host's.
    pub utc_ns: i64,
}

/// See [`Gone`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GoneWhy {
    /// USB said it.
    #[error("{0}; plug it in again")]
    Usb(UsbError),
    /// It says nothing any more.
    #[error("it has sent nothing for {} s; unplug it and plug it in again", limits::SILENCE.as_secs())]
    Silent,
}

/// Why a step of the loop failed.
enum Failure {
    Usb(UsbError),
    Instrument(Js220Error),
}

impl From<UsbError> for Failure {
    fn from(error: UsbError) -> Self {
        Self::Usb(error)
    }
}

impl From<Js220Error> for Failure {
    fn from(error: Js220Error) -> Self {
        Self::Instrument(error)
    }
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Usb(error) => Self::Usb(error),
            Failure::Instrument(error) => Self::Instrument(error),
        }
    }
}

impl<U: Usb> JoulescopeSource<U> {
    /// Opens an instrument, sets it up, and waits for its first samples, by the name of `device`. Takes a few seconds at most.
    pub fn open(
        usb: &mut U,
        found: &Found,
        device: &str,
        settings: &Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let mut source = Self::link(usb, found, Live::new(device, settings.clone()), clock)?;
        let opened = source.set_up();
        if let Err(failure) = opened {
            source.close();
            return Err(failure.into());
        }
        let identity = source.machine.identity().unwrap_or_default();
        source.description.attributes = attributes(found, identity);
        source.description.streams = source.machine.shapes().unwrap_or_default().to_vec();
        Ok(source)
    }

    /// Lets go of the instrument, so that it can be opened again. Nothing comes from this value any more.
    pub(super) fn release(&mut self) {
        self.link = None;
    }

    /// As they are now, also what was changed while it was captured.
    pub(super) fn settings(&self) -> &Settings {
        self.live.settings()
    }

    /// It is the next opening of the same instrument.
    pub(super) fn follow(&mut self, before: &Self) {
        self.live.follow(&before.live);
    }

    /// What was odd about what it sent.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.machine.counters()
    }

    /// One that is not set up.
    fn link(usb: &mut U, found: &Found, live: Live, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        if found.vendor != VENDOR || found.product != PRODUCT_JS220 {
            return Err(OpenError::Product(found.product));
        }
        Ok(Self {
            link: Some(usb.open(found)?),
            machine: Js220::new(),
            silent: Duration::ZERO,
            clock,
            description: Description {
                device: live.device().into(),
                attributes: BTreeMap::new(),
                file: None,
                streams: Vec::new(),
            },
            transfer: Vec::new(),
            live,
        })
    }

    fn set_up(&mut self) -> Result<(), Failure> {
        self.until_idle()?;
        self.machine.start(self.live.settings())?;
        self.until_idle()
    }

    /// Every wait within has a deadline.
    fn until_idle(&mut self) -> Result<(), Failure> {
        self.requests()?;
        while !self.machine.is_idle() {
            self.step()?;
        }
        Ok(())
    }

    /// Waits for bytes for a moment, and does what comes of them.
    fn step(&mut self) -> Result<(), Failure> {
        let since = self.clock.now();
        let link = self.link.as_mut().ok_or(UsbError::Gone)?;
        let received = link.receive(&mut self.transfer, limits::RECEIVE)?;
        let overruns = link.overruns();
        let moment = self.moment();
        // Only what is spent here: a sink that blocks is not the instrument's silence.
        self.silent += moment.now.saturating_sub(since);
        if received {
            self.silent = Duration::ZERO;
            self.machine.transfer(&self.transfer, overruns, moment);
        }
        self.machine.tick(moment)?;
        self.requests()
    }

    fn requests(&mut self) -> Result<(), Failure> {
        while let Some(request) = self.machine.next_request(self.clock.now()) {
            let link = self.link.as_mut().ok_or(UsbError::Gone)?;
            match request {
                Request::Start => link.start()?,
                Request::Send(frame) => link.bulk_out(&frame)?,
                Request::Control(request) => {
                    let answer = match link.control_in(request, 0, 0, CONTROL_BYTES) {
                        Err(UsbError::Gone) => return Err(UsbError::Gone.into()),
                        answer => answer.ok().and_then(|bytes| bytes.first().copied()),
                    };
                    self.machine.answered(answer);
                    self.machine.tick(self.moment())?;
                }
            }
        }
        Ok(())
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.clock.now(),
            utc_ns: self.clock.utc_ns(),
        }
    }

    fn capture(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        self.silent = Duration::ZERO;
        while !stop.is_stopped() {
            let stepped = self.step();
            let is_over = stepped.is_err();
            self.note_changes(sink)?;
            self.deliver(is_over, sink)?;
            match stepped {
                Ok(()) => {}
                Err(Failure::Usb(error)) => return Err(self.gone(GoneWhy::Usb(error))),
                Err(Failure::Instrument(error)) => return Err(SourceError::Device(error.to_string())),
            }
            if self.silent > limits::SILENCE {
                self.deliver(true, sink)?;
                return Err(self.gone(GoneWhy::Silent));
            }
        }
        self.deliver(true, sink)
    }

    /// Before the samples that it stands at are delivered.
    fn note_changes(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let Some(marker) = self.live.go_on(&mut self.machine, self.clock.now()) else {
            return Ok(());
        };
        match sink.marker(0, marker) {
            // Not worth a capture.
            Err(SinkError::Source(BadInput::Markers)) => {
                warn!(
                    "{}: too many changes at once: this one is not noted",
                    self.description.device
                );
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn deliver(&mut self, last: bool, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let delivered = self.machine.deliver(last, &mut |delivery| match delivery {
            Delivery::Anchor { stream, sample, utc_ns } => sink.anchor(stream, sample, utc_ns),
            Delivery::Samples { stream, block } => sink.samples(stream, &block),
            Delivery::Gap { stream, range, reason } => sink.gap(stream, range, reason),
        });
        Ok(delivered?)
    }

    fn gone(&self, why: GoneWhy) -> SourceError {
        SourceError::Gone(Box::new(Gone {
            why,
            next_samples: self.machine.next_samples(),
            utc_ns: self.machine.next_utc_ns().unwrap_or_else(|| self.clock.utc_ns()),
        }))
    }

    /// Tells the instrument, if it still listens.
    fn close(&mut self) {
        self.machine.close();
        if let Err(Failure::Usb(error)) = self.requests() {
            debug!("{}: closing: {error}", self.description.device);
        }
    }
}

/// Asks an instrument what it is, and leaves it as it was. Whoever uses it keeps it: that is an error then.
pub fn identify<U: Usb>(usb: &mut U, found: &Found) -> Result<Identity, OpenError> {
    let mut source = JoulescopeSource::link(
        usb,
        found,
        Live::new("", Settings::default()),
        Arc::new(crate::clock::SystemClock::new()),
    )?;
    let asked = source.until_idle();
    source.close();
    asked?;
    Ok(source.machine.identity().unwrap_or_default())
}

fn attributes(found: &Found, identity: Identity) -> BTreeMap<String, String> {
    let mut attributes = vec![
        ("model", "JS220".to_owned()),
        ("firmware", identity.firmware.to_string()),
        ("hardware", identity.hardware.to_string()),
        ("fpga", identity.fpga.to_string()),
    ];
    attributes.extend(found.serial.as_ref().ok().map(|serial| ("serial", serial.clone())));
    attributes
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

impl<U: Usb> Source for JoulescopeSource<U>
where
    U::Link: 'static,
{
    fn describe(&self) -> Description {
        self.description.clone()
    }

    fn run(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        let before = self.counters();
        let attending = self.live.attend();
        let result = self.capture(sink, stop);
        self.live.leave();
        drop(attending);
        if before != self.counters() {
            debug!("{}: {:?}", self.description.device, self.counters());
        }
        if !matches!(result, Err(SourceError::Gone(_))) {
            self.close();
        }
        result
    }

    fn controls(&self) -> Option<Arc<Controls>> {
        Some(self.live.controls())
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
