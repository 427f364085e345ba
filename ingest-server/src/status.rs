//! The only map from errors to gRPC: a code, the sentence for people, and `google.rpc.ErrorInfo` for programs.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::catalog::{CatalogError, Why};
use crate::query::QueryError;
use crate::store::StoreError;

/// Who defines the reasons.
const DOMAIN: &str = "wavekeep";

fn code_and_reason(error: &QueryError) -> (Code, &'static str) {
    match error {
        QueryError::Invalid(_) => (Code::InvalidArgument, "INVALID_QUESTION"),
        QueryError::Filter(_) => (Code::InvalidArgument, "INVALID_FILTER"),
        QueryError::Unknown { .. } => (Code::NotFound, "UNKNOWN_NAME"),
        QueryError::Empty(_) => (Code::OutOfRange, "NOTHING_STORED"),
        QueryError::TooMuch(_) => (Code::FailedPrecondition, "ANSWER_TOO_LARGE"),
        QueryError::Overlap { .. } => (Code::FailedPrecondition, "STREAMS_OVERLAP"),
        QueryError::Busy(_) => (Code::ResourceExhausted, "TOO_MANY_QUESTIONS"),
        QueryError::Stopping => (Code::Unavailable, "STOPPING"),
        QueryError::Expired { .. } => (Code::Aborted, "EXPIRED"),
        QueryError::Deadline => (Code::DeadlineExceeded, "DEADLINE"),
        QueryError::Damaged(_) | QueryError::Store(StoreError::Unexpected(_)) => (Code::DataLoss, "DAMAGED"),
        QueryError::Store(_) => (Code::Unavailable, "DATABASE_UNAVAILABLE"),
    }
}

fn catalog_code_and_reason(why: &Why) -> (Code, &'static str) {
    match why {
        Why::Invalid(_) => (Code::InvalidArgument, "INVALID_REQUEST"),
        Why::Exists(_) => (Code::AlreadyExists, "RUN_EXISTS"),
        Why::Recorded { .. } => (Code::FailedPrecondition, "RUN_RECORDED"),
        Why::Circle { .. } => (Code::FailedPrecondition, "PARENT_CIRCLE"),
        Why::Busy(_) => (Code::ResourceExhausted, "TOO_MANY_CALLS"),
        Why::Unanswered(_) => (Code::Unavailable, "COMMIT_UNANSWERED"),
        Why::Query(error) => code_and_reason(error),
    }
}

impl From<CatalogError> for Status {
    fn from(error: CatalogError) -> Self {
        let (code, reason) = catalog_code_and_reason(&error.why);
        let mut metadata = match &error.why {
            Why::Query(error) => metadata(error),
            _ => HashMap::new(),
        };
        metadata.extend(error.entry.map(|entry| ("entry".to_owned(), entry.to_string())));
        if matches!(code, Code::DataLoss | Code::Unavailable) {
            tracing::error!(%error, "a run was not changed");
        }
        let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
        Self::with_error_details(code, error.to_string(), details)
    }
}

fn metadata(error: &QueryError) -> HashMap<String, String> {
    let mut metadata = HashMap::new();
    if let QueryError::Unknown { kind, name, nearest } = error {
        metadata.insert("kind".to_owned(), (*kind).to_owned());
        metadata.insert("name".to_owned(), name.clone());
        metadata.extend(nearest.clone().map(|nearest| ("nearest".to_owned(), nearest)));
    }
    if let QueryError::Filter(error) = error {
        metadata.insert("filter".to_owned(), error.text.clone());
        metadata.insert("characters_before".to_owned(), error.at.to_string());
    }
    metadata
}

impl From<QueryError> for Status {
    fn from(error: QueryError) -> Self {
        let (code, reason) = code_and_reason(&error);
        let metadata = metadata(&error);
        if matches!(code, Code::DataLoss | Code::Unavailable) && !matches!(error, QueryError::Stopping) {
            tracing::error!(%error, "a question was not answered");
        }
        let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
        Self::with_error_details(code, error.to_string(), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_it_to_people_and_to_programs() {
        let status = Status::from(QueryError::Unknown {
            kind: "device",
            name: "js22".into(),
            nearest: Some("js220".into()),
        });
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), "there is no device \"js22\"; did you mean \"js220\"?");
        let details = status.get_error_details();
        let info = details.error_info().expect("it has details");
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("UNKNOWN_NAME", "wavekeep")
        );
        assert_eq!(info.metadata.get("nearest").map(String::as_str), Some("js220"));
    }

    #[test]
    fn what_the_database_holds_and_whether_it_answers_are_told_apart() {
        let code = |error| Status::from(QueryError::Store(error)).code();
        assert_eq!(code(StoreError::Unexpected("stream.digest")), Code::DataLoss);
        assert_eq!(
            code(StoreError::Silent(std::time::Duration::from_secs(1))),
            Code::Unavailable
        );
    }
}
