//! Partitions of `chunk`, `chunk_signal` and `envelope`, made ahead of time and on demand, for any date that a replay brings.
//! See `partition_plan` for how many days each covers.
//!
//! They are made in a transaction of their own, before the batch that needs them; usually they are known to be there, and
//! nothing is asked. Retention may drop one that we know: the batch then fails as a whole, our knowledge is forgotten, and the
//! batch is tried once more.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::database::Database;
use super::error::StoreError;
use super::partition_plan::{Days, day_of, is_recent, name_of, plan};
use super::transaction::within_limit;
use super::workspace_row::{Kind, Workspace};
use super::{limits, statement};

const BIG_TABLES: [&str; 3] = ["chunk", "chunk_signal", "envelope"];

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
            match workspace.kind {
                Kind::Native => make_native(connection, today, &days).await,
                Kind::Hypertable => make_wide_chunks(connection, today, &days).await,
            }
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
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.time_partition', 0))";
    statement(lock).execute(&mut *connection).await?;
    let today = statement("SELECT floor(extract(epoch FROM clock_timestamp()) / 86400)::bigint")
        .fetch_one(connection)
        .await?;
    Ok(today.try_get(0)?)
}

/// From a query whose first two columns are the days.
async fn ranges(connection: &mut PgConnection, sql: &'static str) -> Result<Vec<Days>, StoreError> {
    let rows = statement(sql).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            Ok(Days {
                from: row.try_get(0)?,
                to: row.try_get(1)?,
            })
        })
        .collect()
}

async fn make_native(connection: &mut PgConnection, today: i64, days: &BTreeSet<i64>) -> Result<Vec<Days>, StoreError> {
    let sql = "SELECT (extract(epoch FROM from_time) / 86400)::bigint, (extract(epoch FROM to_time) / 86400)::bigint FROM time_partition";
    let mut existing = ranges(connection, sql).await?;
    for day in days {
        let Some(made) = plan(today, *day, &existing) else {
            continue;
        };
        for table in BIG_TABLES {
            sqlx::raw_sql(native_partition(table, made))
                .execute(&mut *connection)
                .await?;
        }
        let sql = "INSERT INTO time_partition (from_time, to_time) VALUES (to_timestamp($1 * 86400.0), to_timestamp($2 * 86400.0))";
        statement(sql)
            .bind(made.from)
            .bind(made.to)
            .execute(&mut *connection)
            .await?;
        existing.push(made);
    }
    Ok(existing)
}

/// Made apart and then attached, which locks out neither writers nor readers, as CREATE TABLE … PARTITION OF would.
fn native_partition(table: &str, days: Days) -> AssertSqlSafe<String> {
    let (from, to) = (name_of(days.from), name_of(days.to));
    AssertSqlSafe(format!(
        "CREATE TABLE {table}_{from} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION); \
         ALTER TABLE {table} ATTACH PARTITION {table}_{from} FOR VALUES FROM ('{from} 00:00:00+00') TO ('{to} 00:00:00+00')"
    ))
}

/// TimescaleDB makes a chunk a day by itself. A day that is far off gets a wide one first, so that an odd clock cannot make
/// thousands: the width of new chunks is changed for as long as it takes to make this one, and a row that is deleted at once
/// makes it. TimescaleDB cuts it where others are.
async fn make_wide_chunks(
    connection: &mut PgConnection,
    today: i64,
    days: &BTreeSet<i64>,
) -> Result<Vec<Days>, StoreError> {
    let sql = "SELECT floor(extract(epoch FROM range_start) / 86400)::bigint, ceil(extract(epoch FROM range_end) / 86400)::bigint
                 FROM timescaledb_information.chunks WHERE hypertable_schema = current_schema() AND hypertable_name = 'chunk'";
    let mut existing = ranges(connection, sql).await?;
    for day in days {
        let Some(made) = plan(today, *day, &existing) else {
            continue;
        };
        if !is_recent(today, *day) {
            let sql = wide_chunk(connection, *day, made.to - made.from).await?;
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
        }
        existing.push(made);
    }
    Ok(existing)
}

async fn wide_chunk(connection: &mut PgConnection, day: i64, width_days: i64) -> Result<String, StoreError> {
    let sql =
        "SELECT quote_ident(n.nspname), quote_literal(quote_ident(current_schema())), to_timestamp($1 * 86400.0)::text
                 FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace WHERE x.extname = 'timescaledb'";
    let row = statement(sql).bind(day).fetch_one(connection).await?;
    let (extension, schema, time): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let values = [
        (
            "chunk",
            "stream_id, first_seq, seq, kind, reason, quarantined, first_sample, sample_count, utc_ns, stored_bytes, hash, digest, header, start_time",
            r"'\x', 0, 0, 2, 0, false, 0, 0, 0, 0, '\x', '\x', '\x'",
        ),
        (
            "chunk_signal",
            "stream_id, signal, seq, first_sample, sample_count, sample_type, start_time",
            r"'\x', 0, 0, 0, 0, 0",
        ),
        (
            "envelope",
            "stream_id, signal, level, bucket, utc_ns, sample_count, finite_count, start_time",
            r"'\x', 0, 0, 0, 0, 0, 0",
        ),
    ];
    let width = |table: &str, days: i64| {
        format!(
            "SELECT {extension}.set_chunk_time_interval(({schema} || '.{table}')::regclass, INTERVAL '{days} days');"
        )
    };
    let make = |(table, columns, row): &(&str, &str, &str)| {
        let (widen, back) = (width(table, width_days), width(table, 1));
        format!(
            "{widen} INSERT INTO {table} ({columns}) VALUES ({row}, '{time}'); {back} DELETE FROM {table} WHERE stream_id = '\\x' AND start_time = '{time}';"
        )
    };
    Ok(values.iter().map(make).collect())
}
