//! Samples in SQL, the whole way from agent to psql: by the extension where this Postgres has it (`make test-sql`), and into an ordinary table
//! where it has not, as docs/SQL.md says for managed databases.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as its assertions do")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use wavekeep_system_tests::lab::{Lab, fast_simulation, wait_for};
use wavekeep_system_tests::process::binary;
use wavekeep_system_tests::{recordings, stored};

const PATIENCE: Duration = Duration::from_secs(120);
const DEVICE: &str = "js220-001";
/// Losses among them.
const SPEC: &str = "js220,rate=1000000,seed=9,loss=1e-5,speed=max";
const START: &str = "2025-07-26T14:12:17.788Z";

fn lab() -> Lab {
    let lab = Lab::start().unwrap();
    wait_for("the server says where its database is", PATIENCE, || {
        Ok(lab.database_url().is_ok())
    })
    .unwrap();
    lab
}

fn record(lab: &Lab, run: &str) {
    let mut options = fast_simulation(DEVICE, SPEC, "1s").to_vec();
    options.extend(["--run", run, "--label", "algorithm=A"]);
    lab.agent("bench", &["run"], &options)
        .unwrap()
        .wait_success(PATIENCE)
        .unwrap();
}

fn replay(lab: &Lab, file: &Path, device: &str, options: &[&str]) {
    let verb = ["replay", file.to_str().unwrap()];
    let mut all = vec!["--device", device, "--start", START];
    all.extend(options);
    lab.agent(device, &verb, &all).unwrap().wait_success(PATIENCE).unwrap();
}

fn exported(lab: &Lab, device: &str, format: &str) -> Vec<u8> {
    let out = lab.folder().join(format!("{device}.{format}"));
    let file = out.to_str().unwrap();
    lab.reader(&[
        "export", "--device", device, "--format", format, "--gaps", "skip", "--output", file,
    ])
    .unwrap();
    std::fs::read(out).unwrap()
}

fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// Whoever owns the database creates it, where its files are installed.
fn has_extension(lab: &Lab) -> bool {
    let available = on_runtime(async {
        let mut owner = stored::sql(&lab.database_url().unwrap()).await.unwrap();
        let available = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'wavekeep')";
        sqlx::query_scalar(available).fetch_one(&mut owner).await.unwrap()
    });
    assert!(
        available || std::env::var_os("WAVEKEEP_SQL_EXTENSION").is_none(),
        "this Postgres has no extension wavekeep"
    );
    if available {
        lab.execute("CREATE EXTENSION wavekeep").unwrap();
    }
    available
}

/// As psql would connect.
async fn as_reader(lab: &Lab) -> PgConnection {
    <PgConnection as sqlx::Connection>::connect(&lab.readers_url().unwrap())
        .await
        .unwrap()
}

async fn rows(reader: &mut PgConnection, sql: &str) -> Vec<sqlx::postgres::PgRow> {
    sqlx::query(AssertSqlSafe(sql.to_owned()))
        .fetch_all(reader)
        .await
        .unwrap()
}

/// The bytes of an f32 that was read as double precision; the payload of a NaN is not kept.
fn f32_bytes(value: f64) -> [u8; 4] {
    (value as f32).to_le_bytes()
}

fn without_payloads(raw: &[u8]) -> Vec<u8> {
    let samples = raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    samples
        .flat_map(|value| if value.is_nan() { f32::NAN } else { value }.to_le_bytes())
        .collect()
}

#[test]
fn every_row_is_the_sample_that_is_exported_and_joins_with_its_run() {
    let lab = lab();
    if !has_extension(&lab) {
        return;
    }
    record(&lab, "night");
    let (raw, csv) = (exported(&lab, DEVICE, "raw"), exported(&lab, DEVICE, "csv"));
    let csv = String::from_utf8(csv).unwrap();
    on_runtime(async {
        let mut reader = as_reader(&lab).await;
        let sql = format!("SELECT time_ns, sample, current, voltage FROM sample('{DEVICE}') ORDER BY sample");
        let all = rows(&mut reader, &sql).await;
        let found: Vec<u8> = all
            .iter()
            .flat_map(|row| [f32_bytes(row.get("current")), f32_bytes(row.get("voltage"))].concat())
            .collect();
        assert!(found == raw, "{} bytes by SQL, {} exported", found.len(), raw.len());
        assert!(
            all.len() < 1_000_000 && all.len() > 900_000,
            "some were lost: {}",
            all.len()
        );
        for (row, line) in all.iter().zip(csv.lines().skip(1)).step_by(997) {
            let time: jiff::Timestamp = line.split(',').next().unwrap().parse().unwrap();
            assert_eq!(i128::from(row.get::<i64, _>("time_ns")), time.as_nanosecond(), "{line}");
        }
        let joined = format!(
            "SELECT r.name, count(*), sum(s.current * s.voltage) > 0 FROM run AS r JOIN sample('{DEVICE}') AS s ON s.run = r.name GROUP BY r.name"
        );
        let of_run = rows(&mut reader, &joined).await;
        let of_run: Vec<(String, i64, bool)> = of_run.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        assert_eq!(of_run, [("night".to_owned(), all.len() as i64, true)]);
        let missing = format!("SELECT sum(sample_count)::bigint FROM gap WHERE device = '{DEVICE}'");
        let missing: i64 = rows(&mut reader, &missing).await[0].get(0);
        assert_eq!(all.len() as i64 + missing, 1_000_000, "I13");
    });
}

