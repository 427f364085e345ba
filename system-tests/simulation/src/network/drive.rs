//! The loop: a step of the network and of every process, then what is due, then the verdict.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use turmoil::Sim;
use wavekeep_proto::limits::CHUNK_BYTES_MAX;
use wavekeep_proto::uplink::Outbox as _;

use super::faults::NetworkFault;
use super::stage::{Due, Order, Shared, Stage, agent_name, lock, server_name};
use super::{agent, server};
use crate::counters::Counters;

/// The network's time goes on by this much.
const STEP: Duration = Duration::from_millis(5);
/// After the faults stop, everything is delivered within this long, or never.
const DRAINED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// What became of a world.
#[derive(Debug)]
pub struct Outcome {
    /// What happened how often.
    pub counters: Counters,
    /// Each fault.
    pub faults: BTreeMap<NetworkFault, u64>,
    /// What the oracle found wrong, if anything.
    pub broken: Option<String>,
    /// What happened, a line each, where it was asked for.
    pub lines: Vec<String>,
    /// How long it took, in its own time.
    pub lasted: Duration,
    /// The most bytes of chunks that a server held.
    pub memory_bytes_max: u64,
}

/// Runs the world of a seed; with `with_log`, the outcome tells what happened.
#[must_use]
pub fn run(seed: u64, with_log: bool) -> Outcome {
    let stage = Stage::new(seed, with_log);
    let plan = stage.plan.clone();
    let (low, high) = plan.latency_ms;
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(STEP)
        .min_message_latency(Duration::from_millis(low))
        .max_message_latency(Duration::from_millis(high))
        .simulation_duration(Duration::from_secs(24 * 3600))
        .tcp_capacity(4_096)
        .enable_random_order()
        .build();
    let servers = stage.servers.len();
    let shared: Shared = Arc::new(Mutex::new(stage));
    for server in 0..servers {
        let shared = shared.clone();
        sim.host(server_name(server), move || server::run(shared.clone(), server));
    }
    let agents = lock(&shared).open();
    for agent in 0..agents {
        add_agent(&mut sim, &shared, agent);
    }
    let mut driver = Driver {
        sim,
        shared,
        memory_bytes_max: 0,
    };
    driver.go();
    driver.verdict()
}

fn add_agent(sim: &mut Sim<'_>, shared: &Shared, agent: usize) {
    let shared = shared.clone();
    sim.host(agent_name(agent), move || agent::run(shared.clone(), agent));
}

struct Driver<'a> {
    sim: Sim<'a>,
    shared: Shared,
    memory_bytes_max: u64,
}

impl Driver<'_> {
    fn go(&mut self) {
        loop {
            let stepped = self.sim.step();
            let mut stage = lock(&self.shared);
            stage.world.now = self.sim.elapsed();
            if let Err(error) = stepped {
                stage.world.oracle.break_with(format!("a process failed: {error}"));
            }
            stage.turn();
            self.memory_bytes_max = self.memory_bytes_max.max(stage.check_memory());
            if stage.world.oracle.broken().is_some() || stage.is_drained() {
                return;
            }
            let deadline = stage.plan.hostile_for + DRAINED_WITHIN;
            if stage.world.now > deadline {
                let what = stage.world.undelivered();
                let text = format!("{what} is not delivered {DRAINED_WITHIN:?} after the last fault");
                return stage.world.oracle.break_with(text);
            }
            let orders = std::mem::take(&mut stage.orders);
            drop(stage);
            orders.into_iter().for_each(|order| self.obey(order));
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            // Who is there already, or gone, needs nothing.
            Order::Crash(host) => self.sim.crash(host),
            Order::Bounce(host) => self.sim.bounce(host),
            Order::AddAgent(agent) => add_agent(&mut self.sim, &self.shared, agent),
            Order::Partition(one, other) => self.sim.partition(one, other),
            Order::PartitionOneWay(from, to) => self.sim.partition_oneway(from, to),
            Order::Hold(one, other) => self.sim.hold(one, other),
            Order::Repair(one, other) => self.sim.repair(one, other),
            Order::Release(one, other) => self.sim.release(one, other),
            Order::Latency(one, other, most) => self.sim.set_link_max_message_latency(one, other, most),
        }
    }

    fn verdict(self) -> Outcome {
        // Its processes hold the stage, too.
        let now = self.sim.elapsed();
        let mut stage = lock(&self.shared);
        if stage.world.oracle.broken().is_none() {
            stage.world.judge();
        }
        let lines = stage.world.take_lines();
        let outcome = Outcome {
            counters: stage.world.counters.clone(),
            faults: stage.faults.clone(),
            broken: stage.world.oracle.broken().map(str::to_owned),
            lines,
            lasted: now,
            memory_bytes_max: self.memory_bytes_max,
        };
        drop(stage);
        // The process ends with this seed: taking the stage down piece by piece would let tasks see a world without a clock.
        std::mem::forget(self.sim);
        outcome
    }
}

