//! Retention: drops the partitions of a workspace that are wholly older than it keeps, by the database's clock and by the times of
//! the samples, whenever they were loaded. Rows of `stream` and notes of people stay; quarantined bytes go with their partition.
//!
//! Dropping a partition locks its whole table against everybody, for a moment; but whoever waits for such a lock makes all that come
//! later wait behind him, and he waits for every reader there is. So we wait for [`limits::RETENTION_LOCK_WAIT`] only, then let all
//! others go first, and try again; after a few attempts it is left for the next hour. `DETACH … CONCURRENTLY` would not need such
//! a lock, but waits without limit for readers, cannot run in a transaction, leaves a half detached partition when it is
//! interrupted, is refused where somebody made a default partition, and is not there for hypertables.
//!
//! The three tables lose a range in one transaction, so that no reader finds half of a chunk. One range after the other, the
//! oldest first: locks are held for one drop, and what was dropped stays dropped.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use sqlx::Row;
use sqlx::postgres::PgConnection;
use tracing::{info, warn};

use super::error::StoreError;
use super::ledger::PostgresLedger;
use super::partition::{BIG_TABLES, lock, ranges};
use super::partition_plan::name_of;
use super::transaction::within_limit;
use super::workspace_row::{self, Kind, Workspace};
use super::{hypertable, limits, native, statement};

/// How long a workspace keeps what it stores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Retention {
    /// For ever.
    #[default]
    None,
    /// At least so many days.
    Days(u16),
}

/// As the column's constraint has it.
const DAYS_MAX: u16 = 36_500;

impl Retention {
    pub(super) fn from_column(days: Option<i32>) -> Result<Self, StoreError> {
        let unexpected = |_| StoreError::Unexpected("wavekeep.workspace.retention_days");
        days.map_or(Ok(Self::None), |days| {
            u16::try_from(days).map(Self::Days).map_err(unexpected)
        })
    }

    pub(super) fn column(self) -> Option<i32> {
        self.days().map(i32::from)
    }

    /// None: for ever.
    #[must_use]
    pub const fn days(self) -> Option<u16> {
        match self {
            Self::None => None,
            Self::Days(days) => Some(days),
        }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => to.write_str("none"),
            Self::Days(days) => write!(to, "{days}d"),
        }
    }
}

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
        let days = days.filter(|days| (1..=DAYS_MAX).contains(days));
        days.map(Self::Days)
            .ok_or_else(|| format!("{text:?} is no retention: give whole days, such as 90d, or none"))
    }
}

impl PostgresLedger {
    /// Drops what the workspace keeps no longer. To be called every hour or so, by as many servers as there are.
    pub async fn drop_expired(&self, workspace: &str) -> Result<(), StoreError> {
        let workspace = self.database().workspace(workspace).await?;
        for day in self.expired(&workspace).await? {
            self.drop_until(&workspace, day).await?;
        }
        Ok(())
    }

    /// The days by which partitions end that may be dropped.
    async fn expired(&self, workspace: &Workspace) -> Result<BTreeSet<i64>, StoreError> {
        let mut tx = self.database().begin(workspace).await?;
        let ends = within_limit(expired(tx.connection(), workspace)).await?;
        tx.rollback().await;
        Ok(ends)
    }

    /// What ends by this day, in all tables.
    async fn drop_until(&self, workspace: &Workspace, day: i64) -> Result<(), StoreError> {
        for attempt in 1..=limits::RETENTION_ATTEMPTS {
            let mut tx = self.database().begin(workspace).await?;
            match within_limit(drop_partitions(tx.connection(), workspace, day)).await {
                Ok(dropped) => {
                    tx.commit().await?;
                    if !dropped.is_empty() {
                        self.partitions.forget(workspace);
                        let (workspace, partitions, until) = (&workspace.name, dropped.join(", "), name_of(day));
                        info!(workspace, until, partitions, "retention has dropped partitions");
                    }
                    return Ok(());
                }
                Err(error) => {
                    tx.fail(&error).await;
                    if !error.is_locked() {
                        return Err(error);
                    }
                }
            }
            if attempt < limits::RETENTION_ATTEMPTS {
                tokio::time::sleep(limits::RETENTION_RETRY).await;
            }
        }
        warn!(
            workspace = workspace.name,
            until = name_of(day),
            "partitions that retention wants to drop are in use (pg_stat_activity shows by whom); the next attempt is in an hour"
        );
        Ok(())
    }
}

