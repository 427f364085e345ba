//! The compare-and-set of a commit on a real Postgres: each of its terms, fencing, and who wins.

mod common;

use std::sync::Arc;

use common::{Fixture, Stream, assert_fenced, entry, ledger, one_committed, owner, random};
use wavekeep_proto::chunk::Reason;
use wavekeep_proto::id::Owner;
use wavekeep_server::ledger::{Entry, Ledger};

#[tokio::test]
async fn i1_chunks_are_committed_once_in_order() {
    let fixture = Fixture::new().await;
    let (mut stream, owner, follows) = one_committed(&fixture).await;
    assert_eq!(fixture.position(&stream).await, stream.at);
    assert_eq!(fixture.commit(std::slice::from_ref(&follows)).await, [true]);
    assert_eq!(fixture.position(&stream).await, follows.after);
    assert_fenced(&fixture, &stream, follows.clone(), "the same entry again").await;

    stream.at = follows.after;
    let before = stream.at;
    let rows = vec![
        stream.gap(1_000, Reason::UsbOverrun),
        stream.half_samples(),
        stream.end(),
    ];
    assert_eq!(fixture.commit(&[entry(&stream, owner, before, rows)]).await, [true]);
    let facts = "SELECT chunk_count * 1000000 + sample_count * 10000 + gap_sample_count FROM stream WHERE ended AND end_reason = 64";
    assert_eq!(fixture.one(facts).await, 5 * 1_000_000 + 9 * 10_000 + 1_000);
    assert_eq!(
        fixture
            .one("SELECT count(*) FROM chunk_signal WHERE signal < 65536")
            .await,
        6
    );
    let power = "SELECT count(*) FROM chunk_signal WHERE signal = 65536 AND payload IS NULL";
    assert_eq!(fixture.one(power).await, 2, "where current and voltage are both there");
    assert_eq!(
        fixture
            .one("SELECT count(*) FROM chunk_signal WHERE absent_reason = 21 AND signal = 40000")
            .await,
        1
    );
    assert_eq!(fixture.one("SELECT max(seq) * 10 + count(*) FROM chunk").await, 55);
}

#[tokio::test]
async fn i7_commit_compares_the_owner() {
    let fixture = Fixture::new().await;
    let (stream, _, follows) = one_committed(&fixture).await;
    assert_fenced(
        &fixture,
        &stream,
        Entry {
            owner: owner(),
            ..follows.clone()
        },
        "another owner",
    )
    .await;
    assert_eq!(fixture.commit(&[follows]).await, [true], "the owner itself");
}

#[tokio::test]
async fn i1_commit_compares_the_seq() {
    let fixture = Fixture::new().await;
    let (stream, owner, follows) = one_committed(&fixture).await;
    // As if one chunk more had been committed that changed neither sample nor digest.
    let mut ahead = stream.clone();
    ahead.at.seq += 1;
    let before = ahead.at;
    let rows = vec![ahead.few_samples()];
    assert_fenced(
        &fixture,
        &stream,
        entry(&stream, owner, before, rows),
        "a hole in the seqs",
    )
    .await;
    assert_eq!(fixture.commit(&[follows]).await, [true]);
}

#[tokio::test]
async fn i4_commit_compares_the_next_sample() {
    let fixture = Fixture::new().await;
    let (stream, owner, follows) = one_committed(&fixture).await;
    for next_sample in [stream.at.next_sample - 1, stream.at.next_sample + 1] {
        let mut shifted = stream.clone();
        shifted.at.next_sample = next_sample;
        let before = shifted.at;
        let rows = vec![shifted.few_samples()];
        assert_fenced(&fixture, &stream, entry(&stream, owner, before, rows), "does not tile").await;
    }
    assert_eq!(fixture.commit(&[follows]).await, [true]);
}

#[tokio::test]
async fn i14_commit_compares_the_digest() {
    let fixture = Fixture::new().await;
    let (stream, owner, follows) = one_committed(&fixture).await;
    let mut foreign = stream.clone();
    foreign.at.digest.0[15] ^= 1;
    let before = foreign.at;
    let rows = vec![foreign.few_samples()];
    assert_fenced(
        &fixture,
        &stream,
        entry(&stream, owner, before, rows),
        "another history",
    )
    .await;
    assert_eq!(fixture.commit(&[follows]).await, [true]);
}

#[tokio::test]
async fn i1_nothing_follows_an_end() {
    let fixture = Fixture::new().await;
    let (mut stream, owner, _) = one_committed(&fixture).await;
    let before = stream.at;
    let rows = vec![stream.end()];
    assert_eq!(fixture.commit(&[entry(&stream, owner, before, rows)]).await, [true]);
    assert!(fixture.position(&stream).await.ended);
    // A writer that does not know that it ended: all else agrees.
    stream.at.ended = false;
    let before = stream.at;
    let rows = vec![stream.few_samples()];
    assert_fenced(&fixture, &stream, entry(&stream, owner, before, rows), "after the end").await;
}

#[tokio::test]
async fn i7_a_fenced_entry_beside_good_ones_stores_nothing() {
    let fixture = Fixture::new().await;
    let (good, good_owner, good_entry) = one_committed(&fixture).await;
    let (taken, _, taken_entry) = one_committed(&fixture).await;
    let (third, _, third_entry) = one_committed(&fixture).await;
    let thief = owner();
    fixture.open(&taken, thief).await;
    let mut gone = Stream::new();
    let start = gone.at;
    let rows = vec![gone.few_samples()];
    let never_opened = entry(&gone, owner(), start, rows);
    let stolen = Entry {
        owner: thief,
        ..taken_entry.clone()
    };
    let batch = [
        good_entry.clone(),
        taken_entry,
        never_opened,
        stolen,
        third_entry.clone(),
    ];
    assert_eq!(fixture.commit(&batch).await, [true, false, false, true, true]);
    for (stream, after) in [(&good, good_entry.after), (&third, third_entry.after)] {
        assert_eq!(fixture.position(stream).await, after);
        assert_eq!(fixture.rows_of(stream).await, 2);
    }
    assert_eq!(fixture.rows_of(&taken).await, 2, "once, by the thief");
    assert_eq!(fixture.rows_of(&gone).await, 0);
    let more = fixture.open(&good, good_owner).await;
    assert_eq!(more.at, good_entry.after);
}

