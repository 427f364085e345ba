//! What no ack covers yet, for people who wait for it.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::Outbox;
use super::kv::Kv;
use super::table::Stream;

/// What no ack covers yet: see [`Outbox::remains`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remains {
    /// Chunks, counted as seqs.
    pub chunks: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Streams that they are of, and streams whose `end` is due.
    pub streams: u64,
    /// Age of the oldest of them.
    pub oldest: Duration,
}

impl Remains {
    /// Has the server acknowledged everything, and is no `end` due?
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.streams == 0
    }
}

impl Display for Remains {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        let Self {
            chunks, bytes, streams, ..
        } = *self;
        write!(
            f,
            "{chunks} chunk{} ({bytes} bytes) of {streams} stream{} ",
            plural(chunks),
            plural(streams)
        )?;
        f.write_str("are not acknowledged yet")
    }
}

impl<K: Kv> Outbox<K> {
    /// What the server has yet to acknowledge, as of `now` on the agent's clock. Looks at memory only, and at all of it at once: a
    /// stream that moves to its successor is always seen as the one or the other.
    #[must_use]
    pub fn remains(&self, now: Duration) -> Remains {
        let table = self.table();
        table
            .streams
            .values()
            .fold(Remains::default(), |sum, stream| sum.with(stream, now))
    }
}

impl Remains {
    fn with(self, stream: &Stream, now: Duration) -> Self {
        let tail = stream.tail().at;
        let to_end = stream.state.to_end.is_some() && !tail.ended;
        // Of one that moves nothing is acked; what has moved already is its hidden successor's.
        let (acked, bytes) = if stream.is_visible() {
            (stream.acked.seq, stream.unacked_bytes())
        } else {
            (stream.state.base.at.seq, stream.state.held_bytes)
        };
        if stream.is_visible() && acked >= tail.seq && !to_end {
            return self;
        }
        let oldest = stream
            .oldest_unacked()
            .map_or(Duration::ZERO, |stored| now.saturating_sub(stored));
        Self {
            chunks: self.chunks + tail.seq.saturating_sub(acked),
            bytes: self.bytes + bytes,
            streams: self.streams + u64::from(!stream.hidden),
            oldest: self.oldest.max(oldest),
        }
    }
}
