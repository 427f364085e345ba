//! NATs between agents and server: an idle session is heard often enough not to be forgotten; a connection that was forgotten all the
//! same is given up by both sides in time, and nothing is lost or repeated. The limits are those that are shipped.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::time::{Duration, Instant};

use wavekeep_agent::limits::KEEP_ALIVE_INTERVAL;
use wavekeep_proto::chunk::Reason;
use wavekeep_proto::limits::HEARTBEAT_MS;
use wavekeep_server::limits::{PING_ANSWER, PING_INTERVAL};
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::Process;
use wavekeep_system_tests::proxy::{Forget, Proxy};
use wavekeep_system_tests::truth::check_lab;

const PATIENCE: Duration = Duration::from_secs(60);
/// What a hurried NAT gives a connection; the usual ones give minutes.
const NAT: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_millis(HEARTBEAT_MS);
/// After which an agent knows that nobody answers, and a server.
const AGENT_KNOWS: Duration = KEEP_ALIVE_INTERVAL.saturating_mul(2);
const SERVER_KNOWS: Duration = PING_INTERVAL.saturating_add(PING_ANSWER);
/// For a busy machine, and for connecting again.
const ROOM: Duration = Duration::from_secs(5);

fn record(lab: &Lab, proxy: &Proxy, device: &str, spec: &str, seconds: u32, more: &[&str]) -> Process {
    let duration = format!("{seconds}s");
    let mut options = vec!["--device", device, "--simulate", spec, "--duration", &duration];
    options.extend(more);
    let agent = lab.agent_at(&proxy.url(), device, &["run"], &options).unwrap();
    wait_for("a session", PATIENCE, || Ok(proxy.sent_bytes() > 0)).unwrap();
    agent
}

/// Every sample is there once and true, or the instrument itself lost it.
#[track_caller]
fn all_of(lab: &Lab, device: &str, samples: u64) {
    let (streams, report) = check_lab(lab, device).unwrap();
    assert_eq!(streams, 1, "{report:?}");
    assert!(
        report.gaps.keys().all(|reason| *reason == Reason::SourceLoss),
        "{report:?}"
    );
    assert_eq!(report.samples + report.gap_samples(), samples, "{report:?}");
}

#[test]
fn i12_an_idle_session_is_heard_by_a_nat_and_outlives_a_silence_within_its_limits() {
    let lab = Lab::start().unwrap();
    let proxy = Proxy::start(lab.address()).unwrap();
    // 30,000 samples: half of a chunk, which is cut at the end.
    let mut agent = record(&lab, &proxy, "idle-1", "js220,rate=1000", 30, &["--chunk-period", "1h"]);
    std::thread::sleep(Duration::from_secs(1));
    let sent_before = proxy.sent_bytes();
    let _ = proxy.longest_silences();
    std::thread::sleep(2 * HEARTBEAT + Duration::from_secs(2));
    let silences = proxy.longest_silences();
    println!("the longest silences, of agent and server: {silences:?}");
    assert!(silences.iter().all(|silence| *silence < 2 * HEARTBEAT), "{silences:?}");
    const { assert!(4 * HEARTBEAT_MS < NAT.as_millis() as u64, "some of them may be lost") };
    let sent = proxy.sent_bytes() - sent_before;
    assert!(sent < 1_000, "it was idle: {sent} bytes");

    // Longer than it takes to ask whether the other side is there, and not as long as the answer may take.
    proxy.hold(true);
    std::thread::sleep(KEEP_ALIVE_INTERVAL + Duration::from_secs(2));
    proxy.hold(false);
    agent.wait_success(PATIENCE).unwrap();
    assert_eq!(proxy.accepted(), 1, "no need to connect again: {}", agent.log());
    all_of(&lab, "idle-1", 30_000);
}

#[test]
fn i1_i12_a_connection_that_a_nat_forgot_is_given_up_in_time_and_everything_arrives_once() {
    let lab = Lab::start().unwrap();
    let proxies = [(); 2].map(|()| Proxy::start(lab.address()).unwrap());
    let record = |number: usize| {
        let (device, spec) = (format!("forgotten-{number}"), "js220,rate=200000,seed=7,loss=1e-5");
        record(&lab, &proxies[number], &device, spec, 8, &[])
    };
    let mut agents = [record(0), record(1)];
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(lab.metric("wavekeep_sessions").unwrap(), 2.0);
    proxies[0].forget(Forget::BothWays);
    proxies[1].forget(Forget::FromAgents);
    let since = Instant::now();
    let again = |number: usize, limit: Duration| {
        let left = (limit + ROOM).saturating_sub(since.elapsed());
        wait_for("the agent connects again", left, || Ok(proxies[number].accepted() > 1)).unwrap();
        println!("agent {number} was back after {:?}", since.elapsed());
    };
    again(0, AGENT_KNOWS);
    // It hears the server, which alone can know.
    again(1, SERVER_KNOWS);
    let left = (SERVER_KNOWS + ROOM).saturating_sub(since.elapsed());
    for agent in &mut agents {
        agent.wait_success(PATIENCE).unwrap();
    }
    wait_for("the server to drop what is dead", left, || {
        let (sessions, connections) = (lab.metric("wavekeep_sessions")?, lab.metric("wavekeep_connections")?);
        Ok(sessions == 0.0 && connections == 0.0)
    })
    .unwrap();
    println!("the server had dropped both after {:?}", since.elapsed());
    for number in 0..2 {
        assert_eq!(
            proxies[number].accepted(),
            2,
            "once is enough: {}",
            agents[number].log()
        );
        all_of(&lab, &format!("forgotten-{number}"), 8 * 200_000);
    }
}
