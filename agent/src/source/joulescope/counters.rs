//! What was odd about what an instrument sent. Nothing that is left out is left out uncounted.

/// See the module's documentation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that were read.
    pub frames: u64,
    /// Frames without a whole header.
    pub frames_without_header: u64,
    /// Frames with bits that this version of the protocol does not use.
    pub frames_reserved: u64,
    /// Frames that say to be longer than a frame may be.
    pub frames_too_long: u64,
    /// Frames that end before they should.
    pub frames_cut_short: u64,
    /// Frames that never came, by their numbers.
    pub frames_lost: u64,
    /// Frames that came again, or late, by their numbers.
    pub frames_back: u64,
    /// Frames for ports that nothing was asked of.
    pub frames_unasked: u64,
    /// Messages of the administration port that cannot be read.
    pub admin_odd: u64,
    /// Published messages that cannot be read.
    pub messages_odd: u64,
    /// Descriptions of settings that cannot be read, or are too many.
    pub metadata_odd: u64,
    /// Frames of samples without a sample.
    pub samples_odd: u64,
    /// Frames of samples that were there before.
    pub samples_old: u64,
    /// Frames of samples that cannot be placed, because the instrument has not told its time yet, or another one.
    pub samples_unplaced: u64,
    /// Samples that came after they had been given up.
    pub samples_late: u64,
    /// Holes in the sample ids of a signal.
    pub holes: u64,
    /// Statistics that cannot be read, or do not fit to what was asked for.
    pub statistics_odd: u64,
    /// Time maps that were refused.
    pub time_maps_refused: u64,
    /// Requests that were not answered, because too many waited.
    pub unanswered: u64,
}
