//! A stream with its chunks, a plain outbox, and an agent with the shell's part played by the test.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wavekeep_proto::chunk::{Chunk, ChunkKind, ColumnContent, ColumnHeader, Header, Position, Reason};
use wavekeep_proto::codec::Encoding;
use wavekeep_proto::frame::{Ack, AgentFrame, Opened, ServerFrame, Welcome};
use wavekeep_proto::hash;
use wavekeep_proto::id::{AgentId, Epoch, Hash, LedgerId, SessionId, StreamId};
use wavekeep_proto::limits;
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};
use wavekeep_proto::uplink::{Action, Alarm, Config, Held, LinkState, Outbox, StreamView, Uplink};

/// The ledger of every test.
pub(crate) const LEDGER: LedgerId = LedgerId([5; 16]);

/// `seconds` since the start.
pub(crate) const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A stream of bytes; a file where `file` is set.
pub(crate) fn definition(number: u8, file: bool) -> StreamDefinition {
    let signal = Signal {
        number: 0,
        name: "level".into(),
        sample_type: SampleType::U8,
        unit: String::new(),
        finite_only: false,
    };
    StreamDefinition {
        id: StreamId([number; 16]),
        device: "bench".into(),
        epoch: Epoch([number; 16]),
        file_identity: if file { vec![number] } else { Vec::new() },
        predecessor: None,
        rate_hz: 1_000.0,
        first_sample: 0,
        signals: vec![signal],
        attributes: BTreeMap::new(),
    }
}

/// A chunk of samples that follows `before`.
pub(crate) fn samples(before: &Position, count: u64, data_bytes: usize) -> Chunk {
    let content = ColumnContent::Present {
        encoding: Encoding::Plain,
        hash: Hash([7; 16]),
    };
    let header = Header {
        kind: ChunkKind::Samples,
        reason: Reason::None,
        first_seq: before.seq + 1,
        seq: before.seq + 1,
        first_sample: before.next_sample,
        count,
        utc_ns: 0,
        markers: Vec::new(),
        columns: vec![ColumnHeader { signal: 0, content }],
    };
    chained(before, header, vec![Bytes::from(vec![0; data_bytes])])
}

/// The digest is as an honest agent computes it.
pub(crate) fn chained(before: &Position, header: Header, columns: Vec<Bytes>) -> Chunk {
    let digest = hash::next_digest(before.digest, hash::chunk_hash(&header));
    Chunk {
        header,
        digest,
        columns,
    }
}

/// A gap or an end that follows `before`.
pub(crate) fn marked(before: &Position, kind: ChunkKind, reason: Reason, count: u64) -> Chunk {
    let mut header = samples(before, 1, 0).header;
    header.kind = kind;
    header.reason = reason;
    header.count = count;
    header.columns.clear();
    chained(before, header, Vec::new())
}

/// Where the stream stands after a chunk.
pub(crate) fn after(chunk: &Chunk) -> Position {
    Position::after(&chunk.header, chunk.digest)
}

#[derive(Debug, Clone)]
struct Stored {
    definition: Arc<StreamDefinition>,
    records: BTreeMap<u64, Held>,
    tail: Position,
    acked: u64,
    to_end: bool,
}

/// What a machine did to the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    Acked(u64),
    Adopted { seq: u64, discard: bool },
    Ended,
    Succeeded,
}

/// Keeps chunks in memory, and what was done to it.
#[derive(Debug, Default)]
pub(crate) struct Store {
    streams: RefCell<BTreeMap<StreamId, Stored>>,
    revision: RefCell<u64>,
    pub(crate) generation: RefCell<u64>,
    bound: RefCell<Option<LedgerId>>,
    deeds: RefCell<Vec<Deed>>,
}

impl Store {
    pub(crate) fn add(&self, definition: StreamDefinition) -> StreamId {
        let stored = Stored {
            tail: Position::start(&definition),
            definition: Arc::new(definition),
            records: BTreeMap::new(),
            acked: 0,
            to_end: false,
        };
        let id = stored.definition.id;
        self.streams.borrow_mut().insert(id, stored);
        *self.revision.borrow_mut() += 1;
        id
    }

