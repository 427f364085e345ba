//! What a seed's network and servers are like, beside what [`crate::plan`] says of its parties.

use std::collections::BTreeMap;
use std::time::Duration;

use super::faults::NetworkFault;
use crate::random::Random;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct NetworkPlan {
    /// Of a message on a good link, in milliseconds.
    pub(super) latency_ms: (u64, u64),
    pub(super) connection_age_max: Duration,
    pub(super) drain: Duration,
    pub(super) group_bytes: u64,
    pub(super) budget_bytes: u64,
    /// Faults stop after this long.
    pub(super) hostile_for: Duration,
    /// The mean time between two of each fault.
    pub(super) faults: BTreeMap<NetworkFault, Duration>,
}

impl NetworkPlan {
    pub(super) fn new(random: &mut Random, database_ms: (u64, u64)) -> Self {
        let pace = *random.pick(&[1, 2, 3]);
        let mut faults = BTreeMap::new();
        for (fault, mean_s) in NetworkFault::ALL {
            if random.once_in(2) {
                faults.insert(fault, Duration::from_secs(mean_s * pace));
            }
        }
        Self {
            latency_ms: *random.pick(&[(1, 5), (1, 60), (40, 250)]),
            // Some outlive the world: nothing is mended then because a session ended by its age. Where they live for less than a few
            // transactions take, nothing is ever done.
            connection_age_max: Duration::from_secs(if database_ms.1 > 500 {
                *random.pick(&[90, 3_600])
            } else {
                *random.pick(&[12, 40, 3_600])
            }),
            drain: Duration::from_secs(*random.pick(&[1, 20])),
            group_bytes: *random.pick(&[2_000, 4 * 1024 * 1024]),
            budget_bytes: *random.pick(&[64, 24]) * 1024 * 1024,
            hostile_for: Duration::from_secs(random.between(25, 75)),
            faults,
        }
    }
}
