//! Which encoding a column of an `auto` capture has: chosen by what each was measured to save and to cost.
//!
//! Shuffle+zstd is the base: it costs less than carrying what it saves (docs/adr/0003), so it has no budget, and `plain` takes its
//! place only where it saves next to nothing. `pco` is often smaller and always dearer. It is taken where it saves enough, and where
//! the time that it would take *at the pace at which samples come* fits into the share of a core that it is allowed. The pace is
//! measured, so everything that leaves no head-room shows in it: a replay or a simulation as fast as it goes, a source that catches up
//! after it was held up, a machine that has other work.
//!
//! # Invariants
//! - Pure: the time is an argument, and how long an encoding took too.
//! - What is chosen never shows in what is captured: hashes and digests are of decoded samples.
//! - I12: a column keeps a few numbers; trials get rarer, up to [`TRIAL_CHUNKS_MAX`] apart.

use std::time::Duration;

use wavekeep_proto::codec::Encoding;
use wavekeep_proto::stream::SampleType;

/// Chunks from a trial to the next, at first. A column that changes what it looks like is tried as soon again.
const TRIAL_CHUNKS_MIN: u32 = 8;
/// And in the long run: at the fastest, a trial costs a few thousandths of the time.
const TRIAL_CHUNKS_MAX: u32 = 512;
/// A dearer encoding must be smaller by this factor to be taken, …
const TAKE_BELOW: f64 = 0.95;
/// … and by this one to be kept.
const KEEP_BELOW: f64 = 0.98;
/// It must fit into this part of what it is allowed to be taken; all of it is there to be kept.
const TAKE_SHARE: f64 = 0.8;
/// A column whose size changed by this factor since its trial looks different now.
const DRIFT: f64 = 1.25;
/// Of an average, what a new chunk counts for.
const NEW: f64 = 0.125;

/// What an encoding was measured to take.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Measured {
    bytes_per_sample: f64,
    seconds_per_sample: f64,
}

/// Samples and the time in which they came: fading sums.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    samples: f64,
    seconds: f64,
    before: Option<(Duration, u64)>,
}

impl Pace {
    /// A chunk begins to be encoded: the one before it took until now to be followed.
    fn chunk(&mut self, now: Duration, samples: u64) {
        if let Some((before, came)) = self.before {
            self.samples += NEW * (came as f64 - self.samples);
            self.seconds += NEW * (now.saturating_sub(before).as_secs_f64() - self.seconds);
        }
        self.before = Some((now, samples));
    }

    /// Samples a second; not known after one chunk.
    fn samples_per_s(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.samples / self.seconds)
    }
}

/// Of one column of one stream.
#[derive(Debug)]
pub(super) struct Chooser {
    sample_bits: u32,
    pace: Pace,
    current: Encoding,
    /// Where it was tried: shuffle+zstd, and pco.
    base: Option<Measured>,
    pco: Option<Measured>,
    has_pco: bool,
    /// Bytes a sample of the encoding at hand, at the last trial.
    tried_bytes: f64,
    since_trial: u32,
    until_trial: u32,
    /// Did pco fit, the last time that was asked?
    fitted: bool,
}

impl Chooser {
    pub(super) fn new(sample_type: SampleType) -> Self {
        Self {
            sample_bits: sample_type.bits(),
            pace: Pace::default(),
            current: Encoding::ShuffleZstd,
            base: None,
            pco: None,
            has_pco: Encoding::Pco.has(sample_type),
            tried_bytes: 0.0,
            since_trial: 0,
            // The first chunk tells no pace.
            until_trial: 1,
            fitted: true,
        }
    }

