//! The simulated instrument as a source: the simulator's samples and losses, delivered at its speed.
//!
//! # Invariants
//! - Current and voltage are stream 0, the digital signals, where there are any, stream 1: what is delivered or lost of the one is of
//!   the other, too.
//! - What is delivered is the simulator's function of the sample id, whatever the pace: a checker recomputes it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use wavekeep_proto::chunk::Reason;
use wavekeep_proto::limits::SAMPLE_ID_MAX;
use wavekeep_proto::stream::{SampleType, Signal};

use super::pace::Pace;
use super::simulator::{Coverage, LOGIC_PER_SAMPLE, Logic, LogicSignal, SimulatedSignal, Simulator, SimulatorSpec};
use super::{Block, Column, Description, Sink, SinkError, Source, SourceError, StreamShape};
use crate::clock::Clock;
use crate::stop::StopToken;

/// The attribute that holds the specification, in the form that names every value: who reads it can recompute the truth.
pub const SPEC_ATTRIBUTE: &str = "simulator";

/// No simulated loss is longer.
const LOSS_SAMPLES_MAX: u64 = 4_096;

/// The streams, by how the source names them to its sink.
const ANALOG: usize = 0;
const LOGIC: usize = 1;

/// One opening of a simulated instrument.
pub struct SimulatedSource {
    device: String,
    spec: SimulatorSpec,
    simulator: Simulator,
    logic: Option<Logic>,
    clock: Arc<dyn Clock>,
}

impl SimulatedSource {
    /// The instrument of `spec`, by the name of `device`. Its first sample is taken when it runs.
    #[must_use]
    pub fn new(device: &str, spec: SimulatorSpec, clock: Arc<dyn Clock>) -> Self {
        Self {
            device: device.into(),
            simulator: Simulator::new(&spec),
            logic: Logic::of(&spec),
            spec,
            clock,
        }
    }

    /// `end`, or where the loss ends that it would cut in two: the pace must not decide how many gaps there are.
    fn after_loss(&self, end: u64) -> u64 {
        let last = end - 1;
        match self.simulator.next_loss(last, last + LOSS_SAMPLES_MAX) {
            Some(loss) if loss.start == last => loss.end,
            _ => end,
        }
    }

    /// Both streams end on their axis.
    fn sample_end(&self) -> u64 {
        match self.logic {
            Some(_) => SAMPLE_ID_MAX / LOGIC_PER_SAMPLE,
            None => SAMPLE_ID_MAX,
        }
    }

    fn deliver(&self, sink: &mut dyn Sink, range: Range<u64>, buffers: &mut Buffers) -> Result<(), SinkError> {
        // At most a block, or a loss.
        let count = (range.end - range.start) as usize;
        let Buffers { analog, logic } = buffers;
        for (samples, signal) in analog.iter_mut().zip(SimulatedSignal::ALL) {
            samples.resize(count, 0.0);
            self.simulator.fill(signal, range.start, samples);
        }
        let columns = analog.each_ref().map(|samples| Column::F32(samples));
        sink.samples(ANALOG, &block(range.clone(), &columns))?;
        let Some(instrument) = &self.logic else {
            return Ok(());
        };
        let range = logic_range(&range);
        for (samples, signal) in logic.iter_mut().zip(LogicSignal::ALL) {
            instrument.fill(signal, range.start, count * LOGIC_PER_SAMPLE as usize, samples);
        }
        let columns = logic.each_ref().map(|samples| Column::Raw(samples));
        sink.samples(LOGIC, &block(range, &columns))
    }

    fn lose(&self, sink: &mut dyn Sink, range: Range<u64>) -> Result<(), SinkError> {
        sink.gap(ANALOG, range.clone(), Reason::SourceLoss)?;
        match self.logic {
            Some(_) => sink.gap(LOGIC, logic_range(&range), Reason::SourceLoss),
            None => Ok(()),
        }
    }

