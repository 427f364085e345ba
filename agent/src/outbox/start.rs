//! Opening an outbox: its version, its identity, and of each stream its definition and its state. Nothing is read per chunk, so
//! that a million of them cost nothing here. Then what the last process left undone: live streams of sources that are gone are
//! to be ended, successions are finished.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use wavekeep_proto::chunk::{Position, Reason};
use wavekeep_proto::id::{AgentId, StreamId};
use wavekeep_proto::limits::SEQ_MAX;

use super::durability::Syncer;
use super::kv::{Batch, Kv, KvError};
use super::record::{self, Acked, Described, FORMAT_VERSION, Identity, Mark, State};
use super::store::put_described;
use super::table::{Stream, Table};
use super::{Counters, Durability, Options, Outbox, OutboxAlarm, OutboxError, Writer, find, keys};

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StartReport {
    /// It is new: nothing was there.
    pub created: bool,
    /// Streams of which anything is held.
    pub streams: u64,
    /// Live streams whose source is gone: the uplink writes their `end`.
    pub to_end: u64,
    /// Bytes held.
    pub held_bytes: u64,
}

/// What was read, before anything is changed.
struct Loaded {
    table: Table,
    report: StartReport,
    alarms: VecDeque<OutboxAlarm>,
    /// States that had to be put together again.
    rebuilt: Vec<StreamId>,
}

impl<K: Kv> Outbox<K> {
    /// Opens it for a process that is about to capture, at `now` on its monotonic clock.
    pub fn open(kv: Arc<K>, options: Options, now: Duration) -> Result<(Self, StartReport), OutboxError> {
        let mut loaded = load(&*kv, Some(&options), now)?;
        let rebuilt = std::mem::take(&mut loaded.rebuilt);
        let mut report = loaded.report.clone();
        let durability = options.durability;
        let outbox = Self::from_loaded(kv, options, loaded);
        outbox.copy_definitions()?;
        report.to_end = outbox.mark_gone_sources(&rebuilt)?;
        outbox.finish_successions()?;
        if let Durability::Interval(interval) = durability {
            let syncer = Syncer::spawn(Arc::clone(&outbox.kv), Arc::clone(&outbox.dirty), interval)
                .map_err(|error| KvError::Failed(format!("no thread can be started: {error}")))?;
            *super::lock(&outbox.syncer) = Some(syncer);
        }
        Ok((outbox, report))
    }

    /// Opens it to look at: nothing is written, and nothing must be done with it that writes.
    pub fn inspect(kv: Arc<K>) -> Result<Self, OutboxError> {
        let loaded = load(&*kv, None, Duration::ZERO)?;
        Ok(Self::from_loaded(kv, Options::default(), loaded))
    }

    fn from_loaded(kv: Arc<K>, options: Options, loaded: Loaded) -> Self {
        Self {
            kv,
            options,
            reclaiming: Mutex::default(),
            writer: Mutex::new(Writer::default()),
            table: Mutex::new(loaded.table),
            changed: Condvar::new(),
            revision: AtomicU64::new(1),
            relabelled: AtomicU64::new(0),
            on_change: Mutex::default(),
            alarms: Mutex::new(loaded.alarms),
            dirty: Arc::new(AtomicBool::new(false)),
            syncer: Mutex::default(),
        }
    }

    /// An outbox from before there were copies gets them; the version's says that all are there.
    fn copy_definitions(&self) -> Result<(), OutboxError> {
        if read(&*self.kv, &keys::VERSION_COPY, record::version_from_value)?.is_some() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for stream in self.table().streams.values() {
            let described = Described {
                definition: (*stream.definition).clone(),
                labels: stream.labels.clone(),
                run: stream.run.clone(),
            };
            put_described(&mut batch, &described);
        }
        batch.put(
            keys::VERSION_COPY,
            record::version_to_value(&keys::VERSION_COPY, FORMAT_VERSION),
        );
        Ok(self.kv.write(batch, true)?)
    }

    /// The live streams of the last process: their sources are gone. (A file's stream ends only after its last sample.)
    fn mark_gone_sources(&self, rebuilt: &[StreamId]) -> Result<u64, OutboxError> {
        let mut changed = BTreeMap::new();
        for (id, stream) in &self.table().streams {
            let mut state = stream.state.clone();
            if stream.takes_more() && !stream.definition.is_file() {
                state.to_end = Some(Reason::Crashed);
            }
            if state != stream.state || rebuilt.contains(id) {
                changed.insert(*id, state);
            }
        }
        let to_end = changed.values().filter(|state| state.to_end.is_some()).count();
        if !changed.is_empty() {
            let changed: Vec<_> = changed.iter().map(|(id, state)| (*id, state)).collect();
            self.commit(Batch::default(), &changed, false)?;
        }
        Ok(to_end as u64)
    }
}

