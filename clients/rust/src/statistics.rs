//! Statistics of signals.

use wavekeep_proto::v1;

/// Statistics of one signal over a range. Folded over finite samples in f64; NaN where there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// Of this device.
    pub device: String,
    /// Of this signal; `power` may be derived from current and voltage.
    pub signal: String,
    /// SI symbol.
    pub unit: String,
    /// UTC of the first sample, in nanoseconds.
    pub from_ns: i64,
    /// UTC after the last.
    pub to_ns: i64,
    /// Samples stored, finite or not.
    pub sample_count: u64,
    /// Those that are finite, and folded.
    pub finite_count: u64,
    /// Samples missing.
    pub gap_sample_count: u64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Sum ÷ count.
    pub mean: f64,
    /// √(Σ(x − mean)² ÷ count): of the population.
    pub std: f64,
    /// √(Σx² ÷ count).
    pub rms: f64,
    /// Σx ÷ rate, in unit × seconds: what is missing adds nothing.
    pub integral: f64,
    /// Of a signal in watt.
    pub energy_joule: Option<f64>,
    /// Of a signal in ampere.
    pub charge_coulomb: Option<f64>,
    /// Of the samples, stored and missing, in seconds.
    pub duration_s: f64,
    /// Of those that are missing.
    pub gap_s: f64,
    /// Each with its share in percent, as they were asked for: the sample of rank ⌈share ÷ 100 × count⌉. NaN where nothing is finite.
    pub percentiles: Vec<(f64, f64)>,
    /// Where it was asked for, and something is finite.
    pub histogram: Option<Histogram>,
}

/// What else is to be told: it takes a look at the samples themselves, some 100 million a second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    /// In percent, 0 to 100, in any order; at most 100.
    pub percentiles: Vec<f64>,
    /// Bins of the histogram; 0 for none, at most 10,000.
    pub bins: u32,
    /// Where they start; at the smallest sample where nothing is said.
    pub from: Option<f64>,
    /// Where they end; at the largest sample where nothing is said.
    pub to: Option<f64>,
}

/// Finite samples in bins of one width: a bin holds from ≤ x < to, the last one `to` as well.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Where the first bin starts.
    pub from: f64,
    /// Where the last one ends.
    pub to: f64,
    /// Samples of each bin.
    pub counts: Vec<u64>,
    /// Samples below the first.
    pub below: u64,
    /// Samples above the last.
    pub above: u64,
}

impl Statistics {
    /// Percentiles are those that were asked for.
    pub(crate) fn from_wire(wire: v1::SignalStatistics, asked: &[f64]) -> Self {
        Self {
            device: wire.device,
            signal: wire.signal,
            unit: wire.unit,
            from_ns: wire.from_ns,
            to_ns: wire.to_ns,
            sample_count: wire.sample_count,
            finite_count: wire.finite_count,
            gap_sample_count: wire.gap_sample_count,
            min: wire.min,
            max: wire.max,
            mean: wire.mean,
            std: wire.std,
            rms: wire.rms,
            integral: wire.integral,
            energy_joule: wire.energy_joule,
            charge_coulomb: wire.charge_coulomb,
            duration_s: wire.duration_s,
            gap_s: wire.gap_s,
            percentiles: asked.iter().copied().zip(wire.percentiles).collect(),
            histogram: wire.histogram.map(|histogram| Histogram {
                from: histogram.from,
                to: histogram.to,
                counts: histogram.counts,
                below: histogram.below,
                above: histogram.above,
            }),
        }
    }

    /// Of a signal in watt: 3,600 J are one.
    #[must_use]
    pub fn energy_watt_hour(&self) -> Option<f64> {
        self.energy_joule.map(|energy| energy / 3_600.0)
    }

    /// Of a signal in ampere: 3,600 C are one.
    #[must_use]
    pub fn charge_ampere_hour(&self) -> Option<f64> {
        self.charge_coulomb.map(|charge| charge / 3_600.0)
    }
}
