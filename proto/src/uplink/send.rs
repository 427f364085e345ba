//! What to send next: `Open` for streams without a slot, heartbeats, and chunks round robin within window and pace.
//!
//! Chunks come from the outbox as they are held, with two exceptions: what is no longer held becomes a *jump gap*, and if
//! the watermark lies inside a replacing gap, only the remainder of that gap is sent.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::slot::{InFlight, Pending, Slot, State};
use super::{Action, Alarm, Link, Outbox, Session, StreamState, StreamView, Uplink};
use crate::chunk::{Chunk, ChunkKind, Header, Position, Reason};
use crate::frame::{AgentFrame, Open, SlotStatus};
use crate::id::StreamId;
use crate::limits;
use crate::stream::StreamDefinition;

impl Uplink {
    pub(super) fn poll_session<O: Outbox>(&mut self, now: Duration, outbox: &O) -> Result<Option<Action>, O::Error> {
        self.refresh_streams(outbox);
        if let Some(open) = self.next_open(now, outbox) {
            return Ok(Some(Action::Send(AgentFrame::Open(open))));
        }
        if let Some(heartbeat) = self.next_heartbeat(now, outbox) {
            return Ok(Some(Action::Send(heartbeat)));
        }
        let chunk = self.next_chunk(now, outbox)?;
        // Reading may have found a loss, which people should hear of first.
        Ok(chunk.map(Action::Send))
    }

    /// The agent opens every stream of which it holds anything, in every session (rule 7).
    fn refresh_streams<O: Outbox>(&mut self, outbox: &O) {
        let revision = outbox.revision();
        if self.revision == Some(revision) {
            return;
        }
        self.revision = Some(revision);
        let held: BTreeSet<StreamId> = outbox.streams().into_iter().collect();
        self.streams.retain(|stream, _| held.contains(stream));
        for stream in held {
            let new = || StreamState {
                has_news: true,
                ..StreamState::default()
            };
            self.streams.entry(stream).or_insert_with(new);
        }
    }

    /// What was captured and not acked comes first: an outbox holds back hundreds of streams that have ended, and where sessions are
    /// short or the database is slow, those would take up all of the time.
    fn next_open<O: Outbox>(&mut self, now: Duration, outbox: &O) -> Option<Open> {
        let Link::Up(session) = &mut self.link else { return None };
        let room = session.slots.len() < session.slots_max as usize && session.opening() < limits::OPENS_MAX;
        if session.goaway.is_some() || !room {
            return None;
        }
        let find = |has_news: bool| {
            let due =
                move |state: &StreamState| state.slot.is_none() && now >= state.open_at && state.has_news == has_news;
            let mut due = self.streams.iter().filter(move |(_, state)| due(state));
            due.find_map(|(stream, _)| outbox.view(*stream).map(|view| (*stream, view)))
        };
        let (stream, view) = find(true).or_else(|| find(false))?;
        let state = self.streams.get_mut(&stream)?;
        session.last_slot += 1;
        let slot = session.last_slot;
        state.slot = Some(slot);
        session.await_answer(now, session.in_flight_bytes);
        let opening = State::Opening {
            stored_seq: view.tail.seq,
        };
        session.slots.insert(slot, Slot { stream, state: opening });
        Some(Open {
            slot,
            definition: view.definition,
            stored_seq: view.tail.seq,
            labels: view.labels,
            run: view.run,
        })
    }

    fn next_heartbeat<O: Outbox>(&mut self, now: Duration, outbox: &O) -> Option<AgentFrame> {
        let Link::Up(session) = &mut self.link else { return None };
        if now < session.last_heartbeat + session.heartbeat {
            return None;
        }
        session.last_heartbeat = now;
        let status = |(number, slot): (&u32, &Slot)| {
            let view = outbox.view(slot.stream).filter(|_| slot.is_open())?;
            let age = view
                .oldest_unacked
                .map_or(Duration::ZERO, |stored| now.saturating_sub(stored));
            Some(SlotStatus {
                slot: *number,
                stored_seq: view.tail.seq,
                next_sample: view.tail.next_sample,
                outbox_bytes: view.unacked_bytes,
                oldest_unacked_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            })
        };
        Some(AgentFrame::Heartbeat(session.slots.iter().filter_map(status).collect()))
    }

