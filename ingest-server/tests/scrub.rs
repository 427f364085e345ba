//! A scrub finds each thing that is not as it was captured, and nothing where nothing is wrong.

mod captured;
mod common;

use std::sync::Arc;

use captured::{Captured, Dice};
use common::{Fixture, Stream, entry, owner};
use sqlx::{AssertSqlSafe, Row as _};
use wavekeep_server::ledger::{Quarantine, Row};
use wavekeep_server::scrub::{Cursor, Event, Order, Totals, run};
use wavekeep_server::store::Workspace;
use wavekeep_server::store::quarantine::{KeptFilter, oldest};
use wavekeep_server::store::replay::replay;

const BIG: [&str; 4] = ["chunk", "chunk_signal", "envelope", "quarantine"];

async fn workspace(fixture: &Fixture) -> Arc<Workspace> {
    let database = fixture.ledger.database();
    database.workspace(&fixture.workspace).await.expect("it is there")
}

/// What is found wrong, and what was looked at.
async fn scrub(fixture: &Fixture) -> (Vec<String>, Totals) {
    scrub_from(fixture, Cursor::START, usize::MAX)
        .await
        .expect("it comes to its end")
}

/// The same from a cursor on; or, after so many pages, where it can be taken up again.
async fn scrub_from(fixture: &Fixture, from: Cursor, pages: usize) -> Result<(Vec<String>, Totals), Cursor> {
    let (mut wrong, mut seen, mut last) = (Vec::new(), 0, from);
    let tell = |event: Event<'_>| match event {
        Event::Wrong(stream, device, what) => {
            wrong.push(format!("{device} {stream} {:?} {}", what.seq, what.what));
            Ok(())
        }
        Event::Progress(_, cursor) => {
            (seen, last) = (seen + 1, *cursor);
            if seen == pages {
                return Err(std::io::Error::other("that was enough"));
            }
            Ok(())
        }
    };
    let database = fixture.ledger.database();
    let totals = run(database, &*workspace(fixture).await, &Order::default(), from, tell).await;
    match totals {
        Ok(totals) => {
            // Those of before are counted too.
            assert!(totals.findings as usize == wrong.len() || from != Cursor::START);
            Ok((wrong, totals))
        }
        Err(error) => {
            assert!(error.to_string().contains("enough"), "{error}");
            let text = serde_json::to_string(&last).expect("it can be written");
            assert_eq!(serde_json::from_str::<Cursor>(&text).expect("it can be read"), last);
            Err(last)
        }
    }
}

fn quarantined(mut row: Row) -> Row {
    let why = "a rule that was too strict".into();
    row.quarantine = Some(Quarantine { why });
    row.folds.clear();
    row
}

/// Chunks with gaps, samples that are not finite, and some in quarantine.
async fn stored(fixture: &Fixture, rate_hz: f64, seed: u64, chunks: u64, longest: u64) -> Captured {
    let (mut dice, owner) = (Dice(seed), owner());
    let mut captured = Captured::new(rate_hz);
    fixture.open(&captured.stream, owner).await;
    for batch in 0..chunks / 8 {
        let before = captured.stream.at;
        let mut rows: Vec<Row> = (0..7).map(|_| captured.chunk(&mut dice, longest)).collect();
        let room = 65_536 - captured.stream.at.next_sample % 65_536;
        let values: Vec<f64> = (0..longest.min(room)).map(|value| (value + batch) as f64).collect();
        rows.push(captured.samples(&values));
        if batch % 3 == 1 {
            let last = rows.pop().expect("there is one");
            rows.push(quarantined(last));
        }
        let entry = entry(&captured.stream, owner, before, rows);
        assert_eq!(fixture.commit(&[entry]).await, [true]);
    }
    captured
}

