//! Partitions of a natively partitioned table.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::error::StoreError;
use super::partition::ranges_of;
use super::partition_plan::{Days, name_of};
use super::statement;

/// From the catalog, which alone knows what somebody dropped, detached or attached by hand. A default partition, or one without
/// a bound, is none of ours.
///
/// `MATERIALIZED`, since a function of the catalog looks past the statement's snapshot: it says NULL from the moment on that somebody
/// has dropped the partition. Evaluated once for each use of `bound`, as a planner may, it would be there for the one and not for
/// the other.
macro_rules! attached {
    ($columns:literal, $where:literal) => {
        concat!(
            r"WITH attached AS MATERIALIZED (
    SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \(''(.+)''\) TO \(''(.+)''\)$') AS bound,
           c.oid::regclass::text AS name
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = to_regclass($1))
SELECT ", $columns, r"
  FROM (SELECT floor(extract(epoch FROM bound[1]::timestamptz) / 86400)::bigint AS first_day,
               ceil(extract(epoch FROM bound[2]::timestamptz) / 86400)::bigint AS end_day, name
          FROM attached WHERE bound IS NOT NULL) AS ours ",
            $where
        )
    };
}

/// Those of one table.
pub(super) async fn ranges(connection: &mut PgConnection, table: &'static str) -> Result<Vec<Days>, StoreError> {
    ranges_of(connection, statement(attached!("first_day, end_day", "")).bind(table)).await
}

/// Makes one.
pub(super) async fn make(connection: &mut PgConnection, table: &'static str, days: Days) -> Result<(), StoreError> {
    let name = free_name(connection, table, days.from).await?;
    sqlx::raw_sql(sql(table, &name, days)).execute(&mut *connection).await?;
    // For people: nothing is decided by it.
    let sql = "INSERT INTO time_partition (from_time, to_time) VALUES (to_timestamp($1 * 86400.0), to_timestamp($2 * 86400.0))
               ON CONFLICT (from_time) DO UPDATE SET to_time = excluded.to_time";
    statement(sql).bind(days.from).bind(days.to).execute(connection).await?;
    Ok(())
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
fn sql(table: &str, name: &str, days: Days) -> AssertSqlSafe<String> {
    let (from, to) = (name_of(days.from), name_of(days.to));
    AssertSqlSafe(format!(
        "CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION); \
         ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{from} 00:00:00+00') TO ('{to} 00:00:00+00')"
    ))
}

/// Drops those that end by this day. Their names.
pub(super) async fn drop_until(
    connection: &mut PgConnection,
    table: &'static str,
    day: i64,
) -> Result<Vec<String>, StoreError> {
    let expired = attached!("name", "WHERE end_day <= $2 ORDER BY first_day");
    let rows = statement(expired)
        .bind(table)
        .bind(day)
        .fetch_all(&mut *connection)
        .await?;
    let names: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    if !names.is_empty() {
        // As the database itself has quoted them.
        let drop = AssertSqlSafe(format!("DROP TABLE {}", names.join(", ")));
        sqlx::raw_sql(drop).execute(connection).await?;
    }
    Ok(names)
}

/// What `time_partition` says for people.
pub(super) async fn forget_until(connection: &mut PgConnection, day: i64) -> Result<(), StoreError> {
    let sql = "DELETE FROM time_partition WHERE to_time <= to_timestamp($1 * 86400.0)";
    statement(sql).bind(day).execute(connection).await?;
    Ok(())
}
