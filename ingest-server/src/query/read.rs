//! What every answer reads from the database: streams, the range of a stream, chunks batch by batch.
//!
//! # Invariants
//! - I10: every statement runs in a transaction that entered the workspace; each sees one state of the database throughout.
//! - A transaction lives for one batch, so that a slow caller holds no connection and keeps no old row alive. Chunks are never
//!   updated (but by replaying quarantine), so the batches of an answer fit together: its watermark was read first.
//! - I12: [`limits::TRANSACTIONS_MAX`] at a time; a batch holds [`limits::BATCH_BYTES`], or one chunk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use wavekeep_proto::chunk::{ChunkKind, ColumnContent};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::nearest::nearest;

use super::error::QueryError;
use super::known;
use super::limits;
use super::locate::Located;
use super::plan::Asked;
use super::reading::Reading;
use super::runs::Member;
use crate::store::read_account::{self, Account};
use crate::store::read_chunk::{self, ChunkRow, PayloadRow, Place};
use crate::store::read_gap::{self, GapRow};
use crate::store::read_marker_time;
use crate::store::read_stream::{self, DeviceRow, StreamFilter, StreamRow};
use crate::store::{Database, Workspace, workspace_row};

/// Reads one workspace.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    database: Database,
    workspace: Arc<Workspace>,
    transactions: Arc<Semaphore>,
}

/// A chunk with the columns asked for.
#[derive(Debug, Clone)]
pub(super) struct StoredChunk {
    pub(super) row: ChunkRow,
    /// Those that are present, in the order of the definition.
    pub(super) columns: Vec<Bytes>,
}

impl StoredChunk {
    pub(super) fn has_samples(&self) -> bool {
        self.row.header.kind == ChunkKind::Samples && !self.row.quarantined
    }
}

impl Reader {
    /// Finds the workspace.
    pub(super) async fn new(
        database: &Database,
        transactions: &Arc<Semaphore>,
        workspace: &str,
    ) -> Result<Self, QueryError> {
        let workspace = self::workspace(database, workspace).await?;
        Ok(Self {
            database: database.clone(),
            workspace,
            transactions: transactions.clone(),
        })
    }

    /// A transaction, when there is room for one.
    pub(super) async fn begin(&self) -> Result<Reading, QueryError> {
        Reading::begin(&self.database, &self.workspace, &self.transactions).await
    }

    /// The same, with one beside it if there is room for two.
    pub(super) async fn begin_two(&self) -> Result<Reading, QueryError> {
        let mut reading = self.begin().await?;
        reading.begin_beside(&self.database, &self.workspace, &self.transactions);
        Ok(reading)
    }

    pub(super) async fn devices(&self) -> Result<Vec<DeviceRow>, QueryError> {
        let mut reading = self.begin().await?;
        let rows = read_stream::devices(reading.tx.connection(), limits::DEVICES_MAX).await?;
        reading.end();
        Ok(rows)
    }

    /// What a selection consists of, in order of time. A name that is not there is an error; a time without streams is none.
    pub(super) async fn members(&self, asked: &Asked) -> Result<Vec<Member>, QueryError> {
        let mut reading = self.begin().await?;
        let members = self.members_in(&mut reading, asked).await?;
        reading.end();
        Ok(members)
    }

    /// The streams of a filter that have any of the signals asked for, as one transaction sees them.
    pub(super) async fn streams_of(
        &self,
        reading: &mut Reading,
        filter: &StreamFilter,
        asked: &Asked,
    ) -> Result<Vec<StreamRow>, QueryError> {
        let rows = read_stream::select(reading.tx.connection(), filter, limits::STREAMS_MAX + 1).await?;
        if rows.is_empty() {
            known::require(reading, asked).await?;
        }
        if rows.len() > limits::STREAMS_MAX {
            return Err(QueryError::TooMuch(format!(
                "that would be more than {} streams: choose a device, a run or a shorter time",
                limits::STREAMS_MAX
            )));
        }
        asked.with_signals(rows)
    }

