//! A world: its parties, what is on its way between them, and the loop that lets things happen one after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::agent::Agent;
use crate::counters::Counters;
use crate::database::Copy;
use crate::disk::Disk;
use crate::faults::Fault;
use crate::link::{Down, Link, Up};
use crate::log::log;
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::queue::{Event, Queue};
use crate::random::Random;
use crate::server::Server;
use crate::source::Source;
use crate::transaction::Transaction;

/// After the faults stop, everything is delivered within this long, or never.
const DRAINED_WITHIN: Duration = Duration::from_secs(20 * 60);
/// The fleet does not grow beyond this by cloning.
pub(crate) const AGENTS_MAX: usize = 6;

/// See the module's documentation.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) random: Random,
    pub(crate) plan: Plan,
    pub(crate) queue: Queue,
    pub(crate) agents: Vec<Agent>,
    pub(crate) servers: Vec<Server>,
    pub(crate) links: Vec<Link>,
    /// Every copy of the database that ever was the primary; the last one is.
    pub(crate) branches: Vec<Copy>,
    /// Copies that may become the primary.
    pub(crate) replicas: Vec<Copy>,
    pub(crate) transactions: BTreeMap<u64, Transaction>,
    pub(crate) last_transaction: u64,
    pub(crate) database_slow_until: Duration,
    pub(crate) oracle: Oracle,
    pub(crate) counters: Counters,
    /// No faults any more.
    pub(crate) calm: bool,
    lines: Option<Vec<String>>,
}

/// What became of a world.
#[derive(Debug)]
pub struct Outcome {
    /// What happened how often.
    pub counters: Counters,
    /// What the oracle found wrong, if anything.
    pub broken: Option<String>,
    /// What happened, a line each, where it was asked for.
    pub lines: Vec<String>,
}

