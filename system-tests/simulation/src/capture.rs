//! What sources do to an outbox, and what the oracle sees of the outbox from outside.

use std::time::Duration;

use wavekeep_agent::outbox::{NewChunk, OutboxAlarm, StoreError};
use wavekeep_proto::chunk::{Chunk, Header, Position, Reason};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::uplink::Outbox as _;

use crate::log::log;
use crate::queue::Event;
use crate::source::Portion;
use crate::world::World;

impl World {
    /// A source has something, or would have.
    pub(crate) fn on_capture(&mut self, agent: usize, life: u32, source: usize) {
        if !self.lives(agent, life) || self.agents[agent].sources[source].done {
            return;
        }
        if self.agents[agent].sources[source].is_file() {
            self.replay(agent, source);
        } else {
            self.capture(agent, source);
        }
        self.pump(agent);
        if !self.agents[agent].sources[source].done {
            let (low, high) = if self.agents[agent].sources[source].is_file() {
                (50, 400)
            } else {
                self.plan.period_ms
            };
            let at = self.now + self.random.ms(low, high);
            self.queue.push(at, Event::Capture { agent, life, source });
        }
    }

    pub(crate) fn capture(&mut self, agent: usize, source: usize) {
        let place = &mut self.agents[agent].sources[source];
        if self.calm {
            place.done = true;
            return self.end_stream(agent, source);
        }
        if std::mem::take(&mut place.relabel) {
            self.end_stream(agent, source);
            return self.open_next(agent, source);
        }
        self.take(agent, source);
    }

    /// A replay waits until a server has said where the stream stands, and goes on there.
    pub(crate) fn replay(&mut self, agent: usize, source: usize) {
        let stream = self.agents[agent].sources[source].definition.id;
        let outbox = self.agents[agent].disk.outbox();
        let Some(view) = outbox.view(stream) else {
            return self.file_is_done(agent, source);
        };
        if !outbox.wait_opened(stream, Duration::ZERO) {
            return;
        }
        if view.tail.ended {
            if view.acked == view.tail.seq {
                self.file_is_done(agent, source);
            }
            return;
        }
        self.agents[agent].sources[source].next_sample = view.tail.next_sample;
        self.take(agent, source);
    }

    fn file_is_done(&mut self, agent: usize, source: usize) {
        let place = &mut self.agents[agent];
        place.sources[source].done = true;
        let stream = place.sources[source].definition.id;
        place
            .files
            .iter_mut()
            .filter(|file| file.definition.id == stream)
            .for_each(|file| file.done = true);
    }

    fn open_next(&mut self, agent: usize, source: usize) {
        let next = self.agents[agent].sources[source].next_stream(&mut self.random);
        self.agents[agent].sources[source] = next;
        self.open_source(agent, source);
    }

    fn end_stream(&mut self, agent: usize, source: usize) {
        let stream = self.agents[agent].sources[source].definition.id;
        let Some(view) = self.agents[agent].disk.outbox().view(stream) else {
            return;
        };
        match self.agents[agent]
            .disk
            .outbox()
            .end_stream(stream, Reason::Closed, self.now)
        {
            Ok(at) => {
                let header = Header {
                    kind: wavekeep_proto::chunk::ChunkKind::End,
                    reason: Reason::Closed,
                    first_seq: at.seq,
                    seq: at.seq,
                    first_sample: at.next_sample,
                    count: 0,
                    utc_ns: view.next_utc_ns,
                    markers: Vec::new(),
                    columns: Vec::new(),
                };
                let chunk = Chunk {
                    header,
                    digest: at.digest,
                    columns: Vec::new(),
                };
                self.stored(agent, source, view.tail, &chunk);
            }
            // It ended already, or goes on as a successor.
            Err(StoreError::Ended) => {}
            Err(error) => self
                .oracle
                .break_with(format!("an outbox does not end a stream: {error}")),
        }
    }

