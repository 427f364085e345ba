//! Retention: what is older goes, whole partitions of it; everything else stays, and everybody goes on.

mod common;
mod query_support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Fixture, Stream, entry, ledger, owner};
use query_support::{Asker, by_device, by_stream, id};
use tonic::{Code, Status};
use wavekeep_proto::chunk::{Position, Reason};
use wavekeep_proto::id::Owner;
use wavekeep_proto::v1;
use wavekeep_proto::v1::tail_part::Part;
use wavekeep_proto::wire::header_from_bytes;
use wavekeep_server::store::Retention;
use wavekeep_server::workspace;

const DAY_NS: i64 = 86_400_000_000_000;
const CHUNKS: &str = "SELECT count(*) FROM chunk";

fn days_ago(days: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_nanos()).expect("before 2262") - days * DAY_NS
}

async fn keep(fixture: &Fixture, retention: Retention) {
    let set = workspace::set_retention(&fixture.url, &fixture.workspace, retention).await;
    assert_eq!(set.expect("it is set").retention, retention);
}

async fn drop_expired(fixture: &Fixture) {
    let dropped = fixture.ledger.drop_expired(&fixture.workspace).await;
    dropped.expect("retention is carried out");
}

/// An open stream whose clock says this, with a chunk of samples and a gap.
async fn captured_at(fixture: &Fixture, utc_ns: i64) -> (Stream, Owner) {
    let (mut stream, owner) = (Stream::new(), owner());
    stream.utc_ns = utc_ns;
    let start = fixture.open(&stream, owner).await.at;
    go_on(fixture, &mut stream, owner, start).await;
    (stream, owner)
}

/// Commits two chunks more.
async fn go_on(fixture: &Fixture, stream: &mut Stream, owner: Owner, at: Position) {
    let rows = vec![stream.few_samples(), stream.gap(5, Reason::SourceLoss)];
    assert_eq!(fixture.commit(&[entry(stream, owner, at, rows)]).await, [true]);
}

#[tokio::test]
async fn what_is_older_is_dropped_and_everything_else_stays_and_goes_on() {
    let fixture = Fixture::new().await;
    let (mut old, old_owner) = captured_at(&fixture, days_ago(100)).await;
    let (odd, _) = captured_at(&fixture, 1).await;
    let (ahead, _) = captured_at(&fixture, 4_070_908_800_000_000_000).await;
    let (mut young, young_owner) = captured_at(&fixture, days_ago(0)).await;
    // Nothing is dropped that nobody has asked to be.
    drop_expired(&fixture).await;
    assert_eq!(fixture.one(CHUNKS).await, 8);
    keep(&fixture, Retention::Days(30)).await;
    // Another server, which knows the partitions that will be gone.
    let other = ledger(&fixture.url).await;
    other.make_partitions_ahead(&fixture.workspace).await.expect("it looks");
    drop_expired(&fixture).await;
    for (stream, rows) in [(&old, 0), (&odd, 0), (&ahead, 2), (&young, 2)] {
        assert_eq!(fixture.rows_of(stream).await, rows);
    }
    for table in ["chunk_signal", "envelope"] {
        let older = format!("SELECT count(*) FROM {table} WHERE start_time < now() - interval '32 days'");
        assert_eq!(fixture.one(&older).await, 0, "{table}");
    }
    assert_eq!(
        fixture.one("SELECT count(*) FROM stream").await,
        4,
        "the streams' rows stay"
    );
    assert_eq!(fixture.position(&old).await, old.at, "and say where they stood");
    let audit = format!(
        "SELECT count(*) FROM wavekeep.audit WHERE workspace = '{}' AND action = 'partitions dropped' AND actor = 'retention'",
        fixture.workspace
    );
    assert!(fixture.one(&audit).await >= 2, "1970 and 100 days ago");
    // Everybody goes on, also he who brings what will be dropped again, also through a server that did not notice.
    let at = young.at;
    go_on(&fixture, &mut young, young_owner, at).await;
    let at = old.at;
    let rows = vec![old.few_samples()];
    use wavekeep_server::ledger::Ledger as _;
    let moved = other
        .commit(&fixture.workspace, &[entry(&old, old_owner, at, rows)])
        .await;
    assert_eq!(moved.expect("it is stored"), [true]);
    assert_eq!((fixture.rows_of(&old).await, fixture.rows_of(&young).await), (1, 4));
    drop_expired(&fixture).await;
    assert_eq!((fixture.rows_of(&old).await, fixture.rows_of(&young).await), (0, 4));
    // For ever again.
    keep(&fixture, Retention::None).await;
    let at = old.at;
    go_on(&fixture, &mut old, old_owner, at).await;
    drop_expired(&fixture).await;
    assert_eq!(fixture.rows_of(&old).await, 2);
}