    pub(crate) fn put(&self, stream: StreamId, chunk: Chunk) -> Position {
        let mut streams = self.streams.borrow_mut();
        let stored = streams.get_mut(&stream).unwrap();
        let digest_before = stored.tail.digest;
        stored.tail = after(&chunk);
        stored
            .records
            .insert(chunk.header.first_seq, Held { chunk, digest_before });
        stored.tail
    }

    /// Stores `count` chunks of ten samples.
    pub(crate) fn fill(&self, stream: StreamId, count: u64, data_bytes: usize) -> Vec<Position> {
        (0..count)
            .map(|_| self.put(stream, samples(&self.tail(stream).unwrap(), 10, data_bytes)))
            .collect()
    }

    /// Merges the records from `first_seq` to `last_seq` into a gap `evicted`.
    pub(crate) fn evict(&self, stream: StreamId, first_seq: u64, last_seq: u64) {
        let mut streams = self.streams.borrow_mut();
        let records = &mut streams.get_mut(&stream).unwrap().records;
        let run: Vec<Held> = (first_seq..=last_seq).filter_map(|seq| records.remove(&seq)).collect();
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let mut header = first.chunk.header.clone();
        header.kind = ChunkKind::Gap;
        header.reason = Reason::Evicted;
        header.columns.clear();
        header.seq = last_seq;
        header.count = last.chunk.header.end_sample() - header.first_sample;
        let gap = Chunk {
            header,
            digest: last.chunk.digest,
            columns: Vec::new(),
        };
        records.insert(
            first_seq,
            Held {
                chunk: gap,
                digest_before: first.digest_before,
            },
        );
    }

    /// Everything up to `seq` was acked and released.
    pub(crate) fn release(&self, stream: StreamId, seq: u64) {
        let mut streams = self.streams.borrow_mut();
        let stored = streams.get_mut(&stream).unwrap();
        stored.records.retain(|first_seq, _| *first_seq > seq);
        stored.acked = stored.acked.max(seq);
    }

    /// As if all up to here had been stored, and released.
    pub(crate) fn stand_at(&self, stream: StreamId, tail: Position) {
        self.streams.borrow_mut().get_mut(&stream).unwrap().tail = tail;
    }

    pub(crate) fn set_to_end(&self, stream: StreamId) {
        self.streams.borrow_mut().get_mut(&stream).unwrap().to_end = true;
    }

    pub(crate) fn set_tail_ended(&self, stream: StreamId, ended: bool) {
        self.streams.borrow_mut().get_mut(&stream).unwrap().tail.ended = ended;
    }

    pub(crate) fn take_deeds(&self) -> Vec<Deed> {
        self.deeds.take()
    }

    pub(crate) fn acked(&self, stream: StreamId) -> u64 {
        self.streams.borrow()[&stream].acked
    }
}

impl Outbox for Store {
    type Error = Infallible;

