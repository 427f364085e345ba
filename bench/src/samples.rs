//! `scripts/with-sql-extension make bench BENCH=samples`: how many rows of time, current and voltage Postgres makes of stored samples in a
//! second; and, in the same run, what it makes of an ordinary table with the same rows, and how fast an export fills one.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};
use tokio_stream::StreamExt as _;
use wavekeep_system_tests::lab::{Lab, fast_simulation, wait_for};
use wavekeep_system_tests::process::binary;
use wavekeep_system_tests::stored;

const DEVICE: &str = "js220-samples";
/// Of the instrument's time at 1 MSPS. WAVEKEEP_BENCH_SECONDS changes it.
const SECONDS: u64 = 20;
const ROUNDS: usize = 5;

/// Runs all and prints it.
pub(crate) fn run() -> Result<()> {
    let seconds = crate::size("WAVEKEEP_BENCH_SECONDS", SECONDS);
    let mut lab = Lab::start()?;
    let duration = format!("{seconds}s");
    let options = fast_simulation(DEVICE, "js220,rate=1000000,seed=7,speed=max", &duration);
    lab.agent("samples", &["run"], &options)?
        .wait_success(Duration::from_secs(600))?;
    wait_for("the server says where its database is", Duration::from_secs(60), || {
        Ok(lab.database_url().is_ok())
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut sql = stored::sql(&lab.database_url()?).await?;
        println!("{seconds} s at 1 MSPS; median of {ROUNDS}\n\n| rows from | the query | M rows/s |\n|---|---|---|");
        let available = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'wavekeep')";
        if sqlx::query_scalar(available).fetch_one(&mut sql).await? {
            sqlx::raw_sql("CREATE EXTENSION wavekeep").execute(&mut sql).await?;
            measure(&mut sql, "the extension", &format!("sample('{DEVICE}')"), seconds).await?;
        } else {
            println!(
                "| the extension | it is not installed: `scripts/with-sql-extension make bench BENCH=samples` | |"
            );
        }
        let loaded = load(&lab, &mut sql, seconds).await?;
        println!("| an export | `wavekeep export --format csv` into COPY | {loaded:.2} |");
        measure(&mut sql, "an ordinary table", "loaded", seconds).await
    })?;
    lab.stop_server()
}

async fn measure(sql: &mut PgConnection, name: &str, from: &str, seconds: u64) -> Result<()> {
    let rows = seconds as f64 * 1e6;
    let queries = [
        "SELECT count(*), sum(current) FROM ",
        "COPY (SELECT time, current, voltage FROM ) TO STDOUT (FORMAT binary)",
        "COPY (SELECT time, current, voltage FROM ) TO STDOUT",
    ];
    for query in queries {
        let text = if query.ends_with("FROM ") {
            format!("{query}{from}")
        } else {
            query.replace("FROM )", &format!("FROM {from})"))
        };
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let since = Instant::now();
            if query.starts_with("COPY") {
                copied(sql, &text).await?;
            } else {
                let row = sqlx::query(AssertSqlSafe(text.clone())).fetch_one(&mut *sql).await?;
                ensure!(row.get::<i64, _>(0) as f64 == rows, "all rows are counted");
            }
            rates.push(rows / since.elapsed().as_secs_f64() / 1e6);
        }
        rates.sort_by(f64::total_cmp);
        println!("| {name} | `{}` | {:.2} |", text.replace(from, "…"), rates[ROUNDS / 2]);
    }
    Ok(())
}

async fn copied(sql: &mut PgConnection, query: &str) -> Result<u64> {
    let mut bytes = 0;
    let mut copy = sql.copy_out_raw(query).await?;
    while let Some(part) = copy.next().await {
        bytes += part?.len() as u64;
    }
    Ok(bytes)
}

/// Fills an ordinary table as docs/SQL.md says for databases without the extension; millions of rows a second.
async fn load(lab: &Lab, sql: &mut PgConnection, seconds: u64) -> Result<f64> {
    sqlx::raw_sql("CREATE TABLE loaded (time timestamptz, current real, voltage real)")
        .execute(&mut *sql)
        .await?;
    let since = Instant::now();
    let mut export = Command::new(binary("wavekeep")?);
    export.env("WAVEKEEP_SERVER", lab.url()).args([
        "export",
        "--device",
        DEVICE,
        "--format",
        "csv",
        "--output",
        "/dev/stdout",
    ]);
    let psql = format!("{}/psql", psql_directory()?);
    let mut export = export.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut copy = Command::new(psql)
        .args([
            "-X",
            "-q",
            "-d",
            &lab.database_url()?,
            "-c",
            "\\copy main.loaded from pstdin (format csv, header)",
        ])
        .stdin(export.stdout.take().context("it is piped")?)
        .spawn()?;
    ensure!(
        export.wait()?.success() && copy.wait()?.success(),
        "the export is copied"
    );
    Ok(seconds as f64 / since.elapsed().as_secs_f64())
}

fn psql_directory() -> Result<String> {
    let output = Command::new("pg_config")
        .arg("--bindir")
        .output()
        .context("pg_config")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
