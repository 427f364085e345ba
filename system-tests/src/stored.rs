//! What is stored, read back two ways: by SQL, straight from the tables, and by `Query`, over gRPC. Both are decoded and
//! verified here, apart from the product's own reader: hashes, digest chain and tiling.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use sqlx::{Connection, PgConnection, Row};
use wavekeep_proto::chunk::{Chunk, ChunkKind, ColumnContent, Header, Position};
use wavekeep_proto::codec::Decoder;
use wavekeep_proto::hash;
use wavekeep_proto::id::Hash;
use wavekeep_proto::stream::StreamDefinition;
use wavekeep_proto::v1::query_client::QueryClient;
use wavekeep_proto::v1::waveform_part::Part;
use wavekeep_proto::{limits, v1, wire};

/// One stored chunk; its columns are encoded, one per signal (`None`: absent).
pub struct StoredChunk {
    /// As it was sent.
    pub header: Header,
    /// Of the capture, after it.
    pub digest: Hash,
    /// In signal order.
    pub columns: Vec<Option<Bytes>>,
}

/// A stream as the ledger has it.
pub struct StoredStream {
    /// What it is.
    pub definition: StreamDefinition,
    /// Where the ledger says that it stands.
    pub at: Position,
}

/// Receives the chunks of a stream in order, decoded.
pub trait Sink {
    /// Samples, decoded and verified: one entry per signal.
    fn samples(&mut self, header: &Header, columns: &[Option<Vec<u8>>]) -> Result<()>;
    /// A gap.
    fn gap(&mut self, header: &Header) -> Result<()>;
}

/// Checks chunk after chunk: seq, tiling, digest, hashes.
pub struct Verifier<'a> {
    definition: &'a StreamDefinition,
    at: Position,
    decoder: Decoder,
    columns: Vec<Option<Vec<u8>>>,
}

impl<'a> Verifier<'a> {
    /// At the start of a stream.
    #[must_use]
    pub fn new(definition: &'a StreamDefinition) -> Self {
        let columns = definition.signals.iter().map(|_| None).collect();
        Self {
            definition,
            at: Position::start(definition),
            decoder: Decoder::new(),
            columns,
        }
    }

    /// Where the stream stands after what was seen.
    #[must_use]
    pub fn at(&self) -> Position {
        self.at
    }

    /// The next chunk.
    pub fn next(&mut self, chunk: &StoredChunk, sink: &mut dyn Sink) -> Result<()> {
        let header = &chunk.header;
        ensure!(
            header.first_seq == self.at.seq + 1,
            "I1: seq {} follows {}",
            header.first_seq,
            self.at.seq
        );
        ensure!(
            header.first_sample == self.at.next_sample,
            "I4: sample {} is not next",
            header.first_sample
        );
        if !header.is_replacing() {
            let expected = hash::next_digest(self.at.digest, hash::chunk_hash(header));
            ensure!(
                expected == chunk.digest,
                "I14: the digest of seq {} is not that of the rows",
                header.seq
            );
        }
        match header.kind {
            ChunkKind::Samples => {
                self.decode(chunk)?;
                sink.samples(header, &self.columns)?;
            }
            ChunkKind::Gap => sink.gap(header)?,
            ChunkKind::End => {}
        }
        self.at = Position::after(header, chunk.digest);
        Ok(())
    }

    fn decode(&mut self, chunk: &StoredChunk) -> Result<()> {
        let header = &chunk.header;
        let count = u32::try_from(header.count).context("a chunk's count is small")?;
        for (at, (signal, column)) in self.definition.signals.iter().zip(&header.columns).enumerate() {
            self.columns[at] = match (column.content, chunk.columns.get(at).cloned().flatten()) {
                (ColumnContent::Present { encoding, hash }, Some(encoded)) => {
                    let mut samples = self.columns[at].take().unwrap_or_default();
                    samples.clear();
                    self.decoder
                        .decode_into(encoding, signal.sample_type, count as usize, &encoded, &mut samples)?;
                    let found = hash::column_hash(signal.number, signal.sample_type, count, &samples);
                    ensure!(
                        found == hash,
                        "the samples of seq {} are not those that were captured",
                        header.seq
                    );
                    Some(samples)
                }
                (ColumnContent::Absent(_), None) => None,
                _ => bail!("seq {}: a column is missing, or too many", header.seq),
            };
        }
        Ok(())
    }
}

fn id(bytes: &[u8]) -> Result<Hash> {
    Hash::from_slice(bytes).context("a stored hash is not 16 bytes")
}

