//! `wavekeep::reconcile`: each term of the sum, and each way in which it may be off.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use wavekeep::proto::chunk::{ChunkKind, Position, Reason};
use wavekeep::proto::id::{Epoch, Hash, StreamId};
use wavekeep::proto::stream::{SampleType, Signal, StreamDefinition};
use wavekeep::reconcile::{Finding, Held, Reckoning, Word};
use wavekeep::{Account, AgentReport, ChunkSum, StreamInfo};

const FIRST: u64 = 1_000;

fn definition() -> StreamDefinition {
    let signal = Signal {
        number: 0,
        name: "current".into(),
        sample_type: SampleType::F32,
        unit: "A".into(),
        finite_only: false,
    };
    StreamDefinition {
        id: StreamId([7; 16]),
        device: "bench".into(),
        epoch: Epoch([1; 16]),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz: 1e6,
        first_sample: FIRST,
        signals: vec![signal],
        attributes: BTreeMap::new(),
    }
}

fn sum(kind: ChunkKind, reason: Reason, chunks: u64, samples: u64) -> ChunkSum {
    let (quarantined, succeeded, seqs) = (false, false, chunks);
    ChunkSum {
        kind,
        reason,
        quarantined,
        succeeded,
        chunks,
        seqs,
        samples,
    }
}

/// 10 chunks of 100 samples, of which 1 is in quarantine, and 2 gaps.
fn account() -> Account {
    let chunks = vec![
        sum(ChunkKind::Samples, Reason::None, 9, 900),
        sum(ChunkKind::Gap, Reason::Evicted, 1, 40),
        sum(ChunkKind::Gap, Reason::SourceLoss, 1, 3),
        ChunkSum {
            quarantined: true,
            ..sum(ChunkKind::Samples, Reason::None, 1, 100)
        },
    ];
    let stream = StreamInfo {
        definition: Arc::new(definition()),
        labels: BTreeMap::new(),
        run: String::new(),
        at: Position {
            seq: 12,
            next_sample: FIRST + 1_043,
            digest: Hash([0; 16]),
            ended: false,
        },
        end_reason: None,
        first_time_ns: Some(0),
        last_time_ns: Some(1),
        sample_count: 900,
        gap_sample_count: 143,
        stored_bytes: 1,
        quarantined: 1,
    };
    Account {
        stream,
        chunks,
        from: Some((1, FIRST)),
        succeeded_at: None,
        may_have_expired: false,
        report: None,
    }
}

fn held(next_sample: u64) -> Held {
    Held {
        stream: StreamId([7; 16]),
        device: "bench".into(),
        run: String::new(),
        first_sample: FIRST,
        next_sample,
        released_sample: FIRST,
        acked_sample: FIRST + 1_000,
        ended: false,
    }
}

fn of(account: &Account, held: Option<&Held>) -> (bool, i128, Vec<Finding>) {
    let sum = Reckoning::of(account, held);
    (sum.adds_up(), sum.difference, sum.findings)
}

#[test]
fn i13_what_is_captured_is_stored_or_in_a_gap_or_in_quarantine_or_in_the_outbox() {
    let sum = Reckoning::of(&account(), Some(&held(FIRST + 2_000)));
    assert!(sum.adds_up(), "{sum:?}");
    assert_eq!((sum.captured, sum.word), (Some(2_000), Word::Agent));
    assert_eq!((sum.stored, sum.quarantined, sum.in_outbox), (900, 100, Some(957)));
    let gaps = BTreeMap::from([(Reason::Evicted, 40), (Reason::SourceLoss, 3)]);
    assert_eq!((sum.gap_samples(), &sum.gaps), (43, &gaps));
}

