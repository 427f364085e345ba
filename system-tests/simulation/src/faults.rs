//! The faults: each breaks one thing, at random times, until the calm.

use std::time::Duration;

use wavekeep_proto::code::Code;
use wavekeep_proto::limits;
use wavekeep_proto::uplink::Outbox as _;

use crate::agent::Agent;
use crate::link::Link;
use crate::log::log;
use crate::queue::Event;
use crate::world::{AGENTS_MAX, World};

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Fault {
    /// A link is cut, with frames on their way; both ends notice.
    CutLink,
    /// A link goes dead without a word.
    BlackHole,
    /// A link becomes slow.
    SlowLink,
    /// A chunk's frame is damaged on the way.
    Damage,
    /// A chunk is not what an honest agent would send.
    DishonestAgent,
    /// An ack is not what an honest server would send.
    DishonestServer,
    /// SIGKILL: the page cache stays.
    KillAgent,
    /// The outbox loses what was not synced.
    PowerCut,
    /// An outbox's disk is copied, and the copy runs too.
    CloneAgent,
    /// A server dies; what its database connections carry may still commit.
    KillServer,
    /// A server drains, and another takes its place.
    DrainServer,
    /// A connection has reached its maximum age.
    AgeLink,
    /// A server's memory budget moves.
    MoveWindow,
    /// A server loses its connections to the database, and with them the answers.
    BreakDatabase,
    /// One COMMIT is not answered.
    Ambiguous,
    /// One transaction is rolled back, certainly.
    RollBack,
    /// The database is slow for a while.
    SlowDatabase,
    /// Another copy becomes the primary: an earlier one, or one that went its own way.
    FailOver,
    /// A restore without a stream.
    LoseStream,
    /// A bit of an outbox flips.
    FlipDisk,
    /// A live source gets new labels: its stream ends and the next opens.
    Relabel,
}

impl Fault {
    /// Each with the mean time between two of them, in seconds, where they come often.
    pub const ALL: [(Self, u64); 21] = [
        (Self::CutLink, 12),
        (Self::BlackHole, 40),
        (Self::SlowLink, 30),
        (Self::Damage, 15),
        (Self::DishonestAgent, 10),
        (Self::DishonestServer, 15),
        (Self::KillAgent, 40),
        (Self::PowerCut, 40),
        (Self::CloneAgent, 80),
        (Self::KillServer, 40),
        (Self::DrainServer, 40),
        (Self::AgeLink, 20),
        (Self::MoveWindow, 10),
        (Self::BreakDatabase, 30),
        (Self::Ambiguous, 15),
        (Self::RollBack, 20),
        (Self::SlowDatabase, 40),
        (Self::FailOver, 40),
        (Self::LoseStream, 60),
        (Self::FlipDisk, 30),
        (Self::Relabel, 30),
    ];
}

impl World {
    pub(crate) fn on_fault(&mut self, fault: Fault) {
        if self.calm {
            return;
        }
        if let Some(mean) = self.plan.faults.get(&fault).copied() {
            let next = self.now + self.random.until_next(mean);
            self.queue.push(next, Event::Fault(fault));
        }
        let before = self.counters.faults.get(&fault).copied().unwrap_or(0);
        log!(self, "{fault:?} ({before} before)");
        *self.counters.faults.entry(fault).or_insert(0) += 1;
        match fault {
            Fault::CutLink | Fault::BlackHole | Fault::SlowLink | Fault::AgeLink => self.break_link(fault),
            Fault::Damage | Fault::DishonestAgent | Fault::DishonestServer => self.make_mischief(fault),
            Fault::KillAgent | Fault::PowerCut => {
                let agent = self.random.place(self.agents.len());
                self.stop_agent(agent, fault == Fault::PowerCut);
            }
            Fault::CloneAgent => self.clone_agent(),
            Fault::FlipDisk => self.flip_disk(),
            Fault::Relabel => self.relabel(),
            Fault::KillServer | Fault::DrainServer | Fault::MoveWindow | Fault::BreakDatabase => {
                self.break_server(fault);
            }
            Fault::Ambiguous | Fault::RollBack => self.break_transaction(fault),
            Fault::SlowDatabase => self.database_slow_until = self.now + self.random.ms(1_000, 20_000),
            Fault::FailOver => self.fail_over(),
            Fault::LoseStream => self.lose_stream(),
        }
    }

