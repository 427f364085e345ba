//! Partitions of `chunk`, `chunk_signal` and `envelope`, made ahead of time and on demand, for any date that a replay brings.
//! See `partition_plan` for how many days each covers.
//!
//! They are made in a transaction of their own, before the batch that needs them; usually they are known to be there, and
//! nothing is asked. Retention, or a person, may drop one that we know: the batch then fails as a whole, our knowledge is
//! forgotten, the catalog is read, and the batch is tried once more.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, Row};

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
async fn ranges(
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

/// Of one table, from the catalog, which alone knows what somebody dropped, detached or attached by hand. A default partition, or
/// one without a bound, is none of ours.
const ATTACHED: &str = r"
SELECT floor(extract(epoch FROM bound[1]::timestamptz) / 86400)::bigint, ceil(extract(epoch FROM bound[2]::timestamptz) / 86400)::bigint
  FROM (SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \(''(.+)''\) TO \(''(.+)''\)$') AS bound
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1)) AS attached
 WHERE bound IS NOT NULL";

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

async fn make_native(connection: &mut PgConnection, today: i64, days: &BTreeSet<i64>) -> Result<Vec<Days>, StoreError> {
    let mut existing: Option<Vec<Days>> = None;
    for table in BIG_TABLES {
        let attached = make_native_of(connection, table, today, days).await?;
        existing = Some(existing.map_or_else(|| attached.clone(), |others| common(&others, &attached)));
    }
    Ok(existing.unwrap_or_default())
}

async fn make_native_of(
    connection: &mut PgConnection,
    table: &'static str,
    today: i64,
    days: &BTreeSet<i64>,
) -> Result<Vec<Days>, StoreError> {
    let mut attached = ranges(connection, statement(ATTACHED).bind(table)).await?;
    for day in days {
        let Some(made) = plan(today, *day, &attached) else {
            continue;
        };
        let name = free_name(connection, table, made.from).await?;
        sqlx::raw_sql(native_partition(table, &name, made))
            .execute(&mut *connection)
            .await?;
        // For people: nothing is decided by it.
        let sql = "INSERT INTO time_partition (from_time, to_time) VALUES (to_timestamp($1 * 86400.0), to_timestamp($2 * 86400.0))
                   ON CONFLICT (from_time) DO UPDATE SET to_time = excluded.to_time";
        statement(sql)
            .bind(made.from)
            .bind(made.to)
            .execute(&mut *connection)
            .await?;
        attached.push(made);
    }
    Ok(attached)
}

/// A partition is named for its first day. One that somebody detached, to keep it elsewhere, still has its name.
async fn free_name(connection: &mut PgConnection, table: &str, from: i64) -> Result<String, StoreError> {
    let name = format!("{table}_{}", name_of(from));
    let sql = "SELECT $1 || suffix FROM (SELECT '' AS suffix, 1 AS number
                        UNION ALL SELECT '_' || number, number FROM generate_series(2, 100) AS number) AS suffixes
                WHERE to_regclass($1 || suffix) IS NULL ORDER BY number LIMIT 1";
    let free = statement(sql).bind(name).fetch_optional(connection).await?;
    let free = free.ok_or(StoreError::Unexpected(
        "the names of partitions: a hundred of a day were detached",
    ))?;
    Ok(free.try_get(0)?)
}

/// Made apart and then attached, which locks out neither writers nor readers, as CREATE TABLE … PARTITION OF would.
fn native_partition(table: &str, name: &str, days: Days) -> AssertSqlSafe<String> {
    let (from, to) = (name_of(days.from), name_of(days.to));
    AssertSqlSafe(format!(
        "CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION); \
         ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{from} 00:00:00+00') TO ('{to} 00:00:00+00')"
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
    let mut existing = ranges(connection, statement(CHUNKS)).await?;
    let mut recent = Vec::new();
    for day in days {
        if is_recent(today, *day) {
            let to = day + 1;
            recent.push(Days { from: *day, to });
        } else if let Some(made) = plan(today, *day, &existing) {
            let sql = wide_chunk(connection, *day, made.to - made.from).await?;
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
            // It aligns chunks to their width, and cuts them: what was made is not what was planned.
            existing = ranges(connection, statement(CHUNKS)).await?;
        }
    }
    existing.extend(recent);
    Ok(existing)
}

const CHUNKS: &str = "
SELECT floor(extract(epoch FROM range_start) / 86400)::bigint, ceil(extract(epoch FROM range_end) / 86400)::bigint
  FROM timescaledb_information.chunks WHERE hypertable_schema = current_schema() AND hypertable_name = 'chunk'";

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
