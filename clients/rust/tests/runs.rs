//! Runs and markers of the library and the command line, against a server that says what it is told to and remembers what it is asked.

mod support;

use std::sync::{Arc, Mutex};

use support::command::{Ran, run_at};
use support::{START_NS, Script, manifest_part, script, with_range};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};
use wavekeep::proto::codec::Encoding;
use wavekeep::proto::v1;
use wavekeep::proto::v1::catalog_server::{Catalog, CatalogServer};
use wavekeep::proto::v1::query_server::QueryServer;
use wavekeep::proto::v1::waveform_part::Part as Wire;
use wavekeep::{Client, Error, Part, Selection, TimeRange};

/// What came, whole.
#[derive(Debug, Clone, Default)]
struct Seen {
    created: Arc<Mutex<Vec<v1::CreateRunRequest>>>,
    updated: Arc<Mutex<Vec<v1::UpdateRunRequest>>>,
    imported: Arc<Mutex<Vec<v1::ImportRunsRequest>>>,
    marked: Arc<Mutex<Vec<v1::AddMarkersRequest>>>,
    unmarked: Arc<Mutex<Vec<v1::RemoveMarkersRequest>>>,
    /// Entries of an import from this one on are refused.
    refuse_from: Option<usize>,
}

fn take<T: Clone>(all: &Mutex<Vec<T>>) -> Vec<T> {
    all.lock().expect("not poisoned").clone()
}

#[tonic::async_trait]
impl Catalog for Seen {
    async fn create_run(&self, request: Request<v1::CreateRunRequest>) -> Result<Response<v1::Run>, Status> {
        let request = request.into_inner();
        self.created.lock().expect("not poisoned").push(request.clone());
        Ok(Response::new(request.run.unwrap_or_default()))
    }
    async fn update_run(&self, request: Request<v1::UpdateRunRequest>) -> Result<Response<v1::Run>, Status> {
        let request = request.into_inner();
        self.updated.lock().expect("not poisoned").push(request.clone());
        Ok(Response::new(request.run.unwrap_or_default()))
    }
    async fn delete_run(&self, _: Request<v1::DeleteRunRequest>) -> Result<Response<v1::DeleteRunResponse>, Status> {
        Err(Status::failed_precondition("it was recorded for"))
    }
    async fn import_runs(
        &self,
        request: Request<v1::ImportRunsRequest>,
    ) -> Result<Response<v1::ImportRunsResponse>, Status> {
        let request = request.into_inner();
        let runs = request.runs.len();
        self.imported.lock().expect("not poisoned").push(request);
        if let Some(entry) = self.refuse_from.filter(|from| *from < runs) {
            let metadata = [("entry".to_owned(), entry.to_string())];
            let details = ErrorDetails::with_error_info("UNKNOWN_NAME", "wavekeep", metadata);
            return Err(Status::with_error_details(
                Code::NotFound,
                "there is no device \"x\"",
                details,
            ));
        }
        let (created, changed, unchanged) = (runs as u64, 0, 0);
        Ok(Response::new(v1::ImportRunsResponse {
            created,
            changed,
            unchanged,
        }))
    }
    async fn add_markers(
        &self,
        request: Request<v1::AddMarkersRequest>,
    ) -> Result<Response<v1::AddMarkersResponse>, Status> {
        let request = request.into_inner();
        let added = request.markers.len() as u64;
        self.marked.lock().expect("not poisoned").push(request);
        Ok(Response::new(v1::AddMarkersResponse { added }))
    }
    async fn remove_markers(
        &self,
        request: Request<v1::RemoveMarkersRequest>,
    ) -> Result<Response<v1::RemoveMarkersResponse>, Status> {
        let request = request.into_inner();
        let removed = request.ids.len() as u64;
        self.unmarked.lock().expect("not poisoned").push(request);
        Ok(Response::new(v1::RemoveMarkersResponse { removed }))
    }
}

async fn serve(script: Script, seen: Seen) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = Server::builder()
        .add_service(QueryServer::new(script))
        .add_service(CatalogServer::new(seen));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    format!("http://{address}")
}

