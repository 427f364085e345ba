//! What can go wrong between us and the database, and which of the three meanings of a failed commit it has.
//!
//! # Invariants
//! - I6: only an `ERROR` that the database answered to COMMIT proves that nothing was committed. A connection that broke, a
//!   `FATAL` or a limit that passed during COMMIT proves nothing, and is [`CommitError::Ambiguous`].

use std::time::Duration;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::ledger::{CommitError, OpenError};

/// Any failure but that of COMMIT. The transaction, if there was one, has not committed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What Postgres, or the connection to it, says.
    #[error("{}", describe(.0))]
    Sql(#[from] sqlx::Error),
    /// A limit passed.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// Acks would lie.
    #[error("the database has {0} = off, so a commit could be lost after it was acknowledged: turn it on")]
    NotDurable(&'static str),
    /// Acks would lie after a failover.
    #[error(
        "the database names synchronous standbys, but has synchronous_commit = {0}, so a failover could lose a commit after it was acknowledged: set it to on or remote_apply"
    )]
    NotReplicated(String),
    /// A standby is required, and there is none: what a failover would lose is not acknowledged.
    #[error(
        "the database names no synchronous standby, and --require-standby is given: a commit would be on one machine alone; set synchronous_standby_names, or serve without it"
    )]
    NoStandby,
    /// A standby was promoted since the last transaction, or the connection now leads elsewhere.
    #[error("the database failed over (timeline {before} is now {after})")]
    PrimaryChanged {
        /// Timeline of the transactions before.
        before: u32,
        /// Timeline now.
        after: u32,
    },
    /// The connection leads to a primary that another one has replaced.
    #[error(
        "a primary of timeline {answered} answers, though one of timeline {newest} has taken its place: let the database's address lead to the newer one only; if going back is meant, restart this server"
    )]
    OldPrimary {
        /// The highest that has answered.
        newest: u32,
        /// Of the one that answers now.
        answered: u32,
    },
    /// There is no such workspace.
    #[error("there is no workspace {0:?}: create it with `wavekeep-server workspace create`")]
    UnknownWorkspace(String),
    /// What the database holds is not what this program writes.
    #[error("the database answered something unexpected for {0}")]
    Unexpected(&'static str),
    /// Numbers that no column can hold.
    #[error("{0} is larger than the database can hold")]
    TooLarge(&'static str),
    /// COMMIT of something that may simply be done again.
    #[error("{0}")]
    Commit(#[from] CommitFailure),
}

/// A COMMIT that did not answer with success.
#[derive(Debug, thiserror::Error)]
pub enum CommitFailure {
    /// Answered by an error: certainly rolled back.
    #[error("{}", describe(.0))]
    Refused(sqlx::Error),
    /// It may have happened.
    #[error("COMMIT was not answered: {0}")]
    Unanswered(String),
}

impl StoreError {
    /// May the same be asked again, later, with another answer? Nobody has to change anything for it: the connection was lost, or Postgres
    /// starts, stops or is out of connections.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            // Of connections, of resources, of the operator's interventions.
            Self::Sql(sqlx::Error::Database(error)) => error
                .code()
                .is_some_and(|code| ["08", "53", "57"].iter().any(|class| code.starts_with(class))),
            Self::Sql(_) | Self::Silent(_) => true,
            _ => false,
        }
    }
}

impl CommitFailure {
    pub(super) fn new(error: sqlx::Error) -> Self {
        // Postgres reports no plain ERROR once the commit record is written; FATAL and PANIC may come after it, and so may
        // SQLSTATE 40003, which says itself that it does not know.
        match database_error(&error) {
            Some(answer) if matches!(answer.severity(), PgSeverity::Error) && answer.code() != "40003" => {
                Self::Refused(error)
            }
            _ => Self::Unanswered(describe(&error)),
        }
    }
}

fn database_error(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error
        .as_database_error()
        .and_then(|answer| answer.try_downcast_ref::<PgDatabaseError>())
}

fn sqlstate(error: &sqlx::Error) -> Option<&str> {
    database_error(error).map(PgDatabaseError::code)
}

/// One line for people: SQLSTATE, message and detail.
fn describe(error: &sqlx::Error) -> String {
    match (database_error(error), error) {
        (Some(answer), _) => {
            if answer.code() == "42P01" {
                return format!("{}: run `wavekeep-server migrate` first", answer.message());
            }
            let detail = answer.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            format!("{} (SQLSTATE {}){detail}", answer.message(), answer.code())
        }
        (None, sqlx::Error::PoolTimedOut) => "no connection could be had in time: is Postgres up and reachable?".into(),
        (None, other) => other.to_string(),
    }
}

impl StoreError {
    fn sql(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Sql(error) | Self::Commit(CommitFailure::Refused(error)) => Some(error),
            _ => None,
        }
    }

    /// Is it about the data (SQLSTATE class 22 or 23), so that the same data would fail again?
    #[must_use]
    pub fn is_bad_data(&self) -> bool {
        let state = self.sql().and_then(sqlstate).unwrap_or_default();
        matches!(self, Self::TooLarge(_))
            || ((state.starts_with("22") || state.starts_with("23")) && !self.is_no_partition())
    }

    /// Did somebody else hold a lock for longer than we wait?
    pub(super) fn is_locked(&self) -> bool {
        self.sql().and_then(sqlstate) == Some("55P03")
    }

    /// A row found no partition: somebody dropped it, and our knowledge of it is stale. Not the data's fault, though it is
    /// reported as a check violation (23514) that, unlike that of a constraint, names none.
    pub(super) fn is_no_partition(&self) -> bool {
        let Some(answer) = self.sql().and_then(database_error) else {
            return false;
        };
        answer.code() == "23514" && answer.constraint().is_none()
    }
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Commit(CommitFailure::Unanswered(why)) => Self::Ambiguous(why),
            error if error.is_bad_data() => Self::BadData(error.to_string()),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::UnknownWorkspace(name) => Self::UnknownWorkspace(name),
            error if error.is_bad_data() => Self::BadData(error.to_string()),
            error if error.is_locked() => Self::Locked(error.to_string()),
            error => Self::Unavailable(error.to_string()),
        }
    }
}