/// A workspace with all kinds of things in it.
async fn filled() -> (Fixture, Vec<Captured>) {
    let fixture = Fixture::new().await;
    let all = vec![
        stored(&fixture, 1_000.0, 1, 96, 700).await,
        stored(&fixture, 1.0, 2, 16, 90).await,
        stored(&fixture, 1e6, 3, 48, 60_000).await,
    ];
    // Half of what is in quarantine leaves it.
    let (database, workspace) = (fixture.ledger.database(), workspace(&fixture).await);
    let kept = oldest(database, &workspace, &KeptFilter::default(), None, 1_000).await;
    for kept in kept.expect("it reads").iter().step_by(2) {
        replay(database, &workspace, kept.id, ("a test", false))
            .await
            .expect("it answers");
    }
    for table in BIG {
        fixture
            .run(&format!("CREATE TABLE backup_{table} AS TABLE {table}"))
            .await;
    }
    (fixture, all)
}

async fn restore(fixture: &Fixture) {
    for table in BIG {
        let columns = format!(
            "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
              WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = ''"
        );
        let mut sql = fixture.sql().await;
        let row = sqlx::query(AssertSqlSafe(columns))
            .fetch_one(&mut sql)
            .await
            .expect("it answers");
        let columns: String = row.get(0);
        let again =
            format!("DELETE FROM {table}; INSERT INTO {table} ({columns}) SELECT {columns} FROM backup_{table}");
        fixture.run(&again).await;
    }
}

#[tokio::test]
async fn nothing_is_found_where_nothing_is_wrong() {
    let (fixture, all) = filled().await;
    let (wrong, totals) = scrub(&fixture).await;
    assert_eq!(wrong, [""; 0]);
    let samples: u64 = all.iter().map(|captured| captured.axis.len() as u64).sum();
    assert_eq!((totals.streams, totals.chunks, totals.samples), (3, 160, samples));
    assert_eq!(totals.unfolded, 0);
}

/// From every page on, what is found is what the whole finds.
#[tokio::test]
async fn a_scrub_goes_on_where_it_stopped() {
    let (fixture, _) = filled().await;
    // The last rows of each table's first stream are far behind the first page.
    for (table, column) in [("chunk_signal", "sum"), ("envelope", "sum")] {
        fixture
            .run(&format!(
                "UPDATE {table} SET {column} = {column} + 1
                  WHERE ctid IN (SELECT ctid FROM {table} ORDER BY stream_id, start_time DESC LIMIT 1)"
            ))
            .await;
    }
    let (all, totals) = scrub(&fixture).await;
    assert!(all.len() >= 2, "{all:?}");
    let (mut cursor, mut stops) = (Cursor::START, 0);
    let found = loop {
        match scrub_from(&fixture, cursor, 1).await {
            Err(next) => {
                assert!(next != cursor, "it gets on");
                (cursor, stops) = (next, stops + 1);
                if let Ok(rest) = scrub_from(&fixture, cursor, usize::MAX).await {
                    assert_eq!(rest.1, totals, "after {stops} stops");
                }
            }
            Ok(found) => break found,
        }
        assert!(stops < 100);
    };
    assert!(stops >= 3, "{stops}");
    assert_eq!(found.1, totals);
}

