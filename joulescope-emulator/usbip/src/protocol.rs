//! USB/IP's messages, as the kernel's documentation describes them (`Documentation/usb/usbip_protocol.rst`): all numbers big-endian.
//!
//! # Invariants
//! - Arbitrary bytes give a message or an error; nothing is allocated by what they say.

use crate::limits;

/// Bytes of the first part of a request: version, code, status.
pub(crate) const REQUEST_BYTES: usize = 8;
/// Bytes of the name of a port.
pub(crate) const NAME_BYTES: usize = 32;
/// Bytes of a command.
pub(crate) const COMMAND_BYTES: usize = 48;

const VERSION: u16 = 0x0111;
const REQUEST_LIST: u16 = 0x8005;
const REQUEST_IMPORT: u16 = 0x8003;
const REPLY_LIST: u16 = 0x0005;
const REPLY_IMPORT: u16 = 0x0003;

const COMMAND_SUBMIT: u32 = 1;
const COMMAND_UNLINK: u32 = 2;
const REPLY_SUBMIT: u32 = 3;
const REPLY_UNLINK: u32 = 4;

const DIRECTION_IN: u32 = 1;
/// Where a transfer is not isochronous, the documentation has this number of packets, and the kernel sends 0.
const NO_PACKETS: u32 = u32::MAX;

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("it speaks version {0:#06x} of USB/IP, this server 0x0111")]
    Version(u16),
    #[error("USB/IP has no request {0:#06x}")]
    Request(u16),
    #[error("USB/IP has no command {0}")]
    Command(u32),
    #[error("a transfer of {0} bytes is longer than any may be")]
    Long(u32),
    #[error("an isochronous transfer: the instrument has no such endpoint")]
    Isochronous,
    #[error("a command for device {0:#x}, which is not the one it has")]
    Device(u32),
    #[error("it waits for more than any host does, or reads none of its answers")]
    Owed,
}

/// What a connection begins with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Which instruments are there?
    List,
    /// The name of a port follows.
    Import,
}

/// What an import answers instead of an instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Somebody else has it.
    Busy = 2,
    /// There is none, or it is unplugged.
    None = 4,
}

/// What follows once an instrument is imported.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Submit(Submit),
    Unlink(Unlink),
}

/// A transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Submit {
    pub(crate) number: u32,
    pub(crate) is_in: bool,
    pub(crate) endpoint: u32,
    /// Bytes that it has, or has room for.
    pub(crate) length: usize,
    pub(crate) setup: [u8; 8],
}

/// A transfer that is not wanted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unlink {
    pub(crate) number: u32,
    /// Of the transfer.
    pub(crate) of: u32,
}

/// What the server says of an instrument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// From 1 on.
    pub(crate) number: u8,
    pub(crate) speed: u32,
    pub(crate) vendor: u16,
    pub(crate) product: u16,
    pub(crate) release: u16,
    pub(crate) configuration: u8,
    /// Class, subclass and protocol of its one interface.
    pub(crate) interface: [u8; 3],
}

const BUS: u32 = 1;

impl Port {
    /// As commands name it.
    pub(crate) fn device(&self) -> u32 {
        BUS << 16 | u32::from(self.number)
    }

    fn record(&self) -> Vec<u8> {
        let name = format!("{BUS}-{}", self.number);
        let mut bytes = Vec::with_capacity(312);
        put_text(&mut bytes, &format!("/sys/devices/emulated/usb{BUS}/{name}"), 256);
        put_text(&mut bytes, &name, NAME_BYTES);
        for word in [BUS, u32::from(self.number), self.speed] {
            bytes.extend(word.to_be_bytes());
        }
        for half in [self.vendor, self.product, self.release] {
            bytes.extend(half.to_be_bytes());
        }
        // Class, subclass and protocol are those of the interface; one configuration, one interface.
        bytes.extend([0, 0, 0, self.configuration, 1, 1]);
        bytes
    }
}

fn put_text(into: &mut Vec<u8>, text: &str, length: usize) {
    let end = into.len() + length;
    into.extend(text.bytes().take(length - 1));
    into.resize(end, 0);
}

/// The first part of a request.
pub(crate) fn request(bytes: &[u8; REQUEST_BYTES]) -> Result<Request, Broken> {
    let half = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    match (half(0), half(2)) {
        (VERSION, REQUEST_LIST) => Ok(Request::List),
        (VERSION, REQUEST_IMPORT) => Ok(Request::Import),
        (VERSION, code) => Err(Broken::Request(code)),
        (version, _) => Err(Broken::Version(version)),
    }
}