    fn agent_id(&self) -> AgentId {
        AgentId([3; 16])
    }
    fn ledger_id(&self) -> Option<LedgerId> {
        *self.bound.borrow()
    }
    fn bind(&self, ledger: LedgerId) -> Result<(), Infallible> {
        *self.bound.borrow_mut() = Some(ledger);
        Ok(())
    }
    fn generation(&self) -> u64 {
        *self.generation.borrow()
    }
    fn meet_generation(&self, generation: u64) -> Result<(), Infallible> {
        *self.generation.borrow_mut() = generation;
        Ok(())
    }
    fn revision(&self) -> u64 {
        *self.revision.borrow()
    }
    fn streams(&self) -> Vec<StreamId> {
        self.streams.borrow().keys().copied().collect()
    }
    fn view(&self, stream: StreamId) -> Option<StreamView> {
        let streams = self.streams.borrow();
        let stored = streams.get(&stream)?;
        Some(StreamView {
            definition: stored.definition.clone(),
            labels: BTreeMap::new(),
            run: String::new(),
            tail: stored.tail,
            next_utc_ns: 0,
            acked: stored.acked,
            to_end: stored.to_end,
            unacked_bytes: 0,
            oldest_unacked: None,
        })
    }
    fn tail(&self, stream: StreamId) -> Option<Position> {
        self.streams.borrow().get(&stream).map(|stored| stored.tail)
    }
    fn position_at(&self, stream: StreamId, seq: u64) -> Result<Option<Position>, Infallible> {
        let streams = self.streams.borrow();
        let stored = &streams[&stream];
        if seq == stored.tail.seq {
            return Ok(Some(stored.tail));
        }
        if seq == 0 {
            return Ok(Some(Position::start(&stored.definition)));
        }
        let ends = stored.records.values().find(|held| held.chunk.header.seq == seq);
        let starts = stored.records.get(&(seq + 1));
        Ok(ends.map(|held| after(&held.chunk)).or_else(|| {
            starts.map(|held| Position {
                seq,
                next_sample: held.chunk.header.first_sample,
                digest: held.digest_before,
                ended: false,
            })
        }))
    }
    fn next(&self, stream: StreamId, seq: u64) -> Result<Option<Held>, Infallible> {
        Ok(self.streams.borrow()[&stream]
            .records
            .values()
            .find(|held| held.chunk.header.seq > seq)
            .cloned())
    }
    fn set_acked(&self, stream: StreamId, seq: u64, _now: Duration) -> Result<(), Infallible> {
        self.streams.borrow_mut().get_mut(&stream).unwrap().acked = seq;
        self.deeds.borrow_mut().push(Deed::Acked(seq));
        Ok(())
    }
    fn adopt(&self, stream: StreamId, at: Position, discard: bool) -> Result<(), Infallible> {
        let mut streams = self.streams.borrow_mut();
        let stored = streams.get_mut(&stream).unwrap();
        stored.tail = at;
        stored.to_end = !at.ended && !stored.definition.is_file();
        if discard {
            stored.records.clear();
        }
        self.deeds.borrow_mut().push(Deed::Adopted { seq: at.seq, discard });
        Ok(())
    }
    fn end(&self, stream: StreamId) -> Result<(), Infallible> {
        let due = self.view(stream).is_some_and(|view| view.to_end && !view.tail.ended);
        if due {
            self.put(
                stream,
                marked(&self.tail(stream).unwrap(), ChunkKind::End, Reason::Crashed, 0),
            );
            self.deeds.borrow_mut().push(Deed::Ended);
        }
        Ok(())
    }
    fn succeed(&self, stream: StreamId) -> Result<StreamId, Infallible> {
        self.streams.borrow_mut().remove(&stream);
        *self.revision.borrow_mut() += 1;
        self.deeds.borrow_mut().push(Deed::Succeeded);
        Ok(StreamId([99; 16]))
    }
}

/// An uplink over a [`Store`]; the test is its shell, its link and its server.
pub(crate) struct Agent {
    pub(crate) uplink: Uplink,
    pub(crate) store: Store,
    pub(crate) now: Duration,
    /// What it said, since the test last looked.
    pub(crate) said: Vec<AgentFrame>,
    pub(crate) alarms: Vec<Alarm>,
    /// Why it ended sessions.
    pub(crate) ended: Vec<String>,
    /// When the samples that were acked had been taken.
    pub(crate) acked_utc_ns: Vec<i64>,
}

impl Agent {
    pub(crate) fn new(store: Store) -> Self {
        Self::limited(store, None)
    }

    /// One that may send so many bytes a second.
    pub(crate) fn limited(store: Store, upload_limit_bytes: Option<u64>) -> Self {
        let config = Config {
            agent: "test".into(),
            workspace: "main".into(),
            upload_limit_bytes,
            seed: 7,
        };
        let uplink = Uplink::new(config);
        Self {
            uplink,
            store,
            now: Duration::ZERO,
            said: Vec::new(),
            alarms: Vec::new(),
            ended: Vec::new(),
            acked_utc_ns: Vec::new(),
        }
    }

