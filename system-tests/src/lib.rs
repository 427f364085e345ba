//! Real processes, a private Postgres and faults: what the system tests, the demo and the benchmarks are made of.
//!
//! | module | what |
//! |---|---|
//! | [`process`] | one of our binaries as a child: started, killed, waited for; its log kept |
//! | [`lab`] | a server and agents in a temporary directory, on free loopback ports |
//! | [`cluster`] | two Postgres instances, one following the other, and an address that moves |
//! | [`power`] | power cuts, which take what was not synced |
//! | [`proxy`] | a TCP proxy with all that a network does to a connection |
//! | [`damage`] | disks that are cloned, and files that a disk damages |
//! | [`small_disk`] | disks that fill up |
//! | [`random`] | choices that a seed makes |
//! | [`soak`] | a fleet under all of these faults, and its conservation report |
//! | [`recordings`] | real recordings, and files that are made to be hard |
//! | [`stored`] | what the database says, by SQL and by `Query`, decoded |
//! | [`truth`] | the same, checked against the simulator's truth |
//! | [`joulescope`] | the same, of emulated JS220s, against their waveform |
//! | [`guest`] | a virtual machine with Debian's kernel, to which emulated instruments are attached over USB/IP |
//! | [`latency`] | how late samples were committed |

pub mod cluster;
pub mod damage;
pub mod guest;
pub mod joulescope;
pub mod lab;
pub mod latency;
pub mod power;
pub mod process;
pub mod proxy;
pub mod random;
pub mod recordings;
pub mod small_disk;
pub mod soak;
pub mod stored;
pub mod truth;
mod watcher;
