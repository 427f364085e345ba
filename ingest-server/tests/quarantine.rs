//! Chunks out of quarantine: afterwards every row is what it would be had they never been there.

mod captured;
mod common;
mod query_support;

use std::sync::Arc;

use captured::{Captured, Dice};
use common::{Fixture, Stream, entry, owner};
use query_support::{Asker, by_stream};
use sqlx::{AssertSqlSafe, Row as _};
use wavekeep_proto::chunk::Reason;
use wavekeep_proto::id::Owner;
use wavekeep_server::ledger::{Quarantine, Row};
use wavekeep_server::store::quarantine::{KeptFilter, newest, oldest};
use wavekeep_server::store::replay::{Replayed, replay};
use wavekeep_server::store::{PostgresLedger, Workspace};

fn quarantined(mut row: Row) -> Row {
    let why = "a rule that was too strict".into();
    row.quarantine = Some(Quarantine { why });
    row.folds.clear();
    row
}

async fn workspace(fixture: &Fixture) -> Arc<Workspace> {
    let database = fixture.ledger.database();
    database.workspace(&fixture.workspace).await.expect("it is there")
}

/// All that is in quarantine, in an order of the dice's.
async fn ids(fixture: &Fixture, dice: &mut Dice) -> Vec<i64> {
    let (database, workspace) = (fixture.ledger.database(), workspace(fixture).await);
    let kept = oldest(database, &workspace, &KeptFilter::default(), None, 1_000).await;
    let mut ids: Vec<i64> = kept.expect("it reads").iter().map(|kept| kept.id).collect();
    for at in (1..ids.len()).rev() {
        ids.swap(at, dice.below(at as u64 + 1) as usize);
    }
    ids
}

async fn replayed(fixture: &Fixture, id: i64) -> Replayed {
    let (database, workspace) = (fixture.ledger.database(), workspace(fixture).await);
    replay(database, &workspace, id, ("a test", false))
        .await
        .expect("it answers")
}

/// What the tables hold, but for when it was loaded.
async fn rows(fixture: &Fixture) -> Vec<String> {
    let mut sql = fixture.sql().await;
    let mut rows = Vec::new();
    for (table, order) in [
        ("chunk", "seq"),
        ("chunk_signal", "seq, signal"),
        ("envelope", "signal, level, bucket"),
        ("stream", "id"),
        ("marker", "sample"),
    ] {
        let select = format!(
            "SELECT '{table} ' || (to_jsonb(t) - '{{loaded_at,owner,created_at,opened_at,committed_at,id}}'::text[])::text
               FROM {table} t ORDER BY {order}"
        );
        let found = sqlx::query(AssertSqlSafe(select))
            .fetch_all(&mut sql)
            .await
            .expect("it reads");
        rows.extend(found.iter().map(|row| row.get::<String, _>(0)));
    }
    rows
}

async fn assert_same(never: &Fixture, replayed: &Fixture, what: &str) {
    let (expected, found) = (rows(never).await, rows(replayed).await);
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected, found, "{what}");
    }
    assert_eq!(expected.len(), found.len(), "{what}");
}

/// The same capture in two workspaces: in one, some chunks are in quarantine for a while.
struct Pair {
    never: Fixture,
    fixture: Fixture,
    captured: Captured,
    dice: Dice,
    owner: Owner,
}

impl Pair {
    async fn new(rate_hz: f64, seed: u64) -> Self {
        let pair = Self {
            never: Fixture::new().await,
            fixture: Fixture::new().await,
            captured: Captured::new(rate_hz),
            dice: Dice(seed),
            owner: owner(),
        };
        pair.open().await;
        pair
    }

    async fn open(&self) {
        self.never.open(&self.captured.stream, self.owner).await;
        self.fixture.open(&self.captured.stream, self.owner).await;
    }

    /// Some chunks, to both; one of `poisoned` goes into quarantine.
    async fn commit(&mut self, by: &PostgresLedger, longest: u64, poisoned: u64) {
        let before = self.captured.stream.at;
        let rows: Vec<Row> = (0..1 + self.dice.below(4))
            .map(|_| self.captured.chunk(&mut self.dice, longest))
            .collect();
        self.commit_rows(by, before, rows, poisoned).await;
    }

