//! The producer library of Wavekeep: implement [`source::Source`] for an instrument, get everything else.
//!
//! Everything else is: cutting into chunks, encoding, hashing; a durable [`outbox`] on the agent's disk that outlives crashes, power
//! cuts and servers; an [`uplink`] that brings each chunk to the server once, through any interruption; named gaps for whatever is
//! missing; a status, metrics and alarms.
//!
//! ```no_run
//! # #[cfg(feature = "rocksdb")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use wavekeep_agent::agent::Agent;
//! use wavekeep_agent::capture::CaptureOptions;
//! use wavekeep_agent::clock::{Clock, SystemClock};
//! use wavekeep_agent::connect::GrpcConnect;
//! use wavekeep_agent::outbox::{self, Options};
//! use wavekeep_agent::source::simulated::SimulatedSource; // or your own
//! use wavekeep_agent::stop::StopToken;
//! use wavekeep_agent::uplink::UplinkOptions;
//!
//! let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
//! let outbox = outbox::rocks::open("/var/lib/wavekeep".as_ref(), Options::default(), clock.now())?.0;
//! let connect = GrpcConnect::new("http://127.0.0.1:7460")?;
//! let agent = Agent::start(outbox, connect, UplinkOptions::new("bench-3"), Arc::clone(&clock), None)?;
//! let source = SimulatedSource::new("bench-3", "js220,seed=7".parse()?, clock);
//! let capture = agent.capture(source, CaptureOptions::default())?;
//! // …
//! capture.stop();
//! println!("{:?}", capture.join());
//! let delivered = agent.wait_until_delivered(None, &StopToken::new());
//! assert!(delivered);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "rocksdb"))]
//! # fn main() {}
//! ```
//!
//! `examples/sine.rs` is a source of one's own, whole and running.
//!
//! | module | what | pure |
//! |---|---|---|
//! | [`source`] | the trait; `simulated`, `raw` | |
//! | [`schedule`] | hours in which the uplink may have a session | yes |
//! | [`chunker`], [`time_axis`] | samples → chunks; sample id → UTC | yes |
//! | [`encode`] | columns, encoded and hashed | yes |
//! | [`capture`] | a source's thread: source → chunker → encode → outbox | |
//! | [`outbox`] | the durable store, over a small key-value seam | |
//! | [`uplink`], [`connect`] | the shell around the sending half of the protocol; its transport | |
//! | [`labels`], [`controls`] | labels, and an instrument's settings, that change while it is captured | |
//! | [`agent`] | all of it together | |
//! | [`conformance`] | is somebody's source one? | |
//! | [`admin`], [`status`], [`telemetry`] | what an agent says of itself | |
//! | [`clock`], [`stop`], [`limits`] | time, stopping, every limit | |
#![deny(unsafe_code)]

pub mod admin;
pub mod agent;
pub mod capture;
pub mod chunker;
pub mod clock;
pub mod conformance;
pub mod connect;
pub mod controls;
pub mod encode;
pub mod labels;
pub mod limits;
pub mod outbox;
pub mod schedule;
pub mod source;
pub mod status;
pub mod stop;
pub mod telemetry;
pub mod time_axis;
pub mod uplink;
