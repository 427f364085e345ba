//! What a commit on a real Postgres stores: every byte, what is in quarantine, and nothing when it is refused.

mod common;

use common::{Fixture, Stream, entry, one_committed, owner};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use wavekeep_proto::chunk::Reason;
use wavekeep_proto::hash::chunk_hash;
use wavekeep_proto::wire::header_to_bytes;
use wavekeep_server::ledger::{CommitError, Ledger, Quarantine, Row};

/// Compared as bits: NaN is data.
async fn assert_stored(sql: &mut PgConnection, row: &Row) {
    let header = &row.chunk.header;
    let stored =
        "SELECT header, digest, hash, utc_ns, floor(extract(epoch FROM start_time) * 1000000)::bigint AS start_us
                    FROM chunk WHERE seq = $1";
    let stored = sqlx::query(stored).bind(header.seq as i64);
    let stored = stored.fetch_one(&mut *sql).await.expect("it is there");
    assert_eq!(stored.get::<&[u8], _>("header"), &header_to_bytes(header)[..]);
    assert_eq!(stored.get::<&[u8], _>("digest"), row.chunk.digest.as_bytes());
    assert_eq!(stored.get::<&[u8], _>("hash"), chunk_hash(header).as_bytes());
    assert_eq!(stored.get::<i64, _>("utc_ns"), header.utc_ns);
    assert_eq!(stored.get::<i64, _>("start_us"), header.utc_ns.div_euclid(1_000));
    let columns = "SELECT payload, encoding, sample_type, sample_count FROM chunk_signal WHERE seq = $1 AND signal < 65536 ORDER BY signal";
    let columns = sqlx::query(columns).bind(header.seq as i64);
    let columns = columns.fetch_all(sql).await.expect("they are there");
    assert_eq!(columns.len(), 2);
    for (column, sent) in columns.iter().zip(&row.chunk.columns) {
        assert!(column.get::<&[u8], _>("payload") == &sent[..], "bit for bit");
        assert_eq!(
            (column.get::<i16, _>("encoding"), column.get::<i16, _>("sample_type")),
            (1, 1)
        );
        assert_eq!(column.get::<i64, _>("sample_count"), header.count as i64);
    }
}

#[tokio::test]
async fn every_byte_comes_back() {
    let fixture = Fixture::new().await;
    let (mut stream, owner) = (Stream::new(), owner());
    let start = fixture.open(&stream, owner).await.at;
    // Signalling and quiet NaNs with payloads, -0.0, infinities, subnormals; and one column larger than the copy's buffer.
    let odd = [
        0x7f80_0001,
        0xffc1_2345,
        0x7fc0_0000,
        0x8000_0000,
        0xff80_0000,
        0x0000_0001,
        0x7f7f_ffff,
    ];
    let large: Vec<u32> = (0..65_529u32).map(|number| number.wrapping_mul(0x9e37_79b9)).collect();
    let sent = vec![
        stream.samples(&odd),
        stream.samples(&large),
        stream.with_marker(b"\0note\xff"),
    ];
    assert_eq!(
        fixture.commit(&[entry(&stream, owner, start, sent.clone())]).await,
        [true]
    );
    let mut sql = fixture.sql().await;
    for row in &sent {
        assert_stored(&mut sql, row).await;
    }
    let stored: i64 = sent
        .iter()
        .flat_map(|row| &row.chunk.columns)
        .map(|column| column.len() as i64)
        .sum();
    assert_eq!(fixture.one("SELECT stored_bytes FROM stream").await, stored);
    assert_eq!(
        fixture
            .one("SELECT sum(octet_length(payload))::bigint FROM chunk_signal")
            .await,
        stored
    );

    let marker = "SELECT sample, time_ns, content, y, \"group\", kind FROM marker";
    let marker = sqlx::query(marker).fetch_one(&mut sql).await.expect("there is one");
    let header = &sent[2].chunk.header;
    assert_eq!(marker.get::<i64, _>("sample"), header.first_sample as i64 + 1);
    assert_eq!(marker.get::<i64, _>("time_ns"), header.utc_ns + 1_000);
    assert_eq!(marker.get::<&[u8], _>("content"), b"\0note\xff");
    assert_eq!(marker.get::<f64, _>("y").to_bits(), f64::NAN.to_bits());
    assert_eq!((marker.get::<i16, _>("group"), marker.get::<i32, _>("kind")), (2, 1));
}

