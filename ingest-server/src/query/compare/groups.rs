//! Which runs a text means: the one of that name, or those that an expression chooses.

use std::collections::BTreeMap;

use wavekeep_proto::v1;
use wavekeep_proto::v1::selection::What;

use super::super::error::QueryError;
use super::super::plan::{self, Range};
use super::super::read::Reader;
use crate::store::read_stream::StreamRow;

/// A run, and what it consists of.
#[derive(Debug, Clone)]
pub(super) struct RunMembers {
    pub(super) name: String,
    /// Streams, and what of their time belongs to the run.
    pub(super) members: Vec<(StreamRow, Range)>,
}

/// The runs, by name. The only place of a comparison that knows what a run is.
pub(super) async fn runs_of(reader: &Reader, text: &str) -> Result<Vec<RunMembers>, QueryError> {
    if text.trim().is_empty() {
        return Err(QueryError::Invalid(
            "say which runs are compared: two names, or two expressions such as algorithm=A".into(),
        ));
    }
    let named = v1::Selection {
        what: Some(What::Run(text.into())),
        ..v1::Selection::default()
    };
    let rows = match reader.streams(&plan::asked(Some(named))?).await {
        Ok(rows) => rows,
        // No run has this name; an expression has an equals sign.
        Err(QueryError::Unknown { .. }) if text.contains('=') => {
            let chosen = v1::Selection {
                filter: text.into(),
                ..v1::Selection::default()
            };
            reader.streams(&plan::asked(Some(chosen))?).await?
        }
        Err(error) => return Err(error),
    };
    let mut runs: BTreeMap<String, Vec<(StreamRow, Range)>> = BTreeMap::new();
    for row in rows.into_iter().filter(|row| !row.run.is_empty()) {
        runs.entry(row.run.clone()).or_default().push((row, Range::default()));
    }
    if runs.is_empty() {
        return Err(QueryError::Empty(format!(
            "no run is chosen by {text:?}: `wavekeep streams` lists runs and labels"
        )));
    }
    let run = |(name, members)| RunMembers { name, members };
    Ok(runs.into_iter().map(run).collect())
}
