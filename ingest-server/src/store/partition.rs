//! Partitions of `chunk`, `chunk_signal` and `envelope`, made ahead of time and on demand, for any date that a replay brings.
//! See `partition_plan` for how many days each covers.
//!
//! They are made in a transaction of their own, before the batch that needs them; usually they are known to be there, and
//! nothing is asked. Retention, or a person, may drop one that we know: the batch then fails as a whole, our knowledge is
//! forgotten, the catalog is read, and the batch is tried once more. (A hypertable then makes a partition of a day by itself; we
//! read the catalog every hour, so days long ago do not become many.)

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Postgres, Row};

use super::database::Database;
use super::error::StoreError;
use super::partition_plan::{Days, day_of, plan, width_of_aligned};
use super::transaction::within_limit;
use super::workspace_row::{Kind, Workspace};
use super::{hypertable, limits, native, statement};

/// In the order in which everybody locks them.
pub(super) const BIG_TABLES: [&str; 3] = ["chunk", "chunk_signal", "envelope"];

/// Which partitions are known to be there, by schema.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    known: Mutex<HashMap<String, Vec<Days>>>,
}

impl Partitions {
    fn missing(&self, schema: &str, times_ns: impl Iterator<Item = i64>) -> BTreeSet<i64> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let ranges = known.get(schema).map(Vec::as_slice).unwrap_or_default();
        times_ns
            .map(day_of)
            .filter(|day| !ranges.iter().any(|days| days.contains(*day)))
            .collect()
    }

    /// Forgets what is known of a workspace: a row found no partition.
    pub(super) fn forget(&self, workspace: &Workspace) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&workspace.schema);
    }

    /// Makes what rows of these start times need and is not there.
    pub(super) async fn ensure(
        &self,
        database: &Database,
        workspace: &Workspace,
        times_ns: impl Iterator<Item = i64>,
    ) -> Result<(), StoreError> {
        let missing = self.missing(&workspace.schema, times_ns);
        if missing.is_empty() {
            Ok(())
        } else {
            self.make(database, workspace, missing).await
        }
    }

    /// Makes those of today and of the days ahead.
    pub(super) async fn ensure_ahead(&self, database: &Database, workspace: &Workspace) -> Result<(), StoreError> {
        self.make(database, workspace, BTreeSet::new()).await
    }

    async fn make(
        &self,
        database: &Database,
        workspace: &Workspace,
        mut days: BTreeSet<i64>,
    ) -> Result<(), StoreError> {
        let mut tx = database.begin(workspace).await?;
        let existing = within_limit(async {
            let connection = tx.connection();
            let today = today_locked(connection).await?;
            days.extend(today..=today + limits::PARTITION_DAYS_AHEAD);
            make(connection, workspace.kind, today, &days).await
        })
        .await?;
        tx.commit().await?;
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(workspace.schema.clone(), existing);
        Ok(())
    }
}

/// One server at a time. Today is the database's, so that all servers agree.
async fn today_locked(connection: &mut PgConnection) -> Result<i64, StoreError> {
    lock(connection).await?;
    let today = statement("SELECT floor(extract(epoch FROM clock_timestamp()) / 86400)::bigint")
        .fetch_one(connection)
        .await?;
    Ok(today.try_get(0)?)
}

/// Held until the transaction ends by whoever makes or drops partitions of the workspace.
pub(super) async fn lock(connection: &mut PgConnection) -> Result<(), StoreError> {
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.time_partition', 0))";
    statement(lock).execute(connection).await?;
    Ok(())
}

/// From a query whose first two columns are the days.
pub(super) async fn ranges_of(
    connection: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<Days>, StoreError> {
    let rows = query.fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            Ok(Days {
                from: row.try_get(0)?,
                to: row.try_get(1)?,
            })
        })
        .collect()
}

/// What both have.
fn common(one: &[Days], other: &[Days]) -> Vec<Days> {
    let both = |one: &Days, other: &Days| Days {
        from: one.from.max(other.from),
        to: one.to.min(other.to),
    };
    let pairs = one
        .iter()
        .flat_map(|one| other.iter().map(move |other| both(one, other)));
    pairs.filter(|days| days.from < days.to).collect()
}

/// Makes what these days need and is not there, in every table. What all of them have then.
async fn make(
    connection: &mut PgConnection,
    kind: Kind,
    today: i64,
    days: &BTreeSet<i64>,
) -> Result<Vec<Days>, StoreError> {
    let mut existing: Option<Vec<Days>> = None;
    for table in BIG_TABLES {
        let own = make_of(connection, kind, table, (today, days)).await?;
        existing = Some(existing.map_or_else(|| own.clone(), |others| common(&others, &own)));
    }
    Ok(existing.unwrap_or_default())
}

async fn make_of(
    connection: &mut PgConnection,
    kind: Kind,
    table: &'static str,
    (today, days): (i64, &BTreeSet<i64>),
) -> Result<Vec<Days>, StoreError> {
    let mut existing = ranges(connection, kind, table).await?;
    for day in days {
        let Some(planned) = plan(today, *day, &existing) else {
            continue;
        };
        match kind {
            Kind::Native => {
                native::make(connection, table, planned).await?;
                existing.push(planned);
            }
            Kind::Hypertable => {
                hypertable::make(connection, table, *day, width_of_aligned(today, *day)).await?;
                // It aligns and cuts: what was made is not what was planned.
                existing = hypertable::ranges(connection, table).await?;
            }
        }
    }
    Ok(existing)
}

/// Those of one table.
pub(super) async fn ranges(
    connection: &mut PgConnection,
    kind: Kind,
    table: &'static str,
) -> Result<Vec<Days>, StoreError> {
    match kind {
        Kind::Native => native::ranges(connection, table).await,
        Kind::Hypertable => hypertable::ranges(connection, table).await,
    }
}