#[tokio::test]
async fn a_partition_goes_only_when_all_of_it_is_older() {
    let fixture = Fixture::new().await;
    let (stream, _) = captured_at(&fixture, days_ago(32)).await;
    keep(&fixture, Retention::Days(33)).await;
    drop_expired(&fixture).await;
    assert_eq!(fixture.rows_of(&stream).await, 2);
    keep(&fixture, Retention::Days(30)).await;
    drop_expired(&fixture).await;
    assert_eq!(fixture.rows_of(&stream).await, 0);
}

#[tokio::test]
async fn quarantined_bytes_go_with_their_partition() {
    let fixture = Fixture::new().await;
    for days in [100, 0] {
        let (mut stream, owner) = (Stream::new(), owner());
        stream.utc_ns = days_ago(days);
        let start = fixture.open(&stream, owner).await.at;
        let mut row = stream.few_samples();
        row.quarantine = Some(wavekeep_server::ledger::Quarantine { why: "a test".into() });
        assert_eq!(fixture.commit(&[entry(&stream, owner, start, vec![row])]).await, [true]);
    }
    keep(&fixture, Retention::Days(30)).await;
    drop_expired(&fixture).await;
    assert_eq!(fixture.one("SELECT count(*) FROM quarantine").await, 1);
}

#[tokio::test]
async fn servers_that_drop_at_the_same_time_do_it_once() {
    let fixture = Fixture::new().await;
    let (old, _) = captured_at(&fixture, days_ago(100)).await;
    // Many, so that some look while others drop.
    for days in 60..90 {
        captured_at(&fixture, days_ago(days)).await;
    }
    keep(&fixture, Retention::Days(30)).await;
    let servers: Vec<_> = (0..20)
        .map(|number| (number, fixture.url.clone(), fixture.workspace.clone()))
        .map(|(number, url, workspace)| {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(number * 10)).await;
                ledger(&url).await.drop_expired(&workspace).await
            })
        })
        .collect();
    for server in servers {
        server
            .await
            .expect("no panic")
            .expect("it drops them, or finds them gone");
    }
    assert_eq!(fixture.rows_of(&old).await, 0);
    let audit = "SELECT count(DISTINCT detail), count(*) FROM wavekeep.audit WHERE action = 'partitions dropped' AND workspace = ";
    let counts = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("{audit}'{}'", fixture.workspace)));
    let row = counts.fetch_one(&mut fixture.sql().await).await.expect("it answers");
    use sqlx::Row as _;
    assert_eq!(row.get::<i64, _>(0), row.get::<i64, _>(1), "each once");
}

