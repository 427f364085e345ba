//! Reads of table `run`, and of what runs consist of.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use wavekeep_proto::id::StreamId;

use super::error::StoreError;
use super::text::json_object;
use super::transaction::within_limit;
use super::{bigint, prepared, statement, unsigned};

/// A time that was made part of a run: of a device, or of one stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunMember {
    pub(crate) of: MemberOf,
    pub(crate) from_ns: Option<i64>,
    pub(crate) to_ns: Option<i64>,
}

/// See [`RunMember`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MemberOf {
    Device(String),
    Stream(StreamId),
}

/// A row of `run`, with what was made part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunRow {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) parent: Option<String>,
    pub(crate) note: String,
    /// In order.
    pub(crate) members: Vec<RunMember>,
    /// Streams that were recorded for it.
    pub(crate) recorded: u64,
    pub(crate) created_at_ns: i64,
    pub(crate) updated_at_ns: i64,
}

// An index finds what has a label: by itself, or by a stream that is part of it.
const SELECT: &str = "
SELECT r.name, r.labels::text AS labels, r.parent, r.note,
       (extract(epoch FROM r.created_at) * 1000000)::bigint * 1000 AS created_at_ns,
       (extract(epoch FROM r.updated_at) * 1000000)::bigint * 1000 AS updated_at_ns,
       (SELECT count(*) FROM stream s WHERE s.run = r.name) AS recorded,
       array(SELECT m.device FROM run_member m WHERE m.run = r.name ORDER BY m.ctid) AS devices,
       array(SELECT m.stream_id FROM run_member m WHERE m.run = r.name ORDER BY m.ctid) AS streams,
       array(SELECT m.from_ns FROM run_member m WHERE m.run = r.name ORDER BY m.ctid) AS froms,
       array(SELECT m.to_ns FROM run_member m WHERE m.run = r.name ORDER BY m.ctid) AS tos
  FROM run r
 WHERE ($1::text IS NULL OR r.name = $1)
   AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::boolean[]) AS t(pattern, wanted)
                    WHERE (r.name LIKE t.pattern) <> t.wanted)
   AND ($4::text IS NULL OR r.name IN (
        SELECT o.name FROM run o WHERE o.labels @> $4::text::jsonb
        UNION ALL
        SELECT s.run FROM stream s WHERE s.labels @> $4::text::jsonb AND s.run IS NOT NULL
        UNION ALL
        SELECT m.run FROM stream s JOIN run_member m ON m.stream_id = s.id WHERE s.labels @> $4::text::jsonb
        UNION ALL
        SELECT m.run FROM stream s JOIN run_member m ON m.device = s.device WHERE s.labels @> $4::text::jsonb))
 ORDER BY r.name LIMIT $5";

/// As for streams: an index of labels is read by its bitmap.
const BY_LABELS: [&str; 2] = ["SET LOCAL enable_bitmapscan = on", "SET LOCAL enable_bitmapscan = off"];

/// The runs of these names (one, or like patterns that hold or do not) that may have a label, by name, at most `limit`.
pub(crate) async fn select(
    connection: &mut PgConnection,
    name: Option<&str>,
    patterns: &[(String, bool)],
    label: Option<(String, String)>,
    limit: usize,
) -> Result<Vec<RunRow>, StoreError> {
    let by_labels = label.is_some();
    if by_labels {
        within_limit(statement(BY_LABELS[0]).execute(&mut *connection)).await?;
    }
    let query = prepared(SELECT)
        .bind(name)
        .bind(patterns.iter().map(|(pattern, _)| pattern.clone()).collect::<Vec<_>>())
        .bind(patterns.iter().map(|(_, wanted)| *wanted).collect::<Vec<_>>())
        .bind(label.map(|label| json_object(&BTreeMap::from([label]))))
        .bind(bigint(limit as u64, "the number of runs")?);
    let rows = within_limit(query.fetch_all(&mut *connection)).await?;
    if by_labels {
        within_limit(statement(BY_LABELS[1]).execute(connection)).await?;
    }
    rows.iter().map(from_row).collect()
}

fn from_row(row: &PgRow) -> Result<RunRow, StoreError> {
    let unexpected = StoreError::Unexpected;
    let devices: Vec<Option<String>> = row.try_get("devices")?;
    let streams: Vec<Option<Vec<u8>>> = row.try_get("streams")?;
    let (froms, tos): (Vec<Option<i64>>, Vec<Option<i64>>) = (row.try_get("froms")?, row.try_get("tos")?);
    let of = |device: Option<String>, stream: Option<Vec<u8>>| match (device, stream) {
        (Some(device), _) => Ok(MemberOf::Device(device)),
        (None, stream) => StreamId::from_slice(&stream.unwrap_or_default())
            .map(MemberOf::Stream)
            .map_err(|_| unexpected("run_member.stream_id")),
    };
    let times = froms.into_iter().zip(tos);
    let members = devices.into_iter().zip(streams).zip(times);
    let members = members.map(|((device, stream), (from_ns, to_ns))| {
        let of = of(device, stream)?;
        Ok(RunMember { of, from_ns, to_ns })
    });
    let mut members = members.collect::<Result<Vec<_>, StoreError>>()?;
    members.sort();
    Ok(RunRow {
        name: row.try_get("name")?,
        labels: serde_json::from_str(row.try_get("labels")?).map_err(|_| unexpected("run.labels"))?,
        parent: row.try_get("parent")?,
        note: row.try_get("note")?,
        members,
        recorded: unsigned(row.try_get("recorded")?, "the number of streams")?,
        created_at_ns: row.try_get("created_at_ns")?,
        updated_at_ns: row.try_get("updated_at_ns")?,
    })
}

/// A row of `run_range`.
#[derive(Debug, Clone)]
pub(crate) struct RangeRow {
    pub(crate) run: String,
    pub(crate) stream: StreamId,
    pub(crate) from_ns: Option<i64>,
    pub(crate) to_ns: Option<i64>,
    pub(crate) by_id: bool,
}

/// What these runs consist of, at most `limit` ranges.
pub(crate) async fn ranges(
    connection: &mut PgConnection,
    names: &[String],
    limit: usize,
) -> Result<Vec<RangeRow>, StoreError> {
    let sql = "SELECT run, stream_id, from_ns, to_ns, by_id FROM run_range WHERE run = ANY($1) LIMIT $2";
    let query = prepared(sql)
        .bind(names)
        .bind(bigint(limit as u64, "the number of ranges")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    let range = |row: &PgRow| {
        let stream = StreamId::from_slice(row.try_get("stream_id")?);
        Ok(RangeRow {
            run: row.try_get("run")?,
            stream: stream.map_err(|_| StoreError::Unexpected("stream.id"))?,
            from_ns: row.try_get("from_ns")?,
            to_ns: row.try_get("to_ns")?,
            by_id: row.try_get("by_id")?,
        })
    };
    rows.iter().map(range).collect()
}

/// Names that a mistyped one may have meant, at most `limit`.
pub(crate) async fn names(connection: &mut PgConnection, limit: usize) -> Result<Vec<String>, StoreError> {
    let query = prepared("SELECT name FROM run LIMIT $1").bind(bigint(limit as u64, "the number of names")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Is there a run of this name?
pub(crate) async fn exists(connection: &mut PgConnection, name: &str) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT FROM run WHERE name = $1)";
    let row = within_limit(prepared(sql).bind(name).fetch_one(connection)).await?;
    Ok(row.try_get(0)?)
}
