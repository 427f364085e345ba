//! libusb's public binary interface, as far as drivers of Joulescopes use it: the layout of its structures, and its numbers.

use std::ffi::{c_char, c_int, c_short, c_uchar, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

use wavekeep_joulescope_emulator::{BULK_IN, BULK_OUT, PRODUCT, VENDOR};

pub(crate) const SUCCESS: c_int = 0;
pub(crate) const ERROR_IO: c_int = -1;
pub(crate) const ERROR_INVALID_PARAM: c_int = -2;
pub(crate) const ERROR_NO_DEVICE: c_int = -4;
pub(crate) const ERROR_NOT_FOUND: c_int = -5;
pub(crate) const ERROR_BUSY: c_int = -6;
pub(crate) const ERROR_TIMEOUT: c_int = -7;
pub(crate) const ERROR_PIPE: c_int = -9;
pub(crate) const ERROR_NOT_SUPPORTED: c_int = -12;

pub(crate) const COMPLETED: c_int = 0;
pub(crate) const FAILED: c_int = 1;
pub(crate) const TIMED_OUT: c_int = 2;
pub(crate) const CANCELLED: c_int = 3;
pub(crate) const STALLED: c_int = 4;
pub(crate) const NO_DEVICE: c_int = 5;

pub(crate) const TYPE_CONTROL: c_uchar = 0;
pub(crate) const TYPE_BULK: c_uchar = 2;

pub(crate) const FLAG_FREE_BUFFER: c_uchar = 1 << 1;
pub(crate) const FLAG_FREE_TRANSFER: c_uchar = 1 << 2;

pub(crate) const ARRIVED: c_int = 1;
pub(crate) const LEFT: c_int = 2;
pub(crate) const ENUMERATE: c_int = 1;

pub(crate) const SPEED_HIGH: c_int = 3;
pub(crate) const POLLIN: c_short = 1;

/// What libusb hands out as pointers to structures of its own. Here they are numbers: nobody but libusb looks behind them.
pub(crate) type Opaque = *mut c_void;

pub(crate) fn opaque(number: usize) -> Opaque {
    ptr::without_provenance_mut(number)
}

pub(crate) type TransferCallback = Option<unsafe extern "C" fn(*mut Transfer)>;
pub(crate) type HotplugCallback = Option<unsafe extern "C" fn(Opaque, Opaque, c_int, *mut c_void) -> c_int>;

#[repr(C)]
pub(crate) struct Transfer {
    pub(crate) handle: Opaque,
    pub(crate) flags: u8,
    pub(crate) endpoint: c_uchar,
    pub(crate) kind: c_uchar,
    pub(crate) timeout: c_uint,
    pub(crate) status: c_int,
    pub(crate) length: c_int,
    pub(crate) actual_length: c_int,
    pub(crate) callback: TransferCallback,
    pub(crate) user_data: *mut c_void,
    pub(crate) buffer: *mut c_uchar,
    pub(crate) num_iso_packets: c_int,
}

#[repr(C)]
pub(crate) struct Timeval {
    pub(crate) seconds: i64,
    pub(crate) microseconds: i64,
}

#[repr(C)]
pub(crate) struct PollFd {
    pub(crate) fd: c_int,
    pub(crate) events: c_short,
}

#[repr(C)]
pub(crate) struct Version {
    numbers: [u16; 4],
    candidate: *const c_char,
    description: *const c_char,
}

// Its pointers are to constants.
unsafe impl Sync for Version {}

/// The version of libusb that this stands for.
pub(crate) static VERSION: Version = Version {
    numbers: [1, 0, 26, 0],
    candidate: c"".as_ptr(),
    description: c"emulated Joulescopes".as_ptr(),
};

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct DeviceDescriptor {
    length: u8,
    descriptor_type: u8,
    usb: u16,
    class: [u8; 3],
    max_packet: u8,
    vendor: u16,
    product: u16,
    release: u16,
    manufacturer: u8,
    product_name: u8,
    serial: u8,
    configurations: u8,
}

pub(crate) const STRING_MANUFACTURER: u8 = 1;
pub(crate) const STRING_PRODUCT: u8 = 2;
pub(crate) const STRING_SERIAL: u8 = 3;

pub(crate) const DEVICE_DESCRIPTOR: DeviceDescriptor = DeviceDescriptor {
    length: 18,
    descriptor_type: 1,
    usb: 0x0200,
    class: [0; 3],
    max_packet: 64,
    vendor: VENDOR,
    product: PRODUCT,
    release: 0x0100,
    manufacturer: STRING_MANUFACTURER,
    product_name: STRING_PRODUCT,
    serial: STRING_SERIAL,
    configurations: 1,
};

#[repr(C)]
pub(crate) struct Endpoint {
    length: u8,
    descriptor_type: u8,
    address: u8,
    attributes: u8,
    max_packet: u16,
    interval: u8,
    refresh: u8,
    sync_address: u8,
    extra: *const c_uchar,
    extra_length: c_int,
}

#[repr(C)]
struct InterfaceDescriptor {
    length: u8,
    descriptor_type: u8,
    number: u8,
    alternate: u8,
    endpoints: u8,
    class: [u8; 3],
    name: u8,
    endpoint: *const Endpoint,
    extra: *const c_uchar,
    extra_length: c_int,
}

#[repr(C)]
struct Interface {
    alternates: *const InterfaceDescriptor,
    count: c_int,
}

#[repr(C)]
pub(crate) struct Configuration {
    length: u8,
    descriptor_type: u8,
    total: u16,
    interfaces: u8,
    value: u8,
    name: u8,
    attributes: u8,
    power: u8,
    interface: *const Interface,
    extra: *const c_uchar,
    extra_length: c_int,
}

/// The address of the only configuration: one interface with two bulk endpoints. It is made once and stays.
pub(crate) fn configuration() -> *const Configuration {
    static MADE: OnceLock<usize> = OnceLock::new();
    let endpoint = |address| Endpoint {
        length: 7,
        descriptor_type: 5,
        address,
        attributes: 2,
        max_packet: 512,
        interval: 0,
        refresh: 0,
        sync_address: 0,
        extra: ptr::null(),
        extra_length: 0,
    };
    let address = *MADE.get_or_init(|| {
        let endpoints: &[Endpoint; 2] = Box::leak(Box::new([endpoint(BULK_OUT), endpoint(BULK_IN)]));
        let alternate = Box::leak(Box::new(InterfaceDescriptor {
            length: 9,
            descriptor_type: 4,
            number: 0,
            alternate: 0,
            endpoints: 2,
            class: [0xFF; 3],
            name: 0,
            endpoint: endpoints.as_ptr(),
            extra: ptr::null(),
            extra_length: 0,
        }));
        let interface = Box::leak(Box::new(Interface {
            alternates: alternate,
            count: 1,
        }));
        let configuration = Box::leak(Box::new(Configuration {
            length: 9,
            descriptor_type: 2,
            total: 32,
            interfaces: 1,
            value: 1,
            name: 0,
            attributes: 0x80,
            power: 250,
            interface,
            extra: ptr::null(),
            extra_length: 0,
        }));
        ptr::from_ref(configuration).expose_provenance()
    });
    ptr::with_exposed_provenance(address)
}