/// The number of the port that a name means.
pub(crate) fn port_number(name: &[u8; NAME_BYTES]) -> Option<u8> {
    let end = name.iter().position(|&byte| byte == 0)?;
    let number = str::from_utf8(&name[..end]).ok()?.strip_prefix("1-")?;
    // No sign, and no zero before it.
    number
        .parse::<u8>()
        .ok()
        .filter(|found| *found > 0 && found.to_string() == number)
}

fn reply(code: u16, status: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend(code.to_be_bytes());
    bytes.extend(status.to_be_bytes());
    bytes
}

/// These instruments are there.
pub(crate) fn list(ports: &[Port]) -> Vec<u8> {
    let mut bytes = reply(REPLY_LIST, 0);
    bytes.extend((ports.len() as u32).to_be_bytes());
    for port in ports {
        bytes.extend(port.record());
        bytes.extend(port.interface);
        bytes.push(0);
    }
    bytes
}

/// The instrument is the connection's from now on; or why not.
pub(crate) fn imported(port: Result<&Port, Refusal>) -> Vec<u8> {
    match port {
        Ok(port) => [reply(REPLY_IMPORT, 0), port.record()].concat(),
        Err(refusal) => reply(REPLY_IMPORT, refusal as u32),
    }
}

/// A command for this device.
pub(crate) fn command(bytes: &[u8; COMMAND_BYTES], device: u32) -> Result<Command, Broken> {
    let word = |nth: usize| {
        let at = 4 * nth;
        u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let (code, number) = (word(0), word(1));
    if !matches!(code, COMMAND_SUBMIT | COMMAND_UNLINK) {
        return Err(Broken::Command(code));
    }
    if word(2) != device {
        return Err(Broken::Device(word(2)));
    }
    if code == COMMAND_UNLINK {
        return Ok(Command::Unlink(Unlink { number, of: word(5) }));
    }
    // After the flags, which are the client's own business.
    let (length, packets) = (word(6), word(8));
    if length > limits::TRANSFER_BYTES {
        return Err(Broken::Long(length));
    }
    if packets != 0 && packets != NO_PACKETS {
        return Err(Broken::Isochronous);
    }
    let mut setup = [0; 8];
    setup.copy_from_slice(&bytes[40..]);
    Ok(Command::Submit(Submit {
        number,
        is_in: word(3) == DIRECTION_IN,
        endpoint: word(4),
        length: length as usize,
        setup,
    }))
}

fn command_reply(code: u32, number: u32, status: i32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(COMMAND_BYTES);
    // Device, direction and endpoint are 0 in replies.
    for word in [code, number, 0, 0, 0, status.cast_unsigned()] {
        bytes.extend(word.to_be_bytes());
    }
    bytes
}

/// A transfer is over: so many bytes of it went, or these came.
pub(crate) fn submitted(number: u32, status: i32, actual: usize, data: &[u8]) -> Vec<u8> {
    let mut bytes = command_reply(REPLY_SUBMIT, number, status);
    bytes.extend((actual as u32).to_be_bytes());
    bytes.resize(COMMAND_BYTES, 0);
    bytes.extend_from_slice(data);
    bytes
}

/// A transfer was taken back, or was over before.
pub(crate) fn unlinked(number: u32, status: i32) -> Vec<u8> {
    let mut bytes = command_reply(REPLY_UNLINK, number, status);
    bytes.resize(COMMAND_BYTES, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> Port {
        Port {
            number: 2,
            speed: 3,
            vendor: 0x16D0,
            product: 0x10BA,
            release: 0x0102,
            configuration: 1,
            interface: [0xFF, 1, 2],
        }
    }

    /// By the table of the documentation: offsets in bytes.
    #[test]
    fn a_list_is_laid_out_as_documented() {
        let bytes = list(&[port()]);
        assert_eq!(bytes.len(), 0x0C + 0x138 + 4);
        assert_eq!(bytes[..12], [1, 0x11, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!(bytes[0x0C..].starts_with(b"/sys/devices/emulated/usb1/1-2\0"));
        assert!(bytes[0x10C..].starts_with(b"1-2\0"));
        assert_eq!(bytes[0x12C..0x138], [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
        assert_eq!(bytes[0x138..0x13E], [0x16, 0xD0, 0x10, 0xBA, 1, 2]);
        assert_eq!(bytes[0x13E..], [0, 0, 0, 1, 1, 1, 0xFF, 1, 2, 0]);
        assert_eq!(list(&[]).len(), 12);
    }

    #[test]
    fn an_import_is_laid_out_as_documented() {
        let bytes = imported(Ok(&port()));
        assert_eq!(bytes.len(), 0x140);
        assert_eq!(bytes[..8], [1, 0x11, 0, 3, 0, 0, 0, 0]);
        assert!(bytes[0x108..].starts_with(b"1-2\0"));
        assert_eq!(bytes[0x128..0x134], [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
        assert_eq!(imported(Err(Refusal::None)), [1, 0x11, 0, 3, 0, 0, 0, 4]);
        assert_eq!(imported(Err(Refusal::Busy)), [1, 0x11, 0, 3, 0, 0, 0, 2]);
    }

    #[test]
    fn requests_are_told_apart() {
        assert_eq!(request(&[1, 0x11, 0x80, 5, 0, 0, 0, 0]), Ok(Request::List));
        assert_eq!(request(&[1, 0x11, 0x80, 3, 0, 0, 0, 0]), Ok(Request::Import));
        assert_eq!(request(&[1, 0x11, 0x80, 7, 0, 0, 0, 0]), Err(Broken::Request(0x8007)));
        assert_eq!(request(b"GET / HT"), Err(Broken::Version(0x4745)));
    }

    #[test]
    fn only_our_names_mean_ports() {
        let named = |text: &str| {
            let mut name = [0; NAME_BYTES];
            name[..text.len()].copy_from_slice(text.as_bytes());
            port_number(&name)
        };
        assert_eq!(named("1-1"), Some(1));
        assert_eq!(named("1-255"), Some(255));
        for wrong in ["", "1-", "1-0", "1-01", "1-+1", "1-256", "2-1", "1-1.1"] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
        assert_eq!(port_number(&[b'1'; NAME_BYTES]), None, "it has no end");
    }

    /// The documentation's own example of a CMD_SUBMIT IN (of 64 bytes, endpoint 1), and of its reply.
    const EXAMPLE: [u8; 48] = [
        0, 0, 0, 1, 0, 0, 0x0D, 5, 0, 1, 0, 0x0F, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0x40, 0xFF, 0xFF, 0xFF,
        0xFF, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn commands_are_read_as_documented() {
        let submit = Submit {
            number: 0x0D05,
            is_in: true,
            endpoint: 1,
            length: 64,
            setup: [0; 8],
        };
        assert_eq!(command(&EXAMPLE, 0x1_000F), Ok(Command::Submit(submit)));
        assert_eq!(command(&EXAMPLE, 0x1_0001), Err(Broken::Device(0x1_000F)));
        let changed = |at: usize, byte: u8| {
            let mut bytes = EXAMPLE;
            bytes[at] = byte;
            command(&bytes, 0x1_000F)
        };
        assert_eq!(changed(24, 0x80), Err(Broken::Long(0x8000_0040)));
        assert_eq!(changed(35, 1), Err(Broken::Isochronous));
        assert_eq!(changed(0, 1), Err(Broken::Command(0x0100_0001)));
        let Ok(Command::Unlink(unlink)) = changed(3, 2) else {
            panic!("an unlink")
        };
        // Where a submit has its flags, an unlink has the number of what it takes back.
        assert_eq!((unlink.number, unlink.of), (0x0D05, 0x200));
    }

    #[test]
    fn replies_are_laid_out_as_documented() {
        let bytes = submitted(0x0D05, 0, 3, &[7, 8, 9]);
        assert_eq!(bytes.len(), 0x30 + 3);
        assert_eq!(bytes[..8], [0, 0, 0, 3, 0, 0, 0x0D, 5]);
        assert_eq!(bytes[8..0x18], [0; 16]);
        assert_eq!(bytes[0x18..0x1C], [0, 0, 0, 3]);
        assert_eq!(bytes[0x30..], [7, 8, 9]);
        let bytes = unlinked(0x0D06, -104);
        assert_eq!(bytes.len(), 0x30);
        assert_eq!(bytes[..8], [0, 0, 0, 4, 0, 0, 0x0D, 6]);
        assert_eq!(bytes[0x14..0x18], (-104_i32).to_be_bytes());
    }
}
