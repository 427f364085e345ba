//! One connection: what it begins with, and from an import on, commands in and answers out, each in a thread.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::bus::Bus;
use crate::limits;
use crate::protocol::{
    self, Broken, COMMAND_BYTES, Command, NAME_BYTES, Port, REQUEST_BYTES, Refusal, Request, Submit,
};

/// How often the bus moves along.
const STEP: Duration = Duration::from_micros(500);

/// The bus in real time, for all connections.
pub(crate) struct Server {
    bus: Mutex<Bus>,
    changed: Condvar,
    began: Instant,
}

impl Server {
    pub(crate) fn new(bus: Bus) -> Self {
        Self {
            bus: Mutex::new(bus),
            changed: Condvar::new(),
            began: Instant::now(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Bus> {
        self.bus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something at this moment; whoever waits for an answer looks whether there is one now.
    fn with<T>(&self, act: impl FnOnce(&mut Bus, Duration) -> T) -> T {
        let mut bus = self.lock();
        let done = act(&mut bus, self.began.elapsed());
        drop(bus);
        self.changed.notify_all();
        done
    }

    /// Moves the bus along for ever, as hardware does.
    pub(crate) fn run(&self) -> ! {
        loop {
            let changed = self.lock().step(self.began.elapsed());
            if changed {
                self.changed.notify_all();
            }
            thread::sleep(STEP);
        }
    }

    /// Serves one connection until it ends; why, if it is the client's mistake.
    pub(crate) fn serve(&self, mut line: TcpStream) -> Result<(), Ended> {
        line.set_read_timeout(Some(limits::HANDSHAKE))?;
        line.set_nodelay(true)?;
        let mut head = [0; REQUEST_BYTES];
        line.read_exact(&mut head)?;
        match protocol::request(&head)? {
            Request::List => {
                let ports = self.with(Bus::list);
                line.set_write_timeout(Some(limits::HANDSHAKE))?;
                Ok(line.write_all(&protocol::list(&ports))?)
            }
            Request::Import => {
                let mut name = [0; NAME_BYTES];
                line.read_exact(&mut name)?;
                let own = line.try_clone()?;
                let number = protocol::port_number(&name).ok_or(Refusal::None);
                let imported = number.and_then(|number| self.with(|bus, now| bus.import(number, Some(own), now)));
                let answer = protocol::imported(imported.as_ref().map(|(_, port)| port).map_err(|refusal| *refusal));
                let Ok((id, port)) = imported else {
                    return Ok(line.write_all(&answer)?);
                };
                let ended = line.write_all(&answer).map_err(Ended::from);
                let ended = ended.and_then(|()| self.exchange(&mut line, id, &port));
                self.leave(id);
                ended
            }
        }
    }

    fn exchange(&self, line: &mut TcpStream, id: u64, port: &Port) -> Result<(), Ended> {
        line.set_read_timeout(None)?;
        let mut out = line.try_clone()?;
        thread::scope(|scope| {
            let answers = move || {
                while let Some(answer) = self.next_answer(id) {
                    if out.write_all(&answer).is_err() {
                        break;
                    }
                }
                let _ = out.shutdown(Shutdown::Both);
            };
            thread::Builder::new().spawn_scoped(scope, answers)?;
            let ended = self.obey(line, id, port);
            // The other thread ends, too, whatever it waits for.
            let _ = line.shutdown(Shutdown::Both);
            self.leave(id);
            ended
        })
    }

    fn leave(&self, id: u64) {
        self.with(|bus, now| bus.leave(id, now));
    }

    fn next_answer(&self, id: u64) -> Option<Vec<u8>> {
        let mut bus = self.lock();
        loop {
            if let Some(answer) = bus.next_answer(id)? {
                return Some(answer);
            }
            bus = self.changed.wait(bus).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn obey(&self, line: &mut TcpStream, id: u64, port: &Port) -> Result<(), Ended> {
        let mut data = Vec::new();
        loop {
            let mut bytes = [0; COMMAND_BYTES];
            line.read_exact(&mut bytes)?;
            match protocol::command(&bytes, port.device())? {
                Command::Submit(submit) => {
                    read_data(line, &submit, &mut data)?;
                    self.with(|bus, now| bus.submit(id, &submit, &data, now))?;
                }
                Command::Unlink(unlink) => self.with(|bus, now| bus.unlink(id, unlink, now))?,
            }
        }
    }
}

/// What follows a transfer to the instrument: as much as came, not as much as it says, is allocated.
fn read_data(line: &mut TcpStream, submit: &Submit, data: &mut Vec<u8>) -> io::Result<()> {
    data.clear();
    if submit.is_in {
        return Ok(());
    }
    let got = line.take(submit.length as u64).read_to_end(data)?;
    if got < submit.length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Io(#[from] io::Error),
}
