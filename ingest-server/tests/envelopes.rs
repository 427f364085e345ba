//! What the ledger folds: every bucket, whatever the chunks, the groups, the owners and the servers, against the samples.

mod captured;
mod common;

use std::collections::BTreeSet;

use captured::{Captured, Dice};
use common::{Fixture, entry, owner, random};
use sqlx::Row as _;
use wavekeep_proto::id::StreamId;
use wavekeep_server::ledger::Row;
use wavekeep_server::rollup::Levels;
use wavekeep_server::store::PostgresLedger;
use wavekeep_server::store::backfill::{Folded, fold_page, next_behind};

const POWER: i32 = 65_536;

/// Every row of `envelope`: there if and only if its bucket is complete and has samples, and true.
async fn assert_envelopes(fixture: &Fixture, captured: &Captured, what: &str) {
    let stream = captured.stream.definition.id.to_vec();
    let sql =
        "SELECT signal, level::integer AS level, bucket, utc_ns, sample_count, finite_count, min, max, sum, sumsq,
                      children
                 FROM envelope WHERE stream_id = $1";
    let rows = sqlx::query(sql)
        .bind(stream)
        .fetch_all(&mut common::connect(&fixture.url, &fixture.workspace).await)
        .await
        .expect("it reads");
    let levels = Levels::of(&captured.stream.definition);
    let end = captured.axis.len() as u64;
    let mut expected = BTreeSet::new();
    for level in levels.first..8 {
        let size = 16u64.pow(level);
        let with_samples =
            (0..end / size).filter(|bucket| captured.truth(bucket * size, (bucket + 1) * size, false).0 > 0);
        for bucket in with_samples {
            [0, 40_000, POWER]
                .into_iter()
                .for_each(|signal| assert!(expected.insert((signal, level, bucket))));
        }
    }
    for row in &rows {
        let (signal, level, bucket) = (
            row.get::<i32, _>(0),
            row.get::<i32, _>(1) as u32,
            row.get::<i64, _>(2) as u64,
        );
        assert!(
            expected.remove(&(signal, level, bucket)),
            "{what}: {signal} {level} {bucket}: not twice, not too early"
        );
        let size = 16u64.pow(level);
        let start = bucket * size;
        let (stored, fold) = captured.truth(start, start + size, signal == POWER);
        assert_eq!(row.get::<i64, _>("sample_count") as u64, stored, "{what}");
        assert_eq!(row.get::<i64, _>("finite_count") as u64, fold.count, "{what}");
        let some = |value: f64| (fold.count > 0).then_some(value);
        assert_eq!(row.get::<Option<f64>, _>("min"), some(fold.min), "{what}");
        assert_eq!(row.get::<Option<f64>, _>("max"), some(fold.max), "{what}");
        assert_eq!(
            (row.get::<f64, _>("sum"), row.get::<f64, _>("sumsq")),
            (fold.sum, fold.sumsq),
            "{what}"
        );
        let ns = common::NOVEMBER_2026_NS + captured.stream.definition.duration_ns(start);
        assert!(
            (row.get::<i64, _>("utc_ns") - ns).abs() < 1_000,
            "{what}: {} is not {ns}",
            row.get::<i64, _>("utc_ns")
        );
        assert_children(captured, (start, size / 16), signal == POWER, row.get("children"), what);
    }
    assert!(expected.is_empty(), "{what}: missing {:?}", expected.first());
}

/// As the comment of the column has it.
fn assert_children(captured: &Captured, (start, size): (u64, u64), squared: bool, children: &[u8], what: &str) {
    let (words, rest) = children.as_chunks::<8>();
    assert!(rest.is_empty(), "{what}");
    let truth = |child: u64| captured.truth(start + child * size, start + (child + 1) * size, squared);
    let is_full = (0..16).all(|child| {
        let (stored, fold) = truth(child);
        stored == size && fold.count == size
    });
    let of_each = if is_full { 3 } else { 5 };
    assert_eq!(words.len(), 16 * of_each, "{what}");
    for (child, words) in words.chunks(of_each).enumerate() {
        let (stored, fold) = truth(child as u64);
        let (counts, values) = words.split_at(of_each - 3);
        if !is_full {
            assert_eq!(
                counts
                    .iter()
                    .map(|count| u64::from_be_bytes(*count))
                    .collect::<Vec<_>>(),
                [stored, fold.count],
                "{what}"
            );
        }
        let expected = if stored > 0 {
            [fold.min, fold.max, fold.sum]
        } else {
            [0.0; 3]
        };
        assert_eq!(
            [0, 1, 2].map(|at: usize| f64::from_be_bytes(values[at])),
            expected,
            "{what}"
        );
    }
}

