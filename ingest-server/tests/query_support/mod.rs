//! A `Query` service on a real Postgres, asked over a socket.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Code, Status};
use wavekeep_proto::chunk::Position;
use wavekeep_proto::id::StreamId;
use wavekeep_proto::stream::{SampleType, StreamDefinition};
use wavekeep_proto::v1;
use wavekeep_proto::v1::catalog_client::CatalogClient;
use wavekeep_proto::v1::query_client::QueryClient;
use wavekeep_proto::v1::waveform_part::Part;
use wavekeep_server::ledger::{OpenRequest, Row};
use wavekeep_server::store::Database;
use wavekeep_server::{catalog, query};

use crate::common::{Fixture, Stream, entry, owner};

/// A workspace with what was committed to it, and a reader.
pub struct Asker {
    pub fixture: Fixture,
    pub query: QueryClient<Channel>,
    pub catalog: CatalogClient<Channel>,
}

/// One stream of an answer, with its chunks.
#[derive(Debug, Default)]
pub struct Answered {
    pub info: v1::StreamInfo,
    pub chunks: Vec<v1::WaveformChunk>,
    pub manifest: v1::StreamManifest,
}

impl Asker {
    pub async fn new() -> Self {
        let fixture = Fixture::new().await;
        let database = Database::connect(&fixture.url, 4).await.expect("the database answers");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stopping = tokio_util::sync::CancellationToken::new();
        let server = Server::builder()
            .add_service(query::service(database.clone(), stopping))
            .add_service(catalog::service(database));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let query = QueryClient::connect(format!("http://{address}"))
            .await
            .expect("it listens");
        let catalog = CatalogClient::connect(format!("http://{address}"))
            .await
            .expect("it listens");
        let query = query.max_decoding_message_size(wavekeep_proto::limits::MESSAGE_BYTES_MAX);
        Self {
            fixture,
            query,
            catalog,
        }
    }

    /// Opens a stream with labels and a run, and commits what it captured.
    pub async fn store_in(&self, stream: &Stream, rows: Vec<Row>, run: &str, labels: &[(&str, &str)]) {
        let owner = owner();
        let start = Position::start(&stream.definition);
        let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        let request = OpenRequest {
            labels: labels.collect(),
            run: run.into(),
            stored_seq: 0,
            ..stream.open_request(owner)
        };
        use wavekeep_server::ledger::Ledger;
        let opened = self.fixture.ledger.open(&self.fixture.workspace, request).await;
        assert_eq!(opened.expect("the stream opens").at, start);
        assert_eq!(self.fixture.commit(&[entry(stream, owner, start, rows)]).await, [true]);
    }

    pub async fn store(&self, stream: &Stream, rows: Vec<Row>) {
        self.store_in(stream, rows, "", &[]).await;
    }

    pub async fn runs(&self, filter: &str) -> Result<Vec<v1::Run>, Status> {
        let request = v1::ListRunsRequest {
            workspace: self.workspace(),
            filter: filter.into(),
        };
        Ok(self.query.clone().list_runs(request).await?.into_inner().runs)
    }

    pub async fn create_run(&self, run: v1::Run, members: Vec<v1::Selection>) -> Result<v1::Run, Status> {
        let request = v1::CreateRunRequest {
            workspace: self.workspace(),
            run: Some(run),
            members,
        };
        Ok(self.catalog.clone().create_run(request).await?.into_inner())
    }

    pub async fn markers(&self, selection: v1::Selection) -> Result<Vec<v1::ListedMarker>, Status> {
        let request = v1::ListMarkersRequest {
            workspace: self.workspace(),
            selection: Some(selection),
        };
        let mut answer = self.query.clone().list_markers(request).await?.into_inner();
        let mut markers = Vec::new();
        while let Some(marker) = answer.message().await? {
            markers.push(marker);
        }
        Ok(markers)
    }

    pub fn workspace(&self) -> String {
        self.fixture.workspace.clone()
    }

    pub async fn waveform(&self, selection: v1::Selection) -> Result<Vec<v1::WaveformPart>, Status> {
        self.drawn(selection, 0).await
    }

