//! A device that is away for a while, and is captured again when it is back.

use wavekeep_proto::chunk::ChunkKind;
use wavekeep_proto::uplink::Outbox as _;

use super::tests::{TestOutbox, deliver, held, one_signal, outbox};
use super::*;
use crate::clock::SystemClock;
use crate::outbox::Options;
use crate::source::{Description, Sink};

/// Samples of each opening, and those that are missing until the next.
const THERE: u64 = 700;
const AWAY: u64 = 250;

struct Replugged {
    openings_left: u32,
    /// It stays away until somebody stops the capture.
    is_lost: bool,
}

impl Source for Replugged {
    fn describe(&self) -> Description {
        one_signal(None)
    }

    fn run(&mut self, sink: &mut dyn Sink, _stop: &StopToken) -> Result<(), SourceError> {
        deliver(sink, 0..THERE)?;
        if self.openings_left == 0 {
            return Ok(());
        }
        Err(SourceError::Away("it was unplugged: plug it in".into()))
    }

    fn reopen(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<Option<Box<dyn Source>>, SourceError> {
        if self.is_lost {
            assert!(stop.wait(Duration::from_secs(600)), "somebody stops it");
        }
        sink.gap(0, THERE..THERE + AWAY, Reason::Unplugged)?;
        let next = Self {
            openings_left: self.openings_left - 1,
            is_lost: false,
        };
        Ok((!self.is_lost).then(|| Box::new(next) as Box<dyn Source>))
    }
}

fn capture(openings_left: u32, is_lost: bool, duration: Option<Duration>) -> (Arc<TestOutbox>, Capture) {
    let outbox = outbox(Options::default());
    let source = Replugged { openings_left, is_lost };
    let options = CaptureOptions {
        duration,
        ..CaptureOptions::default()
    };
    let clock = Arc::new(SystemClock::new());
    let capture = Capture::start(Box::new(source), Arc::clone(&outbox), clock, options);
    (outbox, capture.expect("it starts"))
}

#[test]
fn i4_i11_each_opening_has_its_own_epoch_and_the_outage_is_in_a_gap() {
    let (outbox, capture) = capture(2, false, None);
    let counters = capture.counters();
    assert_eq!(capture.join(), CaptureEnd::Complete);
    let streams = outbox.streams();
    let mut epochs: Vec<_> = streams
        .iter()
        .map(|stream| outbox.view(*stream).expect("it is held").definition.epoch)
        .collect();
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), 3);
    let mut gaps = 0;
    for stream in streams {
        let held = held(&outbox, stream);
        let of = |kind| {
            held.iter()
                .filter(move |(header, _)| header.kind == kind)
                .map(|(header, _)| header)
        };
        assert_eq!(of(ChunkKind::Samples).map(|header| header.count).sum::<u64>(), THERE);
        for gap in of(ChunkKind::Gap) {
            assert_eq!(
                (gap.reason, gap.first_sample, gap.count),
                (Reason::Unplugged, THERE, AWAY)
            );
            gaps += 1;
        }
        assert_eq!(
            of(ChunkKind::End).map(|header| header.reason).collect::<Vec<_>>(),
            [Reason::Closed]
        );
    }
    assert_eq!(gaps, 2);
    let status = counters.status();
    assert_eq!((status.sample_count, status.gap_sample_count), (3 * THERE, 2 * AWAY));
}

#[test]
fn i13_a_duration_goes_on_over_an_outage() {
    let (_, capture) = capture(5, false, Some(Duration::from_millis(1_500)));
    let counters = capture.counters();
    assert_eq!(capture.join(), CaptureEnd::Complete);
    let status = counters.status();
    assert_eq!(
        (status.sample_count, status.gap_sample_count),
        (THERE + 1_500 - THERE - AWAY, AWAY)
    );
}

#[test]
fn a_device_that_stays_away_is_waited_for_until_somebody_stops_it() {
    let (_, capture) = capture(1, true, None);
    let waits = || capture.status().state == "waiting" && capture.status().error.is_some();
    while !waits() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(capture.status().error.expect("it says so").contains("plug it in"));
    capture.stop();
    let counters = capture.counters();
    assert_eq!(capture.join(), CaptureEnd::Stopped);
    assert_eq!(counters.status().gap_sample_count, AWAY);
}