/// Random chunks in random groups; now and then another owner (the same server, or one that has just started) goes on, and a group
/// of one who lost the stream is refused in between.
async fn grow(rate_hz: f64, longest: u64, until: u64, seed: u64) {
    let fixture = Fixture::new().await;
    let (mut captured, mut dice) = (Captured::new(rate_hz), Dice(seed));
    let mut other = PostgresLedger::new(fixture.ledger.database().clone());
    let mut owner_now = owner();
    fixture.open(&captured.stream, owner_now).await;
    while (captured.axis.len() as u64) < until {
        let before = captured.stream.at;
        let rows: Vec<Row> = (0..1 + dice.below(4))
            .map(|_| captured.chunk(&mut dice, longest))
            .collect();
        let group = entry(&captured.stream, owner_now, before, rows);
        match dice.below(6) {
            0 => {
                let fenced = entry(&captured.stream, owner(), before, group.rows.clone());
                assert_eq!(fixture.commit(&[fenced]).await, [false]);
                assert_eq!(fixture.commit(&[group]).await, [true]);
            }
            1 => {
                // Through a server that knows nothing of the stream, and back.
                other = PostgresLedger::new(fixture.ledger.database().clone());
                assert_eq!(fixture.commit_by(&other, &[group]).await, [true]);
            }
            2 => assert_eq!(fixture.commit_by(&other, &[group]).await, [true]),
            _ => assert_eq!(fixture.commit(&[group]).await, [true]),
        }
        if dice.below(4) == 0 {
            owner_now = owner();
            fixture.open(&captured.stream, owner_now).await;
        }
    }
    assert_envelopes(&fixture, &captured, &format!("{rate_hz} Hz, seed {seed}")).await;
}

#[tokio::test]
async fn i8_envelopes_of_slow_streams_are_the_folds_of_their_samples() {
    for seed in 0..4 {
        grow(1.0, 9, 1_500, seed).await;
        grow(1_000.0, 700, 20_000, seed + u64::from(random::<1>()[0]) * 1_000).await;
    }
}

#[tokio::test]
async fn i8_envelopes_of_fast_streams_are_the_folds_of_their_samples() {
    grow(1e5, 50_000, 2_500_000, 7).await;
    grow(1e6, 65_536, 3_000_000, 8).await;
    grow(2e6, 65_536, 3_000_000, 9).await;
}

/// Everything as the version before envelopes left it.
async fn forget(fixture: &Fixture) {
    let forget =
        "UPDATE stream SET folded_seq = 0; DELETE FROM envelope; DELETE FROM chunk_signal WHERE signal = 65536;
                  UPDATE chunk_signal SET finite_count = NULL, min = NULL, max = NULL, sum = NULL, sumsq = NULL,
                      point_level = NULL, points = NULL, utc_ns = NULL";
    let mut connection = common::connect(&fixture.url, &fixture.workspace).await;
    sqlx::raw_sql(forget)
        .execute(&mut connection)
        .await
        .expect("it forgets");
}

#[tokio::test]
async fn i8_what_an_older_version_stored_is_folded_while_capture_goes_on() {
    let fixture = Fixture::new().await;
    let (mut captured, mut dice) = (Captured::new(1e3), Dice(21));
    let owner = owner();
    fixture.open(&captured.stream, owner).await;
    let mut commit = async |captured: &mut Captured, chunks: usize| {
        for _ in 0..chunks {
            let before = captured.stream.at;
            let row = captured.chunk(&mut dice, 700);
            assert_eq!(
                fixture
                    .commit(&[entry(&captured.stream, owner, before, vec![row])])
                    .await,
                [true]
            );
        }
    };
    commit(&mut captured, 40).await;
    forget(&fixture).await;
    // Behind, a commit writes no envelopes.
    commit(&mut captured, 3).await;
    let database = fixture.ledger.database();
    let workspace = database.workspace(&fixture.workspace).await.expect("it is there");
    let stream = captured.stream.definition.id;
    assert_eq!(
        next_behind(database, &workspace, StreamId([0; 16]))
            .await
            .expect("it reads"),
        Some(stream)
    );
    assert_eq!(
        fold_page(database, &workspace, stream).await.expect("it folds"),
        Folded::More(16)
    );
    commit(&mut captured, 1).await;
    wavekeep_server::backfill::round(database, &workspace)
        .await
        .expect("it folds");
    assert_eq!(
        next_behind(database, &workspace, StreamId([0; 16]))
            .await
            .expect("it reads"),
        None
    );
    assert_envelopes(&fixture, &captured, "folded later").await;
    // And on from there.
    commit(&mut captured, 20).await;
    assert_envelopes(&fixture, &captured, "and on").await;
    assert_eq!(
        next_behind(database, &workspace, StreamId([0; 16]))
            .await
            .expect("it reads"),
        None
    );
}

#[tokio::test]
async fn a_damaged_chunk_is_not_folded_and_says_so() {
    let fixture = Fixture::new().await;
    let mut captured = Captured::new(1e3);
    let owner = owner();
    fixture.open(&captured.stream, owner).await;
    let before = captured.stream.at;
    let rows = vec![
        captured.samples(&[1.0, 2.0]),
        captured.samples(&[3.0, 4.0]),
        captured.samples(&[5.0]),
    ];
    assert_eq!(
        fixture.commit(&[entry(&captured.stream, owner, before, rows)]).await,
        [true]
    );
    forget(&fixture).await;
    let mut connection = common::connect(&fixture.url, &fixture.workspace).await;
    let damage =
        "UPDATE chunk_signal SET payload = set_byte(payload, 0, get_byte(payload, 0) # 1) WHERE seq = 2 AND signal = 0";
    sqlx::raw_sql(damage)
        .execute(&mut connection)
        .await
        .expect("it updates");
    let database = fixture.ledger.database();
    let workspace = database.workspace(&fixture.workspace).await.expect("it is there");
    let folded = fold_page(database, &workspace, captured.stream.definition.id).await;
    assert_eq!(folded.expect("it reads"), Folded::Damaged(2));
}