/// SQL, and a word of what must be found.
const DAMAGES: &[(&str, &str)] = &[
    ("DELETE FROM chunk WHERE seq = 9", "seqs 9 to 9"),
    ("DELETE FROM chunk WHERE seq = 1", "seqs 1 to 1"),
    (
        "DELETE FROM chunk c WHERE seq = (SELECT max(seq) FROM chunk m WHERE m.stream_id = c.stream_id)",
        "up to its watermark",
    ),
    ("DELETE FROM chunk", "seqs 1 to"),
    ("INSERT INTO chunk SELECT * FROM chunk WHERE seq = 9", "twice"),
    (
        "UPDATE chunk SET seq = 19 - seq, first_seq = 19 - first_seq WHERE seq IN (9, 10)",
        "header says",
    ),
    (
        "UPDATE chunk c SET header = o.header FROM backup_chunk o WHERE o.stream_id = c.stream_id AND o.seq = 19 - c.seq AND c.seq IN (9, 10)",
        "header says",
    ),
    (
        "UPDATE chunk SET kind = 3 - kind WHERE seq = 9 AND kind < 3",
        "its kind",
    ),
    ("UPDATE chunk SET reason = 20 - reason WHERE seq = 9", "its reason"),
    (
        "UPDATE chunk SET first_sample = first_sample + 1 WHERE seq = 9",
        "first_sample",
    ),
    (
        "UPDATE chunk SET sample_count = sample_count + 1 WHERE seq = 9",
        "sample_count",
    ),
    ("UPDATE chunk SET utc_ns = utc_ns + 1 WHERE seq = 9", "utc_ns"),
    (
        "UPDATE chunk SET start_time = start_time + interval '1 us' WHERE seq = 9",
        "start_time",
    ),
    (
        "UPDATE chunk SET stored_bytes = stored_bytes + 1 WHERE seq = 8",
        "stored_bytes",
    ),
    (
        "UPDATE chunk SET quarantined = NOT quarantined WHERE seq = 8",
        "quarantine",
    ),
    (
        "UPDATE chunk SET header = '\\x00' WHERE seq = 9",
        "header cannot be read",
    ),
    (
        "UPDATE chunk SET header = header || '\\x9a3e0100' WHERE seq = 9",
        "header",
    ),
    (
        "DELETE FROM chunk_signal WHERE seq = 8 AND signal < 60000",
        "has no row",
    ),
    (
        "DELETE FROM chunk_signal WHERE seq = 8 AND signal > 60000",
        "has no row",
    ),
    (
        "INSERT INTO chunk_signal SELECT * FROM chunk_signal WHERE seq = 8",
        "does not name",
    ),
    (
        "UPDATE chunk_signal c SET payload = o.payload FROM backup_chunk_signal o
          WHERE o.stream_id = c.stream_id AND o.signal = c.signal AND o.seq = c.seq + 24 AND c.seq = 8",
        "hashed at capture",
    ),
    ("UPDATE chunk_signal SET payload = NULL WHERE seq = 8", "header says"),
    ("UPDATE chunk_signal SET encoding = 2 WHERE seq = 8", "header says"),
    (
        "UPDATE chunk_signal SET absent_reason = 21 WHERE seq = 8 AND signal < 60000",
        "header says",
    ),
    (
        "UPDATE chunk_signal SET sample_type = 2 WHERE seq = 8 AND signal < 60000",
        "header says",
    ),
    (
        "UPDATE chunk_signal SET first_sample = first_sample + 1 WHERE seq = 8",
        "header says",
    ),
    (
        "UPDATE chunk_signal SET finite_count = finite_count - 1 WHERE seq = 8",
        "envelope",
    ),
    (
        "UPDATE chunk_signal SET finite_count = NULL WHERE seq = 8",
        "no envelope",
    ),
    ("UPDATE chunk_signal SET min = min - 1e-9 WHERE seq = 8", "envelope"),
    ("UPDATE chunk_signal SET max = max + 1e-9 WHERE seq = 8", "envelope"),
    ("UPDATE chunk_signal SET sum = sum + 1e-6 WHERE seq = 8", "envelope"),
    (
        "UPDATE chunk_signal SET sumsq = sumsq * 1.0001 WHERE seq = 8",
        "envelope",
    ),
    ("UPDATE chunk_signal SET utc_ns = utc_ns + 1 WHERE seq = 8", "points"),
    (
        "UPDATE chunk_signal SET point_level = point_level + 1 WHERE seq = 8",
        "points",
    ),
    (
        "UPDATE chunk_signal SET points = points || '\\x00' WHERE seq = 8",
        "points",
    ),
    (
        "UPDATE chunk_signal c SET signal = signal + 7 WHERE seq = 8 AND signal < 60000",
        "has no row",
    ),
    ("DELETE FROM envelope e WHERE bucket = 1", "is missing"),
    ("INSERT INTO envelope SELECT * FROM envelope WHERE bucket = 1", "twice"),
    ("UPDATE envelope SET bucket = 3 - bucket WHERE bucket IN (1, 2)", "fold"),
    ("UPDATE envelope SET level = 15 WHERE bucket = 1", "is missing"),
    (
        "UPDATE envelope SET sample_count = sample_count - 1 WHERE bucket = 1",
        "fold",
    ),
    (
        "UPDATE envelope SET finite_count = finite_count - 1 WHERE bucket = 1",
        "fold",
    ),
    ("UPDATE envelope SET min = min - 1e-9 WHERE bucket = 1", "fold"),
    ("UPDATE envelope SET max = max + 1e-9 WHERE bucket = 1", "fold"),
    ("UPDATE envelope SET sum = sum + 1e-6 WHERE bucket = 1", "fold"),
    ("UPDATE envelope SET sumsq = sumsq * 1.0001 WHERE bucket = 1", "fold"),
    (
        "UPDATE envelope SET min_exact = 'NaN' WHERE bucket = 1",
        "cannot be read",
    ),
    ("DELETE FROM quarantine", "quarantine does not hold it"),
    ("UPDATE quarantine SET digest = header", "another chunk"),
];

