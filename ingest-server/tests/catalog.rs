//! The `Catalog` service on a real Postgres: what it changes, what it refuses, and that it may be asked again.

mod common;
mod query_support;

use common::{NOVEMBER_2026_NS, Stream, random};
use query_support::{Asker, assert_refused, between, by_device, by_stream, changed, successor, what};
use tonic::Code;
use tonic_types::StatusExt;
use wavekeep_proto::v1;
use wavekeep_proto::v1::selection::What;

fn named(name: &str) -> v1::Run {
    v1::Run {
        name: name.into(),
        ..v1::Run::default()
    }
}

fn first_us() -> v1::Selection {
    between(
        by_device("js220-001"),
        Some(NOVEMBER_2026_NS),
        Some(NOVEMBER_2026_NS + 1_000),
    )
}

/// A workspace with one device.
async fn with_device() -> (Asker, Stream) {
    let asker = Asker::new().await;
    let mut stream = Stream::new();
    let rows = vec![
        stream.few_samples(),
        stream.with_marker(b"\xff\x00"),
        stream.few_samples(),
    ];
    asker.store_in(&stream, rows, "recorded", &[]).await;
    (asker, stream)
}

fn reason(status: &tonic::Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[tokio::test]
async fn a_run_is_made_once_and_another_of_its_name_is_refused() {
    let (asker, _) = with_device().await;
    let once = asker
        .create_run(named("a"), vec![first_us()])
        .await
        .expect("it is made");
    let twice = asker
        .create_run(named("a"), vec![first_us()])
        .await
        .expect("it is there");
    assert_eq!(once, twice);
    let other = asker.create_run(named("a"), Vec::new()).await;
    assert_eq!(reason(other.as_ref().expect_err("another")), "RUN_EXISTS");
    assert_refused(other, Code::AlreadyExists, "there is a run \"a\" already");
    let device = asker.create_run(named("b"), vec![by_device("js220-01")]).await;
    assert_refused(device, Code::NotFound, "did you mean \"js220-001\"?");
    let stream = asker.create_run(named("b"), vec![by_stream(&Stream::new())]).await;
    assert_refused(stream, Code::NotFound, "there is no stream");
    let nested = asker.create_run(named("b"), vec![what(What::Run("a".into()))]).await;
    assert_refused(nested, Code::InvalidArgument, "names it as its parent");
    assert_refused(
        asker.create_run(named(""), Vec::new()).await,
        Code::InvalidArgument,
        "a run has a name",
    );
    assert_refused(asker.runs("run=b").await, Code::NotFound, "there is no run \"b\"");
}

#[tokio::test]
async fn no_run_is_a_part_of_itself() {
    let (asker, _) = with_device().await;
    let child = |name: &str, parent: &str| v1::Run {
        parent: parent.into(),
        ..named(name)
    };
    asker.create_run(named("week"), Vec::new()).await.expect("it is made");
    asker
        .create_run(child("night", "week"), vec![first_us()])
        .await
        .expect("it is made");
    asker
        .create_run(child("hour", "night"), vec![first_us()])
        .await
        .expect("it is made");
    let missing = asker.create_run(child("x", "weak"), Vec::new()).await;
    assert_refused(missing, Code::NotFound, "did you mean \"week\"?");
    let update = async |name: &str, parent: &str| {
        let request = v1::UpdateRunRequest {
            workspace: asker.workspace(),
            run: Some(named(name)),
            parent: Some(parent.into()),
            ..v1::UpdateRunRequest::default()
        };
        asker
            .catalog
            .clone()
            .update_run(request)
            .await
            .map(tonic::Response::into_inner)
    };
    assert_refused(
        update("week", "hour").await,
        Code::FailedPrecondition,
        "cannot be its parent",
    );
    assert_refused(
        update("week", "week").await,
        Code::FailedPrecondition,
        "cannot be its parent",
    );
    assert_eq!(update("hour", "").await.expect("it has none then").parent, "");
    assert_refused(update("nigth", "").await, Code::NotFound, "did you mean \"night\"?");
    let week = asker.runs("run=week").await.expect("an answer");
    assert_eq!(week[0].streams, 0, "the members of its parts are not its own");
}

#[tokio::test]
async fn a_run_that_was_recorded_for_is_not_deleted_and_another_goes_without_its_samples() {
    let (asker, stream) = with_device().await;
    let delete = async |name: &str| {
        let (workspace, name) = (asker.workspace(), name.to_owned());
        asker
            .catalog
            .clone()
            .delete_run(v1::DeleteRunRequest { workspace, name })
            .await
    };
    let recorded = delete("recorded").await;
    assert_eq!(reason(recorded.as_ref().expect_err("it stays")), "RUN_RECORDED");
    assert_refused(
        recorded,
        Code::FailedPrecondition,
        "1 streams were recorded for run \"recorded\"",
    );
    asker
        .create_run(named("a"), vec![first_us()])
        .await
        .expect("it is made");
    let child = v1::Run {
        parent: "a".into(),
        ..named("child")
    };
    asker.create_run(child, Vec::new()).await.expect("it is made");
    let rows = asker.fixture.rows_of(&stream).await;
    delete("a").await.expect("it goes");
    assert_refused(delete("a").await, Code::NotFound, "there is no run \"a\"");
    assert_eq!(asker.fixture.rows_of(&stream).await, rows);
    assert_eq!(asker.fixture.one("SELECT count(*) FROM run_member").await, 0);
    assert_eq!(asker.runs("run=child").await.expect("an answer")[0].parent, "");
}

#[tokio::test]
async fn an_import_is_done_whole_or_not_at_all_and_changes_nothing_twice() {
    let (asker, _) = with_device().await;
    let import = async |runs: Vec<v1::Run>| {
        let workspace = asker.workspace();
        let answer = asker
            .catalog
            .clone()
            .import_runs(v1::ImportRunsRequest { workspace, runs })
            .await;
        answer.map(|answer| {
            let done = answer.into_inner();
            (done.created, done.changed, done.unchanged)
        })
    };
    let row = |name: &str, value: &str, member: v1::Selection| v1::Run {
        labels: [("algorithm".to_owned(), value.to_owned())].into(),
        members: vec![member],
        parent: "series".into(),
        ..named(name)
    };
    let later = between(by_device("js220-001"), Some(NOVEMBER_2026_NS + 2_000), None);
    let rows = vec![
        row("1", "A", first_us()),
        row("1", "A", later),
        row("2", "B", first_us()),
        named("series"),
        named("recorded"),
    ];
    let mut wrong = rows.clone();
    wrong.push(row("3", "B", by_device("js221-001")));
    let refused = import(wrong).await.expect_err("a device is unknown");
    let details = refused.get_error_details();
    let metadata = &details.error_info().expect("details").metadata;
    assert_eq!(metadata.get("entry").map(String::as_str), Some("5"));
    assert_eq!(metadata.get("nearest").map(String::as_str), Some("js220-001"));
    assert_eq!(
        asker.runs("").await.expect("an answer").len(),
        1,
        "nothing was imported"
    );
    assert_eq!(import(rows.clone()).await.expect("it is imported"), (3, 0, 1));
    assert_eq!(import(rows).await.expect("it is so already"), (0, 0, 4));
    let runs = asker.runs("algorithm=A").await.expect("an answer");
    assert_eq!(
        (runs.len(), runs[0].members.len(), runs[0].parent.as_str()),
        (1, 2, "series")
    );
    assert_eq!(
        import(vec![row("1", "C", first_us())]).await.expect("it is changed"),
        (0, 1, 0)
    );
}

#[tokio::test]
async fn markers_are_listed_where_they_stand_and_those_of_chunks_stay_as_they_are() {
    let (asker, stream) = with_device().await;
    let marker = |us: i64, content: &str| v1::AddedMarker {
        id: random::<16>().to_vec().into(),
        device: "js220-001".into(),
        time_ns: NOVEMBER_2026_NS + us * 1_000,
        kind: 1,
        format: v1::MarkerFormat::Text as i32,
        content: content.as_bytes().to_vec().into(),
        ..v1::AddedMarker::default()
    };
    let add = async |markers: Vec<v1::AddedMarker>| {
        let workspace = asker.workspace();
        let answer = asker
            .catalog
            .clone()
            .add_markers(v1::AddMarkersRequest { workspace, markers })
            .await;
        answer.map(|answer| answer.into_inner().added)
    };
    let both = vec![marker(2, "in the recording"), marker(5_000_000, "long after it")];
    assert_eq!(add(both.clone()).await.expect("they are added"), 2);
    assert_eq!(add(both).await.expect("they are there"), 0);
    let unknown = v1::AddedMarker {
        device: "js220-01".into(),
        ..marker(0, "x")
    };
    assert_refused(add(vec![unknown]).await, Code::NotFound, "did you mean \"js220-001\"?");
    let listed = async |selection: v1::Selection| -> Vec<(u64, i64)> {
        let markers = asker.markers(selection).await.expect("an answer");
        let place = |marker: &v1::ListedMarker| (marker.sample, (marker.time_ns - NOVEMBER_2026_NS) / 1_000);
        markers.iter().map(place).collect()
    };
    assert_eq!(listed(by_device("js220-001")).await, [(4, 4), (0, 2), (0, 5_000_000)]);
    assert_eq!(listed(v1::Selection::default()).await.len(), 3);
    assert_eq!(listed(what(What::Run("recorded".into()))).await, [(4, 4), (0, 2)]);
    assert_eq!(listed(by_stream(&stream)).await, [(4, 4), (0, 2)]);
    let late = between(by_device("js220-001"), Some(NOVEMBER_2026_NS + 3_000), None);
    assert_eq!(listed(late).await, [(4, 4), (0, 5_000_000)]);
    let of_chunk = asker.markers(by_stream(&stream)).await.expect("an answer").remove(0);
    assert_eq!(
        (of_chunk.seq, of_chunk.format, &of_chunk.content[..]),
        (2, 3, &b"\xff\x00"[..])
    );
    assert_eq!(
        asker
            .fixture
            .one("SELECT count(*) FROM marker WHERE seq IS NOT NULL")
            .await,
        1
    );
    assert_eq!(
        asker.fixture.one("SELECT count(*) FROM marker").await,
        1,
        "what people add is elsewhere"
    );
}

#[tokio::test]
async fn markers_that_were_added_are_taken_away_and_those_of_chunks_are_not() {
    let (asker, stream) = with_device().await;
    let markers: Vec<v1::AddedMarker> = [1, 2]
        .map(|number| v1::AddedMarker {
            id: vec![number; 16].into(),
            device: "js220-001".into(),
            time_ns: NOVEMBER_2026_NS,
            format: v1::MarkerFormat::Text as i32,
            content: b"boot".to_vec().into(),
            ..v1::AddedMarker::default()
        })
        .into();
    let mut catalog = asker.catalog.clone();
    let workspace = asker.workspace();
    let request = v1::AddMarkersRequest { workspace, markers };
    assert_eq!(
        catalog
            .add_markers(request.clone())
            .await
            .expect("they are added")
            .into_inner()
            .added,
        2
    );
    let remove = async |ids: Vec<Vec<u8>>| {
        let ids = ids.into_iter().map(Into::into).collect();
        let workspace = asker.workspace();
        let answer = asker
            .catalog
            .clone()
            .remove_markers(v1::RemoveMarkersRequest { workspace, ids })
            .await;
        answer.map(|answer| answer.into_inner().removed)
    };
    let refused = remove(vec![vec![2; 16], vec![2; 15]]).await;
    assert_refused(refused, Code::InvalidArgument, "an id of 16 random bytes");
    let too_many = remove(vec![vec![2; 16]; 1001]).await;
    assert_refused(too_many, Code::InvalidArgument, "at most 1000 markers");
    // One that is there, one that is not, and one twice.
    assert_eq!(
        remove(vec![vec![2; 16], vec![3; 16], vec![2; 16]])
            .await
            .expect("it is removed"),
        1
    );
    assert_eq!(remove(vec![vec![2; 16]]).await.expect("it is gone"), 0);
    let left = asker.markers(by_stream(&stream)).await.expect("an answer");
    let left: Vec<&[u8]> = left.iter().map(|marker| &marker.added_id[..]).collect();
    assert_eq!(left, [&b""[..], &[1; 16]], "that of the chunk, and the other one");
    assert_eq!(
        catalog
            .add_markers(request)
            .await
            .expect("it is added anew")
            .into_inner()
            .added,
        1
    );
}

#[tokio::test]
async fn a_marker_that_a_successor_has_is_listed_once() {
    let asker = Asker::new().await;
    let mut first = Stream::new();
    let rows = vec![first.few_samples(), first.with_marker(b"1")];
    let mut after = successor(&first, 1, 3, NOVEMBER_2026_NS + 3_000);
    let again = vec![after.with_marker(b"1"), after.few_samples()];
    asker.store(&first, rows).await;
    asker.store(&after, again).await;
    let markers = asker.markers(by_device("js220-001")).await.expect("an answer");
    assert_eq!(markers.len(), 1);
    let other = changed(|definition| definition.device = "ppk2".into());
    asker.store(&other, Vec::from([other.clone().few_samples()])).await;
    assert!(asker.markers(by_device("ppk2")).await.expect("an answer").is_empty());
}
