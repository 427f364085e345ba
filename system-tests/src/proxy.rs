//! A TCP proxy on loopback between an agent and a server. It can cut every connection, refuse new ones, and hold bytes back
//! (a black hole that keeps the connection open). Threads, one pair per connection; it ends with its owner.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

/// A piece of so many bytes is (a part of) a chunk.
const LARGE: usize = 8 * 1024;

#[derive(Default)]
struct State {
    /// New connections are closed at once.
    refusing: AtomicBool,
    /// Bytes are read and kept back.
    holding: AtomicBool,
    /// So many pieces that agents send still get a flipped bit.
    corrupting: AtomicU64,
    stopped: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
    accepted: AtomicU64,
    /// By agents.
    sent_bytes: AtomicU64,
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
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for inbound in listener.incoming().flatten() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                if !shared.refusing.load(Ordering::SeqCst) {
                    let _ = forward(&shared, inbound, target);
                }
            }
        });
        Ok(Self { address, state })
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
        let mut connections = self.state.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
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
    let pairs = [
        (inbound.try_clone()?, outbound.try_clone()?, true),
        (outbound.try_clone()?, inbound.try_clone()?, false),
    ];
    for (from, to, up) in pairs {
        let state = Arc::clone(state);
        std::thread::spawn(move || pump(&state, from, to, up));
    }
    let mut connections = state.connections.lock().unwrap_or_else(PoisonError::into_inner);
    connections.extend([inbound, outbound]);
    Ok(())
}

fn pump(state: &State, mut from: TcpStream, mut to: TcpStream, up: bool) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(count) if count > 0 => count,
            _ => break,
        };
        if up {
            state.sent_bytes.fetch_add(count as u64, Ordering::SeqCst);
        }
        while state.holding.load(Ordering::SeqCst) && !state.stopped.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if up && count >= LARGE {
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
