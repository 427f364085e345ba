//! The `Catalog` service: runs, labels and markers over any device and time range, made afterwards. It moves no data.
//!
//! | file | what |
//! |---|---|
//! | `change` | pure: from a request to what a run becomes |
//! | `write` | one transaction for each request, under a lock that catalog writers share |
//! | `error`, `limits` | why nothing was changed; how much at a time |
//!
//! # Invariants
//! - Every call may be repeated: what is so already stays so, and an answer that was lost is asked for again.
//! - A request is done whole or not at all.
//! - No chunk, no stream and no digest is changed: `marker` stays what the headers of chunks say, and what people add is in
//!   `added_marker`.
//! - I12: [`limits::CALLS_MAX`] calls at a time.

mod change;
mod error;
pub mod limits;
mod write;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};
use wavekeep_proto::v1;
use wavekeep_proto::v1::catalog_server::{Catalog, CatalogServer};

use self::change::{Change, Marker};
pub use self::error::{CatalogError, Why};
use crate::query;
use crate::store::{Database, Workspace};

/// Writes to one database.
#[derive(Debug)]
pub struct CatalogService {
    database: Database,
    calls: Arc<Semaphore>,
    transactions: Arc<Semaphore>,
}

/// The service, to be added to a server.
#[must_use]
pub fn service(database: Database) -> CatalogServer<CatalogService> {
    let service = CatalogService {
        database,
        calls: Arc::new(Semaphore::new(limits::CALLS_MAX)),
        transactions: Arc::new(Semaphore::new(limits::CALLS_MAX)),
    };
    CatalogServer::new(service).max_decoding_message_size(wavekeep_proto::limits::MESSAGE_BYTES_MAX)
}

impl CatalogService {
    async fn begin(&self, workspace: &str) -> Result<(OwnedSemaphorePermit, Arc<Workspace>), CatalogError> {
        let permit = self.calls.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Why::Busy(limits::CALLS_MAX))?;
        Ok((permit, query::workspace(&self.database, workspace).await?))
    }

    /// As readers see it.
    async fn read(&self, workspace: &str, name: &str) -> Result<Response<v1::Run>, CatalogError> {
        let run = query::run(&self.database, &self.transactions, workspace, name).await?;
        Ok(Response::new(run))
    }
}

#[tonic::async_trait]
impl Catalog for CatalogService {
    async fn create_run(&self, request: Request<v1::CreateRunRequest>) -> Result<Response<v1::Run>, Status> {
        let request = request.into_inner();
        let (_permit, workspace) = self.begin(&request.workspace).await?;
        let (name, change) =
            Change::of_new(request.run.unwrap_or_default(), request.members).map_err(CatalogError::from)?;
        write::create(&self.database, &workspace, &name, &change).await?;
        Ok(self.read(&request.workspace, &name).await?)
    }

    async fn update_run(&self, request: Request<v1::UpdateRunRequest>) -> Result<Response<v1::Run>, Status> {
        let request = request.into_inner();
        let (_permit, workspace) = self.begin(&request.workspace).await?;
        let at = request.workspace.clone();
        let (name, change) = Change::of_update(request).map_err(CatalogError::from)?;
        write::update(&self.database, &workspace, &name, &change).await?;
        Ok(self.read(&at, &name).await?)
    }

    async fn delete_run(
        &self,
        request: Request<v1::DeleteRunRequest>,
    ) -> Result<Response<v1::DeleteRunResponse>, Status> {
        let request = request.into_inner();
        let (_permit, workspace) = self.begin(&request.workspace).await?;
        write::delete(&self.database, &workspace, &request.name).await?;
        Ok(Response::new(v1::DeleteRunResponse {}))
    }

    async fn import_runs(
        &self,
        request: Request<v1::ImportRunsRequest>,
    ) -> Result<Response<v1::ImportRunsResponse>, Status> {
        let request = request.into_inner();
        let (_permit, workspace) = self.begin(&request.workspace).await?;
        let changes = change::of_import(request.runs)?;
        let done = write::import(&self.database, &workspace, &changes).await?;
        Ok(Response::new(done))
    }

    async fn add_markers(
        &self,
        request: Request<v1::AddMarkersRequest>,
    ) -> Result<Response<v1::AddMarkersResponse>, Status> {
        let request = request.into_inner();
        let (_permit, workspace) = self.begin(&request.workspace).await?;
        let markers = Marker::all(request.markers)?;
        let added = write::add_markers(&self.database, &workspace, &markers).await?;
        Ok(Response::new(v1::AddMarkersResponse { added }))
    }

    async fn remove_markers(
        &self,
        request: Request<v1::RemoveMarkersRequest>,
    ) -> Result<Response<v1::RemoveMarkersResponse>, Status> {
        let request = request.into_inner();
        let (_permit, workspace) = self.begin(&request.workspace).await?;
        let ids = change::marker_ids(&request.ids).map_err(CatalogError::from)?;
        let removed = write::remove_markers(&self.database, &workspace, &ids).await?;
        Ok(Response::new(v1::RemoveMarkersResponse { removed }))
    }
}
