//! The bus: which instruments are plugged in, who has opened them, and the transfers that wait. A thread of its own moves it along with
//! the real time, as hardware does.
//!
//! # Invariants
//! - No lock is held while a callback of the program runs.
//! - A transfer is in at most one of three places: with its owner, waiting, or done and not yet reported.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use wavekeep_joulescope_emulator::{Js220, UsbFault, parse};

use crate::abi::{
    ARRIVED, CANCELLED, COMPLETED, FAILED, HotplugCallback, LEFT, NO_DEVICE, STALLED, TIMED_OUT, Transfer,
};
use crate::latency::Latency;

/// Names the instruments: see the emulator's settings.
const INSTRUMENTS: &str = "WAVEKEEP_EMULATOR";
/// Names a file to which what happens inside of them is appended.
const LOG: &str = "WAVEKEEP_EMULATOR_LOG";

/// Of its thread.
const PRIORITY: i32 = 50;

/// How often the bus moves along.
const STEP: Duration = Duration::from_micros(500);

/// How much happens inside an instrument at once, at most, when the bus was late.
const SLICE: Duration = Duration::from_millis(1);

/// From one of our numbers to the next. A pointer to a device is its number plus its context's slot.
pub(crate) const NUMBER_STEP: usize = 64;

pub(crate) struct Bus {
    state: Mutex<State>,
    changed: Condvar,
    began: Instant,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) instruments: Vec<Instrument>,
    pub(crate) contexts: BTreeMap<usize, Context>,
    pub(crate) handles: BTreeMap<usize, Handle>,
    waiting: Vec<Waiting>,
    numbers: usize,
    log: Option<File>,
    pub(crate) latency: Latency,
}

pub(crate) struct Instrument {
    pub(crate) core: Js220,
    /// The number of its device, while it is plugged in: another one each time.
    pub(crate) device: Option<usize>,
    plugs: u64,
    reached: Duration,
}

/// One `libusb_context`.
pub(crate) struct Context {
    /// Its own small number, in the pointers to devices that it gives: opening one finds its context by it.
    pub(crate) slot: usize,
    wake: (UnixStream, UnixStream),
    woken: bool,
    done: VecDeque<Done>,
    pub(crate) hotplug: BTreeMap<c_int, Hotplug>,
    plugged: VecDeque<(usize, c_int)>,
    pub(crate) interrupted: bool,
}

#[derive(Clone, Copy)]
pub(crate) struct Hotplug {
    pub(crate) callback: HotplugCallback,
    pub(crate) data: Pointer<c_void>,
    pub(crate) events: c_int,
}

/// One `libusb_device_handle`, of a device's number.
#[derive(Clone, Copy)]
pub(crate) struct Handle {
    pub(crate) context: usize,
    pub(crate) device: usize,
    pub(crate) claimed: bool,
}

/// A pointer that a program gave us and that another thread uses: libusb's own rules say when.
#[derive(Debug)]
pub(crate) struct Pointer<T>(pub(crate) *mut T);

impl<T> Clone for Pointer<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Pointer<T> {}

// A transfer belongs to the bus from its submission until it is reported; a callback's data is only handed back.
unsafe impl<T> Send for Pointer<T> {}

struct Waiting {
    transfer: Pointer<Transfer>,
    handle: usize,
    filled: Vec<u8>,
    length: usize,
    deadline: Option<Instant>,
}

/// A transfer that is over, or a device that came or went.
pub(crate) struct Done {
    pub(crate) transfer: Pointer<Transfer>,
    handle: usize,
    pub(crate) status: c_int,
    pub(crate) length: usize,
}

/// What a program is to be told.
pub(crate) struct Reports {
    pub(crate) done: VecDeque<Done>,
    pub(crate) plugged: Vec<(c_int, Hotplug, usize, c_int)>,
}

/// The bus of this process.
pub(crate) fn bus() -> &'static Bus {
    static BUS: OnceLock<Bus> = OnceLock::new();
    static THREAD: OnceLock<()> = OnceLock::new();
    let bus = BUS.get_or_init(Bus::from_environment);
    THREAD.get_or_init(|| {
        thread::spawn(move || {
            rise();
            bus.run();
        });
    });
    bus
}

/// Hardware does not wait for a processor: where the system lets us, this thread goes before all that a host may have.
fn rise() {
    let parameters = libc::sched_param {
        sched_priority: PRIORITY,
    };
    // What it answers changes nothing here.
    unsafe { libc::pthread_setschedparam(libc::pthread_self(), libc::SCHED_FIFO, &raw const parameters) };
}

