//! What there is of a stream, counted from rows; and what its agent says, written down and told again.

mod common;
mod query_support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Fixture, Stream, entry, owner};
use query_support::{Asker, assert_refused, between, by_device, by_stream, successor};
use tonic::{Code, Status};
use wavekeep_proto::chunk::{Position, Reason};
use wavekeep_proto::id::Owner;
use wavekeep_proto::v1;
use wavekeep_server::ledger::{Ledger, Quarantine, Report, Row};
use wavekeep_server::store::Retention;
use wavekeep_server::workspace;

async fn accounts(asker: &Asker, selection: v1::Selection) -> Result<Vec<v1::StreamAccount>, Status> {
    let request = v1::ReconcileRequest {
        workspace: asker.fixture.workspace.clone(),
        selection: Some(selection),
    };
    let mut answer = asker.query.clone().reconcile(request).await?.into_inner();
    let mut accounts = Vec::new();
    while let Some(account) = answer.message().await? {
        accounts.push(account);
    }
    Ok(accounts)
}

async fn account(asker: &Asker, stream: &Stream) -> v1::StreamAccount {
    let [account] = accounts(asker, by_stream(stream))
        .await
        .expect("an answer")
        .try_into()
        .expect("one stream");
    account
}

/// Kind, reason, in quarantine, succeeded; chunks, seqs, samples.
type Sum = (u32, Reason, bool, bool, u64, u64, u64);

fn sums(account: &v1::StreamAccount) -> Vec<Sum> {
    let sum = |sum: &v1::ChunkSum| {
        let reason = Reason::from_number(sum.reason.cast_unsigned()).expect("a reason");
        let counts = (sum.chunks, sum.seqs, sum.sample_count);
        (
            sum.kind,
            reason,
            sum.quarantined,
            sum.succeeded,
            counts.0,
            counts.1,
            counts.2,
        )
    };
    account.chunks.iter().map(sum).collect()
}

fn poison(stream: &mut Stream) -> Row {
    let mut row = stream.few_samples();
    row.quarantine = Some(Quarantine { why: "a test".into() });
    row.folds.clear();
    row
}

#[tokio::test]
async fn i13_an_account_is_counted_from_the_rows_of_chunks() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = vec![
        stream.few_samples(),
        stream.gap(5, Reason::SourceLoss),
        poison(&mut stream),
        stream.half_samples(),
        stream.gap(7, Reason::Evicted),
        stream.gap(2, Reason::SourceLoss),
        stream.end(),
    ];
    asker.store(&stream, rows).await;
    let whole = account(&asker, &stream).await;
    let expected = [
        (1, Reason::None, false, false, 2, 2, 6),
        (2, Reason::Evicted, false, false, 1, 1, 7),
        (2, Reason::SourceLoss, false, false, 2, 2, 7),
        (3, Reason::Closed, false, false, 1, 1, 0),
        (1, Reason::None, true, false, 1, 1, 3),
    ];
    assert_eq!(sums(&whole), expected);
    assert_eq!(
        (whole.first_seq, whole.from_sample, whole.succeeded_at, &whole.report),
        (1, 0, None, &None)
    );
    assert_eq!(whole.stream.expect("its row").sample_count, 6);

    asker.fixture.run("DELETE FROM chunk WHERE seq IN (1, 5)").await;
    let changed = account(&asker, &stream).await;
    assert_eq!(sums(&changed)[0], (1, Reason::None, false, false, 1, 1, 3));
    assert_eq!(
        (sums(&changed).len(), changed.first_seq, changed.from_sample),
        (4, 2, 3)
    );
    assert!(!changed.may_have_expired, "nobody has asked for a retention");
    // Rows beyond the watermark are none of the stream's; sums that no bigint holds are told.
    asker
        .fixture
        .run("UPDATE chunk SET sample_count = 9223372036854775807 WHERE seq IN (2, 6)")
        .await;
    assert_eq!(sums(&account(&asker, &stream).await)[1].6, i64::MAX as u64);
    asker.fixture.run("UPDATE stream SET watermark = 3").await;
    assert_eq!(sums(&account(&asker, &stream).await).len(), 2);

    let range = between(by_stream(&stream), Some(0), None);
    assert_refused(
        accounts(&asker, range).await,
        Code::InvalidArgument,
        "leave out times and signals",
    );
    assert_refused(
        accounts(&asker, by_device("js22")).await,
        Code::NotFound,
        "did you mean",
    );
}

#[tokio::test]
async fn what_a_successor_has_as_well_is_told_apart() {
    let asker = Asker::new().await;
    let mut first = Stream::new();
    let rows = vec![
        first.few_samples(),
        first.few_samples(),
        first.gap(4, Reason::SourceLoss),
    ];
    let at = first.utc_ns;
    asker.store(&first, rows).await;
    let mut second = successor(&first, 1, 3, at);
    let rows = vec![second.few_samples(), second.gap(4, Reason::SourceLoss), second.end()];
    asker.store(&second, rows).await;
    let all = accounts(&asker, by_device("js220-001")).await.expect("an answer");
    assert_eq!(
        (all.len(), all[0].succeeded_at, all[1].succeeded_at),
        (2, Some(1), None)
    );
    let expected = [
        (1, Reason::None, false, false, 1, 1, 3),
        (1, Reason::None, false, true, 1, 1, 3),
        (2, Reason::SourceLoss, false, true, 1, 1, 4),
    ];
    assert_eq!(sums(&all[0]), expected);
    assert_eq!((all[1].first_seq, all[1].from_sample), (1, 3));
}