    /// With points.
    pub async fn drawn(&self, selection: v1::Selection, points_max: u32) -> Result<Vec<v1::WaveformPart>, Status> {
        let request = v1::GetWaveformRequest {
            workspace: self.workspace(),
            selection: Some(selection),
            points_max,
            encodings: Vec::new(),
        };
        let mut answer = self.query.clone().get_waveform(request).await?.into_inner();
        let mut parts = Vec::new();
        while let Some(part) = answer.message().await? {
            parts.push(part);
        }
        Ok(parts)
    }

    /// The answer by stream. Gaps of early manifests are joined to those of the last.
    pub async fn read(&self, selection: v1::Selection) -> Vec<Answered> {
        let parts = self.waveform(selection).await.expect("an answer");
        let (last, parts) = parts.split_last().expect("a manifest at least");
        let mut streams: Vec<Answered> = Vec::new();
        for part in parts {
            match part.part.clone().expect("a known part") {
                Part::Stream(stream) => streams.push(Answered {
                    info: stream.info.expect("a description"),
                    ..Answered::default()
                }),
                Part::Chunk(chunk) => streams.last_mut().expect("after its stream").chunks.push(chunk),
                Part::Manifest(manifest) => take_gaps(&mut streams, manifest),
                Part::Columns(_) => panic!("points were not asked for"),
            }
        }
        let Some(Part::Manifest(manifest)) = last.part.clone() else {
            panic!("the last part is the manifest");
        };
        assert_eq!(manifest.streams.len(), streams.len());
        for (answered, stated) in streams.iter_mut().zip(manifest.streams) {
            let gaps = std::mem::take(&mut answered.manifest.gaps);
            answered.manifest = stated;
            answered.manifest.gaps.splice(0..0, gaps);
        }
        streams
    }

    /// The only stream of an answer.
    pub async fn read_one(&self, selection: v1::Selection) -> Answered {
        let mut streams = self.read(selection).await;
        assert_eq!(streams.len(), 1);
        streams.remove(0)
    }

    pub async fn statistics(&self, selection: v1::Selection) -> Result<Vec<v1::SignalStatistics>, Status> {
        let request = v1::GetStatisticsRequest {
            selection: Some(selection),
            ..v1::GetStatisticsRequest::default()
        };
        self.distribution(request).await
    }

    /// In the fixture's workspace, whatever the request says.
    pub async fn distribution(&self, request: v1::GetStatisticsRequest) -> Result<Vec<v1::SignalStatistics>, Status> {
        let workspace = self.workspace();
        let request = v1::GetStatisticsRequest { workspace, ..request };
        Ok(self.query.clone().get_statistics(request).await?.into_inner().signals)
    }

    /// In the fixture's workspace, whatever the request says.
    pub async fn compare(&self, request: v1::CompareRunsRequest) -> Result<v1::CompareRunsResponse, Status> {
        let workspace = self.workspace();
        let request = v1::CompareRunsRequest { workspace, ..request };
        Ok(self.query.clone().compare_runs(request).await?.into_inner())
    }

    pub async fn gaps(&self, selection: v1::Selection) -> Result<Vec<v1::Gap>, Status> {
        let request = v1::ListGapsRequest {
            workspace: self.workspace(),
            selection: Some(selection),
        };
        let mut answer = self.query.clone().list_gaps(request).await?.into_inner();
        let mut gaps = Vec::new();
        while let Some(gap) = answer.message().await? {
            gaps.push(gap);
        }
        Ok(gaps)
    }

    pub async fn chunks(
        &self,
        selection: v1::Selection,
        limit: u32,
        newest_first: bool,
    ) -> Result<Vec<v1::ChunkInfo>, Status> {
        let request = v1::ListChunksRequest {
            selection: Some(selection),
            limit,
            newest_first,
            ..v1::ListChunksRequest::default()
        };
        self.list_chunks(request).await
    }