    /// Where the streams stand that had a commit lately.
    pub(super) async fn watermarks(&self) -> Result<BTreeMap<StreamId, u64>, QueryError> {
        let mut reading = self.begin().await?;
        let watermarks = read_stream::watermarks(reading.tx.connection(), limits::STREAMS_MOVED_MAX).await?;
        reading.end();
        Ok(watermarks)
    }

    /// What there is of a stream; None where it is gone.
    pub(super) async fn account(&self, stream: StreamId) -> Result<Option<Account>, QueryError> {
        let mut reading = self.begin().await?;
        let account = read_account::account(reading.tx.connection(), stream).await?;
        reading.end();
        Ok(account)
    }

    /// Chunks without their samples, with the bytes of each present column. `backwards`: the newest first.
    pub(super) async fn chunks(
        &self,
        place: Place,
        seqs: (u64, u64),
        backwards: bool,
    ) -> Result<Vec<(ChunkRow, Vec<u64>)>, QueryError> {
        let mut reading = self.begin().await?;
        let connection = reading.tx.connection();
        let rows = if backwards {
            read_chunk::page_backwards(connection, place, seqs, limits::PAGE_CHUNKS).await?
        } else {
            read_chunk::page(connection, place, seqs, limits::PAGE_CHUNKS).await?
        };
        let seqs = || rows.iter().map(|row| row.header.seq);
        let range = (seqs().min().unwrap_or(0), seqs().max().unwrap_or(0));
        let sizes = read_chunk::payload_sizes(connection, place, range).await?;
        reading.end();
        let bytes = |row: &ChunkRow| {
            let own = sizes.iter().filter(|(seq, _)| *seq == row.header.seq);
            own.map(|(_, bytes)| *bytes).collect()
        };
        Ok(rows.into_iter().map(|row| (row.clone(), bytes(&row))).collect())
    }

    /// UTC of the markers of these members with this text, or of the kind of this number, in order: those that came with the samples, and
    /// those that were added to the devices.
    pub(super) async fn marker_times(&self, members: &[Member], text: &str) -> Result<Vec<i64>, QueryError> {
        let limit = limits::MARKERS_LOOKED_AT_MAX;
        let mut times = Vec::new();
        let mut within = (Vec::new(), Vec::new(), Vec::new());
        let mut reading = self.begin().await?;
        for member in members {
            // One that came with the last sample may be right after it: its stream's own end is no limit.
            let ranges: Vec<_> = member.ranges.iter().map(|range| (range.from_ns, range.to_ns)).collect();
            let connection = reading.tx.connection();
            times.extend(read_marker_time::in_chunks(connection, member.row.id(), &ranges, text, limit).await?);
            for (from_ns, to_ns) in member.times_ns() {
                within.0.push(Some(member.row.definition.device.clone()));
                within.1.push(Some(from_ns));
                within.2.push(Some(to_ns));
            }
        }
        times.extend(read_marker_time::added(reading.tx.connection(), &within, text, limit).await?);
        reading.end();
        times.sort_unstable();
        times.dedup();
        Ok(times)
    }

    /// Texts of the markers of these members.
    pub(super) async fn marker_texts(&self, members: &[Member]) -> Result<Vec<String>, QueryError> {
        let limit = limits::MARKERS_LOOKED_AT_MAX;
        let mut texts = Vec::new();
        let mut reading = self.begin().await?;
        for member in members {
            let of = (member.row.id(), member.row.definition.device.as_str());
            texts.extend(read_marker_time::texts(reading.tx.connection(), of, limit).await?);
        }
        reading.end();
        Ok(texts)
    }

    /// The columns of these signals that are there in a range of seqs, whatever the chunks' headers say.
    pub(super) async fn payloads(
        &self,
        place: Place,
        signals: &[u16],
        seqs: (u64, u64),
    ) -> Result<Vec<PayloadRow>, QueryError> {
        let mut reading = self.begin().await?;
        let rows = read_chunk::payloads(reading.tx.connection(), place, signals, seqs).await?;
        reading.end();
        Ok(rows)
    }