fn night() -> v1::Run {
    v1::Run {
        name: "night 1".into(),
        labels: [("algorithm", "A"), ("fan", "on")]
            .map(|(key, value)| (key.into(), value.into()))
            .into(),
        own_labels: [("algorithm".to_owned(), "A".to_owned())].into(),
        streams: 2,
        recorded_streams: 1,
        parent: "week".into(),
        note: "cold\nand dry".into(),
        devices: vec!["js220-001".into()],
        members: vec![v1::Selection {
            what: Some(v1::selection::What::Device("js220-001".into())),
            range: Some(v1::TimeRange {
                from_ns: Some(START_NS),
                to_ns: None,
            }),
            ..v1::Selection::default()
        }],
        first_time_ns: Some(START_NS),
        last_time_ns: Some(START_NS + 90_000_000_000),
        duration_ns: 90_000_000_000,
        ..v1::Run::default()
    }
}

fn ok(ran: &Ran) -> &str {
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    &ran.out
}

#[tokio::test]
async fn runs_are_a_table_or_json_and_the_filter_travels_as_it_is() {
    let answer = Script {
        runs: vec![night()],
        ..Script::default()
    };
    let filter = answer.filter.clone();
    let server = serve(answer, Seen::default()).await;
    let ran = run_at(&server, &["runs", "--filter", "algorithm=A device~js220-*"]).await;
    let rows: Vec<&str> = ok(&ran).lines().collect();
    assert!(rows[0].starts_with("RUN      LABELS"), "{}", ran.out);
    for part in [
        "night 1",
        "algorithm=A fan=on",
        "week",
        "1 min 30 s",
        "2026-11-23T00:00:00Z",
    ] {
        assert!(rows[1].contains(part), "{part}: {}", ran.out);
    }
    assert_eq!(*filter.lock().expect("not poisoned"), "algorithm=A device~js220-*");
    let ran = run_at(&server, &["runs", "--json"]).await;
    let line: serde_json::Value = serde_json::from_str(ok(&ran)).expect("one object");
    assert_eq!(
        (line["duration_s"].as_f64(), line["own_labels"]["algorithm"].as_str()),
        (Some(90.0), Some("A"))
    );
    assert_eq!(line["members"][0]["device"].as_str(), Some("js220-001"));
    assert!(line["members"][0]["to"].is_null());
    let ran = run_at(&server, &["run", "show", "a \"b\""]).await;
    for part in [
        "algorithm=A",
        "of all streams  fan=on",
        "and dry",
        "js220-001, 2026-11-23T00:00:00Z to its end",
    ] {
        assert!(ok(&ran).contains(part), "{part}: {}", ran.out);
    }
    let empty = serve(Script::default(), Seen::default()).await;
    let ran = run_at(&empty, &["runs"]).await;
    assert_eq!((ok(&ran), ran.err.as_str()), ("", "no runs\n"));
}

