//! What the two sides of a session say to each other.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wavekeep_proto::chunk::{Chunk, Position};
use wavekeep_proto::frame::{AgentFrame, Opened, ServerFrame};
use wavekeep_proto::id::{Hash, StreamId};

use super::facts::Facts as _;
use super::{Oracle, hashes};

/// A slot, as the server treats it.
#[derive(Debug)]
pub(super) struct SlotState {
    stream: StreamId,
    accepted: (u64, u64, Hash),
    acknowledged: u64,
}

/// What an agent has in flight on a link, as far as it knows.
#[derive(Debug, Default)]
pub(super) struct Flight {
    window_bytes: u64,
    bytes: u64,
    slots: BTreeMap<u32, VecDeque<(u64, u64)>>,
    streams: BTreeMap<u32, StreamId>,
    /// The agent's highest of before, and the one that it was welcomed with.
    generations: (u64, u64),
}

impl Flight {
    fn land(&mut self, slot: u32, up_to: u64) {
        let Some(sent) = self.slots.get_mut(&slot) else { return };
        while let Some((_, bytes)) = sent.pop_front_if(|(seq, _)| *seq <= up_to) {
            self.bytes -= bytes;
        }
    }
}

/// What a chunk counts, by the specification of flow control.
fn flow_bytes(chunk: &Chunk) -> u64 {
    let columns: usize = chunk.columns.iter().map(bytes::Bytes::len).sum();
    let markers: usize = chunk
        .header
        .markers
        .iter()
        .map(|marker| marker.content.len() + 32)
        .sum();
    (columns + markers + 512) as u64
}

impl Oracle {
    /// A server says where a stream stands: it is an ack.
    pub(crate) fn says_opened(&mut self, branch: usize, link: usize, stream: StreamId, opened: &Opened) {
        let Opened { slot, at, .. } = *opened;
        let committed = self
            .places
            .get(&(branch, stream))
            .is_some_and(|place| place.seq >= at.seq);
        let known = committed && self.was_committed(stream, at.seq, at.digest);
        self.check(known, || {
            format!("I6: Opened names seq {} of {stream}, which is not committed", at.seq)
        });
        let state = SlotState {
            stream,
            accepted: (at.seq, at.next_sample, at.digest),
            acknowledged: at.seq,
        };
        self.slots.insert((link, slot), state);
    }

    /// A session takes a chunk.
    pub(crate) fn accepted(&mut self, link: usize, slot: u32, before: &Position, chunk: &Chunk) {
        let header = &chunk.header;
        let Some(state) = self.slots.get_mut(&(link, slot)) else {
            return self.break_with(format!("a chunk was accepted in slot {slot}, which is not open"));
        };
        let (seq, next_sample, digest) = state.accepted;
        state.accepted = (header.seq, header.first_sample + header.count, chunk.digest);
        let stream = state.stream;
        self.check(
            (before.seq, before.next_sample, before.digest) == (seq, next_sample, digest),
            || format!("I2: the session lost count of what it accepted of {stream}"),
        );
        let in_order = header.first_seq == seq + 1 && (header.first_seq == header.seq || header.replaces());
        self.check(in_order, || {
            format!("I1: seq {} of {stream} was accepted after {seq}", header.first_seq)
        });
        let tiles = header.first_sample == next_sample;
        self.check(tiles, || {
            format!(
                "I4: seq {} of {stream} was accepted at sample {}, not {next_sample}",
                header.seq, header.first_sample
            )
        });
        let chained = header.replaces() || hashes::digest(digest, hashes::chunk(header)) == chunk.digest;
        self.check(chained, || {
            format!("I14: seq {} of {stream} was accepted with another digest", header.seq)
        });
    }

    /// A server acknowledges.
    pub(crate) fn acknowledged(&mut self, branch: usize, link: usize, slot: u32, watermark: u64, digest: Hash) {
        let Some(state) = self.slots.get_mut(&(link, slot)) else {
            return self.break_with(format!("slot {slot} was acknowledged and is not open"));
        };
        let (stream, last) = (state.stream, state.acknowledged);
        state.acknowledged = watermark;
        self.check(watermark > last, || {
            format!("I6: acks of {stream} went from {last} to {watermark}")
        });
        let committed = self
            .places
            .get(&(branch, stream))
            .is_some_and(|place| place.seq >= watermark);
        let known = committed && self.was_committed(stream, watermark, digest);
        self.check(known, || {
            format!("I6: seq {watermark} of {stream} was acknowledged and is not committed")
        });
    }