#[tokio::test]
async fn nobody_waits_for_long_behind_a_drop_that_waits() {
    let fixture = Fixture::new().await;
    let (old, _) = captured_at(&fixture, days_ago(100)).await;
    let (mut young, owner) = captured_at(&fixture, days_ago(0)).await;
    keep(&fixture, Retention::Days(30)).await;
    // Somebody reads the old partition for as long as he likes.
    let mut reader = fixture.sql().await;
    use sqlx::Row as _;
    let read = sqlx::raw_sql("BEGIN; SELECT count(*), pg_backend_pid()::bigint FROM chunk");
    let rows = read.fetch_one(&mut reader).await.expect("it reads");
    assert_eq!(rows.get::<i64, _>(0), 4);
    let process = rows.get::<i64, _>(1);
    let (url, workspace) = (fixture.url.clone(), fixture.workspace.clone());
    let dropping = tokio::spawn(async move { ledger(&url).await.drop_expired(&workspace).await });
    fixture.wait_for_waiter(process, "pid").await;
    // The drop waits for him, and we behind the drop at most: neither for him.
    for _ in 0..20 {
        let at = young.at;
        go_on(&fixture, &mut young, owner, at).await;
    }
    assert_eq!(fixture.rows_of(&old).await, 2, "he still reads");
    sqlx::raw_sql("ROLLBACK").execute(&mut reader).await.expect("it ends");
    dropping.await.expect("no panic").expect("it drops it, or leaves it");
    drop_expired(&fixture).await;
    assert_eq!((fixture.rows_of(&old).await, fixture.rows_of(&young).await), (0, 42));
}

#[tokio::test]
async fn a_reader_of_what_was_dropped_is_told() {
    let asker = Asker::new().await;
    let fixture = &asker.fixture;
    let (old, _) = captured_at(fixture, days_ago(100)).await;
    let (young, _) = captured_at(fixture, days_ago(0)).await;
    // One that was captured through all of it.
    let (mut long, long_owner) = captured_at(fixture, days_ago(100)).await;
    long.utc_ns = days_ago(0);
    let at = long.at;
    go_on(fixture, &mut long, long_owner, at).await;
    keep(fixture, Retention::Days(30)).await;
    drop_expired(fixture).await;
    let refused = asker
        .waveform(by_stream(&old))
        .await
        .expect_err("nothing of it is stored");
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    assert!(refused.message().contains("no longer stored"), "{refused}");
    let answered = asker.read_one(by_stream(&young)).await;
    assert_eq!(answered.manifest.sample_count, 3);
    // Its manifest says that it does not begin at the beginning.
    let answered = asker.read_one(by_stream(&long)).await;
    assert_eq!((answered.manifest.first_seq, answered.manifest.from_sample), (3, 8));
    assert_eq!(
        (answered.manifest.sample_count, answered.manifest.digest_before.len()),
        (3, 0)
    );
    let answered = asker.read(by_device("js220-001")).await;
    assert_eq!(answered.len(), 2, "streams of which something is stored");
}

/// Seqs of the chunks that come next, until the answer ends or has nothing more for a while; and why it ended.
async fn followed(answer: &mut tonic::Streaming<v1::TailPart>) -> (Vec<u64>, Option<Status>) {
    let mut seqs = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_secs(2), answer.message()).await {
            Ok(Ok(Some(v1::TailPart {
                part: Some(Part::Chunk(chunk)),
            }))) => {
                let header = header_from_bytes(&chunk.chunk.expect("a chunk").header);
                seqs.push(header.expect("a header").seq);
            }
            Ok(Ok(Some(_))) => (),
            Ok(Ok(None)) => panic!("nobody ends it"),
            Ok(Err(status)) => return (seqs, Some(status)),
            Err(_) => return (seqs, None),
        }
    }
}

