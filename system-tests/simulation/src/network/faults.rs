//! What goes wrong on the network, in processes and with the database: each fault at random times, until the calm.

use std::time::Duration;

use super::stage::{Due, Order, Stage, agent_name, server_name};
use crate::agent::Agent;
use crate::log::log;
use crate::world::AGENTS_MAX;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum NetworkFault {
    /// A connection is reset, in the middle of a frame towards the server.
    ResetUp,
    /// The same towards the agent.
    ResetDown,
    /// An agent and a server do not hear each other for a while; what was on its way is lost.
    Partition,
    /// One does not hear the other.
    OneWay,
    /// What is on its way waits, and arrives later.
    Hold,
    /// A connection takes few bytes a second.
    Throttle,
    /// Messages between two take long, and different times.
    Latency,
    /// A bit flips on the way to the server.
    FlipUp,
    /// A bit flips on the way to the agent.
    FlipDown,
    KillAgent,
    PowerCut,
    /// The disk of a machine is copied, and the copy runs too.
    CloneAgent,
    FlipDisk,
    Relabel,
    /// An agent's clock steps by hours.
    StepClock,
    KillServer,
    /// SIGTERM; another process takes its place.
    DrainServer,
    /// A server loses its connections to the database for a while.
    BreakDatabase,
    /// The database ends and starts again: every server loses its connections.
    RestartDatabase,
    Ambiguous,
    RollBack,
    SlowDatabase,
    FailOver,
    LoseStream,
}

impl NetworkFault {
    /// Each with the mean time between two of them, in seconds, where they come often.
    pub const ALL: [(Self, u64); 24] = [
        (Self::ResetUp, 10),
        (Self::ResetDown, 10),
        (Self::Partition, 25),
        (Self::OneWay, 25),
        (Self::Hold, 25),
        (Self::Throttle, 20),
        (Self::Latency, 20),
        (Self::FlipUp, 12),
        (Self::FlipDown, 12),
        (Self::KillAgent, 20),
        (Self::PowerCut, 25),
        (Self::CloneAgent, 50),
        (Self::FlipDisk, 15),
        (Self::Relabel, 15),
        (Self::StepClock, 15),
        (Self::KillServer, 15),
        (Self::DrainServer, 20),
        (Self::BreakDatabase, 20),
        (Self::RestartDatabase, 30),
        (Self::Ambiguous, 8),
        (Self::RollBack, 12),
        (Self::SlowDatabase, 25),
        (Self::FailOver, 25),
        (Self::LoseStream, 40),
    ];
}

impl Stage {
    pub(super) fn on_fault(&mut self, fault: NetworkFault) {
        if self.world.calm {
            return;
        }
        if let Some(mean) = self.plan.faults.get(&fault).copied() {
            let wait = self.world.random.until_next(mean);
            self.plan_in(wait, Due::Fault(fault));
        }
        log!(self.world, "{fault:?}");
        *self.faults.entry(fault).or_insert(0) += 1;
        match fault {
            NetworkFault::ResetUp
            | NetworkFault::ResetDown
            | NetworkFault::Throttle
            | NetworkFault::FlipUp
            | NetworkFault::FlipDown => self.break_wire(fault),
            NetworkFault::Partition | NetworkFault::OneWay | NetworkFault::Hold | NetworkFault::Latency => {
                self.break_link(fault);
            }
            NetworkFault::KillAgent | NetworkFault::PowerCut => {
                let agent = self.world.random.place(self.world.agents.len());
                self.kill_agent(agent, fault == NetworkFault::PowerCut);
            }
            NetworkFault::CloneAgent => self.clone_agent(),
            NetworkFault::FlipDisk => self.world.flip_disk(),
            NetworkFault::Relabel => self.world.relabel(),
            NetworkFault::StepClock => self.step_clock(),
            NetworkFault::KillServer | NetworkFault::DrainServer | NetworkFault::BreakDatabase => {
                self.break_server(fault);
            }
            NetworkFault::RestartDatabase => {
                let until = self.world.now + self.world.random.ms(200, 8_000);
                (0..self.servers.len()).for_each(|server| self.break_database_of(server, until));
            }
            NetworkFault::Ambiguous | NetworkFault::RollBack => {
                self.break_transaction(fault == NetworkFault::RollBack);
            }
            NetworkFault::SlowDatabase => {
                let wait = self.world.random.ms(1_000, 15_000);
                self.world.database_slow_until = self.world.now + wait;
            }
            NetworkFault::FailOver | NetworkFault::LoseStream => self.change_primary(fault),
        }
    }

    fn change_primary(&mut self, fault: NetworkFault) {
        let before = self.world.branches.len();
        if fault == NetworkFault::FailOver {
            self.world.fail_over();
        } else {
            self.world.lose_stream();
        }
        if self.world.branches.len() > before {
            self.primary_changed();
        }
    }

