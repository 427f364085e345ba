//! A server that answers what it is told to, and captures to make it answer.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod command;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use wavekeep::proto::chunk::{Chunk, ChunkKind, ColumnContent, ColumnHeader, Header, Position, Reason};
use wavekeep::proto::codec::{Decoder, Encoder, Encoding};
use wavekeep::proto::id::{Epoch, StreamId};
use wavekeep::proto::stream::{SampleType, Signal, StreamDefinition};
use wavekeep::proto::v1::query_server::{Query, QueryServer};
use wavekeep::proto::v1::waveform_part::Part;
use wavekeep::proto::{hash, v1, wire};

/// 2026-11-23T00:00:00Z.
pub const START_NS: i64 = 1_795_392_000_000_000_000;

/// Everything that the server says, whatever it is asked.
#[derive(Debug, Clone, Default)]
pub struct Script {
    pub devices: Vec<v1::Device>,
    pub streams: Vec<v1::StreamInfo>,
    pub chunks: Vec<v1::ChunkInfo>,
    pub gaps: Vec<v1::Gap>,
    pub statistics: Vec<v1::SignalStatistics>,
    pub runs: Vec<v1::Run>,
    pub markers: Vec<v1::ListedMarker>,
    /// What the last question for runs, or request for streams, let through.
    pub filter: Arc<Mutex<String>>,
    pub parts: Vec<v1::WaveformPart>,
    /// After the parts.
    pub failure: Option<Status>,
    /// After the parts nothing comes, and the answer does not end.
    pub hangs: bool,
    /// So many of the last chunks are not committed yet.
    pub uncommitted: Arc<AtomicUsize>,
    /// What the last question for a waveform said.
    pub points_max: Arc<AtomicU32>,
}

type Answer<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

fn answer<T>(parts: &[T], failure: Option<&Status>) -> Response<Answer<T>>
where
    T: Clone,
{
    let failure = failure.map(|status| Err(status.clone()));
    let parts: Vec<_> = parts.iter().cloned().map(Ok).chain(failure).collect();
    Response::new(tokio_stream::iter(parts))
}

#[tonic::async_trait]
impl Query for Script {
    type ListChunksStream = Answer<v1::ChunkInfo>;
    type ListGapsStream = Answer<v1::Gap>;
    type ListMarkersStream = Answer<v1::ListedMarker>;
    type GetWaveformStream = Pin<Box<dyn Stream<Item = Result<v1::WaveformPart, Status>> + Send>>;
    type TailStream = Answer<v1::TailPart>;
    type ReconcileStream = Answer<v1::StreamAccount>;

