//! Reads what Wavekeep stored: devices, streams, gaps, statistics and the samples themselves, each one verified.
//!
//! ```no_run
//! use wavekeep::{Client, Part, Selection};
//!
//! # async fn read() -> Result<(), wavekeep::Error> {
//! let client = Client::connect("http://127.0.0.1:7460", "main").await?;
//! let mut waveform = client.waveform(&Selection::device("js220-001").signals(["current"])).await?;
//! let mut charge_coulomb = 0.0;
//! while let Some(part) = waveform.next().await? {
//!     match part {
//!         Part::Samples(block) => {
//!             let samples = block.columns[0].f32s().expect("current is f32");
//!             charge_coulomb += samples.map(f64::from).sum::<f64>() / block.stream.definition.rate_hz;
//!         }
//!         Part::Gap(gap) => eprintln!("{} samples are missing: {}", gap.count, gap.reason.name()),
//!         _ => (),
//!     }
//! }
//! println!("{charge_coulomb} C");
//! # Ok(())
//! # }
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`Client`] | a connection; one method per question |
//! | [`Selection`] | what to read: a device, a stream or a run; which signals; when |
//! | [`Waveform`] | the samples as blocks, and the gaps between them, in memory that does not grow with the range |
//! | [`Tail`] | the same, chunk by chunk, as they are committed |
//! | [`Statistics`] | of each signal: mean, energy, percentiles, … |
//! | [`Comparison`] | of two groups of runs: which takes less, by how much, how sure |
//! | [`Columns`] | what is drawn of a signal: min, max and mean of so many samples each |
//! | [`Run`], [`NewRun`], [`NewMarker`] | naming what was recorded, and notes on it, afterwards |
//! | [`Fault`] | what an answer may be refused for |
//! | [`reconcile`] | does what was captured add up with what is stored? |
//! | [`time`] | times as people write them |
//!
//! # Invariants
//! - I14: no sample reaches the caller before its frame hash, its column's hash (of the decoded samples) and its place in the
//!   stream's digest chain were checked; an answer is complete only when its manifest agrees with what came, and what came with
//!   the range asked for: with an open end, up to the stream's watermark.
//! - I4: chunks tile: a missing, repeated or overlapping chunk is a [`Fault`], never a silent shift.
//! - I9: columns tile the range, count no more samples than there are outside of the gaps, and lie between their min and max.
//! - Bytes from the server never panic.
#![forbid(unsafe_code)]

mod account;
mod client;
mod column;
mod columns;
mod compare;
mod error;
mod integrals;
mod limits;
mod listing;
mod manifest;
mod markers;
pub mod reconcile;
mod runs;
mod selection;
mod statistics;
mod stream_info;
mod tail;
pub mod time;
mod verify;
mod waveform;

pub use account::{Account, Accounts, AgentReport, ChunkSum};
pub use client::Client;
pub use column::Column;
pub use columns::Columns;
pub use compare::{
    Align, ComparedColumns, Comparison, Difference, GroupColumns, Groups, Interval, MeasuredRun, Metric, RunGroup,
    Verdict, Welch,
};
pub use error::{BadColumns, Error, Fault};
pub use integrals::{Integral, Integrals, integrates};
pub use listing::{ChunkInfo, ChunkOrder, Chunks, Device, FirstSamples, Gap, Gaps};
pub use manifest::StreamManifest;
pub use markers::{ListedMarker, MarkerOrigin, Markers, NewMarker};
pub use runs::{Imported, MemberOf, NewRun, Run, RunChange, RunMember};
pub use selection::{Selected, SelectedStream, Selection, TimeRange};
pub use statistics::{Distribution, Histogram, Statistics};
pub use stream_info::StreamInfo;
pub use tail::{Committed, Cursor, Cursors, Tail, TailFrom};
pub use waveform::{Block, Part, Waveform};

/// The words of the protocol: definitions, headers, reasons, identifiers, hashes.
pub use wavekeep_proto as proto;
