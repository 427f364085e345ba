//! One database for the tests of a file, a workspace for each test, and streams whose chunks tile. The database is a private
//! Postgres', or TimescaleDB's: see `TestServer`.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Row as _};
use tokio::sync::OnceCell;

use wavekeep_proto::chunk::{
    Chunk, ChunkKind, ColumnContent, ColumnHeader, Header, Marker, MarkerFormat, Position, Reason,
};
use wavekeep_proto::codec::Encoding;
use wavekeep_proto::hash::{chunk_hash, column_hash, next_digest};
use wavekeep_proto::id::{Epoch, Hash, Owner, StreamId};
use wavekeep_proto::stream::{SampleType, Signal, StreamDefinition};
use wavekeep_server::devdb::TestServer;
use wavekeep_server::ledger::{Entry, Ledger, OpenRequest, OpenedRow, Row};
use wavekeep_server::rollup::fold::SignalFold;
use wavekeep_server::store::{Database, Kind, PostgresLedger};
use wavekeep_server::validate::{Validator, Verdict};
use wavekeep_server::workspace;

static SERVER: OnceCell<TestServer> = OnceCell::const_new();
static WORKSPACES: AtomicU32 = AtomicU32::new(0);

/// The one of this process.
pub async fn shared() -> &'static TestServer {
    SERVER
        .get_or_init(|| async { TestServer::start().await.expect("Postgres is installed") })
        .await
}

/// Are the big tables hypertables in this run?
pub async fn is_timescale() -> bool {
    shared().await.kind() == Kind::Hypertable
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

pub fn owner() -> Owner {
    Owner(random())
}

/// A ledger and a workspace of its own.
pub struct Fixture {
    pub url: String,
    pub ledger: PostgresLedger,
    pub workspace: String,
}

impl Fixture {
    pub async fn new() -> Self {
        let url = shared().await.url();
        let workspace = format!("test_{}", WORKSPACES.fetch_add(1, Ordering::Relaxed));
        workspace::create(&url, &workspace).await.expect("a new workspace");
        Self {
            ledger: ledger(&url).await,
            url,
            workspace,
        }
    }

    pub async fn open(&self, stream: &Stream, owner: Owner) -> OpenedRow {
        self.ledger
            .open(&self.workspace, stream.open_request(owner))
            .await
            .expect("the stream opens")
    }

    pub async fn commit(&self, entries: &[Entry]) -> Vec<bool> {
        self.commit_by(&self.ledger, entries).await
    }

    /// By another server.
    pub async fn commit_by(&self, ledger: &PostgresLedger, entries: &[Entry]) -> Vec<bool> {
        let committed = ledger.commit(&self.workspace, entries).await;
        committed.expect("the batch commits")
    }

    /// A connection beside the ledger, in the workspace.
    pub async fn sql(&self) -> PgConnection {
        connect(&self.url, &self.workspace).await
    }

    /// The first column of the only row.
    pub async fn one(&self, sql: &str) -> i64 {
        let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut self.sql().await)
            .await;
        // Text, because a simple query answers so.
        row.expect("the query runs").get::<i64, _>(0)
    }

    pub async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut self.sql().await)
            .await
            .expect("the statement runs");
    }

    pub async fn rows_of(&self, stream: &Stream) -> i64 {
        self.one(&format!(
            "SELECT count(*) FROM chunk WHERE stream_id = '\\x{}'",
            stream.definition.id
        ))
        .await
    }

    /// Holds the stream's row in a transaction of its own, like another server. With its process id.
    pub async fn hold(&self, stream: &Stream) -> (PgConnection, i64) {
        let mut holder = self.sql().await;
        sqlx::raw_sql("BEGIN").execute(&mut holder).await.expect("it begins");
        let lock = sqlx::query("SELECT pg_backend_pid()::bigint FROM stream WHERE id = $1 FOR UPDATE");
        let row = lock
            .bind(stream.definition.id.to_vec())
            .fetch_one(&mut holder)
            .await
            .expect("the row is free");
        (holder, row.get(0))
    }

    /// Returns once somebody waits for that process, after `then` was called with its id.
    pub async fn wait_for_waiter(&self, holder: i64, then: &str) {
        let waiting = format!("SELECT count({then}) FROM pg_stat_activity WHERE {holder} = ANY(pg_blocking_pids(pid))");
        while self.one(&waiting).await == 0 {}
    }

    /// Where the row stands, read beside the ledger.
    pub async fn position(&self, stream: &Stream) -> Position {
        let sql = "SELECT watermark, next_sample, digest, ended FROM stream WHERE id = $1";
        let query = sqlx::query(sql).bind(stream.definition.id.to_vec());
        let row = query
            .fetch_one(&mut self.sql().await)
            .await
            .expect("the stream is there");
        Position {
            seq: row.get::<i64, _>(0).try_into().expect("positive"),
            next_sample: row.get::<i64, _>(1).try_into().expect("positive"),
            digest: Hash::from_slice(row.get(2)).expect("16 bytes"),
            ended: row.get(3),
        }
    }
}

