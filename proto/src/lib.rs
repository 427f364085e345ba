//! The contract between agent, server and readers.
//!
//! Everything here is pure: no clock, no I/O, no async. Time is an argument. The tonic clients and servers of the
//! generated code stand behind the feature `grpc`; without it nothing depends on tokio.
//!
//! | module | what |
//! |---|---|
//! | [`id`], [`stream`], [`chunk`] | the words: streams, chunks, gaps, markers |
//! | [`hash`] | every hash and the digest chain, byte by byte as docs/PROTOCOL.md has them |
//! | [`codec`] | how a column's samples are encoded |
//! | [`wire`], [`frame`] | protobuf ↔ domain; the frames of a session |
//! | [`uplink`], [`session`] | the two halves of the protocol, as state machines |
//! | [`code`], [`backoff`], [`limits`] | error codes and the reaction to each; back-off; every limit |
//! | [`nearest`] | the name that somebody may have meant |
#![forbid(unsafe_code)]

pub mod backoff;
pub mod chunk;
#[cfg(feature = "cli")]
pub mod cli;
pub mod code;
pub mod codec;
pub mod frame;
pub mod hash;
pub mod id;
pub mod limits;
pub mod nearest;
pub mod power;
pub mod session;
pub mod stream;
pub mod uplink;
pub mod wire;

/// Generated from `proto/wavekeep/v1/*.proto`; a test proves it current.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::use_self,
    clippy::too_many_lines,
    unused_qualifications
)]
pub mod v1 {
    include!("generated/wavekeep.v1.rs");
}

/// The encoded file descriptors, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor.bin");
