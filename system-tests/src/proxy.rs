//! A TCP proxy on loopback between an agent and a server, or a server and a database. It can cut every connection, refuse new ones, hold bytes back
//! (a black hole that keeps the connection open), forget connections, as a NAT does, and lead elsewhere, as an address that moves. Threads, one pair per connection; it ends
//! with its owner.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

/// A piece of so many bytes is (a part of) a chunk.
const LARGE: usize = 8 * 1024;

/// What a NAT forgets of a connection. Neither side is told: no byte passes any more, and no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forget {
    /// All of it.
    BothWays,
    /// Only what agents send; what the server sends, its end too, still arrives.
    FromAgents,
}

struct Connection {
    ends: [TcpStream; 2],
    forgotten: Arc<[AtomicBool; 2]>,
}

/// Of one way: when something last came, and how long nothing did.
struct Heard {
    last: Instant,
    longest_silence: Duration,
}

impl Heard {
    fn now(&mut self) {
        self.longest_silence = self.longest_silence.max(self.last.elapsed());
        self.last = Instant::now();
    }
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            last: Instant::now(),
            longest_silence: Duration::ZERO,
        }
    }
}

/// The ways' numbers.
const UP: usize = 0;
const DOWN: usize = 1;

struct State {
    /// Where new connections lead.
    target: Mutex<SocketAddr>,
    /// New connections are closed at once.
    refusing: AtomicBool,
    /// Bytes are read and kept back.
    holding: AtomicBool,
    /// So many pieces that agents send still get a flipped bit.
    corrupting: AtomicU64,
    stopped: AtomicBool,
    connections: Mutex<Vec<Connection>>,
    heard: [Mutex<Heard>; 2],
    accepted: AtomicU64,
    /// By agents.
    sent_bytes: AtomicU64,
}

impl State {
    fn new(target: SocketAddr) -> Self {
        Self {
            target: Mutex::new(target),
            refusing: AtomicBool::default(),
            holding: AtomicBool::default(),
            corrupting: AtomicU64::default(),
            stopped: AtomicBool::default(),
            connections: Mutex::default(),
            heard: Default::default(),
            accepted: AtomicU64::default(),
            sent_bytes: AtomicU64::default(),
        }
    }

    fn target(&self) -> MutexGuard<'_, SocketAddr> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, way: usize) -> MutexGuard<'_, Heard> {
        self.heard[way].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module's documentation.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

impl Proxy {
    /// Listens on a free loopback port and forwards to `target`.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::new(target));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for inbound in listener.incoming().flatten() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                if !shared.refusing.load(Ordering::SeqCst) {
                    let target = *shared.target();
                    let _ = forward(&shared, inbound, target);
                }
            }
        });
        Ok(Self { address, state })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections lead there; those that there are stay.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.state.target() = target;
    }

    /// What agents connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes that agents have sent.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.state.sent_bytes.load(Ordering::SeqCst)
    }

    /// How often somebody connected.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.state.accepted.load(Ordering::SeqCst)
    }

    /// Cuts every connection, wherever in a frame it is.
    pub fn cut(&self) {
        for connection in self.state.connections().drain(..) {
            for end in connection.ends {
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }

    /// Forgets every connection that there is; new ones pass.
    pub fn forget(&self, what: Forget) {
        for connection in self.state.connections().iter() {
            connection.forgotten[UP].store(true, Ordering::SeqCst);
            let down = what == Forget::BothWays;
            connection.forgotten[DOWN].store(down, Ordering::SeqCst);
        }
    }

    /// For how long at a time neither agents nor server said anything, at the longest, since this was last asked: a NAT counts either.
    #[must_use]
    pub fn longest_silences(&self) -> [Duration; 2] {
        [UP, DOWN].map(|way| {
            let mut heard = self.state.heard(way);
            heard.now();
            std::mem::take(&mut *heard).longest_silence
        })
    }

    /// Closes new connections at once, or lets them through again.
    pub fn refuse(&self, refusing: bool) {
        self.state.refusing.store(refusing, Ordering::SeqCst);
    }

    /// Flips a bit in each of the next pieces that agents send, if they are large enough to be of a chunk.
    pub fn corrupt(&self, pieces: u64) {
        self.state.corrupting.store(pieces, Ordering::SeqCst);
    }

    /// How many pieces are yet to be corrupted.
    #[must_use]
    pub fn to_corrupt(&self) -> u64 {
        self.state.corrupting.load(Ordering::SeqCst)
    }

    /// Keeps all bytes back while the connections stay open, or lets them go.
    pub fn hold(&self, holding: bool) {
        self.state.holding.store(holding, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the listener, so that its thread ends.
        let _ = TcpStream::connect(self.address);
    }
}

fn forward(state: &Arc<State>, inbound: TcpStream, target: SocketAddr) -> Result<()> {
    let outbound = TcpStream::connect(target)?;
    inbound.set_nodelay(true)?;
    outbound.set_nodelay(true)?;
    let forgotten = Arc::<[AtomicBool; 2]>::default();
    let pairs = [
        (inbound.try_clone()?, outbound.try_clone()?, UP),
        (outbound.try_clone()?, inbound.try_clone()?, DOWN),
    ];
    for (from, to, way) in pairs {
        let (state, forgotten) = (Arc::clone(state), Arc::clone(&forgotten));
        std::thread::spawn(move || pump(&state, from, to, (way, &forgotten[way])));
    }
    let ends = [inbound, outbound];
    state.connections().push(Connection { ends, forgotten });
    Ok(())
}

fn pump(state: &State, mut from: TcpStream, mut to: TcpStream, (way, forgotten): (usize, &AtomicBool)) {
    let mut buffer = vec![0; 64 * 1024];
    let waits = |waiting: &AtomicBool| waiting.load(Ordering::SeqCst) && !state.stopped.load(Ordering::SeqCst);
    loop {
        let read = from.read(&mut buffer);
        // Not read any further, so that the sender's bytes pile up, as those do that nobody acknowledges.
        while waits(forgotten) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let count = match read {
            Ok(count) if count > 0 && !forgotten.load(Ordering::SeqCst) => count,
            _ => break,
        };
        state.heard(way).now();
        if way == UP {
            state.sent_bytes.fetch_add(count as u64, Ordering::SeqCst);
        }
        while waits(&state.holding) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if way == UP && count >= LARGE {
            let take = |left: u64| left.checked_sub(1);
            let taken = state.corrupting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
            // In the middle of a large piece lies a column, and seldom a header of the transport.
            buffer[count / 2] ^= u8::from(taken.is_ok());
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