impl Bus {
    fn from_environment() -> Self {
        let mut state = State::default();
        let text = env::var(INSTRUMENTS).unwrap_or_default();
        let instruments = parse(&text).unwrap_or_else(|error| {
            eprintln!("{INSTRUMENTS}: {error}");
            Vec::new()
        });
        for settings in instruments {
            let device = Some(state.number());
            state.instruments.push(Instrument {
                core: Js220::new(settings),
                device,
                plugs: 0,
                reached: Duration::ZERO,
            });
        }
        if let Ok(path) = env::var(LOG) {
            match File::options().create(true).append(true).open(&path) {
                Ok(file) => state.log = Some(file),
                Err(error) => eprintln!("{LOG}: {path}: {error}"),
            }
        }
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            began: Instant::now(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            if state.step(self.now()) {
                self.changed.notify_all();
            }
            let since = Instant::now();
            state = self.wait(state, STEP);
            if let Some(late) = since.elapsed().checked_sub(STEP) {
                state.latency.woken(late);
            }
        }
    }

    /// Waits until something has changed, at most so long.
    pub(crate) fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, time)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }
}

impl State {
    /// A number that nothing else has; it looks like an aligned pointer.
    pub(crate) fn number(&mut self) -> usize {
        self.numbers += 1;
        self.numbers * NUMBER_STEP
    }

    /// The instrument that is plugged in as this device, with or without a context's slot.
    pub(crate) fn instrument(&mut self, device: usize) -> Option<&mut Instrument> {
        let device = device / NUMBER_STEP * NUMBER_STEP;
        self.instruments
            .iter_mut()
            .find(|instrument| instrument.device == Some(device))
    }

    /// The instrument behind a handle, while it is plugged in.
    pub(crate) fn opened(&mut self, handle: usize) -> Option<&mut Instrument> {
        let device = self.handles.get(&handle)?.device;
        self.instrument(device)
    }

    /// The context that gave this pointer to a device.
    pub(crate) fn context_of(&self, device: usize) -> Option<usize> {
        let slot = device % NUMBER_STEP;
        self.contexts
            .iter()
            .find(|(_, context)| context.slot == slot)
            .map(|(&number, _)| number)
    }

    pub(crate) fn new_context(&mut self, number: usize) -> std::io::Result<()> {
        let is_free = |slot: &usize| self.contexts.values().all(|context| context.slot != *slot);
        let slot = (1..NUMBER_STEP)
            .find(is_free)
            .ok_or(std::io::ErrorKind::QuotaExceeded)?;
        let wake = UnixStream::pair()?;
        wake.0.set_nonblocking(true)?;
        wake.1.set_nonblocking(true)?;
        let context = Context {
            slot,
            wake,
            woken: false,
            done: VecDeque::new(),
            hotplug: BTreeMap::new(),
            plugged: VecDeque::new(),
            interrupted: false,
        };
        self.contexts.insert(number, context);
        Ok(())
    }

    /// Lets the time pass to `now`. True if somebody has to be told something.
    pub(crate) fn step(&mut self, now: Duration) -> bool {
        let mut told = self.time_out();
        for nth in 0..self.instruments.len() {
            while self.instruments[nth].reached < now {
                let at = now.min(self.instruments[nth].reached + SLICE);
                self.instruments[nth].reached = at;
                told |= self.plug(nth, at);
                told |= self.fill(nth, at);
            }
            self.write_log(nth);
        }
        told
    }

    /// Notices whether an instrument came or went.
    fn plug(&mut self, nth: usize, at: Duration) -> bool {
        let instrument = &mut self.instruments[nth];
        let plugged = instrument.core.plugged(at);
        let plugs = instrument.core.plugs();
        let stays = instrument.device.is_some() == plugged && instrument.plugs == plugs;
        if stays {
            return false;
        }
        instrument.plugs = plugs;
        if let Some(device) = instrument.device.take() {
            self.fail_all(device);
            self.announce(device, LEFT);
        }
        if plugged {
            let device = self.number();
            self.instruments[nth].device = Some(device);
            self.announce(device, ARRIVED);
        }
        true
    }

    fn announce(&mut self, device: usize, event: c_int) {
        for context in self.contexts.values_mut().filter(|context| !context.hotplug.is_empty()) {
            context.plugged.push_back((device, event));
            context.wake();
        }
    }

    fn fail_all(&mut self, device: usize) {
        let handles: Vec<_> = self
            .handles
            .iter()
            .filter(|(_, h)| h.device == device)
            .map(|(&number, _)| number)
            .collect();
        for waiting in self
            .waiting
            .extract_if(.., |w| handles.contains(&w.handle))
            .collect::<Vec<_>>()
        {
            self.finish(waiting, NO_DEVICE);
        }
    }

    fn time_out(&mut self) -> bool {
        if self.waiting.iter().all(|waiting| waiting.deadline.is_none()) {
            return false;
        }
        let now = Instant::now();
        let over: Vec<_> = self
            .waiting
            .extract_if(.., |w| w.deadline.is_some_and(|at| at <= now))
            .collect();
        let any = !over.is_empty();
        for waiting in over {
            self.finish(waiting, TIMED_OUT);
        }
        any
    }

