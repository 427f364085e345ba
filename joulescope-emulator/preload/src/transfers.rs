//! Transfers, with and without waiting for them.

use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::time::{Duration, Instant};
use std::{ptr, slice};

use wavekeep_joulescope_emulator::{BULK_IN, BULK_OUT, UsbFault};

use crate::abi::{
    COMPLETED, ERROR_INVALID_PARAM, ERROR_NO_DEVICE, ERROR_NOT_FOUND, ERROR_NOT_SUPPORTED, ERROR_TIMEOUT, FAILED,
    NO_DEVICE, Opaque, STALLED, SUCCESS, TYPE_BULK, TYPE_CONTROL, Transfer,
};
use crate::bus::{Instrument, Pointer, bus};
use crate::devices::{error_of, give, string};
use crate::latency::since_called;

/// A control request: its setup.
struct Setup {
    kind: u8,
    request: u8,
    value: u16,
    index: u16,
    length: u16,
}

const SETUP_BYTES: usize = 8;
const KIND_VENDOR_IN: u8 = 0xC0;
const KIND_STANDARD_IN: u8 = 0x80;
const GET_DESCRIPTOR: u8 = 6;
const DESCRIPTOR_STRING: u16 = 3;

impl Setup {
    fn answer(&self, instrument: &mut Instrument, now: Duration) -> Result<Vec<u8>, UsbFault> {
        match self.kind {
            KIND_VENDOR_IN => instrument
                .core
                .control_in(self.request, self.value, self.index, self.length, now),
            KIND_STANDARD_IN if self.request == GET_DESCRIPTOR && self.value >> 8 == DESCRIPTOR_STRING => {
                let mut bytes = match self.value as u8 {
                    // The languages: English alone.
                    0 => vec![4, 3, 0x09, 0x04],
                    nth => {
                        let text = string(instrument.core.serial(), nth).ok_or(UsbFault::Stall)?;
                        let mut bytes = vec![(2 + 2 * text.len()) as u8, 3];
                        bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
                        bytes
                    }
                };
                bytes.truncate(usize::from(self.length));
                Ok(bytes)
            }
            _ => Err(UsbFault::Stall),
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn libusb_alloc_transfer(iso_packets: c_int) -> *mut Transfer {
    if iso_packets != 0 {
        return ptr::null_mut();
    }
    Box::into_raw(Box::new(Transfer {
        handle: ptr::null_mut(),
        flags: 0,
        endpoint: 0,
        kind: 0,
        timeout: 0,
        status: 0,
        length: 0,
        actual_length: 0,
        callback: None,
        user_data: ptr::null_mut(),
        buffer: ptr::null_mut(),
        num_iso_packets: 0,
    }))
}

unsafe extern "C" {
    fn free(memory: *mut c_void);
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn libusb_free_transfer(transfer: *mut Transfer) {
    if transfer.is_null() {
        return;
    }
    // libusb_alloc_transfer made it; the buffer is malloc's if the program says that we shall free it.
    unsafe {
        let transfer = Box::from_raw(transfer);
        if transfer.flags & crate::abi::FLAG_FREE_BUFFER != 0 {
            free(transfer.buffer.cast());
        }
    }
}

fn status_of(fault: UsbFault) -> c_int {
    match fault {
        UsbFault::Stall => STALLED,
        UsbFault::Gone => NO_DEVICE,
        UsbFault::Suspended => FAILED,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_submit_transfer(transfer: *mut Transfer) -> c_int {
    // The program has filled it, with a buffer of `length` bytes, and leaves it to us until it is reported.
    let given = unsafe { &mut *transfer };
    let Some(length) = usize::try_from(given.length)
        .ok()
        .filter(|&n| n == 0 || !given.buffer.is_null())
    else {
        return ERROR_INVALID_PARAM;
    };
    let handle = given.handle.addr();
    let own = since_called(transfer.addr());
    let now = bus().now();
    let mut state = bus().lock();
    state.step(now);
    let Some(instrument) = state.opened(handle) else {
        return ERROR_NO_DEVICE;
    };
    let pointer = Pointer(transfer);
    let bytes = || unsafe { slice::from_raw_parts_mut(given.buffer, length) };
    let (status, done) = match (given.kind, given.endpoint) {
        (TYPE_CONTROL, _) if length >= SETUP_BYTES => {
            let bytes = bytes();
            let setup = Setup {
                kind: bytes[0],
                request: bytes[1],
                value: u16::from_le_bytes([bytes[2], bytes[3]]),
                index: u16::from_le_bytes([bytes[4], bytes[5]]),
                length: u16::from_le_bytes([bytes[6], bytes[7]]),
            };
            match setup.answer(instrument, now) {
                Ok(answer) => {
                    let count = answer.len().min(length - SETUP_BYTES);
                    bytes[SETUP_BYTES..SETUP_BYTES + count].copy_from_slice(&answer[..count]);
                    (COMPLETED, count)
                }
                Err(fault) => (status_of(fault), 0),
            }
        }
        (TYPE_BULK, BULK_OUT) => match instrument.core.bulk_out(bytes(), now) {
            Ok(()) => (COMPLETED, length),
            Err(fault) => (status_of(fault), 0),
        },
        (TYPE_BULK, BULK_IN) => {
            let timeout = (given.timeout > 0).then(|| Duration::from_millis(given.timeout.into()));
            state.latency.submitted(transfer.addr(), own);
            state.wait_for_data(pointer, handle, length, timeout);
            return SUCCESS;
        }
        _ => return ERROR_NOT_SUPPORTED,
    };
    state.done(pointer, handle, status, done);
    drop(state);
    bus().notify();
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn libusb_cancel_transfer(transfer: *mut Transfer) -> c_int {
    let cancelled = bus().lock().cancel(transfer);
    if !cancelled {
        return ERROR_NOT_FOUND;
    }
    bus().notify();
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_control_transfer(
    handle: Opaque,
    kind: u8,
    request: u8,
    value: u16,
    index: u16,
    data: *mut c_uchar,
    length: u16,
    _timeout: c_uint,
) -> c_int {
    let setup = Setup {
        kind,
        request,
        value,
        index,
        length,
    };
    let now = bus().now();
    let mut state = bus().lock();
    state.step(now);
    let Some(instrument) = state.opened(handle.addr()) else {
        return ERROR_NO_DEVICE;
    };
    match setup.answer(instrument, now) {
        Ok(answer) => {
            // The program's buffer has `length` bytes, and no answer has more.
            unsafe { ptr::copy_nonoverlapping(answer.as_ptr(), data, answer.len()) };
            answer.len() as c_int
        }
        Err(fault) => error_of(fault),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_bulk_transfer(
    handle: Opaque,
    endpoint: c_uchar,
    data: *mut c_uchar,
    length: c_int,
    transferred: *mut c_int,
    timeout: c_uint,
) -> c_int {
    let Some(length) = usize::try_from(length).ok().filter(|&n| n == 0 || !data.is_null()) else {
        return ERROR_INVALID_PARAM;
    };
    let deadline = (timeout > 0).then(|| Instant::now() + Duration::from_millis(timeout.into()));
    let mut filled = Vec::new();
    let mut state = bus().lock();
    let code = loop {
        let now = bus().now();
        let Some(instrument) = state.opened(handle.addr()) else {
            break ERROR_NO_DEVICE;
        };
        let whole = match endpoint {
            BULK_OUT => {
                // The program's buffer has `length` bytes.
                let bytes = unsafe { slice::from_raw_parts(data, length) };
                instrument.core.bulk_out(bytes, now).map(|()| true)
            }
            BULK_IN => instrument.core.bulk_in(&mut filled, length, now),
            _ => break ERROR_NOT_SUPPORTED,
        };
        match whole {
            Ok(true) => break SUCCESS,
            Ok(false) if deadline.is_some_and(|at| at <= Instant::now()) => break ERROR_TIMEOUT,
            Ok(false) => state = bus().wait(state, Duration::from_millis(1)),
            Err(fault) => break error_of(fault),
        }
    };
    drop(state);
    let count = if endpoint == BULK_OUT && code == SUCCESS {
        length
    } else {
        filled.len()
    };
    // An instrument never gives more than it was asked for.
    unsafe {
        ptr::copy_nonoverlapping(filled.as_ptr(), data, filled.len());
        give(transferred, count as c_int);
    }
    code
}