    async fn commit_rows(
        &mut self,
        by: &PostgresLedger,
        before: wavekeep_proto::chunk::Position,
        rows: Vec<Row>,
        poisoned: u64,
    ) {
        let stream = &self.captured.stream;
        let good = entry(stream, self.owner, before, rows.clone());
        assert_eq!(self.never.commit(&[good]).await, [true]);
        let mut some = rows;
        for row in &mut some {
            if !row.chunk.columns.is_empty() && self.dice.below(poisoned) == 0 {
                *row = quarantined(row.clone());
            }
        }
        let some = entry(stream, self.owner, before, some);
        assert_eq!(self.fixture.commit_by(by, &[some]).await, [true]);
    }

    async fn replay_all(&mut self) -> usize {
        let ids = ids(&self.fixture, &mut self.dice).await;
        for id in &ids {
            assert_eq!(replayed(&self.fixture, *id).await, Replayed::InPlace);
        }
        ids.len()
    }
}

/// Replays at random moments between the commits of a live writer, and of others that take over.
async fn grow(rate_hz: f64, longest: u64, until: u64, seed: u64) {
    let mut pair = Pair::new(rate_hz, seed).await;
    let ledgers: Vec<PostgresLedger> = (0..2)
        .map(|_| PostgresLedger::new(pair.fixture.ledger.database().clone()))
        .collect();
    let (mut writer, mut count) = (0, 0);
    while (pair.captured.axis.len() as u64) < until {
        pair.commit(&ledgers[writer], longest, 4).await;
        match pair.dice.below(8) {
            0 => {
                pair.owner = owner();
                pair.open().await;
            }
            1 => writer = 1 - writer,
            2 | 3 => {
                for id in ids(&pair.fixture, &mut pair.dice).await {
                    if pair.dice.below(3) > 0 {
                        count += 1;
                        assert_eq!(replayed(&pair.fixture, id).await, Replayed::InPlace);
                    }
                }
            }
            _ => {}
        }
    }
    count += pair.replay_all().await;
    assert!(count > 3, "{count} were replayed");
    let what = format!("{rate_hz} Hz, seed {seed}");
    assert_same(&pair.never, &pair.fixture, &what).await;
    // And on from there, by the writer that was there all the time.
    for _ in 0..6 {
        pair.commit(&ledgers[writer], longest, 1_000_000).await;
    }
    pair.replay_all().await;
    assert_same(&pair.never, &pair.fixture, &format!("{what}, and on")).await;
}

#[tokio::test]
async fn i8_replays_beside_a_live_writer_leave_slow_streams_as_if_nothing_had_been() {
    for seed in 0..4 {
        grow(1.0, 9, 1_200, seed).await;
        grow(1_000.0, 700, 15_000, seed + 100).await;
    }
}

#[tokio::test]
async fn i8_replays_beside_a_live_writer_leave_fast_streams_as_if_nothing_had_been() {
    grow(1e5, 50_000, 1_500_000, 7).await;
    grow(1e6, 65_536, 2_000_000, 8).await;
    grow(2e6, 65_536, 2_500_000, 9).await;
}

/// Sums that depend on the order of what is summed.
#[tokio::test]
async fn i8_what_is_replayed_has_the_same_bits_as_if_it_had_passed_at_once() {
    for (rate_hz, longest, chunks) in [(10.0, 10, 60), (3_000.0, 1_500, 30), (1e6, 60_000, 16)] {
        let mut pair = Pair::new(rate_hz, 5).await;
        let ledger = PostgresLedger::new(pair.fixture.ledger.database().clone());
        for _ in 0..chunks {
            let before = pair.captured.stream.at;
            let count = (1 + pair.dice.below(longest)).min(65_536 - before.next_sample % 65_536);
            let values: Vec<f64> = (0..count)
                .map(|_| f64::from((pair.dice.below(1 << 20) as f32 - 5e5) * 1.37e-7))
                .collect();
            let row = pair.captured.samples(&values);
            pair.commit_rows(&ledger, before, vec![row], 2).await;
        }
        assert!(pair.replay_all().await > 2);
        assert_same(&pair.never, &pair.fixture, &format!("{rate_hz} Hz")).await;
    }
}