fn load<K: Kv>(kv: &K, create: Option<&Options>, now: Duration) -> Result<Loaded, OutboxError> {
    let (identity, created) = load_identity(kv, create)?;
    let table = Table {
        identity,
        streams: BTreeMap::new(),
        ordinal: 0,
        counters: Counters::default(),
        now,
    };
    let report = StartReport {
        created,
        ..StartReport::default()
    };
    let mut loaded = Loaded {
        table,
        report,
        alarms: VecDeque::new(),
        rebuilt: Vec::new(),
    };
    let described = load_described(kv)?;
    for (id, described) in described {
        match described {
            Some(described) => loaded.add(kv, id, described, now)?,
            None => loaded.alarm(OutboxAlarm::DefinitionLost(id)),
        }
    }
    loaded.forget_lost_successors();
    loaded.report.streams = loaded.table.streams.len() as u64;
    loaded.report.held_bytes = loaded.table.held_bytes();
    Ok(loaded)
}

/// What each stream is; `None` where that is lost. The copies count where the first ones cannot be read.
pub(super) fn load_described<K: Kv>(kv: &K) -> Result<BTreeMap<StreamId, Option<Described>>, OutboxError> {
    let mut described = BTreeMap::new();
    let of = |id: StreamId, key: &[u8], value: &[u8]| {
        Described::from_value(key, value).filter(|described| described.definition.id == id)
    };
    let scanned = kv.scan(&keys::DEFINITIONS_FROM, &keys::DEFINITIONS_END, &mut |key, value| {
        described.extend(keys::stream_of_definition(key).map(|id| (id, of(id, key, value))));
        true
    });
    let unread = match scanned {
        Err(KvError::Damaged(_)) if read(kv, &keys::VERSION_COPY, record::version_from_value)?.is_some() => true,
        other => other.map(|()| false)?,
    };
    let states = kv.scan(&keys::STATES_FROM, &keys::STATES_END, &mut |key, _| {
        if let Some(id) = keys::stream_of_state(key) {
            described.entry(id).or_insert(None);
        }
        true
    });
    match states {
        // Only for streams without a definition, and told by what is left of them.
        Ok(()) | Err(KvError::Damaged(_)) => {}
        Err(error) => return Err(error.into()),
    }
    if unread || described.values().any(Option::is_none) {
        let (from, end) = (keys::DEFINITION_COPIES_FROM, keys::DEFINITION_COPIES_END);
        let copies = kv.scan(&from, &end, &mut |key, value| {
            if let Some(id) = keys::stream_of_definition_copy(key)
                && (unread || described.contains_key(&id))
            {
                let known = described.entry(id).or_insert(None);
                *known = known.take().or_else(|| of(id, key, value));
            }
            true
        });
        match copies {
            Err(KvError::Damaged(_)) if !unread => {}
            other => other?,
        }
    }
    Ok(described)
}

impl Loaded {
    fn alarm(&mut self, alarm: OutboxAlarm) {
        self.table.counters.alarms += 1;
        self.alarms.push_back(alarm);
    }

    /// Of a successor that cannot be read nothing can go on: what has not moved there diverges again.
    fn forget_lost_successors(&mut self) {
        let streams = &mut self.table.streams;
        let moving: Vec<_> = streams
            .iter()
            .filter_map(|(id, stream)| Some((*id, stream.state.successor?)))
            .collect();
        for (stream, successor) in moving {
            if !streams.contains_key(&successor)
                && let Some(stream) = streams.get_mut(&stream)
            {
                stream.state.successor = None;
            }
        }
    }