    /// Something happens to a connection that is open.
    fn break_wire(&mut self, fault: NetworkFault) {
        let open: Vec<usize> = (0..self.wires.len()).filter(|wire| self.wires[*wire].open).collect();
        if open.is_empty() {
            return;
        }
        let wire = *self.world.random.pick(&open);
        let bytes = self.world.random.below(3_000);
        let speed = *self.world.random.pick(&[300, 3_000, 30_000]);
        let state = &mut self.wires[wire];
        match fault {
            NetworkFault::ResetUp => state.cut_up = Some(bytes),
            NetworkFault::ResetDown => state.cut_down = Some(bytes / 10),
            NetworkFault::FlipUp => state.flip_up = true,
            NetworkFault::FlipDown => state.flip_down = true,
            _ => state.bytes_per_s = Some(speed),
        }
    }

    /// Something happens between two machines, and passes.
    fn break_link(&mut self, fault: NetworkFault) {
        let agent = agent_name(self.world.random.place(self.world.agents.len()));
        let server = server_name(self.world.random.place(self.servers.len()));
        let lasts = self.world.random.ms(500, 25_000);
        let (agent, server) = if self.world.random.once_in(2) {
            (agent, server)
        } else {
            (server, agent)
        };
        let (begin, end) = match fault {
            NetworkFault::Partition => (
                Order::Partition(agent.clone(), server.clone()),
                Order::Repair(agent, server),
            ),
            NetworkFault::OneWay => (
                Order::PartitionOneWay(agent.clone(), server.clone()),
                Order::Repair(agent, server),
            ),
            NetworkFault::Hold => (
                Order::Hold(agent.clone(), server.clone()),
                Order::Release(agent, server),
            ),
            _ => {
                let usual = Duration::from_millis(self.plan.latency_ms.1);
                let slow = usual + self.world.random.ms(200, 3_000);
                (
                    Order::Latency(agent.clone(), server.clone(), slow),
                    Order::Latency(agent, server, usual),
                )
            }
        };
        self.orders.push(begin);
        self.plan_in(lasts, Due::Order(end));
    }

    /// A process dies. Its disk keeps what was written, or, when the power fails, what was synced.
    fn kill_agent(&mut self, agent: usize, power_fails: bool) {
        if !self.world.agents[agent].running {
            return;
        }
        self.orders.push(Order::Crash(agent_name(agent)));
        self.world.stop_agent(agent, power_fails);
        let back = self.world.random.ms(200, 12_000);
        self.plan_in(back, Due::Order(Order::Bounce(agent_name(agent))));
    }

    fn clone_agent(&mut self) {
        let world = &mut self.world;
        if world.agents.len() >= AGENTS_MAX {
            return;
        }
        let (from, to) = (world.random.place(world.agents.len()), world.agents.len());
        let disk = world.agents[from].disk.copy(&mut world.random, &world.plan, world.now);
        let files = world.agents[from].files.clone();
        world.agents.push(Agent::new(disk, files));
        for stream in world.agents[from].held_streams() {
            world.oracle.cloned(from, to, stream);
        }
        self.agents.push(super::stage::AgentPlace::default());
        self.orders.push(Order::AddAgent(to));
    }

    fn step_clock(&mut self) {
        let agent = self.world.random.place(self.agents.len());
        let hours = self.world.random.between(0, 96) as i64 - 48;
        self.agents[agent].utc_offset_ns = hours * 3_600_000_000_000;
    }

    fn break_server(&mut self, fault: NetworkFault) {
        let server = self.world.random.place(self.servers.len());
        if !self.servers[server].running || self.servers[server].draining {
            return;
        }
        match fault {
            NetworkFault::KillServer => self.stop_server(server),
            NetworkFault::DrainServer => {
                self.servers[server].draining = true;
                self.servers[server].stop.notify_one();
            }
            _ => {
                let until = self.world.now + self.world.random.ms(200, 8_000);
                self.break_database_of(server, until);
            }
        }
    }

    /// Its process is gone; another one comes.
    pub(super) fn stop_server(&mut self, server: usize) {
        self.orphan_transactions(server);
        let place = &mut self.servers[server];
        place.running = false;
        place.exited = false;
        place.registry = None;
        self.orders.push(Order::Crash(server_name(server)));
        let back = self.world.random.ms(300, 12_000);
        self.plan_in(back, Due::Order(Order::Bounce(server_name(server))));
    }

    /// Nothing bad happens from here on: everything must drain.
    pub(super) fn become_calm(&mut self) {
        log!(self.world, "calm");
        self.world.calm = true;
        self.world.database_slow_until = Duration::ZERO;
        for server in 0..self.servers.len() {
            self.servers[server].unreachable_until = Duration::ZERO;
            self.follow(server);
        }
        for wire in &mut self.wires {
            (wire.flip_up, wire.flip_down, wire.bytes_per_s) = (false, false, None);
            (wire.cut_up, wire.cut_down) = (None, None);
        }
    }
}
