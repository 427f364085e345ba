//! The `Query` service: handlers that translate, around pure plans.
//!
//! | file | what |
//! |---|---|
//! | `plan`, `filter` | pure: from a request to what has to be read |
//! | `read`, `locate` | streams and chunks from the store, batch by batch; where a range of time lies |
//! | `answer` | answers of many parts: bounded, cancelled when nobody listens |
//! | `runs` | from a run's name to its streams and their ranges |
//! | `listing`, `gaps`, `markers` | devices, streams, runs; what is missing; notes |
//! | `reconcile` | what there is of each stream, and what its agent says |
//! | `chunks`, `first_samples` | chunks, and what they start with |
//! | `waveform`, `manifest` | samples as they are stored, and what proves them |
//! | `tail`, `news` | the same as they are committed; what moves |
//! | `columns`, `grid` | what is drawn of a range, in so many points |
//! | `statistics`, `fold` | statistics |
//! | `distribution`, `quantiles`, `bins`, `order` | percentiles and histograms: the samples themselves are looked at |
//! | `compare/` | groups of runs, measured and compared |
//! | `folds`, `cover`, `want`, `read_folds`, `decode` | a range as folds: stored ones, and samples at its edges |
//! | `error`, `limits` | why there is no answer; the limits of reading |
//!
//! # Invariants
//! - I12: [`limits::ANSWERS_MAX`] answers at a time, and [`limits::TAILS_MAX`] without an end; each holds a few batches in memory, however long its range.
//! - A deadline ends an answer, and so does a caller that goes away.

mod answer;
mod bins;
mod chunks;
mod columns;
mod compare;
mod cover;
mod decode;
mod distribution;
mod edges;
mod error;
mod filter;
mod first_samples;
mod fold;
mod folds;
mod gaps;
mod grid;
mod known;
pub mod limits;
mod listing;
mod locate;
mod manifest;
mod markers;
mod news;
mod order;
mod plan;
mod quantiles;
mod read;
mod read_folds;
mod reading;
mod reconcile;
mod runs;
mod statistics;
mod tail;
mod want;
mod waveform;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use wavekeep_proto::v1;
use wavekeep_proto::v1::query_server::{Query, QueryServer};

pub use self::answer::Answer;
use self::answer::Parts;
pub use self::error::QueryError;
pub use self::filter::FilterError;
use self::news::News;
use self::plan::asked;
use self::read::Reader;
use crate::store::{Database, Workspace};

/// Answers from one database.
#[derive(Debug)]
pub struct QueryService {
    database: Database,
    answers: Places,
    tails: Places,
    transactions: Arc<Semaphore>,
    news: News,
    stopping: CancellationToken,
}

/// For so many answers at a time.
#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    all: usize,
}

impl Places {
    fn new(all: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(all)),
            all,
        }
    }
}

/// The service, to be added to a server. Answers without an end break off when it is `stopping`.
#[must_use]
pub fn service(database: Database, stopping: CancellationToken) -> QueryServer<QueryService> {
    QueryServer::new(QueryService {
        database,
        answers: Places::new(limits::ANSWERS_MAX),
        tails: Places::new(limits::TAILS_MAX),
        transactions: Arc::new(Semaphore::new(limits::TRANSACTIONS_MAX)),
        news: News::default(),
        stopping,
    })
}

/// What every answer starts with.
struct Begun {
    reader: Reader,
    permit: OwnedSemaphorePermit,
    /// The caller's.
    deadline: Option<Instant>,
}

impl Begun {
    /// For an answer of one message: sooner or later it ends, whatever the caller says.
    fn deadline(&self) -> Option<Instant> {
        let ours = Instant::now() + limits::ANSWER_SECONDS_MAX;
        Some(self.deadline.map_or(ours, |theirs| theirs.min(ours)))
    }

    /// For an answer of many messages, which a task of its own produces.
    fn answer<T, F>(self, produce: impl FnOnce(Reader, Parts<T>) -> F) -> Response<Answer<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), QueryError>> + Send + 'static,
    {
        let Self {
            reader,
            permit,
            deadline,
        } = self;
        Response::new(Answer::start(deadline, permit, |parts| produce(reader, parts)))
    }
}

impl QueryService {
    async fn begin(&self, metadata: &MetadataMap, workspace: &str) -> Result<Begun, QueryError> {
        self.begin_with(&self.answers, metadata, workspace).await
    }

    async fn begin_with(&self, places: &Places, metadata: &MetadataMap, workspace: &str) -> Result<Begun, QueryError> {
        let deadline = answer::deadline(metadata, Instant::now());
        let permit = places.free.clone().try_acquire_owned();
        let permit = permit.map_err(|_| QueryError::Busy(places.all))?;
        let reader = Reader::new(&self.database, &self.transactions, workspace);
        let reader = answer::within(deadline, reader).await?;
        Ok(Begun {
            reader,
            permit,
            deadline,
        })
    }
}

/// A workspace by name; one that is not there is told with the nearest.
pub(crate) async fn workspace(database: &Database, name: &str) -> Result<Arc<Workspace>, QueryError> {
    read::workspace(database, name).await
}

/// One run, as readers see it.
pub(crate) async fn run(
    database: &Database,
    transactions: &Arc<Semaphore>,
    workspace: &str,
    name: &str,
) -> Result<v1::Run, QueryError> {
    let reader = Reader::new(database, transactions, workspace).await?;
    listing::one_run(&reader, name).await
}