    /// A link of which both ends are open.
    fn any_link(&mut self) -> Option<usize> {
        let whole = |(_, link): &(usize, &Link)| link.agent_open && link.session.is_some();
        let links: Vec<usize> = self
            .links
            .iter()
            .enumerate()
            .filter(whole)
            .map(|(place, _)| place)
            .collect();
        if links.is_empty() {
            None
        } else {
            Some(*self.random.pick(&links))
        }
    }

    fn break_link(&mut self, fault: Fault) {
        let Some(link) = self.any_link() else { return };
        match fault {
            Fault::SlowLink => self.links[link].delay_ms = (200, 3_000),
            Fault::AgeLink => self.drain_link(link),
            _ => {
                // Some of what is on its way still arrives, at either end.
                let place = &mut self.links[link];
                place.severed = true;
                place.tampered = true;
                let (up, down) = (place.up.len() as u64, place.down.len() as u64);
                place.up.truncate(self.random.between(0, up) as usize);
                place.down.truncate(self.random.between(0, down) as usize);
                if fault == Fault::CutLink {
                    let server = self.now + self.random.ms(0, 5_000);
                    let agent = self.now + self.random.ms(0, 5_000);
                    self.queue.push(server, Event::ServerNotices { link });
                    self.queue.push(agent, Event::AgentNotices { link });
                }
            }
        }
    }

    fn make_mischief(&mut self, fault: Fault) {
        let Some(link) = self.any_link() else { return };
        let mischief = &mut self.links[link].mischief;
        match fault {
            Fault::Damage => mischief.damage = true,
            Fault::DishonestAgent => mischief.chunk = true,
            _ => mischief.ack = true,
        }
    }

    fn clone_agent(&mut self) {
        if self.agents.len() >= AGENTS_MAX {
            return;
        }
        let from = self.random.place(self.agents.len());
        let to = self.agents.len();
        let disk = self.agents[from].disk.copy(&mut self.random, &self.plan, self.now);
        let files = self.agents[from].files.clone();
        self.agents.push(Agent::new(disk, files));
        for stream in self.agents[from].held_streams() {
            self.oracle.cloned(from, to, stream);
        }
        self.start_agent(to);
    }

    pub(crate) fn flip_disk(&mut self) {
        let agent = self.random.place(self.agents.len());
        if let Some(stream) = self.agents[agent].disk.flip(&mut self.random)
            && let Some(view) = self.agents[agent].disk.outbox().view(stream)
        {
            self.oracle.flipped(view.definition.epoch);
            self.counters.bits_flipped += 1;
        }
    }

    pub(crate) fn relabel(&mut self) {
        let agent = self.random.place(self.agents.len());
        for source in self.agents[agent].sources.iter_mut().filter(|source| !source.is_file()) {
            source.relabel = true;
        }
    }

    fn break_server(&mut self, fault: Fault) {
        let server = self.random.place(self.servers.len());
        if !self.servers[server].running || self.servers[server].draining {
            return;
        }
        let life = self.servers[server].life;
        match fault {
            Fault::KillServer => {
                self.stop_server(server);
                let back = self.now + self.random.ms(500, 20_000);
                self.queue.push(back, Event::ServerStarts { server, life: life + 1 });
            }
            Fault::DrainServer => self.drain_server(server),
            Fault::MoveWindow => {
                let steps = self.random.between(0, 3);
                let window_bytes = limits::WINDOW_BYTES_MIN + steps * 3 * 1024 * 1024;
                self.servers[server].window_bytes = window_bytes;
                for link in self
                    .links
                    .iter_mut()
                    .filter(|link| link.server == server && link.server_life == life)
                {
                    if let Some(session) = &mut link.session {
                        session.set_window(window_bytes);
                    }
                }
            }
            _ => self.break_database_of(server, "the connection to the database is lost"),
        }
    }

    /// A server whose database connection breaks, or whose primary changes, ends all its sessions.
    pub(crate) fn break_database_of(&mut self, server: usize, why: &str) {
        self.orphan_transactions(server, true);
        let life = self.servers[server].life;
        for link in 0..self.links.len() {
            let place = &mut self.links[link];
            if place.server == server
                && place.server_life == life
                && let Some(session) = &mut place.session
            {
                session.refuse_session(Code::LedgerUnavailable, why);
                self.serve(link);
            }
        }
    }

    /// Nothing bad happens from here on: everything must drain.
    pub(crate) fn become_calm(&mut self) {
        self.calm = true;
        self.database_slow_until = Duration::ZERO;
        log!(self, "calm");
        for server in 0..self.servers.len() {
            let life = self.servers[server].life;
            if self.servers[server].running {
                self.on_follow(server, life);
            }
        }
    }
}