    fn analog_shape(&self) -> StreamShape {
        let signals = SimulatedSignal::ALL.into_iter().zip(0..);
        let signals = signals.map(|(signal, number)| Signal {
            number,
            name: signal.name().into(),
            sample_type: SampleType::F32,
            unit: signal.unit().into(),
            finite_only: false,
        });
        StreamShape {
            signals: signals.collect(),
            rate_hz: f64::from(self.spec.rate()),
            first_sample: 0,
        }
    }

    fn logic_shape(&self) -> StreamShape {
        let signals = LogicSignal::ALL.into_iter().zip(0..);
        let signals = signals.map(|(signal, number)| Signal {
            number,
            name: signal.name().into(),
            sample_type: if signal.bits() == 1 {
                SampleType::U1
            } else {
                SampleType::U4
            },
            unit: String::new(),
            finite_only: false,
        });
        StreamShape {
            signals: signals.collect(),
            rate_hz: f64::from(self.spec.rate()) * LOGIC_PER_SAMPLE as f64,
            first_sample: 0,
        }
    }
}

/// Samples of one block, kept from one to the next.
#[derive(Default)]
struct Buffers {
    analog: [Vec<f32>; 2],
    logic: [Vec<u8>; 6],
}

/// The samples of digital signals that are taken together with those of `range`.
fn logic_range(range: &Range<u64>) -> Range<u64> {
    range.start * LOGIC_PER_SAMPLE..range.end * LOGIC_PER_SAMPLE
}

