//! `make bench BENCH=ledger`: commits of the ledger on a private Postgres, beside a bare binary COPY of the same payload bytes
//! into the same Postgres with as many bytes in a transaction. Payloads are incompressible, as encoded ones are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use bytes::Bytes;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use wavekeep_proto::chunk::{Chunk, ChunkKind, ColumnContent, ColumnHeader, Header, Position, Reason};
use wavekeep_proto::codec::Encoding;
use wavekeep_proto::id::{Epoch, Hash, Owner, StreamId};
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};
use wavekeep_server::devdb::TestDatabase;
use wavekeep_server::ledger::{Entry, Ledger, OpenRequest, Row};
use wavekeep_server::store::{Database, PostgresLedger};
use wavekeep_server::workspace::FIRST_WORKSPACE;

const ROUNDS: usize = 3;
const ROUND_BYTES: usize = 512 << 20;
const GROUP_BYTES: usize = 4 << 20;
const SIGNALS: usize = 2;
const START_NS: i64 = 1_795_392_000_000_000_000;

/// Bytes of one column, and how many connections write.
const CASES: [(usize, usize); 4] = [(64 << 10, 1), (128 << 10, 1), (512 << 10, 1), (128 << 10, 2)];

/// Prints MB/s of both, and their ratio, as medians of the rounds.
pub(crate) fn run() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let database = TestDatabase::start().await?;
        let ledger = Arc::new(PostgresLedger::new(Database::connect(&database.url(), 8).await?));
        println!("| column | writers | ledger MB/s | bare COPY MB/s | ratio | commit p50 ms |");
        println!("|---|---|---|---|---|---|");
        for (column_bytes, writers) in CASES {
            let payload = random(column_bytes)?;
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                let bare = bare_copies(&database.url(), &payload, writers).await?;
                let (ours, commit_ms) = commits(&ledger, &payload, writers).await?;
                rounds.push((ours / bare, ours, bare, commit_ms));
            }
            rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
            let (ratio, ours, bare, commit_ms) = rounds[ROUNDS / 2];
            let kib = column_bytes >> 10;
            println!("| {kib} KiB | {writers} | {ours:.0} | {bare:.0} | {ratio:.2} | {commit_ms:.1} |");
        }
        Ok(())
    })
}

fn random(bytes: usize) -> Result<Bytes> {
    use std::io::Read;
    let mut payload = vec![0; bytes];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut payload)?;
    Ok(payload.into())
}

/// MB/s of all writers together, and the median time of a commit.
async fn commits(ledger: &Arc<PostgresLedger>, payload: &Bytes, writers: usize) -> Result<(f64, f64)> {
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            tokio::spawn(stream_of_commits(
                ledger.clone(),
                payload.clone(),
                ROUND_BYTES / writers,
            ))
        })
        .collect();
    let mut times_ms = Vec::new();
    for task in tasks {
        times_ms.extend(task.await??);
    }
    let mb_per_s = ROUND_BYTES as f64 / 1e6 / started.elapsed().as_secs_f64();
    times_ms.sort_by(f64::total_cmp);
    Ok((mb_per_s, times_ms[times_ms.len() / 2]))
}

async fn stream_of_commits(ledger: Arc<PostgresLedger>, payload: Bytes, bytes: usize) -> Result<Vec<f64>> {
    let definition = Arc::new(definition()?);
    let owner = Owner(random(16)?[..].try_into()?);
    let request = OpenRequest {
        definition: definition.clone(),
        labels: BTreeMap::new(),
        run: String::new(),
        stored_seq: 0,
        owner,
    };
    let mut at = ledger.open(FIRST_WORKSPACE, request).await?.at;
    let mut times_ms = Vec::new();
    for _ in 0..bytes / GROUP_BYTES {
        let before = at;
        let rows: Vec<Row> = (0..GROUP_BYTES / payload.len() / SIGNALS)
            .map(|_| row(&mut at, &payload))
            .collect();
        let entry = Entry {
            stream: definition.id,
            owner,
            before,
            after: at,
            rows,
        };
        let started = Instant::now();
        ensure!(
            ledger.commit(FIRST_WORKSPACE, &[entry]).await? == [true],
            "nobody else has this stream"
        );
        times_ms.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times_ms)
}

fn definition() -> Result<StreamDefinition> {
    let signal = |number, name: &str| Signal {
        number,
        name: name.into(),
        sample_type: SampleType::F32,
        unit: String::new(),
        finite_only: false,
    };
    Ok(StreamDefinition {
        id: StreamId(random(16)?[..].try_into()?),
        device: "bench".into(),
        epoch: Epoch(random(16)?[..].try_into()?),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz: 1e6,
        first_sample: 0,
        signals: vec![signal(0, "current"), signal(1, "voltage")],
        attributes: BTreeMap::new(),
    })
}

/// The ledger looks at no hash of a column.
fn row(at: &mut Position, payload: &Bytes) -> Row {
    let content = ColumnContent::Present {
        encoding: Encoding::ShuffleZstd,
        hash: Hash([7; 16]),
    };
    let header = Header {
        kind: ChunkKind::Samples,
        reason: Reason::None,
        first_seq: at.seq + 1,
        seq: at.seq + 1,
        first_sample: at.next_sample,
        count: 65_536,
        utc_ns: START_NS + at.next_sample as i64 * 1_000,
        markers: Vec::new(),
        columns: (0..SIGNALS as u16)
            .map(|signal| ColumnHeader { signal, content })
            .collect(),
    };
    let digest = Hash([at.digest.0[0].wrapping_add(1); 16]);
    *at = Position::after(&header, digest);
    Row {
        chunk: Chunk {
            header,
            digest,
            columns: vec![payload.clone(); SIGNALS],
        },
        quarantine: None,
        folds: Vec::new(),
    }
}

async fn bare_copies(url: &str, payload: &Bytes, writers: usize) -> Result<f64> {
    let mut first = PgConnection::connect(url).await?;
    let table = "DROP TABLE IF EXISTS bare; CREATE TABLE bare (number bigint, payload bytea); ALTER TABLE bare ALTER payload SET STORAGE EXTERNAL";
    first.execute(sqlx::raw_sql(table)).await?;
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| tokio::spawn(bare_copy(url.to_owned(), payload.clone(), ROUND_BYTES / writers)))
        .collect();
    for task in tasks {
        task.await??;
    }
    let mb_per_s = ROUND_BYTES as f64 / 1e6 / started.elapsed().as_secs_f64();
    first.execute(sqlx::raw_sql("DROP TABLE bare")).await?;
    Ok(mb_per_s)
}

async fn bare_copy(url: String, payload: Bytes, bytes: usize) -> Result<()> {
    let mut connection = PgConnection::connect(&url).await?;
    for _ in 0..bytes / GROUP_BYTES {
        let mut copy = connection.copy_in_raw("COPY bare FROM STDIN (FORMAT binary)").await?;
        copy.send(&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..]).await?;
        for number in 0..(GROUP_BYTES / payload.len()) as i64 {
            let length = (payload.len() as u32).to_be_bytes();
            let fields = [
                &2i16.to_be_bytes()[..],
                &8i32.to_be_bytes(),
                &number.to_be_bytes(),
                &length,
            ]
            .concat();
            copy.send(fields).await?;
            copy.send(&payload[..]).await?;
        }
        copy.send(&(-1i16).to_be_bytes()[..]).await?;
        copy.finish().await?;
    }
    Ok(())
}