    async fn list_devices(
        &self,
        _: Request<v1::ListDevicesRequest>,
    ) -> Result<Response<v1::ListDevicesResponse>, Status> {
        let devices = self.devices.clone();
        Ok(Response::new(v1::ListDevicesResponse { devices }))
    }
    async fn list_streams(
        &self,
        request: Request<v1::ListStreamsRequest>,
    ) -> Result<Response<v1::ListStreamsResponse>, Status> {
        let request = request.into_inner();
        let asked = request.selection.and_then(|selection| selection.range);
        let mut streams = self.streams.clone();
        for stream in streams.iter_mut().filter(|stream| stream.ranges.is_empty()) {
            stream.ranges = vec![asked.unwrap_or_default()];
        }
        let runs = if request.with_runs {
            self.runs.clone()
        } else {
            Vec::new()
        };
        Ok(Response::new(v1::ListStreamsResponse { streams, runs }))
    }
    async fn list_chunks(
        &self,
        request: Request<v1::ListChunksRequest>,
    ) -> Result<Response<Answer<v1::ChunkInfo>>, Status> {
        let request = request.into_inner();
        let mut chunks = self.chunks.clone();
        chunks.truncate(chunks.len() - self.uncommitted.load(Ordering::SeqCst));
        chunks.retain(|chunk| {
            let seq = wire::header_from_bytes(&chunk.header).expect("a header").seq;
            let mut cursors = request.after.iter();
            cursors.all(|cursor| cursor.stream_id != chunk.stream_id || cursor.seq < seq)
        });
        for column in chunks.iter_mut().flat_map(|chunk| &mut chunk.first_samples) {
            column.values.truncate(request.first_samples as usize);
        }
        if request.newest_first {
            chunks.reverse();
        }
        if request.limit > 0 {
            chunks.truncate(request.limit as usize);
        }
        Ok(answer(&chunks, None))
    }
    async fn list_gaps(&self, _: Request<v1::ListGapsRequest>) -> Result<Response<Answer<v1::Gap>>, Status> {
        Ok(answer(&self.gaps, None))
    }
    async fn reconcile(&self, _: Request<v1::ReconcileRequest>) -> Result<Response<Answer<v1::StreamAccount>>, Status> {
        Err(Status::unimplemented("no script"))
    }
    async fn list_runs(&self, request: Request<v1::ListRunsRequest>) -> Result<Response<v1::ListRunsResponse>, Status> {
        *self.filter.lock().expect("not poisoned") = request.into_inner().filter;
        let runs = self.runs.clone();
        Ok(Response::new(v1::ListRunsResponse { runs }))
    }
    async fn list_markers(
        &self,
        _: Request<v1::ListMarkersRequest>,
    ) -> Result<Response<Answer<v1::ListedMarker>>, Status> {
        Ok(answer(&self.markers, None))
    }
    async fn get_waveform(
        &self,
        request: Request<v1::GetWaveformRequest>,
    ) -> Result<Response<Self::GetWaveformStream>, Status> {
        self.points_max.store(request.get_ref().points_max, Ordering::SeqCst);
        let parts = answer(&self.parts, self.failure.as_ref()).into_inner();
        Ok(Response::new(if self.hangs {
            Box::pin(parts.chain(tokio_stream::pending()))
        } else {
            Box::pin(parts)
        }))
    }
    async fn get_statistics(
        &self,
        _: Request<v1::GetStatisticsRequest>,
    ) -> Result<Response<v1::GetStatisticsResponse>, Status> {
        if self.statistics.is_empty() {
            return Err(Status::not_found(
                "there is no device \"x\"; did you mean \"js220-001\"?",
            ));
        }
        let signals = self.statistics.clone();
        Ok(Response::new(v1::GetStatisticsResponse { signals }))
    }
    async fn compare_runs(
        &self,
        _: Request<v1::CompareRunsRequest>,
    ) -> Result<Response<v1::CompareRunsResponse>, Status> {
        Err(Status::unimplemented("no script"))
    }
    async fn tail(&self, _: Request<v1::TailRequest>) -> Result<Response<Answer<v1::TailPart>>, Status> {
        Err(Status::unimplemented("no script"))
    }
}

/// Serves the script; its address.
pub async fn serve(script: Script) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = Server::builder().add_service(QueryServer::new(script));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    format!("http://{address}")
}

pub fn signal(number: u16, name: &str, sample_type: SampleType) -> Signal {
    Signal {
        number,
        name: name.into(),
        sample_type,
        unit: String::new(),
        finite_only: false,
    }
}

/// Current and voltage at 1 MHz; each number is another stream of the device.
pub fn definition(number: u8) -> StreamDefinition {
    StreamDefinition {
        id: StreamId([number; 16]),
        device: "js220-001".into(),
        epoch: Epoch([number; 16]),
        file_identity: Vec::new(),
        predecessor: None,
        rate_hz: 1e6,
        first_sample: 0,
        signals: vec![
            signal(0, "current", SampleType::F32),
            signal(7, "voltage", SampleType::F32),
        ],
        attributes: BTreeMap::new(),
    }
}

/// A capture, and the honest answer to whoever asks for all of it.
#[derive(Debug, Clone)]
pub struct Capture {
    pub definition: Arc<StreamDefinition>,
    pub at: Position,
    pub utc_ns: i64,
    pub chunks: Vec<v1::WaveformChunk>,
    pub gaps: Vec<v1::Gap>,
    pub sample_count: u64,
}

