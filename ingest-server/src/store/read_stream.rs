//! Reads of table `stream`: which streams a question is about, and where they stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row};
use wavekeep_proto::chunk::{Position, Reason};
use wavekeep_proto::id::{Hash, StreamId};
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::{v1, wire};

use super::error::StoreError;
use super::transaction::within_limit;
use super::{bigint, prepared, statement, unsigned};

/// Which streams. What is unset does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StreamFilter {
    pub(crate) ids: Option<Vec<StreamId>>,
    pub(crate) device: Option<String>,
    /// All of them.
    pub(crate) labels: BTreeMap<String, String>,
    /// Key (`device`, `run`: the one it was recorded for, or a label), pattern of LIKE, and whether it must hold.
    pub(crate) patterns: Vec<(String, String, bool)>,
    /// Streams that lie before it or start with it are left out.
    pub(crate) to_ns: Option<i64>,
    /// Streams that ended before it or with it are left out.
    pub(crate) from_ns: Option<i64>,
}

/// A row.
#[derive(Debug, Clone)]
pub(crate) struct StreamRow {
    pub(crate) definition: Arc<StreamDefinition>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) run: String,
    pub(crate) at: Position,
    pub(crate) end_reason: Option<Reason>,
    /// Earliest start and latest end of its chunks; None before the first.
    pub(crate) times_ns: Option<(i64, i64)>,
    pub(crate) sample_count: u64,
    pub(crate) gap_sample_count: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) quarantined: u64,
    /// Some chunk starts before the one that it follows, or nobody knows.
    pub(crate) time_stepped: bool,
    /// Up to here all envelopes are written.
    pub(crate) folded_seq: u64,
    /// Up to here it is read where its device is: what comes after it is in a successor that reaches at least as far, or in the predecessor
    /// that goes further than this one (0 then). Never is anything of both.
    pub(crate) succeeded_at: Option<u64>,
}

impl StreamRow {
    pub(crate) fn id(&self) -> StreamId {
        self.definition.id
    }
}

const SELECT: &str = "
SELECT s.definition, s.labels::text AS labels, s.run, s.watermark, s.next_sample, s.digest, s.ended, s.end_reason,
       s.first_time_ns, s.last_time_ns, s.sample_count, s.gap_sample_count, s.stored_bytes, s.quarantined, s.folded_seq, s.time_stepped,
       least((SELECT min(n.predecessor_seq) FROM stream n WHERE n.predecessor_id = s.id AND n.next_sample >= s.next_sample),
             (SELECT 0 FROM stream p WHERE p.id = s.predecessor_id AND p.next_sample > s.next_sample)) AS succeeded_at
  FROM stream s
 WHERE ($1::bytea[] IS NULL OR s.id = ANY($1)) AND ($2::text IS NULL OR s.device = $2)
   AND ($3::text IS NULL OR s.labels @> $3::text::jsonb)
   AND ($4::bigint IS NULL OR s.first_time_ns < $4) AND ($5::bigint IS NULL OR s.last_time_ns > $5)
   AND NOT EXISTS (SELECT FROM unnest($6::text[], $7::text[], $8::boolean[]) AS t(key, pattern, wanted)
                    WHERE coalesce(CASE t.key WHEN 'device' THEN s.device WHEN 'run' THEN s.run ELSE s.labels ->> t.key END
                                   LIKE t.pattern, false) <> t.wanted)
 ORDER BY s.first_time_ns NULLS LAST, s.created_at, s.id
 LIMIT $9";

/// An index of labels is read by its bitmap, which reads elsewhere do without (see `transaction`). It is asked for where it is the way to
/// the rows, and for this statement alone.
const BY_LABELS: [&str; 2] = ["SET LOCAL enable_bitmapscan = on", "SET LOCAL enable_bitmapscan = off"];

/// The streams, in order of time, at most `limit`. Of those that start together the one comes first that was there first: a successor
/// that continues all of its predecessor follows it.
pub(crate) async fn select(
    connection: &mut PgConnection,
    filter: &StreamFilter,
    limit: usize,
) -> Result<Vec<StreamRow>, StoreError> {
    let by_labels = !filter.labels.is_empty() && filter.ids.is_none() && filter.device.is_none();
    if by_labels {
        within_limit(statement(BY_LABELS[0]).execute(&mut *connection)).await?;
    }
    let query = bound(prepared(SELECT), filter, limit)?;
    let rows = within_limit(query.fetch_all(&mut *connection)).await?;
    if by_labels {
        within_limit(statement(BY_LABELS[1]).execute(connection)).await?;
    }
    rows.iter().map(from_row).collect()
}

