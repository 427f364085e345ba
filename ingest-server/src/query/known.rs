//! Names in a question that nothing is stored under: the error says which one is written alike.
//!
//! Nothing is looked up here unless a question found nothing.

use wavekeep_proto::nearest::nearest;

use super::error::QueryError;
use super::filter::Filter;
use super::limits;
use super::plan::{Asked, Source};
use super::reading::Reading;
use crate::store::{read_label, read_run, read_stream};

/// Every name in the question must be one that something is stored under.
pub(super) async fn require(reading: &mut Reading, asked: &Asked) -> Result<(), QueryError> {
    if let Source::Stream(id) = &asked.source
        && read_stream::by_id(reading.tx.connection(), *id).await?.is_none()
    {
        let (kind, name, nearest) = ("stream", id.to_string(), None);
        return Err(QueryError::Unknown { kind, name, nearest });
    }
    for (kind, name) in asked.names() {
        if kind == "run" {
            require_run(reading, name).await?;
        } else {
            require_device(reading, name).await?;
        }
    }
    require_keys(reading, &asked.filter).await
}

/// The error that says which device may have been meant, where there is none of this name.
pub(super) async fn require_device(reading: &mut Reading, name: &str) -> Result<(), QueryError> {
    let connection = reading.tx.connection();
    if read_stream::device_exists(connection, name).await? {
        return Ok(());
    }
    let names = read_stream::device_names(connection, limits::NAMES_COMPARED_MAX).await?;
    Err(unknown("device", name, names))
}

/// The error that says which run may have been meant, where there is none of this name.
pub(super) async fn require_run(reading: &mut Reading, name: &str) -> Result<(), QueryError> {
    let connection = reading.tx.connection();
    if read_run::exists(connection, name).await? {
        return Ok(());
    }
    let names = read_run::names(connection, limits::NAMES_COMPARED_MAX).await?;
    Err(unknown("run", name, names))
}

fn unknown(kind: &'static str, name: &str, names: Vec<String>) -> QueryError {
    QueryError::Unknown {
        kind,
        name: name.to_owned(),
        nearest: nearest(name, names),
    }
}

/// A filter may demand a label that nothing has yet, unless there is one that is written alike.
pub(super) async fn require_keys(reading: &mut Reading, filter: &Filter) -> Result<(), QueryError> {
    let demanded: Vec<&str> = filter.label_keys().collect();
    if demanded.is_empty() {
        return Ok(());
    }
    let keys = read_label::keys(reading.tx.connection(), limits::NAMES_COMPARED_MAX).await?;
    for key in demanded
        .into_iter()
        .filter(|key| !keys.iter().any(|known| known == key))
    {
        if let Some(nearest) = nearest(key, keys.iter().cloned()) {
            return Err(QueryError::Unknown {
                kind: "label",
                name: key.to_owned(),
                nearest: Some(nearest),
            });
        }
    }
    Ok(())
}
