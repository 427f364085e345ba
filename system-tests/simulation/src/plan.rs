//! What a seed's world is like: how many parties, how large, how quick, and which faults it meets how often. Each seed has some
//! of the faults, not all: what hides behind another fault in one world stands alone in another.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::faults::Fault;
use crate::random::Random;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) agents: usize,
    pub(crate) servers: usize,
    pub(crate) writers: usize,
    /// Live sources of each agent.
    pub(crate) sources: usize,
    /// Files, each replayed by two agents.
    pub(crate) files: usize,
    /// Time between two chunks of a source, in milliseconds.
    pub(crate) period_ms: (u64, u64),
    /// Chunks are large, so that they fill windows.
    pub(crate) large: bool,
    /// An agent syncs its outbox every so many chunks.
    pub(crate) sync_every: u64,
    pub(crate) hold_back: Duration,
    /// Bytes of an agent's disk, where it is small.
    pub(crate) disk_bytes: Option<u64>,
    /// A frame's delay on a good link, and a transaction's in a good database, in milliseconds.
    pub(crate) delay_ms: (u64, u64),
    pub(crate) database_ms: (u64, u64),
    /// The time between two states that a replica or backup keeps.
    pub(crate) replicate_every: Duration,
    /// Faults stop after this long.
    pub(crate) hostile_for: Duration,
    /// The mean time between two of each fault.
    pub(crate) faults: BTreeMap<Fault, Duration>,
    /// After everything has drained, wait for the hold-back, and see every outbox empty.
    pub(crate) outlive_hold_back: bool,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn new(random: &mut Random) -> Self {
        let large = random.once_in(20);
        let agents = random.between(1, if large { 2 } else { 3 }) as usize;
        let slow_database = random.once_in(4);
        let hold_back_s = *random.pick(&[0, 5, 60, 20 * 60, 20 * 60, 20 * 60]);
        let hostile_s = random.between(60, 240);
        let mut plan = Self {
            agents,
            servers: random.between(1, 3) as usize,
            writers: random.between(1, 2) as usize,
            sources: if large { 1 } else { random.between(1, 2) as usize },
            files: if agents > 1 && random.once_in(3) { 1 } else { 0 },
            period_ms: if large {
                (2_000, 6_000)
            } else {
                *random.pick(&[(300, 2_000), (1_000, 3_000)])
            },
            large,
            sync_every: *random.pick(&[1, 1, 5, 20]),
            hold_back: Duration::from_secs(hold_back_s),
            disk_bytes: None,
            delay_ms: *random.pick(&[(1, 3), (1, 80), (50, 400)]),
            database_ms: if slow_database { (50, 3_000) } else { (1, 40) },
            replicate_every: Duration::from_secs(random.between(2, 20)),
            hostile_for: Duration::from_secs(hostile_s),
            faults: BTreeMap::new(),
            outlive_hold_back: random.once_in(8),
        };
        if random.once_in(4) {
            let record_bytes = if large { 1 << 20 } else { 700 };
            plan.disk_bytes = Some(record_bytes * random.between(8, 60));
        }
        // Faults far apart let a world recover in between; close together they meet.
        let pace = *random.pick(&[1, 2, 4]);
        for (fault, mean_s) in Fault::ALL {
            if random.once_in(2) {
                let mean = Duration::from_secs(mean_s * pace);
                plan.faults.insert(fault, mean.max(Duration::from_secs(2)));
            }
        }
        plan
    }
}
