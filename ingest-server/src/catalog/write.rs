//! One transaction for each request.
//!
//! # Invariants
//! - Catalog writers of a workspace wait for each other, so that none makes a circle of parents with another. Agents, which add runs when
//!   they open streams, wait for none of them.

use std::collections::BTreeSet;

use sqlx::postgres::PgConnection;
use wavekeep_proto::nearest::nearest;
use wavekeep_proto::v1;

use super::change::{Change, Marker};
use super::error::{CatalogError, Why};
use crate::query::{QueryError, limits as query_limits};
use crate::store::read_run::{self, MemberOf, RunMember, RunRow};
use crate::store::{Database, StoreError, Transaction, Workspace, added_marker, read_stream, run};

/// A transaction under the lock. Where it is not committed it is dropped, and with it all it did.
async fn locked(database: &Database, workspace: &Workspace) -> Result<Transaction, CatalogError> {
    let mut tx = database.begin(workspace).await?;
    run::lock(tx.connection()).await?;
    Ok(tx)
}

async fn find(connection: &mut PgConnection, name: &str) -> Result<Option<RunRow>, StoreError> {
    Ok(read_run::select(connection, Some(name), &[], None, 1).await?.pop())
}

async fn found(connection: &mut PgConnection, name: &str) -> Result<RunRow, Why> {
    match find(connection, name).await? {
        Some(run) => Ok(run),
        None => Err(unknown_run(connection, name).await?),
    }
}

async fn unknown_run(connection: &mut PgConnection, name: &str) -> Result<Why, StoreError> {
    let names = read_run::names(connection, query_limits::NAMES_COMPARED_MAX).await?;
    Ok(unknown("run", name, nearest(name, names)))
}

fn unknown(kind: &'static str, name: &str, nearest: Option<String>) -> Why {
    Why::Query(QueryError::Unknown {
        kind,
        name: name.to_owned(),
        nearest,
    })
}

/// Devices and streams that are known to be there.
#[derive(Debug, Default)]
struct Known(BTreeSet<MemberOf>);

impl Known {
    async fn require(&mut self, connection: &mut PgConnection, of: &MemberOf) -> Result<(), Why> {
        if self.0.contains(of) {
            return Ok(());
        }
        match of {
            MemberOf::Device(name) if !read_stream::device_exists(connection, name).await? => {
                let names = read_stream::device_names(connection, query_limits::NAMES_COMPARED_MAX).await?;
                return Err(unknown("device", name, nearest(name, names)));
            }
            MemberOf::Stream(id) if read_stream::by_id(connection, *id).await?.is_none() => {
                return Err(unknown("stream", &id.to_string(), None));
            }
            MemberOf::Device(_) | MemberOf::Stream(_) => (),
        }
        self.0.insert(of.clone());
        Ok(())
    }
}

/// Makes of a run what the change says. Was anything changed?
async fn change(connection: &mut PgConnection, known: &mut Known, before: &RunRow, to: &Change) -> Result<bool, Why> {
    let after = to.apply(before)?;
    for RunMember { of, .. } in &to.add {
        known.require(connection, of).await?;
    }
    if let Some(parent) = after
        .parent
        .as_ref()
        .filter(|parent| before.parent.as_ref() != Some(*parent))
    {
        if !read_run::exists(connection, parent).await? {
            return Err(unknown_run(connection, parent).await?);
        }
        if run::is_part_of(connection, parent, &after.name).await? {
            let (name, parent) = (after.name, parent.clone());
            return Err(Why::Circle { name, parent });
        }
    }
    if after == *before {
        return Ok(false);
    }
    run::write(connection, before, &after).await?;
    Ok(true)
}

pub(super) async fn create(
    database: &Database,
    workspace: &Workspace,
    name: &str,
    to: &Change,
) -> Result<(), CatalogError> {
    let mut tx = locked(database, workspace).await?;
    let connection = tx.connection();
    if let Some(run) = find(connection, name).await? {
        tx.rollback().await;
        return if to.made(&run) {
            Ok(())
        } else {
            Err(Why::Exists(name.to_owned()).into())
        };
    }
    run::insert(connection, name).await?;
    let run = found(connection, name).await?;
    change(connection, &mut Known::default(), &run, to).await?;
    Ok(tx.commit().await?)
}

pub(super) async fn update(
    database: &Database,
    workspace: &Workspace,
    name: &str,
    to: &Change,
) -> Result<(), CatalogError> {
    let mut tx = locked(database, workspace).await?;
    let run = found(tx.connection(), name).await?;
    change(tx.connection(), &mut Known::default(), &run, to).await?;
    Ok(tx.commit().await?)
}

pub(super) async fn delete(database: &Database, workspace: &Workspace, name: &str) -> Result<(), CatalogError> {
    let mut tx = locked(database, workspace).await?;
    run::hold(tx.connection(), name).await?;
    let run = found(tx.connection(), name).await?;
    if run.recorded > 0 {
        let (name, streams) = (run.name, run.recorded);
        return Err(Why::Recorded { name, streams }.into());
    }
    run::delete(tx.connection(), name).await?;
    Ok(tx.commit().await?)
}

/// Runs are made first, so that a parent may follow its children.
pub(super) async fn import(
    database: &Database,
    workspace: &Workspace,
    changes: &[(String, Change)],
) -> Result<v1::ImportRunsResponse, CatalogError> {
    let mut tx = locked(database, workspace).await?;
    let connection = tx.connection();
    let (mut created, mut changed) = (BTreeSet::new(), BTreeSet::new());
    let names: BTreeSet<&str> = changes.iter().map(|(name, _)| name.as_str()).collect();
    for name in &names {
        if run::insert(connection, name).await? {
            created.insert(*name);
        }
    }
    let mut known = Known::default();
    for (entry, (name, to)) in changes.iter().enumerate() {
        let at = CatalogError::at(entry);
        let run = found(connection, name).await.map_err(&at)?;
        let is_changed = change(connection, &mut known, &run, to).await.map_err(&at)?;
        if is_changed && !created.contains(name.as_str()) {
            changed.insert(name.as_str());
        }
    }
    tx.commit().await?;
    Ok(v1::ImportRunsResponse {
        created: created.len() as u64,
        changed: changed.len() as u64,
        unchanged: (names.len() - created.len() - changed.len()) as u64,
    })
}

pub(super) async fn add_markers(
    database: &Database,
    workspace: &Workspace,
    markers: &[Marker],
) -> Result<u64, CatalogError> {
    let mut tx = database.begin(workspace).await?;
    let mut known = Known::default();
    for (entry, marker) in markers.iter().enumerate() {
        let device = MemberOf::Device(marker.device.clone());
        let required = known.require(tx.connection(), &device).await;
        required.map_err(CatalogError::at(entry))?;
    }
    let rows: Vec<added_marker::Row<'_>> = markers.iter().map(row).collect();
    let added = added_marker::insert(tx.connection(), &rows).await?;
    tx.commit().await?;
    Ok(added)
}

pub(super) async fn remove_markers(
    database: &Database,
    workspace: &Workspace,
    ids: &[&[u8]],
) -> Result<u64, CatalogError> {
    let mut tx = database.begin(workspace).await?;
    let removed = added_marker::delete(tx.connection(), ids).await?;
    tx.commit().await?;
    Ok(removed)
}

fn row(marker: &Marker) -> added_marker::Row<'_> {
    added_marker::Row {
        id: &marker.id,
        device: &marker.device,
        time_ns: marker.time_ns,
        kind: marker.kind,
        group: marker.group,
        y: marker.y,
        format: marker.format as i16,
        content: &marker.content,
    }
}
