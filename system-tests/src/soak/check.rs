//! When all is over: everything stored against the simulator's truth, and the database against itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sqlx::{Executor, Row};
use wavekeep_proto::chunk::Reason;

use super::report::Row as Line;
use super::tally::Tally;
use crate::lab::Lab;
use crate::process::binary;
use crate::stored;
use crate::truth::{self, Report};

/// A device, and what is to be found of it.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) device: String,
    /// By the outboxes' own word.
    pub(super) captured: u64,
    /// Why there may be gaps.
    pub(super) reasons: &'static [Reason],
    /// Samples that were destroyed on purpose, in the only place that had them, may be nowhere.
    pub(super) is_destroyed: bool,
    /// Samples may be stored in two streams of an epoch; whoever reads the device reads them once.
    pub(super) is_cloned: bool,
}

/// What to spoil before the check, which must then fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoil {
    /// A bit of a stored sample's encoding.
    Alter,
    /// A stored chunk goes.
    Drop,
}

/// Holds one device against the truth.
pub(super) fn device(lab: &Lab, database_url: &str, server_url: &str, expected: &Expected, tally: &Tally) -> Line {
    let mut line = Line::new(expected);
    match read(lab, database_url, server_url, expected, tally) {
        Ok((streams, found, once)) => {
            line.streams = streams as u64;
            line.found(expected, &found, once);
        }
        Err(error) => line.violations.push(format!("{}: {error:#}", expected.device)),
    }
    line
}

/// How many streams, what is in them, and how many samples somebody gets who reads the device.
fn read(
    lab: &Lab,
    database_url: &str,
    server_url: &str,
    expected: &Expected,
    tally: &Tally,
) -> Result<(usize, Report, u64)> {
    let device = &expected.device;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (streams, found) = runtime.block_on(truth::check_device(database_url, server_url, device))?;
    if !expected.is_cloned {
        let all = found.samples + found.gap_samples();
        return Ok((streams, found, all));
    }
    let captured = runtime.block_on(covered(database_url, device))?;
    runtime.block_on(lost_nowhere(database_url, device))?;
    let args = ["--json", "stats", "--device", device, "--signal", "current"];
    let sums = match lab.reader_at(server_url, &args) {
        Ok(sums) => sums,
        // Both of them have moved what they held: two successors of one stream. Nobody merges them, and nobody counts them twice.
        Err(error) if error.to_string().contains("together would count it twice") => {
            tally.note(format!(
                "{device}: both clones went on in successors, and the reader asks which one to read"
            ));
            return Ok((streams, found, captured));
        }
        Err(error) => return Err(error),
    };
    let sums: serde_json::Value = serde_json::from_str(sums.trim())?;
    let number = |name: &str| sums[name].as_u64().with_context(|| format!("stats have no {name}"));
    let once = number("sample_count")? + number("gap_sample_count")?;
    ensure!(
        once == captured,
        "streams have {captured} samples, readers of the device get {once}"
    );
    Ok((streams, found, once))
}

/// Of each epoch, how many samples of the axis are in any of its streams.
async fn covered(database_url: &str, device: &str) -> Result<u64> {
    let mut connection = stored::sql(database_url).await?;
    let mut epochs = BTreeMap::<_, Vec<(u64, u64)>>::new();
    for stream in stored::streams(&mut connection, device).await? {
        let range = (stream.definition.first_sample, stream.at.next_sample);
        epochs.entry(stream.definition.epoch).or_default().push(range);
    }
    let mut samples = 0;
    for mut ranges in epochs.into_values() {
        ranges.sort_unstable();
        let mut end = 0;
        for (first, next) in ranges {
            samples += next.saturating_sub(first.max(end));
            end = next.max(end);
        }
    }
    Ok(samples)
}

/// A clone that has adopted what the other one wrote to their stream does not hold it: when they diverge after that, its successor names
/// it as lost by the server. It must be in another stream of the epoch all the same.
async fn lost_nowhere(database_url: &str, device: &str) -> Result<()> {
    let mut connection = stored::sql(database_url).await?;
    let chunks = sqlx::query(
        "SELECT s.epoch, c.first_sample, c.first_sample + c.sample_count AS next_sample, c.reason = $2 AS is_lost
           FROM chunk c JOIN stream s ON s.id = c.stream_id WHERE s.device = $1 AND c.sample_count > 0
          ORDER BY s.epoch, c.first_sample",
    )
    .bind(device)
    .bind(Reason::LostByServer as i16)
    .fetch_all(&mut connection)
    .await?;
    let (mut found, mut lost) = (BTreeMap::<Vec<u8>, i64>::new(), Vec::new());
    // In the order of samples, so what is found of an epoch has one end, up to which nothing is missing.
    for chunk in &chunks {
        let epoch: Vec<u8> = chunk.try_get("epoch")?;
        let (first, next): (i64, i64) = (chunk.try_get("first_sample")?, chunk.try_get("next_sample")?);
        if chunk.try_get("is_lost")? {
            lost.push((epoch, first, next));
            continue;
        }
        let end = found.entry(epoch.clone()).or_insert(first);
        ensure!(
            first <= *end,
            "samples {end}..{first} of an epoch of {device} are nowhere"
        );
        *end = next.max(*end);
    }
    for (epoch, first, next) in lost {
        let end = found.get(&epoch).copied().unwrap_or_default();
        ensure!(
            next <= end,
            "samples {first}..{next} of {device} are lost, and not only moved"
        );
    }
    Ok(())
}

/// `wavekeep-server scrub` must be clean.
pub(super) fn scrub(database_url: &str) -> Result<()> {
    let mut command = Command::new(binary("wavekeep-server")?);
    let output = command.args(["scrub", "--database-url", database_url]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "scrub: {} {}", said.trim(), errors.trim());
    Ok(())
}

/// No program may have broken one of its own rules.
pub(super) fn panics(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "log") {
            let log = std::fs::read(&path)?;
            let log = String::from_utf8_lossy(&log);
            let line = log.lines().find(|line| line.contains("panicked"));
            ensure!(line.is_none(), "{}: {}", path.display(), line.unwrap_or_default());
        }
    }
    Ok(())
}

/// Spoils something of the first device.
pub(super) fn spoil(database_url: &str, what: Spoil) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = stored::sql(database_url).await?;
        let chunk = "SELECT c.stream_id, c.seq FROM chunk c JOIN stream s ON s.id = c.stream_id
                      WHERE s.device = 'bench-1' AND c.kind = 1 ORDER BY c.sample_count DESC, c.seq LIMIT 1";
        let sql = match what {
            Spoil::Alter => format!(
                "UPDATE chunk_signal SET payload = set_byte(payload, length(payload) / 2, get_byte(payload, length(payload) / 2) # 1)
                  WHERE (stream_id, seq) IN ({chunk}) AND signal = (SELECT min(signal) FROM chunk_signal) RETURNING seq"
            ),
            Spoil::Drop => format!("DELETE FROM chunk WHERE (stream_id, seq) IN ({chunk}) RETURNING seq"),
        };
        let rows = connection.fetch_all(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await?;
        ensure!(!rows.is_empty(), "there is nothing to spoil");
        let seq: i64 = rows[0].try_get("seq")?;
        eprintln!("spoiled on purpose: seq {seq} of bench-1 ({what:?})");
        Ok(())
    })
}
