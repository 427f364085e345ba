//! What the faults are done to: a database, three servers on it, and three agents that come to any of them, each through a proxy of
//! its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Plan;
use super::clock::{self, Clock};
use super::commits::Commits;
use super::database::Database;
use super::member::Member;
use super::tally::Tally;
use crate::lab::{Lab, free_port, http_get, wait_for};
use crate::process::binary;
use crate::proxy::Proxy;
use crate::random::Random;

/// Of servers, and of agents.
pub(super) const COUNT: usize = 3;
/// Samples a second of each agent: modest, so that two cores have time for the faults.
pub(super) const RATE: u64 = 100_000;
/// For what takes a second when nobody disturbs it.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

pub(super) struct Server {
    pub(super) member: Member,
    pub(super) grpc: SocketAddr,
    http: SocketAddr,
}

impl Server {
    pub(super) fn is_ready(&self) -> bool {
        http_get(self.http, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }
}

/// A proxy, and when what it does ends.
pub(super) struct Link {
    pub(super) proxy: Proxy,
    pub(super) heals: Option<Instant>,
}

impl Link {
    pub(super) const fn new(proxy: Proxy) -> Self {
        Self { proxy, heals: None }
    }

    pub(super) fn tick(&mut self) {
        if self.heals.is_some_and(|heals| Instant::now() >= heals) {
            self.proxy.heal();
            self.heals = None;
        }
    }
}

pub(super) struct Agent {
    /// The name of its outbox, too.
    pub(super) device: String,
    pub(super) member: Member,
    pub(super) link: Link,
    /// None where there is no C compiler.
    pub(super) clock: Option<Clock>,
    /// Of each stream, by its outbox's word, asked whenever it did not run.
    pub(super) captured: BTreeMap<String, u64>,
}

/// See the module's documentation.
pub(super) struct Fleet {
    pub(super) lab: Arc<Lab>,
    pub(super) database: Database,
    pub(super) servers: Vec<Server>,
    pub(super) agents: Vec<Agent>,
    pub(super) commits: Commits,
    /// Which server of a rolling restart is next, and whether it was told to end.
    pub(super) rolling: Option<(usize, bool)>,
}

/// The specification of a simulated instrument that loses samples itself, now and then.
pub(super) fn spec(seed: u64) -> String {
    format!("js220,rate={RATE},seed={seed},loss=1e-5")
}

impl Fleet {
    /// All of it; servers are ready.
    pub(super) fn start(lab: Arc<Lab>, plan: &Plan, tally: &Tally) -> Result<Self> {
        let seed = plan.seed;
        let database = Database::start(&lab, plan, tally)?;
        let by_proxy = database.url_by_link()?;
        let mut fleet = Self {
            commits: Commits::watch(database.url().to_owned()),
            database,
            servers: Vec::new(),
            agents: Vec::new(),
            rolling: None,
            lab,
        };
        for number in 1..=COUNT {
            let random = Random::new(seed ^ (number as u64) << 32);
            fleet.servers.push(server(&fleet.lab, number, &by_proxy, random)?);
        }
        fleet.calm()?;
        let library = clock::library(fleet.lab.folder());
        if let Err(error) = &library {
            tally.note(format!("no clock is set: {error:#}"));
        }
        for number in 1..=COUNT {
            let agent = fleet.agent(number, seed, library.as_deref().ok())?;
            fleet.agents.push(agent);
        }
        Ok(fleet)
    }

    fn agent(&self, number: usize, seed: u64, library: Option<&Path>) -> Result<Agent> {
        let device = format!("bench-{number}");
        let own_seed = seed.wrapping_mul(31).wrapping_add(number as u64);
        let proxy = self.front(own_seed)?;
        let clock = library.map(|library| Clock::new(library, self.lab.folder().join(format!("{device}.clock"))));
        let clock = clock.transpose()?;
        let (lab, set, url, name) = (Arc::clone(&self.lab), clock.clone(), proxy.url(), device.clone());
        let simulate = spec(own_seed % 1_000);
        let recipe = move || {
            let options = ["--device", &name, "--simulate", &simulate, "--drain-wait", "3s"];
            let mut command = lab.agent_command(&url, &name, &["run"], &options)?;
            command.envs(set.iter().flat_map(Clock::environment));
            Ok((command, lab.folder().to_owned()))
        };
        Ok(Agent {
            member: Member::new(&device, Random::new(own_seed), Box::new(recipe)),
            device,
            link: Link::new(proxy),
            clock,
            captured: BTreeMap::new(),
        })
    }

    /// A way to all servers, which nobody disturbs.
    pub(super) fn front(&self, seed: u64) -> Result<Proxy> {
        Proxy::balance(self.servers.iter().map(|server| server.grpc).collect(), seed)
    }

