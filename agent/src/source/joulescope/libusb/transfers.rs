//! Asynchronous transfers of a bulk pipe IN: the only unsafe code of this crate.
//!
//! A thread handles the events of the instrument's context. When a transfer is full, its buffer is exchanged for an empty one and it is
//! submitted again at once; only then is what arrived given to whoever parses it. So what the parser takes its time for costs nothing
//! until all buffers are full; then transfers wait, which is counted. Where the system lets it, that thread goes before all ordinary ones
//! of the machine: it does next to nothing, but what it does late is lost.
//!
//! # Invariants
//! - At most [`TRANSFERS`] transfers and [`BUFFERS`] buffers exist, whatever arrives.
//! - The state is behind one lock. The callback takes it; nobody handles events while he has it. libusb never runs two callbacks of a
//!   context at the same time, but it may run one in whichever thread waits for an event.
//! - A transfer and its buffer live until libusb has given the transfer back. If it does not, they are leaked, with the state that the
//!   callback would look at and the handle's reference to the device.
#![allow(
    unsafe_code,
    reason = "libusb's asynchronous interface is one of C; rusb has a safe one only for what blocks"
)]

use std::collections::VecDeque;
use std::os::raw::c_void;
use std::ptr::NonNull;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusb::constants::{
    LIBUSB_ERROR_NO_DEVICE, LIBUSB_TRANSFER_CANCELLED, LIBUSB_TRANSFER_COMPLETED, LIBUSB_TRANSFER_NO_DEVICE,
    LIBUSB_TRANSFER_TIMED_OUT,
};
use rusb::{Context, DeviceHandle, UsbContext, ffi};
use tracing::debug;

use super::UsbError;
use crate::limits::{USB_BUFFERS as BUFFERS, USB_TRANSFER_BYTES as TRANSFER_BYTES, USB_TRANSFERS as TRANSFERS};

/// A frame: what arrived before an error is only taken by whole ones.
const FRAME_BYTES: usize = 512;
/// After an error the pipe is left alone for so long, then for twice as long: a suspended instrument that is asked too soon looks like one
/// that is gone.
const RETRY: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_millis(100);
/// Between two looks at transfers that wait for a buffer or a retry.
const LOOK: Duration = Duration::from_millis(2);
/// Of the thread that handles events, among those that go before ordinary ones: the least.
const PRIORITY: i32 = 1;
/// Transfers that were cancelled come back within this, or never.
const CANCEL_WAIT: Duration = Duration::from_secs(2);

/// A transfer and where its bytes go.
#[derive(Debug)]
struct Slot {
    transfer: NonNull<ffi::libusb_transfer>,
    /// Of [`TRANSFER_BYTES`]; libusb writes to it while the transfer is submitted.
    buffer: Vec<u8>,
    is_submitted: bool,
}

// SAFETY: what the pointer leads to is used under the lock, or by libusb while the transfer is submitted.
unsafe impl Send for Slot {}

#[derive(Debug, Default)]
struct State {
    slots: Vec<Slot>,
    /// Of [`TRANSFER_BYTES`] each.
    empty: Vec<Vec<u8>>,
    /// With how many bytes arrived.
    full: VecDeque<(Vec<u8>, usize)>,
    overruns: u64,
    /// After an error: when the pipe is tried again, and how long it is left alone the next time.
    retry: Option<(Instant, Duration)>,
    is_gone: bool,
    is_stopping: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bulk pipe IN that is kept busy until it is dropped.
#[derive(Debug)]
pub(super) struct Pipe {
    shared: Arc<Shared>,
    context: Context,
    thread: Option<JoinHandle<()>>,
}

impl Pipe {
    /// Submits the transfers, and starts the thread that handles events.
    pub(super) fn start(handle: &DeviceHandle<Context>, endpoint: u8) -> Result<Self, UsbError> {
        let shared = Arc::new(Shared::default());
        let context = handle.context().clone();
        {
            let mut state = shared.lock();
            state.empty = vec![vec![0; TRANSFER_BYTES]; BUFFERS - TRANSFERS];
            for _ in 0..TRANSFERS {
                let slot = Slot::new(handle, endpoint, &shared)?;
                state.slots.push(slot);
            }
        }
        // From here on, dropping it ends what was begun.
        let mut pipe = Self {
            shared,
            context,
            thread: None,
        };
        pipe.shared.lock().submit_idle();
        let (shared, context) = (Arc::clone(&pipe.shared), pipe.context.clone());
        let thread = std::thread::Builder::new().name("usb-events".into());
        let started = thread.spawn(move || handle_events(&context, &shared));
        pipe.thread = Some(started.map_err(|error| UsbError::Other(error.to_string()))?);
        Ok(pipe)
    }

