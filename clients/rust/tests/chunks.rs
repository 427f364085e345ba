//! `wavekeep chunks` against a scripted server: what chunks start with, and following.

mod support;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use support::command::{command_at, finished, run};
use support::{Capture, Script, definition, script};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use wavekeep::proto::chunk::Reason;
use wavekeep::proto::codec::Encoding;
use wavekeep::proto::v1::query_server::QueryServer;

fn bits(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|sample| sample.to_bits()).collect()
}

fn capture() -> Capture {
    let mut definition = definition(1);
    definition.signals[0].unit = "A".into();
    definition.signals[1].unit = "V".into();
    let mut capture = Capture::new(definition);
    capture.samples(Encoding::Plain, &bits(&[0.001_25, 0.002_5, f32::NAN, 0.5]));
    capture.gap(7, Reason::SourceLoss);
    capture.quarantined(2);
    capture.samples(Encoding::ShuffleZstd, &bits(&[2.0; 100]));
    capture
}

fn listing(capture: &Capture) -> Script {
    Script {
        chunks: capture.listed(),
        ..script(&[capture])
    }
}

#[tokio::test]
async fn chunks_show_what_they_start_with() {
    let ran = run(listing(&capture()), &["chunks", "--device", "js220-001"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let rows: Vec<&str> = ran.out.lines().collect();
    assert!(
        rows[1].ends_with("current 1.250 2.500 NaN mA; voltage -1.250 -2.500 NaN mV"),
        "{}",
        rows[1]
    );
    assert!(
        rows[2].ends_with("2026-11-23T00:00:00Z") && rows[3].ends_with("2026-11-23T00:00:00Z"),
        "{}",
        ran.out
    );
    let ran = run(listing(&capture()), &["chunks", "--first-samples", "0"]).await;
    assert!(!ran.out.contains("current"), "{}", ran.out);
    let mut damaged = listing(&capture());
    damaged.chunks[0].first_samples.remove(0);
    let ran = run(damaged, &["chunks"]).await;
    assert!(ran.out.contains("current not sent; voltage -1.250"), "{}", ran.out);
    let ran = run(listing(&capture()), &["chunks", "--json", "--first-samples", "4"]).await;
    let line: Value = serde_json::from_str(ran.out.lines().next().expect("a line")).expect("an object");
    let current = &line["first_samples"][0];
    assert_eq!(
        (current["signal"].as_str(), current["unit"].as_str()),
        (Some("current"), Some("A"))
    );
    assert!(
        current["values"][2].is_null() && current["values"][3].as_f64() == Some(0.5),
        "{line}"
    );
    assert_eq!(line["to"].as_str(), Some("2026-11-23T00:00:00.000004Z"));
}

#[tokio::test]
async fn chunks_fit_a_narrow_terminal() {
    let server = support::serve(listing(&capture())).await;
    for columns in [60, 80, 120, 200] {
        let ran = finished(command_at(&server, &["chunks"]).env("COLUMNS", columns.to_string())).await;
        let widest = ran.out.lines().map(|line| line.chars().count()).max();
        assert!(
            ran.code == Some(0) && widest.is_some_and(|widest| widest <= columns),
            "{}",
            ran.out
        );
        assert!(ran.out.contains("SEQ") && ran.out.contains("FROM"), "{}", ran.out);
        assert!(columns < 80 || ran.out.contains("FIRST S"), "{}", ran.out);
    }
}

#[tokio::test]
async fn whoever_does_not_say_how_many_is_told_that_there_are_more() {
    let listed = |count: usize| {
        let mut capture = Capture::new(definition(1));
        for _ in 0..count {
            capture.samples(Encoding::Plain, &[1]);
        }
        listing(&capture)
    };
    let chunks = ["--json", "chunks", "--device", "js220-001"];
    for (count, more, lines) in [
        (100, &[][..], 100),
        (101, &["--limit", "0"], 101),
        (101, &["--limit", "7"], 7),
    ] {
        let ran = run(listed(count), &[&chunks[..], more].concat()).await;
        assert_eq!(
            (ran.code, ran.err.as_str(), ran.out.lines().count()),
            (Some(0), "", lines)
        );
    }
    for (arguments, lines) in [(&chunks[..], 100), (&chunks[1..], 101)] {
        let ran = run(listed(101), arguments).await;
        assert_eq!((ran.code, ran.out.lines().count()), (Some(0), lines));
        assert!(
            ran.err.starts_with("there are more than these 100 chunks: --limit 0"),
            "{}",
            ran.err
        );
    }
}

#[tokio::test]
async fn usage_errors_of_chunks_exit_with_2() {
    for (arguments, part) in [
        (
            &["chunks", "--follow", "--newest-first"][..],
            "leave out --newest-first",
        ),
        (&["chunks", "--follow", "--to", "-1s"], "leave out --to"),
        (&["chunks", "--first-samples", "17"], "give a number from 0 to 16"),
    ] {
        let ran = run(listing(&capture()), arguments).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(ran.err.contains(part), "{arguments:?}: {}", ran.err);
    }
}

/// A server that can be killed with all of its connections.
struct Killable(Option<Runtime>);

impl Killable {
    fn start(address: &str, script: Script) -> (Self, String) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = std::net::TcpListener::bind(address).expect("the address is free");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("it is bound").to_string();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a socket");
            let server = tonic::transport::Server::builder().add_service(QueryServer::new(script));
            server.serve_with_incoming(TcpListenerStream::new(listener)).await
        });
        (Self(Some(runtime)), address)
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

struct Follower {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Follower {
    fn start(address: &str, more: &[&str]) -> Self {
        let arguments = [&["--json", "chunks", "--device", "js220-001", "--follow"], more].concat();
        let mut command = command_at(&format!("http://{address}"), &arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("it runs");
        let out = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let err = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        Self { child, out, err }
    }

    /// Stream's first digits and seq of the next chunk.
    async fn chunk(&mut self) -> (String, u64) {
        let line = tokio::time::timeout(PATIENCE, self.out.next_line())
            .await
            .expect("in time");
        let line = line.expect("text").expect("it goes on");
        let line: Value = serde_json::from_str(&line).expect("an object");
        let stream = line["stream"].as_str().expect("a stream")[..2].to_owned();
        (stream, line["seq"].as_u64().expect("a seq"))
    }

    async fn said(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.err.next_line())
            .await
            .expect("in time");
        line.expect("text").expect("it goes on")
    }
}

/// A device whose stream goes on, and which gets a second stream; none of it was committed but two chunks.
fn growing() -> (Script, Arc<AtomicUsize>) {
    let mut first = Capture::new(definition(1));
    first.samples(Encoding::Plain, &[1]);
    first.samples(Encoding::Plain, &[2]);
    let known = first.info();
    for _ in 0..4 {
        first.samples(Encoding::Plain, &[3]);
    }
    let mut second = Capture::new(definition(2));
    second.samples(Encoding::Plain, &[4]);
    let mut answer = Script {
        chunks: [first.listed(), second.listed()].concat(),
        ..script(&[&first])
    };
    // What streams are there when the follower starts.
    answer.streams = vec![known];
    let uncommitted = answer.uncommitted.clone();
    uncommitted.store(5, Ordering::SeqCst);
    (answer, uncommitted)
}

fn of(stream: &str, seq: u64) -> (String, u64) {
    (stream.to_owned(), seq)
}

#[tokio::test]
async fn i1_a_follower_prints_each_new_chunk_once_across_a_restart_of_the_server() {
    let (answer, uncommitted) = growing();
    let (server, address) = Killable::start("127.0.0.1:0", answer.clone());
    let mut follower = Follower::start(&address, &[]);
    // It says nothing before there is something new, so it is given time to begin: chunk 3 comes whenever it looks.
    uncommitted.store(4, Ordering::SeqCst);
    assert_eq!(follower.chunk().await, of("01", 3));
    uncommitted.store(3, Ordering::SeqCst);
    assert_eq!(follower.chunk().await, of("01", 4));
    drop(server);
    let said = follower.said().await;
    assert!(said.contains("trying again until it answers"), "{said}");
    uncommitted.store(2, Ordering::SeqCst);
    let (_server, _) = Killable::start(&address, answer);
    assert_eq!(follower.chunk().await, of("01", 5));
    assert_eq!(follower.said().await, "the server answers again");
    uncommitted.store(0, Ordering::SeqCst);
    assert_eq!(follower.chunk().await, of("01", 6));
    assert_eq!(follower.chunk().await, of("02", 1), "a new stream of the device");
    let pid = follower.child.id().expect("it runs").to_string();
    let interrupted = tokio::process::Command::new("kill").args(["-INT", &pid]).status().await;
    assert!(interrupted.expect("kill runs").success());
    let ended = tokio::time::timeout(PATIENCE, follower.child.wait())
        .await
        .expect("in time");
    assert_eq!(ended.expect("it ends").code(), Some(0));
    assert!(
        follower.out.next_line().await.expect("text").is_none(),
        "nothing comes twice"
    );
}

#[tokio::test]
async fn a_follower_may_start_earlier_and_stop_after_some() {
    let (answer, _) = growing();
    let server = support::serve(answer).await;
    let arguments = [
        "--json",
        "chunks",
        "--follow",
        "--from",
        "2026-01-01T00:00:00Z",
        "--limit",
        "2",
    ];
    let ran = finished(&mut command_at(&server, &arguments)).await;
    assert_eq!((ran.code, ran.err.as_str(), ran.out.lines().count()), (Some(0), "", 2));
}
