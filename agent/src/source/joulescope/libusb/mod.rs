//! USB by libusb.
//!
//! Each opened instrument has a context of its own, and in it a thread of its own for what arrives, so that one that misbehaves delays
//! no other.

mod transfers;

use std::path::Path;
use std::time::Duration;

use rusb::{Context, DeviceHandle, Direction, Recipient, RequestType, UsbContext, request_type};

use self::transfers::Pipe;
use super::usb::{Found, Link, Usb, UsbError};
use super::{PRODUCTS, VENDOR};

const CONFIGURATION: u8 = 1;
const INTERFACE: u8 = 0;
const ALTERNATE_SETTING: u8 = 0;
const BULK_OUT: u8 = 0x01;
const BULK_IN: u8 = 0x82;
const CONTROL_TIMEOUT: Duration = Duration::from_secs(1);
const BULK_OUT_TIMEOUT: Duration = Duration::from_millis(250);

impl From<rusb::Error> for UsbError {
    fn from(error: rusb::Error) -> Self {
        match error {
            rusb::Error::NoDevice | rusb::Error::NotFound => Self::Gone,
            rusb::Error::Access => Self::Denied,
            rusb::Error::Busy => Self::Busy,
            rusb::Error::Pipe => Self::Stalled,
            rusb::Error::Timeout => Self::Timeout,
            other => Self::Other(other.to_string()),
        }
    }
}

/// The instruments that libusb sees.
#[derive(Debug, Clone)]
pub struct Libusb {
    context: Context,
}

impl Libusb {
    /// Ready to look.
    pub fn new() -> Result<Self, UsbError> {
        Ok(Self {
            context: Context::new()?,
        })
    }
}

impl Usb for Libusb {
    type Link = LibusbLink;

    fn find(&mut self) -> Result<Vec<Found>, UsbError> {
        let mut found = Vec::new();
        for device in self.context.devices()?.iter() {
            // One that cannot say what it is has just been unplugged, or is none of ours.
            let Ok(descriptor) = device.device_descriptor() else {
                continue;
            };
            let (vendor, product) = (descriptor.vendor_id(), descriptor.product_id());
            if vendor != VENDOR || !PRODUCTS.iter().any(|known| known.id == product) {
                continue;
            }
            let (bus, address) = (device.bus_number(), device.address());
            // The kernel has read it already, and tells it to everybody, also of an instrument that somebody else uses.
            let serial = serial_by_sysfs(Path::new("/sys/bus/usb/devices"), bus, address).map_or_else(
                || {
                    let handle = device.open()?;
                    Ok(handle.read_serial_number_string_ascii(&descriptor)?)
                },
                Ok,
            );
            found.push(Found {
                vendor,
                product,
                bus,
                address,
                serial,
            });
        }
        found.sort_by_key(|found| (found.bus, found.address));
        Ok(found)
    }

    fn open(&mut self, found: &Found) -> Result<LibusbLink, UsbError> {
        let context = Context::new()?;
        let devices = context.devices()?;
        let is_it =
            |device: &rusb::Device<Context>| (device.bus_number(), device.address()) == (found.bus, found.address);
        let device = devices.iter().find(is_it).ok_or(UsbError::Gone)?;
        let handle = device.open()?;
        if handle.active_configuration()? != CONFIGURATION {
            handle.set_active_configuration(CONFIGURATION)?;
        }
        handle.claim_interface(INTERFACE)?;
        handle.set_alternate_setting(INTERFACE, ALTERNATE_SETTING)?;
        Ok(LibusbLink { pipe: None, handle })
    }
}

/// The serial number of what is at this address, as the kernel read it when it was plugged in.
fn serial_by_sysfs(devices: &Path, bus: u8, address: u8) -> Option<String> {
    let number = |path: &Path, name: &str| std::fs::read_to_string(path.join(name)).ok()?.trim().parse::<u8>().ok();
    let entries = std::fs::read_dir(devices).ok()?.flatten().map(|entry| entry.path());
    let mut here =
        entries.filter(|path| number(path, "busnum") == Some(bus) && number(path, "devnum") == Some(address));
    let serial = std::fs::read_to_string(here.next()?.join("serial")).ok()?;
    let serial = serial.trim();
    (!serial.is_empty()).then(|| serial.to_owned())
}

/// One opened instrument.
#[derive(Debug)]
pub struct LibusbLink {
    // Before the handle: its transfers end first.
    pipe: Option<Pipe>,
    handle: DeviceHandle<Context>,
}

impl Link for LibusbLink {
    fn control_in(&mut self, request: u8, value: u16, index: u16, length: u16) -> Result<Vec<u8>, UsbError> {
        let kind = request_type(Direction::In, RequestType::Vendor, Recipient::Device);
        let mut answer = vec![0; usize::from(length)];
        let read = self
            .handle
            .read_control(kind, request, value, index, &mut answer, CONTROL_TIMEOUT)?;
        answer.truncate(read);
        Ok(answer)
    }

    fn control_out(&mut self, request: u8, value: u16, index: u16, data: &[u8]) -> Result<(), UsbError> {
        let kind = request_type(Direction::Out, RequestType::Vendor, Recipient::Device);
        let written = self
            .handle
            .write_control(kind, request, value, index, data, CONTROL_TIMEOUT)?;
        whole(written, data)
    }

    fn start(&mut self) -> Result<(), UsbError> {
        self.pipe = None;
        self.handle.clear_halt(BULK_IN)?;
        self.pipe = Some(Pipe::start(&self.handle, BULK_IN)?);
        Ok(())
    }

    fn bulk_out(&mut self, data: &[u8]) -> Result<(), UsbError> {
        whole(self.handle.write_bulk(BULK_OUT, data, BULK_OUT_TIMEOUT)?, data)
    }

    fn receive(&mut self, into: &mut Vec<u8>, wait: Duration) -> Result<bool, UsbError> {
        match &self.pipe {
            Some(pipe) => pipe.receive(into, wait),
            None => Ok(false),
        }
    }

    fn overruns(&self) -> u64 {
        self.pipe.as_ref().map_or(0, Pipe::overruns)
    }
}

fn whole(written: usize, data: &[u8]) -> Result<(), UsbError> {
    if written == data.len() {
        return Ok(());
    }
    Err(UsbError::Other(format!("it took {written} of {} bytes", data.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_a_serial_number_by_bus_and_address() {
        let folder = tempfile::tempdir().expect("there is room for it");
        for (name, files) in [
            ("1-1", [("busnum", "1\n"), ("devnum", "7\n"), ("serial", "001122\n")]),
            ("1-2", [("busnum", "1\n"), ("devnum", "8\n"), ("serial", "\n")]),
            ("2-1", [("busnum", "2\n"), ("devnum", "7\n"), ("serial", "003344\n")]),
        ] {
            std::fs::create_dir(folder.path().join(name)).expect("it is new");
            for (file, text) in files {
                std::fs::write(folder.path().join(name).join(file), text).expect("it is new");
            }
        }
        // Hubs and interfaces have no such files.
        std::fs::create_dir(folder.path().join("1-0:1.0")).expect("it is new");
        let serial = |bus, address| serial_by_sysfs(folder.path(), bus, address);
        assert_eq!(serial(1, 7).as_deref(), Some("001122"));
        assert_eq!(serial(2, 7).as_deref(), Some("003344"));
        assert_eq!(serial(1, 8), None, "it has none");
        assert_eq!(serial(3, 7), None);
        assert_eq!(serial_by_sysfs(&folder.path().join("none"), 1, 7), None);
    }
}
