//! What devices there are, what they are, and opening them.

use std::ffi::{c_char, c_int, c_uchar, c_void};
use std::{ptr, slice};

use wavekeep_joulescope_emulator::UsbFault;

use crate::abi::{
    Configuration, DEVICE_DESCRIPTOR, DeviceDescriptor, ERROR_BUSY, ERROR_INVALID_PARAM, ERROR_IO, ERROR_NO_DEVICE,
    ERROR_NOT_FOUND, ERROR_NOT_SUPPORTED, ERROR_PIPE, Opaque, SPEED_HIGH, STRING_MANUFACTURER, STRING_PRODUCT,
    STRING_SERIAL, SUCCESS, VERSION, Version, configuration, opaque,
};
use crate::bus::{Handle, NUMBER_STEP, bus};
use crate::events::context_number;

/// Writes where the program wants it, if it wants it.
///
/// # Safety
/// `to` is null, or valid for this write.
pub(crate) unsafe fn give<T>(to: *mut T, value: T) {
    if !to.is_null() {
        unsafe { to.write(value) };
    }
}

pub(crate) fn error_of(fault: UsbFault) -> c_int {
    match fault {
        UsbFault::Stall => ERROR_PIPE,
        UsbFault::Gone => ERROR_NO_DEVICE,
        UsbFault::Suspended => ERROR_IO,
    }
}

#[unsafe(no_mangle)]
extern "C" fn libusb_get_version() -> *const Version {
    &raw const VERSION
}

#[unsafe(no_mangle)]
extern "C" fn libusb_has_capability(capability: u32) -> c_int {
    // That it can be asked, and hotplug.
    c_int::from(capability <= 1)
}