    /// Moves what an instrument has to those who wait for it.
    fn fill(&mut self, nth: usize, at: Duration) -> bool {
        let mut told = false;
        loop {
            let device = self.instruments[nth].device;
            let handles = &self.handles;
            let first = self
                .waiting
                .iter()
                .position(|w| handles.get(&w.handle).map(|handle| handle.device) == device);
            let Some(first) = first.filter(|_| device.is_some()) else {
                return told;
            };
            let waiting = &mut self.waiting[first];
            let status = match self.instruments[nth]
                .core
                .bulk_in(&mut waiting.filled, waiting.length, at)
            {
                Ok(false) => return told,
                Ok(true) => COMPLETED,
                Err(UsbFault::Stall) => STALLED,
                Err(UsbFault::Gone) => NO_DEVICE,
                Err(UsbFault::Suspended) => FAILED,
            };
            let waiting = self.waiting.remove(first);
            self.finish(waiting, status);
            told = true;
        }
    }

    /// A transfer that waits for what an instrument will send.
    pub(crate) fn wait_for_data(
        &mut self,
        transfer: Pointer<Transfer>,
        handle: usize,
        length: usize,
        timeout: Option<Duration>,
    ) {
        let deadline = timeout.map(|time| Instant::now() + time);
        self.waiting.push(Waiting {
            transfer,
            handle,
            filled: Vec::new(),
            length,
            deadline,
        });
    }

    /// True if it was waiting.
    pub(crate) fn cancel(&mut self, transfer: *mut Transfer) -> bool {
        let found = self.waiting.iter().position(|waiting| waiting.transfer.0 == transfer);
        let Some(nth) = found else { return false };
        let waiting = self.waiting.remove(nth);
        self.finish(waiting, CANCELLED);
        true
    }

    fn finish(&mut self, waiting: Waiting, status: c_int) {
        // The buffer has at least as many bytes as the transfer says, and is the bus's until the transfer is reported.
        unsafe {
            let buffer = (*waiting.transfer.0).buffer;
            std::ptr::copy_nonoverlapping(waiting.filled.as_ptr(), buffer, waiting.filled.len());
        }
        if status == COMPLETED {
            self.latency.filled(waiting.transfer.0.addr());
        }
        self.done(waiting.transfer, waiting.handle, status, waiting.filled.len());
    }

    pub(crate) fn done(&mut self, transfer: Pointer<Transfer>, handle: usize, status: c_int, length: usize) {
        let context = self.handles.get(&handle).map(|handle| handle.context);
        if let Some(context) = context.and_then(|number| self.contexts.get_mut(&number)) {
            context.done.push_back(Done {
                transfer,
                handle,
                status,
                length,
            });
            context.wake();
        }
    }

    /// Forgets a handle with all its transfers.
    pub(crate) fn close(&mut self, handle: usize) {
        if let (Some(said), Some(log)) = (self.latency.take(), &mut self.log) {
            // See below.
            let _ = writeln!(log, "{said}");
        }
        self.waiting.retain(|waiting| waiting.handle != handle);
        if let Some(handle_) = self.handles.remove(&handle)
            && let Some(context) = self.contexts.get_mut(&handle_.context)
        {
            context.done.retain(|done| done.handle != handle);
        }
    }

    fn write_log(&mut self, nth: usize) {
        let Some(log) = &mut self.log else { return };
        let core = &mut self.instruments[nth].core;
        let events = core.take_events();
        if !events.is_empty() {
            let lines: String = events
                .iter()
                .map(|event| format!("{} {event}\n", core.serial()))
                .collect();
            // A log that cannot be written is not worth the instrument.
            let _ = log.write_all(lines.as_bytes());
        }
    }
}

impl Context {
    /// The descriptor that can be read when there is something to report.
    pub(crate) fn readable(&self) -> &UnixStream {
        &self.wake.0
    }

    pub(crate) fn wake(&mut self) {
        if !self.woken {
            self.woken = true;
            // One byte always has room.
            let _ = (&self.wake.1).write(&[1]);
        }
    }

    /// What is to be reported now.
    pub(crate) fn take(&mut self) -> Reports {
        if self.woken {
            self.woken = false;
            let _ = (&self.wake.0).read(&mut [0; 8]);
        }
        let mut plugged = Vec::new();
        for (device, event) in self.plugged.drain(..) {
            let listeners = self.hotplug.iter().filter(|(_, hotplug)| hotplug.events & event != 0);
            plugged.extend(listeners.map(|(&number, &hotplug)| (number, hotplug, device + self.slot, event)));
        }
        Reports {
            done: std::mem::take(&mut self.done),
            plugged,
        }
    }
}
