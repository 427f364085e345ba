//! Why nothing was changed. `crate::status` maps each to a gRPC code.

use crate::query::QueryError;
use crate::store::{CommitFailure, StoreError};

/// One sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is another run of this name.
    #[error(
        "there is a run {0:?} already, with another content: `wavekeep run label` changes it, or choose another name"
    )]
    Exists(String),
    /// It cannot be deleted.
    #[error(
        "{streams} streams were recorded for run {name:?}, so it is part of their capture and cannot be deleted: take away its labels, or record for another run"
    )]
    Recorded {
        /// The run.
        name: String,
        /// How many.
        streams: u64,
    },
    /// A run would be a part of itself.
    #[error("run {parent:?} is a part of {name:?} already, so it cannot be its parent")]
    Circle {
        /// The run.
        name: String,
        /// What was to be its parent.
        parent: String,
    },
    /// Too many calls at a time.
    #[error("the server changes runs for {0} callers already: ask again in a moment")]
    Busy(usize),
    /// As for questions: a name that is not there, a database that does not answer.
    #[error(transparent)]
    Query(QueryError),
    /// It may have happened.
    #[error("whether it was changed is not known ({0}): ask again, which changes nothing twice")]
    Unanswered(String),
}

/// Why, and for which of several entries.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct CatalogError {
    /// Counted from 0; None where it is about the request as a whole.
    pub entry: Option<usize>,
    /// The reason.
    pub why: Why,
}

impl CatalogError {
    /// For an entry.
    pub(super) fn at(entry: usize) -> impl Fn(Why) -> Self {
        move |why| Self {
            entry: Some(entry),
            why,
        }
    }
}

impl<E: Into<Why>> From<E> for CatalogError {
    fn from(error: E) -> Self {
        Self {
            entry: None,
            why: error.into(),
        }
    }
}

impl From<QueryError> for Why {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Invalid(sentence) => Self::Invalid(sentence),
            error => Self::Query(error),
        }
    }
}

impl From<StoreError> for Why {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Commit(CommitFailure::Unanswered(why)) => Self::Unanswered(why),
            error => Self::Query(error.into()),
        }
    }
}

impl From<CommitFailure> for Why {
    fn from(failure: CommitFailure) -> Self {
        StoreError::from(failure).into()
    }
}