    /// See [`super::super::usb::Link::receive`].
    pub(super) fn receive(&self, into: &mut Vec<u8>, wait: Duration) -> Result<bool, UsbError> {
        let until = Instant::now() + wait;
        into.resize(TRANSFER_BYTES, 0);
        let mut state = self.shared.lock();
        loop {
            if let Some((buffer, count)) = state.full.pop_front() {
                state.empty.push(std::mem::replace(into, buffer));
                into.truncate(count);
                return Ok(true);
            }
            if state.is_gone {
                return Err(UsbError::Gone);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let waited = self.shared.arrived.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn overruns(&self) -> u64 {
        self.shared.lock().overruns
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.is_stopping = true;
            state.cancel();
        }
        match self.thread.take() {
            Some(thread) => {
                let _ = thread.join();
            }
            None => handle_events(&self.context, &self.shared),
        }
        let mut state = self.shared.lock();
        let is_lost = state.slots.iter().any(|slot| slot.is_submitted);
        for slot in std::mem::take(&mut state.slots) {
            if slot.is_submitted {
                // libusb may still write to its buffer.
                std::mem::forget(slot);
            } else {
                // SAFETY: it was allocated by libusb, is not submitted, and nobody else has it.
                unsafe { ffi::libusb_free_transfer(slot.transfer.as_ptr()) };
            }
        }
        drop(state);
        if is_lost {
            // Its callback may still come.
            std::mem::forget(Arc::clone(&self.shared));
        }
    }
}

impl Slot {
    fn new(handle: &DeviceHandle<Context>, endpoint: u8, shared: &Arc<Shared>) -> Result<Self, UsbError> {
        // SAFETY: no isochronous packets; the answer is checked.
        let transfer = NonNull::new(unsafe { ffi::libusb_alloc_transfer(0) });
        let transfer = transfer.ok_or_else(|| UsbError::Other("there is no memory for a transfer".into()))?;
        let mut buffer = vec![0; TRANSFER_BYTES];
        // SAFETY: the transfer is ours alone. The buffer is its own, and its place on the heap does not change when it moves into the
        // slot. The state outlives the transfer: see Pipe's drop.
        unsafe {
            ffi::libusb_fill_bulk_transfer(
                transfer.as_ptr(),
                handle.as_raw(),
                endpoint,
                buffer.as_mut_ptr(),
                TRANSFER_BYTES as i32,
                on_transfer,
                Arc::as_ptr(shared).cast_mut().cast::<c_void>(),
                0,
            );
        }
        Ok(Self {
            transfer,
            buffer,
            is_submitted: false,
        })
    }

    /// Whether the instrument is still there.
    fn submit(&mut self) -> Result<(), i32> {
        // SAFETY: the transfer is not submitted, and its buffer has TRANSFER_BYTES bytes that nobody else uses until it comes back.
        let status = unsafe {
            (*self.transfer.as_ptr()).buffer = self.buffer.as_mut_ptr();
            ffi::libusb_submit_transfer(self.transfer.as_ptr())
        };
        self.is_submitted = status == 0;
        if self.is_submitted { Ok(()) } else { Err(status) }
    }
}

impl State {
    /// Those that are not submitted, as far as there are buffers for what they bring.
    fn submit_idle(&mut self) {
        let is_resting = self.retry.is_some_and(|(at, _)| Instant::now() < at);
        if self.is_stopping || self.is_gone || is_resting {
            return;
        }
        for place in 0..self.slots.len() {
            let slot = &mut self.slots[place];
            if slot.is_submitted {
                continue;
            }
            if slot.buffer.is_empty() {
                let Some(buffer) = self.empty.pop() else {
                    return;
                };
                slot.buffer = buffer;
            }
            match slot.submit() {
                Ok(()) => {}
                Err(LIBUSB_ERROR_NO_DEVICE) => self.is_gone = true,
                // Suspended, perhaps.
                Err(_) => return self.rest(),
            }
        }
    }

    /// Leaves the pipe alone for a while.
    fn rest(&mut self) {
        let now = Instant::now();
        let wait = match self.retry {
            Some((at, _)) if now < at => return,
            Some((_, wait)) => wait,
            None => RETRY,
        };
        self.retry = Some((now + wait, (wait * 2).min(RETRY_MAX)));
    }

    fn cancel(&mut self) {
        for slot in self.slots.iter().filter(|slot| slot.is_submitted) {
            // SAFETY: it is submitted. One that has just come back is not found, which is as good.
            unsafe { ffi::libusb_cancel_transfer(slot.transfer.as_ptr()) };
        }
    }

    /// A transfer has come back.
    fn take_back(&mut self, place: usize, status: i32, actual: usize) {
        self.slots[place].is_submitted = false;
        let (is_whole, is_over) = match status {
            LIBUSB_TRANSFER_COMPLETED => (true, false),
            LIBUSB_TRANSFER_TIMED_OUT | LIBUSB_TRANSFER_CANCELLED => (false, false),
            LIBUSB_TRANSFER_NO_DEVICE => (false, true),
            _ => (actual.is_multiple_of(FRAME_BYTES), false),
        };
        self.is_gone |= is_over;
        let is_error = !matches!(
            status,
            LIBUSB_TRANSFER_COMPLETED | LIBUSB_TRANSFER_TIMED_OUT | LIBUSB_TRANSFER_CANCELLED
        );
        if is_error {
            self.rest();
        } else if status == LIBUSB_TRANSFER_COMPLETED {
            self.retry = None;
        }
        if !is_whole || actual == 0 {
            return self.submit_idle();
        }
        // Submitted again before anybody looks at what it brought.
        let buffer = std::mem::take(&mut self.slots[place].buffer);
        if self.empty.is_empty() && !self.is_stopping {
            self.overruns += 1;
        }
        self.submit_idle();
        self.full.push_back((buffer, actual.min(TRANSFER_BYTES)));
    }
}

/// Goes before all ordinary threads, if that is allowed.
fn rise() {
    let parameters = libc::sched_param {
        sched_priority: PRIORITY,
    };
    // SAFETY: it is about the thread that calls it, and reads the parameters while it runs.
    let status = unsafe { libc::pthread_setschedparam(libc::pthread_self(), libc::SCHED_RR, &raw const parameters) };
    if status != 0 {
        let why = std::io::Error::from_raw_os_error(status);
        debug!(
            "the thread that reads USB has an ordinary priority, since the system allows it no other one (RLIMIT_RTPRIO): {why}"
        );
    }
}

fn handle_events(context: &Context, shared: &Shared) {
    rise();
    let mut stopping_since = None;
    loop {
        // An error is that of an instrument that is gone, which its transfers say, too.
        let handled = context.handle_events(Some(LOOK));
        let mut state = shared.lock();
        state.submit_idle();
        if state.is_gone {
            shared.arrived.notify_one();
        }
        if state.is_stopping {
            let since = *stopping_since.get_or_insert_with(Instant::now);
            let is_done = !state.slots.iter().any(|slot| slot.is_submitted);
            if is_done || since.elapsed() >= CANCEL_WAIT {
                return;
            }
        }
        drop(state);
        if handled.is_err() {
            std::thread::sleep(LOOK);
        }
    }
}

/// What libusb calls when a transfer has ended, whichever way.
extern "system" fn on_transfer(transfer: *mut ffi::libusb_transfer) {
    // SAFETY: libusb gives back a transfer that we submitted, whose user data is the state, which outlives it (see Pipe's drop).
    let (shared, status, actual) = unsafe {
        let transfer = &*transfer;
        let shared = &*transfer.user_data.cast_const().cast::<Shared>();
        (shared, transfer.status, transfer.actual_length)
    };
    let mut state = shared.lock();
    let place = state.slots.iter().position(|slot| slot.transfer.as_ptr() == transfer);
    if let Some(place) = place {
        state.take_back(place, status, usize::try_from(actual).unwrap_or(0));
    }
    shared.arrived.notify_one();
}