    /// In the fixture's workspace, whatever the request says.
    pub async fn list_chunks(&self, request: v1::ListChunksRequest) -> Result<Vec<v1::ChunkInfo>, Status> {
        let workspace = self.workspace();
        let request = v1::ListChunksRequest { workspace, ..request };
        let mut answer = self.query.clone().list_chunks(request).await?.into_inner();
        let mut chunks = Vec::new();
        while let Some(chunk) = answer.message().await? {
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    pub async fn streams(&self, selection: v1::Selection) -> Result<Vec<v1::StreamInfo>, Status> {
        Ok(self.selected(selection, false).await?.streams)
    }

    pub async fn selected(&self, selection: v1::Selection, with_runs: bool) -> Result<v1::ListStreamsResponse, Status> {
        let request = v1::ListStreamsRequest {
            workspace: self.workspace(),
            selection: Some(selection),
            with_runs,
        };
        Ok(self.query.clone().list_streams(request).await?.into_inner())
    }

    pub async fn devices(&self) -> Vec<v1::Device> {
        let request = v1::ListDevicesRequest {
            workspace: self.workspace(),
        };
        let answer = self.query.clone().list_devices(request).await;
        answer.expect("an answer").into_inner().devices
    }
}

fn take_gaps(streams: &mut [Answered], manifest: v1::Manifest) {
    for stated in manifest.streams {
        assert!(stated.digest.is_empty(), "only the last manifest has digests");
        let of = |answered: &&mut Answered| {
            let definition = answered.info.definition.as_ref().expect("a definition");
            definition.stream_id == stated.stream_id
        };
        let answered = streams.iter_mut().find(of).expect("a stream that came");
        answered.manifest.gaps.extend(stated.gaps);
    }
}

pub fn by_stream(stream: &Stream) -> v1::Selection {
    what(v1::selection::What::StreamId(stream.definition.id.to_vec().into()))
}

pub fn by_device(name: &str) -> v1::Selection {
    what(v1::selection::What::Device(name.into()))
}

pub fn what(what: v1::selection::What) -> v1::Selection {
    v1::Selection {
        what: Some(what),
        ..v1::Selection::default()
    }
}

pub fn between(selection: v1::Selection, from_ns: Option<i64>, to_ns: Option<i64>) -> v1::Selection {
    v1::Selection {
        range: Some(v1::TimeRange { from_ns, to_ns }),
        ..selection
    }
}

pub fn with_signals(selection: v1::Selection, names: &[&str]) -> v1::Selection {
    v1::Selection {
        signals: names.iter().map(|name| (*name).to_owned()).collect(),
        ..selection
    }
}

/// The refusal must have this code and say this.
#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, part: &str) {
    let status = answer.expect_err("a refusal");
    assert_eq!(status.code(), code, "{}", status.message());
    assert!(status.message().contains(part), "{}", status.message());
}

/// Another definition of the same device.
pub fn changed(change: impl FnOnce(&mut StreamDefinition)) -> Stream {
    let mut definition = crate::common::definition();
    change(&mut definition);
    Stream::of(definition)
}

/// The same axis goes on under another id, as a successor does.
pub fn successor(stream: &Stream, seq: u64, first_sample: u64, utc_ns: i64) -> Stream {
    let mut definition = StreamDefinition::clone(&stream.definition);
    definition.predecessor = Some(wavekeep_proto::stream::Predecessor {
        stream_id: definition.id,
        seq,
    });
    definition.id = StreamId(crate::common::random());
    definition.first_sample = first_sample;
    Stream {
        utc_ns,
        ..Stream::of(definition)
    }
}

/// Samples of one f32 signal, as bits, that a chunk's column holds (plain).
pub fn bits(column: &[u8]) -> Vec<u32> {
    assert_eq!(SampleType::F32.bits(), 32);
    let (samples, rest) = column.as_chunks();
    assert!(rest.is_empty());
    samples.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
}

pub fn id(stream: &Stream) -> Vec<u8> {
    stream.definition.id.to_vec()
}

/// Everything under an `Arc`, for tasks.
pub type Shared = Arc<Asker>;
