//! Joulescopes over USB. The protocol of the JS220 is pure ([`js220`]): bytes and time in, requests and samples out; [`source`] is the
//! thin loop that moves them between a [`usb::Link`] and the agent, for one opening; `live` changes settings meanwhile; [`keep`] opens
//! an instrument again.

mod align;
mod bits;
mod counters;
mod decimate;
mod frame;
pub mod js220;
pub mod keep;
#[cfg(feature = "usb")]
pub mod libusb;
mod limits;
mod live;
mod metadata;
mod pubsub;
mod sample_id;
pub mod settings;
pub mod source;
mod statistics;
mod streams;
#[cfg(test)]
mod testing;
mod time_map;
pub mod usb;
mod value;

pub use self::counters::Counters;

/// USB's id of who makes them.
pub const VENDOR: u16 = 0x16d0;

/// What somebody can plug in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// USB's product id.
    pub id: u16,
    /// As people call it.
    pub model: &'static str,
    /// What it can do at the moment.
    pub kind: Kind,
}

/// What an instrument is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It can be captured.
    Instrument,
    /// It waits for new firmware, and measures nothing.
    Updater,
    /// A model that this agent cannot capture yet.
    Unknown,
}

/// All that are known.
pub const PRODUCTS: &[Product] = &[
    Product {
        id: 0x10ba,
        model: "js220",
        kind: Kind::Instrument,
    },
    Product {
        id: 0x10b9,
        model: "js220",
        kind: Kind::Updater,
    },
    Product {
        id: 0x0e88,
        model: "js110",
        kind: Kind::Unknown,
    },
    Product {
        id: 0x0e87,
        model: "js110",
        kind: Kind::Updater,
    },
    Product {
        id: 0x135a,
        model: "js320",
        kind: Kind::Unknown,
    },
];

/// What a product id is; of one that is not known, nothing can be said.
#[must_use]
pub fn product(id: u16) -> Product {
    let known = PRODUCTS.iter().find(|product| product.id == id);
    known.copied().unwrap_or(Product {
        id,
        model: "Joulescope",
        kind: Kind::Unknown,
    })
}
