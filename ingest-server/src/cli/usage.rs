//! Which errors are about how the program was called: they end it with 2, like those that clap finds.

use crate::budget::BudgetTooSmall;
use crate::serve::ServeError;
use crate::store::DatabaseError;
use crate::telemetry::TelemetryError;
use crate::workspace::WorkspaceError;

/// Options that are wrong together, or each.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

fn is_url(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::Url(_))
}

/// Was it called wrongly, so that calling it again would be of no use?
pub(super) fn is_usage(error: &anyhow::Error) -> bool {
    if let Some(error) = error.downcast_ref::<WorkspaceError>() {
        return match error {
            WorkspaceError::Name(_) => true,
            WorkspaceError::Database(error) => is_url(error),
            _ => false,
        };
    }
    if let Some(error) = error.downcast_ref::<ServeError>() {
        return matches!(error, ServeError::Database(error) if is_url(error));
    }
    error.is::<UsageError>()
        || error.is::<BudgetTooSmall>()
        || matches!(error.downcast_ref(), Some(TelemetryError::Filter(_)))
}
