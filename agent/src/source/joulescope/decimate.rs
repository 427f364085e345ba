//! Decimation on the host, of samples that the instrument sends at a higher rate: a chain of FIR filters. Pure.
//!
//! Output `m` of a filter of factor `d` is `Σ taps[k] · input[m·d − before + k]`, in f64. So an output keeps the place of its input:
//! what the filters look at lies on both sides of it.
//!
//! # Invariants
//! - I4: an output exists only where every input that it looks at does: a hole in the input is a wider one in the output, with the
//!   input's reason, and nothing is made up.
//! - I12: what is kept is what one output of each filter looks at, and one push.

use wavekeep_proto::chunk::Reason;

/// How the host decimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Filter {
    /// By steps of 2, then of 5, with the taps of the vendor's own host (which gives an output the id of the last input that went into it;
    /// here it has its own place). In parts of the rate that leaves: within 0.05 % up to 0.3, 0.8 at 0.4, less than 0.025 % from 0.6 on.
    #[default]
    Wideband,
    /// The mean of the samples from one output to the next, which is what the instrument does by itself.
    Sinc1,
}

/// Half of a symmetric filter that sums to 2^23, from its centre on. Source of both: `src/downsample.c` of the vendor's host.
const HALF_2: [i32; 20] = [
    3_691_226, 2_599_603, 474_138, -692_918, -395_287, 249_916, 289_286, -60_232, -182_873, -17_241, 96_944, 35_742,
    -40_657, -28_090, 11_700, 14_685, -1_156, -5_030, -593, 754,
];
const HALF_5: [i32; 45] = [
    1_476_364, 1_399_935, 1_185_369, 873_334, 520_909, 188_510, -73_317, -233_937, -287_196, -249_777, -154_307,
    -39_474, 60_011, 121_005, 135_433, 109_371, 58_598, 2_391, -42_474, -65_882, -65_874, -47_528, -20_049, 6_752,
    25_431, 32_567, 28_870, 18_034, 4_947, -6_052, -12_343, -13_391, -10_366, -5_338, -389, 3_040, 4_420, 4_030, 2_617,
    1_000, -226, -823, -862, -587, -259,
];
const TAPS_ONE: f64 = (1 << 23) as f64;

/// Sums are of so many lanes, so that the processor adds them side by side.
const LANES: usize = 4;

/// One filter.
#[derive(Debug, Clone)]
struct Stage {
    taps: Vec<f64>,
    before: u64,
    factor: u64,
    /// Inputs from `base` on.
    kept: Vec<f64>,
    base: u64,
    /// The next output.
    next: u64,
}

/// The filters of one signal, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Decimator {
    stages: Vec<Stage>,
    /// After the last input.
    end: Option<u64>,
    /// Why outputs are missing before the next one, if any are.
    hole: Option<Reason>,
    /// What goes from one filter to the next.
    values: [Vec<f64>; 2],
    bytes: Vec<u8>,
}

/// Outputs without a hole.
#[derive(Debug)]
pub(super) struct Outputs<'a> {
    /// The place of the first one, also if there is none yet.
    pub(super) first: u64,
    /// f32.
    pub(super) bytes: &'a [u8],
    /// Why there is a hole before it, if there is one.
    pub(super) reason: Reason,
}

impl Outputs<'_> {
    pub(super) fn count(&self) -> u64 {
        (self.bytes.len() / size_of::<f32>()) as u64
    }
}

impl Stage {
    fn new(factor: u64, before: usize, taps: Vec<f64>) -> Self {
        Self {
            taps,
            before: before as u64,
            factor,
            kept: Vec::new(),
            base: 0,
            next: 0,
        }
    }

    fn symmetric(factor: u64, half: &[i32]) -> Self {
        let scaled = |tap: &i32| f64::from(*tap) / TAPS_ONE;
        let before = half.len() - 1;
        let taps = half[1..].iter().rev().chain(half).map(scaled).collect();
        Self::new(factor, before, taps)
    }