#[tokio::test]
async fn a_run_is_made_of_a_time_and_changed_by_what_is_named() {
    let seen = Seen::default();
    let server = serve(script(&[&support::command::whole()]), seen.clone()).await;
    let create = [
        "run",
        "create",
        "n",
        "--device",
        "js220-001",
        "--from",
        "2026-11-23T00:00:00Z",
        "--label",
        "a=b=c",
        "--label",
        "d=",
        "--parent",
        "week",
        "--note",
        "x",
    ];
    ok(&run_at(&server, &create).await);
    let request = take(&seen.created).remove(0);
    let run = request.run.expect("a run");
    assert_eq!((run.parent.as_str(), run.note.as_str()), ("week", "x"));
    assert_eq!(run.labels.get("a").map(String::as_str), Some("b=c"));
    assert_eq!(run.labels.get("d").map(String::as_str), Some(""));
    let range = request.members[0].range.expect("a range");
    assert_eq!((range.from_ns, range.to_ns), (Some(START_NS), None));
    // By the beginning of its id, and from the end of what is stored.
    ok(&run_at(&server, &["run", "add", "n", "--stream", "0101", "--from", "-2us"]).await);
    ok(&run_at(
        &server,
        &[
            "run", "label", "n", "a=1", "--remove", "b", "--remove", "c", "--parent", "",
        ],
    )
    .await);
    let updated = take(&seen.updated);
    assert!(matches!(&updated[0].members[0].what, Some(v1::selection::What::StreamId(id)) if id[..] == [1; 16]));
    assert_eq!(
        updated[0].members[0].range.expect("a range").from_ns,
        Some(START_NS + 7_000)
    );
    assert_eq!(
        (&updated[1].remove_labels[..], updated[1].parent.as_deref()),
        (&["b".to_owned(), "c".to_owned()][..], Some(""))
    );
    assert_eq!(updated[1].note, None, "what is not named stays");
    for (arguments, part) in [
        (&["run", "create", "n", "--from", "-1s"][..], "say whose time that is"),
        (&["run", "add", "n"], "say of what"),
        (&["run", "label", "n"], "say what to change"),
        (&["run", "label", "n", "a"], "write a label as key=value"),
        (&["mark", "text"], "say which device"),
        (&["mark", "--device", "x"], "say what to note"),
        (
            &["mark", "--device", "x", "--kind", "big", "text"],
            "give text, vertical, horizontal or a number",
        ),
    ] {
        let ran = run_at(&server, arguments).await;
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(part), "{arguments:?}: {}", ran.err);
    }
    let ran = run_at(&server, &["run", "delete", "n"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), "error: it was recorded for\n"));
}