#[unsafe(no_mangle)]
extern "C" fn libusb_error_name(code: c_int) -> *const c_char {
    let name = match code {
        SUCCESS => c"LIBUSB_SUCCESS",
        ERROR_IO => c"LIBUSB_ERROR_IO",
        ERROR_INVALID_PARAM => c"LIBUSB_ERROR_INVALID_PARAM",
        ERROR_NO_DEVICE => c"LIBUSB_ERROR_NO_DEVICE",
        ERROR_NOT_FOUND => c"LIBUSB_ERROR_NOT_FOUND",
        ERROR_BUSY => c"LIBUSB_ERROR_BUSY",
        -7 => c"LIBUSB_ERROR_TIMEOUT",
        ERROR_PIPE => c"LIBUSB_ERROR_PIPE",
        ERROR_NOT_SUPPORTED => c"LIBUSB_ERROR_NOT_SUPPORTED",
        _ => c"LIBUSB_ERROR_OTHER",
    };
    name.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn libusb_strerror(code: c_int) -> *const c_char {
    libusb_error_name(code)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_device_list(context: Opaque, list: *mut *mut Opaque) -> isize {
    if list.is_null() {
        return ERROR_INVALID_PARAM as isize;
    }
    let mut state = bus().lock();
    state.step(bus().now());
    let Some(slot) = state.contexts.get(&context_number(context)).map(|context| context.slot) else {
        return ERROR_INVALID_PARAM as isize;
    };
    let plugged = state.instruments.iter().filter_map(|instrument| instrument.device);
    let mut devices: Vec<Opaque> = plugged.map(|device| opaque(device + slot)).collect();
    let count = devices.len() as isize;
    devices.push(ptr::null_mut());
    // Freed by libusb_free_device_list, which finds the length again by the null at its end.
    unsafe { list.write(Box::into_raw(devices.into_boxed_slice()).cast()) };
    count
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_free_device_list(list: *mut Opaque, _unref: c_int) {
    if list.is_null() {
        return;
    }
    // As libusb_get_device_list made it.
    unsafe {
        let mut length = 0;
        while !(*list.add(length)).is_null() {
            length += 1;
        }
        drop(Box::from_raw(ptr::slice_from_raw_parts_mut(list, length + 1)));
    }
}

/// Devices are numbers, so there is nothing to count.
#[unsafe(no_mangle)]
extern "C" fn libusb_ref_device(device: Opaque) -> Opaque {
    device
}

#[unsafe(no_mangle)]
extern "C" fn libusb_unref_device(_device: Opaque) {}

#[unsafe(no_mangle)]
extern "C" fn libusb_get_bus_number(_device: Opaque) -> u8 {
    1
}

#[unsafe(no_mangle)]
extern "C" fn libusb_get_device_address(device: Opaque) -> u8 {
    // Another one each time it is plugged in, as on a real bus; 0 is nobody's.
    (device.addr() / NUMBER_STEP % 127 + 1) as u8
}

#[unsafe(no_mangle)]
extern "C" fn libusb_get_port_number(device: Opaque) -> u8 {
    let state = bus().lock();
    let number = device.addr() / NUMBER_STEP * NUMBER_STEP;
    let nth = state
        .instruments
        .iter()
        .position(|instrument| instrument.device == Some(number));
    nth.map_or(0, |nth| (nth + 1) as u8)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_port_numbers(device: Opaque, ports: *mut u8, length: c_int) -> c_int {
    if length < 1 {
        return -8;
    }
    unsafe { give(ports, libusb_get_port_number(device)) };
    1
}

#[unsafe(no_mangle)]
extern "C" fn libusb_get_parent(_device: Opaque) -> Opaque {
    ptr::null_mut()
}

#[unsafe(no_mangle)]
extern "C" fn libusb_get_device_speed(_device: Opaque) -> c_int {
    SPEED_HIGH
}

#[unsafe(no_mangle)]
extern "C" fn libusb_get_max_packet_size(_device: Opaque, _endpoint: c_uchar) -> c_int {
    512
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_device_descriptor(_device: Opaque, into: *mut DeviceDescriptor) -> c_int {
    unsafe { give(into, DEVICE_DESCRIPTOR) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_active_config_descriptor(_device: Opaque, into: *mut *const Configuration) -> c_int {
    unsafe { give(into, configuration()) };
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_config_descriptor(device: Opaque, nth: u8, into: *mut *const Configuration) -> c_int {
    if nth != 0 {
        return ERROR_NOT_FOUND;
    }
    unsafe { libusb_get_active_config_descriptor(device, into) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_config_descriptor_by_value(
    device: Opaque,
    value: u8,
    into: *mut *const Configuration,
) -> c_int {
    unsafe { libusb_get_config_descriptor(device, value.wrapping_sub(1), into) }
}

#[unsafe(no_mangle)]
extern "C" fn libusb_free_config_descriptor(_descriptor: *mut c_void) {}

/// The device's texts.
pub(crate) fn string(serial: &str, nth: u8) -> Option<String> {
    match nth {
        STRING_MANUFACTURER => Some(String::from("Jetperch LLC")),
        STRING_PRODUCT => Some(String::from("Joulescope JS220")),
        STRING_SERIAL => Some(serial.to_owned()),
        _ => None,
    }
}

/// # Safety
/// `into` is valid for `length` bytes.
unsafe fn give_text(text: &str, into: *mut c_uchar, length: c_int) -> c_int {
    let Some(room) = usize::try_from(length).ok().filter(|&room| room > 0 && !into.is_null()) else {
        return ERROR_INVALID_PARAM;
    };
    let into = unsafe { slice::from_raw_parts_mut(into, room) };
    let count = text.len().min(room - 1);
    into[..count].copy_from_slice(&text.as_bytes()[..count]);
    into[count] = 0;
    count as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_string_descriptor_ascii(
    handle: Opaque,
    nth: u8,
    into: *mut c_uchar,
    length: c_int,
) -> c_int {
    let mut state = bus().lock();
    let Some(instrument) = state.opened(handle.addr()) else {
        return ERROR_NO_DEVICE;
    };
    match string(instrument.core.serial(), nth) {
        Some(text) => unsafe { give_text(&text, into, length) },
        None => ERROR_PIPE,
    }
}

/// An addition of the vendor's own libusb: the serial number of a device that is not open.
#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_serial_string_descriptor_ascii(
    device: Opaque,
    into: *mut c_uchar,
    length: c_int,
) -> c_int {
    let mut state = bus().lock();
    match state.instrument(device.addr()) {
        Some(instrument) => unsafe { give_text(instrument.core.serial(), into, length) },
        None => ERROR_NO_DEVICE,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_open(device: Opaque, into: *mut Opaque) -> c_int {
    let mut state = bus().lock();
    state.step(bus().now());
    let device = device.addr();
    let (Some(context), true) = (state.context_of(device), state.instrument(device).is_some()) else {
        return ERROR_NO_DEVICE;
    };
    let number = state.number();
    let handle = Handle {
        context,
        device: device / NUMBER_STEP * NUMBER_STEP,
        claimed: false,
    };
    state.handles.insert(number, handle);
    unsafe { give(into, opaque(number)) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn libusb_close(handle: Opaque) {
    bus().lock().close(handle.addr());
}

#[unsafe(no_mangle)]
extern "C" fn libusb_get_device(handle: Opaque) -> Opaque {
    let state = bus().lock();
    let Some(handle) = state.handles.get(&handle.addr()) else {
        return ptr::null_mut();
    };
    let slot = state.contexts.get(&handle.context).map_or(0, |context| context.slot);
    opaque(handle.device + slot)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn libusb_get_configuration(handle: Opaque, into: *mut c_int) -> c_int {
    if bus().lock().opened(handle.addr()).is_none() {
        return ERROR_NO_DEVICE;
    }
    unsafe { give(into, 1) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn libusb_set_configuration(handle: Opaque, value: c_int) -> c_int {
    match bus().lock().opened(handle.addr()) {
        None => ERROR_NO_DEVICE,
        Some(_) if value == 1 => SUCCESS,
        Some(_) => ERROR_NOT_FOUND,
    }
}

#[unsafe(no_mangle)]
extern "C" fn libusb_claim_interface(handle: Opaque, interface: c_int) -> c_int {
    let mut state = bus().lock();
    let Some(&Handle { device, .. }) = state.handles.get(&handle.addr()) else {
        return ERROR_NO_DEVICE;
    };
    if state.instrument(device).is_none() {
        return ERROR_NO_DEVICE;
    }
    if interface != 0 {
        return ERROR_NOT_FOUND;
    }
    let taken =
        |(&number, other): (&usize, &Handle)| number != handle.addr() && other.device == device && other.claimed;
    if state.handles.iter().any(taken) {
        return ERROR_BUSY;
    }
    if let Some(handle) = state.handles.get_mut(&handle.addr()) {
        handle.claimed = true;
    }
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn libusb_release_interface(handle: Opaque, _interface: c_int) -> c_int {
    match bus().lock().handles.get_mut(&handle.addr()) {
        Some(handle) if handle.claimed => {
            handle.claimed = false;
            SUCCESS
        }
        _ => ERROR_NOT_FOUND,
    }
}

#[unsafe(no_mangle)]
extern "C" fn libusb_set_interface_alt_setting(handle: Opaque, interface: c_int, alternate: c_int) -> c_int {
    match bus().lock().opened(handle.addr()) {
        None => ERROR_NO_DEVICE,
        Some(_) if interface == 0 && alternate == 0 => SUCCESS,
        Some(_) => ERROR_NOT_FOUND,
    }
}

#[unsafe(no_mangle)]
extern "C" fn libusb_clear_halt(handle: Opaque, _endpoint: c_uchar) -> c_int {
    let now = bus().now();
    match bus().lock().opened(handle.addr()) {
        None => ERROR_NO_DEVICE,
        Some(instrument) => instrument.core.clear_halt(now).map_or_else(error_of, |()| SUCCESS),
    }
}

#[unsafe(no_mangle)]
extern "C" fn libusb_reset_device(handle: Opaque) -> c_int {
    libusb_clear_halt(handle, 0)
}

#[unsafe(no_mangle)]
extern "C" fn libusb_kernel_driver_active(_handle: Opaque, _interface: c_int) -> c_int {
    0
}

#[unsafe(no_mangle)]
extern "C" fn libusb_detach_kernel_driver(_handle: Opaque, _interface: c_int) -> c_int {
    ERROR_NOT_FOUND
}

#[unsafe(no_mangle)]
extern "C" fn libusb_attach_kernel_driver(_handle: Opaque, _interface: c_int) -> c_int {
    ERROR_NOT_FOUND
}

#[unsafe(no_mangle)]
extern "C" fn libusb_set_auto_detach_kernel_driver(_handle: Opaque, _on: c_int) -> c_int {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn libusb_wrap_sys_device(_context: Opaque, _device: isize, _handle: *mut Opaque) -> c_int {
    ERROR_NOT_SUPPORTED
}