/// The first day that is to be kept: a partition that ends by then is wholly older than the workspace keeps.
async fn kept_from(connection: &mut PgConnection, workspace: &Workspace) -> Result<Option<i64>, StoreError> {
    // It may have been changed since the workspace was read.
    let now = workspace_row::find(&mut *connection, &workspace.name).await?;
    let Some(days) = now.and_then(|now| now.retention.days()) else {
        return Ok(None);
    };
    let row = statement("SELECT floor(extract(epoch FROM clock_timestamp()) / 86400)::bigint - $1::bigint")
        .bind(i64::from(days))
        .fetch_one(connection)
        .await?;
    Ok(Some(row.try_get(0)?))
}

async fn expired(connection: &mut PgConnection, workspace: &Workspace) -> Result<BTreeSet<i64>, StoreError> {
    let Some(kept_from) = kept_from(connection, workspace).await? else {
        return Ok(BTreeSet::new());
    };
    let mut ends = BTreeSet::new();
    for table in BIG_TABLES {
        let ranges = ranges(connection, workspace.kind, table).await?;
        ends.extend(ranges.iter().map(|days| days.to).filter(|to| *to <= kept_from));
    }
    Ok(ends)
}

async fn drop_partitions(
    connection: &mut PgConnection,
    workspace: &Workspace,
    day: i64,
) -> Result<Vec<String>, StoreError> {
    let wait = "SELECT set_config('lock_timeout', $1, true)";
    statement(wait)
        .bind(limits::RETENTION_LOCK_WAIT)
        .execute(&mut *connection)
        .await?;
    // Not while somebody makes some, or another server drops these.
    lock(connection).await?;
    // Somebody may have changed his mind.
    if kept_from(connection, workspace)
        .await?
        .is_none_or(|kept_from| kept_from < day)
    {
        return Ok(Vec::new());
    }
    let mut dropped = Vec::new();
    for table in BIG_TABLES {
        dropped.extend(match workspace.kind {
            Kind::Native => native::drop_until(connection, table, day).await?,
            Kind::Hypertable => hypertable::drop_until(connection, table, day).await?,
        });
    }
    if dropped.is_empty() {
        return Ok(dropped);
    }
    native::forget_until(connection, day).await?;
    let quarantined = "DELETE FROM quarantine WHERE start_time < to_timestamp($1 * 86400.0)";
    statement(quarantined).bind(day).execute(&mut *connection).await?;
    let audit = "INSERT INTO wavekeep.audit (actor, action, workspace, detail)
                 VALUES ('retention', 'partitions dropped', $1, jsonb_build_object('partitions', $2::text[], 'until', to_timestamp($3 * 86400.0)))";
    let audit = statement(audit).bind(&workspace.name).bind(&dropped).bind(day);
    audit.execute(connection).await?;
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_whole_days_or_none() {
        assert_eq!("90d".parse(), Ok(Retention::Days(90)));
        assert_eq!("none".parse(), Ok(Retention::None));
        for text in ["", "0d", "90", "-1d", "36501d", "90h", "1.5d", "d", "None"] {
            let refused = text.parse::<Retention>().expect_err(text);
            assert!(refused.contains("such as 90d, or none"), "{refused}");
        }
        for retention in [Retention::None, Retention::Days(1), Retention::Days(DAYS_MAX)] {
            assert_eq!(retention.to_string().parse(), Ok(retention));
            assert_eq!(Retention::from_column(retention.column()).ok(), Some(retention));
        }
    }
}
