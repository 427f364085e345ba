//! A connection as an agent has it: the real gRPC connection over a simulated one that may be slow, be reset in the middle of a frame, or
//! flip a bit; and what the oracle overhears on it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};
use tokio_stream::StreamExt;
use turmoil::net::TcpStream;
use wavekeep_agent::connect::{Connect, Connecting, GrpcConnect, Link};
use wavekeep_agent::limits::OUTGOING_FRAMES_MAX;
use wavekeep_proto::frame::{AgentFrame, ServerFrame};
use wavekeep_proto::id::StreamId;
use wavekeep_proto::{v1, wire};

use super::server::PORT;
use super::stage::{Shared, Stage, lock, server_name};
use crate::log::log;

/// A slow link takes so many bytes in one go.
const SLOW_WRITE_BYTES: usize = 2_048;

/// What happens to a connection, and what was said on it.
#[derive(Debug, Default)]
pub(super) struct WireState {
    agent: usize,
    pub(super) server: usize,
    /// Reset after so many more bytes to the server, or to the agent.
    pub(super) cut_up: Option<u64>,
    pub(super) cut_down: Option<u64>,
    cut: bool,
    /// A bit of the next bytes in this direction flips.
    pub(super) flip_up: bool,
    pub(super) flip_down: bool,
    /// What it says since then may be anything.
    tampered: bool,
    pub(super) bytes_per_s: Option<u64>,
    pub(super) open: bool,
    slots: BTreeMap<u32, Slot>,
}

/// A stream, as this connection speaks of it.
#[derive(Debug)]
struct Slot {
    stream: StreamId,
    acked: u64,
}

/// Connects to any server: behind a load balancer an agent cannot choose.
#[derive(Clone)]
pub(super) struct Dial {
    shared: Shared,
    agent: usize,
    grpc: GrpcConnect,
}

impl Dial {
    pub(super) fn new(shared: &Shared, agent: usize) -> Self {
        let grpc = GrpcConnect::new("http://servers:7460").expect("a good URL");
        let shared = shared.clone();
        Self { shared, agent, grpc }
    }
}

impl Connect for Dial {
    fn connect(&self) -> Connecting {
        let (shared, agent) = (self.shared.clone(), self.agent);
        let wire = lock(&shared).new_wire(agent);
        let endpoint = self.grpc.endpoint();
        let dialled = shared.clone();
        let connector = tower::service_fn(move |_| {
            let shared = dialled.clone();
            async move {
                let server = lock(&shared).wires[wire].server;
                let stream = TcpStream::connect((server_name(server), PORT)).await?;
                lock(&shared).wires[wire].open = true;
                Ok::<_, io::Error>(TokioIo::new(Wire::new(shared, wire, stream)))
            }
        });
        let connecting = self
            .grpc
            .over(async move { endpoint.connect_with_connector(connector).await });
        Box::pin(async move { Ok(overhear(shared, wire, connecting.await?)) })
    }
}

/// The same link, with the oracle in between.
fn overhear(shared: Shared, wire: usize, link: Link) -> Link {
    let (outgoing, mut frames) = mpsc::channel(OUTGOING_FRAMES_MAX);
    let inner = link.outgoing;
    let says = shared.clone();
    tokio::spawn(async move {
        while let Some(frame) = frames.recv().await {
            lock(&says).agent_says(wire, &frame);
            if inner.send(frame).await.is_err() {
                return;
            }
        }
    });
    let incoming = link.incoming.map(move |frame| {
        if let Ok(frame) = &frame {
            lock(&shared).agent_hears(wire, frame);
        }
        frame
    });
    Link {
        outgoing,
        incoming: Box::pin(incoming),
    }
}

impl Stage {
    fn new_wire(&mut self, agent: usize) -> usize {
        let server = self.world.random.place(self.servers.len());
        log!(
            self.world,
            "agent {agent} connects to server {server} (wire {})",
            self.wires.len()
        );
        self.wires.push(WireState {
            agent,
            server,
            ..WireState::default()
        });
        self.world.counters.sessions += 1;
        self.wires.len() - 1
    }

    fn agent_says(&mut self, wire: usize, frame: &v1::AgentFrame) {
        let Ok(frame) = wire::agent_frame(frame.clone()) else {
            return self
                .world
                .oracle
                .break_with("an agent sends what it cannot read itself".into());
        };
        let place = &mut self.wires[wire];
        log!(
            self.world,
            "agent {} sends {}",
            place.agent,
            crate::log::agent_frame(&frame)
        );
        match frame {
            AgentFrame::Open(open) => {
                let slot = Slot {
                    stream: open.definition.id,
                    acked: 0,
                };
                place.slots.insert(open.slot, slot);
            }
            AgentFrame::Chunk { .. } => self.world.counters.chunks_sent += 1,
            AgentFrame::Hello(_) | AgentFrame::Heartbeat(_) => {}
        }
    }

