//! libusb's functions with emulated instruments behind them. A program that is started with this library in `LD_PRELOAD` finds those
//! that `WAVEKEEP_EMULATOR` names (see the settings of the crate `wavekeep-joulescope-emulator`) and no others, in real time; the
//! vendor's driver and our agent need no change and do not notice. `WAVEKEEP_EMULATOR_LOG` names a file to which it is appended which
//! samples were lost inside the instrument, which faults of its script began, and what it was set to; and, when an instrument is closed, how
//! long its transfers were left unsubmitted after they had been full.
//!
//! # Invariants
//! - The functions are those that these programs call, and behave as libusb documents them; any other function of libusb stays
//!   libusb's own and knows of no instrument.
//! - Memory that a program hands over is touched only between the calls that libusb's documentation names.
//!
//! It is a C library, whose callers hand over raw pointers: there is no way to write it without `unsafe`.
#![allow(unsafe_code)]

mod abi;
mod bus;
mod devices;
mod events;
mod latency;
mod transfers;
