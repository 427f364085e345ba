//! The agents: the real outbox on a modelled disk, and the real sending machine. A process may die at any
//! moment; its disk stays, and the next process starts from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wavekeep_proto::chunk::Position;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::uplink::{Config, Outbox as _, Uplink};

use crate::disk::Disk;
use crate::link::Up;
use crate::log::log;
use crate::queue::Event;
use crate::source::Source;
use crate::world::World;

/// Between two times at which an outbox looks for what may go.
pub(crate) const MAINTAIN: Duration = Duration::from_secs(2);

/// See the module's documentation.
pub(crate) struct Agent {
    /// Changes when a process starts, and when it dies.
    pub(crate) life: u32,
    pub(crate) running: bool,
    pub(crate) disk: Disk,
    pub(crate) uplink: Uplink,
    pub(crate) link: Option<usize>,
    pub(crate) sources: Vec<Source>,
    /// Files that it replays, in every life until each is done.
    pub(crate) files: Vec<Source>,
    pub(crate) wake_at: Option<Duration>,
    pub(crate) stored_since_sync: u64,
    /// The first seq held, and the last, of each stream at the last look.
    pub(crate) held: BTreeMap<StreamId, (u64, u64)>,
    /// What its outbox counted then.
    pub(crate) released_chunks: u64,
}

fn config(seed: u64) -> Config {
    Config {
        agent: "simulated".into(),
        workspace: "main".into(),
        upload_limit_bytes: None,
        seed,
    }
}

impl Agent {
    pub(crate) fn new(disk: Disk, files: Vec<Source>) -> Self {
        Self {
            life: 0,
            running: false,
            disk,
            uplink: Uplink::new(config(0)),
            link: None,
            sources: Vec::new(),
            files,
            wake_at: None,
            stored_since_sync: 0,
            held: BTreeMap::new(),
            released_chunks: 0,
        }
    }

    /// Streams of which its outbox holds anything.
    pub(crate) fn held_streams(&self) -> BTreeSet<StreamId> {
        self.disk.outbox().streams().into_iter().collect()
    }

    /// Does its outbox hold a stream that is over? (That of a file whose replay was interrupted is not.)
    pub(crate) fn holds_what_has_ended(&self) -> bool {
        let outbox = self.disk.outbox();
        outbox
            .streams()
            .into_iter()
            .any(|stream| outbox.tail(stream).is_some_and(|tail| tail.ended))
    }

    fn undelivered_streams(&self) -> impl Iterator<Item = StreamId> {
        let outbox = self.disk.outbox();
        outbox.streams().into_iter().filter(|stream| {
            outbox
                .view(*stream)
                .is_some_and(|view| view.acked < view.tail.seq || (!view.tail.ended && !view.definition.is_file()))
        })
    }

    /// Is all that it ever had acknowledged, and every stream ended?
    pub(crate) fn is_drained(&self) -> bool {
        self.running && self.sources.iter().all(|source| source.done) && self.undelivered_streams().next().is_none()
    }

    /// What is in the way of that.
    pub(crate) fn remaining(&self) -> String {
        let outbox = self.disk.outbox();
        let streams = self.undelivered_streams().filter_map(|stream| {
            let view = outbox.view(stream)?;
            let name = crate::log::stream(stream);
            Some(format!(
                "{name} acked {} of {} ended {}",
                view.acked, view.tail.seq, view.tail.ended
            ))
        });
        let streams: Vec<String> = streams.collect();
        let sources = self.sources.iter().filter(|source| !source.done).count();
        format!(
            "running {} {:?}, {sources} sources, {}",
            self.running,
            self.uplink.link_state(),
            streams.join(", ")
        )
    }
}

impl World {
    /// A process starts on what the last one left: its live streams are to end, its sources open new ones.
    pub(crate) fn start_agent(&mut self, agent: usize) {
        let seed = self.random.next();
        let place = &mut self.agents[agent];
        place.life += 1;
        place.running = true;
        place.uplink = Uplink::new(config(seed));
        place.link = None;
        place.wake_at = None;
        place.disk.start(self.now);
        place.held = place.disk.held();
        place.sources = place.files.iter().filter(|file| !file.done).cloned().collect();
        let life = place.life;
        log!(self, "agent {agent} starts");
        if !self.calm {
            for _ in 0..self.plan.sources {
                let source = Source::live(&mut self.random, self.plan.large);
                self.agents[agent].sources.push(source);
            }
        }
        for source in 0..self.agents[agent].sources.len() {
            self.open_source(agent, source);
            let at = self.now + self.random.ms(1, 1_000);
            self.queue.push(at, Event::Capture { agent, life, source });
        }
        self.queue.push(self.now + MAINTAIN, Event::Maintain { agent, life });
        self.pump(agent);
    }

    pub(crate) fn open_source(&mut self, agent: usize, source: usize) {
        let definition = self.agents[agent].sources[source].definition.clone();
        let stream = definition.id;
        let opened =
            self.agents[agent]
                .disk
                .outbox()
                .open_stream((*definition).clone(), BTreeMap::new(), String::new(), 0);
        match opened {
            Ok(at) => {
                log!(
                    self,
                    "agent {agent} opens stream {} at seq {}",
                    crate::log::stream(stream),
                    at.seq
                );
            }
            Err(error) => self
                .oracle
                .break_with(format!("an outbox does not open a stream: {error}")),
        }
    }

    /// A process dies. Its disk keeps what was written, or, when the power fails, what was synced.
    pub(crate) fn stop_agent(&mut self, agent: usize, power_fails: bool) {
        if !self.agents[agent].running {
            return;
        }
        // What the outbox has found and nobody has been told yet dies with the process; its gaps stay, and the oracle knows of them.
        self.take_outbox_alarms(agent, false);
        self.agents[agent].running = false;
        self.agents[agent].life += 1;
        if let Some(link) = self.agents[agent].link.take() {
            self.links[link].agent_open = false;
            self.carry_up(link, Up::Closed);
        }
        if power_fails {
            self.cut_power(agent);
        }
        let back = self.now + self.random.ms(200, 15_000);
        let life = self.agents[agent].life;
        self.queue.push(back, Event::AgentStarts { agent, life });
    }

    fn cut_power(&mut self, agent: usize) {
        let tails = |agent: &Agent| -> BTreeMap<StreamId, Position> {
            let outbox = agent.disk.outbox();
            let view = |stream: StreamId| outbox.view(stream).map(|view| (stream, view.tail));
            outbox.streams().into_iter().filter_map(view).collect()
        };
        let before = tails(&self.agents[agent]);
        let lost = self.agents[agent].disk.power_cut(&mut self.random, self.now);
        self.counters.batches_lost += lost;
        let after = tails(&self.agents[agent]);
        // That a stream had ended, been acked and forgotten may be undone too.
        for stream in after.keys().filter(|stream| !before.contains_key(stream)) {
            self.oracle.tail_lost(agent, *stream, u64::MAX - 1);
        }
        for (stream, tail) in before {
            let left = after.get(&stream).map_or(0, |tail| tail.seq);
            if left < tail.seq {
                self.oracle.tail_lost(agent, stream, left);
            }
        }
    }

    pub(crate) fn on_agent_starts(&mut self, agent: usize, life: u32) {
        if !self.agents[agent].running && self.agents[agent].life == life {
            self.start_agent(agent);
        }
    }

    pub(crate) fn lives(&self, agent: usize, life: u32) -> bool {
        self.agents[agent].running && self.agents[agent].life == life
    }
}