    fn next_chunk<O: Outbox>(&mut self, now: Duration, outbox: &O) -> Result<Option<AgentFrame>, O::Error> {
        let Link::Up(session) = &mut self.link else {
            return Ok(None);
        };
        if session.goaway.is_some() {
            return Ok(None);
        }
        if session.pending.is_none() {
            session.pending = read_next(session, outbox, &mut self.alarms)?;
        }
        let Some(pending) = &session.pending else {
            return Ok(None);
        };
        let fits = session.in_flight_bytes + pending.chunk.flow_bytes() <= session.window_bytes;
        if !fits || !self.pace.allows(now) {
            return Ok(None);
        }
        let Some(pending) = session.pending.take() else {
            return Ok(None);
        };
        self.pace.spend(now, pending.chunk.flow_bytes());
        session.sent(now, &pending);
        let Pending { slot, chunk, .. } = pending;
        Ok(Some(AgentFrame::Chunk { slot, chunk }))
    }
}

impl Session {
    /// How many `Open`s are not answered yet.
    pub(super) fn opening(&self) -> usize {
        self.slots.values().filter(|slot| !slot.is_open()).count()
    }

    /// An `Open` goes out behind these bytes, or one of several was answered.
    pub(super) fn await_answer(&mut self, now: Duration, bytes_before: u64) {
        let wait_ms = limits::ANSWER_MS + limits::link_ms(bytes_before);
        self.answer_by = self.answer_by.max(now + Duration::from_millis(wait_ms));
    }

    fn sent(&mut self, now: Duration, pending: &Pending) {
        let chunk = &pending.chunk;
        let slot = self
            .slots
            .get_mut(&pending.slot)
            .expect("a pending chunk is dropped with its slot");
        let State::Open { sent, in_flight, .. } = &mut slot.state else {
            unreachable!("a pending chunk is dropped when its slot closes")
        };
        assert_eq!(chunk.header.first_seq, sent.seq + 1, "I2: sent moves without a hole");
        assert_eq!(chunk.header.first_sample, sent.next_sample, "I4: what is sent tiles");
        let bytes = chunk.flow_bytes();
        if self.in_flight_bytes == 0 {
            self.last_progress = now;
        }
        self.in_flight_bytes += bytes;
        assert!(
            self.in_flight_bytes <= self.window_bytes,
            "I3: sending never passes the window"
        );
        *sent = Position::after(&chunk.header, chunk.digest);
        in_flight.push_back(InFlight {
            seq: chunk.header.seq,
            digest: chunk.digest,
            bytes,
            end_utc_ns: pending.end_utc_ns,
        });
    }
}

/// The next chunk of the slot whose turn it is.
fn read_next<O: Outbox>(
    session: &mut Session,
    outbox: &O,
    alarms: &mut VecDeque<Alarm>,
) -> Result<Option<Pending>, O::Error> {
    let turn = session.turn;
    let later = session.slots.range(turn + 1..);
    for (number, slot) in later.chain(session.slots.range(..=turn)) {
        let State::Open { sent, .. } = &slot.state else {
            continue;
        };
        let Some(view) = outbox
            .tail(slot.stream)
            .filter(|tail| tail.seq > sent.seq)
            .and_then(|_| outbox.view(slot.stream))
        else {
            continue;
        };
        let chunk = chunk_after(slot.stream, &view, *sent, outbox, alarms)?;
        session.turn = *number;
        return Ok(Some(Pending {
            slot: *number,
            end_utc_ns: end_utc_ns(&chunk.header, &view.definition),
            chunk,
        }));
    }
    Ok(None)
}

