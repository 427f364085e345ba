//! Partitions for any date: made on demand, made ahead, made again after retention, and never a thousand of them.

mod common;

use common::{Fixture, NOVEMBER_2026_NS, Stream, entry, is_timescale, ledger, owner};
use wavekeep_proto::chunk::Reason;

const DAY_NS: i64 = 86_400_000_000_000;
const PARTITIONS: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'chunk'::regclass";

#[tokio::test]
async fn chunks_of_any_date_are_stored_and_found() {
    let fixture = Fixture::new().await;
    let (mut stream, owner) = (Stream::new(), owner());
    let mut before = fixture.open(&stream, owner).await.at;
    let odd = [
        i64::MIN,
        -1,
        0,
        1,
        1_000_000_000_000_000_000,
        NOVEMBER_2026_NS,
        4_070_908_800_000_000_000,
        i64::MAX - 10_000,
    ];
    for utc_ns in odd {
        stream.utc_ns = utc_ns;
        let rows = vec![stream.few_samples()];
        assert_eq!(
            fixture.commit(&[entry(&stream, owner, before, rows)]).await,
            [true],
            "{utc_ns}"
        );
        before = stream.at;
    }
    assert_eq!(fixture.rows_of(&stream).await, odd.len() as i64);
    assert_eq!(fixture.one("SELECT min(utc_ns) FROM chunk").await, i64::MIN, "exact");
    assert_eq!(fixture.one("SELECT first_time_ns FROM stream").await, i64::MIN);
    assert_eq!(fixture.one("SELECT last_time_ns FROM stream").await, i64::MAX - 7_000);
    assert_eq!(
        fixture
            .one("SELECT count(*) FROM chunk WHERE start_time < '1970-01-01'")
            .await,
        2
    );
    // Open finds the row of each seq, wherever its clock stood.
    for stored_seq in 1..odd.len() as u64 {
        let request = wavekeep_server::ledger::OpenRequest {
            stored_seq,
            ..stream.open_request(owner)
        };
        let opened = wavekeep_server::ledger::Ledger::open(&fixture.ledger, &fixture.workspace, request).await;
        assert_eq!(opened.expect("it opens").row.map(|row| row.0), Some(stored_seq));
    }
}

#[tokio::test]
async fn a_clock_that_jumps_about_does_not_make_a_thousand_partitions() {
    let fixture = Fixture::new().await;
    let (mut stream, owner) = (Stream::new(), owner());
    let start = fixture.open(&stream, owner).await.at;
    let mut rows = Vec::new();
    for step in 0..3_000i64 {
        // 1677 to 2261, a prime number of days apart.
        stream.utc_ns = i64::MIN.wrapping_add(step.wrapping_mul(71 * DAY_NS));
        rows.push(stream.gap(1, Reason::HostSuspend));
    }
    assert_eq!(fixture.commit(&[entry(&stream, owner, start, rows)]).await, [true]);
    assert_eq!(fixture.rows_of(&stream).await, 3_000);
    let partitions = fixture.one(PARTITIONS).await;
    assert!((60..250).contains(&partitions), "{partitions}");
    if !is_timescale().await {
        assert_eq!(
            fixture.one("SELECT count(*) FROM time_partition").await,
            partitions,
            "written down"
        );
    }
}

#[tokio::test]
async fn partitions_are_made_ahead_once_by_servers_that_race() {
    let fixture = Fixture::new().await;
    let others: Vec<_> = (0..6)
        .map(|_| (fixture.url.clone(), fixture.workspace.clone()))
        .map(|(url, workspace)| tokio::spawn(async move { ledger(&url).await.make_partitions_ahead(&workspace).await }))
        .collect();
    for other in others {
        other.await.expect("no panic").expect("it makes them, or finds them");
    }
    assert_eq!(fixture.one(PARTITIONS).await, 3, "today and two days ahead");
    let today = "SELECT count(*) FROM time_partition WHERE from_time <= now() AND to_time > now() + interval '23 hours' - (now() - date_trunc('day', now(), 'UTC'))";
    assert_eq!(fixture.one(today).await, i64::from(!is_timescale().await));
    for table in ["chunk_signal", "envelope"] {
        assert_eq!(
            fixture.one(&PARTITIONS.replace("'chunk'", &format!("'{table}'"))).await,
            3,
            "{table}"
        );
    }
    let indexed = "SELECT count(*) FROM pg_index i JOIN pg_inherits p ON p.inhrelid = i.indrelid WHERE p.inhparent = 'chunk'::regclass";
    assert_eq!(fixture.one(indexed).await, 3 * 4, "each has every index");
    let external = "SELECT count(*) FROM pg_attribute a JOIN pg_inherits p ON p.inhrelid = a.attrelid WHERE p.inhparent = 'chunk_signal'::regclass AND attname = 'payload' AND attstorage = 'e'";
    assert_eq!(fixture.one(external).await, 3, "payloads are not compressed again");
}

