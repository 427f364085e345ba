//! A TCP proxy on loopback between agents and servers, or a server and a database, and all that a network does to a connection. It
//! needs no rights and no network device. Threads, two a connection; it ends with its owner.
//!
//! | fault | what |
//! |---|---|
//! | [`Proxy::cut`] | every connection is reset, wherever in a frame it is |
//! | [`Proxy::refuse`] | new connections are closed at once |
//! | [`Proxy::hold`] | bytes are kept back, and come later |
//! | [`Proxy::delay`], [`Proxy::throttle`] | a slow link |
//! | [`Proxy::corrupt`], [`Proxy::flip`] | a bit is another one |
//! | [`Proxy::half_close`] | one side is told that the other will say no more |
//! | [`Proxy::forget`] | a NAT that lost its table: bytes pile up at the sender |
//! | [`Proxy::black_hole`] | bytes are taken and never arrive; new connections are accepted, by nobody |
//!
//! It leads to one address, to one that moves, or to any of several.

mod connection;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use connection::Connection;

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

/// Which of the two ways of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From whoever connected.
    FromAgents = 0,
    /// And back.
    FromServer = 1,
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

#[derive(Default)]
struct State {
    /// Where new connections lead: one that answers, whichever.
    targets: Mutex<Vec<SocketAddr>>,
    /// Where the newest leads.
    newest: Mutex<Option<SocketAddr>>,
    /// New connections are closed at once.
    refusing: AtomicBool,
    /// Bytes are read and kept back.
    holding: AtomicBool,
    /// New connections lead nowhere.
    swallowing: AtomicBool,
    /// Each piece comes so much later.
    delay_ms: AtomicU64,
    /// Each way of each connection; 0: no limit.
    bytes_per_second: AtomicU64,
    /// So many large pieces that agents send still get a flipped bit.
    corrupting: AtomicU64,
    /// The same of pieces of any size, each way.
    flipping: [AtomicU64; 2],
    stopped: AtomicBool,
    connections: Mutex<Vec<Arc<Connection>>>,
    heard: [Mutex<Heard>; 2],
    accepted: AtomicU64,
    /// By agents.
    sent_bytes: AtomicU64,
    randomness: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn connections(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        locked(&self.connections)
    }

    fn heard(&self, way: Way) -> MutexGuard<'_, Heard> {
        locked(&self.heard[way as usize])
    }

    fn newest(&self) -> MutexGuard<'_, Option<SocketAddr>> {
        locked(&self.newest)
    }

    /// Another number each time.
    fn random(&self) -> u64 {
        crate::random::mixed(self.randomness.fetch_add(1, Ordering::SeqCst))
    }

    fn take(self: &Arc<Self>, inbound: TcpStream) -> Result<()> {
        if self.refusing.load(Ordering::SeqCst) {
            return Ok(());
        }
        if self.swallowing.load(Ordering::SeqCst) {
            return connection::swallow(self, inbound);
        }
        let targets = locked(&self.targets).clone();
        let first = self.random() as usize;
        for turn in 0..targets.len() {
            let target = targets[first.wrapping_add(turn) % targets.len()];
            if connection::forward(self, inbound.try_clone()?, target).is_ok() {
                return Ok(());
            }
        }
        Ok(())
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
        Self::balance(vec![target], 0)
    }

    /// The same, to any of these that answers; which of them, and which bits flip, is `seed`'s choice.
    pub fn balance(targets: Vec<SocketAddr>, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no loopback port for a proxy")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            targets: Mutex::new(targets),
            randomness: AtomicU64::new(seed),
            ..State::default()
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for inbound in listener.incoming().flatten() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let _ = shared.take(inbound);
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
        *locked(&self.state.targets) = vec![target];
    }

    /// Where the newest connection leads.
    #[must_use]
    pub fn newest_leads_to(&self) -> Option<SocketAddr> {
        *self.state.newest()
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

    /// Resets every connection, wherever in a frame it is.
    pub fn cut(&self) {
        for connection in self.state.connections().drain(..) {
            connection.cut();
        }
    }

    /// Every receiver this way sees its end; the other way goes on. What still comes this way is thrown away.
    pub fn half_close(&self, way: Way) {
        for connection in self.state.connections().iter() {
            connection.half_close(way);
        }
    }

    /// Forgets every connection that there is; new ones pass.
    pub fn forget(&self, what: Forget) {
        for connection in self.state.connections().iter() {
            connection.forgotten[Way::FromAgents as usize].store(true, Ordering::SeqCst);
            let down = what == Forget::BothWays;
            connection.forgotten[Way::FromServer as usize].store(down, Ordering::SeqCst);
        }
    }

    /// All bytes are taken and none arrives, of the connections that there are and of new ones. Later ones pass again when it ends;
    /// those that lost bytes never do.
    pub fn black_hole(&self, swallowing: bool) {
        self.state.swallowing.store(swallowing, Ordering::SeqCst);
        if swallowing {
            self.state
                .connections()
                .iter()
                .for_each(|connection| connection.swallow());
        }
    }

    /// For how long at a time neither agents nor server said anything, at the longest, since this was last asked: a NAT counts either.
    #[must_use]
    pub fn longest_silences(&self) -> [Duration; 2] {
        [Way::FromAgents, Way::FromServer].map(|way| {
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

    /// Flips one bit, wherever it is, in each of the next pieces this way: frames and headers of the transport included.
    pub fn flip(&self, way: Way, pieces: u64) {
        self.state.flipping[way as usize].store(pieces, Ordering::SeqCst);
    }

    /// Keeps all bytes back while the connections stay open, or lets them go.
    pub fn hold(&self, holding: bool) {
        self.state.holding.store(holding, Ordering::SeqCst);
    }

    /// Each piece of up to 64 KiB comes so much later than the one before it has gone; in whole milliseconds.
    pub fn delay(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.state.delay_ms.store(ms, Ordering::SeqCst);
    }

    /// At most so many bytes pass each way of each connection in a second; 0: as many as come.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.state.bytes_per_second.store(bytes_per_second, Ordering::SeqCst);
    }

    /// Ends all of that for connections to come, and what can end for those that there are.
    pub fn heal(&self) {
        self.refuse(false);
        self.black_hole(false);
        self.hold(false);
        self.delay(Duration::ZERO);
        self.throttle(0);
        self.corrupt(0);
        self.flip(Way::FromAgents, 0);
        self.flip(Way::FromServer, 0);
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
