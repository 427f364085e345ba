//! The servers: each runs the real receiving machine for every link, takes streams for its slots, and group-commits what is
//! accepted, several streams in one transaction. The shell around the machines is modelled after docs/PROTOCOL.md.
//!
//! # Invariants
//! - I7: a stream has one writer in a server; an entry is of one stream and one owner.

use std::sync::Arc;
use std::time::Duration;

use wavekeep_proto::chunk::{Chunk, Position};
use wavekeep_proto::code::Code;
use wavekeep_proto::frame::ServerFrame;
use wavekeep_proto::id::{LedgerId, Owner, SessionId};
use wavekeep_proto::limits;
use wavekeep_proto::session::{Action, LedgerState, Session};

use crate::database::{Entry, OpenRequest};
use crate::link::{Down, Link, SlotOwner, Up};
use crate::log::log;
use crate::queue::Event;
use crate::transaction::Work;
use crate::world::World;

/// The workspace's ledger: one, whatever happens to its database.
pub(crate) const LEDGER: LedgerId = LedgerId([0x1e; 16]);
/// Between two looks at a session's deadlines.
const TICK: Duration = Duration::from_millis(2_500);
/// A draining session has this long.
pub(crate) const DRAIN_MS: u64 = 10_000;

/// Gathers accepted chunks, and commits them together.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    queue: Vec<Entry>,
    pub(crate) busy: bool,
    waking: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) life: u32,
    pub(crate) running: bool,
    pub(crate) draining: bool,
    /// The copy of the database that it is connected to.
    pub(crate) branch: usize,
    pub(crate) window_bytes: u64,
    pub(crate) writers: Vec<Writer>,
}

impl Server {
    pub(crate) fn new(life: u32, branch: usize, writers: usize) -> Self {
        Self {
            life,
            running: true,
            draining: false,
            branch,
            window_bytes: limits::WINDOW_BYTES_MIN,
            writers: (0..writers).map(|_| Writer::default()).collect(),
        }
    }
}

impl World {
    /// The session at a link's end, if that server still runs it.
    pub(crate) fn session_of(&mut self, link: usize, server: usize) -> Option<&mut Session> {
        let link = &mut self.links[link];
        let same = link.server == server && link.server_life == self.servers[server].life;
        link.session.as_mut().filter(|_| same)
    }

    /// Lets the session read what has arrived, and performs what it decides.
    pub(crate) fn serve(&mut self, link: usize) {
        loop {
            let now = self.now;
            let Some(session) = self.links[link].session.as_mut() else {
                return;
            };
            if let Some(action) = session.next_action(now) {
                self.perform_server(link, action);
                continue;
            }
            if session.is_closed() || session.is_drained() {
                return self.close_server_end(link);
            }
            if !session.may_read() {
                return;
            }
            match self.links[link].inbox.pop_front() {
                None => return,
                Some(Up::Closed) => self.links[link].session = None,
                Some(Up::Frame(frame)) => {
                    if let Some(session) = &mut self.links[link].session {
                        session.received(now, frame);
                    }
                }
            }
        }
    }

    fn perform_server(&mut self, link: usize, action: Action) {
        match action {
            Action::Admit(_) => self.admit(link),
            Action::Open(open) => {
                let owner = Owner(self.random.id());
                let stream = open.definition.id;
                self.links[link].slots.insert(open.slot, SlotOwner { stream, owner });
                let request = OpenRequest {
                    definition: open.definition,
                    stored_seq: open.stored_seq,
                    owner,
                    link,
                    slot: open.slot,
                };
                let server = self.links[link].server;
                self.submit(server, Work::Open(request));
            }
            Action::Accept { slot, before, chunk } => self.accept(link, slot, before, chunk),
            Action::Send(frame) => self.send_down(link, frame),
            Action::Status(_) => {}
            Action::Close => self.close_server_end(link),
        }
    }

    fn admit(&mut self, link: usize) {
        let session_id = SessionId(self.random.id());
        let server = &self.servers[self.links[link].server];
        let window_bytes = server.window_bytes;
        let ledger = LedgerState {
            id: LEDGER,
            generation: self.branches[server.branch].generation,
        };
        let busy = !self.calm && self.random.once_in(20);
        if let Some(session) = &mut self.links[link].session {
            if busy {
                session.refuse_session(Code::Busy, "this server has enough sessions");
            } else {
                session.admitted(ledger, session_id, window_bytes);
            }
        }
    }