    fn mean(factor: u64) -> Self {
        Self::new(factor, 0, vec![1.0 / factor as f64; factor as usize])
    }

    /// The first output, if the inputs start here.
    fn first_output(&self, input: u64) -> u64 {
        (input + self.before).div_ceil(self.factor)
    }

    fn begin(&mut self, input: u64) -> u64 {
        self.kept.clear();
        (self.base, self.next) = (input, self.first_output(input));
        self.next
    }

    fn push(&mut self, inputs: &[f64], outputs: &mut Vec<f64>) {
        self.kept.extend_from_slice(inputs);
        outputs.clear();
        let mut from = (self.next * self.factor - self.before - self.base) as usize;
        while let Some(inputs) = self.kept.get(from..from + self.taps.len()) {
            outputs.push(weighted_sum(inputs, &self.taps));
            from += self.factor as usize;
        }
        self.next += outputs.len() as u64;
        let unused = from.min(self.kept.len());
        self.kept.drain(..unused);
        self.base += unused as u64;
    }
}

fn weighted_sum(inputs: &[f64], taps: &[f64]) -> f64 {
    let (inputs, inputs_left) = inputs.as_chunks::<LANES>();
    let (taps, taps_left) = taps.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (inputs, taps) in inputs.iter().zip(taps) {
        for lane in 0..LANES {
            sums[lane] += inputs[lane] * taps[lane];
        }
    }
    let left: f64 = inputs_left.iter().zip(taps_left).map(|(input, tap)| input * tap).sum();
    sums.iter().sum::<f64>() + left
}

impl Decimator {
    /// To one in `factor` samples. For [`Filter::Wideband`] it has to be a product of twos and fives.
    pub(super) fn new(filter: Filter, factor: u32) -> Self {
        let stages = match filter {
            Filter::Sinc1 => vec![Stage::mean(factor.into())],
            Filter::Wideband => {
                let twos = factor.trailing_zeros();
                let fives = (factor >> twos).ilog(5);
                assert_eq!(5_u32.pow(fives) << twos, factor, "a product of twos and fives");
                let twos = (0..twos).map(|_| Stage::symmetric(2, &HALF_2));
                twos.chain((0..fives).map(|_| Stage::symmetric(5, &HALF_5))).collect()
            }
        };
        Self {
            stages,
            end: None,
            hole: None,
            values: [Vec::new(), Vec::new()],
            bytes: Vec::new(),
        }
    }

    /// Takes f32 samples, the first at `first`. `reason`: why there is a hole before them, if there is one.
    pub(super) fn push(&mut self, first: u64, samples: &[u8], reason: Reason) -> Outputs<'_> {
        let [values, outputs] = &mut self.values;
        values.clear();
        let (samples, _) = samples.as_chunks();
        values.extend(samples.iter().map(|sample| f64::from(f32::from_le_bytes(*sample))));
        let end = self.end.replace(first + values.len() as u64);
        if end != Some(first) {
            // Of several holes before one output, the reason nearest to the host: its number is the lowest.
            let hole = self.hole.map_or(reason, |hole| hole.min(reason));
            self.hole = end.map(|_| hole);
            self.stages.iter_mut().fold(first, |at, stage| stage.begin(at));
        }
        let first = self.stages.last().map_or(first, |stage| stage.next);
        for stage in &mut self.stages {
            stage.push(values, outputs);
            std::mem::swap(values, outputs);
        }
        self.bytes.clear();
        let outputs = values.iter().map(|value| *value as f32);
        self.bytes.extend(outputs.flat_map(f32::to_le_bytes));
        let hole = if self.bytes.is_empty() {
            self.hole
        } else {
            self.hole.take()
        };
        Outputs {
            first,
            bytes: &self.bytes,
            reason: hole.unwrap_or(reason),
        }
    }
}

#[cfg(test)]
#[path = "decimate_tests.rs"]
mod tests;