/// A file of NumPy's.
fn npy(integers: &[i64]) -> Vec<u8> {
    let header = format!(
        "{{'descr': '<i8', 'fortran_order': False, 'shape': ({},), }}",
        integers.len()
    );
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{header:<117}\n").bytes());
    bytes.extend(integers.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[test]
fn files_of_every_kind_of_number_are_rows() {
    let lab = lab();
    if !has_extension(&lab) {
        return;
    }
    let file = lab.folder().join("file.bin");
    let of = |device: &str, bytes: &[u8], options: &str| {
        std::fs::write(&file, bytes).unwrap();
        replay(&lab, &file, device, &options.split(' ').collect::<Vec<_>>());
    };
    let ppk2 = recordings::ppk2("52-p").unwrap();
    of("ppk2", &ppk2, "--format raw --dtype f32 --rate 100000");
    let awkward = recordings::awkward_f32(70_000);
    of(
        "awkward",
        &awkward,
        "--format raw --dtype f32 --rate 1000 --encoding pco",
    );
    let integers = [i64::MIN, -1, 0, 9_007_199_254_740_993, i64::MAX];
    of("counter", &npy(&integers), "--format npy --rate 10 --signal ticks");
    on_runtime(async {
        let mut reader = as_reader(&lab).await;
        for (device, raw) in [("ppk2", ppk2), ("awkward", awkward)] {
            let sql = format!("SELECT current, voltage FROM sample('{device}') ORDER BY sample");
            let all = rows(&mut reader, &sql).await;
            let found: Vec<u8> = all.iter().flat_map(|row| f32_bytes(row.get("current"))).collect();
            assert!(without_payloads(&found) == without_payloads(&raw), "{device}");
            assert!(
                all.iter().all(|row| row.get::<Option<f64>, _>("voltage").is_none()),
                "{device}"
            );
        }
        let charge = "SELECT sum(current) / 100000 FROM sample('ppk2')";
        let charge: f64 = rows(&mut reader, charge).await[0].get(0);
        assert!(
            (charge / 0.000_123_360_636 - 1.0).abs() < 1e-6,
            "{charge} C: shared data, SOURCES.md"
        );
        let exact = "SELECT exact::text FROM signal_sample('counter', 'ticks') ORDER BY sample";
        let exact: Vec<String> = rows(&mut reader, exact).await.iter().map(|row| row.get(0)).collect();
        assert_eq!(exact, integers.map(|value| value.to_string()));
    });
}

/// What docs/SQL.md says for a database that cannot have the extension: psql, and the reader's program beside it.
#[test]
fn without_the_extension_psql_copies_an_export_into_a_table() {
    let lab = lab();
    record(&lab, "night");
    let program = binary("wavekeep").unwrap();
    let script = format!(
        "begin read write;
         create temp table recorded (time timestamptz, current real, voltage real) on commit drop;
         \\copy recorded from program '{} export --device {DEVICE} --format csv --gaps skip --output /dev/stdout' (format csv, header)
         select count(*), sum(current::float8), sum(voltage::float8), min(time) < max(time) from recorded;",
        program.display()
    );
    let psql = ["psql".into()].into_iter().chain(newest_psql());
    let psql = psql
        .into_iter()
        .find(|psql| Command::new(psql).arg("--version").output().is_ok());
    let psql = psql.expect("psql is installed with Postgres");
    let mut command = Command::new(psql);
    command
        .env("WAVEKEEP_SERVER", lab.url())
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
    command.arg("-d").arg(lab.readers_url().unwrap());
    let path = lab.folder().join("copy.sql");
    std::fs::write(&path, script).unwrap();
    let output = command.arg("-f").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = String::from_utf8(output.stdout).unwrap();
    let raw = exported(&lab, DEVICE, "raw");
    let samples: Vec<f64> = raw
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f64::from(f32::from_le_bytes(*bytes)))
        .collect();
    let mut columns = found.trim().split('|');
    assert_eq!(columns.next().unwrap().parse::<usize>().unwrap() * 2, samples.len());
    for at in 0..2 {
        let sum: f64 = samples.iter().skip(at).step_by(2).sum();
        let found: f64 = columns.next().unwrap().parse().unwrap();
        assert!((found / sum - 1.0).abs() < 1e-12, "{found} is not {sum}");
    }
    assert_eq!(columns.next(), Some("t"));
}

/// Debian keeps the one of each version beside its server.
fn newest_psql() -> Option<std::path::PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<_> = versions
        .flatten()
        .map(|version| version.path().join("bin/psql"))
        .filter(|psql| psql.is_file())
        .collect();
    found.sort();
    found.pop()
}