/// Connects to the database and enters workspace `main`.
pub async fn sql(database_url: &str) -> Result<PgConnection> {
    let mut connection = PgConnection::connect(database_url).await?;
    let schema: String = sqlx::query_scalar("SELECT schema FROM wavekeep.workspace WHERE name = 'main'")
        .fetch_one(&mut connection)
        .await?;
    // The schema's name is a quoted identifier of our own making.
    let enter = format!("SET search_path TO \"{}\"", schema.replace('"', ""));
    sqlx::raw_sql(sqlx::AssertSqlSafe(enter))
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// Does something to workspace `main`, all of it in one transaction; how many rows it changed.
pub async fn execute(database_url: &str, sql: &str) -> Result<u64> {
    let mut connection = self::sql(database_url).await?;
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await?;
    Ok(done.rows_affected())
}

/// Every stream of a device, oldest first, by SQL.
pub async fn streams(connection: &mut PgConnection, device: &str) -> Result<Vec<StoredStream>> {
    let rows = sqlx::query(
        "SELECT definition, watermark, next_sample, digest, ended FROM stream WHERE device = $1 ORDER BY created_at, id",
    )
    .bind(device)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let wire: v1::StreamDefinition = prost_decode(row.get("definition"))?;
            let definition = wire::definition_from_wire(wire).map_err(anyhow::Error::msg)?;
            let number = |name: &str| row.get::<i64, _>(name).cast_unsigned();
            let at = Position {
                seq: number("watermark"),
                next_sample: number("next_sample"),
                digest: id(row.get("digest"))?,
                ended: row.get("ended"),
            };
            Ok(StoredStream { definition, at })
        })
        .collect()
}

fn prost_decode<M: prost::Message + Default>(bytes: &[u8]) -> Result<M> {
    M::decode(bytes).context("a stored message does not parse")
}

/// Reads a whole stream by SQL, in pages, and verifies it.
pub async fn read_by_sql(connection: &mut PgConnection, stream: &StoredStream, sink: &mut dyn Sink) -> Result<()> {
    let mut verifier = Verifier::new(&stream.definition);
    loop {
        let rows = sqlx::query(
            "SELECT c.header, c.digest,
                    array(SELECT s.payload FROM chunk_signal s
                           WHERE s.stream_id = c.stream_id AND s.seq = c.seq AND s.start_time = c.start_time AND s.signal < 65536
                           ORDER BY s.signal) AS columns
               FROM chunk c WHERE c.stream_id = $1 AND c.seq > $2 ORDER BY c.seq LIMIT 64",
        )
        .bind(&stream.definition.id.as_bytes()[..])
        .bind(verifier.at().seq.cast_signed())
        .fetch_all(&mut *connection)
        .await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            let header = wire::header_from_bytes(row.get("header"))?;
            let columns: Vec<Option<Vec<u8>>> = row.get("columns");
            let columns = columns.into_iter().map(|column| column.map(Bytes::from)).collect();
            verifier.next(
                &StoredChunk {
                    header,
                    digest: id(row.get("digest"))?,
                    columns,
                },
                sink,
            )?;
        }
    }
    ensure!(
        verifier.at() == stream.at,
        "the stream's row says {:?}, its chunks {:?}",
        stream.at,
        verifier.at()
    );
    Ok(())
}

/// Reads a whole stream by `Query.GetWaveform`, verifies it, and the manifest with it.
pub async fn read_by_query(url: &str, stream: &StoredStream, sink: &mut dyn Sink) -> Result<()> {
    let client = QueryClient::connect(url.to_owned()).await?;
    let mut client = client.max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let selection = v1::Selection {
        what: Some(v1::selection::What::StreamId(stream.definition.id.to_vec().into())),
        ..v1::Selection::default()
    };
    let request = v1::GetWaveformRequest {
        workspace: "main".into(),
        selection: Some(selection),
        ..v1::GetWaveformRequest::default()
    };
    let mut parts = client.get_waveform(request).await?.into_inner();
    let mut verifier = Verifier::new(&stream.definition);
    let mut manifest = None;
    while let Some(part) = parts.message().await? {
        match part.part {
            Some(Part::Chunk(part)) => {
                let wire = part.chunk.context("a waveform chunk has no chunk")?;
                let chunk = wire::chunk_from_wire(wire)?;
                verifier.next(&split(chunk), sink)?;
            }
            Some(Part::Manifest(last)) => manifest = Some(last),
            _ => {}
        }
    }
    let manifest = manifest.context("the answer has no manifest")?;
    let of = manifest.streams.first().context("the manifest names no stream")?;
    ensure!(
        of.last_seq >= verifier.at().seq.min(stream.at.seq),
        "the manifest ends early"
    );
    // A reader of samples need not be sent the end chunk.
    ensure!(
        verifier.at().next_sample == stream.at.next_sample,
        "the waveform ends early"
    );
    Ok(())
}

fn split(chunk: Chunk) -> StoredChunk {
    let mut present = chunk.columns.into_iter();
    let columns = chunk.header.columns.iter().map(|column| match column.content {
        ColumnContent::Present { .. } => present.next(),
        ColumnContent::Absent(_) => None,
    });
    StoredChunk {
        columns: columns.collect(),
        header: chunk.header,
        digest: chunk.digest,
    }
}
