//! The instruments, who has imported which, and the transfers that wait. Time is an argument.
//!
//! # Invariants
//! - Each transfer is answered once, or taken back once; answers leave in the order in which they were made.
//! - A connection is owed at most [`limits::OWED_BYTES`]; one that asks for more is cut off.
//! - Whoever ends a connection pulls the cable: the instrument is plugged in anew, with nothing kept, for the next one.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use wavekeep_joulescope_emulator::{BULK_IN, BULK_OUT, Js220, Settings, UsbFault};

use crate::descriptors::{Standard, port};
use crate::limits;
use crate::protocol::{Broken, Port, Refusal, Submit, Unlink, submitted, unlinked};

/// How much happens inside an instrument at once, at most, when the server was late.
const SLICE: Duration = Duration::from_millis(1);

// Linux' own numbers, which the protocol has for the status of a transfer.
const EPIPE: i32 = -32;
const EPROTO: i32 = -71;
const ECONNRESET: i32 = -104;
const ESHUTDOWN: i32 = -108;

/// What one connection is to send.
pub(crate) type Answer = Vec<u8>;

pub(crate) struct Bus {
    instruments: Vec<Instrument>,
    guests: BTreeMap<u64, Guest>,
    numbers: u64,
    log: Option<File>,
}

struct Instrument {
    core: Js220,
    standard: Standard,
    plugs: u64,
    reached: Duration,
    guest: Option<u64>,
}

/// A connection that has an instrument.
struct Guest {
    instrument: usize,
    waiting: VecDeque<Waiting>,
    answers: VecDeque<Answer>,
    owed: usize,
    line: Option<TcpStream>,
}

struct Waiting {
    number: u32,
    length: usize,
    filled: Vec<u8>,
}

impl Bus {
    pub(crate) fn new(settings: Vec<Settings>, log: Option<File>) -> Self {
        let instrument = |settings| Instrument {
            core: Js220::new(settings),
            standard: Standard::default(),
            plugs: 0,
            reached: Duration::ZERO,
            guest: None,
        };
        Self {
            instruments: settings.into_iter().map(instrument).collect(),
            guests: BTreeMap::new(),
            numbers: 0,
            log,
        }
    }

    /// Those that are plugged in.
    pub(crate) fn list(&mut self, now: Duration) -> Vec<Port> {
        self.step(now);
        let numbered = self.instruments.iter_mut().zip(1..);
        numbered
            .filter_map(|(own, number)| own.core.plugged(now).then(|| port(number, own.standard.configuration)))
            .collect()
    }

    /// Gives an instrument to a connection, by which number it is known from now on. `line` is closed when it is unplugged.
    pub(crate) fn import(
        &mut self,
        number: u8,
        line: Option<TcpStream>,
        now: Duration,
    ) -> Result<(u64, Port), Refusal> {
        self.step(now);
        let nth = usize::from(number).checked_sub(1).ok_or(Refusal::None)?;
        let own = self.instruments.get_mut(nth).ok_or(Refusal::None)?;
        if !own.core.plugged(now) {
            return Err(Refusal::None);
        }
        if own.guest.is_some() {
            return Err(Refusal::Busy);
        }
        self.numbers += 1;
        own.plugs = own.core.plugs();
        own.guest = Some(self.numbers);
        let guest = Guest {
            instrument: nth,
            waiting: VecDeque::new(),
            answers: VecDeque::new(),
            owed: 0,
            line,
        };
        self.guests.insert(self.numbers, guest);
        Ok((self.numbers, port(number, own.standard.configuration)))
    }

    /// A transfer; the bytes of one to the instrument are with it. Of a connection that is over already nothing happens.
    pub(crate) fn submit(&mut self, id: u64, submit: &Submit, data: &[u8], now: Duration) -> Result<(), Broken> {
        self.step(now);
        let Some(guest) = self.guests.get_mut(&id) else {
            return Ok(());
        };
        let own = &mut self.instruments[guest.instrument];
        let address = submit.endpoint | if submit.is_in { 0x80 } else { 0 };
        let done = if submit.endpoint == 0 {
            own.standard.control(&mut own.core, submit.setup, now)
        } else if address == u32::from(BULK_OUT) {
            own.core.bulk_out(data, now).map(|()| Vec::new())
        } else if address == u32::from(BULK_IN) {
            guest.owe(submit.length)?;
            guest.waiting.push_back(Waiting {
                number: submit.number,
                length: submit.length,
                filled: Vec::new(),
            });
            let nth = guest.instrument;
            self.fill(nth, now);
            return Ok(());
        } else {
            Err(UsbFault::Stall)
        };
        match done {
            Ok(mut answer) if submit.is_in => {
                answer.truncate(submit.length);
                guest.answer(submitted(submit.number, 0, answer.len(), &answer))
            }
            Ok(_) => guest.answer(submitted(submit.number, 0, data.len(), &[])),
            Err(fault) => guest.answer(submitted(submit.number, status(fault), 0, &[])),
        }
    }