pub async fn ledger(url: &str) -> PostgresLedger {
    PostgresLedger::new(Database::connect(url, 8).await.expect("the database answers"))
}

pub async fn connect(url: &str, schema: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().expect("a URL");
    let options = options.options([("search_path", schema)]);
    options.connect().await.expect("the database answers")
}

/// As psql would connect: a role and a database, and nothing else.
pub async fn as_reader(fixture: &Fixture) -> PgConnection {
    let options: PgConnectOptions = fixture.url.parse().expect("a URL");
    let role = format!("wavekeep_read_{}", fixture.workspace);
    // Where the database asks for one, as docs/SQL.md says.
    let password = format!("ALTER ROLE {role} PASSWORD 'a test'");
    let mut owner = connect(&fixture.url, &fixture.workspace).await;
    sqlx::raw_sql(AssertSqlSafe(password))
        .execute(&mut owner)
        .await
        .expect("its owner may");
    let options = options.username(&role).password("a test");
    options.connect().await.expect("the role may log in")
}

/// Is the extension `wavekeep` in this database? It is created where the server has it; `make test-sql` says that it must.
pub async fn has_samples_extension(url: &str) -> bool {
    static CREATED: OnceCell<bool> = OnceCell::const_new();
    let created = CREATED.get_or_init(|| async {
        let mut owner = connect(url, "public").await;
        let available = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'wavekeep')";
        let available = sqlx::query_scalar(available)
            .fetch_one(&mut owner)
            .await
            .expect("it answers");
        assert!(
            available || std::env::var_os("WAVEKEEP_SQL_EXTENSION").is_none(),
            "this Postgres has no extension wavekeep"
        );
        if available {
            sqlx::raw_sql("CREATE EXTENSION IF NOT EXISTS wavekeep")
                .execute(&mut owner)
                .await
                .expect("it is whole");
        }
        available
    });
    *created.await
}

/// What an agent would send of one stream.
#[derive(Debug, Clone)]
pub struct Stream {
    pub definition: Arc<StreamDefinition>,
    pub at: Position,
    pub utc_ns: i64,
}

/// 2026-11-23T00:00:00Z.
pub const NOVEMBER_2026_NS: i64 = 1_795_392_000_000_000_000;

impl Stream {
    pub fn new() -> Self {
        Self::of(definition())
    }

    pub fn of(definition: StreamDefinition) -> Self {
        let at = Position::start(&definition);
        Self {
            definition: Arc::new(definition),
            at,
            utc_ns: NOVEMBER_2026_NS,
        }
    }

    pub fn open_request(&self, owner: Owner) -> OpenRequest {
        OpenRequest {
            definition: self.definition.clone(),
            labels: BTreeMap::new(),
            run: String::new(),
            stored_seq: self.at.seq,
            owner,
        }
    }

