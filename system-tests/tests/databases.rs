//! The whole way, from agent to reader, through `wavekeep-server serve` on a database that belongs to a role which is nothing
//! special, as with a managed database: a private Postgres, or the one that `WAVEKEEP_TEST_DATABASE_URL` names, with TimescaleDB
//! (`make test-timescale`).
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use sqlx::Row as _;
use wavekeep_server::devdb::TestServer;
use wavekeep_server::store::Kind;
use wavekeep_system_tests::lab::{Lab, wait_for};
use wavekeep_system_tests::process::binary;
use wavekeep_system_tests::{stored, truth};

const PATIENCE: Duration = Duration::from_secs(90);

/// A server for databases, one of them, migrated, and a server of ours on it.
struct Place {
    runtime: tokio::runtime::Runtime,
    databases: TestServer,
    url: String,
    lab: Lab,
}

fn server(url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("wavekeep-server").unwrap());
    command.args(arguments).env("WAVEKEEP_DATABASE_URL", url);
    command.output().unwrap()
}

/// It must succeed; what it prints.
fn printed(url: &str, arguments: &[&str]) -> String {
    let output = server(url, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Place {
    fn new(name: &str) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let databases = runtime.block_on(TestServer::start()).unwrap();
        let url = runtime.block_on(databases.database(name)).unwrap();
        printed(&url, &["migrate"]);
        let lab = Lab::on(&url).unwrap();
        Self {
            runtime,
            databases,
            url,
            lab,
        }
    }

    /// Of device `scope`, f32 at 10 kHz.
    fn replay(&self, file: &Path, outbox: &str, start: &str) {
        let verb = ["replay", file.to_str().unwrap()];
        let options = "--device scope --format raw --dtype f32 --rate 10000 --signal u:V --start";
        let options: Vec<&str> = options.split(' ').chain([start]).collect();
        let mut agent = self.lab.agent(outbox, &verb, &options).unwrap();
        agent.wait_success(PATIENCE).unwrap();
    }

    /// In workspace `main`.
    fn one(&self, sql: &'static str) -> i64 {
        self.runtime.block_on(async {
            let mut connection = stored::sql(&self.url).await.unwrap();
            sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0)
        })
    }
}

#[test]
fn a_role_that_is_nothing_special_stores_and_reads_everything() {
    let mut place = Place::new("plain");
    assert_eq!(
        place.one("SELECT count(*) FROM pg_roles WHERE rolname = current_user AND NOT (rolsuper OR rolcreaterole OR rolcreatedb)"),
        1
    );
    assert!(printed(&place.url, &["workspace", "create", "team"]).starts_with("team "));
    let listed = printed(&place.url, &["workspace", "list"]);
    let kind = place.databases.kind().name();
    assert_eq!(listed.matches(&format!("tables {kind}")).count(), 2, "{listed}");
    place.lab.start_server().unwrap();
    let options = [
        "--device",
        "js220",
        "--simulate",
        "js220,rate=200000,seed=5,loss=1e-4",
        "--duration",
        "3s",
    ];
    let mut agent = place.lab.agent("bench", &["run"], &options).unwrap();
    agent.wait_success(PATIENCE).unwrap();
    let (streams, report) = truth::check_lab(&place.lab, "js220").unwrap();
    assert_eq!(streams, 1);
    assert!(report.samples > 500_000, "{report:?}");
    let hypertables = if place.databases.kind() == Kind::Hypertable {
        place.one("SELECT count(*) FROM timescaledb_information.hypertables h JOIN pg_class c ON c.oid = format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass WHERE hypertable_schema = current_schema()")
    } else {
        place.one("SELECT 3 - count(*) FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid WHERE c.relnamespace = current_schema()::regnamespace")
    };
    assert_eq!(
        hypertables,
        if place.databases.kind() == Kind::Hypertable {
            3
        } else {
            0
        }
    );
    // Into the other workspace too.
    let team = [&options[..], &["--workspace", "team"]].concat();
    place
        .lab
        .agent("team", &["run"], &team)
        .unwrap()
        .wait_success(PATIENCE)
        .unwrap();
    let listed = place.lab.reader(&["--workspace", "team", "--json", "streams"]).unwrap();
    assert_eq!(listed.lines().count(), 1, "{listed}");
    place.lab.stop_server().unwrap();
}

#[test]
fn what_retention_drops_is_gone_and_readers_are_told() {
    let mut place = Place::new("kept");
    place.lab.start_server().unwrap();
    let file = place.lab.folder().join("samples.bin");
    let samples: Vec<u8> = (0..30_000u32)
        .flat_map(|sample| (sample as f32).to_le_bytes())
        .collect();
    std::fs::write(&file, &samples).unwrap();
    let ago = |days: i64| (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days)).to_string();
    let (old, young) = (ago(100), ago(0));
    place.replay(&file, "old", &old);
    place.replay(&file, "young", &young);
    let old_rows = "SELECT count(*) FROM chunk WHERE start_time < now() - interval '90 days'";
    assert!(place.one(old_rows) > 0);
    let set = printed(&place.url, &["workspace", "set", "main", "--retention", "30d"]);
    assert!(set.contains("retention 30d"), "{set}");
    let listed = printed(&place.url, &["workspace", "list", "--json"]);
    assert!(listed.contains("\"retention_days\":30"), "{listed}");
    // A server looks when it starts, and then each hour.
    place.lab.stop_server().unwrap();
    place.lab.start_server().unwrap();
    wait_for("what is old is dropped", PATIENCE, || Ok(place.one(old_rows) == 0)).unwrap();
    assert_eq!(place.one("SELECT count(*) FROM stream"), 2);
    let out = place.lab.folder().join("out.bin");
    let export = |more: &[&str]| {
        let _ = std::fs::remove_file(&out);
        let mut args = vec![
            "export",
            "--device",
            "scope",
            "--format",
            "raw",
            "--output",
            out.to_str().unwrap(),
        ];
        args.extend(more);
        place.lab.reader(&args)
    };
    export(&["--from", &young]).unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), samples, "today's is whole");
    let then = ago(90);
    let refused = export(&["--from", &old, "--to", &then]).unwrap_err().to_string();
    assert!(refused.contains("no longer stored"), "{refused}");
    let stats = place.lab.reader(&[
        "stats",
        "--device",
        "scope",
        "--signal",
        "u",
        "--from",
        &old,
        "--to",
        &ago(90),
    ]);
    let refused = stats.unwrap_err().to_string();
    assert!(refused.contains("no longer stored"), "{refused}");
    let wrong = server(&place.url, &["workspace", "set", "main", "--retention", "soon"]);
    assert_eq!(
        wrong.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&wrong.stderr)
    );
    place.lab.stop_server().unwrap();
}