    fn accept(&mut self, link: usize, slot: u32, before: Position, chunk: Chunk) {
        let server = self.links[link].server;
        let SlotOwner { stream, owner } = self.links[link].slots[&slot];
        self.oracle.accepted(link, slot, &before, &chunk);
        let writer = usize::from(stream.0[0]) % self.servers[server].writers.len();
        let after = Position::after(&chunk.header, chunk.digest);
        let flow_bytes = chunk.flow_bytes();
        let queue = &mut self.servers[server].writers[writer].queue;
        match queue
            .iter_mut()
            .rev()
            .find(|entry| entry.stream == stream && entry.owner == owner)
        {
            Some(entry) => {
                entry.after = after;
                entry.chunks.push(Arc::new(chunk));
                entry.flow_bytes += flow_bytes;
            }
            None => queue.push(Entry {
                stream,
                owner,
                before,
                after,
                chunks: vec![Arc::new(chunk)],
                link,
                slot,
                flow_bytes,
            }),
        }
        self.wake_writer(server, writer);
    }

    pub(crate) fn wake_writer(&mut self, server: usize, writer: usize) {
        let life = self.servers[server].life;
        let place = &mut self.servers[server].writers[writer];
        if place.busy || place.waking || place.queue.is_empty() {
            return;
        }
        place.waking = true;
        let gathered = self.now + self.random.ms(0, 20);
        self.queue.push(gathered, Event::Write { server, life, writer });
    }

    pub(crate) fn on_write(&mut self, server: usize, life: u32, writer: usize) {
        if self.servers[server].life != life {
            return;
        }
        let place = &mut self.servers[server].writers[writer];
        place.waking = false;
        let entries = std::mem::take(&mut place.queue);
        place.busy = true;
        self.counters.widest_batch = self.counters.widest_batch.max(entries.len() as u64);
        self.submit(server, Work::Commit { writer, entries });
    }

    fn send_down(&mut self, link: usize, frame: ServerFrame) {
        let Link { server, tampered, .. } = self.links[link];
        log!(
            self,
            "server {server} says {} (link {link})",
            crate::log::server_frame(&frame)
        );
        let branch = self.servers[server].branch;
        match &frame {
            ServerFrame::Opened(opened) => {
                let stream = self.links[link].slots[&opened.slot].stream;
                self.oracle.says_opened(branch, link, stream, opened);
            }
            ServerFrame::Ack(ack) => self
                .oracle
                .acknowledged(branch, link, ack.slot, ack.watermark, ack.digest),
            ServerFrame::Refused(refused) => self.oracle.refused(refused.code, tampered),
            ServerFrame::Welcome(_) | ServerFrame::Goaway { .. } | ServerFrame::Heartbeat { .. } => {}
        }
        self.carry_down(link, Down::Frame(frame));
    }

    pub(crate) fn close_server_end(&mut self, link: usize) {
        if self.links[link].session.take().is_some() {
            self.carry_down(link, Down::Closed);
        }
    }

    pub(crate) fn on_session_tick(&mut self, link: usize) {
        let now = self.now;
        if let Some(session) = &mut self.links[link].session {
            session.tick(now);
            self.serve(link);
            self.queue.push(now + TICK, Event::SessionTick { link });
        }
    }

    /// A server process ends. Its sessions end without a word; what its database connections carry may still be done.
    pub(crate) fn stop_server(&mut self, server: usize) {
        if !self.servers[server].running {
            return;
        }
        self.orphan_transactions(server, false);
        let life = self.servers[server].life;
        for link in 0..self.links.len() {
            let of_server = self.links[link].server == server && self.links[link].server_life == life;
            if of_server && self.links[link].session.take().is_some() {
                self.carry_down(link, Down::Closed);
            }
        }
        self.servers[server].running = false;
        self.servers[server].life += 1;
    }

    pub(crate) fn on_server_starts(&mut self, server: usize, life: u32) {
        if self.servers[server].running && self.servers[server].life != life {
            return;
        }
        self.stop_server(server);
        let window_bytes = self.servers[server].window_bytes;
        self.servers[server] = Server::new(self.servers[server].life, self.branches.len() - 1, self.plan.writers);
        self.servers[server].window_bytes = window_bytes;
        log!(self, "server {server} starts");
    }

    /// It reads nothing more, commits and acks what it accepted, and closes; later another process takes its place.
    pub(crate) fn drain_server(&mut self, server: usize) {
        let life = self.servers[server].life;
        self.servers[server].draining = true;
        for link in 0..self.links.len() {
            if self.links[link].server == server && self.links[link].server_life == life {
                self.drain_link(link);
            }
        }
        let back = self.now + Duration::from_millis(DRAIN_MS) + self.random.ms(0, 5_000);
        self.queue.push(back, Event::ServerStarts { server, life });
    }

    pub(crate) fn drain_link(&mut self, link: usize) {
        if let Some(session) = &mut self.links[link].session {
            session.drain(DRAIN_MS, "this server is going away");
            self.queue
                .push(self.now + Duration::from_millis(DRAIN_MS), Event::DrainEnds { link });
            self.serve(link);
        }
    }
}
