//! The main job, with everything going wrong: a simulated JS220 at 1 MSPS, a server with a private Postgres, both killed
//! with SIGKILL while they run; then another process checks every stored sample. `make demo`.

use std::io::IsTerminal;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wavekeep_system_tests::lab::Lab;
use wavekeep_system_tests::process::{Process, binary};

const DEVICE: &str = "js220-demo";
const OUTBOX: &str = "bench-pc";
const SPEC: &str = "js220,rate=1000000,seed=7,loss=1e-6";
/// How long the instrument is recorded before and after the agent is killed.
const PARTS: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(20)];

fn say(since: Instant, what: &str) {
    println!("{:>6.1} s  {what}", since.elapsed().as_secs_f64());
}

fn agent(lab: &Lab, duration: Duration) -> Result<Process> {
    let duration = format!("{}s", duration.as_secs());
    let options = [
        "--device",
        DEVICE,
        "--simulate",
        SPEC,
        "--duration",
        &duration,
        "--label",
        "purpose=demo",
    ];
    lab.agent(OUTBOX, &["run"], &options)
}

fn main() -> Result<()> {
    let since = Instant::now();
    let mut lab = Lab::start()?;
    say(since, "server is ready, with a private Postgres");
    // Longer than it will live: it is killed in the middle of its work.
    let mut first = agent(&lab, Duration::from_secs(600))?;
    say(since, &format!("agent records {DEVICE} ({SPEC})"));
    std::thread::sleep(PARTS[0] / 2);
    lab.kill_server()?;
    say(since, "SIGKILL of the server; the agent goes on into its outbox");
    std::thread::sleep(Duration::from_secs(2));
    lab.start_server()?;
    say(since, "server is back");
    std::thread::sleep(PARTS[0] / 2);
    first.kill9()?;
    let mut captured = lab.tails(OUTBOX)?;
    say(since, "SIGKILL of the agent");
    let mut second = agent(&lab, PARTS[1])?;
    say(since, "agent is back, in a new epoch");
    std::thread::sleep(PARTS[1] / 2);
    lab.kill_server()?;
    say(since, "SIGKILL of the server");
    std::thread::sleep(Duration::from_secs(2));
    lab.start_server()?;
    say(since, "server is back");
    second.wait_success(PARTS[1] + Duration::from_secs(60))?;
    say(since, "agent has ended: all that it captured is acknowledged");
    captured.extend(lab.tails(OUTBOX)?);
    check(&lab, captured.values().sum())?;
    look_yourself(&lab, since)?;
    lab.stop_server()?;
    say(since, "server and Postgres have stopped");
    Ok(())
}

fn check(lab: &Lab, captured: u64) -> Result<()> {
    let own = std::env::current_exe()?;
    let checker = own.parent().context("this program has no folder")?.join("check-truth");
    let url = lab.database_url()?;
    println!("\nAnother process compares every stored sample with what the instrument delivered:\n");
    let status = Command::new(checker)
        .args([&url, &lab.url(), DEVICE, &captured.to_string()])
        .status()?;
    ensure!(status.success(), "the check failed");
    Ok(())
}

fn look_yourself(lab: &Lab, since: Instant) -> Result<()> {
    let url = lab.readers_url()?;
    println!("\n{}", lab.reader(&["streams", "--device", DEVICE])?);
    let query = "select time, current, voltage, power, loaded_at from measurement limit 5";
    // Where psql is installed, what it says is shown; the line is for whoever wants to ask more.
    if let Ok(output) = Command::new("psql").args([&url, "-c", query]).output() {
        println!("{}", String::from_utf8_lossy(&output.stdout));
    }
    println!("To look for yourself:\n");
    println!("  psql '{url}' -c '{query}'");
    println!(
        "  WAVEKEEP_SERVER={} {} stats --device {DEVICE} --signal current\n",
        lab.url(),
        binary("wavekeep")?.display()
    );
    if std::io::stdin().is_terminal() {
        say(since, "the server stays up until you press Enter");
        std::io::stdin().read_line(&mut String::new())?;
    } else {
        println!("  (in a terminal, `make demo` keeps the server up until you press Enter)\n");
    }
    Ok(())
}