    /// What is missing of some signals in chunks with `after < seq ≤ last`: the rows, and the seq after which to go on (None:
    /// that was all).
    pub(super) async fn gaps(
        &self,
        place: Place,
        signals: &[u16],
        seqs: (u64, u64),
    ) -> Result<(Vec<GapRow>, Option<u64>), QueryError> {
        let mut reading = self.begin().await?;
        let mut rows = read_gap::page(reading.tx.connection(), place, signals, seqs, limits::PAGE_GAPS).await?;
        reading.end();
        if rows.len() < limits::PAGE_GAPS {
            return Ok((rows, None));
        }
        // The last chunk may have more rows than came: it is read again, whole.
        let last = rows.last().map_or(0, |row| row.seq);
        rows.retain(|row| row.seq < last);
        Ok((rows, Some(last - 1)))
    }
}

/// Chunks whose headers are known, with these columns.
pub(super) async fn with_columns(
    reading: &mut Reading,
    place: Place,
    signals: &[u16],
    rows: Vec<ChunkRow>,
) -> Result<Vec<StoredChunk>, QueryError> {
    // What was in quarantine when it was located has no columns, though it may have some by now.
    let readable = rows.iter().filter(|row| !row.quarantined);
    let seqs: Vec<u64> = readable.map(|row| row.header.seq).collect();
    let payloads = if signals.is_empty() || seqs.is_empty() {
        Vec::new()
    } else {
        read_chunk::payloads_of(reading.tx.connection(), place, signals, &seqs).await?
    };
    join(place, signals, rows, payloads)
}

/// Headers and columns, both in order.
fn join(
    place: Place,
    signals: &[u16],
    rows: Vec<ChunkRow>,
    payloads: Vec<PayloadRow>,
) -> Result<Vec<StoredChunk>, QueryError> {
    let mut payloads = payloads.into_iter().peekable();
    let mut chunks = Vec::with_capacity(rows.len());
    for row in rows {
        let mut columns = Vec::new();
        for signal in present(&row, signals) {
            let payload = payloads.next_if(|payload| (payload.seq, payload.signal) == (row.header.seq, signal));
            let payload =
                payload.ok_or_else(|| damaged(place, &format!("seq {} has lost a column", row.header.seq)))?;
            columns.push(payload.payload);
        }
        chunks.push(StoredChunk { row, columns });
    }
    if payloads.next().is_some() {
        return Err(damaged(place, "there is a column that no chunk names"));
    }
    Ok(chunks)
}

fn damaged(place: Place, what: &str) -> QueryError {
    QueryError::Damaged(format!("stream {} is not whole: {what}", place.stream))
}

/// A workspace by name; one that is not there is told with the nearest.
pub(super) async fn workspace(database: &Database, name: &str) -> Result<Arc<Workspace>, QueryError> {
    match database.workspace(name).await.map_err(QueryError::from) {
        Err(QueryError::Unknown { kind, name, .. }) => {
            let nearest = nearest(&name, workspace_names(database).await?);
            Err(QueryError::Unknown { kind, name, nearest })
        }
        answer => answer,
    }
}

async fn workspace_names(database: &Database) -> Result<Vec<String>, QueryError> {
    let mut tx = database.begin_registry_read().await?;
    let workspaces = workspace_row::all(tx.connection()).await?;
    tx.rollback().await;
    Ok(workspaces.into_iter().map(|workspace| workspace.name).collect())
}

/// Reads a range's chunks, batch by batch.
pub(super) struct ChunkReader {
    reader: Reader,
    place: Place,
    /// The numbers of the signals whose columns are read.
    signals: Vec<u16>,
    /// The last seq that was given out, and the last to give out.
    after: u64,
    last: u64,
    /// Headers read ahead.
    page: VecDeque<ChunkRow>,
}

impl ChunkReader {
    pub(super) fn new(reader: &Reader, located: &Located, signals: Vec<u16>) -> Self {
        Self {
            reader: reader.clone(),
            place: located.place,
            signals,
            after: located.span.first_seq - 1,
            last: located.span.last_seq,
            page: VecDeque::new(),
        }
    }

