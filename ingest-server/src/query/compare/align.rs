//! The moment of each run that is laid over that of the others: its start, or its one marker of a name.

use wavekeep_proto::nearest::nearest;

use super::super::error::QueryError;
use super::super::limits;
use super::super::read::Reader;
use super::super::runs::Member;
use super::groups::RunMembers;

/// A run, and when it is at zero of the common axis.
#[derive(Debug, Clone)]
pub(super) struct Aligned {
    pub(super) run: RunMembers,
    pub(super) align_ns: i64,
    times_ns: (i64, i64),
}

impl Aligned {
    /// From its start to its end, on the common axis.
    pub(super) fn span_ns(&self) -> (i64, i64) {
        let relative = |ns: i64| ns.saturating_sub(self.align_ns);
        (relative(self.times_ns.0), relative(self.times_ns.1))
    }
}

/// When what is stored of a run starts and ends; None where nothing is.
fn times_ns(run: &RunMembers) -> Option<(i64, i64)> {
    let times = run.members.iter().flat_map(Member::times_ns);
    let times = times.filter(|(from, to)| from < to);
    times.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
}

/// At the start where `marker` is empty, else at the marker with this text, or of the kind with this number.
pub(super) async fn aligned(reader: &Reader, runs: Vec<RunMembers>, marker: &str) -> Result<Vec<Aligned>, QueryError> {
    let mut all = Vec::with_capacity(runs.len());
    for run in runs {
        let Some(times_ns) = times_ns(&run) else {
            return Err(QueryError::Empty(format!(
                "nothing is stored of run {:?}: leave the run out",
                run.name
            )));
        };
        let align_ns = if marker.is_empty() {
            times_ns.0
        } else {
            the_one(reader, &run, marker).await?
        };
        all.push(Aligned {
            run,
            align_ns,
            times_ns,
        });
    }
    Ok(all)
}

async fn the_one(reader: &Reader, run: &RunMembers, marker: &str) -> Result<i64, QueryError> {
    let found = reader.marker_times(&run.members, marker).await?;
    match found[..] {
        [only] => Ok(only),
        [] => {
            let texts = reader.marker_texts(&run.members).await?;
            let is_outside = texts.iter().any(|text| text == marker);
            let hint = match nearest(marker, texts) {
                _ if is_outside => "those of its devices lie outside of its times: align at the start".into(),
                Some(nearest) => format!("did you mean {nearest:?}?"),
                None => "align at the start, or leave the run out".into(),
            };
            Err(QueryError::Invalid(format!(
                "run {:?} has no marker {marker:?}: {hint}",
                run.name
            )))
        }
        _ => Err(QueryError::Invalid(format!(
            "run {:?} has {}{} markers {marker:?}, and it is not known which is meant: choose one that it has once, or align at the start",
            run.name,
            found.len(),
            if found.len() >= limits::MARKERS_LOOKED_AT_MAX {
                " or more"
            } else {
                ""
            }
        ))),
    }
}