    /// What a chunk that is there now is to be encoded as; several: a trial.
    pub(super) fn plan(&mut self, now: Duration, samples: u64, allowed: f64) -> &'static [Encoding] {
        self.pace.chunk(now, samples);
        let fits = self.share(self.pco).is_none_or(|share| share <= TAKE_SHARE * allowed);
        let is_time = self.since_trial >= self.until_trial || self.has_drifted() || (fits && !self.fitted);
        self.since_trial = self.since_trial.saturating_add(1);
        match self.current {
            _ if is_time => {
                self.since_trial = 0;
                self.fitted = fits;
                if self.has_pco {
                    &[Encoding::ShuffleZstd, Encoding::Pco]
                } else {
                    &[Encoding::ShuffleZstd]
                }
            }
            Encoding::Plain => &[Encoding::Plain],
            Encoding::ShuffleZstd => &[Encoding::ShuffleZstd],
            Encoding::Pco => &[Encoding::Pco],
        }
    }

    /// A chunk's column took so many bytes and so long.
    pub(super) fn measured(&mut self, encoding: Encoding, samples: u64, bytes: usize, took: Duration) {
        if samples == 0 {
            return;
        }
        let new = Measured {
            bytes_per_sample: bytes as f64 / samples as f64,
            seconds_per_sample: took.as_secs_f64() / samples as f64,
        };
        let known = match encoding {
            Encoding::Plain => return,
            Encoding::ShuffleZstd => &mut self.base,
            Encoding::Pco => &mut self.pco,
        };
        // A trial counts as it is: what was known may be of another time.
        *known = Some(match *known {
            Some(old) if self.since_trial > 0 => Measured {
                bytes_per_sample: old.bytes_per_sample + NEW * (new.bytes_per_sample - old.bytes_per_sample),
                seconds_per_sample: old.seconds_per_sample + NEW * (new.seconds_per_sample - old.seconds_per_sample),
            },
            _ => new,
        });
    }

    /// Chooses, from what is known. `allowed`: the share of a core that this column may have for pco. Is it another than before?
    pub(super) fn choose(&mut self, allowed: f64) -> bool {
        let Some(base) = self.base else {
            return false;
        };
        let raw = f64::from(self.sample_bits) / 8.0;
        let is_smaller =
            |bytes: f64, than: f64, is_kept: bool| bytes < than * if is_kept { KEEP_BELOW } else { TAKE_BELOW };
        let is = |encoding| self.current == encoding;
        let cheap = if is_smaller(base.bytes_per_sample, raw, !is(Encoding::Plain)) {
            (Encoding::ShuffleZstd, base.bytes_per_sample)
        } else {
            (Encoding::Plain, raw)
        };
        let part = if is(Encoding::Pco) { 1.0 } else { TAKE_SHARE };
        let fits = self.share(self.pco).is_some_and(|share| share <= part * allowed);
        let chosen = match self.pco {
            // It is taken by a trial alone, on what that measured.
            Some(pco)
                if fits
                    && (is(Encoding::Pco) || self.since_trial == 0)
                    && is_smaller(pco.bytes_per_sample, cheap.1, is(Encoding::Pco)) =>
            {
                (Encoding::Pco, pco.bytes_per_sample)
            }
            _ => cheap,
        };
        let has_changed = chosen.0 != self.current;
        if self.since_trial == 0 {
            self.fitted = fits || self.pco.is_none();
            self.tried_bytes = chosen.1;
            self.until_trial = match () {
                () if has_changed => TRIAL_CHUNKS_MIN,
                // What does not fit is dear to try.
                () if !self.fitted => TRIAL_CHUNKS_MAX,
                () => (2 * self.until_trial).clamp(TRIAL_CHUNKS_MIN, TRIAL_CHUNKS_MAX),
            };
        } else if has_changed {
            // It ran out of time. A while, so that it does not go to and fro.
            self.tried_bytes = chosen.1;
            self.since_trial = 1;
            self.until_trial = TRIAL_CHUNKS_MIN;
        }
        self.current = chosen.0;
        has_changed
    }

    pub(super) fn current(&self) -> Encoding {
        self.current
    }

    /// The share of a core that this column takes of what is allowed.
    pub(super) fn share_taken(&self) -> f64 {
        match self.current {
            Encoding::Pco => self.share(self.pco).unwrap_or_default(),
            Encoding::Plain | Encoding::ShuffleZstd => 0.0,
        }
    }

    /// Why it is so, for people.
    pub(super) fn explain(&self, allowed: f64) -> String {
        let bytes = |of: Option<Measured>| of.map_or_else(|| "?".into(), |of| format!("{:.2}", of.bytes_per_sample));
        let (base, pco) = (bytes(self.base), bytes(self.pco));
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let share = self.share(self.pco).map(percent);
        match (self.current, share) {
            (Encoding::Pco, share) => format!(
                "pco, {pco} bytes a sample against {base} of shuffle+zstd, for {} of a core",
                share.unwrap_or_else(|| "?".into())
            ),
            (Encoding::Plain, _) => {
                format!("plain: shuffle+zstd would take {base} bytes a sample, which saves next to nothing")
            }
            (Encoding::ShuffleZstd, Some(share)) if self.pco.is_some() => format!(
                "shuffle+zstd, {base} bytes a sample; pco would take {pco}, and {share} of a core of the {} that it may have",
                percent(allowed)
            ),
            (Encoding::ShuffleZstd, _) => format!("shuffle+zstd, {base} bytes a sample"),
        }
    }

    fn has_drifted(&self) -> bool {
        let now = match self.current {
            Encoding::Plain => None,
            Encoding::ShuffleZstd => self.base,
            Encoding::Pco => self.pco,
        };
        let (Some(now), true) = (now, self.since_trial >= TRIAL_CHUNKS_MIN && self.tried_bytes > 0.0) else {
            return false;
        };
        // Where pco does not fit, another size changes nothing.
        let factor = now.bytes_per_sample / self.tried_bytes;
        self.fitted && !(1.0 / DRIFT..=DRIFT).contains(&factor)
    }

    fn share(&self, of: Option<Measured>) -> Option<f64> {
        Some(of?.seconds_per_sample * self.pace.samples_per_s()?)
    }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
