//! A USB/IP server with emulated Joulescopes on it, in real time: a real kernel attaches them, and libusb, usbfs and the programs above
//! do not notice. `usbip attach -r HOST -b 1-1` takes the first one.
//!
//! # Invariants
//! - It listens on loopback alone: whoever reaches it may have the instruments.
//! - Whatever a client sends, it is answered or cut off; it never panics, and its memory is bounded ([`limits`]).

mod bus;
mod connection;
mod descriptors;
mod limits;
mod protocol;
#[cfg(test)]
mod tests;

use std::env;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use wavekeep_joulescope_emulator::parse;

use crate::bus::Bus;
use crate::connection::{Ended, Server};

const USAGE: &str = "\
Usage: joulescope-usbip --listen 127.0.0.1:3240 [--log FILE] INSTRUMENTS

INSTRUMENTS, for example two, with a sample clock of a quarter of the real time:
  'js220,serial=001122,seed=3,scale=0.25;js220,serial=003344,seed=9,scale=0.25'
They are at ports 1-1, 1-2 and so on. The kernel module is vhci-hcd; then, as root:
  usbip --tcp-port 3240 attach --remote 127.0.0.1 --busid 1-1
Ending the connection (usbip detach) unplugs an instrument; its waveform has the next seed when it is attached again.
--log appends a line for what happens inside: SERIAL, how often it was plugged in again, then `lost PORT FIRST END`,
`fault TEXT` or `set TOPIC VALUE`.";

struct Arguments {
    listen: SocketAddr,
    log: Option<String>,
    instruments: String,
}

fn arguments(given: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let (mut listen, mut log, mut instruments) = (None, None, None);
    let mut given = given;
    while let Some(word) = given.next() {
        match word.as_str() {
            "--listen" => listen = given.next(),
            "--log" => log = Some(given.next().ok_or("--log needs the name of a file")?),
            _ if word.starts_with('-') || instruments.is_some() => {
                return Err(format!("{word:?} was not expected\n\n{USAGE}"));
            }
            _ => instruments = Some(word),
        }
    }
    let listen: SocketAddr = listen
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("--listen needs an address like 127.0.0.1:3240\n\n{USAGE}"))?;
    if !listen.ip().is_loopback() {
        return Err(format!(
            "--listen {listen}: whoever reaches it may have the instruments, so give a loopback address"
        ));
    }
    Ok(Arguments {
        listen,
        log,
        instruments: instruments.ok_or_else(|| format!("which instruments?\n\n{USAGE}"))?,
    })
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match run(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("joulescope-usbip: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: Vec<String>) -> Result<(), String> {
    let arguments = arguments(words.into_iter())?;
    let settings = parse(&arguments.instruments).map_err(|error| error.to_string())?;
    let append = |path: &String| {
        let file = File::options().create(true).append(true).open(path);
        file.map_err(|error| format!("{path}: {error}"))
    };
    let log = arguments.log.as_ref().map(append).transpose()?;
    let bind = |error| format!("cannot listen on {}: {error}", arguments.listen);
    let listener = TcpListener::bind(arguments.listen).map_err(bind)?;
    let server = Arc::new(Server::new(Bus::new(settings, log)));
    let clock = Arc::clone(&server);
    let ticks = thread::Builder::new().name("clock".into());
    ticks.spawn(move || clock.run()).map_err(|error| error.to_string())?;
    println!("listening on {}", listener.local_addr().map_err(bind)?);
    accept(&listener, &server)
}

/// Serves whoever connects, for ever.
fn accept(listener: &TcpListener, server: &Arc<Server>) -> Result<(), String> {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let line = match listener.accept() {
            Ok((line, _)) => line,
            Err(error) => {
                // Of this one client, or of too many files: both pass.
                eprintln!("joulescope-usbip: {error}");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if open.load(Ordering::Relaxed) >= limits::CONNECTIONS {
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (server, closed) = (Arc::clone(server), Arc::clone(&open));
        let client = move || {
            serve(&server, line);
            closed.fetch_sub(1, Ordering::Relaxed);
        };
        if let Err(error) = thread::Builder::new().name("client".into()).spawn(client) {
            eprintln!("joulescope-usbip: {error}");
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn serve(server: &Server, line: TcpStream) {
    // That a client goes is no news.
    if let Err(Ended::Broken(why)) = server.serve(line) {
        eprintln!("joulescope-usbip: a client is cut off: {why}");
    }
}
