//! What happened inside the instrument, for a test's account.

use std::fmt;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Samples that no host will see.
    Lost(Lost),
    /// A scripted fault began.
    Fault(String),
    /// A host has set a topic to these 64 bits.
    Set(String, u64),
}

/// Samples of one port that were lost: those with ids from `first` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The port, from 16 on.
    pub port: u8,
    /// The id of the first one lost.
    pub first: u64,
    /// The id of the first one not lost.
    pub end: u64,
}

/// One line: `lost PORT FIRST END`, `fault TEXT`, or `set TOPIC VALUE`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(lost) => write!(f, "lost {} {} {}", lost.port, lost.first, lost.end),
            Self::Fault(what) => write!(f, "fault {what}"),
            Self::Set(topic, value) => write!(f, "set {topic} {value}"),
        }
    }
}
