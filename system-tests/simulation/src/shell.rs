//! The shell around the sending machine: it polls, carries out what the machine decides, and hands in what happens.

use std::time::Duration;

use wavekeep_proto::frame::{AgentFrame, ServerFrame};
use wavekeep_proto::uplink::{Action, Alarm, LinkState, Outbox as _};

use crate::agent::MAINTAIN;
use crate::link::{Link, Up};
use crate::log::log;
use crate::mischief::{self, Forged};
use crate::queue::Event;
use crate::world::World;

/// What a machine may want to do at one moment.
const STEPS_MAX: u32 = 100_000;

impl World {
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
                return self
                    .oracle
                    .break_with("I12: the sending machine never comes to rest".into());
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
            Action::Acked { .. } => {}
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