fn bound<'q>(
    query: Query<'q, Postgres, PgArguments>,
    filter: &StreamFilter,
    limit: usize,
) -> Result<Query<'q, Postgres, PgArguments>, StoreError> {
    let ids = filter
        .ids
        .as_ref()
        .map(|ids| ids.iter().map(|id| id.to_vec()).collect::<Vec<_>>());
    let column = |of: fn(&(String, String, bool)) -> String| filter.patterns.iter().map(of).collect::<Vec<_>>();
    Ok(query
        .bind(ids)
        .bind(filter.device.clone())
        .bind((!filter.labels.is_empty()).then(|| super::text::json_object(&filter.labels)))
        .bind(filter.to_ns)
        .bind(filter.from_ns)
        .bind(column(|pattern| pattern.0.clone()))
        .bind(column(|pattern| pattern.1.clone()))
        .bind(filter.patterns.iter().map(|pattern| pattern.2).collect::<Vec<_>>())
        .bind(bigint(limit as u64, "the number of streams")?))
}

// Longer than any look at it takes: what is missed all the same, a listing finds.
const WATERMARKS: &str = "
SELECT id, watermark FROM stream WHERE committed_at > now() - interval '1 minute' ORDER BY committed_at DESC LIMIT $1";

/// The watermarks of the streams that had a commit in the last minute, by the database's clock; at most `limit`.
pub(crate) async fn watermarks(
    connection: &mut PgConnection,
    limit: usize,
) -> Result<BTreeMap<StreamId, u64>, StoreError> {
    let query = prepared(WATERMARKS).bind(bigint(limit as u64, "the number of streams")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    let watermark = |row: &PgRow| {
        let id = StreamId::from_slice(row.try_get("id")?).map_err(|_| StoreError::Unexpected("stream.id"))?;
        Ok((id, unsigned(row.try_get("watermark")?, "stream.watermark")?))
    };
    rows.iter().map(watermark).collect()
}

/// One stream.
pub(crate) async fn by_id(connection: &mut PgConnection, id: StreamId) -> Result<Option<StreamRow>, StoreError> {
    let filter = StreamFilter {
        ids: Some(vec![id]),
        ..StreamFilter::default()
    };
    Ok(select(connection, &filter, 1).await?.pop())
}

fn from_row(row: &PgRow) -> Result<StreamRow, StoreError> {
    let unexpected = StoreError::Unexpected;
    let definition = v1::StreamDefinition::decode(row.try_get::<&[u8], _>("definition")?);
    let definition = definition.map_err(|_| unexpected("stream.definition"))?;
    let definition = wire::definition_from_wire(definition).map_err(|_| unexpected("stream.definition"))?;
    definition.validate().map_err(|_| unexpected("stream.definition"))?;
    let digest = Hash::from_slice(row.try_get("digest")?).map_err(|_| unexpected("stream.digest"))?;
    let end_reason: Option<i16> = row.try_get("end_reason")?;
    let end_reason = end_reason
        .map(|number| reason(number).ok_or_else(|| unexpected("stream.end_reason")))
        .transpose()?;
    let times_ns: (Option<i64>, Option<i64>) = (row.try_get("first_time_ns")?, row.try_get("last_time_ns")?);
    let count = |column| unsigned(row.try_get(column)?, column);
    let succeeded_at: Option<i64> = row.try_get("succeeded_at")?;
    Ok(StreamRow {
        labels: serde_json::from_str(row.try_get("labels")?).map_err(|_| unexpected("stream.labels"))?,
        run: row.try_get::<Option<String>, _>("run")?.unwrap_or_default(),
        at: Position {
            seq: count("watermark")?,
            next_sample: count("next_sample")?,
            digest,
            ended: row.try_get("ended")?,
        },
        end_reason,
        times_ns: times_ns.0.zip(times_ns.1),
        sample_count: count("sample_count")?,
        gap_sample_count: count("gap_sample_count")?,
        stored_bytes: count("stored_bytes")?,
        quarantined: count("quarantined")?,
        time_stepped: row.try_get("time_stepped")?,
        folded_seq: count("folded_seq")?,
        succeeded_at: succeeded_at
            .map(|seq| unsigned(seq, "stream.predecessor_seq"))
            .transpose()?,
        definition: Arc::new(definition),
    })
}

/// A reason as a row has it.
pub(super) fn reason(number: i16) -> Option<Reason> {
    u32::try_from(number).ok().and_then(Reason::from_number)
}

/// What is stored of a device, over all its streams.
#[derive(Debug, Clone)]
pub(crate) struct DeviceRow {
    pub(crate) name: String,
    pub(crate) streams: u64,
    pub(crate) times_ns: Option<(i64, i64)>,
    pub(crate) sample_count: u64,
    pub(crate) gap_sample_count: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) live: bool,
}

