//! Partitions of a hypertable, which TimescaleDB calls chunks. Only functions of its Apache edition are used.
//!
//! It makes a partition by itself when a row finds none, as wide as the table's interval, a day, says, and aligned to that
//! width since 1970; and it cuts it where others are. (The function that makes one of any range is not in the Apache edition.) So
//! one is made ahead by a row that is deleted at once, and a wide one by changing the interval for as long as that takes. Other
//! sessions see the change only if it is committed, which it never is.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::error::StoreError;
use super::partition::ranges_of;
use super::partition_plan::Days;
use super::statement;

/// Those of one table.
pub(super) async fn ranges(connection: &mut PgConnection, table: &'static str) -> Result<Vec<Days>, StoreError> {
    let sql = "SELECT floor(extract(epoch FROM range_start) / 86400)::bigint, ceil(extract(epoch FROM range_end) / 86400)::bigint
                 FROM timescaledb_information.chunks WHERE hypertable_schema = current_schema() AND hypertable_name = $1";
    ranges_of(connection, statement(sql).bind(table)).await
}

/// A row of no stream: columns and values of all but `start_time`.
fn row(table: &str) -> (&'static str, &'static str) {
    match table {
        "chunk" => (
            "stream_id, first_seq, seq, kind, reason, quarantined, first_sample, sample_count, utc_ns, stored_bytes, hash, digest, header",
            r"'\x', 0, 0, 2, 0, false, 0, 0, 0, 0, '\x', '\x', '\x'",
        ),
        "chunk_signal" => (
            "stream_id, signal, seq, first_sample, sample_count, sample_type",
            r"'\x', 0, 0, 0, 0, 0",
        ),
        _ => (
            "stream_id, signal, level, bucket, utc_ns, sample_count, finite_count",
            r"'\x', 0, 0, 0, 0, 0, 0",
        ),
    }
}

/// Makes that of `day`, so wide.
pub(super) async fn make(
    connection: &mut PgConnection,
    table: &'static str,
    day: i64,
    width_days: i64,
) -> Result<(), StoreError> {
    let names =
        "SELECT quote_ident(n.nspname), quote_literal(quote_ident(current_schema())), to_timestamp($1 * 86400.0)::text
                   FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace WHERE x.extname = 'timescaledb'";
    let names = statement(names).bind(day).fetch_one(&mut *connection).await?;
    let (extension, schema, time): (String, String, String) = (names.try_get(0)?, names.try_get(1)?, names.try_get(2)?);
    let (columns, values) = row(table);
    let interval = |days: i64| {
        format!(
            "SELECT {extension}.set_chunk_time_interval(({schema} || '.{table}')::regclass, INTERVAL '{days} days');"
        )
    };
    let make = format!(
        "INSERT INTO {table} ({columns}, start_time) VALUES ({values}, '{time}');
         DELETE FROM {table} WHERE stream_id = '\\x' AND start_time = '{time}';"
    );
    let sql = if width_days == 1 {
        make
    } else {
        format!("{} {make} {}", interval(width_days), interval(1))
    };
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// Drops those that end by this day. Their names.
pub(super) async fn drop_until(
    connection: &mut PgConnection,
    table: &'static str,
    day: i64,
) -> Result<Vec<String>, StoreError> {
    let extension = "SELECT quote_ident(n.nspname) FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
                      WHERE x.extname = 'timescaledb'";
    let extension: String = statement(extension).fetch_one(&mut *connection).await?.try_get(0)?;
    let sql = AssertSqlSafe(format!(
        "SELECT {extension}.drop_chunks(to_regclass($1), older_than => to_timestamp($2 * 86400.0))"
    ));
    let rows = sqlx::query(sql).persistent(false).bind(table).bind(day);
    let rows = rows.fetch_all(connection).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}
