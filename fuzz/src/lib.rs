//! What the targets share: an instrument whose bytes are the fuzzer's, a clock that only counts how often it is looked at, and a sink that
//! knows the rules.
//!
//! # Invariants
//! - The same bytes take the same way: no time, no thread, no randomness.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wavekeep_agent::chunker::{Chunker, Cut};
use wavekeep_agent::clock::Clock;
use wavekeep_agent::limits::CHUNK_PERIOD_DEFAULT;
use wavekeep_agent::source::joulescope::VENDOR;
use wavekeep_agent::source::joulescope::source::{JoulescopeSource, PRODUCT_JS220};
use wavekeep_agent::source::joulescope::usb::{Found, Link, Usb, UsbError};
use wavekeep_agent::source::{BadInput, Block, Sink, SinkError, Source};
use wavekeep_agent::stop::StopToken;
use wavekeep_joulescope_emulator::{Js220, parse};
use wavekeep_proto::chunk::{Marker, Reason};
use wavekeep_proto::stream::StreamDefinition;

const TRANSFER_BYTES: usize = 32 * 1024;
/// How far the emulated instrument's time goes between two transfers.
const STEP: Duration = Duration::from_millis(4);
const SETTINGS: &str = "signals=all,statistics=10";

/// Goes on by a millisecond whenever somebody looks.
#[derive(Debug, Default)]
pub struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn utc_ns(&self) -> i64 {
        1_790_000_000_000_000_000 + self.0.load(Ordering::Relaxed).cast_signed() * 1_000_000
    }
}

/// Refuses what the agent's own sink refuses; a source that is refused is wrong.
pub struct Strict(Vec<Chunker>);

impl Strict {
    /// For the streams of this source; none if the agent would refuse them.
    #[must_use]
    pub fn new(source: &dyn Source) -> Option<Self> {
        let definitions = source.describe().definitions().ok()?;
        let chunker =
            |definition: &StreamDefinition| Chunker::new(definition, CHUNK_PERIOD_DEFAULT, definition.first_sample);
        Some(Self(definitions.iter().map(chunker).collect()))
    }
}

fn forget(_: Cut<'_>) -> Result<(), BadInput> {
    Ok(())
}

fn obeyed(outcome: Result<(), BadInput>) -> Result<(), SinkError> {
    // Its sample ids end somewhere.
    assert!(
        matches!(outcome, Ok(()) | Err(BadInput::SampleId)),
        "the source breaks a rule: {outcome:?}"
    );
    Ok(outcome?)
}

impl Sink for Strict {
    fn next_sample(&self, stream: usize) -> u64 {
        self.0[stream].next_sample()
    }

    fn anchor(&mut self, _: usize, _: u64, _: i64) -> Result<(), SinkError> {
        Ok(())
    }

    fn samples(&mut self, stream: usize, block: &Block<'_>) -> Result<(), SinkError> {
        obeyed(self.0[stream].samples(block, &mut forget))
    }

    fn gap(&mut self, stream: usize, range: Range<u64>, reason: Reason) -> Result<(), SinkError> {
        obeyed(self.0[stream].gap(range, reason, &mut forget))
    }

    fn marker(&mut self, stream: usize, marker: Marker) -> Result<(), SinkError> {
        obeyed(self.0[stream].marker(marker))
    }
}

/// Where transfers come from.
enum From {
    /// Until there are no more.
    Bytes(VecDeque<Vec<u8>>),
    /// An emulated instrument; what it sends is kept.
    Emulator {
        device: Box<Js220>,
        now: Duration,
        left: usize,
        sent: Vec<u8>,
    },
}

/// An instrument.
#[derive(Clone)]
struct Instrument(Arc<Mutex<From>>);

impl Instrument {
    fn lock(&self) -> MutexGuard<'_, From> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usb for Instrument {
    type Link = Self;

    fn find(&mut self) -> Result<Vec<Found>, UsbError> {
        Ok(Vec::new())
    }

    fn open(&mut self, _: &Found) -> Result<Self, UsbError> {
        Ok(self.clone())
    }
}

