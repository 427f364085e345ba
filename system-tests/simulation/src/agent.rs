//! The agents: the real outbox on a modelled disk, the real sending machine, and the shell around them. A process may die at any
//! moment; its disk stays, and the next process starts from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wavekeep_proto::chunk::Position;
use wavekeep_proto::frame::{AgentFrame, ServerFrame};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::uplink::{Action, Alarm, Config, LinkState, Outbox as _, Uplink};

use crate::disk::Disk;
use crate::link::{Link, Up};
use crate::log::log;
use crate::mischief::{self, Forged};
use crate::queue::Event;
use crate::source::Source;
use crate::world::World;

/// Between two times at which an outbox looks for what may go.
const MAINTAIN: Duration = Duration::from_secs(2);
/// What a machine may want to do at one moment.
const STEPS_MAX: u32 = 100_000;

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
    wake_at: Option<Duration>,
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
        outbox.streams().into_iter().any(|stream| outbox.tail(stream).is_some_and(|tail| tail.ended))
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

    pub(crate) fn on_agent_wake(&mut self, agent: usize, life: u32) {
        if self.lives(agent, life) && self.agents[agent].wake_at == Some(self.now) {
            self.agents[agent].wake_at = None;
            self.pump(agent);
        }
    }

    pub(crate) fn on_maintain(&mut self, agent: usize, life: u32) {
        if !self.lives(agent, life) {
            return;
        }
        let now = self.now;
        let hold_back = self.plan.hold_back;
        if let Err(error) = self.agents[agent].disk.outbox().release(now) {
            self.oracle.break_with(format!("an outbox does not release: {error}"));
        }
        self.watch_outbox(agent, Some(hold_back));
        self.queue.push(now + MAINTAIN, Event::Maintain { agent, life });
        self.pump(agent);
    }

    /// Polls the machine until it has nothing more to do, and says when to ask again.
    pub(crate) fn pump(&mut self, agent: usize) {
        for step in 0.. {
            if step > STEPS_MAX {
                return self.oracle.break_with("I12: the sending machine never comes to rest".into());
            }
            let now = self.now;
            let place = &mut self.agents[agent];
            match place.uplink.poll(now, place.disk.outbox()) {
                Ok(Some(action)) => self.perform_agent(agent, action),
                Ok(None) => break,
                Err(error) => return self.oracle.break_with(format!("an outbox fails: {error}")),
            }
        }
        self.take_outbox_alarms(agent, false);
        let place = &mut self.agents[agent];
        if let Some(at) = place.uplink.next_timeout() {
            let at = at.max(self.now + Duration::from_micros(1));
            if place.wake_at.is_none_or(|wake_at| at < wake_at || wake_at <= self.now) {
                place.wake_at = Some(at);
                let life = place.life;
                self.queue.push(at, Event::AgentWake { agent, life });
            }
        }
    }

    fn perform_agent(&mut self, agent: usize, action: Action) {
        match action {
            Action::Connect => {
                // An agent goes to any server: behind a load balancer it cannot choose.
                let server = self.random.place(self.servers.len());
                let life = self.agents[agent].life;
                let at = self.now + self.random.ms(1, 200);
                self.queue.push(at, Event::Connected { agent, life, server });
            }
            Action::Send(frame) => {
                if let Some(link) = self.agents[agent].link {
                    self.send_up(agent, link, frame);
                }
            }
            Action::Disconnect { why } => {
                log!(self, "agent {agent} disconnects: {why}");
                if let Some(link) = self.agents[agent].link.take() {
                    self.links[link].agent_open = false;
                    self.carry_up(link, Up::Closed);
                }
            }
            Action::Alarm(alarm) => {
                log!(self, "agent {agent} alarms: {alarm}");
                let tampered = self.links.iter().any(|link| link.agent == agent && link.tampered);
                if let Alarm::Diverged { stream, successor } = &alarm
                    && let Some(view) = self.agents[agent].disk.outbox().view(*successor)
                {
                    let released_seq = view.definition.predecessor.map_or(0, |predecessor| predecessor.seq);
                    self.oracle.succeeded(*stream, *successor, released_seq);
                }
                self.oracle.alarm(&alarm, tampered);
            }
        }
    }

    pub(crate) fn on_connected(&mut self, agent: usize, life: u32, server: usize) {
        if !self.lives(agent, life) || self.agents[agent].link.is_some() {
            return;
        }
        let now = self.now;
        let place = &self.servers[server];
        if !place.running || place.draining {
            self.agents[agent].uplink.disconnected(now);
            return self.pump(agent);
        }
        let link = self.links.len();
        let delay_ms = self.plan.delay_ms;
        self.links
            .push(Link::new((agent, life), (server, place.life), now, delay_ms));
        self.queue
            .push(now + Duration::from_secs(2), Event::SessionTick { link });
        log!(self, "agent {agent} connects to server {server} (link {link})");
        let place = &mut self.agents[agent];
        place.link = Some(link);
        place.uplink.connected(now, place.disk.outbox());
        self.counters.sessions += 1;
        self.pump(agent);
    }

    fn send_up(&mut self, agent: usize, link: usize, frame: AgentFrame) {
        log!(self, "agent {agent} sends {}", crate::log::agent_frame(&frame));
        self.oracle.sends(link, &frame);
        let AgentFrame::Chunk { slot, chunk } = &frame else {
            return self.carry_up(link, Up::Frame(Ok(frame)));
        };
        self.counters.chunks_sent += 1;
        let place = &mut self.links[link];
        if std::mem::take(&mut place.mischief.damage) {
            place.tampered = true;
            self.counters.damaged_frames += 1;
            let damaged = mischief::damaged(&mut self.random, &frame);
            return self.carry_up(link, Up::Frame(damaged));
        }
        if std::mem::take(&mut place.mischief.chunk) {
            place.tampered = true;
            let stream = self.oracle.stream_of_slot(link, *slot);
            let outbox = self.agents[agent].disk.outbox();
            let before =
                stream.and_then(|stream| outbox.position_at(stream, chunk.header.first_seq - 1).ok().flatten());
            let forged = mischief::forged(&mut self.random, before.map(|at| at.digest), chunk);
            log!(self, "… and it is dishonest: {}", mischief::describe(&forged));
            self.counters.dishonest_frames += u64::from(forged != Forged::Honest);
            let slot = *slot;
            match forged {
                Forged::Chunk(chunk) => {
                    return self.carry_up(link, Up::Frame(Ok(AgentFrame::Chunk { slot, chunk: *chunk })));
                }
                Forged::Skipped => return,
                Forged::Twice => self.carry_up(link, Up::Frame(Ok(frame.clone()))),
                Forged::Honest => {}
            }
        }
        self.carry_up(link, Up::Frame(Ok(frame)));
    }

    pub(crate) fn deliver_to_agent(&mut self, link: usize, mut frame: ServerFrame) {
        let Link {
            agent,
            agent_life,
            agent_open,
            ..
        } = self.links[link];
        if !self.lives(agent, agent_life) {
            return;
        }
        let now = self.now;
        if !agent_open {
            // Late words of a session that is over: a shell may still hand them in while there is no other.
            let between = matches!(
                self.agents[agent].uplink.link_state(),
                LinkState::Down | LinkState::Connecting
            );
            if between && self.agents[agent].link.is_none() {
                let place = &mut self.agents[agent];
                let received = place.uplink.received(now, Ok(frame), place.disk.outbox());
                self.counters.late_words += 1;
                self.oracle_check_outbox(received.map_err(|error| error.to_string()));
                self.pump(agent);
            }
            return;
        }
        if let ServerFrame::Ack(ack) = &mut frame
            && std::mem::take(&mut self.links[link].mischief.ack)
        {
            *ack = mischief::forged_ack(&mut self.random, *ack);
            self.links[link].tampered = true;
            self.counters.dishonest_acks += 1;
            log!(self, "a dishonest ack: slot {} seq {}", ack.slot, ack.watermark);
        }
        self.oracle.reaches_agent(now, agent, link, &frame);
        let hold_back = self.plan.hold_back;
        let told = matches!(frame, ServerFrame::Ack(_) | ServerFrame::Opened(_));
        let place = &mut self.agents[agent];
        let received = place.uplink.received(now, Ok(frame), place.disk.outbox());
        self.oracle_check_outbox(received.map_err(|error| error.to_string()));
        self.pump(agent);
        if told {
            self.watch_outbox(agent, Some(hold_back));
        }
    }

    fn oracle_check_outbox(&mut self, result: Result<(), String>) {
        if let Err(error) = result {
            self.oracle.break_with(format!("an outbox fails: {error}"));
        }
    }

    /// The agent notices that a link is gone.
    pub(crate) fn agent_end_closes(&mut self, link: usize) {
        let Link {
            agent,
            agent_life,
            agent_open,
            ..
        } = self.links[link];
        self.links[link].agent_open = false;
        if agent_open && self.lives(agent, agent_life) {
            self.agents[agent].link = None;
            self.agents[agent].uplink.disconnected(self.now);
            self.pump(agent);
        }
    }
}