#[tokio::test]
async fn each_damage_is_found() {
    let (fixture, _) = filled().await;
    for (sql, word) in DAMAGES {
        fixture.run(sql).await;
        let (wrong, _) = scrub(&fixture).await;
        assert!(wrong.iter().any(|what| what.contains(word)), "{sql}: {word}: {wrong:?}");
        restore(&fixture).await;
    }
    let (wrong, _) = scrub(&fixture).await;
    assert_eq!(wrong, [""; 0], "everything was undone");
}

/// The row of a stream against its chunks.
#[tokio::test]
async fn what_a_stream_says_of_itself_is_checked() {
    let (fixture, _) = filled().await;
    for (there, back, word) in [
        (
            "watermark = watermark - 1",
            "watermark = watermark + 1",
            "above its watermark",
        ),
        ("watermark = watermark + 1", "watermark = watermark - 1", "are missing"),
        (
            "next_sample = next_sample + 1",
            "next_sample = next_sample - 1",
            "does not stand",
        ),
        (
            "sample_count = sample_count - 1",
            "sample_count = sample_count + 1",
            "samples",
        ),
        (
            "stored_bytes = stored_bytes - 1",
            "stored_bytes = stored_bytes + 1",
            "bytes",
        ),
        (
            "quarantined = quarantined + 1",
            "quarantined = quarantined - 1",
            "in quarantine",
        ),
        ("ended = true", "ended = false", "does not stand"),
        (
            "digest = set_byte(digest, 3, 255 - get_byte(digest, 3))",
            "digest = set_byte(digest, 3, 255 - get_byte(digest, 3))",
            "does not stand",
        ),
        (
            "definition = set_byte(definition, 5, 255 - get_byte(definition, 5))",
            "definition = set_byte(definition, 5, 255 - get_byte(definition, 5))",
            "",
        ),
    ] {
        fixture.run(&format!("UPDATE stream SET {there}")).await;
        let (wrong, _) = scrub(&fixture).await;
        assert!(
            wrong.len() >= 3 && wrong.iter().any(|what| what.contains(word)),
            "{there}: {wrong:?}"
        );
        fixture.run(&format!("UPDATE stream SET {back}")).await;
    }
    assert_eq!(scrub(&fixture).await.0, [""; 0]);
}

/// Rows that no page begins after: those that are there twice where a page ends, and those whose seq no chunk has.
#[tokio::test]
async fn damage_between_two_pages_is_found_and_comes_to_an_end() {
    let (fixture, _) = filled().await;
    for damage in [
        "INSERT INTO chunk SELECT * FROM chunk WHERE seq = 64",
        "UPDATE chunk SET quarantined = true WHERE seq = 64; INSERT INTO chunk SELECT * FROM chunk WHERE seq = 64",
        "UPDATE chunk SET seq = -seq WHERE quarantined",
    ] {
        fixture.run(damage).await;
        let scrub = tokio::time::timeout(std::time::Duration::from_secs(60), scrub(&fixture)).await;
        let (wrong, _) = scrub.expect("it comes to its end");
        let told = |what: &String| what.contains("twice") || what.contains("are missing");
        assert!(wrong.iter().any(told), "{damage}: {wrong:?}");
        restore(&fixture).await;
    }
}