#[test]
fn i13_who_says_what_was_captured_is_told() {
    let mut account = account();
    let nobody = Reckoning::of(&account, None);
    assert_eq!(
        (nobody.captured, nobody.in_outbox, nobody.word),
        (None, None, Word::Nobody)
    );
    assert!(nobody.adds_up(), "the server's own sums do: {nobody:?}");

    let report = |next_sample| AgentReport {
        agent: "lab-pc".into(),
        stored_seq: 20,
        next_sample,
        outbox_bytes: 9,
        oldest_unacked_ms: 1,
        age_ms: 4_000,
    };
    account.report = Some(report(FIRST + 1_500));
    let heard = Reckoning::of(&account, None);
    assert_eq!((heard.captured, heard.in_outbox), (Some(1_500), Some(457)));
    assert_eq!(heard.word, Word::Heartbeat { age_ms: 4_000 });
    // What was committed since has been captured as well.
    account.report = Some(report(FIRST + 10));
    let heard = Reckoning::of(&account, None);
    assert_eq!((heard.captured, heard.in_outbox), (Some(1_043), Some(0)));
    assert!(heard.adds_up());

    account.stream.at.ended = true;
    account.chunks.push(sum(ChunkKind::End, Reason::Closed, 1, 0));
    account.stream.at.seq += 1;
    let ended = Reckoning::of(&account, None);
    assert_eq!((ended.captured, ended.word), (Some(1_043), Word::End));
    assert!(
        ended.adds_up() && !ended.gaps.contains_key(&Reason::Closed),
        "{ended:?}"
    );
}

#[test]
fn i13_rows_that_are_missing_or_too_many_do_not_add_up() {
    let mut missing = account();
    missing.chunks[0] = sum(ChunkKind::Samples, Reason::None, 8, 800);
    let found = Finding::Missing { samples: 100 };
    assert_eq!(of(&missing, None), (false, 100, vec![found]));
    assert_eq!(of(&missing, Some(&held(FIRST + 2_000))), (false, 100, vec![found]));

    let mut twice = account();
    twice.chunks[1] = sum(ChunkKind::Gap, Reason::Evicted, 2, 80);
    let found = Finding::Surplus { samples: 40 };
    assert_eq!(of(&twice, None), (false, -40, vec![found]));

    let mut without_end = account();
    without_end.stream.at.seq = 13;
    let found = Finding::Seqs { found: 12, counted: 13 };
    assert_eq!(of(&without_end, None), (false, 0, vec![found]));

    let mut recounted = account();
    (recounted.stream.sample_count, recounted.stream.quarantined) = (1_000, 0);
    let found = vec![
        Finding::Stored {
            found: 900,
            counted: 1_000,
        },
        Finding::Quarantined { found: 1, counted: 0 },
    ];
    assert_eq!(of(&recounted, None), (false, 0, found));
}

#[test]
fn what_retention_dropped_is_accounted_for_and_what_anybody_else_did_is_not() {
    let mut begins_later = account();
    begins_later.chunks[0] = sum(ChunkKind::Samples, Reason::None, 7, 700);
    begins_later.from = Some((3, FIRST + 200));
    let found = Finding::Missing { samples: 200 };
    assert_eq!(of(&begins_later, None), (false, 200, vec![found]));
    begins_later.may_have_expired = true;
    assert_eq!(Reckoning::of(&begins_later, None).dropped, 200);
    assert_eq!(of(&begins_later, None), (true, 0, vec![]));
    // One more is gone from the middle.
    begins_later.chunks[0] = sum(ChunkKind::Samples, Reason::None, 6, 600);
    let found = Finding::Missing { samples: 100 };
    assert_eq!(of(&begins_later, None), (false, 100, vec![found]));

    let mut all_gone = account();
    (all_gone.chunks, all_gone.from) = (Vec::new(), None);
    assert_eq!(of(&all_gone, None).1, 1_043);
    all_gone.may_have_expired = true;
    assert_eq!(of(&all_gone, None), (true, 0, vec![]));
}

#[test]
fn i13_what_neither_side_holds_does_not_add_up() {
    let mut released = held(FIRST + 2_000);
    released.released_sample = FIRST + 1_100;
    let found = Finding::Neither { samples: 57 };
    assert_eq!(of(&account(), Some(&released)), (false, 57, vec![found]));
    // A restored database that the outbox will heal is only behind.
    let mut acked = held(FIRST + 2_000);
    acked.acked_sample = FIRST + 1_100;
    let sum = Reckoning::of(&account(), Some(&acked));
    assert_eq!((sum.adds_up(), sum.behind), (true, 57));

    let found = Finding::Ahead { samples: 43 };
    assert_eq!(of(&account(), Some(&held(FIRST + 1_000))), (false, -43, vec![found]));
    let mut ended = account();
    ended.stream.at.ended = true;
    let found = Finding::AfterEnd { samples: 7 };
    assert_eq!(of(&ended, Some(&held(FIRST + 1_050))), (false, 0, vec![found]));
    assert_eq!(of(&ended, Some(&held(FIRST + 1_043))), (true, 0, vec![]));
}

