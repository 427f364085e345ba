//! What the instrument says that it is, and its standard requests (USB 2.0, chapter 9). The vendor's own requests go to the core.

use std::time::Duration;

use wavekeep_joulescope_emulator::{BULK_IN, BULK_OUT, Js220, PRODUCT, UsbFault, VENDOR};

use crate::protocol::Port;

/// High speed, as USB/IP numbers speeds.
const SPEED: u32 = 3;
const RELEASE: u16 = 0x0100;
const PACKET_BYTES: u16 = 512;
/// The vendor's own.
const CLASS: u8 = 0xFF;

const MANUFACTURER: u8 = 1;
const PRODUCT_NAME: u8 = 2;
const SERIAL: u8 = 3;

const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const STRING: u8 = 3;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;
const BULK: u8 = 2;
const US_ENGLISH: u16 = 0x0409;

const GET_STATUS: u8 = 0;
const CLEAR_FEATURE: u8 = 1;
const SET_ADDRESS: u8 = 5;
const GET_DESCRIPTOR: u8 = 6;
const GET_CONFIGURATION: u8 = 8;
const SET_CONFIGURATION: u8 = 9;
const GET_INTERFACE: u8 = 10;
const SET_INTERFACE: u8 = 11;

/// Requests to the device, to an interface and to an endpoint; with this bit they are answered.
const TO_DEVICE: u8 = 0;
const TO_INTERFACE: u8 = 1;
const TO_ENDPOINT: u8 = 2;
const ANSWERED: u8 = 0x80;
const VENDOR_IN: u8 = 0xC0;

const ENDPOINT_HALT: u16 = 0;

/// What is plugged in at a port.
pub(crate) fn port(number: u8, configuration: u8) -> Port {
    Port {
        number,
        speed: SPEED,
        vendor: VENDOR,
        product: PRODUCT,
        release: RELEASE,
        configuration,
        interface: [CLASS, 0, 0],
    }
}

fn device() -> Vec<u8> {
    let mut bytes = vec![18, DEVICE, 0x00, 0x02, 0, 0, 0, 64];
    for half in [VENDOR, PRODUCT, RELEASE] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend([MANUFACTURER, PRODUCT_NAME, SERIAL, 1]);
    bytes
}

fn configuration() -> Vec<u8> {
    // One interface, value 1, powered by the bus with 500 mA.
    let mut bytes = vec![9, CONFIGURATION, 32, 0, 1, 1, 0, 0x80, 250];
    bytes.extend([9, INTERFACE, 0, 0, 2, CLASS, 0, 0, 0]);
    for address in [BULK_OUT, BULK_IN] {
        bytes.extend([7, ENDPOINT, address, BULK]);
        bytes.extend(PACKET_BYTES.to_le_bytes());
        bytes.push(0);
    }
    bytes
}

fn string(nth: u8, serial: &str) -> Option<Vec<u8>> {
    let text = match nth {
        0 => return Some([vec![4, STRING], US_ENGLISH.to_le_bytes().to_vec()].concat()),
        MANUFACTURER => "Jetperch LLC",
        PRODUCT_NAME => "Joulescope JS220",
        SERIAL => serial,
        _ => return None,
    };
    let units: Vec<u8> = text.encode_utf16().take(126).flat_map(u16::to_le_bytes).collect();
    Some([vec![(2 + units.len()) as u8, STRING], units].concat())
}

/// A control request's eight bytes.
#[derive(Debug, Clone, Copy)]
struct Setup {
    kind: u8,
    request: u8,
    value: u16,
    index: u16,
    length: u16,
}

impl Setup {
    fn new(bytes: [u8; 8]) -> Self {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            kind: bytes[0],
            request: bytes[1],
            value: half(2),
            index: half(4),
            length: half(6),
        }
    }
}

/// What standard requests change.
#[derive(Debug, Default)]
pub(crate) struct Standard {
    pub(crate) configuration: u8,
    /// Bulk pipe IN is.
    pub(crate) halted: bool,
}

impl Standard {
    /// Answers a control request, with at most as many bytes as it asks for.
    pub(crate) fn control(&mut self, core: &mut Js220, setup: [u8; 8], now: Duration) -> Result<Vec<u8>, UsbFault> {
        let setup = Setup::new(setup);
        let Setup {
            kind,
            request,
            value,
            index,
            length,
        } = setup;
        if kind == VENDOR_IN {
            return core.control_in(request, value, index, length, now);
        }
        const DEVICE_IN: u8 = TO_DEVICE | ANSWERED;
        const INTERFACE_IN: u8 = TO_INTERFACE | ANSWERED;
        const ENDPOINT_IN: u8 = TO_ENDPOINT | ANSWERED;
        let mut answer = match (kind, request) {
            (DEVICE_IN, GET_DESCRIPTOR) => descriptor(value, core.serial()).ok_or(UsbFault::Stall)?,
            (DEVICE_IN | INTERFACE_IN, GET_STATUS) => vec![0, 0],
            (ENDPOINT_IN, GET_STATUS) => vec![u8::from(self.halted && index == u16::from(BULK_IN)), 0],
            (DEVICE_IN, GET_CONFIGURATION) => vec![self.configuration],
            (INTERFACE_IN, GET_INTERFACE) if index == 0 => vec![0],
            (TO_DEVICE, SET_CONFIGURATION) if value <= 1 => {
                self.configuration = value as u8;
                Vec::new()
            }
            (TO_DEVICE, SET_ADDRESS) => Vec::new(),
            (TO_INTERFACE, SET_INTERFACE) if value == 0 && index == 0 => Vec::new(),
            (TO_ENDPOINT, CLEAR_FEATURE) if value == ENDPOINT_HALT => {
                if index == u16::from(BULK_IN) {
                    core.clear_halt(now)?;
                    self.halted = false;
                }
                Vec::new()
            }
            _ => return Err(UsbFault::Stall),
        };
        answer.truncate(usize::from(length));
        Ok(answer)
    }
}