#[tokio::test]
async fn who_follows_while_it_is_dropped_may_ask_again_and_goes_on() {
    const OLD: u64 = 40;
    let asker = Asker::new().await;
    let fixture = &asker.fixture;
    let (mut stream, owner) = (Stream::new(), owner());
    stream.utc_ns = days_ago(100);
    let start = fixture.open(&stream, owner).await.at;
    // More than waits between a server and a client that does not read.
    let bits: Vec<u32> = (0..60_000u32).map(|number| number.wrapping_mul(0x9e37_79b9)).collect();
    let old = (0..OLD).map(|_| stream.samples(&bits)).collect();
    assert_eq!(fixture.commit(&[entry(&stream, owner, start, old)]).await, [true]);
    stream.utc_ns = days_ago(0);
    let at = stream.at;
    go_on(fixture, &mut stream, owner, at).await;
    let request = |after| v1::TailRequest {
        workspace: asker.workspace(),
        selection: Some(by_stream(&stream)),
        after,
        from_start: true,
        ..v1::TailRequest::default()
    };
    let tail = async |after| {
        asker
            .query
            .clone()
            .tail(request(after))
            .await
            .expect("an answer")
            .into_inner()
    };
    let mut slow = tail(Vec::new()).await;
    // It has begun: the chunks are on their way, as far as there is room.
    slow.message().await.expect("its start").expect("a part");
    tokio::time::sleep(Duration::from_millis(500)).await;
    keep(fixture, Retention::Days(30)).await;
    drop_expired(fixture).await;
    let (had, why) = followed(&mut slow).await;
    let last = *had.last().expect("some were on their way");
    assert_eq!(had, (1..=last).collect::<Vec<_>>());
    assert!(last < OLD, "{last} chunks came of one that does not read");
    let why = why.expect("it does not go on over the hole");
    assert_eq!(why.code(), Code::Aborted, "who is told this asks again: {why}");
    assert!(why.message().contains("ask again"), "{why}");
    let cursor = v1::ChunkCursor {
        stream_id: id(&stream).into(),
        seq: last,
        ..v1::ChunkCursor::default()
    };
    let (rest, ended) = followed(&mut tail(vec![cursor]).await).await;
    assert_eq!(rest, [OLD + 1, OLD + 2]);
    assert!(ended.is_none(), "{ended:?}");
}

#[tokio::test]
async fn who_follows_hears_of_what_was_dropped_before_it_was_looked_at() {
    let asker = Asker::new().await;
    let fixture = &asker.fixture;
    let (mut stream, owner) = captured_at(fixture, days_ago(0)).await;
    let request = v1::TailRequest {
        workspace: asker.workspace(),
        selection: Some(by_stream(&stream)),
        from_start: true,
        ..v1::TailRequest::default()
    };
    let mut tail = asker.query.clone().tail(request).await.expect("an answer").into_inner();
    assert_eq!(followed(&mut tail).await.0, [1, 2]);
    // In the transaction that commits it, so that nobody sees it.
    let trigger = "
        CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN DELETE FROM chunk WHERE seq <= 3; RETURN NULL; END';
        CREATE TRIGGER forget AFTER INSERT ON chunk FOR EACH STATEMENT EXECUTE FUNCTION forget()";
    fixture.run(trigger).await;
    let at = stream.at;
    go_on(fixture, &mut stream, owner, at).await;
    let (more, why) = followed(&mut tail).await;
    assert_eq!((more, why.expect("it ends").code()), (Vec::new(), Code::Aborted));
}

#[tokio::test]
async fn retention_is_set_when_a_workspace_is_created_or_later_and_listed() {
    let fixture = Fixture::new().await;
    let name = format!("{}_kept", fixture.workspace);
    let made = workspace::create_keeping(&fixture.url, &name, Retention::Days(90)).await;
    assert_eq!(made.expect("it is created").retention, Retention::Days(90));
    let listed = async || {
        let all = workspace::list(&fixture.url).await.expect("it answers");
        let found = all.into_iter().find(|workspace| workspace.name == name);
        found.expect("it is listed").retention
    };
    assert_eq!(listed().await, Retention::Days(90));
    workspace::set_retention(&fixture.url, &name, Retention::None)
        .await
        .expect("it is set");
    assert_eq!(listed().await, Retention::None);
    let refused = workspace::set_retention(&fixture.url, "nobody", Retention::None).await;
    let refused = refused.expect_err("there is none").to_string();
    assert!(refused.contains("there is no workspace \"nobody\""), "{refused}");
    tokio::time::timeout(Duration::from_secs(60), async {
        let audit =
            format!("SELECT count(*) FROM wavekeep.audit WHERE workspace = '{name}' AND action = 'retention set'");
        assert_eq!(fixture.one(&audit).await, 1);
    })
    .await
    .expect("it answers");
}