#[tokio::test]
async fn i8_replays_at_the_very_time_of_commits_and_of_backfill() {
    let mut pair = Pair::new(1_000.0, 77).await;
    let ledger = PostgresLedger::new(pair.fixture.ledger.database().clone());
    for _ in 0..20 {
        pair.commit(&ledger, 300, 3).await;
    }
    // What an older version left: not folded yet.
    let forget =
        "UPDATE stream SET folded_seq = 0; DELETE FROM envelope; DELETE FROM chunk_signal WHERE signal = 65536;
                  UPDATE chunk_signal SET finite_count = NULL, points = NULL, utc_ns = NULL";
    pair.fixture.run(forget).await;
    let (database, workspace) = (pair.fixture.ledger.database().clone(), workspace(&pair.fixture).await);
    let (done, mut is_done) = tokio::sync::watch::channel(false);
    let replaying = tokio::spawn({
        let (database, workspace) = (database.clone(), workspace.clone());
        async move {
            let mut count = 0;
            loop {
                let last_round = *is_done.borrow_and_update();
                let kept = oldest(&database, &workspace, &KeptFilter::default(), None, 100).await;
                for kept in kept.expect("it reads") {
                    let answer = replay(&database, &workspace, kept.id, ("a test", false)).await;
                    assert_eq!(answer.expect("it answers"), Replayed::InPlace);
                    count += 1;
                }
                if last_round {
                    return count;
                }
            }
        }
    });
    let folding = tokio::spawn(async move {
        for _ in 0..5 {
            let round = wavekeep_server::backfill::round(&database, &workspace).await;
            round.expect("it folds");
        }
    });
    for _ in 0..60 {
        pair.commit(&ledger, 300, 3).await;
    }
    folding.await.expect("no panic");
    done.send(true).expect("it replays");
    assert!(replaying.await.expect("no panic") > 20);
    let (database, workspace) = (pair.fixture.ledger.database(), self::workspace(&pair.fixture).await);
    let round = wavekeep_server::backfill::round(database, &workspace).await;
    round.expect("it folds");
    assert_same(&pair.never, &pair.fixture, "at once").await;
}

/// Two streams of the same samples: `poisoned` of the second go into quarantine.
async fn asked(poisoned: &[usize]) -> (Asker, Asker, Stream) {
    let (never, asker) = (Asker::new().await, Asker::new().await);
    let (mut captured, mut dice) = (Captured::new(1e5), Dice(3));
    let mut rows: Vec<Row> = (0..30)
        .map(|_| {
            let count = 8_000 + dice.below(3_000);
            let values: Vec<f64> = (0..count.min(65_536 - captured.stream.at.next_sample % 65_536))
                .map(|_| dice.below(100) as f64)
                .collect();
            captured.samples(&values)
        })
        .collect();
    never.store(&captured.stream, rows.clone()).await;
    for at in poisoned {
        rows[*at] = quarantined(rows[*at].clone());
    }
    asker.store(&captured.stream, rows).await;
    (never, asker, captured.stream)
}

