//! An agent's process: the real outbox on a modelled disk, the real uplink, and instruments that store into the outbox at their own
//! pace. Where a real agent has threads, this has tasks.

use std::sync::Arc;
use std::time::Duration;

use wavekeep_agent::clock::Clock;
use wavekeep_agent::outbox::Outbox;
use wavekeep_agent::outbox::memory::MemoryKv;
use wavekeep_agent::uplink::{UplinkHandle, UplinkOptions, UplinkTask};

use super::stage::{Shared, Stage, lock};
use super::watched::Watched;
use super::wire::Dial;
use crate::agent::MAINTAIN;
use crate::log::log;
use crate::source::Source;

/// 2026-01-01.
const START_UTC_NS: i64 = 1_767_225_600_000_000_000;

/// The simulated time; what it says of UTC may step.
struct SimulatedClock {
    shared: Shared,
    agent: usize,
}

impl Clock for SimulatedClock {
    fn now(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }

    fn utc_ns(&self) -> i64 {
        let elapsed_ns = i64::try_from(self.now().as_nanos()).unwrap_or(i64::MAX);
        START_UTC_NS
            .saturating_add(elapsed_ns)
            .saturating_add(lock(&self.shared).agents[self.agent].utc_offset_ns)
    }
}

/// Until it is killed.
pub(super) async fn run(shared: Shared, agent: usize) -> turmoil::Result {
    let (outbox, sources, seed) = lock(&shared).start_agent(agent);
    let uplink = UplinkHandle::new();
    let waker = uplink.clone();
    outbox.set_on_change(Arc::new(move || waker.wake()));
    let clock = Arc::new(SimulatedClock {
        shared: shared.clone(),
        agent,
    });
    let watched = Arc::new(Watched {
        outbox: outbox.clone(),
        shared: shared.clone(),
        agent,
    });
    let dial = Dial::new(&shared, agent);
    let task = UplinkTask::new(watched, dial, clock, UplinkOptions::new("simulated"), seed, &uplink);
    for source in 0..sources {
        tokio::spawn(capture(shared.clone(), agent, source));
    }
    tokio::spawn(keep(shared, agent, outbox));
    task.run().await;
    Ok(())
}

/// A source that has something now and then.
async fn capture(shared: Shared, agent: usize, source: usize) {
    loop {
        let wait = lock(&shared).until_next_chunk(agent, source);
        let Some(wait) = wait else { return };
        tokio::time::sleep(wait).await;
        let mut stage = lock(&shared);
        if stage.world.agents[agent].sources[source].is_file() {
            stage.world.replay(agent, source);
        } else {
            stage.world.capture(agent, source);
        }
    }
}

/// Releases what is past its hold-back.
async fn keep(shared: Shared, agent: usize, outbox: Arc<Outbox<MemoryKv>>) {
    loop {
        tokio::time::sleep(MAINTAIN).await;
        let mut stage = lock(&shared);
        let (now, hold_back) = (stage.world.now, stage.world.plan.hold_back);
        if let Err(error) = outbox.release(now) {
            stage
                .world
                .oracle
                .break_with(format!("an outbox does not release: {error}"));
        }
        stage.world.take_outbox_alarms(agent, false);
        stage.world.watch_outbox(agent, Some(hold_back));
    }
}

impl Stage {
    /// A process starts on what the last one left: its live streams are to end, its sources open new ones.
    fn start_agent(&mut self, agent: usize) -> (Arc<Outbox<MemoryKv>>, usize, u64) {
        let world = &mut self.world;
        let seed = world.random.next();
        let now = world.now;
        let place = &mut world.agents[agent];
        place.life += 1;
        place.running = true;
        place.disk.start(now);
        place.held = place.disk.held();
        place.released_chunks = 0;
        place.sources = place.files.iter().filter(|file| !file.done).cloned().collect();
        let outbox = place.disk.shared();
        log!(world, "agent {agent} starts");
        if !world.calm {
            for _ in 0..world.plan.sources {
                let source = Source::live(&mut world.random, world.plan.large);
                world.agents[agent].sources.push(source);
            }
        }
        let sources = world.agents[agent].sources.len();
        for source in 0..sources {
            world.open_source(agent, source);
        }
        world.take_outbox_alarms(agent, false);
        (outbox, sources, seed)
    }

    fn until_next_chunk(&mut self, agent: usize, source: usize) -> Option<Duration> {
        let world = &mut self.world;
        let source = &world.agents[agent].sources[source];
        if source.done {
            return None;
        }
        let (low, high) = if source.is_file() {
            (50, 400)
        } else {
            world.plan.period_ms
        };
        Some(world.random.ms(low, high))
    }
}