#[tokio::test]
async fn a_partition_that_retention_dropped_is_made_again() {
    let fixture = Fixture::new().await;
    let (mut stream, owner) = (Stream::new(), owner());
    let start = fixture.open(&stream, owner).await.at;
    stream.utc_ns = 1_000_000_000_000_000_000;
    let first = vec![stream.few_samples()];
    assert_eq!(fixture.commit(&[entry(&stream, owner, start, first)]).await, [true]);
    // Another server's retention: this one does not know.
    fixture
        .run(if is_timescale().await {
            "SELECT public.drop_chunks(format('%I.%I', current_schema(), big), older_than => '2010-01-01Z'::timestamptz)
               FROM unnest(ARRAY['chunk', 'chunk_signal', 'envelope']) AS big"
        } else {
            "DROP TABLE chunk_20000101, chunk_signal_20000101, envelope_20000101; DELETE FROM time_partition WHERE from_time = '2000-01-01Z'"
        })
        .await;
    let before = stream.at;
    let second = vec![stream.few_samples()];
    let missing = fixture
        .one("SELECT count(*) FROM time_partition WHERE from_time < '2010-01-01'")
        .await;
    assert_eq!(missing, 0, "the name above is right");
    assert_eq!(
        fixture.commit(&[entry(&stream, owner, before, second)]).await,
        [true],
        "not the data's fault"
    );
    assert_eq!(fixture.rows_of(&stream).await, 1);
}

#[tokio::test]
async fn a_partition_that_a_person_dropped_or_detached_is_made_again() {
    let fixture = Fixture::new().await;
    let (mut stream, owner) = (Stream::new(), owner());
    let mut before = fixture.open(&stream, owner).await.at;
    let by_hand: &[&str] = if is_timescale().await {
        &[
            "SELECT",
            "SELECT public.drop_chunks(current_schema() || '.chunk_signal', older_than => '2010-01-01Z'::timestamptz)",
            "SELECT public.drop_chunks(current_schema() || '.chunk', older_than => '2010-01-01Z'::timestamptz)",
        ]
    } else {
        &[
            "SELECT",
            "DROP TABLE chunk_signal_20000101",
            "DROP TABLE chunk_20000101",
            "DROP TABLE chunk_20000101, chunk_signal_20000101, envelope_20000101",
            "ALTER TABLE chunk DETACH PARTITION chunk_20000101",
            "ALTER TABLE chunk DETACH PARTITION chunk_20000101_2; ALTER TABLE chunk_signal DETACH PARTITION chunk_signal_20000101",
        ]
    };
    for sql in by_hand {
        // `time_partition` still says that it is there.
        fixture.run(sql).await;
        stream.utc_ns = 1_000_000_000_000_000_000;
        let rows = vec![stream.few_samples()];
        let stored = fixture.commit(&[entry(&stream, owner, before, rows)]).await;
        assert_eq!(stored, [true], "after {sql}");
        before = stream.at;
    }
    if is_timescale().await {
        return;
    }
    let detached = "SELECT count(*) FROM pg_class WHERE relname LIKE 'chunk_20000101%' AND relkind = 'r' AND NOT relispartition AND relnamespace = current_schema()::regnamespace";
    assert_eq!(fixture.one(detached).await, 2, "what a person keeps is left alone");
}

#[tokio::test]
async fn making_partitions_waits_for_no_reader_and_no_writer() {
    let fixture = Fixture::new().await;
    let (mut stream, owner) = (Stream::new(), owner());
    let start = fixture.open(&stream, owner).await.at;
    let mut reader = fixture.sql().await;
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM chunk; SELECT count(*) FROM chunk_signal")
        .execute(&mut reader)
        .await
        .expect("it reads");
    let mut writer = fixture.sql().await;
    sqlx::raw_sql("BEGIN; DELETE FROM chunk WHERE seq = -1")
        .execute(&mut writer)
        .await
        .expect("it writes");
    let rows = vec![stream.few_samples()];
    assert_eq!(
        fixture.commit(&[entry(&stream, owner, start, rows)]).await,
        [true],
        "both are still open"
    );
}
