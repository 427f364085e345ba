//! The seam between the instruments' protocols and USB: one opened instrument, with its control requests and its two bulk pipes.
//!
//! # Invariants
//! - What arrives is given in the order in which it arrived, whole transfers at a time; what this side had no room for is counted, never
//!   left out in silence.
//! - [`Link::receive`] returns within the time given, whatever the instrument does.

use std::time::Duration;

/// Vendor and product of an instrument, and where it is now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Found {
    /// USB's vendor id.
    pub vendor: u16,
    /// USB's product id.
    pub product: u16,
    /// The bus it is on.
    pub bus: u8,
    /// Its address there: another one after it was plugged in again.
    pub address: u8,
    /// Its serial number; an error where it could not be read.
    pub serial: Result<String, UsbError>,
}

/// What instruments there are, and the way to them.
pub trait Usb: Send {
    /// What opening gives.
    type Link: Link;

    /// All instruments that are plugged in, in the order of their addresses.
    fn find(&mut self) -> Result<Vec<Found>, UsbError>;

    /// Opens one: configuration 1, interface 0, alternate setting 0. Nobody else has it then.
    fn open(&mut self, found: &Found) -> Result<Self::Link, UsbError>;
}

/// One opened instrument. Dropping it closes it.
pub trait Link: Send {
    /// A vendor request to the device, whose answer has at most `length` bytes.
    fn control_in(&mut self, request: u8, value: u16, index: u16, length: u16) -> Result<Vec<u8>, UsbError>;

    /// A vendor request that gives the device something.
    fn control_out(&mut self, request: u8, value: u16, index: u16, data: &[u8]) -> Result<(), UsbError>;

    /// Clears bulk pipe IN, and keeps transfers waiting on it from now on.
    fn start(&mut self) -> Result<(), UsbError>;

    /// All of `data` in one transfer of bulk pipe OUT.
    fn bulk_out(&mut self, data: &[u8]) -> Result<(), UsbError>;

    /// The bytes of the next transfer of bulk pipe IN, in place of what was in `into`; false if none came in this time. A transfer of
    /// no bytes is passed over.
    fn receive(&mut self, into: &mut Vec<u8>, wait: Duration) -> Result<bool, UsbError>;

    /// How many transfers were left waiting in the instrument since [`Self::start`], because nobody had taken those before them.
    fn overruns(&self) -> u64;
}

/// What USB answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UsbError {
    /// It is there no more.
    #[error("it was unplugged, or it has reset itself")]
    Gone,
    /// The system does not let us.
    #[error("this user may not open it")]
    Denied,
    /// Another program has it.
    #[error("another program uses it")]
    Busy,
    /// It refuses this request.
    #[error("it refuses the request")]
    Stalled,
    /// It does not answer.
    #[error("it does not answer")]
    Timeout,
    /// Anything else, in the words of libusb.
    #[error("USB: {0}")]
    Other(String),
}
