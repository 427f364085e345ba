//! What waits to be read: frames in the order in which they were made.
//!
//! # Invariants
//! - Frames of streams take room; where there is none, they are lost, not others.
//! - Answers wait in the same order, so that a pong comes after all that was queued before it; they have a limit of their own.

use std::collections::VecDeque;

use crate::frame::{FRAME_BYTES, head};
use crate::limits;

#[derive(Debug, Clone)]
struct Waiting {
    bytes: Vec<u8>,
    stream: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Fifo {
    waiting: VecDeque<Waiting>,
    room: usize,
    used: usize,
    answers: usize,
    frame_id: u16,
}

impl Fifo {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            room,
            used: 0,
            answers: 0,
            frame_id: 0,
        }
    }

    /// Whether a frame of a stream with so long a payload has room.
    pub(crate) fn has_room(&self, payload: usize) -> bool {
        self.used + payload + 4 <= self.room
    }

    /// One frame is numbered and never leaves.
    pub(crate) fn skip_id(&mut self) {
        self.frame_id = self.frame_id.wrapping_add(1);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.room);
    }

    /// A frame of a stream, which has room; its id is off by `off`.
    pub(crate) fn push_stream(&mut self, port: u8, payload: &[u8], off: u16) {
        let id = self.frame_id.wrapping_add(off);
        self.skip_id();
        self.push_raw(frame(id, port, payload), true);
    }

    pub(crate) fn push_answer(&mut self, port: u8, payload: &[u8]) {
        let id = self.frame_id;
        self.skip_id();
        self.push_raw(frame(id, port, payload), false);
    }

    /// Bytes as they are.
    pub(crate) fn push_raw(&mut self, bytes: Vec<u8>, stream: bool) {
        if stream {
            self.used += bytes.len();
        } else if self.answers < limits::ANSWERS {
            self.answers += 1;
        } else {
            return;
        }
        self.waiting.push_back(Waiting { bytes, stream });
    }

    /// The last frame once more, where there is room.
    pub(crate) fn repeat_last(&mut self) {
        if let Some(last) = self.waiting.back().cloned()
            && self.has_room(last.bytes.len())
        {
            self.push_raw(last.bytes, last.stream);
        }
    }

    /// Moves frames behind what is in `into`, to `max` bytes in all. True when the transfer is whole: it is full, or its last frame is
    /// a short one.
    pub(crate) fn take(&mut self, into: &mut Vec<u8>, max: usize) -> bool {
        while let Some(first) = self.waiting.front() {
            if into.len() + first.bytes.len() > max {
                return true;
            }
            into.extend_from_slice(&first.bytes);
            let length = first.bytes.len();
            if first.stream {
                self.used -= length;
            } else {
                self.answers -= 1;
            }
            self.waiting.pop_front();
            if length < FRAME_BYTES {
                return true;
            }
        }
        into.len() + FRAME_BYTES > max
    }
}

fn frame(id: u16, port: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 4);
    bytes.extend(head(id, port, payload.len()));
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_ends_when_full_or_after_a_short_frame() {
        let mut fifo = Fifo::new(10_000);
        for _ in 0..3 {
            fifo.push_stream(21, &[1; 508], 0);
        }
        fifo.push_answer(1, &[2; 44]);
        fifo.push_stream(21, &[3; 508], 0);
        let mut into = Vec::new();
        assert!(fifo.take(&mut into, 1024));
        assert_eq!(into.len(), 1024);
        into.clear();
        assert!(fifo.take(&mut into, 4096));
        assert_eq!(into.len(), 512 + 48);
        into.clear();
        assert!(!fifo.take(&mut into, 4096), "more may come");
        assert_eq!(into.len(), 512);
        assert_eq!(fifo.used, 0);
    }

    #[test]
    fn answers_have_a_limit() {
        let mut fifo = Fifo::new(0);
        for _ in 0..limits::ANSWERS + 5 {
            fifo.push_answer(1, &[]);
        }
        assert_eq!(fifo.waiting.len(), limits::ANSWERS);
        assert!(!fifo.has_room(1));
    }
}
