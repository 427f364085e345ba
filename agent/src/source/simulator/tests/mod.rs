//! Tests of the simulated instrument, one file for each thing that is promised: golden values, signals, digital signals, losses, specifications.

mod golden;
mod logic;
mod losses;
mod signals;
mod specs;

use super::{SimulatedSignal, Simulator};

fn simulator(spec: &str) -> Simulator {
    Simulator::new(&spec.parse().expect("the test's specification is valid"))
}

fn samples(simulator: &Simulator, signal: SimulatedSignal, first: u64, count: usize) -> Vec<f32> {
    let mut out = vec![0.0; count];
    simulator.fill(signal, first, &mut out);
    out
}

fn bits(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|sample| sample.to_bits()).collect()
}