#[tokio::test]
async fn whoever_leaves_an_end_open_is_told_that_the_run_grows() {
    let seen = Seen::default();
    let server = serve(script(&[&support::command::whole()]), seen.clone()).await;
    for verb in ["create", "add"] {
        let open = ["run", verb, "n", "--device", "js220-001", "--from", "-2us"];
        let ran = run_at(&server, &open).await;
        ok(&ran);
        let told = "the end of this time is open: what is recorded later";
        assert!(ran.err.starts_with(told), "{}", ran.err);
        let ran = run_at(&server, &[&open[..], &["--to", "-0s"]].concat()).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    }
    let added = take(&seen.updated).remove(1);
    let range = added.members[0].range.expect("a range");
    assert_eq!(
        (range.from_ns, range.to_ns),
        (Some(START_NS + 7_000), Some(START_NS + 9_000))
    );
    let ran = run_at(&server, &["run", "create", "week"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "it has no time");
}

#[tokio::test]
async fn a_time_is_taken_out_of_a_run_as_it_was_added_or_with_all_of_its_device() {
    let answer = Script {
        runs: vec![v1::Run {
            members: [None, Some(START_NS + 5)]
                .map(|to_ns| v1::Selection {
                    range: Some(v1::TimeRange {
                        from_ns: Some(START_NS),
                        to_ns,
                    }),
                    ..night().members.remove(0)
                })
                .into(),
            ..night()
        }],
        ..Script::default()
    };
    let seen = Seen::default();
    let server = serve(answer, seen.clone()).await;
    let remove = ["run", "remove", "night 1", "--device"];
    let from = ["--from", "2026-11-23T00:00:00Z"];
    ok(&run_at(&server, &[&remove[..], &["js220-001"]].concat()).await);
    ok(&run_at(&server, &[&remove[..], &["js220-001"], &from].concat()).await);
    let taken: Vec<usize> = take(&seen.updated)
        .iter()
        .map(|request| request.remove_members.len())
        .collect();
    assert_eq!(taken, [2, 1]);
    let ran = run_at(&server, &[&remove[..], &["js220-002"], &from].concat()).await;
    assert_eq!(ran.code, Some(1));
    for part in [
        "js220-002, 2026-11-23T00:00:00Z to its end was not added to run night 1",
        "js220-001, ",
    ] {
        assert!(ran.err.contains(part), "{}", ran.err);
    }
    assert_eq!(take(&seen.updated).len(), 2, "nothing was asked for");
}

#[tokio::test]
async fn a_refusal_of_an_import_names_the_line() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("runs.csv");
    std::fs::write(&file, "name,device,note\na,js220,\"two\nlines\"\nb,x,\n").expect("it is written");
    let path = file.to_str().expect("text");
    let seen = Seen::default();
    let server = serve(Script::default(), seen.clone()).await;
    let ran = run_at(&server, &["run", "import", path]).await;
    assert!(ok(&ran).contains("2 runs created"), "{}", ran.out);
    assert_eq!(take(&seen.imported)[0].runs[0].note, "two\nlines");
    let refusing = Seen {
        refuse_from: Some(1),
        ..Seen::default()
    };
    let server = serve(Script::default(), refusing).await;
    let ran = run_at(&server, &["run", "import", path]).await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err
            .contains("line 4: there is no device \"x\"; nothing was imported"),
        "{}",
        ran.err
    );
    let ran = run_at(&server, &["run", "import", "not there.csv"]).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("cannot read not there.csv"),
        "{}",
        ran.err
    );
    let client = Client::connect(&server, "main").await.expect("it answers");
    let error = client
        .import_runs(&vec![wavekeep::NewRun::named("a"); 2])
        .await
        .expect_err("it is refused");
    assert!(
        matches!(
            error,
            Error::Refused {
                entry: Some(1),
                code: Code::NotFound,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn markers_are_listed_in_order_of_time_whatever_they_hold() {
    let listed = |time_ns, format: v1::MarkerFormat, content: &'static [u8], added: bool| v1::ListedMarker {
        device: "js220-001".into(),
        time_ns,
        format: format as i32,
        content: content.into(),
        y: f64::NAN,
        stream_id: if added { Vec::new() } else { vec![1; 16] }.into(),
        added_id: if added { vec![2; 16] } else { Vec::new() }.into(),
        sample: 7,
        ..v1::ListedMarker::default()
    };
    let answer = Script {
        markers: vec![
            listed(START_NS + 2_000, v1::MarkerFormat::Bytes, b"\xff\x00", false),
            listed(START_NS, v1::MarkerFormat::Json, b"{\"a\": [1]}", true),
            listed(START_NS + 1_000, v1::MarkerFormat::Text, b"two\nlines", true),
        ],
        ..Script::default()
    };
    let seen = Seen::default();
    let server = serve(answer, seen.clone()).await;
    let ran = run_at(&server, &["markers", "--device", "js220-001"]).await;
    let rows: Vec<&str> = ok(&ran).lines().collect();
    assert!(
        rows[1].contains("{\"a\": [1]}") && rows[2].contains("two?lines") && rows[3].contains("ff00"),
        "{}",
        ran.out
    );
    let ran = run_at(&server, &["--json", "markers"]).await;
    let lines: Vec<serde_json::Value> = ok(&ran)
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .collect();
    assert_eq!(
        (&lines[0]["json"]["a"][0], lines[1]["text"].as_str()),
        (&1.into(), Some("two\nlines"))
    );
    assert_eq!(
        (
            lines[2]["bytes"].as_str(),
            lines[2]["sample"].as_u64(),
            lines[0]["sample"].as_u64()
        ),
        (Some("ff00"), Some(7), None)
    );
    ok(&run_at(
        &server,
        &[
            "mark",
            "--device",
            "js220-001",
            "--time",
            "2026-11-23T00:00:00Z",
            "--kind",
            "7",
            "a note",
        ],
    )
    .await);
    let marker = take(&seen.marked).remove(0).markers.remove(0);
    assert_eq!(
        (marker.time_ns, marker.kind, &marker.content[..]),
        (START_NS, 7, &b"a note"[..])
    );
    assert_eq!(marker.id.len(), 16);
}

#[tokio::test]
async fn a_marker_that_was_added_is_taken_away_by_the_beginning_of_its_id() {
    let listed = |id: &[u8], content: &'static [u8]| v1::ListedMarker {
        device: "js220-001".into(),
        time_ns: START_NS,
        format: v1::MarkerFormat::Text as i32,
        content: content.into(),
        added_id: id.to_vec().into(),
        stream_id: if id.is_empty() { vec![1; 16] } else { Vec::new() }.into(),
        ..v1::ListedMarker::default()
    };
    let mut other = [0xab; 16];
    other[2] = 0;
    let answer = Script {
        markers: vec![
            listed(&[], b"captured"),
            listed(&[0xab; 16], b"boot"),
            listed(&other, b"boot"),
        ],
        ..Script::default()
    };
    let seen = Seen::default();
    let server = serve(answer, seen.clone()).await;
    let ran = run_at(&server, &["unmark", "ABAB00"]).await;
    let id = format!("abab00{}", "ab".repeat(13));
    assert_eq!(
        ok(&ran),
        format!("unmarked {id} of js220-001 at 2026-11-23T00:00:00Z: boot\n")
    );
    let removed = take(&seen.unmarked).remove(0).ids;
    assert_eq!((removed.len(), &removed[0][..]), (1, &other[..]));
    // A whole id is not looked for.
    let both = ["--json", "unmark", "abab00", &"CD".repeat(16), "abab00a"];
    let said = ok(&run_at(&server, &both).await).to_owned();
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains(&"cd".repeat(16)), "{said}");
    assert_eq!(take(&seen.unmarked)[1].ids, [other.to_vec(), vec![0xcd; 16]]);
    for (words, why) in [
        (["abab00", "abab"], "several markers begin with abab: give more digits"),
        (["abab00", "0101"], "no marker that was added begins with 0101"),
        (["abab00", "boot"], "\"boot\" is no marker's id"),
        (["abab00", "aba"], "at least the first 4"),
    ] {
        let ran = run_at(&server, &[&["unmark"][..], &words].concat()).await;
        assert!(ran.code != Some(0) && ran.err.contains(why), "{words:?}: {}", ran.err);
    }
    assert_eq!(take(&seen.unmarked).len(), 2, "all of them, or none");
}

