//! What all parties of a world share, and what its driver is told to do. One thread runs them all; the lock is for the types' sake.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use wavekeep_proto::id::StreamId;
use wavekeep_server::ingest::registry::Registry;

use super::database::Transaction;
use super::faults::NetworkFault;
use super::plan::NetworkPlan;
use super::wire::WireState;
use crate::world::World;

/// The stage, as everybody holds it.
pub(super) type Shared = Arc<Mutex<Stage>>;

/// What only the owner of the network can do: the driver does it between two steps.
#[derive(Debug, Clone)]
pub(super) enum Order {
    Crash(String),
    Bounce(String),
    /// A copy of an agent's machine joins.
    AddAgent(usize),
    Partition(String, String),
    PartitionOneWay(String, String),
    Hold(String, String),
    Repair(String, String),
    Release(String, String),
    Latency(String, String, Duration),
}

/// What happens at a known time.
#[derive(Debug, Clone)]
pub(super) enum Due {
    Fault(NetworkFault),
    Order(Order),
    /// A server's connections to the database lead to the primary of now.
    Follow(usize),
    Replicate,
    Calm,
}

/// A server's process, as the others see it.
#[derive(Debug, Default)]
pub(super) struct ServerPlace {
    pub(super) life: u32,
    pub(super) running: bool,
    pub(super) draining: bool,
    /// It has drained, and is to be taken off the stage.
    pub(super) exited: bool,
    /// Which copy of the database it talks to.
    pub(super) branch: usize,
    pub(super) unreachable_until: Duration,
    pub(super) registry: Option<Arc<Registry>>,
    pub(super) stop: Arc<Notify>,
}

/// What belongs to an agent beside its outbox and its sources.
#[derive(Debug, Default)]
pub(super) struct AgentPlace {
    /// How wrong its clock is.
    pub(super) utc_offset_ns: i64,
}

/// See the module's documentation.
pub(super) struct Stage {
    /// The parties, the copies of the database, and the oracle.
    pub(super) world: World,
    pub(super) plan: NetworkPlan,
    pub(super) servers: Vec<ServerPlace>,
    pub(super) agents: Vec<AgentPlace>,
    pub(super) wires: Vec<WireState>,
    pub(super) transactions: BTreeMap<u64, Transaction>,
    pub(super) last_transaction: u64,
    /// The next commit is rolled back, or not answered.
    pub(super) next_commit: Option<bool>,
    /// By time, and then in the order in which they were planned.
    pub(super) due: BTreeMap<(Duration, u64), Due>,
    planned: u64,
    pub(super) orders: Vec<Order>,
    pub(super) faults: BTreeMap<NetworkFault, u64>,
    /// Successions that the oracle knows of.
    pub(super) successions: BTreeSet<(StreamId, StreamId)>,
}

/// The name of an agent's host.
pub(super) fn agent_name(agent: usize) -> String {
    format!("agent-{agent}")
}

/// The name of a server's host.
pub(super) fn server_name(server: usize) -> String {
    format!("server-{server}")
}

/// The stage, with the time of the host that asks.
pub(super) fn lock(shared: &Shared) -> MutexGuard<'_, Stage> {
    let mut stage = shared.lock().unwrap_or_else(PoisonError::into_inner);
    // While a host is taken off the stage, it has no time.
    if let Some(now) = turmoil::sim_elapsed() {
        stage.world.now = stage.world.now.max(now);
    }
    stage
}

impl Stage {
    pub(super) fn new(seed: u64, with_log: bool) -> Self {
        let mut world = World::parties(seed, with_log);
        let plan = NetworkPlan::new(&mut world.random, world.plan.database_ms);
        let servers = (0..world.plan.servers).map(|_| ServerPlace::default()).collect();
        Self {
            world,
            plan,
            servers,
            agents: Vec::new(),
            wires: Vec::new(),
            transactions: BTreeMap::new(),
            last_transaction: 0,
            next_commit: None,
            due: BTreeMap::new(),
            planned: 0,
            orders: Vec::new(),
            faults: BTreeMap::new(),
            successions: BTreeSet::new(),
        }
    }

    pub(super) fn plan_at(&mut self, at: Duration, due: Due) {
        self.planned += 1;
        self.due.insert((at, self.planned), due);
    }

    pub(super) fn plan_in(&mut self, wait: Duration, due: Due) {
        self.plan_at(self.world.now + wait, due);
    }
}
