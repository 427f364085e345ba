//! Release: acked chunks go once their hold-back has passed, or when held-back bytes or the quota need the room (I5); the last
//! record of a stream, and with it the whole stream, only when its `end` is acked and past hold-back.
//!
//! The batches are not synced: undone, they only bring back what could have stayed. They are synced before the disk is told
//! to give the room back, since that is no part of any batch.

use std::collections::BTreeMap;
use std::time::Duration;

use wavekeep_proto::id::StreamId;

use super::kv::{Batch, Kv};
use super::store::delete_described;
use super::{Outbox, OutboxError, Writer, find, keys, lock};

/// Deleted bytes at which the disk gives room back…
const RECLAIM_BYTES: u64 = 64 * 1024 * 1024;
/// … and the time after which it does so for less.
const RECLAIM_INTERVAL: Duration = Duration::from_mins(1);
/// The same where the disk is short of room. Less would hardly give back a whole file.
const RECLAIM_BYTES_LOW: u64 = 8 * 1024 * 1024;
/// Runs of evicted data that are remembered; what is not is given back later, as the disk tidies up by itself.
const EVICTED_RUNS_MAX: usize = 1_024;

impl Writer {
    /// Data were evicted: all from the one seq to the other, both included.
    pub(super) fn evicted(&mut self, stream: StreamId, from_seq: u64, through: u64, bytes: u64) {
        self.deleted_bytes += bytes;
        let is_room = self.evicted.len() < EVICTED_RUNS_MAX;
        match self.evicted.range_mut(..=(stream, from_seq)).next_back() {
            // Eviction goes forward, so the runs grow at their ends.
            Some(((of, _), last)) if *of == stream && *last + 1 >= from_seq => *last = through.max(*last),
            _ if is_room => {
                self.evicted.insert((stream, from_seq), through);
            }
            _ => {}
        }
    }
}

impl<K: Kv> Outbox<K> {
    /// Does what time brings about: releases what is past its hold-back, or above the held-back bytes; forgets streams that are
    /// done; goes on with an interrupted succession; gives room back to the file system. Call it about every second, with the
    /// agent's monotonic time, from a thread that may wait for the disk. Answers how many bytes went.
    pub fn release(&self, now: Duration) -> Result<u64, OutboxError> {
        {
            let mut table = self.table();
            table.now = table.now.max(now);
        }
        // A stream that cannot be read or written stays as it is, and holds up no other.
        let mut result = self.finish_successions();
        let mut freed = 0;
        let streams: Vec<StreamId> = self.table().streams.keys().copied().collect();
        for stream in streams {
            match self.release_aged(stream, now) {
                Ok(bytes) => freed += bytes,
                Err(error) => result = Err(error),
            }
        }
        let excess = self
            .table()
            .held_back_bytes()
            .saturating_sub(self.options.hold_back_bytes);
        if excess > 0 {
            let mut writer = self.writer();
            freed += self.release_acked(&mut writer, excess)?;
        }
        self.reclaim(now)?;
        if freed > 0 {
            self.notify();
        }
        result.map(|()| freed)
    }

    fn release_aged(&self, stream: StreamId, now: Duration) -> Result<u64, OutboxError> {
        let Some(long_ago) = now.checked_sub(self.options.hold_back) else {
            return Ok(0);
        };
        let mut freed = 0;
        loop {
            let mut writer = self.writer();
            let aged = self.with_stream(stream, |known| {
                let aged = known.acks.acked_by(long_ago).unwrap_or(0).min(known.acked.seq);
                let tail = known.tail().at;
                // A file's stream may have no record left: its whole tail was taken over from the server.
                (
                    aged,
                    known.is_visible() && tail.ended && tail.seq > 0 && aged >= tail.seq,
                )
            });
            let Some((aged, done)) = aged else { return Ok(freed) };
            match self.release_step(&mut writer, stream, aged)? {
                Some(bytes) => freed += bytes,
                None if done => return Ok(freed + self.forget(&mut writer, stream)?),
                None => return Ok(freed),
            }
        }
    }