/// A stream of a run comes once for each range; each is held against its own.
#[tokio::test]
async fn a_stream_may_come_twice_of_a_run_and_of_nothing_else() {
    let mut capture = support::Capture::new(support::definition(1));
    capture.samples(Encoding::Plain, &[1, 2, 3, 4, 5]);
    let both = |first: (u64, u64), second: (u64, u64)| {
        let pieces = [with_range(&capture, first), with_range(&capture, second)];
        let mut parts: Vec<v1::WaveformPart> = pieces.iter().flat_map(|(parts, _)| parts.clone()).collect();
        parts.push(manifest_part(
            pieces.into_iter().map(|(_, manifest)| manifest).collect(),
        ));
        Script {
            parts,
            ..script(&[&capture])
        }
    };
    let read = async |script: Script, selection: Selection| -> Result<Vec<u64>, Error> {
        let client = Client::connect(&support::serve(script).await, "main").await?;
        let mut waveform = client.waveform(&selection).await?;
        let mut samples = Vec::new();
        while let Some(part) = waveform.next().await? {
            if let Part::Samples(block) = part {
                samples.extend(block.first_sample..block.first_sample + block.count);
            }
        }
        Ok(samples)
    };
    let good = read(both((0, 2), (3, 5)), Selection::run("night"))
        .await
        .expect("it is what was asked for");
    assert_eq!(good, [0, 1, 3, 4]);
    for (script, selection) in [
        (both((0, 2), (3, 5)), Selection::device("js220-001")),
        (both((3, 5), (0, 2)), Selection::run("night")),
        (both((0, 3), (2, 5)), Selection::run("night")),
        (both((0, 2), (2, 5)), Selection::run("night")),
        (
            both((0, 2), (3, 5)),
            Selection::run("night").range(TimeRange {
                from_ns: Some(START_NS + 1_000),
                to_ns: None,
            }),
        ),
    ] {
        let error = read(script, selection).await.expect_err("it is not");
        assert!(
            matches!(error, Error::Malformed("a stream that does not belong to the answer")),
            "{error}"
        );
    }
    // What is stated of a range is what the samples are cut to.
    let mut lies = both((0, 2), (3, 5));
    for lie in &mut lies.parts {
        if let Some(Wire::Stream(stream)) = &mut lie.part {
            let range = stream.range.as_mut().expect("a range");
            range.to_ns = range.to_ns.map(|ns| ns + 500);
        }
    }
    let error = read(lies, Selection::run("night"))
        .await
        .expect_err("it ends too early");
    assert!(matches!(error, Error::Refuted { .. }), "{error}");
}