    /// An agent sends.
    pub(crate) fn sends(&mut self, link: usize, frame: &AgentFrame) {
        let flight = self.flights.entry(link).or_default();
        match frame {
            AgentFrame::Open(open) => {
                flight.streams.insert(open.slot, open.definition.id);
                let (met, found) = flight.generations;
                self.check(found >= met, || {
                    format!("I7: a stream is opened at generation {found}, after {met} was met")
                });
            }
            AgentFrame::Chunk { slot, chunk } => {
                let bytes = flow_bytes(chunk);
                flight.bytes += bytes;
                flight
                    .slots
                    .entry(*slot)
                    .or_default()
                    .push_back((chunk.header.seq, bytes));
                let (in_flight, window) = (flight.bytes, flight.window_bytes);
                self.check(in_flight <= window, || {
                    format!("I3: {in_flight} bytes are in flight, the window has {window}")
                });
            }
            AgentFrame::Hello(_) | AgentFrame::Heartbeat(_) => {}
        }
    }

    /// Which stream an agent opened in a slot.
    pub(crate) fn stream_of_slot(&self, link: usize, slot: u32) -> Option<StreamId> {
        self.flights.get(&link)?.streams.get(&slot).copied()
    }

    /// A frame reaches an agent.
    pub(crate) fn reaches_agent(&mut self, now: Duration, agent: usize, link: usize, frame: &ServerFrame) {
        let flight = self.flights.entry(link).or_default();
        match frame {
            ServerFrame::Welcome(welcome) => {
                flight.window_bytes = welcome.window_bytes;
                let met = self.generations.entry(agent).or_default();
                flight.generations = (*met, welcome.generation);
                *met = welcome.generation.max(*met);
            }
            ServerFrame::Heartbeat { window_bytes } => flight.window_bytes = *window_bytes,
            ServerFrame::Refused(refused) => flight.land(refused.slot, u64::MAX),
            ServerFrame::Ack(ack) => {
                flight.window_bytes = ack.window_bytes;
                flight.land(ack.slot, ack.watermark);
                let stream = flight.streams.get(&ack.slot).copied();
                if let Some(stream) = stream.filter(|stream| self.was_committed(*stream, ack.watermark, ack.digest)) {
                    self.tell(now, agent, stream, ack.watermark);
                }
            }
            ServerFrame::Opened(opened) => {
                if let Some(stream) = flight.streams.get(&opened.slot).copied() {
                    let told = self.told.entry((agent, stream)).or_default();
                    told.retain(|seq, _| *seq <= opened.at.seq);
                    self.tell(now, agent, stream, opened.at.seq);
                }
            }
            ServerFrame::Goaway { .. } => {}
        }
    }

    /// On a real connection an agent hears where a stream stands: it is an ack. `tampered`: bits of the connection may have flipped.
    pub(crate) fn hears_opened(
        &mut self,
        now: Duration,
        agent: usize,
        stream: StreamId,
        at: (u64, Hash),
        tampered: bool,
    ) {
        let told = self.told.entry((agent, stream)).or_default();
        let before = told.last_key_value().map_or(0, |(seq, _)| *seq);
        told.retain(|seq, _| *seq <= at.0);
        self.alarms.rewinds += u64::from(before > at.0);
        self.check(before <= at.0 || self.losses > 0 || tampered, || {
            format!(
                "I6: no commit was ever lost, and yet {stream} is back at {} after {before}",
                at.0
            )
        });
        self.hears_ack(now, agent, stream, at, tampered);
    }

    /// And an ack.
    pub(crate) fn hears_ack(&mut self, now: Duration, agent: usize, stream: StreamId, at: (u64, Hash), tampered: bool) {
        let (seq, digest) = at;
        let known = self.was_committed(stream, seq, digest);
        self.check(known || tampered, || {
            format!("I6: seq {seq} of {stream} was acknowledged and never committed")
        });
        if known {
            self.tell(now, agent, stream, seq);
        }
    }

    fn tell(&mut self, now: Duration, agent: usize, stream: StreamId, seq: u64) {
        self.told.entry((agent, stream)).or_default().entry(seq).or_insert(now);
        let once = self.told_once.entry((agent, stream)).or_default();
        *once = seq.max(*once);
    }
}