#[tokio::test]
async fn i14_a_quarantined_chunk_is_chained_and_its_bytes_are_kept_apart() {
    let fixture = Fixture::new().await;
    let (mut stream, owner) = (Stream::new(), owner());
    let start = fixture.open(&stream, owner).await.at;
    let mut poison = stream.few_samples();
    poison.chunk.columns = vec![vec![0xde; 70_000].into(), vec![0xad].into()];
    poison.quarantine = Some(Quarantine {
        why: "column current: not zstd \0".into(),
    });
    let mut empty = stream.half_samples();
    empty.chunk.columns.clear();
    empty.quarantine = Some(Quarantine {
        why: "no columns at all".into(),
    });
    let rows = vec![poison.clone(), empty, stream.few_samples()];
    assert_eq!(fixture.commit(&[entry(&stream, owner, start, rows)]).await, [true]);
    assert_eq!(fixture.position(&stream).await, stream.at);
    assert_eq!(fixture.one("SELECT count(*) FROM chunk WHERE quarantined").await, 2);
    assert_eq!(
        fixture.one("SELECT count(*) FROM chunk_signal").await,
        3,
        "of the good one only: current, voltage and power"
    );
    assert_eq!(
        fixture
            .one("SELECT quarantined * 100 + gap_sample_count * 10 + sample_count FROM stream")
            .await,
        263
    );
    let sql = "SELECT columns, why, digest FROM quarantine ORDER BY seq";
    let kept = sqlx::query(sql)
        .fetch_all(&mut fixture.sql().await)
        .await
        .expect("the query runs");
    let columns: Vec<Vec<u8>> = kept[0].get("columns");
    assert!(
        columns
            .iter()
            .zip(&poison.chunk.columns)
            .all(|(kept, sent)| kept == sent),
        "as they were sent"
    );
    assert_eq!(kept[0].get::<&str, _>("why"), "column current: not zstd \u{FFFD}");
    assert_eq!(kept[0].get::<&[u8], _>("digest"), poison.chunk.digest.as_bytes());
    assert_eq!(kept[1].get::<Vec<Vec<u8>>, _>("columns").len(), 0);
}

#[tokio::test]
async fn bad_data_is_told_apart_and_leaves_nothing() {
    let fixture = Fixture::new().await;
    let (stream, _, follows) = one_committed(&fixture).await;
    fixture
        .run("ALTER TABLE chunk ADD CONSTRAINT no_seq_2 CHECK (seq <> 2)")
        .await;
    let refused = fixture
        .ledger
        .commit(&fixture.workspace, std::slice::from_ref(&follows))
        .await;
    assert!(matches!(refused, Err(CommitError::BadData(_))), "{refused:?}");
    assert_eq!(
        (fixture.position(&stream).await, fixture.rows_of(&stream).await),
        (stream.at, 1)
    );
    fixture.run("ALTER TABLE chunk DROP CONSTRAINT no_seq_2").await;
    assert_eq!(
        fixture.commit(&[follows]).await,
        [true],
        "rolled back, so the same entry follows"
    );
}

#[tokio::test]
async fn numbers_that_no_column_holds_are_bad_data() {
    let fixture = Fixture::new().await;
    let (mut stream, owner, _) = one_committed(&fixture).await;
    let before = stream.at;
    let rows = vec![stream.gap(u64::MAX / 2, Reason::SourceLoss)];
    let refused = fixture
        .ledger
        .commit(&fixture.workspace, &[entry(&stream, owner, before, rows)])
        .await;
    assert!(matches!(refused, Err(CommitError::BadData(_))), "{refused:?}");
}
