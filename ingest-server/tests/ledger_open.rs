//! Opening streams on a real Postgres: who owns the row, what the agent is told, and which workspace it is in.

mod common;

use std::sync::Arc;

use common::{Fixture, Stream, assert_fenced, entry, one_committed, owner};
use wavekeep_proto::chunk::{Position, Reason};
use wavekeep_proto::hash::definition_hash;
use wavekeep_proto::stream::Predecessor;
use wavekeep_server::ledger::{CommitError, Entry, Ledger, OpenError, OpenRequest};

#[tokio::test]
async fn open_takes_the_row_and_fences_the_session_before() {
    let fixture = Fixture::new().await;
    let (stream, first, follows) = one_committed(&fixture).await;
    let second = owner();
    let opened = fixture.open(&stream, second).await;
    assert_eq!(
        (opened.at, opened.row),
        (stream.at, None),
        "the agent stored all: no row needed"
    );
    assert_fenced(
        &fixture,
        &stream,
        Entry {
            owner: first,
            ..follows.clone()
        },
        "the session before",
    )
    .await;
    assert_eq!(
        fixture
            .commit(&[Entry {
                owner: second,
                ..follows
            }])
            .await,
        [true]
    );
}

#[tokio::test]
async fn open_tells_the_row_at_the_stored_seq_when_the_server_is_ahead() {
    let fixture = Fixture::new().await;
    let (mut stream, owner) = (Stream::new(), owner());
    let start = fixture.open(&stream, owner).await.at;
    assert_eq!(start, Position::start(&stream.definition));
    let mut rows = vec![stream.few_samples(), stream.few_samples()];
    let second = stream.at;
    let mut replacing = stream.gap(7_000, Reason::Evicted);
    // One gap stands for seqs 3 to 9.
    replacing.chunk.header.seq = 9;
    stream.at.seq = 9;
    rows.extend([replacing, stream.end()]);
    assert_eq!(fixture.commit(&[entry(&stream, owner, start, rows)]).await, [true]);
    let row = async |stored_seq| {
        let request = OpenRequest {
            stored_seq,
            ..stream.open_request(owner)
        };
        let opened = fixture
            .ledger
            .open(&fixture.workspace, request)
            .await
            .expect("it opens");
        assert_eq!(
            opened.at, stream.at,
            "adopting: the agent is told that the stream has ended"
        );
        opened.row
    };
    assert_eq!(row(0).await, None);
    assert_eq!(row(2).await, Some((2, second.digest)));
    assert_eq!(
        row(5).await,
        Some((2, second.digest)),
        "inside of the gap: the last row under it"
    );
    assert_eq!(row(9).await.map(|row| row.0), Some(9));
    assert_eq!(row(10).await, None, "not ahead");
    assert_eq!(row(u64::MAX).await, None);
}

#[tokio::test]
async fn open_refuses_another_definition_and_leaves_the_owner() {
    let fixture = Fixture::new().await;
    let (stream, _, follows) = one_committed(&fixture).await;
    let mut changed = (*stream.definition).clone();
    changed.rate_hz = 2e6;
    changed.device = "another".into();
    let mut request = stream.open_request(owner());
    request.definition = Arc::new(changed);
    let refused = fixture.ledger.open(&fixture.workspace, request).await;
    assert!(
        matches!(refused, Err(OpenError::DefinitionMismatch(id)) if id == stream.definition.id),
        "{refused:?}"
    );
    assert_eq!(fixture.commit(&[follows]).await, [true], "the owner is still the owner");
    assert_eq!(
        fixture.one("SELECT count(*) FROM device WHERE name = 'another'").await,
        0
    );
}

#[tokio::test]
async fn open_replaces_labels_and_run_and_takes_any_text() {
    let fixture = Fixture::new().await;
    let mut definition = common::definition();
    definition.attributes.insert("note".into(), "a\0b\"c\\ü".into());
    definition.signals[0].unit = "\0".into();
    let stream = Stream::of(definition);
    let mut request = stream.open_request(owner());
    request.labels.insert("algorithm".into(), "A".into());
    request.run = "night\0shift".into();
    fixture
        .ledger
        .open(&fixture.workspace, request.clone())
        .await
        .expect("it opens");
    request.labels = [("algorithm".to_owned(), "B\0".to_owned())].into();
    request.run = String::new();
    request.owner = owner();
    fixture
        .ledger
        .open(&fixture.workspace, request)
        .await
        .expect("it opens again");
    let labelled = "SELECT count(*) FROM stream WHERE labels = '{\"algorithm\": \"B\u{FFFD}\"}' AND run IS NULL AND device = 'js220-001'";
    assert_eq!(fixture.one(labelled).await, 1);
    assert_eq!(
        fixture
            .one("SELECT count(*) FROM run WHERE name = 'night\u{FFFD}shift'")
            .await,
        1
    );
    let signals = "SELECT count(*) FROM stream WHERE signals @> '[{\"number\": 40000, \"name\": \"voltage\", \"type\": \"f32\"}]'";
    assert_eq!(fixture.one(signals).await, 1);
}