    /// The chunks of a stream with `after < seq ≤ last`, as far as retention has left them; None where it has none.
    pub(super) async fn between(
        (reader, reading): (&Reader, &mut Reading),
        row: &StreamRow,
        signals: Vec<u16>,
        (after, last): (u64, u64),
    ) -> Result<Option<Self>, QueryError> {
        let Some(times_ns) = row.times_ns else {
            return Ok(None);
        };
        let place = Place {
            stream: row.id(),
            times_ns,
        };
        let page = read_chunk::page(reading.tx.connection(), place, (after, last), limits::PAGE_CHUNKS).await?;
        let Some(first) = page.first() else {
            return Ok(None);
        };
        Ok(Some(Self {
            reader: reader.clone(),
            place,
            signals,
            // What one gap stands for may have been in part with the caller.
            after: first.header.first_seq - 1,
            last,
            page: page.into(),
        }))
    }

    /// The next chunk continues from this seq.
    pub(super) fn after(&self) -> u64 {
        self.after
    }

    /// The next chunks, in order; None after the last.
    pub(super) async fn next_batch(&mut self) -> Result<Option<Vec<StoredChunk>>, QueryError> {
        if self.after >= self.last {
            return Ok(None);
        }
        let mut reading = self.reader.begin().await?;
        let batch = self.next_batch_in(&mut reading).await?;
        reading.end();
        Ok(batch)
    }

    /// The same, in a transaction that is under way.
    pub(super) async fn next_batch_in(
        &mut self,
        reading: &mut Reading,
    ) -> Result<Option<Vec<StoredChunk>>, QueryError> {
        if self.after >= self.last {
            return Ok(None);
        }
        match self.read_batch(reading).await {
            Err(QueryError::Damaged(_)) if self.is_dropped(reading).await? => Err(QueryError::Expired {
                stream: self.place.stream,
                seq: self.after,
            }),
            batch => batch.map(Some),
        }
    }

    /// Is nothing left up to and with the chunk that comes next? Retention drops the oldest, also while they are being read.
    async fn is_dropped(&self, reading: &mut Reading) -> Result<bool, QueryError> {
        let oldest = read_chunk::page(reading.tx.connection(), self.place, (0, self.last), 1).await?;
        Ok(oldest.first().is_none_or(|row| row.header.first_seq > self.after + 1))
    }

    async fn read_batch(&mut self, reading: &mut Reading) -> Result<Vec<StoredChunk>, QueryError> {
        if self.page.is_empty() {
            let seqs = (self.after, self.last);
            self.page = read_chunk::page(reading.tx.connection(), self.place, seqs, limits::PAGE_CHUNKS)
                .await?
                .into();
        }
        let rows = self.take_rows()?;
        let range = (rows[0].header.seq, rows[rows.len() - 1].header.seq);
        let payloads = if self.signals.is_empty() {
            Vec::new()
        } else {
            read_chunk::payloads(reading.tx.connection(), self.place, &self.signals, range).await?
        };
        let batch = join(self.place, &self.signals, rows, payloads)?;
        self.after = range.1;
        Ok(batch)
    }

    /// Headers whose columns are read together: at least one.
    fn take_rows(&mut self) -> Result<Vec<ChunkRow>, QueryError> {
        let (mut rows, mut bytes, mut after) = (Vec::new(), 0, self.after);
        while let Some(row) = self.page.front() {
            bytes += if row.quarantined { 0 } else { row.stored_bytes };
            if !rows.is_empty() && bytes > limits::BATCH_BYTES {
                break;
            }
            if row.header.first_seq != after + 1 {
                return Err(damaged(self.place, &format!("seq {} is missing", after + 1)));
            }
            after = row.header.seq;
            rows.extend(self.page.pop_front());
        }
        if rows.is_empty() {
            return Err(damaged(
                self.place,
                &format!("the chunks after seq {after} are missing"),
            ));
        }
        Ok(rows)
    }
}

/// The numbers of the signals that a chunk has samples of.
fn present<'a>(row: &'a ChunkRow, signals: &'a [u16]) -> impl Iterator<Item = u16> + 'a {
    let columns = row.header.columns.iter().filter(|_| !row.quarantined);
    let here = columns.filter(|column| matches!(column.content, ColumnContent::Present { .. }));
    here.map(|column| column.signal)
        .filter(|signal| signals.contains(signal))
}