    /// See [`Database::kill`].
    pub(super) fn kill_postgres(&mut self) -> Result<bool> {
        Ok(self.commits.answers() && self.database.kill(&self.lab)?)
    }

    /// See [`Database::fill_disk`].
    pub(super) fn fill_database(&mut self, time: Duration) -> Result<bool> {
        Ok(self.commits.answers() && self.database.fill_disk(&self.lab, time)?)
    }

    /// Goes on with what was begun.
    pub(super) fn tick(&mut self) -> Result<()> {
        self.commits.tick();
        self.database.tick(&self.lab)?;
        if self.database.is_disturbed() {
            self.commits.forget_deaths();
        }
        for server in &mut self.servers {
            server.member.tick()?;
        }
        for agent in &mut self.agents {
            agent.link.tick();
            if agent.member.tick()? {
                agent.ask(&self.lab)?;
            }
        }
        self.roll()
    }

    fn roll(&mut self) -> Result<()> {
        let Some((number, told)) = self.rolling else {
            return Ok(());
        };
        let server = &mut self.servers[number];
        if !server.member.is_up() || !server.is_ready() {
            return Ok(());
        }
        if told {
            self.rolling = Some((number + 1, false)).filter(|(next, _)| *next < COUNT);
            return Ok(());
        }
        server.member.terminate()?;
        self.rolling = Some((number, true));
        Ok(())
    }

    /// No more faults: links are whole, and all servers are ready.
    pub(super) fn calm(&mut self) -> Result<()> {
        self.rolling = None;
        self.database.calm(&self.lab)?;
        for agent in &mut self.agents {
            agent.link.proxy.heal();
        }
        let servers = &mut self.servers;
        for server in servers.iter_mut() {
            server.member.bring_up()?;
        }
        wait_for("all servers are ready", PATIENCE, || {
            for server in servers.iter_mut() {
                server.member.tick()?;
            }
            Ok(servers.iter().all(Server::is_ready))
        })
    }

    /// The agents end in order; then each runs for a second more, until all that its outbox holds is acknowledged.
    pub(super) fn drain(&mut self) -> Result<()> {
        let front = self.front(0)?;
        for agent in &mut self.agents {
            agent.member.bring_down()?;
            agent.ask(&self.lab)?;
        }
        for agent in &mut self.agents {
            deliver(&self.lab, &front.url(), &agent.device, &agent.device)?;
            agent.ask(&self.lab)?;
        }
        Ok(())
    }

    /// Nothing of it runs any more.
    pub(super) fn stop(mut self) {
        self.agents.clear();
        self.servers.clear();
        self.database.stop();
    }
}

impl Agent {
    /// What its outbox says, which is never less than before.
    pub(super) fn ask(&mut self, lab: &Lab) -> Result<()> {
        let tails = lab.tails(&self.device)?;
        for (stream, tail) in &tails {
            let before = self.captured.get(stream).copied().unwrap_or_default();
            ensure!(
                before <= *tail,
                "the outbox of {} held {before} samples of stream {stream}, and holds {tail}",
                self.device
            );
        }
        remember(&mut self.captured, tails);
        Ok(())
    }

    /// The same, of one that may have been killed while it made its first outbox.
    pub(super) fn ask_if_begun(&mut self, lab: &Lab) -> Result<()> {
        match lab.tails(&self.device) {
            Err(_) if self.captured.is_empty() => Ok(()),
            _ => self.ask(lab),
        }
    }
}

/// What was captured stays captured, whatever becomes of the outbox.
pub(super) fn remember(captured: &mut BTreeMap<String, u64>, tails: BTreeMap<String, u64>) {
    for (stream, tail) in tails {
        let known = captured.entry(stream).or_default();
        *known = tail.max(*known);
    }
}

/// Captures a second more of a device, and returns once all that the outbox holds is acknowledged.
pub(super) fn deliver(lab: &Lab, url: &str, outbox: &str, device: &str) -> Result<()> {
    let simulate = spec(999);
    let options = ["--device", device, "--simulate", &simulate, "--duration", "1s"];
    let mut agent = lab.agent_at(url, outbox, &["run"], &options)?;
    agent.wait_success(PATIENCE)
}

fn server(lab: &Arc<Lab>, number: usize, database_url: &str, random: Random) -> Result<Server> {
    let (grpc, http) = (free_port()?, free_port()?);
    let (lab, url) = (Arc::clone(lab), database_url.to_owned());
    let recipe = move || {
        let mut command = Command::new(binary("wavekeep-server")?);
        command.args(["serve", "--database-url", &url]);
        command.args(["--listen", &grpc.to_string(), "--http", &http.to_string()]);
        Ok((command, lab.folder().to_owned()))
    };
    Ok(Server {
        member: Member::new(&format!("server-{number}"), random, Box::new(recipe)),
        grpc,
        http,
    })
}