#[tokio::test]
async fn i9_readers_see_a_gap_before_and_samples_after() {
    let (never, asker, stream) = asked(&[3, 4, 17]).await;
    let gaps = asker.gaps(by_stream(&stream)).await.expect("an answer");
    assert_eq!(gaps.len(), 2, "neighbours are one gap: {gaps:?}");
    assert!(gaps.iter().all(|gap| gap.reason == Reason::Quarantined as i32));
    assert_eq!(
        asker
            .fixture
            .one("SELECT count(*) FROM gap WHERE reason = 'quarantined'")
            .await,
        3
    );
    assert_eq!(
        asker.streams(by_stream(&stream)).await.expect("an answer")[0].quarantined,
        3
    );
    let whole = never.statistics(by_stream(&stream)).await.expect("an answer");
    assert_ne!(asker.statistics(by_stream(&stream)).await.expect("an answer"), whole);
    assert_ne!(
        asker.drawn(by_stream(&stream), 40).await.expect("an answer"),
        never.drawn(by_stream(&stream), 40).await.expect("an answer"),
        "a picture with holes"
    );
    for id in ids(&asker.fixture, &mut Dice(1)).await {
        let before = rows(&asker.fixture).await;
        let (database, workspace) = (asker.fixture.ledger.database(), workspace(&asker.fixture).await);
        let dry = replay(database, &workspace, id, ("a test", true)).await;
        assert_eq!(dry.expect("it answers"), Replayed::InPlace);
        assert_eq!(rows(&asker.fixture).await, before, "a dry run changes nothing");
        assert_eq!(replayed(&asker.fixture, id).await, Replayed::InPlace);
        assert_eq!(replayed(&asker.fixture, id).await, Replayed::NotThere, "once");
    }
    assert_eq!(asker.gaps(by_stream(&stream)).await.expect("an answer"), []);
    assert_eq!(asker.fixture.one("SELECT count(*) FROM gap").await, 0);
    assert_eq!(asker.statistics(by_stream(&stream)).await.expect("an answer"), whole);
    for points in [1, 7, 40, 500, 2_000, 20_000] {
        assert_eq!(
            asker.drawn(by_stream(&stream), points).await.expect("an answer"),
            never.drawn(by_stream(&stream), points).await.expect("an answer"),
            "{points} points"
        );
    }
    let (mut came, mut expected) = (
        asker.read_one(by_stream(&stream)).await,
        never.read_one(by_stream(&stream)).await,
    );
    // Two databases, committed to one after the other: all but the time of it is the same.
    for chunk in came.chunks.iter_mut().chain(&mut expected.chunks) {
        assert!(std::mem::take(&mut chunk.loaded_at_ns) > 0);
    }
    assert!(came.chunks == expected.chunks, "the chunks differ");
    assert_eq!(came.manifest, expected.manifest);
    let views = "SELECT count(*) * 1000000 + sum(count)::bigint FROM signal_point";
    assert_eq!(asker.fixture.one(views).await, never.fixture.one(views).await);
    let told =
        "SELECT count(*) FROM wavekeep.audit WHERE action = 'quarantine replayed' AND workspace = current_schema()";
    assert_eq!(asker.fixture.one(told).await, 3);
    assert_eq!(
        asker
            .fixture
            .one("SELECT count(*) FROM quarantine WHERE resolved_at IS NOT NULL AND columns = '{}'")
            .await,
        3,
        "it is told that they were there; their bytes are in their place"
    );
}

