//! `make bench BENCH=envelopes`: what folding and storing envelopes costs ingest: the same chunks validated and committed with and
//! without, in turn, into a private Postgres. JS220-like, 65,536 samples of current and voltage a chunk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use bytes::Bytes;
use wavekeep_proto::chunk::{Chunk, ChunkKind, ColumnContent, ColumnHeader, Header, Position, Reason};
use wavekeep_proto::codec::{Encoder, Encoding};
use wavekeep_proto::hash::column_hash;
use wavekeep_proto::id::{Epoch, Hash, Owner, StreamId};
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};
use wavekeep_server::devdb::TestDatabase;
use wavekeep_server::ledger::{Entry, Ledger, OpenRequest, Row};
use wavekeep_server::store::{Database, PostgresLedger};
use wavekeep_server::validate::{Validator, Verdict};
use wavekeep_server::workspace::FIRST_WORKSPACE;

const ROUNDS: usize = 5;
/// Of a round, each of [`CHUNKS`]: about 4 MiB.
const GROUPS: usize = 48;
const CHUNKS: usize = 16;
const SAMPLES: u32 = 65_536;
const START_NS: i64 = 1_795_392_000_000_000_000;

/// Seconds of one round.
#[derive(Debug, Clone, Copy)]
struct Took {
    validating: f64,
    committing: f64,
}

/// Prints the medians of both, and their ratio.
pub(crate) fn run() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let database = TestDatabase::start().await?;
        let ledger = PostgresLedger::new(Database::connect(&database.url(), 2).await?);
        let columns: Vec<Column> = (0..8).map(Column::new).collect();
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            without.push(round(&ledger, &columns, false).await?);
            with.push(round(&ledger, &columns, true).await?);
        }
        let (with, without) = (median(with), median(without));
        let values = (2 * u64::from(SAMPLES) * (CHUNKS * GROUPS) as u64) as f64;
        println!("| | M f32/s | validating, s | committing, s |");
        println!("|---|---|---|---|");
        for (name, took) in [("without envelopes", without), ("with envelopes", with)] {
            let rate = values / (took.validating + took.committing) / 1e6;
            println!(
                "| {name} | {rate:.1} | {:.2} | {:.2} |",
                took.validating, took.committing
            );
        }
        let all = |took: Took| took.validating + took.committing;
        println!(
            "\nenvelopes cost the server and Postgres {:.1} %",
            (all(with) / all(without) - 1.0) * 100.0
        );
        Ok(())
    })
}

fn median(mut rounds: Vec<Took>) -> Took {
    rounds.sort_by(|one, other| (one.validating + one.committing).total_cmp(&(other.validating + other.committing)));
    rounds[rounds.len() / 2]
}

/// An encoded column and its samples' hash, for any signal of a number.
struct Column {
    encoded: Bytes,
    raw: Vec<u8>,
}

impl Column {
    /// Noise on a level, in steps of a 24-bit converter.
    fn new(seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 16_777_216.0 - 0.5
        };
        let step = 2f32.powi(-23);
        let sample = |noise: f32| ((0.01 + noise * 2e-4) / step).round() * step;
        let raw: Vec<u8> = (0..SAMPLES).flat_map(|_| sample(noise()).to_le_bytes()).collect();
        let (_, encoded) = Encoder::new().encode(Encoding::ShuffleZstd, SampleType::F32, &raw);
        Self {
            encoded: Bytes::copy_from_slice(&encoded),
            raw,
        }
    }
}

async fn round(ledger: &PostgresLedger, columns: &[Column], folds: bool) -> Result<Took> {
    let definition = Arc::new(definition()?);
    let owner = Owner(random()?);
    let request = OpenRequest {
        definition: definition.clone(),
        labels: BTreeMap::new(),
        run: String::new(),
        stored_seq: 0,
        owner,
    };
    let mut at = ledger.open(FIRST_WORKSPACE, request).await?.at;
    let mut validator = if folds {
        Validator::default()
    } else {
        Validator::without_folds()
    };
    let mut took = Took {
        validating: 0.0,
        committing: 0.0,
    };
    for group in 0..GROUPS {
        let before = at;
        let chunks: Vec<Chunk> = (0..CHUNKS)
            .map(|chunk| next(&mut at, columns, group * CHUNKS + chunk))
            .collect();
        let since = Instant::now();
        let mut rows = Vec::new();
        for chunk in chunks {
            let Verdict::Good(folds) = validator.check(&definition, &chunk)? else {
                anyhow::bail!("the chunk is good");
            };
            rows.push(Row {
                chunk,
                quarantine: None,
                folds,
            });
        }
        took.validating += since.elapsed().as_secs_f64();
        let entry = Entry {
            stream: definition.id,
            owner,
            before,
            after: at,
            rows,
        };
        let since = Instant::now();
        ensure!(
            ledger.commit(FIRST_WORKSPACE, &[entry]).await? == [true],
            "nobody else has this stream"
        );
        took.committing += since.elapsed().as_secs_f64();
    }
    Ok(took)
}

fn next(at: &mut Position, columns: &[Column], number: usize) -> Chunk {
    let column = |signal: u16| &columns[(number * 2 + usize::from(signal)) % columns.len()];
    let header = |signal| ColumnHeader {
        signal,
        content: ColumnContent::Present {
            encoding: Encoding::ShuffleZstd,
            hash: column_hash(signal, SampleType::F32, SAMPLES, &column(signal).raw),
        },
    };
    let header = Header {
        kind: ChunkKind::Samples,
        reason: Reason::None,
        first_seq: at.seq + 1,
        seq: at.seq + 1,
        first_sample: at.next_sample,
        count: SAMPLES.into(),
        utc_ns: START_NS + at.next_sample as i64 * 1_000,
        markers: Vec::new(),
        columns: vec![header(0), header(1)],
    };
    let digest = Hash([at.digest.0[0].wrapping_add(1); 16]);
    *at = Position::after(&header, digest);
    Chunk {
        header,
        digest,
        columns: vec![column(0).encoded.clone(), column(1).encoded.clone()],
    }
}

fn random() -> Result<[u8; 16]> {
    use std::io::Read;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn definition() -> Result<StreamDefinition> {
    let signal = |number, name: &str, unit: &str| Signal {
        number,
        name: name.into(),
        sample_type: SampleType::F32,
        unit: unit.into(),
        finite_only: false,
    };
    Ok(StreamDefinition {
        id: StreamId(random()?),
        device: "bench".into(),
        epoch: Epoch(random()?),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz: 1e6,
        first_sample: 0,
        signals: vec![signal(0, "current", "A"), signal(1, "voltage", "V")],
        attributes: BTreeMap::new(),
    })
}
