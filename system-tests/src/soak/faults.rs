//! One fault after the other, at random moments: which one, on whom, for how long, is the seed's choice.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::fleet::{COUNT, Fleet};
use super::tally::Tally;
use crate::proxy::{Forget, Way};
use crate::random::Random;

/// What is done to a process.
#[derive(Debug, Clone, Copy)]
enum Signals {
    Kill,
    Suspend,
    End,
}

/// What is done to a link.
#[derive(Debug, Clone, Copy)]
enum Wire {
    Cut,
    Delay,
    Throttle,
    Flip(Way),
    HalfClose(Way),
    BlackHole,
    Forget,
    Hold,
    Refuse,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Agent(Signals),
    Server(Signals),
    Postgres,
    Link(Wire),
    Database(Wire),
    DatabaseFull,
    RollingRestart,
    Clock,
}

/// Out of their sum. Bits on the database's link are not flipped: nothing but TLS protects them.
const FAULTS: &[(u64, &str, Fault)] = &[
    (30, "SIGKILL of an agent", Fault::Agent(Signals::Kill)),
    (5, "SIGSTOP of an agent", Fault::Agent(Signals::Suspend)),
    (4, "SIGTERM of an agent", Fault::Agent(Signals::End)),
    (30, "SIGKILL of a server", Fault::Server(Signals::Kill)),
    (5, "SIGSTOP of a server", Fault::Server(Signals::Suspend)),
    (4, "SIGTERM of a server", Fault::Server(Signals::End)),
    (3, "SIGKILL of Postgres", Fault::Postgres),
    (3, "link: cut", Fault::Link(Wire::Cut)),
    (2, "link: delayed", Fault::Link(Wire::Delay)),
    (2, "link: throttled", Fault::Link(Wire::Throttle)),
    (
        3,
        "link: a bit flipped, to the server",
        Fault::Link(Wire::Flip(Way::FromAgents)),
    ),
    (
        2,
        "link: a bit flipped, to the agent",
        Fault::Link(Wire::Flip(Way::FromServer)),
    ),
    (
        2,
        "link: half-closed, to the server",
        Fault::Link(Wire::HalfClose(Way::FromAgents)),
    ),
    (
        2,
        "link: half-closed, to the agent",
        Fault::Link(Wire::HalfClose(Way::FromServer)),
    ),
    (2, "link: black hole", Fault::Link(Wire::BlackHole)),
    (1, "link: forgotten", Fault::Link(Wire::Forget)),
    (1, "link: held", Fault::Link(Wire::Hold)),
    (1, "link: refused", Fault::Link(Wire::Refuse)),
    (2, "database's link: cut", Fault::Database(Wire::Cut)),
    (1, "database's link: delayed", Fault::Database(Wire::Delay)),
    (1, "database's link: throttled", Fault::Database(Wire::Throttle)),
    (
        1,
        "database's link: half-closed",
        Fault::Database(Wire::HalfClose(Way::FromAgents)),
    ),
    (1, "database's link: held", Fault::Database(Wire::Hold)),
    (1, "database's link: refused", Fault::Database(Wire::Refuse)),
    (2, "the database's disk is full", Fault::DatabaseFull),
    (1, "rolling restart", Fault::RollingRestart),
    (3, "clock stepped by hours", Fault::Clock),
];

/// See the module's documentation.
pub(super) struct Faults {
    random: Random,
    next: Instant,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            next: Instant::now() + Duration::from_secs(2),
        }
    }

    /// The next one, if it is time for it.
    pub(super) fn tick(&mut self, fleet: &mut Fleet, tally: &Tally) -> Result<()> {
        if Instant::now() < self.next {
            return Ok(());
        }
        let (name, fault) = self.choose();
        if self.apply(fault, fleet)? {
            tally.count(name);
            self.next = Instant::now() + self.random.ms(300, 1_100);
        }
        // Whoever it would have hit is down: another one, soon.
        Ok(())
    }

    fn choose(&mut self) -> (&'static str, Fault) {
        let sum: u64 = FAULTS.iter().map(|(weight, ..)| weight).sum();
        let mut place = self.random.number() % sum;
        for (weight, name, fault) in FAULTS {
            if place < *weight {
                return (name, *fault);
            }
            place -= weight;
        }
        unreachable!("the place is below the sum of all weights")
    }

    fn apply(&mut self, fault: Fault, fleet: &mut Fleet) -> Result<bool> {
        let number = self.random.below(COUNT);
        match fault {
            Fault::Agent(signals) => self.agent(signals, number, fleet),
            Fault::Server(signals) => self.server(signals, number, fleet),
            Fault::Postgres => fleet.kill_postgres(),
            Fault::Link(wire) => {
                let link = &mut fleet.agents[number].link;
                link.heals = Some(Instant::now() + self.random.ms(200, 3_000));
                disturb(&link.proxy, wire, &mut self.random);
                Ok(true)
            }
            Fault::Database(wire) => {
                let link = &mut fleet.database.link;
                link.heals = Some(Instant::now() + self.random.ms(200, 2_000));
                disturb(&link.proxy, wire, &mut self.random);
                Ok(true)
            }
            Fault::DatabaseFull => fleet.fill_database(self.random.ms(500, 3_000)),
            Fault::RollingRestart => {
                let begins = fleet.rolling.is_none();
                fleet.rolling.get_or_insert((0, false));
                Ok(begins)
            }
            Fault::Clock => {
                let Some(clock) = &fleet.agents[number].clock else {
                    return Ok(false);
                };
                clock.set_ahead(self.random.below(24 * 3_600) as i64 - 12 * 3_600)?;
                Ok(true)
            }
        }
    }

    fn agent(&mut self, signals: Signals, number: usize, fleet: &mut Fleet) -> Result<bool> {
        let (agent, lab) = (&mut fleet.agents[number], &fleet.lab);
        if !agent.member.is_up() {
            return Ok(false);
        }
        match signals {
            Signals::Kill => {
                agent.member.kill9()?;
                agent.ask_if_begun(lab)?;
            }
            Signals::Suspend => agent.member.suspend(self.random.ms(200, 4_000))?,
            Signals::End => agent.member.terminate()?,
        }
        Ok(true)
    }

    fn server(&mut self, signals: Signals, number: usize, fleet: &mut Fleet) -> Result<bool> {
        let server = &mut fleet.servers[number];
        if !server.member.is_up() {
            return Ok(false);
        }
        match signals {
            Signals::Kill => {
                server.member.kill9()?;
                let of_it = |agent: &&super::fleet::Agent| {
                    agent.member.is_up() && agent.link.proxy.newest_leads_to() == Some(server.grpc)
                };
                for agent in fleet.agents.iter().filter(of_it) {
                    fleet.commits.died(&agent.device);
                }
            }
            Signals::Suspend => server.member.suspend(self.random.ms(200, 4_000))?,
            Signals::End => server.member.terminate()?,
        }
        Ok(true)
    }
}

fn disturb(proxy: &crate::proxy::Proxy, wire: Wire, random: &mut Random) {
    match wire {
        Wire::Cut => proxy.cut(),
        Wire::Delay => proxy.delay(random.ms(5, 150)),
        Wire::Throttle => proxy.throttle(20_000 + random.number() % 300_000),
        Wire::Flip(way) => proxy.flip(way, 1 + random.number() % 3),
        Wire::HalfClose(way) => proxy.half_close(way),
        Wire::BlackHole => proxy.black_hole(true),
        Wire::Forget => proxy.forget(Forget::BothWays),
        Wire::Hold => proxy.hold(true),
        Wire::Refuse => {
            proxy.refuse(true);
            proxy.cut();
        }
    }
}
