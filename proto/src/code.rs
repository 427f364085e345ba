//! The closed set of refusals, and the agent's reaction to each. There is no other: an unknown code ends the session.

/// Why a server refuses a session or a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum Code {
    Version = 1,
    UnknownWorkspace = 2,
    Unauthenticated = 3,
    Forbidden = 4,
    Busy = 5,
    LedgerUnavailable = 6,
    Fenced = 7,
    DefinitionMismatch = 8,
    InvalidDefinition = 9,
    OutOfOrder = 10,
    Damaged = 11,
    InvalidChunk = 12,
    TooManySlots = 13,
    Protocol = 14,
    WindowExceeded = 15,
    SlowReader = 16,
    StreamEnded = 17,
    Unsupported = 18,
}

/// What an agent does about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Connect again after back-off: it passes by itself.
    Reconnect,
    /// Connect again, rarely, and tell people: somebody must change something.
    ReconnectAndAlarm,
    /// Open the stream again under a new slot after its back-off, and resume at the watermark.
    Reopen,
    /// The same, and tell people: another agent has this stream, or nothing will change by itself.
    ReopenAndAlarm,
}

impl Code {
    /// Every code, in order of number.
    pub const ALL: [Self; 18] = [
        Self::Version,
        Self::UnknownWorkspace,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Busy,
        Self::LedgerUnavailable,
        Self::Fenced,
        Self::DefinitionMismatch,
        Self::InvalidDefinition,
        Self::OutOfOrder,
        Self::Damaged,
        Self::InvalidChunk,
        Self::TooManySlots,
        Self::Protocol,
        Self::WindowExceeded,
        Self::SlowReader,
        Self::StreamEnded,
        Self::Unsupported,
    ];

    /// From its number on the wire.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u32 == number)
    }

    /// What the agent does.
    #[must_use]
    pub const fn reaction(self) -> Reaction {
        match self {
            Self::Busy | Self::LedgerUnavailable | Self::SlowReader => Reaction::Reconnect,
            Self::Version
            | Self::UnknownWorkspace
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::Protocol
            | Self::WindowExceeded => Reaction::ReconnectAndAlarm,
            Self::OutOfOrder | Self::Damaged | Self::TooManySlots => Reaction::Reopen,
            Self::Fenced
            | Self::DefinitionMismatch
            | Self::InvalidDefinition
            | Self::InvalidChunk
            | Self::StreamEnded
            | Self::Unsupported => Reaction::ReopenAndAlarm,
        }
    }
}