    fn add<K: Kv>(&mut self, kv: &K, id: StreamId, described: Described, now: Duration) -> Result<(), OutboxError> {
        let key = keys::state(id);
        let stored = match kv.get(&key) {
            Ok(value) => value.and_then(|value| State::from_value(&key, &value)),
            Err(KvError::Damaged(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let (state, acked) = match stored {
            Some(stored) => stored,
            None => {
                self.alarm(OutboxAlarm::StateRebuilt(id));
                self.rebuilt.push(id);
                (rebuild(kv, &described)?, Acked::default())
            }
        };
        let tail = state.tail.at.seq;
        // The hint may be from a later batch than what a damaged log left.
        let acked = Acked {
            seq: acked.seq.min(tail),
            total_bytes: acked.total_bytes.min(state.stored_total_bytes),
        };
        self.table.ordinal = self.table.ordinal.max(state.ordinal);
        let base = state.base.at.seq;
        let mut stream = Stream::new(
            Arc::new(described.definition),
            described.labels,
            described.run,
            state,
            acked,
        );
        // The hold-back begins when a server says where it stands (I5): the hint may be older than a rewind.
        stream.stores.stored(now, base + 1);
        self.table.streams.insert(id, stream);
        Ok(())
    }
}

/// A stream's state, from its records.
fn rebuild<K: Kv>(kv: &K, described: &Described) -> Result<State, OutboxError> {
    let definition = &described.definition;
    let start = Mark {
        at: Position::start(definition),
        next_utc_ns: 0,
    };
    let mut state = State::new(start, 0);
    // Where nothing is unreadable, what is not there was released; else it may be lost, and is named when it is missed.
    let (from, end) = (keys::chunk(definition.id, 0), keys::chunk(definition.id, SEQ_MAX));
    let start_is_known = !matches!(kv.first(&from, &end), Err(KvError::Damaged(_)));
    let mut next = 0;
    loop {
        let found = find::some(kv, definition.id, next, SEQ_MAX)?;
        let Some(last) = found.last() else { return Ok(state) };
        if next == 0
            && start_is_known
            && let Some(first) = found.first()
        {
            state.base = first.record.start();
        }
        next = last.record.header.seq + 1;
        state.tail = last.record.end(definition);
        state.stored_total_bytes = last.record.total_bytes;
        state.ordinal = last.record.ordinal;
        state.held_bytes += found.iter().map(|found| found.cost_bytes).sum::<u64>();
    }
}

/// `None` if there is no value, or a bad one.
fn read<K: Kv, T>(kv: &K, key: &[u8], parse: impl FnOnce(&[u8], &[u8]) -> Option<T>) -> Result<Option<T>, OutboxError> {
    match kv.get(key) {
        Ok(value) => Ok(value.and_then(|value| parse(key, &value))),
        Err(KvError::Damaged(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Is any definition readable?
fn has_streams<K: Kv>(kv: &K) -> Result<bool, OutboxError> {
    let mut found = false;
    let scanned = kv.scan(&keys::DEFINITIONS_FROM, &keys::DEFINITIONS_END, &mut |key, value| {
        found |= Described::from_value(key, value).is_some();
        !found
    });
    match scanned {
        Ok(()) | Err(KvError::Damaged(_)) => Ok(found),
        Err(error) => Err(error.into()),
    }
}

fn load_identity<K: Kv>(kv: &K, create: Option<&Options>) -> Result<(Identity, bool), OutboxError> {
    let version = match read(kv, &keys::VERSION, record::version_from_value)? {
        Some(version) => Some(version),
        None => read(kv, &keys::VERSION_COPY, record::version_from_value)?,
    };
    match version {
        Some(found) if found > FORMAT_VERSION => {
            return Err(OutboxError::Newer {
                found,
                known: FORMAT_VERSION,
            });
        }
        Some(FORMAT_VERSION) => {}
        Some(_) => return Err(OutboxError::Broken("its format version is 0")),
        None => {
            let empty = matches!(kv.first(&keys::ALL_FROM, &keys::ALL_END), Ok(None));
            return match create {
                Some(options) if empty => create_identity(kv, options),
                _ if empty => Err(OutboxError::Broken("it is empty")),
                // To look at what else there is.
                None if has_streams(kv)? => Ok((Identity::lost(), false)),
                _ => Err(OutboxError::Broken("it has no format version")),
            };
        }
    }
    let identity = read(kv, &keys::IDENTITY, Identity::from_value)?;
    let identity = match identity {
        Some(identity) => Some(identity),
        None => read(kv, &keys::IDENTITY_COPY, Identity::from_value)?,
    };
    let identity = identity.or_else(|| create.is_none().then(Identity::lost));
    Ok((identity.ok_or(OutboxError::Broken("its identity is damaged"))?, false))
}

fn create_identity<K: Kv>(kv: &K, options: &Options) -> Result<(Identity, bool), OutboxError> {
    let identity = Identity {
        agent_id: AgentId((options.random)()?),
        ledger_id: None,
        generation: 0,
    };
    let mut batch = Batch::default();
    batch.put(keys::VERSION, record::version_to_value(&keys::VERSION, FORMAT_VERSION));
    batch.put(
        keys::VERSION_COPY,
        record::version_to_value(&keys::VERSION_COPY, FORMAT_VERSION),
    );
    batch.put(keys::IDENTITY, identity.to_value(&keys::IDENTITY));
    batch.put(keys::IDENTITY_COPY, identity.to_value(&keys::IDENTITY_COPY));
    kv.write(batch, true)?;
    Ok((identity, true))
}