    fn header(&self, kind: ChunkKind, reason: Reason, count: u64) -> Header {
        Header {
            kind,
            reason,
            first_seq: self.at.seq + 1,
            seq: self.at.seq + 1,
            first_sample: self.at.next_sample,
            count,
            utc_ns: self.utc_ns,
            markers: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// Chains a chunk and moves on.
    pub fn push(&mut self, header: Header, columns: Vec<Bytes>) -> Row {
        let digest = if header.is_replacing() {
            Hash(random())
        } else {
            next_digest(self.at.digest, chunk_hash(&header))
        };
        let folds = folds(&self.definition, &header, &columns);
        self.at = Position::after(&header, digest);
        self.utc_ns = self.utc_ns.saturating_add(self.definition.duration_ns(header.count));
        Row {
            chunk: Chunk {
                header,
                digest,
                columns,
            },
            quarantine: None,
            folds,
        }
    }

    /// Plain f32 samples, given as bits, the same for each signal.
    pub fn samples(&mut self, bits: &[u32]) -> Row {
        let raw: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let mut header = self.header(ChunkKind::Samples, Reason::None, bits.len() as u64);
        for signal in &self.definition.signals {
            let hash = column_hash(signal.number, SampleType::F32, bits.len() as u32, &raw);
            let content = ColumnContent::Present {
                encoding: Encoding::Plain,
                hash,
            };
            header.columns.push(ColumnHeader {
                signal: signal.number,
                content,
            });
        }
        let columns = vec![Bytes::from(raw); self.definition.signals.len()];
        self.push(header, columns)
    }

    pub fn few_samples(&mut self) -> Row {
        self.samples(&[1.0f32.to_bits(), 2.0f32.to_bits(), 3.0f32.to_bits()])
    }

    /// The second signal is lost.
    pub fn half_samples(&mut self) -> Row {
        let at = self.clone();
        let mut row = self.few_samples();
        row.chunk.columns.truncate(1);
        row.chunk.header.columns[1].content = ColumnContent::Absent(Reason::SignalOff);
        let header = row.chunk.header;
        *self = at;
        self.push(header, row.chunk.columns)
    }

    pub fn with_marker(&mut self, content: &[u8]) -> Row {
        let at = self.clone();
        let row = self.few_samples();
        let mut header = row.chunk.header;
        let sample = header.first_sample + 1;
        let (format, content) = (MarkerFormat::Bytes, content.to_vec());
        header.markers.push(Marker {
            sample,
            kind: 1,
            group: 2,
            y: f64::NAN,
            format,
            content,
        });
        *self = at;
        self.push(header, row.chunk.columns)
    }

    pub fn gap(&mut self, count: u64, reason: Reason) -> Row {
        let header = self.header(ChunkKind::Gap, reason, count);
        self.push(header, Vec::new())
    }

    pub fn end(&mut self) -> Row {
        let header = self.header(ChunkKind::End, Reason::Closed, 0);
        self.push(header, Vec::new())
    }
}

/// As the server folds what it validates; nothing where the content is bad, which tests of quarantine want.
fn folds(definition: &StreamDefinition, header: &Header, columns: &[Bytes]) -> Vec<SignalFold> {
    let chunk = Chunk {
        header: header.clone(),
        digest: Hash([0; 16]),
        columns: columns.to_vec(),
    };
    match Validator::default().check(definition, &chunk).expect("there is memory") {
        Verdict::Good(folds) => folds,
        Verdict::Quarantine(_) => Vec::new(),
    }
}

pub fn definition() -> StreamDefinition {
    let signal = |number, name: &str, unit: &str| Signal {
        number,
        name: name.into(),
        sample_type: SampleType::F32,
        unit: unit.into(),
        finite_only: false,
    };
    StreamDefinition {
        id: StreamId(random()),
        device: "js220-001".into(),
        epoch: Epoch(random()),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz: 1e6,
        first_sample: 0,
        signals: vec![signal(0, "current", "A"), signal(40_000, "voltage", "V")],
        attributes: BTreeMap::from([("model".into(), "JS220".into())]),
    }
}

/// All of `rows`, from where the stream stood.
pub fn entry(stream: &Stream, owner: Owner, before: Position, rows: Vec<Row>) -> Entry {
    let last = rows.last().expect("an entry has rows");
    let after = Position::after(&last.chunk.header, last.chunk.digest);
    Entry {
        stream: stream.definition.id,
        owner,
        before,
        after,
        rows,
    }
}

/// A stream with one committed chunk, and the entry that would follow it.
pub async fn one_committed(fixture: &Fixture) -> (Stream, Owner, Entry) {
    let (mut stream, owner) = (Stream::new(), owner());
    let start = fixture.open(&stream, owner).await.at;
    let first = stream.few_samples();
    assert_eq!(
        fixture.commit(&[entry(&stream, owner, start, vec![first])]).await,
        [true]
    );
    let before = stream.at;
    let next = stream.clone().few_samples();
    let follows = entry(&stream, owner, before, vec![next]);
    (stream, owner, follows)
}

/// The entry must be fenced: nothing moves, nothing is stored.
pub async fn assert_fenced(fixture: &Fixture, stream: &Stream, entry: Entry, what: &str) {
    let (before, rows) = (fixture.position(stream).await, fixture.rows_of(stream).await);
    assert_eq!(fixture.commit(&[entry]).await, [false], "{what}");
    assert_eq!(fixture.position(stream).await, before, "{what}");
    assert_eq!(fixture.rows_of(stream).await, rows, "{what}");
}
