//! Choices on a clock of their own, against encodings whose sizes and costs are given.

use super::*;

const CHUNK: u64 = 65_536;
const ALLOWED: f64 = 0.12;
/// 4 bytes at 1 GB/s and at 100 MB/s.
const CHEAP_NS: u64 = 4;
const DEAR_NS: u64 = 40;

struct World {
    chooser: Chooser,
    now: Duration,
    /// Bytes a sample of shuffle+zstd and pco.
    sizes: [f64; 2],
    allowed: f64,
    trials: usize,
    changes: usize,
}

impl World {
    fn new(sizes: [f64; 2]) -> Self {
        Self {
            chooser: Chooser::new(SampleType::F32),
            now: Duration::from_secs(100),
            sizes,
            allowed: ALLOWED,
            trials: 0,
            changes: 0,
        }
    }

    /// So many chunks, at so many samples a second.
    fn run(&mut self, chunks: usize, samples_per_s: f64) -> Encoding {
        for _ in 0..chunks {
            let plan = self.chooser.plan(self.now, CHUNK, self.allowed);
            self.trials += usize::from(plan.contains(&Encoding::Pco) && plan.len() > 1);
            for encoding in plan {
                let (size, ns) = match encoding {
                    Encoding::Plain => (4.0, 0),
                    Encoding::ShuffleZstd => (self.sizes[0], CHEAP_NS),
                    Encoding::Pco => (self.sizes[1], DEAR_NS),
                };
                let bytes = (size * CHUNK as f64) as usize;
                self.chooser
                    .measured(*encoding, CHUNK, bytes, Duration::from_nanos(ns * CHUNK));
            }
            self.changes += usize::from(self.chooser.choose(self.allowed));
            self.now += Duration::from_secs_f64(CHUNK as f64 / samples_per_s);
        }
        self.chooser.current()
    }
}

#[test]
fn the_smallest_that_fits_is_taken_and_explained() {
    let mut world = World::new([2.53, 1.05]);
    assert_eq!(world.run(1, 1e6), Encoding::ShuffleZstd, "no pace is known");
    assert_eq!(world.run(2, 1e6), Encoding::Pco);
    assert_eq!(
        world.chooser.explain(ALLOWED),
        "pco, 1.05 bytes a sample against 2.53 of shuffle+zstd, for 4.0 % of a core"
    );
    assert!((world.chooser.share_taken() - 0.04).abs() < 1e-3);
    assert_eq!(world.run(2_000, 1e6), Encoding::Pco);
    assert_eq!(world.changes, 1);
}

#[test]
fn what_saves_too_little_is_not_worth_its_time() {
    assert_eq!(World::new([1.60, 1.55]).run(100, 1e3), Encoding::ShuffleZstd);
    assert_eq!(World::new([1.60, 1.70]).run(100, 1e3), Encoding::ShuffleZstd);
    let mut incompressible = World::new([4.0, 4.0]);
    assert_eq!(incompressible.run(100, 1e3), Encoding::Plain);
    assert!(
        incompressible
            .chooser
            .explain(ALLOWED)
            .starts_with("plain: shuffle+zstd would take 4.00")
    );
    // And back, when there is something to save.
    incompressible.sizes = [2.0, 1.0];
    assert_eq!(incompressible.run(2 * TRIAL_CHUNKS_MAX as usize, 1e3), Encoding::Pco);
}

#[test]
fn as_fast_as_it_goes_there_is_no_head_room_and_trials_cost_next_to_nothing() {
    let mut world = World::new([2.53, 1.05]);
    assert_eq!(world.run(10_240, 20e6), Encoding::ShuffleZstd);
    assert!(world.trials <= 22, "{} trials", world.trials);
    let why = world.chooser.explain(ALLOWED);
    assert!(
        why.ends_with("pco would take 1.05, and 80.0 % of a core of the 12.0 % that it may have"),
        "{why}"
    );
    assert_eq!(world.chooser.share_taken(), 0.0);
    // The server or the disk holds it up: there is time, and fewer bytes help.
    assert_eq!(world.run(100, 1e6), Encoding::Pco);
}

#[test]
fn a_source_that_catches_up_gets_the_cheaper_one_until_it_has() {
    let mut world = World::new([2.0, 1.0]);
    assert_eq!(world.run(100, 1e6), Encoding::Pco);
    assert_eq!(world.run(16, 30e6), Encoding::ShuffleZstd);
    assert_eq!(world.run(60, 1e6), Encoding::Pco);
    assert_eq!(world.changes, 3, "once each");
}

#[test]
fn one_that_lost_its_time_waits_a_while_before_it_is_tried_again() {
    let mut world = World::new([2.0, 1.0]);
    assert_eq!(world.run(100, 1e6), Encoding::Pco);
    let trials = world.trials;
    world.allowed = 0.03;
    assert_eq!(world.run(1, 1e6), Encoding::ShuffleZstd);
    world.allowed = ALLOWED;
    assert_eq!(world.run(6, 1e6), Encoding::ShuffleZstd);
    assert_eq!(world.trials, trials);
    assert_eq!(world.run(2, 1e6), Encoding::Pco);
}

#[test]
fn what_others_have_taken_is_not_allowed_again() {
    let mut world = World::new([2.0, 1.0]);
    world.allowed = 0.03;
    assert_eq!(world.run(100, 1e6), Encoding::ShuffleZstd);
    world.allowed = 0.045;
    assert_eq!(world.run(1_000, 1e6), Encoding::ShuffleZstd, "it would fit, but barely");
    world.allowed = 0.06;
    assert_eq!(world.run(10, 1e6), Encoding::Pco);
    world.allowed = 0.045;
    assert_eq!(world.run(10, 1e6), Encoding::Pco, "what is there may stay");
    world.allowed = 0.03;
    assert_eq!(world.run(1, 1e6), Encoding::ShuffleZstd);
}

#[test]
fn a_column_that_looks_different_is_tried_at_once_and_a_steady_one_rarely() {
    let mut world = World::new([2.0, 1.0]);
    world.run(3_000, 1e6);
    assert!(world.trials <= 12, "{} trials of a steady column", world.trials);
    world.sizes = [0.2, 2.5];
    assert_eq!(world.run(20, 1e6), Encoding::ShuffleZstd);
}

#[test]
fn packed_and_wide_samples_have_no_pco() {
    for sample_type in [SampleType::U1, SampleType::U4, SampleType::I128] {
        let mut chooser = Chooser::new(sample_type);
        for second in 0..100 {
            let plan = chooser.plan(Duration::from_secs(second), 8, ALLOWED);
            assert!(!plan.contains(&Encoding::Pco));
            chooser.measured(Encoding::ShuffleZstd, 8, 0, Duration::ZERO);
            chooser.choose(ALLOWED);
        }
    }
}

#[test]
fn a_clock_that_stands_still_and_empty_chunks_decide_nothing() {
    let mut chooser = Chooser::new(SampleType::F32);
    for _ in 0..10 {
        chooser.plan(Duration::ZERO, 0, ALLOWED);
        chooser.measured(Encoding::Pco, 0, 10, Duration::ZERO);
        assert!(!chooser.choose(ALLOWED));
    }
    assert_eq!(chooser.current(), Encoding::ShuffleZstd);
    assert_eq!(chooser.explain(ALLOWED), "shuffle+zstd, ? bytes a sample");
}