#[tokio::test]
async fn an_unknown_workspace_is_said_to_be_unknown() {
    let fixture = Fixture::new().await;
    for name in ["nowhere", "", "Main", "x\"; DROP SCHEMA main; --", "public", "wavekeep"] {
        let id = fixture.ledger.ledger_id(name).await;
        assert!(
            matches!(&id, Err(OpenError::UnknownWorkspace(unknown)) if unknown == name),
            "{id:?}"
        );
        let opened = fixture.ledger.open(name, Stream::new().open_request(owner())).await;
        assert!(matches!(opened, Err(OpenError::UnknownWorkspace(_))), "{opened:?}");
    }
    let mut stream = Stream::new();
    let start = stream.at;
    let rows = vec![stream.few_samples()];
    let committed = fixture
        .ledger
        .commit("nowhere", &[entry(&stream, owner(), start, rows)])
        .await;
    assert!(matches!(committed, Err(CommitError::Unavailable(_))), "{committed:?}");
}

#[tokio::test]
async fn i10_workspaces_do_not_see_each_other() {
    let (one, other) = (Fixture::new().await, Fixture::new().await);
    let ids = (
        one.ledger.ledger_id(&one.workspace).await,
        one.ledger.ledger_id(&other.workspace).await,
    );
    assert_ne!(ids.0.expect("it exists"), ids.1.expect("it exists"));
    let (stream, _, follows) = one_committed(&one).await;
    // The same ledger, so the same connections, in the other workspace: there is no such stream.
    let elsewhere = one
        .ledger
        .commit(&other.workspace, std::slice::from_ref(&follows))
        .await;
    assert_eq!(elsewhere.expect("the batch commits"), [false]);
    assert_eq!(other.one("SELECT count(*) FROM stream").await, 0);
    let opened = other.open(&stream, owner()).await;
    assert_eq!(
        opened.at,
        Position::start(&stream.definition),
        "the same id is another stream there"
    );
    assert_eq!(one.commit(&[follows]).await, [true], "and this one keeps its owner");
    let in_public = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(one.one(in_public).await, 0, "public holds no tables of ours");
}

#[tokio::test]
async fn a_stream_that_vanished_starts_over_and_leaves_no_rows_behind() {
    let fixture = Fixture::new().await;
    let (stream, owner, follows) = one_committed(&fixture).await;
    fixture
        .run(&format!("DELETE FROM stream WHERE id = '\\x{}'", stream.definition.id))
        .await;
    assert_eq!(fixture.rows_of(&stream).await, 0, "else healing would store them twice");
    assert_eq!(fixture.commit(&[follows]).await, [false]);
    assert_eq!(
        fixture.open(&stream, owner).await.at,
        Position::start(&stream.definition)
    );
    let zero = OpenRequest {
        stored_seq: 0,
        ..stream.open_request(owner)
    };
    let opened = fixture.ledger.open(&fixture.workspace, zero).await.expect("it opens");
    assert_eq!(
        (opened.at.seq, opened.at.digest),
        (0, definition_hash(&stream.definition))
    );
}

#[tokio::test]
async fn a_stream_that_cannot_be_opened_is_told_from_a_database_that_cannot_be_used() {
    let fixture = Fixture::new().await;
    let (stream, _, _) = one_committed(&fixture).await;
    let (_holder, _) = fixture.hold(&stream).await;
    let open = async |request| fixture.ledger.open(&fixture.workspace, request).await;
    let mut misfit = common::definition();
    misfit.predecessor = Some(Predecessor {
        stream_id: stream.definition.id,
        seq: u64::MAX,
    });
    let (locked, misfit) = tokio::join!(
        open(stream.open_request(owner())),
        open(Stream::of(misfit).open_request(owner()))
    );
    assert!(matches!(locked, Err(OpenError::Locked(_))), "{locked:?}");
    assert!(matches!(misfit, Err(OpenError::BadData(_))), "{misfit:?}");
}
