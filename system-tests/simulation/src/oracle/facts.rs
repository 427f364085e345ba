//! What follows from a header's fields, written again: a mistake in the product's own must not excuse itself.

use wavekeep_proto::chunk::{Header, Reason};

pub(super) trait Facts {
    /// Does it stand for chunks that were captured, with their digest?
    fn replaces(&self) -> bool;
    /// The sample after its last.
    fn end(&self) -> u64;
}

impl Facts for Header {
    fn replaces(&self) -> bool {
        matches!(self.reason, Reason::Evicted | Reason::Corrupt | Reason::LostByServer)
    }

    fn end(&self) -> u64 {
        self.first_sample + self.count
    }
}