    /// Takes a transfer back, if it is not over.
    pub(crate) fn unlink(&mut self, id: u64, unlink: Unlink, now: Duration) -> Result<(), Broken> {
        self.step(now);
        let Some(guest) = self.guests.get_mut(&id) else {
            return Ok(());
        };
        let found = guest.waiting.iter().position(|waiting| waiting.number == unlink.of);
        let taken = found.and_then(|nth| guest.waiting.remove(nth));
        if let Some(waiting) = &taken {
            guest.owed -= waiting.length;
        }
        guest.answer(unlinked(unlink.number, if taken.is_some() { ECONNRESET } else { 0 }))
    }

    /// What this connection is to send next; `None` once it is over.
    pub(crate) fn next_answer(&mut self, id: u64) -> Option<Option<Answer>> {
        let guest = self.guests.get_mut(&id)?;
        let answer = guest.answers.pop_front();
        guest.owed -= answer.as_ref().map_or(0, Vec::len);
        Some(answer)
    }

    /// The connection is over: the cable is pulled.
    pub(crate) fn leave(&mut self, id: u64, now: Duration) {
        self.step(now);
        if let Some(nth) = self.end(id) {
            self.instruments[nth].core.unplug(now, Some(Duration::ZERO));
            // Before it is back: what it lost is of this plugging.
            self.write_log(nth);
        }
    }

    /// Forgets a connection; which instrument it had.
    fn end(&mut self, id: u64) -> Option<usize> {
        let guest = self.guests.remove(&id)?;
        if let Some(line) = guest.line {
            // It may be closed already.
            let _ = line.shutdown(Shutdown::Both);
        }
        self.instruments[guest.instrument].guest = None;
        self.instruments[guest.instrument].standard = Standard::default();
        Some(guest.instrument)
    }

    /// Lets the time pass to `now`. True if a connection has something to send, or is over.
    pub(crate) fn step(&mut self, now: Duration) -> bool {
        let mut changed = false;
        for nth in 0..self.instruments.len() {
            while self.instruments[nth].reached < now {
                let own = &mut self.instruments[nth];
                let at = now.min(own.reached + SLICE);
                own.reached = at;
                let stays = own.core.plugged(at) && own.core.plugs() == own.plugs;
                own.plugs = own.core.plugs();
                let guest = own.guest;
                if let (Some(id), false) = (guest, stays) {
                    self.end(id);
                    changed = true;
                }
                changed |= self.fill(nth, at);
                self.write_log(nth);
            }
        }
        changed
    }

    /// Moves what an instrument has to the transfers that wait for it.
    fn fill(&mut self, nth: usize, at: Duration) -> bool {
        let own = &mut self.instruments[nth];
        let Some(guest) = own.guest.and_then(|id| self.guests.get_mut(&id)) else {
            return false;
        };
        let mut changed = false;
        while let Some(waiting) = guest.waiting.front_mut() {
            let status = match own.core.bulk_in(&mut waiting.filled, waiting.length, at) {
                Ok(false) => break,
                Ok(true) => 0,
                Err(fault) => {
                    own.standard.halted |= fault == UsbFault::Stall;
                    status(fault)
                }
            };
            let Some(waiting) = guest.waiting.pop_front() else {
                break;
            };
            guest.owed -= waiting.length;
            let bytes = submitted(waiting.number, status, waiting.filled.len(), &waiting.filled);
            guest.owed += bytes.len();
            guest.answers.push_back(bytes);
            changed = true;
        }
        changed
    }

    fn write_log(&mut self, nth: usize) {
        let core = &mut self.instruments[nth].core;
        let events = core.take_events();
        let Some(log) = self.log.as_mut().filter(|_| !events.is_empty()) else {
            return;
        };
        let plugs = core.plugs();
        let lines: String = events
            .iter()
            .map(|event| format!("{} {plugs} {event}\n", core.serial()))
            .collect();
        // A log that cannot be written is not worth the instrument.
        let _ = log.write_all(lines.as_bytes());
    }
}

impl Guest {
    fn owe(&mut self, bytes: usize) -> Result<(), Broken> {
        if self.owed + bytes > limits::OWED_BYTES || self.waiting.len() >= limits::WAITING {
            return Err(Broken::Owed);
        }
        self.owed += bytes;
        Ok(())
    }

    fn answer(&mut self, bytes: Answer) -> Result<(), Broken> {
        self.owe(bytes.len())?;
        self.answers.push_back(bytes);
        Ok(())
    }
}

fn status(fault: UsbFault) -> i32 {
    match fault {
        UsbFault::Stall => EPIPE,
        UsbFault::Gone => ESHUTDOWN,
        UsbFault::Suspended => EPROTO,
    }
}
