//! A ledger in memory that fails as it is told.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use wavekeep_proto::chunk::Position;
use wavekeep_proto::hash;
use wavekeep_proto::id::{Hash, LedgerId, Owner, StreamId};

use crate::ledger::{CommitError, Entry, Ledger, OpenError, OpenRequest, OpenedRow, Report, Row};

/// What the next commit does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is a later one's turn.
    Pass,
    /// The answer to COMMIT is lost; the rows are stored or not.
    Ambiguous { stored: bool },
    /// Rolled back.
    Unavailable,
    /// Our own mistake, somewhere under the ledger.
    Panic,
}

#[derive(Debug, Clone)]
pub struct Stream {
    pub at: Position,
    pub owner: Owner,
    pub definition_hash: Hash,
    pub rows: Vec<Row>,
}

#[derive(Debug, Default)]
pub struct State {
    pub streams: HashMap<StreamId, Stream>,
    /// Every commit that was asked for: stream and number of rows of each entry.
    pub commits: Vec<Vec<(StreamId, usize)>>,
    pub faults: VecDeque<Fault>,
    /// Rows with these digests are refused as bad data, until they are quarantined.
    pub bad: HashSet<Hash>,
    /// And these also then.
    pub worse: HashSet<Hash>,
    pub opens_fail: bool,
    /// Opens of these streams alone fail.
    pub locked: HashSet<StreamId>,
    pub misfits: HashSet<StreamId>,
    /// All that agents said: their names, and of which streams.
    pub reports: Vec<(String, Vec<Report>)>,
}

pub struct ModelLedger {
    pub ledger_id: LedgerId,
    state: Mutex<State>,
    held: watch::Sender<bool>,
}

impl ModelLedger {
    pub fn new() -> Self {
        Self {
            ledger_id: LedgerId([0x1d; 16]),
            state: Mutex::default(),
            held: watch::Sender::new(false),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While held, no commit goes on.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    pub fn stream(&self, id: StreamId) -> Stream {
        self.state().streams[&id].clone()
    }

    /// Takes the row as another session would.
    pub fn steal(&self, id: StreamId) {
        let mut state = self.state();
        let stream = state.streams.get_mut(&id).expect("it was opened");
        stream.owner = Owner([0xee; 16]);
    }
}

fn store(state: &mut State, entries: &[Entry]) -> Vec<bool> {
    let store = |entry: &Entry| {
        let Some(stream) = state.streams.get_mut(&entry.stream) else {
            return false;
        };
        let moved = stream.owner == entry.owner && stream.at == entry.before && !stream.at.ended;
        if moved {
            stream.at = entry.after;
            stream.rows.extend(entry.rows.iter().cloned());
        }
        moved
    };
    entries.iter().map(store).collect()
}

impl Ledger for ModelLedger {
    async fn ledger_id(&self, workspace: &str) -> Result<LedgerId, OpenError> {
        if workspace == "main" {
            Ok(self.ledger_id)
        } else {
            Err(OpenError::UnknownWorkspace(workspace.into()))
        }
    }

    async fn open(&self, _workspace: &str, request: OpenRequest) -> Result<OpenedRow, OpenError> {
        let mut state = self.state();
        if state.opens_fail {
            return Err(OpenError::Unavailable("the model says so".into()));
        }
        let id = request.definition.id;
        if state.locked.contains(&id) {
            return Err(OpenError::Locked("the model says so".into()));
        }
        if state.misfits.contains(&id) {
            return Err(OpenError::BadData("the model says so".into()));
        }
        let definition_hash = hash::definition_hash(&request.definition);
        let stream = state.streams.entry(id).or_insert_with(|| Stream {
            at: Position::start(&request.definition),
            owner: request.owner,
            definition_hash,
            rows: Vec::new(),
        });
        if stream.definition_hash != definition_hash {
            return Err(OpenError::DefinitionMismatch(id));
        }
        stream.owner = request.owner;
        let ahead = stream.at.seq > request.stored_seq;
        let known = stream
            .rows
            .iter()
            .rfind(|row| ahead && row.chunk.header.seq <= request.stored_seq);
        Ok(OpenedRow {
            at: stream.at,
            row: known.map(|row| (row.chunk.header.seq, row.chunk.digest)),
        })
    }

    async fn report(&self, _workspace: &str, agent: &str, reports: &[Report]) -> Result<(), OpenError> {
        self.state().reports.push((agent.into(), reports.to_vec()));
        Ok(())
    }

    async fn commit(&self, _workspace: &str, entries: &[Entry]) -> Result<Vec<bool>, CommitError> {
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held).await.expect("the model lives");
        let mut state = self.state();
        let asked = entries.iter().map(|entry| (entry.stream, entry.rows.len()));
        state.commits.push(asked.collect());
        match state.faults.pop_front() {
            Some(Fault::Ambiguous { stored }) => {
                if stored {
                    store(&mut state, entries);
                }
                return Err(CommitError::Ambiguous("the model lost the answer".into()));
            }
            Some(Fault::Unavailable) => return Err(CommitError::Unavailable("the model's disk is full".into())),
            Some(Fault::Panic) => panic!("the model was told to"),
            Some(Fault::Pass) | None => {}
        }
        let refused = |row: &Row| {
            let digest = row.chunk.digest;
            state.worse.contains(&digest) || (row.quarantine.is_none() && state.bad.contains(&digest))
        };
        if entries.iter().flat_map(|entry| &entry.rows).any(refused) {
            return Err(CommitError::BadData("the model does not like it".into()));
        }
        Ok(store(&mut state, entries))
    }
}