fn block<'a>(range: Range<u64>, columns: &'a [Column<'a>]) -> Block<'a> {
    Block {
        first_sample: range.start,
        count: range.end - range.start,
        columns,
    }
}

impl Source for SimulatedSource {
    fn describe(&self) -> Description {
        let mut streams = vec![self.analog_shape()];
        streams.extend(self.logic.as_ref().map(|_| self.logic_shape()));
        let attributes = [
            ("model", self.spec.model().name().to_owned()),
            (SPEC_ATTRIBUTE, self.spec.to_string()),
        ];
        Description {
            device: self.device.clone(),
            attributes: BTreeMap::from(attributes.map(|(name, value)| (name.to_owned(), value))),
            file: None,
            streams,
        }
    }

    fn run(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        let mut next_sample = sink.next_sample(ANALOG);
        let now_ns = self.clock.utc_ns();
        sink.anchor(ANALOG, next_sample, now_ns)?;
        if self.logic.is_some() {
            sink.anchor(LOGIC, next_sample * LOGIC_PER_SAMPLE, now_ns)?;
        }
        let pace = Pace::new(self.spec.speed(), f64::from(self.spec.rate()), next_sample);
        let mut buffers = Buffers::default();
        while let Some(end) = pace.next_block(next_sample, stop) {
            let end = self.after_loss(end).min(self.sample_end());
            if end <= next_sample {
                return Ok(());
            }
            for part in self.simulator.covered(next_sample, end) {
                match part {
                    Coverage::Samples(range) => self.deliver(sink, range, &mut buffers)?,
                    Coverage::Lost(range) => self.lose(sink, range)?,
                }
            }
            next_sample = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::recording_sink::RecordingSink;
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn i13_what_is_delivered_is_the_simulators_truth_and_losses_are_whole_gaps() {
        let spec: SimulatorSpec = "js220,rate=1000000,seed=7,loss=2e-4,speed=max"
            .parse()
            .expect("it is a specification");
        let mut source = SimulatedSource::new("bench", spec.clone(), Arc::new(SystemClock::new()));
        let stop = StopToken::new();
        let mut sink = RecordingSink {
            stop_at: Some((200_000, stop.clone())),
            ..RecordingSink::default()
        };
        source.run(&mut sink, &stop).expect("a stopped live source ends well");
        let simulator = Simulator::new(&spec);
        let (mut delivered, mut gaps) = ([Vec::new(), Vec::new()], Vec::new());
        for part in simulator.covered(0, sink.next_sample) {
            match part {
                Coverage::Lost(range) => gaps.push((range, Reason::SourceLoss)),
                Coverage::Samples(range) => {
                    for (bytes, signal) in delivered.iter_mut().zip(SimulatedSignal::ALL) {
                        let samples = range
                            .clone()
                            .map(|sample| simulator.value_at(signal, sample).to_le_bytes());
                        bytes.extend(samples.flatten());
                    }
                }
            }
        }
        assert!(!gaps.is_empty());
        assert_eq!(sink.gaps, gaps);
        assert!(sink.columns == delivered);
        let told = source.describe().attributes[SPEC_ATTRIBUTE].parse::<SimulatorSpec>();
        assert_eq!(told, Ok(spec), "the recording says how to recompute its truth");
    }

    /// Each stream into a sink of its own; packed samples are compared block by block.
    struct BothStreams([RecordingSink; 2], Logic);

    impl Sink for BothStreams {
        fn next_sample(&self, stream: usize) -> u64 {
            self.0[stream].next_sample
        }

        fn anchor(&mut self, stream: usize, sample: u64, utc_ns: i64) -> Result<(), SinkError> {
            self.0[stream].anchor(0, sample, utc_ns)
        }

        fn samples(&mut self, stream: usize, block: &Block<'_>) -> Result<(), SinkError> {
            for (signal, column) in LogicSignal::ALL.into_iter().zip(block.columns) {
                if let Column::Raw(packed) = column {
                    let mut truth = Vec::new();
                    self.1
                        .fill(signal, block.first_sample, block.count as usize, &mut truth);
                    assert!(*packed == truth, "{} from {}", signal.name(), block.first_sample);
                }
            }
            self.0[stream].samples(0, block)
        }

        fn gap(&mut self, stream: usize, range: Range<u64>, reason: Reason) -> Result<(), SinkError> {
            self.0[stream].gap(0, range, reason)
        }

        fn marker(&mut self, stream: usize, marker: wavekeep_proto::chunk::Marker) -> Result<(), SinkError> {
            self.0[stream].marker(0, marker)
        }
    }

    #[test]
    fn i4_digital_signals_have_the_losses_of_the_analog_ones_at_twice_their_rate() {
        let spec: SimulatorSpec = "js220,rate=100000,seed=7,loss=2e-4,speed=max,logic=true"
            .parse()
            .expect("it is a specification");
        let mut source = SimulatedSource::new("bench", spec.clone(), Arc::new(SystemClock::new()));
        let shapes = source.describe().streams;
        assert_eq!(shapes.iter().map(|shape| shape.rate_hz).collect::<Vec<_>>(), [1e5, 2e5]);
        let types: Vec<SampleType> = shapes[LOGIC].signals.iter().map(|signal| signal.sample_type).collect();
        assert_eq!(types[..2], [SampleType::U4, SampleType::U1]);
        let stop = StopToken::new();
        let logic = Logic::of(&spec).expect("it has digital signals");
        let mut sink = BothStreams(<[RecordingSink; 2]>::default(), logic);
        sink.0[LOGIC].stop_at = Some((200_000, stop.clone()));
        source.run(&mut sink, &stop).expect("a stopped live source ends well");
        let [analog, digital] = &sink.0;
        assert_eq!(analog.next_sample * 2, digital.next_sample);
        assert_eq!(analog.anchors, digital.anchors);
        let doubled: Vec<_> = analog
            .gaps
            .iter()
            .map(|(range, reason)| (logic_range(range), *reason))
            .collect();
        assert!(!doubled.is_empty() && digital.gaps == doubled);
        assert_eq!(digital.columns.len(), LogicSignal::ALL.len());
        let analog_alone = "js220,rate=100000,seed=7".parse().expect("it is a specification");
        let source = SimulatedSource::new("bench", analog_alone, Arc::new(SystemClock::new()));
        assert_eq!(source.describe().streams.len(), 1);
    }
}
