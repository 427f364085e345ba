//! What every sample is: a function of its epoch, its signal and its sample id, so that anybody can tell whether the bytes at a
//! place are the captured ones. They are slices of one endless tape: large chunks cost nothing to make.

use std::sync::OnceLock;

use bytes::Bytes;
use wavekeep_proto::id::Epoch;

use crate::random::Random;

/// A prime, so that streams do not fall into step.
const PERIOD: usize = 1_048_583;
/// The largest piece that can be read at once.
const LONGEST: usize = 1 << 20;

fn tape() -> &'static Bytes {
    static TAPE: OnceLock<Bytes> = OnceLock::new();
    TAPE.get_or_init(|| {
        let mut random = Random::new(0x7a9e);
        let mut bytes: Vec<u8> = (0..PERIOD).map(|_| random.next() as u8).collect();
        bytes.extend_from_within(..LONGEST.min(PERIOD));
        bytes.into()
    })
}

/// `count` samples of `width` bytes each, from sample `first` on.
pub(crate) fn samples(epoch: Epoch, signal: u16, width: u64, first: u64, count: u64) -> Bytes {
    let epoch = u128::from_be_bytes(epoch.0);
    let start = epoch.wrapping_add(u128::from(signal) * 7_919 + u128::from(first) * u128::from(width));
    let from = (start % PERIOD as u128) as usize;
    let length = (count * width) as usize;
    assert!(length <= LONGEST.min(PERIOD), "a chunk of the simulation fits the tape");
    tape().slice(from..from + length)
}