const DEVICES: &str = "
SELECT device, count(*) AS streams, min(first_time_ns) AS first_time_ns, max(last_time_ns) AS last_time_ns,
       least(sum(sample_count), $2)::bigint AS sample_count, least(sum(gap_sample_count), $2)::bigint AS gap_sample_count,
       least(sum(stored_bytes), $2)::bigint AS stored_bytes, bool_or(NOT ended) AS live
  FROM stream GROUP BY device ORDER BY device LIMIT $1";

/// The devices that have a stream, by name, at most `limit`. Sums that no bigint holds are the largest that it does: one absurd
/// stream must not hide every device.
pub(crate) async fn devices(connection: &mut PgConnection, limit: usize) -> Result<Vec<DeviceRow>, StoreError> {
    let query = prepared(DEVICES)
        .bind(bigint(limit as u64, "the number of devices")?)
        .bind(i64::MAX);
    let rows = within_limit(query.fetch_all(connection)).await?;
    let device = |row: &PgRow| {
        let count = |column| unsigned(row.try_get(column)?, column);
        let times_ns: (Option<i64>, Option<i64>) = (row.try_get("first_time_ns")?, row.try_get("last_time_ns")?);
        Ok(DeviceRow {
            name: row.try_get("device")?,
            streams: count("streams")?,
            times_ns: times_ns.0.zip(times_ns.1),
            sample_count: count("sample_count")?,
            gap_sample_count: count("gap_sample_count")?,
            stored_bytes: count("stored_bytes")?,
            live: row.try_get("live")?,
        })
    };
    rows.iter().map(device).collect()
}

/// Names of devices that a mistyped one may have meant, at most `limit`.
pub(crate) async fn device_names(connection: &mut PgConnection, limit: usize) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT DISTINCT device FROM stream LIMIT $1";
    let query = prepared(sql).bind(bigint(limit as u64, "the number of names")?);
    let rows = within_limit(query.fetch_all(connection)).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Has a device of this name a stream?
pub(crate) async fn device_exists(connection: &mut PgConnection, name: &str) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT FROM stream WHERE device = $1)";
    let row = within_limit(prepared(sql).bind(name).fetch_one(connection)).await?;
    Ok(row.try_get(0)?)
}

#[cfg(test)]
mod tests {
    use sqlx::AssertSqlSafe;

    use super::*;
    use crate::devdb::TestServer;
    use crate::store::Database;

    /// Streams of a bench with two labels each, one of them alone with `rare=1`.
    const MANY: &str = "
INSERT INTO stream (id, definition, definition_hash, device, epoch, rate_hz, first_sample, signals, signal_numbers, sample_types, attributes,
                    labels, watermark, next_sample, digest, ended, owner)
SELECT id, '', id, 'bench', id, 1, 0, '[]', '{}', '{}', '{}',
       CASE n WHEN 77 THEN '{\"rare\": \"1\"}'::jsonb ELSE jsonb_build_object('rare', '0', 'number', n::text) END, 0, 0, id, false, id
  FROM (SELECT n, substring(sha256(n::text::bytea) FOR 16) AS id FROM generate_series(1, 5000) AS n) AS s;
ANALYZE stream";

    #[tokio::test]
    async fn a_label_that_must_be_so_is_found_by_its_index() {
        let postgres = TestServer::start().await.expect("Postgres is installed");
        let database = Database::connect(&postgres.url(), 1).await.expect("it answers");
        let main = database.workspace("main").await.expect("it was created");
        let mut tx = database.begin(&main).await.expect("it begins");
        sqlx::raw_sql(MANY).execute(tx.connection()).await.expect("it is ours");
        tx.commit().await.expect("it commits");
        let filter = StreamFilter {
            labels: BTreeMap::from([("rare".into(), "1".into())]),
            patterns: vec![("number".into(), "7%".into(), false)],
            ..StreamFilter::default()
        };
        let mut tx = database.begin_read(&main).await.expect("it begins");
        let connection = tx.connection();
        let asked = statement(BY_LABELS[0]).execute(&mut *connection).await;
        asked.expect("it may be asked for");
        let explain = sqlx::query(AssertSqlSafe(format!("EXPLAIN (COSTS OFF) {SELECT}"))).persistent(false);
        let explain = bound(explain, &filter, 10).expect("it is bound");
        let lines = explain.fetch_all(&mut *connection).await.expect("it explains");
        let plan: Vec<String> = lines.iter().map(|line| line.get(0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains("Bitmap Index Scan on stream_labels"), "{plan}");
        tx.rollback().await;
    }
}
