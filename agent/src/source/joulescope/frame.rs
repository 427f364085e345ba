//! Frames of a transfer: one every 512 bytes, only the last may be shorter. Pure.
//!
//! # Invariants
//! - Arbitrary bytes never panic: what is no frame is an [`OddFrame`] that says why.
//! - A payload lies within its own 512 bytes.

use super::counters::Counters;

/// Bytes from one frame to the next.
pub(super) const FRAME_BYTES: usize = 512;
const HEADER_BYTES: usize = 4;
pub(super) const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES - HEADER_BYTES;
/// A frame that is behind by less came again or late; by more, the instrument started to count anew.
const BACK_MAX: u16 = 128;

pub(super) const PORT_ADMIN: u8 = 0;
pub(super) const PORT_PUBSUB: u8 = 1;
/// Logging and memory: sent unasked, of no use here.
pub(super) const PORTS_IGNORED: [u8; 2] = [2, 3];

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Counts frames, and wraps.
    pub(super) id: u16,
    pub(super) port: u8,
    pub(super) payload: &'a [u8],
}

/// What is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OddFrame {
    NoHeader,
    Reserved,
    TooLong,
    CutShort,
}

impl OddFrame {
    pub(super) fn count(self, counters: &mut Counters) {
        *match self {
            Self::NoHeader => &mut counters.frames_without_header,
            Self::Reserved => &mut counters.frames_reserved,
            Self::TooLong => &mut counters.frames_too_long,
            Self::CutShort => &mut counters.frames_cut_short,
        } += 1;
    }
}

/// The frames of a transfer, in their order.
pub(super) fn frames(transfer: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, OddFrame>> {
    transfer.chunks(FRAME_BYTES).map(Frame::parse)
}

impl<'a> Frame<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, OddFrame> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(OddFrame::NoHeader)?;
        let header = u32::from_le_bytes(*header);
        if header >> 30 != 0 {
            return Err(OddFrame::Reserved);
        }
        let length = (header >> 16 & 0x1ff) as usize;
        if length > PAYLOAD_BYTES_MAX {
            return Err(OddFrame::TooLong);
        }
        Ok(Self {
            id: header as u16,
            port: (header >> 25 & 0x1f) as u8,
            payload: rest.get(..length).ok_or(OddFrame::CutShort)?,
        })
    }
}

/// The bytes of a frame to the instrument.
///
/// # Panics
/// If the payload is longer than a frame's: what is sent is made here.
pub(super) fn encode(id: u16, port: u8, payload: &[u8]) -> Vec<u8> {
    assert!(
        payload.len() <= PAYLOAD_BYTES_MAX,
        "a message to the instrument fits a frame"
    );
    let header = u32::from(id) | (payload.len() as u32) << 16 | u32::from(port) << 25;
    [&header.to_le_bytes(), payload].concat()
}

/// Follows the numbers of the frames that arrive.
#[derive(Debug, Default)]
pub(super) struct FrameIds {
    next: Option<u16>,
}

impl FrameIds {
    /// Counts what is missing before this one. The first one is never missing any.
    pub(super) fn follow(&mut self, id: u16, counters: &mut Counters) {
        let ahead = id.wrapping_sub(self.next.unwrap_or(id));
        let back = ahead.wrapping_neg();
        if ahead != 0 && back <= BACK_MAX {
            counters.frames_back += 1;
            return;
        }
        counters.frames_lost += u64::from(ahead);
        self.next = Some(id.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_stand_at_every_512th_byte_and_the_last_may_be_short() {
        // Written by hand: id 0x1234, port 21, 3 bytes; then id 0x1235, port 1, 1 byte.
        let mut transfer = vec![0x34, 0x12, 0x03, 21 << 1, 7, 8, 9];
        transfer.resize(512, 0xee);
        transfer.extend([0x35, 0x12, 0x01, 1 << 1, 5]);
        let read: Vec<_> = frames(&transfer).collect();
        let frame = |id, port, payload| Ok(Frame { id, port, payload });
        assert_eq!(read, [frame(0x1234, 21, &[7, 8, 9][..]), frame(0x1235, 1, &[5][..])]);
        assert_eq!(encode(0x1235, 1, &[5]), transfer[512..]);
        assert_eq!(
            encode(0, 31, &[0; 508])[..4],
            [0, 0, 0xfc, 0x3f],
            "length bit 8 is bit 24"
        );
    }

    #[test]
    fn odd_frames_say_why() {
        let odd = |bytes: &[u8]| frames(bytes).next().expect("there is a frame").expect_err("it is odd");
        assert_eq!(odd(&[0, 0, 0]), OddFrame::NoHeader);
        assert_eq!(odd(&[0, 0, 0, 0x40]), OddFrame::Reserved);
        assert_eq!(odd(&[0, 0, 0xff, 0x01]), OddFrame::TooLong);
        assert_eq!(odd(&[0, 0, 2, 0, 1]), OddFrame::CutShort);
        assert_eq!(frames(&[]).count(), 0);
    }

    #[test]
    fn numbers_wrap_and_what_is_missing_is_counted() {
        let (mut ids, mut counters) = (FrameIds::default(), Counters::default());
        for id in [65_534, 65_535, 0, 3, 2, 4, 4, 5] {
            ids.follow(id, &mut counters);
        }
        assert_eq!((counters.frames_lost, counters.frames_back), (2, 2));
        ids.follow(30_000, &mut counters);
        assert_eq!(counters.frames_lost, 2 + 30_000 - 6);
    }

    proptest! {
        #[test]
        fn i12_arbitrary_bytes_are_frames_or_odd(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let read: Vec<_> = frames(&bytes).collect();
            prop_assert_eq!(read.len(), bytes.len().div_ceil(512));
            for frame in read.into_iter().flatten() {
                prop_assert!(frame.payload.len() <= PAYLOAD_BYTES_MAX && frame.port < 32);
            }
        }
    }
}