/// What follows `sent` on the stream: the held chunk, the rest of a replacing gap, or a jump gap up to what is held.
fn chunk_after<O: Outbox>(
    stream: StreamId,
    view: &StreamView,
    sent: Position,
    outbox: &O,
    alarms: &mut VecDeque<Alarm>,
) -> Result<Chunk, O::Error> {
    let Some(held) = outbox.next(stream, sent.seq)? else {
        let gap = jump_gap(stream, sent, view.tail, view.next_utc_ns, &view.definition, alarms);
        return Ok(gap);
    };
    let mut chunk = held.chunk;
    if chunk.header.first_seq > sent.seq + 1 {
        let to = Position {
            seq: chunk.header.first_seq - 1,
            next_sample: chunk.header.first_sample,
            digest: held.digest_before,
            ended: false,
        };
        let to_utc_ns = chunk.header.utc_ns;
        return Ok(jump_gap(stream, sent, to, to_utc_ns, &view.definition, alarms));
    }
    if chunk.header.first_seq <= sent.seq {
        assert!(
            chunk.header.is_replacing(),
            "I4: only a replacing gap stands for several seqs"
        );
        cut(&mut chunk.header, sent, &view.definition);
    }
    Ok(chunk)
}

fn end_utc_ns(header: &Header, definition: &StreamDefinition) -> Option<i64> {
    let live = header.kind == ChunkKind::Samples && !definition.is_file();
    live.then(|| header.utc_ns.saturating_add(definition.duration_ns(header.count)))
}

/// What neither side holds any more, from where the server stands to `to`, which is at `to_utc_ns`.
fn jump_gap(
    stream: StreamId,
    from: Position,
    to: Position,
    to_utc_ns: i64,
    definition: &StreamDefinition,
    alarms: &mut VecDeque<Alarm>,
) -> Chunk {
    let count = to.next_sample.saturating_sub(from.next_sample);
    let reason = Reason::LostByServer;
    alarms.push_back(Alarm::Lost {
        stream,
        first_sample: from.next_sample,
        count,
        reason,
    });
    let header = Header {
        kind: ChunkKind::Gap,
        reason,
        first_seq: from.seq + 1,
        seq: to.seq,
        first_sample: from.next_sample,
        count,
        utc_ns: to_utc_ns.saturating_sub(definition.duration_ns(count)),
        markers: Vec::new(),
        columns: Vec::new(),
    };
    Chunk {
        header,
        digest: to.digest,
        columns: Vec::new(),
    }
}

/// Cuts a replacing gap down to what lies after `sent`: the same seq and digest.
fn cut(header: &mut Header, sent: Position, definition: &StreamDefinition) {
    let end = header.end_sample();
    let gone = sent.next_sample.saturating_sub(header.first_sample);
    header.utc_ns = header.utc_ns.saturating_add(definition.duration_ns(gone));
    header.first_seq = sent.seq + 1;
    header.first_sample = sent.next_sample;
    header.count = end.saturating_sub(sent.next_sample);
    header.markers.retain(|marker| marker.sample >= sent.next_sample);
}

impl Uplink {
    /// Drops a slot: its frames are ignored from now on, its bytes no longer count, and its stream opens again at `open_at`.
    pub(super) fn close_slot(&mut self, number: u32, open_at: Duration) -> Option<StreamId> {
        let Link::Up(session) = &mut self.link else { return None };
        let Slot { stream, state } = session.slots.remove(&number)?;
        if let State::Open { in_flight, .. } = state {
            session.in_flight_bytes -= in_flight.iter().map(|sent| sent.bytes).sum::<u64>();
        }
        session.pending.take_if(|pending| pending.slot == number);
        if let Some(state) = self.streams.get_mut(&stream).filter(|state| state.slot == Some(number)) {
            state.slot = None;
            state.open_at = open_at;
        }
        Some(stream)
    }
}