impl Link for Instrument {
    fn control_in(&mut self, request: u8, value: u16, index: u16, length: u16) -> Result<Vec<u8>, UsbError> {
        match &mut *self.lock() {
            From::Bytes(_) => Ok(vec![0; usize::from(length)]),
            From::Emulator { device, now, .. } => device
                .control_in(request, value, index, length, *now)
                .map_err(|_| UsbError::Stalled),
        }
    }

    fn control_out(&mut self, _: u8, _: u16, _: u16, _: &[u8]) -> Result<(), UsbError> {
        Ok(())
    }

    fn start(&mut self) -> Result<(), UsbError> {
        Ok(())
    }

    fn bulk_out(&mut self, data: &[u8]) -> Result<(), UsbError> {
        if let From::Emulator { device, now, .. } = &mut *self.lock() {
            let _ = device.bulk_out(data, *now);
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<u8>, _: Duration) -> Result<bool, UsbError> {
        into.clear();
        match &mut *self.lock() {
            From::Bytes(transfers) => match transfers.pop_front() {
                None => Err(UsbError::Gone),
                // Nothing came in this time.
                Some(transfer) if transfer.is_empty() => Ok(false),
                Some(transfer) => {
                    *into = transfer;
                    Ok(true)
                }
            },
            From::Emulator {
                device,
                now,
                left,
                sent,
            } => {
                *left = left.checked_sub(1).ok_or(UsbError::Gone)?;
                *now += STEP;
                let _ = device.bulk_in(into, TRANSFER_BYTES, *now);
                let length = u16::try_from(into.len()).expect("a transfer is short");
                sent.extend(length.to_le_bytes());
                sent.extend_from_slice(into);
                Ok(!into.is_empty())
            }
        }
    }

    fn overruns(&self) -> u64 {
        0
    }
}

fn capture(instrument: &Instrument) {
    let found = Found {
        vendor: VENDOR,
        product: PRODUCT_JS220,
        bus: 1,
        address: 1,
        serial: Ok("1".into()),
    };
    let clock = Arc::new(Ticking::default());
    let settings = SETTINGS.parse().expect("these are settings");
    let mut usb = instrument.clone();
    let Ok(mut source) = JoulescopeSource::open(&mut usb, &found, "fuzzed", &settings, clock) else {
        return;
    };
    let mut sink = Strict::new(&source).expect("its streams are valid");
    let _ = source.run(&mut sink, &StopToken::new());
}

/// A JS220 that sends these transfers, each after its length in two bytes, whatever it is told.
pub fn js220(data: &[u8]) {
    let (mut transfers, mut rest) = (VecDeque::new(), data);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (transfer, after) = after.split_at(length);
        transfers.push_back(transfer.to_vec());
        rest = after;
    }
    capture(&Instrument(Arc::new(Mutex::new(From::Bytes(transfers)))));
}

/// What emulated instruments send to the agent, well behaved and not: a corpus to begin with.
///
/// # Panics
/// If the emulator does not know these settings.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let faults = [
        "",
        "lose:3@f40",
        "duplicate@f30",
        "sampleid:77@f30",
        "frameid:9@f30",
        "babble:4@f20",
        "badjson@t0",
        "noack:2@t0",
        "silence:20@f20",
    ];
    let seed = |fault: &&str| {
        let fault = if fault.is_empty() {
            String::new()
        } else {
            format!(",fault={fault}")
        };
        let settings =
            parse(&format!("js220,serial=1,seed=3,frame=64,start=4294960000{fault}")).expect("these are settings");
        let device = settings.into_iter().next().expect("one instrument");
        let instrument = Instrument(Arc::new(Mutex::new(From::Emulator {
            device: Box::new(Js220::new(device)),
            now: Duration::ZERO,
            left: 60,
            sent: Vec::new(),
        })));
        capture(&instrument);
        let sent = match &mut *instrument.lock() {
            From::Emulator { sent, .. } => std::mem::take(sent),
            From::Bytes(_) => Vec::new(),
        };
        sent
    };
    faults.iter().map(seed).collect()
}
