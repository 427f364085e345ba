//! Contexts, and telling a program what happened.

use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::{Duration, Instant};

use crate::abi::{
    ENUMERATE, ERROR_INVALID_PARAM, ERROR_IO, ERROR_NOT_FOUND, FLAG_FREE_TRANSFER, HotplugCallback, Opaque, POLLIN,
    PollFd, SUCCESS, Timeval, opaque,
};
use crate::bus::{Hotplug, NUMBER_STEP, Pointer, Reports, bus};
use crate::devices::give;
use crate::latency::called;
use crate::transfers::libusb_free_transfer;

/// The context that a null pointer means.
const DEFAULT_CONTEXT: usize = 8;

/// Without a timeout, libusb waits this long for events.
const LONG: Duration = Duration::from_secs(60);

pub(crate) fn context_number(context: Opaque) -> usize {
    match context.addr() {
        0 => DEFAULT_CONTEXT,
        number => number,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_init(into: *mut Opaque) -> c_int {
    let mut state = bus().lock();
    let number = if into.is_null() {
        DEFAULT_CONTEXT
    } else {
        state.number()
    };
    if !state.contexts.contains_key(&number) && state.new_context(number).is_err() {
        return ERROR_IO;
    }
    unsafe { give(into, opaque(number)) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_init_context(into: *mut Opaque, _options: *const c_void, _count: c_int) -> c_int {
    unsafe { libusb_init(into) }
}

#[unsafe(no_mangle)]
extern "C" fn libusb_exit(context: Opaque) {
    bus().lock().contexts.remove(&context_number(context));
}

/// With its arguments that vary, all of which are about libusb's own log.
#[unsafe(no_mangle)]
extern "C" fn libusb_set_option(_context: Opaque, _option: c_int) -> c_int {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn libusb_set_debug(_context: Opaque, _level: c_int) {}

#[unsafe(no_mangle)]
extern "C" fn libusb_set_log_cb(_context: Opaque, _callback: *const c_void, _mode: c_int) {}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_hotplug_register_callback(
    context: Opaque,
    events: c_int,
    flags: c_int,
    _vendor: c_int,
    _product: c_int,
    _class: c_int,
    callback: HotplugCallback,
    data: *mut c_void,
    into: *mut c_int,
) -> c_int {
    let hotplug = Hotplug {
        callback,
        data: Pointer(data),
        events,
    };
    let mut state = bus().lock();
    let number = (state.number() / NUMBER_STEP) as c_int;
    let present: Vec<_> = state
        .instruments
        .iter()
        .filter_map(|instrument| instrument.device)
        .collect();
    let Some(found) = state.contexts.get_mut(&context_number(context)) else {
        return ERROR_INVALID_PARAM;
    };
    found.hotplug.insert(number, hotplug);
    let slot = found.slot;
    drop(state);
    unsafe { give(into, number) };
    if let Some(callback) = callback.filter(|_| flags & ENUMERATE != 0) {
        for device in present {
            // As libusb does: before it returns.
            unsafe { callback(context, opaque(device + slot), crate::abi::ARRIVED, data) };
        }
    }
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn libusb_hotplug_deregister_callback(context: Opaque, number: c_int) {
    if let Some(found) = bus().lock().contexts.get_mut(&context_number(context)) {
        found.hotplug.remove(&number);
    }
}

#[unsafe(no_mangle)]
extern "C" fn libusb_hotplug_get_user_data(context: Opaque, number: c_int) -> *mut c_void {
    let state = bus().lock();
    let found = state
        .contexts
        .get(&context_number(context))
        .and_then(|context| context.hotplug.get(&number));
    found.map_or(ptr::null_mut(), |hotplug| hotplug.data.0)
}

/// Made by one function and freed by another: the list with its end, and what it points to.
#[repr(C)]
struct PollFds {
    list: [*const PollFd; 2],
    fd: PollFd,
}

#[unsafe(no_mangle)]
extern "C" fn libusb_get_pollfds(context: Opaque) -> *const *const PollFd {
    let state = bus().lock();
    let Some(found) = state.contexts.get(&context_number(context)) else {
        return ptr::null();
    };
    let made = Box::into_raw(Box::new(PollFds {
        list: [ptr::null(); 2],
        fd: PollFd {
            fd: found.readable().as_raw_fd(),
            events: POLLIN,
        },
    }));
    // It was just made, and nobody else knows it.
    unsafe { (*made).list[0] = &raw const (*made).fd };
    made.cast()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_free_pollfds(list: *const *const PollFd) {
    if !list.is_null() {
        // libusb_get_pollfds made it, and the list is its first field.
        drop(unsafe { Box::from_raw(list.cast_mut().cast::<PollFds>()) });
    }
}

#[unsafe(no_mangle)]
extern "C" fn libusb_set_pollfd_notifiers(
    _c: Opaque,
    _added: *const c_void,
    _removed: *const c_void,
    _data: *mut c_void,
) {
}

#[unsafe(no_mangle)]
extern "C" fn libusb_get_next_timeout(_context: Opaque, _into: *mut Timeval) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn libusb_interrupt_event_handler(context: Opaque) {
    if let Some(found) = bus().lock().contexts.get_mut(&context_number(context)) {
        found.interrupted = true;
        found.wake();
    }
    bus().notify();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_handle_events_timeout_completed(
    context: Opaque,
    timeout: *const Timeval,
    completed: *const c_int,
) -> c_int {
    let time = match unsafe { timeout.as_ref() } {
        Some(time) => Duration::from_secs(time.seconds.max(0) as u64)
            .saturating_add(Duration::from_micros(time.microseconds.max(0) as u64)),
        None => LONG,
    };
    let deadline = Instant::now() + time.min(LONG);
    let mut state = bus().lock();
    state.step(bus().now());
    let reports = loop {
        let Some(found) = state.contexts.get_mut(&context_number(context)) else {
            return ERROR_NOT_FOUND;
        };
        let reports = found.take();
        let interrupted = std::mem::take(&mut found.interrupted);
        // The program's own flag, which only its callbacks set.
        let is_completed = unsafe { !completed.is_null() && completed.read_volatile() != 0 };
        let left = deadline.saturating_duration_since(Instant::now());
        if !reports.done.is_empty() || !reports.plugged.is_empty() || interrupted || is_completed || left.is_zero() {
            break reports;
        }
        state = bus().wait(state, left);
    };
    drop(state);
    tell(context, reports);
    SUCCESS
}

/// Calls the program's callbacks.
fn tell(context: Opaque, reports: Reports) {
    for done in reports.done {
        // Reported: from here on the transfer is the program's again, which may free it in its callback.
        unsafe {
            let transfer = done.transfer.0;
            (*transfer).status = done.status;
            (*transfer).actual_length = done.length as c_int;
            let frees = (*transfer).flags & FLAG_FREE_TRANSFER != 0;
            if let Some(callback) = (*transfer).callback {
                called(transfer.addr());
                callback(transfer);
            }
            if frees {
                libusb_free_transfer(transfer);
            }
        }
    }
    for (number, hotplug, device, event) in reports.plugged {
        let Some(callback) = hotplug.callback else { continue };
        let over = unsafe { callback(context, opaque(device), event, hotplug.data.0) };
        if over != 0 {
            libusb_hotplug_deregister_callback(context, number);
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_handle_events_timeout(context: Opaque, timeout: *const Timeval) -> c_int {
    unsafe { libusb_handle_events_timeout_completed(context, timeout, ptr::null()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_handle_events_completed(context: Opaque, completed: *const c_int) -> c_int {
    unsafe { libusb_handle_events_timeout_completed(context, ptr::null(), completed) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_handle_events(context: Opaque) -> c_int {
    unsafe { libusb_handle_events_timeout_completed(context, ptr::null(), ptr::null()) }
}