    fn take(&mut self, agent: usize, source: usize) {
        let place = &self.agents[agent].sources[source];
        let stream = place.definition.id;
        let chunk = match place.take(&mut self.random) {
            Portion::End => return self.end_stream(agent, source),
            Portion::Chunk(chunk) => chunk,
        };
        let Some(view) = self.agents[agent].disk.outbox().view(stream) else {
            // Ended, acked and forgotten, or diverged: an instrument goes on.
            return self.open_next(agent, source);
        };
        let tight = self.agents[agent].disk.is_tight(&chunk);
        let stored = self.agents[agent].disk.outbox().store(stream, chunk.clone(), self.now);
        self.take_outbox_alarms(agent, tight);
        self.watch_outbox(agent, None);
        match stored {
            Ok(at) => {
                let chunk = stored_chunk(chunk, at);
                self.agents[agent].sources[source].next_sample = at.next_sample;
                self.stored(agent, source, view.tail, &chunk);
            }
            Err(StoreError::Full { .. }) => self.counters.blocked_stores += 1,
            Err(StoreError::Ended) if self.agents[agent].sources[source].is_file() => {}
            Err(StoreError::Ended) => self.open_next(agent, source),
            // A file's position was taken over from the server: it is read again from there.
            Err(StoreError::Moved { next_sample }) => self.agents[agent].sources[source].next_sample = next_sample,
            Err(error) => self.oracle.break_with(format!("an outbox does not store: {error}")),
        }
    }

    fn stored(&mut self, agent: usize, source: usize, before: Position, chunk: &Chunk) {
        let definition = self.agents[agent].sources[source].definition.clone();
        log!(
            self,
            "agent {agent} captures {} {}",
            crate::log::stream(definition.id),
            crate::log::chunk(chunk)
        );
        self.counters.chunks_captured += 1;
        let before = (before.seq, before.next_sample, before.digest);
        self.oracle.captured(agent, &definition, before, chunk);
        let place = &mut self.agents[agent];
        place.stored_since_sync += 1;
        if place.stored_since_sync >= self.plan.sync_every {
            place.stored_since_sync = 0;
            if let Err(error) = place.disk.outbox().sync() {
                self.oracle.break_with(format!("an outbox does not sync: {error}"));
            }
        }
    }

    /// What an outbox tells people. `tight`: it has just been asked for more than there was room for.
    pub(crate) fn take_outbox_alarms(&mut self, agent: usize, tight: bool) {
        for alarm in self.agents[agent].disk.outbox().take_alarms() {
            log!(self, "agent {agent}: {alarm}");
            match alarm {
                OutboxAlarm::Evicted { stream, .. } => {
                    let gaps = self.agents[agent].disk.gaps(stream, Reason::Evicted);
                    for gap in gaps {
                        self.oracle.evicted(stream, gap, tight);
                    }
                }
                OutboxAlarm::Corrupt {
                    stream,
                    first_sample,
                    samples,
                } => self.oracle.corrupted(stream, (first_sample, first_sample + samples)),
                other => self
                    .oracle
                    .break_with(format!("an outbox says without a reason: {other}")),
            }
        }
    }

    /// Tells the oracle what left the outbox since the last look. `hold_back`: unless room was needed, only after that.
    pub(crate) fn watch_outbox(&mut self, agent: usize, hold_back: Option<Duration>) {
        let released = self.agents[agent].disk.outbox().counters().released_chunks;
        let same = std::mem::replace(&mut self.agents[agent].released_chunks, released) == released;
        // Looking reads what is held: of small chunks always, of large ones where the outbox itself says that some went.
        if same && self.plan.large {
            return;
        }
        let now_held = self.agents[agent].disk.held();
        let before = std::mem::replace(&mut self.agents[agent].held, now_held.clone());
        for (stream, (first_held, tail)) in before {
            let first_now = now_held.get(&stream).map_or(tail + 1, |(first_now, _)| *first_now);
            if first_now > first_held && !self.oracle.has_diverged(stream) && !self.is_file(agent, stream) {
                self.oracle
                    .released(self.now, agent, stream, (first_held, first_now - 1), hold_back);
            }
        }
    }

    fn is_file(&self, agent: usize, stream: StreamId) -> bool {
        self.agents[agent].files.iter().any(|file| file.definition.id == stream)
    }
}

/// As the outbox numbered and chained it.
fn stored_chunk(chunk: NewChunk, at: Position) -> Chunk {
    let header = Header {
        kind: chunk.kind,
        reason: chunk.reason,
        first_seq: at.seq,
        seq: at.seq,
        first_sample: chunk.first_sample,
        count: chunk.count,
        utc_ns: chunk.utc_ns,
        markers: chunk.markers,
        columns: chunk.columns,
    };
    Chunk {
        header,
        digest: at.digest,
        columns: chunk.data,
    }
}