#[tokio::test]
async fn i7_concurrent_opens_leave_one_owner() {
    let fixture = Arc::new(Fixture::new().await);
    let (stream, _, follows) = one_committed(&fixture).await;
    let owners: Vec<Owner> = (0..8).map(|_| owner()).collect();
    let opens = owners.iter().map(|owner| {
        let (fixture, stream, owner) = (fixture.clone(), stream.clone(), *owner);
        tokio::spawn(async move { fixture.open(&stream, owner).await.at })
    });
    for open in opens.collect::<Vec<_>>() {
        assert_eq!(open.await.expect("no panic"), stream.at);
    }
    let commits = owners.iter().map(|owner| {
        let (fixture, entry) = (
            fixture.clone(),
            Entry {
                owner: *owner,
                ..follows.clone()
            },
        );
        tokio::spawn(async move { fixture.commit(&[entry]).await[0] })
    });
    let mut stored = 0;
    for commit in commits.collect::<Vec<_>>() {
        stored += u32::from(commit.await.expect("no panic"));
    }
    assert_eq!(stored, 1, "the last to open, and nobody else");
    assert_eq!(fixture.rows_of(&stream).await, 2);
}

#[tokio::test]
async fn i1_two_servers_that_commit_the_same_chunk_store_it_once() {
    let fixture = Fixture::new().await;
    let second = Arc::new(ledger(&fixture.url).await);
    for _ in 0..10 {
        let (stream, _, follows) = one_committed(&fixture).await;
        let (other_stream, _, other_follows) = one_committed(&fixture).await;
        // In opposite orders: locking in order of id keeps them from waiting for each other.
        let (there, backwards) = (second.clone(), [other_follows.clone(), follows.clone()]);
        let workspace = fixture.workspace.clone();
        let other = tokio::spawn(async move { there.commit(&workspace, &backwards).await.expect("the batch commits") });
        let one = fixture.commit(&[follows, other_follows]).await;
        let mut other = other.await.expect("no panic");
        other.reverse();
        assert!(
            one.iter().zip(&other).all(|(one, other)| one != other),
            "{one:?} {other:?}"
        );
        assert_eq!(
            (fixture.rows_of(&stream).await, fixture.rows_of(&other_stream).await),
            (2, 2)
        );
    }
}

#[tokio::test]
async fn i6_a_commit_waits_for_the_row_and_then_sees_who_owns_it() {
    let fixture = Fixture::new().await;
    let (stream, _, follows) = one_committed(&fixture).await;
    let (mut holder, holder_id) = fixture.hold(&stream).await;
    let steal = sqlx::query("UPDATE stream SET owner = $2 WHERE id = $1").bind(stream.definition.id.to_vec());
    steal
        .bind(random::<16>().to_vec())
        .execute(&mut holder)
        .await
        .expect("the row is held");
    let commit = fixture
        .ledger
        .commit(&fixture.workspace, std::slice::from_ref(&follows));
    let release = async {
        fixture.wait_for_waiter(holder_id, "*").await;
        sqlx::raw_sql("COMMIT").execute(&mut holder).await.expect("it commits");
    };
    let (committed, ()) = tokio::join!(commit, release);
    assert_eq!(
        committed.expect("the batch commits"),
        [false],
        "the owner changed while it waited"
    );
    assert_eq!(fixture.rows_of(&stream).await, 1);
}

#[tokio::test]
#[should_panic(expected = "I1: seqs have no hole")]
async fn i1_an_entry_with_a_hole_is_our_own_mistake() {
    let fixture = Fixture::new().await;
    let (_, _, mut follows) = one_committed(&fixture).await;
    follows.rows[0].chunk.header.first_seq += 1;
    fixture.commit(&[follows]).await;
}

#[tokio::test]
async fn rows_are_locked_in_order_of_id_so_that_servers_never_deadlock() {
    let fixture = Fixture::new().await;
    // The larger id comes first in every other order: in the table, in the index of its pages, and in the batch.
    let mut definitions = [common::definition(), common::definition()];
    (definitions[0].id.0[0], definitions[1].id.0[0]) = (200, 100);
    let mut batch = Vec::new();
    let [larger, smaller] = definitions.map(Stream::of);
    for stream in [&larger, &smaller] {
        let owner = owner();
        let start = fixture.open(stream, owner).await.at;
        let rows = vec![stream.clone().few_samples()];
        batch.push(entry(stream, owner, start, rows));
    }
    let (mut holder, holder_id) = fixture.hold(&smaller).await;
    let commit = fixture.ledger.commit(&fixture.workspace, &batch);
    let look = async {
        fixture.wait_for_waiter(holder_id, "*").await;
        let free =
            sqlx::query("SELECT FROM stream WHERE id = $1 FOR UPDATE NOWAIT").bind(larger.definition.id.to_vec());
        free.execute(&mut holder)
            .await
            .expect("it waits for the smaller id before it takes the larger");
        sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.expect("it ends");
    };
    let (committed, ()) = tokio::join!(commit, look);
    assert_eq!(committed.expect("the batch commits"), [true, true]);
}
