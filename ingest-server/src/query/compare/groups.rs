//! Which runs a text means: the one of that name, or those that an expression chooses.

use super::super::error::QueryError;
use super::super::filter::{self, Filter};
use super::super::read::Reader;
use super::super::runs::{self, Member};

/// A run, and what it consists of.
#[derive(Debug, Clone)]
pub(super) struct RunMembers {
    pub(super) name: String,
    pub(super) members: Vec<Member>,
}

/// The runs, by name. The only place of a comparison that knows what a run is.
pub(super) async fn runs_of(reader: &Reader, text: &str) -> Result<Vec<RunMembers>, QueryError> {
    if text.trim().is_empty() {
        return Err(QueryError::Invalid(
            "say which runs are compared: two names, or two expressions such as algorithm=A".into(),
        ));
    }
    let mut reading = reader.begin().await?;
    let runs = match reader.runs_in(&mut reading, &Filter::of_run(text)).await {
        // No run has this name; an expression has a comparison in it.
        Err(QueryError::Unknown { .. }) if text.contains(['=', '~']) => {
            reader.runs_in(&mut reading, &filter::parse(text)?).await?
        }
        runs => runs?,
    };
    reading.end();
    if runs.is_empty() {
        return Err(QueryError::Empty(format!(
            "no run is chosen by {text:?}: `wavekeep runs` lists runs and labels, and `wavekeep run create` makes one of what was recorded without"
        )));
    }
    let members = |run: runs::Run| RunMembers {
        name: run.row.name,
        members: run.members,
    };
    Ok(runs.into_iter().map(members).collect())
}
