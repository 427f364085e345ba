//! One connection through the proxy, and the two threads that carry its bytes.
//!
//! Nobody but [`Connection`] has its sockets, so that they close, and a cut one is reset, when its threads have let go of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::socket::{setsockopt, sockopt};

use super::{LARGE, State, Way};

/// A piece that is carried at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Between two looks whether something that waits may go on.
const LOOK: Duration = Duration::from_millis(5);
/// A writer whose reader does not read looks up this often.
const WRITE_LOOK: Duration = Duration::from_millis(100);

pub(super) struct Connection {
    /// The agent's, and the server's unless nothing was ever to get there.
    ends: Vec<TcpStream>,
    /// No byte passes this way any more, and no end.
    pub(super) forgotten: [AtomicBool; 2],
    /// What still comes this way is read and thrown away.
    closed: [AtomicBool; 2],
    /// The same both ways, and neither side ever hears of the other again.
    swallowed: AtomicBool,
    cut: AtomicBool,
    ended: AtomicBool,
    threads: AtomicU8,
}

impl Connection {
    fn of(ends: Vec<TcpStream>) -> Result<Arc<Self>> {
        for end in &ends {
            end.set_nodelay(true)?;
            end.set_write_timeout(Some(WRITE_LOOK))?;
        }
        Ok(Arc::new(Self {
            threads: AtomicU8::new(ends.len() as u8),
            ends,
            forgotten: Default::default(),
            closed: Default::default(),
            swallowed: AtomicBool::default(),
            cut: AtomicBool::default(),
            ended: AtomicBool::default(),
        }))
    }

    /// Reset, as by a router that was restarted: what was on its way is lost.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        for end in &self.ends {
            let at_once = nix::libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            let _ = setsockopt(end, sockopt::Linger, &at_once);
            // Wakes whoever reads, and tells the other side nothing.
            let _ = end.shutdown(Shutdown::Read);
        }
    }

    /// Its receiver sees an end this way, while the other way goes on.
    pub(super) fn half_close(&self, way: Way) {
        self.closed[way as usize].store(true, Ordering::SeqCst);
        if let Some(receiver) = self.ends.get(1 - way as usize) {
            let _ = receiver.shutdown(Shutdown::Write);
        }
    }

    pub(super) fn swallow(&self) {
        self.swallowed.store(true, Ordering::SeqCst);
    }

    /// Nothing is to be waited for any more.
    fn is_over(&self, state: &State) -> bool {
        let over = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
        over(&state.stopped) || over(&self.cut) || over(&self.ended)
    }

    fn wait_while(&self, state: &State, waiting: impl Fn() -> bool) {
        while waiting() && !self.is_over(state) {
            std::thread::sleep(LOOK);
        }
    }

    fn wait(&self, state: &State, time: Duration) {
        let since = Instant::now();
        self.wait_while(state, || since.elapsed() < time);
    }

    fn throws_away(&self, way: Way) -> bool {
        self.swallowed.load(Ordering::SeqCst) || self.closed[way as usize].load(Ordering::SeqCst)
    }

    /// All of it, however long the receiver takes; false when there is none any more.
    fn send(&self, state: &State, way: Way, mut bytes: &[u8]) -> bool {
        let Some(mut receiver) = self.ends.get(1 - way as usize) else {
            return true;
        };
        while !bytes.is_empty() {
            if self.is_over(state) {
                return false;
            }
            match receiver.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return self.throws_away(way),
            }
        }
        true
    }
}

/// Carries a new connection to `target`.
pub(super) fn forward(state: &Arc<State>, inbound: TcpStream, target: SocketAddr) -> Result<()> {
    let outbound = TcpStream::connect(target)?;
    *state.newest() = Some(target);
    start(
        state,
        Connection::of(vec![inbound, outbound])?,
        &[Way::FromAgents, Way::FromServer],
    );
    Ok(())
}

/// Takes a new connection, and all that comes with it, to nowhere.
pub(super) fn swallow(state: &Arc<State>, inbound: TcpStream) -> Result<()> {
    let connection = Connection::of(vec![inbound])?;
    connection.swallow();
    start(state, connection, &[Way::FromAgents]);
    Ok(())
}

fn start(state: &Arc<State>, connection: Arc<Connection>, ways: &[Way]) {
    state.connections().push(Arc::clone(&connection));
    for way in ways {
        let (state, connection, way) = (Arc::clone(state), Arc::clone(&connection), *way);
        std::thread::spawn(move || {
            carry(&state, &connection, way);
            let swallowed = connection.swallowed.load(Ordering::SeqCst);
            if !connection.cut.load(Ordering::SeqCst) && !swallowed {
                connection.ended.store(true, Ordering::SeqCst);
                for end in &connection.ends {
                    let _ = end.shutdown(Shutdown::Both);
                }
            }
            // Of a swallowed one each side must find out by itself.
            let last = connection.threads.fetch_sub(1, Ordering::SeqCst) == 1;
            if last || !swallowed {
                state.connections().retain(|other| !Arc::ptr_eq(other, &connection));
            }
        });
    }
}

fn carry(state: &State, connection: &Connection, way: Way) {
    let mut sender = &connection.ends[way as usize];
    let forgotten = &connection.forgotten[way as usize];
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let rate = state.bytes_per_second.load(Ordering::SeqCst);
        let piece = if rate == 0 {
            PIECE_BYTES
        } else {
            (rate / 20).clamp(1, PIECE_BYTES as u64) as usize
        };
        let read = sender.read(&mut buffer[..piece]);
        // Not read any further, so that the sender's bytes pile up, as those do that nobody acknowledges.
        connection.wait_while(state, || forgotten.load(Ordering::SeqCst));
        let count = match read {
            Ok(count) if count > 0 && !forgotten.load(Ordering::SeqCst) => count,
            _ => return,
        };
        state.heard(way).now();
        if way == Way::FromAgents {
            state.sent_bytes.fetch_add(count as u64, Ordering::SeqCst);
        }
        connection.wait_while(state, || state.holding.load(Ordering::SeqCst));
        connection.wait(state, Duration::from_millis(state.delay_ms.load(Ordering::SeqCst)));
        if connection.throws_away(way) {
            continue;
        }
        flip(state, way, &mut buffer[..count]);
        if !connection.send(state, way, &buffer[..count]) {
            return;
        }
        if rate > 0 {
            connection.wait(state, Duration::from_secs_f64(count as f64 / rate as f64));
        }
    }
}

fn flip(state: &State, way: Way, piece: &mut [u8]) {
    let takes = |left: &AtomicU64| {
        let take = |left: u64| left.checked_sub(1);
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    };
    let count = piece.len();
    if way == Way::FromAgents && count >= LARGE && takes(&state.corrupting) {
        // In the middle of a large piece lies a column, and seldom a header of the transport.
        piece[count / 2] ^= 1;
    }
    if takes(&state.flipping[way as usize]) {
        let place = state.random();
        piece[place as usize % count] ^= 1 << (place >> 61);
    }
}
