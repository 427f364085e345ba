//! What a failure of the database means: certainly not committed, or nobody knows; and that an answer is for ever.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Fixture, Stream, connect, entry, ledger, one_committed, owner};
use wavekeep_proto::chunk::Position;
use wavekeep_server::devdb::TestDatabase;
use wavekeep_server::ingest::watch::Probe as _;
use wavekeep_server::ledger::{CommitError, Ledger, OpenError};
use wavekeep_server::store::{Database, PrimaryProbe, StoreError, Transaction, Workspace};
use wavekeep_server::workspace::FIRST_WORKSPACE;

#[tokio::test]
async fn i6_what_commit_has_answered_survives_kill_9_and_the_rest_is_never_called_committed() {
    let mut database = TestDatabase::start().await.expect("Postgres is installed");
    let url = database.url();
    for round in 0..4u64 {
        let ledger = ledger(&url).await;
        let (mut stream, owner) = (Stream::new(), owner());
        let mut before = ledger
            .open(FIRST_WORKSPACE, stream.open_request(owner))
            .await
            .expect("it opens")
            .at;
        let acked = Arc::new(AtomicU64::new(0));
        let committed = acked.clone();
        let definition = stream.definition.clone();
        let writing = tokio::spawn(async move {
            loop {
                let rows = (0..8).map(|_| stream.samples(&[7; 20_000])).collect();
                match ledger
                    .commit(FIRST_WORKSPACE, &[entry(&stream, owner, before, rows)])
                    .await
                {
                    Ok(moved) => assert_eq!(moved, [true]),
                    Err(error) => return (error, stream.at.seq),
                }
                before = stream.at;
                committed.store(before.seq, Ordering::SeqCst);
            }
        });
        while acked.load(Ordering::SeqCst) < 24 + 8 * round {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_micros(700 * round)).await;
        let mut killed = tokio::task::spawn_blocking(move || {
            database.kill9();
            database
        });
        let (error, tried) = writing.await.expect("no panic");
        assert!(
            matches!(error, CommitError::Ambiguous(_) | CommitError::Unavailable(_)),
            "{error:?}"
        );
        database = (&mut killed).await.expect("no panic");
        database.restart().expect("it recovers");
        let ledger = common::ledger(&url).await;
        let again = Stream {
            at: Position::start(&definition),
            definition,
            utc_ns: 0,
        };
        let opened = ledger
            .open(FIRST_WORKSPACE, again.open_request(owner))
            .await
            .expect("it opens");
        let acked = acked.load(Ordering::SeqCst);
        let certain = matches!(error, CommitError::Unavailable(_));
        assert!(
            opened.at.seq == acked || (opened.at.seq == tried && !certain),
            "{} {acked} {tried} {error:?}",
            opened.at.seq
        );
        let mut sql = connect(&url, FIRST_WORKSPACE).await;
        let counted = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM chunk WHERE stream_id = $1")
            .bind(again.definition.id.to_vec());
        assert_eq!(
            counted.fetch_one(&mut sql).await.expect("it answers"),
            opened.at.seq as i64,
            "as many rows as the watermark says"
        );
    }
}

#[tokio::test]
async fn a_connection_lost_before_commit_is_certain() {
    let fixture = Fixture::new().await;
    let (stream, _, follows) = one_committed(&fixture).await;
    // Held up in the compare-and-set, so COMMIT has not been sent.
    let (holder, holder_id) = fixture.hold(&stream).await;
    let commit = fixture
        .ledger
        .commit(&fixture.workspace, std::slice::from_ref(&follows));
    let cut = fixture.wait_for_waiter(holder_id, "pg_terminate_backend(pid)");
    let (committed, ()) = tokio::join!(commit, cut);
    assert!(matches!(committed, Err(CommitError::Unavailable(_))), "{committed:?}");
    drop(holder);
    assert_eq!(
        fixture.commit(&[follows]).await,
        [true],
        "and the ledger connects again by itself"
    );
}

