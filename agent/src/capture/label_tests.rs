//! Labels that change at random moments of a random capture.

use std::sync::OnceLock;

use proptest::prelude::*;
use wavekeep_proto::chunk::{ChunkKind, Marker, MarkerFormat};
use wavekeep_proto::uplink::Outbox as _;

use super::tests::{TestOutbox, deliver, held, one_signal, outbox};
use super::*;
use crate::labels::{LabelChange, Labels};
use crate::outbox::Options;
use crate::source::{Description, Sink};

#[derive(Debug, Clone)]
enum Step {
    Samples(u64),
    Gap(u64),
    /// The next delivery lies this far ahead, without a word.
    Hole(u64),
    /// At the next sample, or this far ahead of it.
    Marker(u64),
    Set(&'static str, &'static str),
    Remove(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let key = prop::sample::select(vec!["algorithm", "firmware"]);
    let value = prop::sample::select(vec!["A", "B"]);
    prop_oneof![
        4 => (1..3_000u64).prop_map(Step::Samples),
        1 => (1..100u64).prop_map(Step::Gap),
        1 => (1..100u64).prop_map(Step::Hole),
        1 => (0..50u64).prop_map(Step::Marker),
        3 => (key.clone(), value).prop_map(|(key, value)| Step::Set(key, value)),
        1 => key.prop_map(Step::Remove),
    ]
}

type Handle = Arc<OnceLock<Arc<LiveLabels>>>;

/// Does its steps, each on the source's own thread: a change of labels lies between two deliveries.
struct Labelled {
    steps: Vec<Step>,
    labels: Handle,
}

impl Source for Labelled {
    fn describe(&self) -> Description {
        one_signal(None)
    }

    fn run(&mut self, sink: &mut dyn Sink, _: &StopToken) -> Result<(), SourceError> {
        let labels = self.labels.wait();
        let (mut next, mut markers) = (0, 0u8);
        for step in &self.steps {
            match *step {
                Step::Samples(count) => {
                    deliver(sink, next..next + count)?;
                    next += count;
                }
                Step::Gap(count) => {
                    sink.gap(0, next..next + count, Reason::UsbOverrun)?;
                    next += count;
                }
                Step::Hole(count) => next += count,
                Step::Marker(ahead) => {
                    let marker = Marker {
                        sample: next + ahead,
                        kind: 0,
                        group: 0,
                        y: f64::NAN,
                        format: MarkerFormat::Bytes,
                        content: vec![markers],
                    };
                    sink.marker(0, marker)?;
                    markers += 1;
                }
                Step::Set(key, value) => {
                    let set = BTreeMap::from([(key.to_owned(), value.to_owned())]);
                    let change = LabelChange {
                        set,
                        ..LabelChange::default()
                    };
                    labels.want(&change).expect("a good label");
                }
                Step::Remove(key) => {
                    let change = LabelChange {
                        remove: [key.to_owned()].into(),
                        ..LabelChange::default()
                    };
                    labels.want(&change).expect("it is live");
                }
            }
        }
        Ok(())
    }
}

/// Each stretch of the axis with its labels, and where what was delivered ends.
fn expected(steps: &[Step]) -> (Vec<(u64, Labels)>, u64) {
    let (mut wanted, mut next, mut end) = (BTreeMap::new(), 0, 0);
    let mut streams = vec![(0, BTreeMap::new())];
    for step in steps {
        match *step {
            Step::Samples(count) | Step::Gap(count) => {
                if streams.last().is_some_and(|(_, labels)| *labels != wanted) {
                    // A hole before the delivery belongs to the stream that the delivery belongs to.
                    streams.push((end, wanted.clone()));
                }
                next += count;
                end = next;
            }
            Step::Hole(count) => next += count,
            Step::Marker(_) => {}
            Step::Set(key, value) => {
                wanted.insert(key.to_owned(), value.to_owned());
            }
            Step::Remove(key) => {
                wanted.remove(key);
            }
        }
    }
    (streams, end)
}

fn capture(steps: &[Step]) -> Arc<TestOutbox> {
    let outbox = outbox(Options::default());
    let labels = Handle::default();
    let source = Labelled {
        steps: steps.to_vec(),
        labels: Arc::clone(&labels),
    };
    let clock = Arc::new(crate::clock::SystemClock::new());
    let capture = Capture::start(Box::new(source), Arc::clone(&outbox), clock, CaptureOptions::default());
    let capture = capture.expect("it starts");
    labels.set(capture.labels()).expect("nobody else sets it");
    assert_eq!(capture.join(), CaptureEnd::Complete);
    outbox
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn i4_i13_labels_change_at_any_moment_and_the_streams_tile(steps in prop::collection::vec(step(), 1..40)) {
        let outbox = capture(&steps);
        let (expected, end) = expected(&steps);
        let mut views: Vec<_> = outbox.streams().into_iter().filter_map(|stream| outbox.view(stream)).collect();
        views.sort_by_key(|view| (view.definition.first_sample, view.tail.next_sample));
        let found: Vec<_> = views.iter().map(|view| (view.definition.first_sample, view.labels.clone())).collect();
        prop_assert_eq!(found, expected);
        let (mut at, mut markers) = (0, vec![]);
        for view in &views {
            prop_assert_eq!(view.definition.epoch, views[0].definition.epoch, "I11: one life of the counter");
            let chunks = held(&outbox, view.definition.id);
            for (header, values) in &chunks {
                prop_assert_eq!(header.first_sample, at, "I4");
                at = header.end_sample();
                let truth: Vec<f32> = (header.first_sample..at).map(|sample| sample as f32).collect();
                if header.kind == ChunkKind::Samples {
                    prop_assert_eq!(values, &truth);
                }
                markers.extend(header.markers.iter().map(|marker| marker.content[0]));
            }
            let last = chunks.last().map(|(header, _)| (header.kind, header.reason));
            prop_assert_eq!(last, Some((ChunkKind::End, Reason::Closed)));
        }
        prop_assert_eq!(at, end, "I13: all that was delivered, and no more");
        markers.sort_unstable();
        let once = markers.windows(2).all(|pair| pair[0] < pair[1]);
        prop_assert!(once, "no marker comes twice: {:?}", markers);
    }
}

#[test]
fn i4_a_marker_at_the_sample_where_labels_change_belongs_to_the_next_stream() {
    let steps = [
        Step::Samples(500),
        Step::Marker(0),
        Step::Set("algorithm", "B"),
        Step::Samples(10),
    ];
    let outbox = capture(&steps);
    let second = outbox.streams().into_iter().find(|stream| {
        outbox
            .view(*stream)
            .is_some_and(|view| view.definition.first_sample == 500)
    });
    let chunks = held(&outbox, second.expect("it goes on at 500"));
    assert_eq!(chunks[0].0.markers.len(), 1);
}