impl Stage {
    /// Says what happens when; how many agents are there?
    fn open(&mut self) -> usize {
        self.world.add_agents();
        let agents = self.world.agents.len();
        self.agents.resize_with(agents, Default::default);
        let every = self.world.plan.replicate_every.min(self.plan.hostile_for / 5);
        self.plan_in(every, Due::Replicate);
        for (fault, mean) in self.plan.faults.clone() {
            let wait = self.world.random.until_next(mean);
            self.plan_in(wait, Due::Fault(fault));
        }
        self.plan_in(self.plan.hostile_for, Due::Calm);
        agents
    }

    /// Does what is due.
    fn turn(&mut self) {
        self.turn_database();
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= self.world.now) {
            match entry.remove() {
                Due::Fault(fault) => self.on_fault(fault),
                Due::Order(order) => self.orders.push(order),
                Due::Follow(server) => self.follow(server),
                Due::Replicate => self.replicate(),
                Due::Calm => self.become_calm(),
            }
        }
        for agent in 0..self.world.agents.len() {
            if self.world.agents[agent].running {
                self.world.take_outbox_alarms(agent, false);
            }
        }
        for server in 0..self.servers.len() {
            if self.servers[server].exited {
                self.stop_server(server);
            }
        }
    }

    fn replicate(&mut self) {
        if self.world.calm {
            return;
        }
        let primary = self.world.branches[self.world.branches.len() - 1].clone();
        self.world.keep_replica(primary);
        let every = self.world.plan.replicate_every.min(self.plan.hostile_for / 5);
        self.plan_in(every, Due::Replicate);
    }

    /// I12: what a server holds fits its budget, and one chunk of each session.
    fn check_memory(&mut self) -> u64 {
        let mut most = 0;
        for place in &self.servers {
            let Some(registry) = &place.registry else { continue };
            let bytes = registry.in_use_bytes();
            let limit = self.plan.budget_bytes + registry.sessions_max() * CHUNK_BYTES_MAX as u64;
            if bytes > limit {
                let text = format!("I12: a server holds {bytes} bytes of chunks, above {limit}");
                self.world.oracle.break_with(text);
            }
            most = most.max(bytes);
        }
        most
    }

    /// Has the primary all that the outboxes hold, and have they all heard so?
    fn is_drained(&self) -> bool {
        let primary = &self.world.branches[self.world.branches.len() - 1];
        let is_there = |agent: &crate::agent::Agent| {
            let outbox = agent.disk.outbox();
            agent.held_streams().into_iter().all(|stream| {
                let row = primary.streams.get(&stream);
                let tail = outbox.tail(stream);
                match (row, tail) {
                    (Some(row), Some(tail)) => (row.at.seq, row.at.digest) == (tail.seq, tail.digest),
                    _ => false,
                }
            })
        };
        self.world.calm
            && self
                .world
                .agents
                .iter()
                .all(|agent| agent.is_drained() && is_there(agent))
    }
}
