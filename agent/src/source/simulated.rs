//! The simulated instrument as a source: the simulator's samples and losses, delivered at its speed.
//!
//! # Invariants
//! - What is delivered is the simulator's function of the sample id, whatever the pace: a checker recomputes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use wavekeep_proto::chunk::Reason;
use wavekeep_proto::limits::SAMPLE_ID_MAX;
use wavekeep_proto::stream::{SampleType, Signal};

use super::pace::Pace;
use super::simulator::{Coverage, SimulatedSignal, Simulator, SimulatorSpec};
use super::{Block, Column, Description, Sink, Source, SourceError, StreamShape};
use crate::clock::Clock;
use crate::limits;
use crate::stop::StopToken;

/// The attribute that holds the specification, in the form that names every value: who reads it can recompute the truth.
pub const SPEC_ATTRIBUTE: &str = "simulator";

/// No simulated loss is longer.
const LOSS_SAMPLES_MAX: u64 = 4_096;

/// One opening of a simulated instrument.
pub struct SimulatedSource {
    device: String,
    spec: SimulatorSpec,
    simulator: Simulator,
    clock: Arc<dyn Clock>,
}

impl SimulatedSource {
    /// The instrument of `spec`, by the name of `device`. Its first sample is taken when it runs.
    #[must_use]
    pub fn new(device: &str, spec: SimulatorSpec, clock: Arc<dyn Clock>) -> Self {
        Self {
            device: device.into(),
            simulator: Simulator::new(&spec),
            spec,
            clock,
        }
    }
}

impl SimulatedSource {
    /// `end`, or where the loss ends that it would cut in two: the pace must not decide how many gaps there are.
    fn after_loss(&self, end: u64) -> u64 {
        let last = end - 1;
        match self.simulator.next_loss(last, last + LOSS_SAMPLES_MAX) {
            Some(loss) if loss.start == last => loss.end,
            _ => end,
        }
    }
}

impl Source for SimulatedSource {
    fn describe(&self) -> Description {
        let signals = SimulatedSignal::ALL
            .into_iter()
            .zip(0..)
            .map(|(signal, number)| Signal {
                number,
                name: signal.name().into(),
                sample_type: SampleType::F32,
                unit: signal.unit().into(),
                finite_only: false,
            });
        let shape = StreamShape {
            signals: signals.collect(),
            rate_hz: f64::from(self.spec.rate()),
            first_sample: 0,
        };
        let attributes = [
            ("model", self.spec.model().name().to_owned()),
            (SPEC_ATTRIBUTE, self.spec.to_string()),
        ];
        Description {
            device: self.device.clone(),
            attributes: BTreeMap::from(attributes.map(|(name, value)| (name.to_owned(), value))),
            file: None,
            streams: vec![shape],
        }
    }

    fn run(&mut self, sink: &mut dyn Sink, stop: &StopToken) -> Result<(), SourceError> {
        let mut next_sample = sink.next_sample(0);
        sink.anchor(0, next_sample, self.clock.utc_ns())?;
        let pace = Pace::new(self.spec.speed(), f64::from(self.spec.rate()), next_sample);
        let mut current = vec![0.0; limits::SOURCE_BLOCK_SAMPLES];
        let mut voltage = current.clone();
        while let Some(end) = pace.next_block(next_sample, stop) {
            let end = self.after_loss(end).min(SAMPLE_ID_MAX);
            if end <= next_sample {
                return Ok(());
            }
            for part in self.simulator.covered(next_sample, end) {
                let range = part.range();
                let count = (range.end - range.start) as usize;
                match part {
                    Coverage::Samples(_) => {
                        let (current, voltage) = (&mut current[..count], &mut voltage[..count]);
                        self.simulator.fill(SimulatedSignal::Current, range.start, current);
                        self.simulator.fill(SimulatedSignal::Voltage, range.start, voltage);
                        let columns = [Column::F32(current), Column::F32(voltage)];
                        sink.samples(
                            0,
                            &Block {
                                first_sample: range.start,
                                count: count as u64,
                                columns: &columns,
                            },
                        )?;
                    }
                    Coverage::Lost(_) => sink.gap(0, range, Reason::SourceLoss)?,
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
}