/// The raw form of one column.
pub type Raw = Option<Vec<u8>>;

impl Capture {
    pub fn new(definition: StreamDefinition) -> Self {
        Self {
            at: Position::start(&definition),
            definition: Arc::new(definition),
            utc_ns: START_NS,
            chunks: Vec::new(),
            gaps: Vec::new(),
            sample_count: 0,
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

    fn push(&mut self, header: Header, columns: Vec<bytes::Bytes>, quarantined: bool) {
        let digest = hash::next_digest(self.at.digest, hash::chunk_hash(&header));
        self.at = Position::after(&header, digest);
        self.utc_ns += self.definition.duration_ns(header.count);
        let (from_sample, to_sample) = (header.first_sample, header.end_sample());
        let chunk = wire::chunk_to_wire(&Chunk {
            header,
            digest,
            columns,
        });
        self.chunks.push(v1::WaveformChunk {
            stream_id: self.definition.id.to_vec().into(),
            chunk: Some(chunk),
            from_sample,
            to_sample,
            quarantined,
            loaded_at_ns: 0,
        });
    }

    fn push_gap(&mut self, count: u64, reason: Reason, signals: &[&str]) {
        self.gaps.push(v1::Gap {
            stream_id: self.definition.id.to_vec().into(),
            device: self.definition.device.clone(),
            first_sample: self.at.next_sample,
            count,
            reason: i32::from(reason as u16),
            from_ns: self.utc_ns,
            to_ns: self.utc_ns + self.definition.duration_ns(count),
            signals: signals.iter().map(|name| (*name).to_owned()).collect(),
        });
    }

    /// A chunk of raw columns; None is absent.
    pub fn columns(&mut self, encoding: Encoding, count: u32, columns: &[Raw]) {
        let mut header = self.header(ChunkKind::Samples, Reason::None, u64::from(count));
        let (mut encoded, mut absent) = (Vec::new(), Vec::new());
        let definition = self.definition.clone();
        for (signal, raw) in definition.signals.iter().zip(columns) {
            let content = match raw {
                None => {
                    absent.push(signal.name.as_str());
                    ColumnContent::Absent(Reason::SignalOff)
                }
                Some(raw) => {
                    let hash = hash::column_hash(signal.number, signal.sample_type, count, raw);
                    let (encoding, bytes) = Encoder::new().encode(encoding, signal.sample_type, raw);
                    encoded.push(bytes.into());
                    ColumnContent::Present { encoding, hash }
                }
            };
            header.columns.push(ColumnHeader {
                signal: signal.number,
                content,
            });
        }
        if !absent.is_empty() {
            self.push_gap(u64::from(count), Reason::SignalOff, &absent);
        }
        self.sample_count += if encoded.is_empty() { 0 } else { u64::from(count) };
        self.push(header, encoded, false);
    }

    /// f32 samples given as bits: the same for the first signal, negated for the others.
    pub fn samples(&mut self, encoding: Encoding, bits: &[u32]) {
        let raw = |flip: u32| {
            bits.iter()
                .flat_map(|bits| (bits ^ flip).to_le_bytes())
                .collect::<Vec<_>>()
        };
        let signals = 0..self.definition.signals.len();
        let columns: Vec<Raw> = signals
            .map(|signal| Some(raw(if signal == 0 { 0 } else { 1 << 31 })))
            .collect();
        self.columns(encoding, bits.len() as u32, &columns);
    }

    pub fn gap(&mut self, count: u64, reason: Reason) {
        self.push_gap(count, reason, &[]);
        self.push(self.header(ChunkKind::Gap, reason, count), Vec::new(), false);
    }

    /// A chunk whose bytes are in quarantine.
    pub fn quarantined(&mut self, count: u64) {
        self.push_gap(count, Reason::Quarantined, &[]);
        let mut header = self.header(ChunkKind::Samples, Reason::None, count);
        for signal in &self.definition.signals {
            let content = ColumnContent::Present {
                encoding: Encoding::Plain,
                hash: hash::definition_hash(&self.definition),
            };
            header.columns.push(ColumnHeader {
                signal: signal.number,
                content,
            });
        }
        self.push(header, Vec::new(), true);
    }

    pub fn end(&mut self) {
        self.push(self.header(ChunkKind::End, Reason::Closed, 0), Vec::new(), false);
    }

    pub fn info(&self) -> v1::StreamInfo {
        v1::StreamInfo {
            definition: Some(wire::definition_to_wire(&self.definition)),
            watermark: self.at.seq,
            next_sample: self.at.next_sample,
            digest: self.at.digest.to_vec().into(),
            ended: self.at.ended,
            end_reason: if self.at.ended { Reason::Closed as i32 } else { 0 },
            first_time_ns: START_NS,
            last_time_ns: self.utc_ns,
            sample_count: self.sample_count,
            gap_sample_count: self.at.next_sample - self.definition.first_sample - self.sample_count,
            ..v1::StreamInfo::default()
        }
    }

    pub fn manifest(&self) -> v1::StreamManifest {
        v1::StreamManifest {
            stream_id: self.definition.id.to_vec().into(),
            from_sample: self.definition.first_sample,
            to_sample: self.at.next_sample,
            sample_count: self.sample_count,
            gap_sample_count: self.at.next_sample - self.definition.first_sample - self.sample_count,
            first_seq: 1,
            last_seq: self.at.seq,
            digest_before: hash::definition_hash(&self.definition).to_vec().into(),
            digest: self.at.digest.to_vec().into(),
            chunks: self.chunks.len() as u64,
            gaps: self.gaps.clone(),
        }
    }

    /// As `ListChunks` has them.
    pub fn listed(&self) -> Vec<v1::ChunkInfo> {
        let listed = |wire: &v1::WaveformChunk| {
            let chunk = wire.chunk.clone().unwrap_or_default();
            v1::ChunkInfo {
                stream_id: wire.stream_id.clone(),
                device: self.definition.device.clone(),
                header: chunk.header,
                digest: chunk.digest,
                column_bytes: chunk.columns.iter().map(|column| column.len() as u64).collect(),
                loaded_at_ns: START_NS,
                quarantined: wire.quarantined,
                first_samples: self.starts(wire),
            }
        };
        self.chunks.iter().map(listed).collect()
    }

    /// All of the f32 samples of a chunk, as a listing would start with them.
    fn starts(&self, wire: &v1::WaveformChunk) -> Vec<v1::FirstSamples> {
        let chunk = wire.chunk.clone().unwrap_or_default();
        let header = wire::header_from_bytes(&chunk.header).expect("a header");
        let mut columns = chunk.columns.iter();
        let mut all = Vec::new();
        for column in header.columns.iter().filter(|_| !wire.quarantined) {
            let ColumnContent::Present { encoding, .. } = column.content else {
                continue;
            };
            let (mut raw, encoded) = (Vec::new(), columns.next().expect("it is present"));
            Decoder::new()
                .decode_into(encoding, SampleType::F32, header.count as usize, encoded, &mut raw)
                .expect("it was encoded");
            let f32s = raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            all.push(v1::FirstSamples {
                signal: column.signal.into(),
                values: f32s.map(f64::from).collect(),
            });
        }
        all
    }

    /// Columns of one signal, of any number: between −1 and 1 where there are samples.
    pub fn drawn(&self, signal: u32, bucket_samples: u64) -> v1::WaveformColumns {
        let (first_sample, to_sample) = (self.definition.first_sample, self.at.next_sample);
        let mut columns = v1::WaveformColumns {
            stream_id: self.definition.id.to_vec().into(),
            signal,
            level: 0,
            first_sample,
            to_sample,
            bucket_samples,
            ..v1::WaveformColumns::default()
        };
        let mut from = first_sample;
        while from < to_sample {
            let to = ((from / bucket_samples + 1) * bucket_samples).min(to_sample);
            let missing = |gap: &v1::Gap| {
                let end = gap.first_sample + gap.count;
                to.min(end).saturating_sub(from.max(gap.first_sample))
            };
            let count = to - from - self.gaps.iter().map(missing).sum::<u64>();
            let value = |value: f64| if count > 0 { value } else { f64::NAN };
            columns.min.push(value(-1.0));
            columns.max.push(value(1.0));
            columns.mean.push(value(0.25));
            columns.count.push(count);
            columns
                .time_ns
                .push(START_NS + self.definition.duration_ns(from - first_sample));
            from = to;
        }
        columns
    }

    /// The stream and its chunks, without the manifest.
    pub fn parts(&self) -> Vec<v1::WaveformPart> {
        let info = Some(self.info());
        let mut parts = vec![part(Part::Stream(v1::WaveformStream { info, range: None }))];
        parts.extend(self.chunks.iter().cloned().map(Part::Chunk).map(part));
        parts
    }
}

pub fn part(part: Part) -> v1::WaveformPart {
    v1::WaveformPart { part: Some(part) }
}

/// One chunk's capture, cut to samples: as a range of a run is answered, at 1 MHz.
pub fn with_range(capture: &Capture, (from, to): (u64, u64)) -> (Vec<v1::WaveformPart>, v1::StreamManifest) {
    let ns = |sample: u64| Some(START_NS + sample as i64 * 1_000);
    let range = Some(v1::TimeRange {
        from_ns: ns(from),
        to_ns: ns(to),
    });
    let info = Some(capture.info());
    let mut chunk = capture.chunks[0].clone();
    (chunk.from_sample, chunk.to_sample) = (from, to);
    let manifest = v1::StreamManifest {
        from_sample: from,
        to_sample: to,
        sample_count: to - from,
        ..capture.manifest()
    };
    (
        vec![
            part(Part::Stream(v1::WaveformStream { info, range })),
            part(Part::Chunk(chunk)),
        ],
        manifest,
    )
}

pub fn manifest_part(streams: Vec<v1::StreamManifest>) -> v1::WaveformPart {
    part(Part::Manifest(v1::Manifest { streams }))
}

/// What an honest server answers about these captures.
pub fn script(captures: &[&Capture]) -> Script {
    let mut parts: Vec<_> = captures.iter().flat_map(|capture| capture.parts()).collect();
    parts.push(manifest_part(
        captures.iter().map(|capture| capture.manifest()).collect(),
    ));
    Script {
        streams: captures.iter().map(|capture| capture.info()).collect(),
        gaps: captures.iter().flat_map(|capture| capture.gaps.clone()).collect(),
        parts,
        ..Script::default()
    }
}

/// What an honest server draws of these captures: the columns of each signal in one message.
pub fn drawn(captures: &[&Capture], bucket_samples: u64) -> Script {
    let (mut parts, mut manifest) = (Vec::new(), Vec::new());
    for capture in captures {
        let info = Some(capture.info());
        parts.push(part(Part::Stream(v1::WaveformStream { info, range: None })));
        let numbers = capture.definition.signals.iter().map(|signal| u32::from(signal.number));
        let power = wavekeep::proto::power::power_of(&capture.definition).map(|_| 65_536);
        for number in numbers.chain(power) {
            parts.push(part(Part::Columns(capture.drawn(number, bucket_samples))));
        }
        manifest.push(v1::StreamManifest {
            chunks: 0,
            ..capture.manifest()
        });
    }
    parts.push(manifest_part(manifest));
    Script {
        parts,
        ..script(captures)
    }
}

/// The frame hash of what a chunk now says, as a server that lies would send it.
pub fn seal(chunk: &mut v1::Chunk) {
    let columns = chunk.columns.iter().map(|column| &column[..]);
    chunk.frame_hash = hash::frame_hash(&chunk.header, &chunk.digest, columns).to_vec().into();
}
