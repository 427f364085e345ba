//! `make bench BENCH=outbox`: the agent's outbox alone. One thread stores chunks of 256 KiB, another reads them back verified,
//! acknowledges them and releases them. Beside it the same bytes appended to a plain file and synced as often.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use wavekeep_agent::outbox::rocks::{self, RocksKv};
use wavekeep_agent::outbox::{Durability, NewChunk, Options, Outbox, StoreError};
use wavekeep_proto::chunk::{ChunkKind, ColumnContent, ColumnHeader, Reason};
use wavekeep_proto::codec::Encoding;
use wavekeep_proto::hash::column_hash;
use wavekeep_proto::id::{Epoch, StreamId};
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};
use wavekeep_proto::uplink::Outbox as _;

const CHUNK_SAMPLES: u64 = 32_768;
const SIGNALS: u16 = 2;
const CHUNK_BYTES: u64 = CHUNK_SAMPLES * SIGNALS as u64 * 4;
/// Acked chunks are kept for this long, so that reading and releasing run behind storing.
const HOLD_BACK: Duration = Duration::from_millis(500);
const SYNC_INTERVAL: Duration = Duration::from_millis(100);

fn definition() -> StreamDefinition {
    let signal = |number| Signal {
        number,
        name: format!("signal-{number}"),
        sample_type: SampleType::F32,
        unit: String::new(),
        finite_only: false,
    };
    StreamDefinition {
        id: StreamId([1; 16]),
        device: "bench".into(),
        epoch: Epoch([1; 16]),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz: 1e6,
        first_sample: 0,
        signals: (0..SIGNALS).map(signal).collect(),
        attributes: BTreeMap::new(),
    }
}

/// Bytes without a pattern (xorshift, Marsaglia 2003): nothing below may gain by compressing them.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// CPU seconds and peak resident MB of this process.
fn usage() -> Result<(f64, u64)> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat
        .rsplit(')')
        .next()
        .context("the kernel writes a name in brackets")?;
    let ticks = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, _>>()?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .context("the kernel says VmHWM")?;
    let peak_kib: u64 = peak.split_whitespace().nth(1).context("with a number")?.parse()?;
    Ok((ticks as f64 / 100.0, peak_kib / 1024))
}

fn report(name: &str, bytes: u64, took: Duration, cpu_s: f64) -> Result<()> {
    let (cpu_after_s, peak_mb) = usage()?;
    let gb = bytes as f64 / 1e9;
    println!(
        "{name:<44} {:>6.0} MB/s  {:>6.1} M f32/s if plain  {:>5.2} CPU-s/GB  peak {peak_mb} MB",
        gb * 1e3 / took.as_secs_f64(),
        gb * 1e3 / 4.0 / took.as_secs_f64(),
        (cpu_after_s - cpu_s) / gb,
    );
    Ok(())
}

/// Runs the benchmark.
pub(crate) fn run() -> Result<()> {
    for (durability, chunks) in [
        (Durability::Interval(SYNC_INTERVAL), 8_192),
        (Durability::Never, 8_192),
        (Durability::EachChunk, 1_024),
    ] {
        through_outbox(durability, chunks)?;
    }
    to_file(8_192)
}

fn through_outbox(durability: Durability, chunks: u64) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options {
        durability,
        hold_back: HOLD_BACK,
        ..Options::default()
    };
    let start = Instant::now();
    let outbox = rocks::open(dir.path(), options, start.elapsed())?.0;
    let definition = definition();
    outbox.open_stream(definition.clone(), BTreeMap::new(), String::new(), 0)?;
    let (cpu_s, _) = usage()?;
    std::thread::scope(|scope| -> Result<()> {
        let storing = scope.spawn(|| store(&outbox, &definition, chunks, start));
        drain(&outbox, definition.id, chunks, start)?;
        storing
            .join()
            .map_err(|_| anyhow::anyhow!("the storing thread panicked"))?
    })?;
    report(
        &format!("store, next, release; {durability:?}"),
        chunks * CHUNK_BYTES,
        start.elapsed(),
        cpu_s,
    )
}

fn store(outbox: &Outbox<RocksKv>, definition: &StreamDefinition, chunks: u64, start: Instant) -> Result<()> {
    let column = Bytes::from(noise(CHUNK_SAMPLES as usize * 4));
    let header = |signal: &Signal| {
        let hash = column_hash(signal.number, SampleType::F32, CHUNK_SAMPLES as u32, &column);
        ColumnHeader {
            signal: signal.number,
            content: ColumnContent::Present {
                encoding: Encoding::Plain,
                hash,
            },
        }
    };
    let columns: Vec<ColumnHeader> = definition.signals.iter().map(header).collect();
    for number in 0..chunks {
        let chunk = || NewChunk {
            kind: ChunkKind::Samples,
            reason: Reason::None,
            first_sample: number * CHUNK_SAMPLES,
            count: CHUNK_SAMPLES,
            utc_ns: 0,
            markers: Vec::new(),
            columns: columns.clone(),
            data: vec![column.clone(); usize::from(SIGNALS)],
        };
        while let Err(error) = outbox.store(definition.id, chunk(), start.elapsed()) {
            anyhow::ensure!(matches!(error, StoreError::Full { .. }), error);
            outbox.wait_for_room(SYNC_INTERVAL);
        }
    }
    Ok(())
}

fn drain(outbox: &Outbox<RocksKv>, stream: StreamId, chunks: u64, start: Instant) -> Result<()> {
    let (mut seq, mut released_at) = (0, Duration::ZERO);
    while seq < chunks {
        match outbox.next(stream, seq)? {
            Some(held) => {
                seq = held.chunk.header.seq;
                outbox.set_acked(stream, seq, start.elapsed())?;
            }
            None => outbox.wait_for_room(Duration::from_millis(1)),
        }
        let now = start.elapsed();
        if now - released_at > HOLD_BACK {
            outbox.release(now)?;
            released_at = now;
        }
    }
    Ok(())
}

fn to_file(chunks: u64) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut file = File::create(dir.path().join("file"))?;
    let bytes = noise(CHUNK_BYTES as usize);
    let (cpu_s, _) = usage()?;
    let start = Instant::now();
    let mut synced = start;
    for _ in 0..chunks {
        file.write_all(&bytes)?;
        if synced.elapsed() > SYNC_INTERVAL {
            file.sync_data()?;
            synced = Instant::now();
        }
    }
    file.sync_data()?;
    report(
        "a plain file, synced every 100 ms",
        chunks * CHUNK_BYTES,
        start.elapsed(),
        cpu_s,
    )
}