    fn agent_hears(&mut self, wire: usize, frame: &v1::ServerFrame) {
        let place = &mut self.wires[wire];
        let (agent, tampered) = (place.agent, place.tampered);
        let Ok(frame) = wire::server_frame(frame.clone()) else {
            if !tampered {
                self.world
                    .oracle
                    .break_with("a server sends what nobody can read".into());
            }
            return;
        };
        let world = &mut self.world;
        log!(world, "agent {agent} hears {frame:?}");
        let now = world.now;
        match frame {
            ServerFrame::Ack(ack) => {
                let Some(slot) = place.slots.get_mut(&ack.slot) else {
                    return;
                };
                let last = std::mem::replace(&mut slot.acked, ack.watermark);
                if last >= ack.watermark && !tampered {
                    let text = format!("I6: acks of {} went from {last} to {}", slot.stream, ack.watermark);
                    world.oracle.break_with(text);
                }
                let at = (ack.watermark, ack.digest);
                world.oracle.hears_ack(now, agent, slot.stream, at, tampered);
            }
            ServerFrame::Opened(opened) => {
                let Some(slot) = place.slots.get_mut(&opened.slot) else {
                    return;
                };
                slot.acked = opened.at.seq;
                let at = (opened.at.seq, opened.at.digest);
                world.oracle.hears_opened(now, agent, slot.stream, at, tampered);
            }
            ServerFrame::Refused(refused) => world.oracle.refused(refused.code, tampered),
            ServerFrame::Welcome(_) | ServerFrame::Goaway { .. } | ServerFrame::Heartbeat { .. } => {}
        }
    }
}

/// The bytes of a connection, at the agent's end.
struct Wire {
    shared: Shared,
    wire: usize,
    /// Gone once it was reset.
    stream: Option<TcpStream>,
    /// A slow link takes nothing until then.
    pause: Option<Pin<Box<Sleep>>>,
}

fn reset<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
}

/// How many of these bytes pass before a cut.
fn until_cut(left: &mut Option<u64>, bytes: usize) -> usize {
    match left {
        Some(left) => {
            let pass = (bytes as u64).min(*left);
            *left -= pass;
            pass as usize
        }
        None => bytes,
    }
}

impl Wire {
    fn new(shared: Shared, wire: usize, stream: TcpStream) -> Self {
        Self {
            shared,
            wire,
            stream: Some(stream),
            pause: None,
        }
    }

    /// Resets it if that is due; is it there?
    fn is_there(&mut self) -> bool {
        let mut stage = lock(&self.shared);
        let state = &mut stage.wires[self.wire];
        state.cut |= state.cut_up == Some(0) || state.cut_down == Some(0);
        let cut = state.cut;
        drop(stage);
        if cut {
            self.stream = None;
        }
        self.stream.is_some()
    }

    /// A slow link's rest between two writes.
    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        lock(&self.shared).wires[self.wire].open = false;
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.is_there() {
            return reset();
        }
        std::task::ready!(self.poll_pause(context));
        let (mut bytes, rest, flip) = {
            let mut stage = lock(&self.shared);
            let stage = &mut *stage;
            let state = &mut stage.wires[self.wire];
            let most = if state.bytes_per_s.is_some() {
                bytes.len().min(SLOW_WRITE_BYTES)
            } else {
                bytes.len()
            };
            let rest = state
                .bytes_per_s
                .map(|speed| Duration::from_secs_f64(most as f64 / speed as f64));
            let pass = state.cut_up.map_or(most, |left| most.min(left as usize));
            let flip = std::mem::take(&mut state.flip_up) && pass > 0;
            state.tampered |= flip;
            let flip = flip.then(|| stage.world.random.place(pass * 8));
            (bytes[..pass].to_vec(), rest, flip)
        };
        if let Some(bit) = flip {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let Some(stream) = &mut self.stream else { return reset() };
        let written = std::task::ready!(Pin::new(stream).poll_write(context, &bytes))?;
        let mut stage = lock(&self.shared);
        until_cut(&mut stage.wires[self.wire].cut_up, written);
        drop(stage);
        self.pause = rest.map(|rest| Box::pin(sleep(rest)));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_flush(context),
            None => reset(),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(context),
            None => reset(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.is_there() {
            return reset();
        }
        let before = to.filled().len();
        let Some(stream) = &mut self.stream else { return reset() };
        std::task::ready!(Pin::new(stream).poll_read(context, to))?;
        let read = to.filled().len() - before;
        let mut stage = lock(&self.shared);
        let stage = &mut *stage;
        let state = &mut stage.wires[self.wire];
        let pass = until_cut(&mut state.cut_down, read);
        if pass < read {
            to.set_filled(before + pass);
        }
        if pass > 0 && std::mem::take(&mut state.flip_down) {
            state.tampered = true;
            let bit = stage.world.random.place(pass * 8);
            to.filled_mut()[before + bit / 8] ^= 1 << (bit % 8);
        }
        Poll::Ready(Ok(()))
    }
}
