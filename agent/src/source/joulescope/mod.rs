//! Joulescopes over USB.

pub mod usb;
