//! Raw samples, in whatever pieces they come. Pure.

use wavekeep_proto::stream::Signal;

use super::super::frames::Frames;
use super::{Decode, Piece};

pub(super) struct Raw {
    frame_bytes: usize,
    /// The beginning of a frame.
    rest: Vec<u8>,
}

impl Raw {
    pub(super) fn new(signals: &[Signal]) -> Self {
        Self {
            // At most a few hundred: the wire's limit.
            frame_bytes: Frames::bytes_of(signals) as usize,
            rest: Vec::new(),
        }
    }
}

impl Decode for Raw {
    fn decode(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) {
        let mut frames = std::mem::take(&mut self.rest);
        frames.extend_from_slice(bytes);
        self.rest = frames.split_off(frames.len() - frames.len() % self.frame_bytes);
        if !frames.is_empty() {
            pieces.push(Piece::Frames(frames));
        }
    }

    fn finish(&mut self, pieces: &mut Vec<Piece>) {
        if !self.rest.is_empty() {
            pieces.push(Piece::Missing {
                samples: 1,
                why: format!(
                    "the input ended after {} of a sample's {} bytes",
                    self.rest.len(),
                    self.frame_bytes
                ),
            });
        }
    }
}
