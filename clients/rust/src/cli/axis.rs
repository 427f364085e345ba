//! Which streams follow each other in one file: those of one epoch, and those that meet in time.

use std::time::Duration;

use wavekeep::StreamInfo;
use wavekeep::proto::stream::StreamDefinition;

use super::failure::Failure;

/// How a stream follows the one before it in one file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// After so many samples that nobody captured.
    After(u64),
    /// Not at all, because.
    No(String),
}

/// Where a stream ends, or starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) sample: u64,
    pub(super) time_ns: i64,
}

pub(super) fn follows(before: &StreamDefinition, end: Edge, after: &StreamDefinition, start: Edge) -> Follows {
    if before.signals != after.signals || before.rate_hz.to_bits() != after.rate_hz.to_bits() {
        return Follows::No("it has other signals or another rate".into());
    }
    if before.epoch == after.epoch {
        return match start.sample.checked_sub(end.sample) {
            Some(missing) => Follows::After(missing),
            None => Follows::No("the two overlap".into()),
        };
    }
    let half_sample_ns = after.duration_ns(1) / 2;
    let late_ns = start.time_ns.saturating_sub(end.time_ns);
    if late_ns.saturating_abs() <= half_sample_ns {
        return Follows::After(0);
    }
    let distance = Duration::from_nanos(late_ns.unsigned_abs());
    Follows::No(format!(
        "it starts {distance:?} {} the end of the one before it",
        if late_ns > 0 { "after" } else { "before" }
    ))
}

pub(super) fn refused(stream: &StreamInfo, why: &str) -> Failure {
    Failure::Failed(format!(
        "stream {} cannot follow the stream before it in one file ({why}): choose one with --stream, or a shorter time with --from and --to; `wavekeep streams` lists them",
        stream.id()
    ))
}

/// Refuses early, before anything is fetched, what the writer would refuse in the end.
pub(super) fn require_one_axis(streams: &[StreamInfo]) -> Result<(), Failure> {
    if streams.is_empty() {
        return Err(Failure::Failed(
            "nothing is stored there: `wavekeep streams` lists what is".into(),
        ));
    }
    for pair in streams.windows(2) {
        let (before, after) = (&pair[0].definition, &pair[1].definition);
        if after
            .predecessor
            .is_some_and(|predecessor| predecessor.stream_id == before.id)
        {
            continue;
        }
        let end = Edge {
            sample: pair[0].at.next_sample,
            time_ns: pair[0].last_time_ns.unwrap_or_default(),
        };
        let start = Edge {
            sample: after.first_sample,
            time_ns: pair[1].first_time_ns.unwrap_or_default(),
        };
        if let Follows::No(why) = follows(before, end, after, start) {
            return Err(refused(&pair[1], &why));
        }
    }
    Ok(())
}