/// Any bit of any row's bytes.
#[tokio::test]
async fn each_flipped_bit_is_found() {
    let (fixture, _) = filled().await;
    assert_eq!(scrub(&fixture).await.0, [""; 0]);
    let mut dice = Dice(7);
    for round in 0..140 {
        let (table, column) = [
            ("chunk", "header"),
            ("chunk", "digest"),
            ("chunk", "hash"),
            ("chunk_signal", "hash"),
            ("chunk_signal", "payload"),
            ("chunk_signal", "points"),
            ("envelope", "children"),
        ][round % 7];
        // The quarter of a row's bytes, and the row, by dice.
        let (row, place, bit) = (dice.below(1 << 30), dice.below(1 << 30), dice.below(8));
        let which = format!(
            "SELECT ctid, tableoid, {place} % (octet_length({column}) * 8) / 8 * 8 + {bit} AS bit FROM {table}
              WHERE octet_length({column}) > 0 ORDER BY stream_id, start_time, ctid OFFSET {row} % (SELECT count(*) FROM {table} WHERE octet_length({column}) > 0) LIMIT 1"
        )
;
        let flip = format!(
            "UPDATE {table} u SET {column} = set_bit(u.{column}, w.bit, 1 - get_bit(u.{column}, w.bit))
               FROM ({which}) w WHERE u.ctid = w.ctid AND u.tableoid = w.tableoid"
        );
        fixture.run(&flip).await;
        let (wrong, _) = scrub(&fixture).await;
        assert!(!wrong.is_empty(), "round {round}: {flip}");
        restore(&fixture).await;
    }
}

/// What a server of another stream and retention do meanwhile is no finding.
#[tokio::test]
async fn an_older_prefix_may_be_dropped_where_there_is_a_retention() {
    let fixture = Fixture::new().await;
    let captured = stored(&fixture, 1_000.0, 5, 40, 700).await;
    let drop = "DELETE FROM chunk WHERE seq < 20; DELETE FROM chunk_signal WHERE seq < 20;
                DELETE FROM envelope WHERE start_time < (SELECT start_time FROM chunk WHERE seq = 20)";
    fixture.run(drop).await;
    let (wrong, _) = scrub(&fixture).await;
    assert!(wrong.iter().any(|what| what.contains("seqs 1 to 19")), "{wrong:?}");
    let keeping = format!(
        "UPDATE wavekeep.workspace SET retention_days = 1 WHERE name = '{}'",
        fixture.workspace
    );
    fixture.run(&keeping).await;
    let database = wavekeep_server::store::Database::connect(&fixture.url, 2)
        .await
        .expect("it answers");
    let workspace = database.workspace(&fixture.workspace).await.expect("it is there");
    let mut wrong = Vec::new();
    let tell = |event: Event<'_>| {
        if let Event::Wrong(_, _, what) = event {
            wrong.push(what.what.clone());
        }
        Ok(())
    };
    let totals = run(&database, &workspace, &Order::default(), Cursor::START, tell)
        .await
        .expect("it answers");
    assert_eq!(wrong, [""; 0]);
    assert_eq!(totals.chunks, captured.stream.at.seq - 19);
}

/// Streams whose last chunk is an end, and one without any.
#[tokio::test]
async fn streams_that_ended_and_empty_ones_are_whole() {
    let fixture = Fixture::new().await;
    let mut captured = stored(&fixture, 1_000.0, 9, 16, 100).await;
    let (before, owner) = (captured.stream.at, owner());
    fixture.open(&captured.stream, owner).await;
    let end = captured.stream.end();
    assert_eq!(
        fixture
            .commit(&[entry(&captured.stream, owner, before, vec![end])])
            .await,
        [true]
    );
    fixture.open(&Stream::of(common::definition()), owner).await;
    let (wrong, totals) = scrub(&fixture).await;
    assert_eq!(wrong, [""; 0]);
    assert_eq!((totals.streams, totals.chunks), (2, 17));
}