#[tokio::test]
async fn poison_stays_until_it_is_mended() {
    let fixture = Fixture::new().await;
    let (mut stream, owner) = (Stream::new(), owner());
    let start = fixture.open(&stream, owner).await.at;
    let mut poison = quarantined(stream.few_samples());
    let good = poison.chunk.columns.clone();
    poison.chunk.columns[1] = b"poison".to_vec().into();
    let rows = vec![poison, stream.few_samples()];
    assert_eq!(fixture.commit(&[entry(&stream, owner, start, rows)]).await, [true]);
    let before = self::rows(&fixture).await;
    let id = ids(&fixture, &mut Dice(1)).await[0];
    let refused = replayed(&fixture, id).await;
    assert!(
        matches!(&refused, Replayed::Refused(why) if why.contains("signal \"voltage\"")),
        "{refused:?}"
    );
    assert_eq!(self::rows(&fixture).await, before);
    let (database, workspace) = (fixture.ledger.database(), workspace(&fixture).await);
    let kept = newest(database, &workspace, &KeptFilter::default(), None, 10)
        .await
        .expect("it reads");
    assert_eq!((kept.len(), kept[0].bytes), (1, good[0].len() as u64 + 6));
    assert!(
        kept[0].why.contains("signal \"voltage\""),
        "what is wrong now: {}",
        kept[0].why
    );

    // More columns than the header names; what the database refuses.
    fixture.run("UPDATE quarantine SET columns = columns || columns").await;
    let refused = replayed(&fixture, id).await;
    assert!(
        matches!(&refused, Replayed::Refused(why) if why.contains("4 columns")),
        "{refused:?}"
    );
    let mend = "UPDATE quarantine SET columns = ARRAY[columns[1], columns[1]]";
    fixture.run(mend).await;
    fixture
        .run("ALTER TABLE chunk_signal ADD CONSTRAINT none CHECK (seq <> 1)")
        .await;
    let refused = replayed(&fixture, id).await;
    assert!(
        matches!(&refused, Replayed::Refused(why) if why.contains("the database refuses it")),
        "{refused:?}"
    );
    assert_eq!(self::rows(&fixture).await, before);
    fixture.run("ALTER TABLE chunk_signal DROP CONSTRAINT none").await;
    assert_eq!(replayed(&fixture, id).await, Replayed::InPlace);
    assert_eq!(
        fixture
            .one("SELECT sample_count * 100 + gap_sample_count * 10 + quarantined FROM stream")
            .await,
        600
    );
    assert_eq!(fixture.position(&stream).await, stream.at, "I14: nothing moved");
}

#[tokio::test]
async fn a_damaged_neighbour_holds_a_chunk_back_and_a_dropped_one_lets_it_go() {
    let fixture = Fixture::new().await;
    let mut captured = Captured::new(1e3);
    let owner = owner();
    let start = fixture.open(&captured.stream, owner).await.at;
    let values: Vec<f64> = (0..200).map(f64::from).collect();
    let rows = vec![
        captured.samples(&values),
        quarantined(captured.samples(&values)),
        quarantined(captured.samples(&values)),
    ];
    assert_eq!(
        fixture.commit(&[entry(&captured.stream, owner, start, rows)]).await,
        [true]
    );
    let flip =
        "UPDATE chunk_signal SET payload = set_byte(payload, 0, get_byte(payload, 0) # 1) WHERE seq = 1 AND signal = 0";
    fixture.run(flip).await;
    let ids: Vec<i64> = {
        let mut ids = ids(&fixture, &mut Dice(1)).await;
        ids.sort_unstable();
        ids
    };
    let refused = replayed(&fixture, ids[0]).await;
    assert!(
        matches!(&refused, Replayed::Refused(why) if why.contains("chunk 1 beside it")),
        "{refused:?}"
    );
    assert_eq!(fixture.one("SELECT count(*) FROM chunk_signal WHERE seq = 2").await, 0);
    fixture.run(flip).await;
    assert_eq!(replayed(&fixture, ids[0]).await, Replayed::InPlace);
    // As a partition that retention drops.
    fixture.run("DELETE FROM chunk WHERE seq = 3").await;
    assert_eq!(replayed(&fixture, ids[1]).await, Replayed::Gone);
    assert_eq!(
        fixture.one("SELECT count(*) FROM quarantine").await,
        1,
        "its bytes are gone too"
    );
    assert_eq!(fixture.one("SELECT quarantined FROM stream").await, 0);
}