#[tokio::test]
async fn i6_a_connection_lost_during_commit_is_ambiguous() {
    let fixture = Fixture::new().await;
    let (stream, _, follows) = one_committed(&fixture).await;
    // A deferred trigger runs inside of COMMIT, and there the connection is cut.
    fixture.run("CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL; END $$;
                 CREATE CONSTRAINT TRIGGER cut AFTER UPDATE ON stream DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cut()").await;
    let committed = fixture
        .ledger
        .commit(&fixture.workspace, std::slice::from_ref(&follows))
        .await;
    assert!(matches!(committed, Err(CommitError::Ambiguous(_))), "{committed:?}");
    fixture.run("DROP TRIGGER cut ON stream").await;
    assert_eq!(fixture.position(&stream).await, stream.at);
}

#[tokio::test]
async fn an_error_that_answers_commit_is_certain() {
    let fixture = Fixture::new().await;
    let (stream, _, follows) = one_committed(&fixture).await;
    for (state, bad_data) in [
        ("23505", true),
        ("22003", true),
        ("53100", false),
        ("40001", false),
        ("25006", false),
    ] {
        fixture.run(&format!("CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '{state}'; END $$;
                              DROP TRIGGER IF EXISTS refuse ON stream;
                              CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON stream DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()")).await;
        let refused = fixture
            .ledger
            .commit(&fixture.workspace, std::slice::from_ref(&follows))
            .await;
        match refused {
            Err(CommitError::BadData(_)) => assert!(bad_data, "{state}"),
            Err(CommitError::Unavailable(_)) => assert!(!bad_data, "{state}"),
            other => panic!("{state}: {other:?}"),
        }
        assert_eq!(fixture.position(&stream).await, stream.at);
    }
    fixture.run("DROP TRIGGER refuse ON stream").await;
    assert_eq!(fixture.commit(&[follows]).await, [true]);
}

#[tokio::test]
async fn a_full_disk_while_rows_are_stored_is_not_the_datas_fault() {
    let fixture = Fixture::new().await;
    let (stream, _, follows) = one_committed(&fixture).await;
    fixture.run("CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '53100' USING MESSAGE = 'could not extend file: No space left on device'; END $$;
                 CREATE TRIGGER full_disk BEFORE INSERT ON chunk_signal FOR EACH ROW EXECUTE FUNCTION full_disk()").await;
    let refused = fixture
        .ledger
        .commit(&fixture.workspace, std::slice::from_ref(&follows))
        .await;
    assert!(
        matches!(&refused, Err(CommitError::Unavailable(why)) if why.contains("No space left")),
        "{refused:?}"
    );
    assert_eq!(
        (fixture.position(&stream).await, fixture.rows_of(&stream).await),
        (stream.at, 1)
    );
    fixture.run("DROP TRIGGER full_disk ON chunk_signal").await;
    assert_eq!(fixture.commit(&[follows]).await, [true]);
}

#[tokio::test]
async fn a_commit_whose_caller_gave_up_leaves_nothing_locked() {
    let fixture = Fixture::new().await;
    let (stream, _, follows) = one_committed(&fixture).await;
    let (mut holder, holder_id) = fixture.hold(&stream).await;
    let commit = fixture
        .ledger
        .commit(&fixture.workspace, std::slice::from_ref(&follows));
    tokio::select! {
        committed = commit => panic!("it waits for the lock: {committed:?}"),
        () = fixture.wait_for_waiter(holder_id, "*") => {}
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.expect("it ends");
    assert_eq!(fixture.commit(std::slice::from_ref(&follows)).await, [true]);
    assert_eq!(fixture.position(&stream).await, follows.after);
}

#[tokio::test]
async fn a_standby_and_a_database_that_is_down_are_unavailable() {
    let mut database = TestDatabase::start().await.expect("Postgres is installed");
    let url = database.url();
    let ledger = ledger(&url).await;
    let (mut stream, owner) = (Stream::new(), owner());
    let start = ledger
        .open(FIRST_WORKSPACE, stream.open_request(owner))
        .await
        .expect("it opens")
        .at;
    let follows = entry(&stream.clone(), owner, start, vec![stream.few_samples()]);

    database.stop();
    std::fs::write(database.directory().join("data/standby.signal"), "").expect("the cluster is ours");
    database.restart().expect("it starts as a standby");
    let refused = ledger.commit(FIRST_WORKSPACE, std::slice::from_ref(&follows)).await;
    assert!(
        matches!(&refused, Err(CommitError::Unavailable(why)) if why.contains("recovery")),
        "{refused:?}"
    );

    let before = ledger.database().timeline();
    let promote = sqlx::query("SELECT pg_promote()");
    promote
        .execute(&mut connect(&url, FIRST_WORKSPACE).await)
        .await
        .expect("it is promoted");
    let refused = ledger.open(FIRST_WORKSPACE, stream.open_request(owner)).await;
    assert!(
        matches!(&refused, Err(OpenError::Unavailable(why)) if why.contains("failed over")),
        "{refused:?}"
    );
    assert_eq!(ledger.database().timeline(), before + 1);
    assert_eq!(
        ledger
            .commit(FIRST_WORKSPACE, std::slice::from_ref(&follows))
            .await
            .expect("the new primary"),
        [true]
    );

    database.stop();
    let refused = ledger.open(FIRST_WORKSPACE, stream.open_request(owner)).await;
    assert!(matches!(refused, Err(OpenError::Unavailable(_))), "{refused:?}");
}

/// An address that can be moved: a directory whose socket leads to one Postgres or another.
fn lead(address: &std::path::Path, to: &TestDatabase) {
    let sockets = std::fs::read_dir(to.directory().join("socket")).expect("it runs");
    let mut paths = sockets.map(|entry| entry.expect("readable").path());
    let socket = paths.find(|path| path.extension().is_none_or(|extension| extension != "lock"));
    let moved = address.join("moving");
    std::os::unix::fs::symlink(socket.expect("it listens"), &moved).expect("ours");
    std::fs::rename(&moved, address.join(".s.PGSQL.5432")).expect("ours");
}

/// Begins transactions, each on a connection of its own, until one is refused.
async fn until_refused(database: &Database, workspace: &Workspace) -> (Vec<Transaction>, StoreError) {
    let mut held = Vec::new();
    loop {
        match database.begin(workspace).await {
            Ok(tx) => held.push(tx),
            Err(refused) => return (held, refused),
        }
    }
}

#[tokio::test]
async fn i6_an_address_that_moves_between_two_living_primaries_is_noticed() {
    let mut old = TestDatabase::start().await.expect("Postgres is installed");
    let mut new = TestDatabase::start().await.expect("Postgres is installed");
    old.stop();
    new.stop();
    let data = |database: &TestDatabase| database.directory().join("data");
    std::fs::remove_dir_all(data(&new)).expect("ours");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(data(&old))
        .arg(data(&new))
        .status();
    assert!(copied.expect("cp runs").success());
    std::fs::write(data(&new).join("standby.signal"), "").expect("ours");
    old.restart().expect("it starts");
    new.restart().expect("it starts as a standby");
    let promote = sqlx::query("SELECT pg_promote()");
    promote
        .execute(&mut connect(&new.url(), FIRST_WORKSPACE).await)
        .await
        .expect("it is promoted");

    let address = tempfile::tempdir().expect("a directory");
    lead(address.path(), &old);
    let url = format!(
        "postgres:///wavekeep?host={}&port=5432&user=wavekeep",
        address.path().display()
    );
    let ledger = ledger(&url).await;
    let database = ledger.database();
    let workspace = database.workspace(FIRST_WORKSPACE).await.expect("it was created");
    let mut probe = PrimaryProbe::new(&url, database.clone()).expect("a URL");
    probe.primary().await.expect("the old primary answers");
    let (stream, owner) = (Stream::new(), owner());
    let start = ledger
        .open(FIRST_WORKSPACE, stream.open_request(owner))
        .await
        .expect("it opens")
        .at;

    lead(address.path(), &new);
    let (on_old, changed) = until_refused(database, &workspace).await;
    assert!(
        matches!(changed, StoreError::PrimaryChanged { before: 1, after: 2 }),
        "{changed}"
    );
    assert!(!on_old.is_empty(), "the pool's connection still led there");
    for tx in on_old {
        tx.rollback().await;
    }
    let lost = probe.primary().await.expect_err("so that every session ends");
    assert!(lost.contains("timeline 2"), "{lost}");
    probe.primary().await.expect("it connects again, to the new one");
    let stale = entry(&stream, owner, start, vec![stream.clone().few_samples()]);
    let moved = ledger
        .commit(FIRST_WORKSPACE, &[stale])
        .await
        .expect("no connection to the old one is left");
    assert_eq!(moved, [false], "the new one has never heard of this owner");

    lead(address.path(), &old);
    let (on_new, refused) = until_refused(database, &workspace).await;
    assert!(
        matches!(refused, StoreError::OldPrimary { newest: 2, answered: 1 }),
        "{refused}"
    );
    assert_eq!(database.timeline(), 2, "and is never believed");
    drop(on_new);
    lead(address.path(), &new);
    ledger
        .open(FIRST_WORKSPACE, stream.open_request(owner))
        .await
        .expect("its connection is not used again");
}