    /// Lets the machine do all that it wants to do now. A connection comes at once.
    pub(crate) fn pump(&mut self) {
        while let Some(action) = self.uplink.poll(self.now, &self.store).unwrap() {
            match action {
                Action::Connect => self.uplink.connected(self.now, &self.store),
                Action::Send(frame) => self.said.push(frame),
                Action::Disconnect { why } => self.ended.push(why),
                Action::Acked { end_utc_ns } => self.acked_utc_ns.push(end_utc_ns),
                Action::Alarm(alarm) => self.alarms.push(alarm),
            }
        }
    }

    pub(crate) fn hear(&mut self, frame: ServerFrame) {
        self.uplink.received(self.now, Ok(frame), &self.store).unwrap();
        self.pump();
    }

    /// Lets time pass, a second at a time.
    pub(crate) fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.pump();
        }
    }

    /// Connects and is welcomed with this window.
    pub(crate) fn begin(&mut self, window_bytes: u64) {
        while self.uplink.link_state() != LinkState::Connecting {
            self.wait(1);
        }
        self.hear(welcome(window_bytes));
        assert_eq!(self.uplink.link_state(), LinkState::Up);
    }

    /// The slot that it opened last for a stream.
    pub(crate) fn slot(&self, stream: StreamId) -> u32 {
        let slot = |frame: &AgentFrame| match frame {
            AgentFrame::Open(open) if open.definition.id == stream => Some(open.slot),
            _ => None,
        };
        self.said.iter().rev().find_map(slot).expect("it opened the stream")
    }

    /// Answers its last `Open` of a stream.
    pub(crate) fn open(&mut self, stream: StreamId, at: Position, row: Option<(u64, Hash)>) -> u32 {
        let slot = self.slot(stream);
        self.hear(ServerFrame::Opened(Opened { slot, at, row }));
        slot
    }

    pub(crate) fn ack(&mut self, slot: u32, at: &Position) {
        self.hear(ack(slot, at.seq, at.digest));
    }

    /// The chunks that it sent, since the test last looked.
    pub(crate) fn chunks(&mut self) -> Vec<(u32, Chunk)> {
        let all = std::mem::take(&mut self.said);
        let chunk = |frame: AgentFrame| match frame {
            AgentFrame::Chunk { slot, chunk } => Some((slot, chunk)),
            _ => None,
        };
        all.into_iter().filter_map(chunk).collect()
    }

    /// First and last seq of the chunks that it sent.
    pub(crate) fn seqs(&mut self) -> Vec<(u64, u64)> {
        self.chunks()
            .into_iter()
            .map(|(_, chunk)| (chunk.header.first_seq, chunk.header.seq))
            .collect()
    }
}

pub(crate) fn welcome(window_bytes: u64) -> ServerFrame {
    ServerFrame::Welcome(Welcome {
        version: limits::VERSION_MAX,
        window_bytes,
        ledger_id: LEDGER,
        chunk_bytes_max: limits::CHUNK_BYTES_MAX as u64,
        slots_max: limits::SLOTS_MAX,
        heartbeat_ms: limits::HEARTBEAT_MS,
        session_id: SessionId([1; 16]),
        generation: 0,
    })
}

pub(crate) fn ack(slot: u32, watermark: u64, digest: Hash) -> ServerFrame {
    ServerFrame::Ack(Ack {
        slot,
        watermark,
        digest,
        window_bytes: limits::WINDOW_BYTES_MIN,
    })
}

/// An agent with one live stream of `chunks` chunks, open at its start, all sent.
pub(crate) fn sending(chunks: u64) -> (Agent, u32, Vec<Position>) {
    let store = Store::default();
    let stream = store.add(definition(1, false));
    let positions = store.fill(stream, chunks, 10);
    let mut agent = Agent::new(store);
    agent.begin(limits::WINDOW_BYTES_MIN);
    let slot = agent.open(stream, Position::start(&definition(1, false)), None);
    assert_eq!(agent.seqs().len() as u64, chunks, "all of it is sent at once");
    agent.store.take_deeds();
    (agent, slot, positions)
}
