//! Every limit of the Joulescopes' protocols (I12).

use std::time::Duration;

/// How long an instrument may take for each answer.
pub(super) const ANSWER: Duration = Duration::from_secs(1);
/// How long it may take until it has confirmed all of a change while it streams: within the wait for the answer.
pub(super) const CHANGE: Duration = Duration::from_secs(2);
const _: () = assert!(CHANGE.as_millis() < crate::limits::SETTING_WAIT.as_millis());
/// How long after its start it may take until each signal has sent something.
pub(super) const FIRST_SAMPLES: Duration = Duration::from_secs(3);
/// An instrument that streams and is silent for this long is lost, whatever USB says.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
/// How long one wait for a transfer takes: how soon a stop is noticed.
pub(super) const RECEIVE: Duration = Duration::from_millis(5);
/// Settings and their descriptions that are kept; a JS220 has about a hundred.
pub(super) const TOPICS_MAX: usize = 1_024;
/// Messages to the instrument that wait to be sent; an instrument that asks for more is not answered.
pub(super) const OUTGOING_MAX: usize = 64;

/// Samples that one signal may be ahead of another one of its stream: a quarter of a second at 1 MHz. What did not come by then is
/// missing.
pub(super) const LAG_SAMPLES: u64 = 1 << 18;
/// At least so many of those that come: a frame has up to 126.
pub(super) const LAG_SAMPLES_MIN: u64 = 1 << 10;
/// Runs without a hole that a signal may wait with.
pub(super) const RUNS_MAX: usize = 1_024;
/// Samples of each signal in one block for the sink.
pub(super) const BLOCK_SAMPLES: u64 = crate::limits::SOURCE_BLOCK_SAMPLES as u64;
/// Statistics that wait to be delivered.
pub(super) const STATISTICS_MAX: usize = 1_024;

/// Samples that are missed within this time after the host missed transfers are missed because of that: what was in the queues before
/// them still comes in between.
pub(super) const OVERRUN_WINDOW: Duration = Duration::from_secs(2);
/// The same for a host that slept.
pub(super) const SUSPEND_WINDOW: Duration = Duration::from_secs(10);
/// The clock on the wall has passed the one that stands still in sleep by at least this: the host slept, or somebody set the clock.
pub(super) const SUSPEND_MIN: Duration = Duration::from_secs(1);
/// After this much silence of a signal the lower half of its sample id does not tell by itself where it goes on.
pub(super) const DOUBT: Duration = Duration::from_secs(60);
/// How far an instrument's idea of UTC may be from the host's, before it is taken for none.
pub(super) const TIME_MAP_OFF: Duration = Duration::from_secs(3600);
/// Between two anchors of a stream's time axis, in ticks of the sample id: a second.
pub(super) const ANCHOR_TICKS: u64 = 2_000_000;
/// Between two attempts to open an instrument: at first, and in the long run.
pub(super) const REOPEN_WAIT_MIN: Duration = Duration::from_millis(100);
/// See [`REOPEN_WAIT_MIN`].
pub(super) const REOPEN_WAIT_MAX: Duration = Duration::from_secs(2);