fn descriptor(value: u16, serial: &str) -> Option<Vec<u8>> {
    let [nth, kind] = value.to_le_bytes();
    match (kind, nth) {
        (DEVICE, 0) => Some(device()),
        (CONFIGURATION, 0) => Some(configuration()),
        (STRING, nth) => string(nth, serial),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use wavekeep_joulescope_emulator::Settings;

    use super::*;

    fn asked(standard: &mut Standard, setup: [u8; 8]) -> Result<Vec<u8>, UsbFault> {
        standard.control(&mut Js220::new(Settings::default()), setup, Duration::ZERO)
    }

    /// By the tables of USB 2.0, 9.6.
    #[test]
    fn descriptors_are_those_of_a_js220() {
        let get =
            |kind: u8, nth: u8, length: u8| asked(&mut Standard::default(), [0x80, 6, nth, kind, 0, 0, length, 0]);
        let device = [18, 1, 0, 2, 0, 0, 0, 64, 0xD0, 0x16, 0xBA, 0x10, 0, 1, 1, 2, 3, 1];
        assert_eq!(get(1, 0, 64), Ok(device.to_vec()));
        assert_eq!(get(1, 0, 8), Ok(device[..8].to_vec()));
        let configuration = [
            9, 2, 32, 0, 1, 1, 0, 0x80, 250, 9, 4, 0, 0, 2, 0xFF, 0, 0, 0, 7, 5, 0x01, 2, 0, 2, 0, 7, 5, 0x82, 2, 0, 2,
            0,
        ];
        assert_eq!(get(2, 0, 255), Ok(configuration.to_vec()));
        assert_eq!(get(2, 0, 9), Ok(configuration[..9].to_vec()));
        assert_eq!(get(3, 0, 255), Ok(vec![4, 3, 9, 4]));
        let serial = b"\x0E\x030\x000\x001\x001\x002\x002\x00";
        assert_eq!(get(3, 3, 255), Ok(serial.to_vec()));
        for (kind, nth) in [(1, 1), (2, 1), (3, 4), (6, 0), (15, 0)] {
            assert_eq!(get(kind, nth, 255), Err(UsbFault::Stall), "{kind} {nth}");
        }
    }

    #[test]
    fn it_is_configured_and_its_pipe_is_cleared() {
        let mut standard = Standard::default();
        assert_eq!(asked(&mut standard, [0x80, 8, 0, 0, 0, 0, 1, 0]), Ok(vec![0]));
        assert_eq!(asked(&mut standard, [0, 9, 1, 0, 0, 0, 0, 0]), Ok(vec![]));
        assert_eq!(asked(&mut standard, [0, 9, 2, 0, 0, 0, 0, 0]), Err(UsbFault::Stall));
        assert_eq!(asked(&mut standard, [0x80, 8, 0, 0, 0, 0, 1, 0]), Ok(vec![1]));
        assert_eq!(asked(&mut standard, [1, 11, 0, 0, 0, 0, 0, 0]), Ok(vec![]));
        assert_eq!(asked(&mut standard, [1, 11, 1, 0, 0, 0, 0, 0]), Err(UsbFault::Stall));
        standard.halted = true;
        assert_eq!(asked(&mut standard, [0x82, 0, 0, 0, 0x82, 0, 2, 0]), Ok(vec![1, 0]));
        assert_eq!(asked(&mut standard, [2, 1, 0, 0, 0x82, 0, 0, 0]), Ok(vec![]));
        assert_eq!(asked(&mut standard, [0x82, 0, 0, 0, 0x82, 0, 2, 0]), Ok(vec![0, 0]));
    }

    #[test]
    fn vendor_requests_reach_the_instrument() {
        let mut standard = Standard::default();
        assert_eq!(asked(&mut standard, [0xC0, 1, 0, 0, 0, 0, 1, 0]), Ok(vec![0]));
        assert_eq!(asked(&mut standard, [0xC0, 99, 0, 0, 0, 0, 1, 0]), Err(UsbFault::Stall));
        assert_eq!(asked(&mut standard, [0x40, 1, 0, 0, 0, 0, 0, 0]), Err(UsbFault::Stall));
    }
}
