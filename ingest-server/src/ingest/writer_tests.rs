//! The writers against a ledger in memory: groups, order, and every way in which a commit ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use wavekeep_proto::chunk::{Chunk, Position};
use wavekeep_proto::id::{Hash, Owner, StreamId};

use super::fixtures::{self, Capture};
use super::model::{Fault, ModelLedger};
use super::registry::Registry;
use super::ticket::{Accepted, Reply, Ticket, footprint_bytes};
use super::writer::{WriterConfig, Writers};
use crate::budget::Budget;
use crate::ledger::{Ledger, OpenRequest};

/// One agent's stream, as its session would hand chunks on.
struct Source {
    capture: Capture,
    owner: Owner,
    slot: u32,
    answer_to: mpsc::Sender<Reply>,
}

struct Lab {
    ledger: Arc<ModelLedger>,
    registry: Arc<Registry>,
    writers: Writers,
    answer_to: mpsc::Sender<Reply>,
    replies: mpsc::Receiver<Reply>,
}

impl Lab {
    /// With one writer, and so one group.
    fn new() -> Self {
        Self::with(WriterConfig {
            writers: 1,
            linger: Duration::from_millis(2),
            ..WriterConfig::default()
        })
    }

    fn with(config: WriterConfig) -> Self {
        let ledger = Arc::new(ModelLedger::new());
        let registry = Registry::new(Budget::new(64 << 20).expect("it fits"));
        let (answer_to, replies) = mpsc::channel(1000);
        Self {
            writers: Writers::start(&ledger, "main", config, registry.chunks_max()),
            ledger,
            registry,
            answer_to,
            replies,
        }
    }

    async fn open(&self, number: u8) -> Source {
        let capture = Capture::new(&fixtures::definition(number));
        let owner = Owner([number; 16]);
        let request = OpenRequest {
            definition: capture.definition.clone(),
            labels: std::collections::BTreeMap::new(),
            run: String::new(),
            stored_seq: 0,
            owner,
        };
        self.ledger.open("main", request).await.expect("the model opens");
        Source {
            capture,
            owner,
            slot: u32::from(number),
            answer_to: self.answer_to.clone(),
        }
    }

    /// The chunk, and where its stream stood before it.
    fn accept(&self, source: &Source, before: Position, chunk: Chunk) {
        let charge = self.registry.charge(footprint_bytes(&chunk));
        let accepted = Accepted {
            definition: source.capture.definition.clone(),
            owner: source.owner,
            before,
            ticket: Ticket::new(source.answer_to.clone(), source.slot, chunk.flow_bytes(), charge),
            chunk,
        };
        self.writers.accept(accepted).expect("there is room");
    }

    /// Captures so many chunks and hands them on; says their digests.
    fn send(&self, source: &mut Source, chunks: usize) -> Vec<Hash> {
        let send = |_| {
            let before = source.capture.at;
            let chunk = source.capture.samples(&[1.0, 2.0, 3.0]);
            let digest = chunk.digest;
            self.accept(source, before, chunk);
            digest
        };
        (0..chunks).map(send).collect()
    }

    /// Until so many chunks of each slot are answered for: their number, by what became of them.
    async fn answers(&mut self, slots: &[(u32, usize)]) -> Vec<(u32, Outcome, usize)> {
        let expected: usize = slots.iter().map(|(_, chunks)| chunks).sum();
        let mut outcomes: Vec<(u32, Outcome, usize)> = Vec::new();
        let mut answered = 0;
        while answered < expected {
            let reply = self.replies.recv().await.expect("the lab holds a sender");
            let (slot, outcome, chunks) = match reply {
                Reply::Committed { slot, chunks, .. } => (slot, Committed, chunks),
                Reply::Fenced { slot, chunks, .. } => (slot, Fenced, chunks),
                // A lost chunk names no slot: its session ends as a whole.
                Reply::Lost { chunks, .. } => (0, Lost, chunks),
            };
            answered += chunks;
            match outcomes.iter_mut().find(|known| (known.0, known.1) == (slot, outcome)) {
                Some(known) => known.2 += chunks,
                None => outcomes.push((slot, outcome, chunks)),
            }
        }
        assert_eq!(answered, expected, "every chunk is answered for once");
        outcomes.sort_unstable();
        outcomes
    }

    fn seqs(&self, number: u8) -> Vec<u64> {
        let stream = self.ledger.stream(StreamId([number; 16]));
        stream.rows.iter().map(|row| row.chunk.header.seq).collect()
    }