fn tool(fixture: &Fixture, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wavekeep-server"));
    let common = ["--database-url", &fixture.url, "--workspace", &fixture.workspace];
    command.arg("quarantine").args(arguments).args(common);
    let output = command.output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// One in quarantine that is good now, one that is not, and one beside them. With the stream's id.
async fn good_and_bad(fixture: &Fixture) -> String {
    let (mut stream, owner) = (Stream::new(), owner());
    let start = fixture.open(&stream, owner).await.at;
    let (good, mut bad) = (quarantined(stream.few_samples()), quarantined(stream.half_samples()));
    bad.chunk.columns[0] = b"poison".to_vec().into();
    let rows = vec![good, bad, stream.few_samples()];
    assert_eq!(fixture.commit(&[entry(&stream, owner, start, rows)]).await, [true]);
    stream.definition.id.to_string()
}

#[tokio::test]
async fn the_command_lists_and_shows() {
    let fixture = Fixture::new().await;
    let said = tool(&fixture, &["list"]);
    assert_eq!((said.0, said.1.as_str()), (Some(0), ""));
    assert!(said.2.contains("nothing is in quarantine"), "{}", said.2);
    let id = good_and_bad(&fixture).await;

    let (code, listed, _) = tool(&fixture, &["list"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 3), "{listed}");
    assert!(
        lines[0].starts_with("ID  DEVICE") && lines[1].contains("3+3") && lines[2].contains("0+3"),
        "{listed}"
    );
    let (_, first, more) = tool(&fixture, &["list", "--limit", "1"]);
    assert!(
        first.lines().count() == 2 && more.contains("--before 2"),
        "{first}{more}"
    );
    let narrowed = [
        "list",
        "--json",
        "--before",
        "2",
        "--device",
        "js220-001",
        "--stream",
        &id[..8],
    ];
    let (_, json, _) = tool(&fixture, &narrowed);
    let json: serde_json::Value = serde_json::from_str(&json).expect("one object");
    assert_eq!(
        (&json["seq"], &json["bytes"], &json["sample_count"]),
        (&1.into(), &24.into(), &3.into())
    );

    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("study");
    let path = output.to_str().expect("UTF-8");
    let (code, shown, _) = tool(&fixture, &["show", &id[..8], "2", "--output", path]);
    assert_eq!(code, Some(0));
    for part in [
        "signal 0 \"current\" f32: plain, hash ",
        "706f69736f6e",
        "absent, signal_off",
        "too strict",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let written = std::fs::read(output.join(format!("{id}-2-0.plain"))).expect("it is written");
    assert_eq!(written, b"poison");
    let (code, shown, _) = tool(&fixture, &["show", "1", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("one object");
    assert_eq!((code, &shown["columns"][1]["name"]), (Some(0), &"voltage".into()));
    assert_eq!(tool(&fixture, &["show", "none"]).0, Some(2));
    assert_eq!(tool(&fixture, &["show", "99"]).0, Some(1));
}

#[tokio::test]
async fn the_command_replays_and_says_what_stays() {
    let fixture = Fixture::new().await;
    let id = good_and_bad(&fixture).await;
    assert_eq!(tool(&fixture, &["replay"]).0, Some(2), "which?");
    assert_eq!(tool(&fixture, &["replay", "--all", "1"]).0, Some(2), "which?");
    assert_eq!(tool(&fixture, &["replay", "99"]).0, Some(1));
    let (code, _, said) = tool(&fixture, &["replay", "1", "--dry-run"]);
    assert!(code == Some(0) && said.contains("1 would be in place"), "{said}");
    let (code, said, error) = tool(&fixture, &["replay", "--all"]);
    assert_eq!(code, Some(1), "{said}{error}");
    assert!(
        said.contains("seq 1  3 samples  in place") && said.contains("seq 2  3 samples  refused: signal \"current\""),
        "{said}"
    );
    assert!(
        error.contains("1 in place, 1 refused") && error.contains("1 of 2 stay in quarantine"),
        "{error}"
    );
    assert_eq!(tool(&fixture, &["list", "--json"]).1.lines().count(), 1);
    let counts = "SELECT quarantined * 10 + sample_count FROM stream";
    assert_eq!(fixture.one(counts).await, 16);

    let mend = "UPDATE quarantine SET columns = ARRAY[(SELECT payload FROM chunk_signal WHERE seq = 1 AND signal = 0)] WHERE seq = 2";
    fixture.run(mend).await;
    let (code, said, error) = tool(&fixture, &["replay", "--stream", &id, "--seq", "2", "--json"]);
    assert_eq!(code, Some(0), "{said}{error}");
    assert!(said.contains("\"result\":\"in place\""), "{said}");
    assert_eq!(fixture.one(counts).await, 9);
    assert_eq!(tool(&fixture, &["replay", "--all"]).0, Some(0), "nothing is left");
}