#[tonic::async_trait]
impl Query for QueryService {
    type ListChunksStream = Answer<v1::ChunkInfo>;
    type ListGapsStream = Answer<v1::Gap>;
    type ListMarkersStream = Answer<v1::ListedMarker>;
    type GetWaveformStream = Answer<v1::WaveformPart>;
    type TailStream = Answer<v1::TailPart>;
    type ReconcileStream = Answer<v1::StreamAccount>;

    async fn list_devices(
        &self,
        request: Request<v1::ListDevicesRequest>,
    ) -> Result<Response<v1::ListDevicesResponse>, Status> {
        let begun = self.begin(request.metadata(), &request.get_ref().workspace).await?;
        let answer = answer::within(begun.deadline(), listing::devices(&begun.reader)).await?;
        Ok(Response::new(answer))
    }

    async fn list_streams(
        &self,
        request: Request<v1::ListStreamsRequest>,
    ) -> Result<Response<v1::ListStreamsResponse>, Status> {
        let begun = self.begin(request.metadata(), &request.get_ref().workspace).await?;
        let request = request.into_inner();
        let asked = asked(request.selection)?;
        let answer = listing::streams(&begun.reader, &asked, request.with_runs);
        let answer = answer::within(begun.deadline(), answer).await?;
        Ok(Response::new(answer))
    }

    async fn list_chunks(
        &self,
        request: Request<v1::ListChunksRequest>,
    ) -> Result<Response<Self::ListChunksStream>, Status> {
        let begun = self.begin(request.metadata(), &request.get_ref().workspace).await?;
        let mut request = request.into_inner();
        let asked = asked(request.selection.take())?;
        let wanted = chunks::Wanted::new(&request)?;
        Ok(begun.answer(|reader, parts| chunks::list(reader, asked, wanted, parts)))
    }

    async fn list_gaps(&self, request: Request<v1::ListGapsRequest>) -> Result<Response<Self::ListGapsStream>, Status> {
        let begun = self.begin(request.metadata(), &request.get_ref().workspace).await?;
        let asked = asked(request.into_inner().selection)?;
        Ok(begun.answer(|reader, parts| gaps::list(reader, asked, parts)))
    }

    async fn list_runs(&self, request: Request<v1::ListRunsRequest>) -> Result<Response<v1::ListRunsResponse>, Status> {
        let begun = self.begin(request.metadata(), &request.get_ref().workspace).await?;
        let filter = filter::parse(&request.get_ref().filter).map_err(QueryError::from)?;
        let answer = answer::within(begun.deadline(), listing::runs(&begun.reader, &filter)).await?;
        Ok(Response::new(answer))
    }

    async fn list_markers(
        &self,
        request: Request<v1::ListMarkersRequest>,
    ) -> Result<Response<Self::ListMarkersStream>, Status> {
        let begun = self.begin(request.metadata(), &request.get_ref().workspace).await?;
        let asked = asked(request.into_inner().selection)?;
        Ok(begun.answer(|reader, parts| markers::list(reader, asked, parts)))
    }

    async fn get_waveform(
        &self,
        request: Request<v1::GetWaveformRequest>,
    ) -> Result<Response<Self::GetWaveformStream>, Status> {
        let begun = self.begin(request.metadata(), &request.get_ref().workspace).await?;
        let request = request.into_inner();
        let asked = asked(request.selection)?;
        asked.require_source()?;
        let wanted = waveform::Wanted::new(&request.encodings, request.points_max)?;
        Ok(begun.answer(|reader, parts| waveform::send(reader, asked, wanted, parts)))
    }

    async fn get_statistics(
        &self,
        request: Request<v1::GetStatisticsRequest>,
    ) -> Result<Response<v1::GetStatisticsResponse>, Status> {
        let begun = self.begin(request.metadata(), &request.get_ref().workspace).await?;
        let mut request = request.into_inner();
        let asked = asked(request.selection.take())?;
        asked.require_source()?;
        let wanted = distribution::Wanted::new(&request)?;
        let answer = statistics::statistics(&begun.reader, &asked, &wanted);
        let answer = answer::within(begun.deadline(), answer).await?;
        Ok(Response::new(answer))
    }

    async fn compare_runs(
        &self,
        request: Request<v1::CompareRunsRequest>,
    ) -> Result<Response<v1::CompareRunsResponse>, Status> {
        let begun = self.begin(request.metadata(), &request.get_ref().workspace).await?;
        let answer = compare::compare(&begun.reader, request.into_inner());
        let answer = answer::within(begun.deadline(), answer).await?;
        Ok(Response::new(answer))
    }

    async fn reconcile(
        &self,
        request: Request<v1::ReconcileRequest>,
    ) -> Result<Response<Self::ReconcileStream>, Status> {
        let begun = self.begin(request.metadata(), &request.get_ref().workspace).await?;
        let asked = asked(request.into_inner().selection)?;
        Ok(begun.answer(|reader, parts| reconcile::list(reader, asked, parts)))
    }

    async fn tail(&self, request: Request<v1::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let workspace = request.get_ref().workspace.clone();
        let begun = self.begin_with(&self.tails, request.metadata(), &workspace).await?;
        let mut request = request.into_inner();
        let asked = asked(request.selection.take())?;
        tail::require_open(&asked)?;
        let wanted = tail::Wanted::new(&request)?;
        let wakes = tail::Wakes {
            news: self.news.hear(&workspace, &begun.reader),
            stopping: self.stopping.clone(),
        };
        Ok(begun.answer(|reader, parts| tail::follow(reader, asked, wanted, wakes, parts)))
    }
}