    fn quarantined(&self, number: u8) -> Vec<u64> {
        let stream = self.ledger.stream(StreamId([number; 16]));
        let rows = stream.rows.iter().filter(|row| row.quarantine.is_some());
        rows.map(|row| row.chunk.header.seq).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Committed,
    Fenced,
    Lost,
}
use Outcome::{Committed, Fenced, Lost};

#[tokio::test]
async fn i1_chunks_of_many_streams_are_committed_once_and_in_order() {
    let mut lab = Lab::with(WriterConfig {
        writers: 3,
        group_bytes: 4000,
        linger: Duration::from_millis(1),
        ..WriterConfig::default()
    });
    let mut sources = Vec::new();
    for number in 1..=10 {
        sources.push(lab.open(number).await);
    }
    for _ in 0..20 {
        for source in &mut sources {
            lab.send(source, 5);
        }
        tokio::task::yield_now().await;
    }
    let slots: Vec<(u32, usize)> = (1..=10).map(|slot| (slot, 100)).collect();
    let expected: Vec<_> = slots.iter().map(|&(slot, chunks)| (slot, Committed, chunks)).collect();
    assert_eq!(lab.answers(&slots).await, expected);
    for number in 1..=10 {
        assert_eq!(lab.seqs(number), (1..=100).collect::<Vec<_>>());
    }
    assert_eq!(lab.registry.in_use_bytes(), 0, "I12: all that was charged is released");
}

#[tokio::test]
async fn a_group_grows_while_the_one_before_commits() {
    let mut lab = Lab::new();
    let mut source = lab.open(1).await;
    lab.ledger.hold(true);
    lab.send(&mut source, 1);
    // The first is in its transaction once nothing is left to gather.
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..40 {
        lab.send(&mut source, 1);
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    lab.ledger.hold(false);
    lab.answers(&[(1, 41)]).await;
    let commits = lab.ledger.state().commits.len();
    assert!(commits < 10, "41 chunks took {commits} transactions");
}

#[tokio::test]
async fn i7_a_fenced_stream_stands_beside_good_ones() {
    let mut lab = Lab::new();
    let (mut good, mut stolen) = (lab.open(1).await, lab.open(2).await);
    lab.ledger.hold(true);
    lab.send(&mut good, 3);
    lab.send(&mut stolen, 4);
    lab.ledger.steal(StreamId([2; 16]));
    lab.ledger.hold(false);
    assert_eq!(
        lab.answers(&[(1, 3), (2, 4)]).await,
        [(1, Committed, 3), (2, Fenced, 4)]
    );
    assert_eq!((lab.seqs(1), lab.seqs(2)), (vec![1, 2, 3], vec![]));
}

#[tokio::test]
async fn i6_an_ambiguous_commit_is_never_retried_and_never_acked() {
    for stored in [false, true] {
        let mut lab = Lab::new();
        let (mut first, mut second) = (lab.open(1).await, lab.open(2).await);
        lab.ledger.state().faults.push_back(Fault::Ambiguous { stored });
        lab.send(&mut first, 2);
        lab.send(&mut second, 3);
        assert_eq!(lab.answers(&[(1, 2), (2, 3)]).await, [(0, Lost, 5)]);
        assert_eq!(lab.ledger.state().commits.len(), 1);
        assert_eq!(lab.seqs(1).len(), if stored { 2 } else { 0 });
    }
}

#[tokio::test]
async fn a_full_disk_quarantines_nothing() {
    let mut lab = Lab::new();
    let mut source = lab.open(1).await;
    lab.ledger.state().faults.push_back(Fault::Unavailable);
    lab.send(&mut source, 3);
    assert_eq!(lab.answers(&[(1, 3)]).await, [(0, Lost, 3)]);
    assert_eq!(lab.ledger.state().commits.len(), 1);
    assert!(lab.seqs(1).is_empty());
}

#[tokio::test]
async fn bad_data_alone_is_quarantined() {
    let mut lab = Lab::new();
    let mut sources = [lab.open(1).await, lab.open(2).await, lab.open(3).await];
    lab.ledger.hold(true);
    for source in &mut sources {
        let digests = lab.send(source, 5);
        if source.slot == 2 {
            lab.ledger.state().bad.insert(digests[2]);
        }
    }
    lab.ledger.hold(false);
    let answers = lab.answers(&[(1, 5), (2, 5), (3, 5)]).await;
    assert_eq!(answers, [(1, Committed, 5), (2, Committed, 5), (3, Committed, 5)]);
    for number in 1..=3 {
        assert_eq!(
            lab.seqs(number),
            [1, 2, 3, 4, 5],
            "I1: quarantine keeps the chain whole"
        );
    }
    assert_eq!(
        (lab.quarantined(1), lab.quarantined(2), lab.quarantined(3)),
        (vec![], vec![3], vec![])
    );
}

#[tokio::test]
async fn what_is_bad_even_in_quarantine_ends_its_session_alone() {
    let mut lab = Lab::new();
    let (mut good, mut bad) = (lab.open(1).await, lab.open(2).await);
    lab.ledger.hold(true);
    let digests = lab.send(&mut bad, 3);
    lab.ledger.state().worse.insert(digests[1]);
    lab.send(&mut good, 3);
    lab.ledger.hold(false);
    let answers = lab.answers(&[(1, 3), (2, 3)]).await;
    assert_eq!(answers, [(0, Lost, 2), (1, Committed, 3), (2, Committed, 1)]);
    assert_eq!(lab.seqs(2), [1], "I1: nothing after a chunk that is not stored");
}

#[tokio::test]
async fn i6_a_ledger_that_breaks_while_entries_are_apart_loses_the_rest() {
    let mut lab = Lab::new();
    let mut sources = [lab.open(1).await, lab.open(2).await, lab.open(3).await];
    lab.ledger.hold(true);
    let mut bad = Hash::default();
    for source in &mut sources {
        bad = lab.send(source, 2)[0];
    }
    // The group fails by its data; of the entries alone, the second meets a dead database.
    lab.ledger.state().bad.insert(bad);
    let faults = [Fault::Pass, Fault::Pass, Fault::Ambiguous { stored: false }];
    lab.ledger.state().faults.extend(faults);
    lab.ledger.hold(false);
    assert_eq!(
        lab.answers(&[(1, 2), (2, 2), (3, 2)]).await,
        [(0, Lost, 4), (1, Committed, 2)]
    );
    assert_eq!((lab.seqs(1), lab.seqs(2), lab.seqs(3)), (vec![1, 2], vec![], vec![]));
}

#[tokio::test]
async fn poison_is_quarantined_and_the_stream_goes_on() {
    let mut lab = Lab::new();
    let mut source = lab.open(1).await;
    lab.send(&mut source, 2);
    let before = source.capture.at;
    let poison = source.capture.poison();
    lab.accept(&source, before, poison);
    lab.send(&mut source, 2);
    let before = source.capture.at;
    let end = source.capture.end();
    lab.accept(&source, before, end);
    assert_eq!(lab.answers(&[(1, 6)]).await, [(1, Committed, 6)]);
    assert_eq!(lab.seqs(1), [1, 2, 3, 4, 5, 6]);
    assert_eq!(lab.quarantined(1), [3]);
    let stream = lab.ledger.stream(StreamId([1; 16]));
    let why = stream.rows[2].quarantine.clone().expect("quarantined").why;
    assert!(why.contains("current"), "{why}");
    assert_eq!(
        stream.at.digest, source.capture.at.digest,
        "I14: the digest is that of the capture"
    );
}

#[tokio::test]
async fn a_panic_under_the_ledger_is_answered_and_the_writer_goes_on() {
    let mut lab = Lab::new();
    let (mut first, mut second) = (lab.open(1).await, lab.open(2).await);
    lab.ledger.state().faults.push_back(Fault::Panic);
    lab.send(&mut first, 2);
    assert_eq!(lab.answers(&[(1, 2)]).await, [(0, Lost, 2)]);
    lab.send(&mut second, 2);
    assert_eq!(lab.answers(&[(2, 2)]).await, [(2, Committed, 2)]);
    assert_eq!(lab.registry.in_use_bytes(), 0);
}

#[tokio::test]
async fn i4_a_chunk_that_does_not_continue_its_entry_is_given_back() {
    let mut lab = Lab::new();
    let mut source = lab.open(1).await;
    lab.ledger.hold(true);
    lab.send(&mut source, 1);
    source.capture.samples(&[4.0]);
    lab.send(&mut source, 1);
    lab.ledger.hold(false);
    let answers = lab.answers(&[(1, 2)]).await;
    assert!(answers.contains(&(1, Committed, 1)), "{answers:?}");
    assert_eq!(lab.seqs(1), [1]);
}