#[test]
fn i13_a_stream_that_the_server_does_not_know_is_in_the_outbox() {
    let sum = Reckoning::unknown_to_server(&held(FIRST + 500));
    assert_eq!(
        (sum.adds_up(), sum.captured, sum.in_outbox),
        (true, Some(500), Some(500))
    );
    let mut released = held(FIRST + 500);
    released.released_sample = FIRST + 1;
    let sum = Reckoning::unknown_to_server(&released);
    assert_eq!(
        (sum.difference, sum.findings),
        (1, vec![Finding::Neither { samples: 1 }])
    );
}

#[test]
fn what_a_successor_has_as_well_is_counted_there() {
    let mut diverged = account();
    diverged.succeeded_at = Some(10);
    diverged.chunks[0] = sum(ChunkKind::Samples, Reason::None, 7, 700);
    diverged.chunks.push(ChunkSum {
        succeeded: true,
        ..sum(ChunkKind::Samples, Reason::None, 2, 200)
    });
    // What its agent last said of it has moved to the successor.
    diverged.report = Some(AgentReport {
        agent: String::new(),
        stored_seq: 99,
        next_sample: FIRST + 9_999,
        outbox_bytes: 0,
        oldest_unacked_ms: 0,
        age_ms: 0,
    });
    let sum = Reckoning::of(&diverged, None);
    assert!(sum.adds_up(), "{sum:?}");
    assert_eq!((sum.stored, sum.succeeded, sum.in_outbox), (700, 200, None));
}

#[test]
fn time_that_passes_between_the_questions_is_nothing_that_is_off() {
    // Before the server is asked: little is captured, and nothing released. After: all that the server had is released.
    let before = held(FIRST + 1_010);
    let mut after = held(FIRST + 3_000);
    (after.released_sample, after.acked_sample) = (FIRST + 2_900, FIRST + 2_900);
    let between = Held::between(Some(&before), after);
    assert_eq!(of(&account(), Some(&between)), (true, 0, vec![]));
    assert_eq!(Reckoning::of(&account(), Some(&between)).behind, 0);
}

proptest! {
    /// Whatever a server or an agent says, the terms come to what was captured.
    #[test]
    fn i13_the_terms_and_the_difference_come_to_what_was_captured(
        sums in prop::collection::vec((1u16..=3, any::<bool>(), any::<bool>(), any::<u64>()), 0..6),
        (seq, next_sample) in any::<(u64, u64)>(),
        from in any::<Option<(u64, u64)>>(),
        (expired, ended, asked) in any::<(bool, bool, bool)>(),
        (captured, released, acked) in any::<(u64, u64, u64)>(),
        report in any::<Option<u64>>(),
    ) {
        let mut account = account();
        account.chunks = sums.iter().map(|(kind, quarantined, succeeded, samples)| ChunkSum {
            quarantined: *quarantined,
            succeeded: *succeeded,
            ..sum([ChunkKind::Samples, ChunkKind::Gap, ChunkKind::End][usize::from(kind - 1)], Reason::Evicted, *samples, *samples)
        }).collect();
        (account.stream.at.seq, account.stream.at.next_sample, account.stream.at.ended) = (seq, next_sample, ended);
        (account.from, account.may_have_expired) = (from, expired);
        account.report = report.map(|next_sample| AgentReport {
            agent: String::new(), stored_seq: 1, next_sample, outbox_bytes: 0, oldest_unacked_ms: 0, age_ms: 0,
        });
        let held = Held { released_sample: released, acked_sample: acked, ..held(captured) };
        let sum = Reckoning::of(&account, asked.then_some(&held));
        if let Some(captured) = sum.captured {
            let terms = [sum.stored, sum.quarantined, sum.succeeded, sum.dropped];
            let there = terms.into_iter().fold(sum.gap_samples(), u64::saturating_add);
            prop_assert_eq!(
                i128::from(captured),
                i128::from(there) + i128::from(sum.in_outbox.unwrap_or(0)) + sum.difference
            );
        }
    }
}