    /// Releases some records that end at or before `limit_seq`, never the stream's last one. `None`: there are none left.
    pub(super) fn release_step(
        &self,
        writer: &mut Writer,
        stream: StreamId,
        limit_seq: u64,
    ) -> Result<Option<u64>, OutboxError> {
        let known = self.with_stream(stream, |known| {
            (
                known.is_visible(),
                known.definition.clone(),
                known.state.clone(),
                known.acked.seq,
            )
        });
        let Some((true, definition, mut state, acked)) = known else {
            return Ok(None);
        };
        // The acks may have gone back since the caller looked.
        let limit = limit_seq.min(acked).min(state.tail.at.seq.saturating_sub(1));
        let base = state.base.at.seq;
        if limit <= base {
            return Ok(None);
        }
        let found = find::some(&*self.kv, stream, base + 1, limit)?;
        let Some(last) = found.last() else { return Ok(None) };
        let mut batch = Batch::default();
        let mut expected = base + 1;
        let (mut freed, mut deleted) = (0, 0);
        for found in &found {
            let header = &found.record.header;
            if header.first_seq != expected {
                // Damaged, and acked: what lies there goes unseen.
                batch.delete_range(keys::chunk(stream, expected), keys::chunk(stream, header.seq));
                batch.delete_range(keys::data(stream, expected), keys::data(stream, header.seq));
            }
            expected = header.seq + 1;
            batch.delete(keys::chunk(stream, header.seq));
            if !found.record.column_bytes.is_empty() {
                batch.delete(keys::data(stream, header.seq));
            }
            freed += found.cost_bytes;
            deleted += found.record.data_bytes();
        }
        state.base = last.record.end(&definition);
        assert!(state.base.at.seq <= acked, "I5: only what is acked is released");
        state.held_bytes = state.held_bytes.saturating_sub(freed);
        self.commit(batch, &[(stream, &state)], false)?;
        self.deleted(writer, stream, state.base.at.seq, deleted, found.len() as u64);
        Ok(Some(freed))
    }

    fn deleted(&self, writer: &mut Writer, stream: StreamId, through: u64, bytes: u64, chunks: u64) {
        writer.deleted_bytes += bytes;
        writer.deleted_through.insert(stream, through);
        let mut table = self.table();
        table.counters.released_chunks += chunks;
        if let Some(stream) = table.streams.get_mut(&stream) {
            stream.acks.forget_before(through);
            stream.stores.forget_before(through);
        }
    }

    /// The stream is done: its last record goes, and all that is known of it.
    fn forget(&self, writer: &mut Writer, stream: StreamId) -> Result<u64, OutboxError> {
        let held_bytes = self.with_stream(stream, |known| known.state.held_bytes).unwrap_or(0);
        let mut batch = Batch::default();
        batch.delete_range(keys::chunk(stream, 0), keys::chunk(stream, u64::MAX));
        batch.delete_range(keys::data(stream, 0), keys::data(stream, u64::MAX));
        batch.delete(keys::state(stream));
        delete_described(&mut batch, stream);
        self.commit(batch, &[], false)?;
        self.table().streams.remove(&stream);
        self.deleted(writer, stream, u64::MAX, held_bytes, 1);
        self.streams_changed();
        Ok(held_bytes)
    }

    /// What is stored under this stream's keys from now on is new: no reclaiming that was planned, or runs, may touch it.
    pub(super) fn keep_from_reclaim<T>(&self, stream: StreamId, store: impl FnOnce(&mut Writer) -> T) -> T {
        let _reclaiming = lock(&self.reclaiming);
        let mut writer = self.writer();
        writer.deleted_through.remove(&stream);
        writer.evicted.retain(|(of, _), _| *of != stream);
        store(&mut writer)
    }

    /// Gives the disk's room back, once that is worth it.
    fn reclaim(&self, now: Duration) -> Result<(), OutboxError> {
        let _reclaiming = lock(&self.reclaiming);
        let low = self
            .kv
            .free_bytes()
            .is_some_and(|free| free < self.options.free_bytes_min.saturating_add(RECLAIM_BYTES));
        let worth_bytes = if low { RECLAIM_BYTES_LOW } else { RECLAIM_BYTES };
        let (released, evicted) = {
            let mut writer = self.writer();
            let due = writer.deleted_bytes >= worth_bytes
                || writer.deleted_bytes > 0 && now.saturating_sub(writer.reclaimed_at) >= RECLAIM_INTERVAL;
            if !due {
                return Ok(());
            }
            writer.reclaiming_bytes = std::mem::take(&mut writer.deleted_bytes);
            writer.reclaimed_at = now;
            (
                std::mem::take(&mut writer.deleted_through),
                std::mem::take(&mut writer.evicted),
            )
        };
        let reclaimed = self.reclaim_ranges(&released, &evicted);
        self.writer().reclaiming_bytes = 0;
        reclaimed
    }

    fn reclaim_ranges(
        &self,
        released: &BTreeMap<StreamId, u64>,
        evicted: &BTreeMap<(StreamId, u64), u64>,
    ) -> Result<(), OutboxError> {
        // Killed in between, the base that was stored decides, not what the disk still has.
        self.sync()?;
        for (stream, through) in released {
            self.kv
                .reclaim(&keys::data(*stream, 0), &keys::data(*stream, *through))?;
        }
        for ((stream, from_seq), through) in evicted {
            self.kv
                .reclaim(&keys::data(*stream, *from_seq), &keys::data(*stream, *through))?;
        }
        Ok(())
    }
}