impl World {
    /// Its parties and the oracle; whoever uses them brings the servers, and what is between them.
    pub(crate) fn parties(seed: u64, with_log: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random);
        Self {
            now: Duration::ZERO,
            queue: Queue::default(),
            agents: Vec::new(),
            servers: Vec::new(),
            links: Vec::new(),
            branches: vec![Copy {
                generation: 1,
                ..Copy::default()
            }],
            replicas: Vec::new(),
            transactions: BTreeMap::new(),
            last_transaction: 0,
            database_slow_until: Duration::ZERO,
            oracle: Oracle::default(),
            counters: Counters::default(),
            calm: false,
            lines: with_log.then(Vec::new),
            plan,
            random,
        }
    }

    /// One seed, from its beginning to the oracle's verdict.
    pub(crate) fn run(seed: u64, with_log: bool) -> Outcome {
        let mut world = Self::parties(seed, with_log);
        let (servers, writers) = (world.plan.servers, world.plan.writers);
        world.servers = (0..servers).map(|_| Server::new(1, 0, writers)).collect();
        world.begin();
        world.go();
        Outcome {
            counters: world.counters,
            broken: world.oracle.broken().map(str::to_owned),
            lines: world.lines.unwrap_or_default(),
        }
    }

    /// The agents' machines, and the files that they replay.
    pub(crate) fn add_agents(&mut self) {
        log!(self, "{:?}", self.plan);
        for agent in 0..self.plan.agents {
            let disk = Disk::new(&mut self.random, &self.plan);
            // Two agents replay each file; sometimes they cut it at the same places.
            let cut_samples = if self.random.once_in(3) { 70 } else { 50 };
            let files = if agent < 2 {
                (0..self.plan.files)
                    .map(|file| Source::file(file, cut_samples))
                    .collect()
            } else {
                Vec::new()
            };
            self.agents.push(Agent::new(disk, files));
        }
    }

    fn begin(&mut self) {
        self.add_agents();
        for agent in 0..self.agents.len() {
            // Whoever comes later finds what the others have done: a file, say, that is half replayed.
            let late = self.random.once_in(4);
            let at = if late {
                self.random.ms(5_000, 40_000)
            } else {
                Duration::ZERO
            };
            self.queue.push(at, Event::AgentStarts { agent, life: 0 });
        }
        self.queue.push(self.plan.replicate_every, Event::Replicate);
        let faults: Vec<(Fault, Duration)> = self.plan.faults.iter().map(|(fault, mean)| (*fault, *mean)).collect();
        for (fault, mean) in faults {
            let at = self.random.until_next(mean);
            self.queue.push(at, Event::Fault(fault));
        }
        self.queue.push(self.plan.hostile_for, Event::Calm);
    }

    fn go(&mut self) {
        let deadline = self.plan.hostile_for + DRAINED_WITHIN;
        while self.oracle.broken().is_none() && !self.is_drained() {
            let Some((at, event)) = self.queue.pop() else {
                return self
                    .oracle
                    .break_with("nothing will ever happen, and not everything is delivered".into());
            };
            if at > deadline {
                let what = self.undelivered();
                return self.oracle.break_with(format!(
                    "{what} is not delivered {DRAINED_WITHIN:?} after the last fault"
                ));
            }
            self.now = at;
            self.happen(event);
        }
        if self.oracle.broken().is_none() {
            self.judge();
        }
        if self.oracle.broken().is_none() && self.plan.outlive_hold_back {
            self.outlive_hold_back();
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::AgentWake { agent, life } => self.on_agent_wake(agent, life),
            Event::Maintain { agent, life } => self.on_maintain(agent, life),
            Event::Connected { agent, life, server } => self.on_connected(agent, life, server),
            Event::Capture { agent, life, source } => self.on_capture(agent, life, source),
            Event::Upward { link } => self.on_upward(link),
            Event::Downward { link } => self.on_downward(link),
            Event::ServerNotices { link } => {
                self.links[link].inbox.push_back(Up::Closed);
                self.serve(link);
            }
            Event::AgentNotices { link } => self.agent_end_closes(link),
            Event::SessionTick { link } => self.on_session_tick(link),
            Event::DrainEnds { link } => self.close_server_end(link),
            Event::Write { server, life, writer } => self.on_write(server, life, writer),
            Event::Apply { transaction } => self.on_apply(transaction),
            Event::Answer { transaction } => self.on_answer(transaction),
            Event::Replicate => self.on_replicate(),
            Event::Follow { server, life } => self.on_follow(server, life),
            Event::AgentStarts { agent, life } => self.on_agent_starts(agent, life),
            Event::ServerStarts { server, life } => self.on_server_starts(server, life),
            Event::Fault(fault) => self.on_fault(fault),
            Event::Calm => self.become_calm(),
        }
    }

    /// Everything that was captured has been acknowledged, every stream has ended, and the primary that is left has said so.
    fn is_drained(&self) -> bool {
        self.calm
            && self
                .agents
                .iter()
                .all(|agent| agent.is_drained() && self.hears_primary(agent))
    }

    /// Has a session that works, in which every stream that it holds is open?
    fn hears_primary(&self, agent: &Agent) -> bool {
        let Some(link) = agent.link.map(|link| &self.links[link]) else {
            return false;
        };
        let works = link.session.is_some() && !link.severed && link.server_life == self.servers[link.server].life;
        works
            && agent
                .held_streams()
                .into_iter()
                .all(|stream| agent.uplink.is_open(stream))
    }

    pub(crate) fn undelivered(&self) -> String {
        let waiting = self.agents.iter().enumerate().filter(|(_, agent)| !agent.is_drained());
        let names: Vec<String> = waiting
            .map(|(place, agent)| format!("agent {place}: {}", agent.remaining()))
            .collect();
        names.join("; ")
    }

    pub(crate) fn judge(&mut self) {
        let surviving = &self.branches[self.branches.len() - 1];
        let held: Vec<_> = self.agents.iter().map(Agent::held_streams).collect();
        self.oracle.judge(surviving, &held, &mut self.counters);
    }

    /// Every record leaves the outbox once its stream has ended and its hold-back has passed.
    fn outlive_hold_back(&mut self) {
        let deadline = self.now + self.plan.hold_back + Duration::from_secs(120);
        while self.oracle.broken().is_none() && self.agents.iter().any(Agent::holds_what_has_ended) {
            let Some((at, event)) = self.queue.pop() else { break };
            if at > deadline {
                return self
                    .oracle
                    .break_with("an outbox still holds what was acked longer ago than its hold-back".into());
            }
            self.now = at;
            self.happen(event);
        }
        self.counters.outboxes_emptied += self.agents.len() as u64;
    }

    fn on_upward(&mut self, link: usize) {
        if let Some(item) = self.links[link].up.pop_front()
            && self.links[link].session.is_some()
        {
            self.links[link].inbox.push_back(item);
            self.serve(link);
        }
    }

    fn on_downward(&mut self, link: usize) {
        match self.links[link].down.pop_front() {
            Some(Down::Frame(frame)) => self.deliver_to_agent(link, frame),
            Some(Down::Closed) => self.agent_end_closes(link),
            None => {}
        }
    }

    /// Sends towards the server, behind what was sent before.
    pub(crate) fn carry_up(&mut self, link: usize, item: Up) {
        let (low, high) = self.links[link].delay_ms;
        let delay = self.random.ms(low, high);
        let place = &mut self.links[link];
        if !place.severed {
            place.up.push_back(item);
            let at = place.arrival_up(self.now, delay);
            self.queue.push(at, Event::Upward { link });
        }
    }

    /// Sends towards the agent, behind what was sent before.
    pub(crate) fn carry_down(&mut self, link: usize, item: Down) {
        let (low, high) = self.links[link].delay_ms;
        let delay = self.random.ms(low, high);
        let place = &mut self.links[link];
        if !place.severed {
            place.down.push_back(item);
            let at = place.arrival_down(self.now, delay);
            self.queue.push(at, Event::Downward { link });
        }
    }

    pub(crate) fn is_logging(&self) -> bool {
        self.lines.is_some()
    }

    /// What happened, for who asked for it.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }

    pub(crate) fn note(&mut self, line: &str) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>11.6} {line}", self.now.as_secs_f64()));
        }
    }
}