async fn report(fixture: &Fixture, stream: &Stream, owner: Owner, agent: &str, next_sample: u64) {
    let report = Report {
        stream: stream.definition.id,
        owner,
        stored_seq: 9,
        next_sample,
        outbox_bytes: u64::MAX,
        oldest_unacked_ms: 40,
    };
    let written = fixture.ledger.report(&fixture.workspace, agent, &[report]).await;
    written.expect("it is written down");
}

#[tokio::test]
async fn i7_what_the_owner_of_a_stream_says_of_it_is_told_and_what_others_say_is_not() {
    let asker = Asker::new().await;
    let fixture = &asker.fixture;
    let (stream, first, second) = (Stream::new(), owner(), owner());
    fixture.open(&stream, first).await;
    report(fixture, &stream, second, "a stranger", 1).await;
    assert_eq!(account(&asker, &stream).await.report, None);
    report(fixture, &stream, first, "lab\0pc", 100).await;
    let heard = account(&asker, &stream).await.report.expect("it was heard");
    assert_eq!(
        (heard.agent.as_str(), heard.stored_seq, heard.next_sample),
        ("lab\u{fffd}pc", 9, 100)
    );
    assert_eq!((heard.outbox_bytes, heard.oldest_unacked_ms), (i64::MAX as u64, 40));

    fixture
        .run("UPDATE agent_report SET heard_at = now() - interval '1 hour'")
        .await;
    let older = account(&asker, &stream).await.report.expect("it was heard");
    assert!((3_600_000..3_700_000).contains(&older.age_ms), "{older:?}");
    fixture.open(&stream, second).await;
    report(fixture, &stream, first, "fenced", 200).await;
    assert_eq!(
        account(&asker, &stream).await.report.expect("the same").next_sample,
        100
    );
    report(fixture, &stream, second, "clone", 300).await;
    let newer = account(&asker, &stream).await.report.expect("it was heard");
    assert_eq!((newer.agent.as_str(), newer.next_sample), ("clone", 300));
    assert!(newer.age_ms < 60_000, "{newer:?}");

    fixture.run("DELETE FROM stream").await;
    assert_eq!(fixture.one("SELECT count(*) FROM agent_report").await, 0);
}

#[tokio::test]
async fn what_is_as_old_as_the_retention_may_have_been_dropped() {
    let asker = Asker::new().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let mut old = Stream::new();
    old.utc_ns = i64::try_from((now - Duration::from_secs(100 * 86_400)).as_nanos()).expect("before 2262");
    let rows = vec![old.few_samples(), old.end()];
    asker.store(&old, rows).await;
    asker.fixture.run("DELETE FROM chunk").await;
    let gone = account(&asker, &old).await;
    assert_eq!(
        (gone.may_have_expired, gone.first_seq, gone.chunks.len()),
        (false, 0, 0)
    );
    for (days, expired) in [(99, true), (101, false)] {
        let fixture = &asker.fixture;
        let set = workspace::set_retention(&fixture.url, &fixture.workspace, Retention::Days(days)).await;
        set.expect("it is set");
        assert_eq!(account(&asker, &old).await.may_have_expired, expired, "{days}");
    }
}

/// More chunks than an hour of 1 MSPS has, with headers as long as theirs.
#[tokio::test]
async fn a_hundred_thousand_chunks_are_summed_within_a_second() {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let start = Position::start(&stream.definition);
    let owner = owner();
    asker.fixture.open(&stream, owner).await;
    let rows = vec![stream.few_samples()];
    assert_eq!(
        asker.fixture.commit(&[entry(&stream, owner, start, rows)]).await,
        [true]
    );
    asker
        .fixture
        .run(
            "INSERT INTO chunk (stream_id, first_seq, seq, kind, reason, quarantined, first_sample, sample_count, start_time, utc_ns,
                                stored_bytes, hash, digest, header)
             SELECT stream_id, n, n, CASE n % 10 WHEN 0 THEN 2 ELSE 1 END, CASE n % 10 WHEN 0 THEN 20 ELSE 0 END, false,
                    first_sample + 3 * (n - 1), 3, start_time + n * interval '65 ms', utc_ns + n * 65000000::bigint, stored_bytes,
                    hash, digest, header || header || header
               FROM chunk, generate_series(2, 100000) n;
             UPDATE stream SET watermark = 100000, next_sample = 300000, sample_count = 270000, last_time_ns = last_time_ns + 7000000000000;
             ANALYZE chunk",
        )
        .await;
    let mut took = Vec::new();
    for _ in 0..3 {
        let since = Instant::now();
        let account = account(&asker, &stream).await;
        took.push(since.elapsed());
        assert_eq!((sums(&account)[0].6, sums(&account)[1].6), (270_000, 30_000));
    }
    eprintln!("100,000 chunks are summed in {took:?}");
    let best = took.iter().min().expect("three");
    assert!(*best < Duration::from_secs(1), "{took:?}");
}
