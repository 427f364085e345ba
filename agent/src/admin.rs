//! The agent's admin endpoint: HTTP on a Unix socket, on a thread and a runtime of its own.
//!
//! | path | what |
//! |---|---|
//! | `/health` | 200 and `ok`, or 503 and why; a server that is away is no illness of the agent |
//! | `/metrics` | Prometheus text |
//! | `/status` | [`AgentStatus`] as JSON |
//! | POST `/labels` | changes the labels of live sources ([`LabelChange`] as JSON); answers [`LabelsStatus`], one for each source |
//! | POST `/settings` | sets an instrument ([`SettingChange`] as JSON); answers [`SettingsStatus`] once it has confirmed |
//!
//! `curl --unix-socket OUTBOX/agent.sock http://agent/status`
//!
//! # Invariants
//! - I12: a request's body, a wait for labels or settings and an answer that is read have limits.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio_util::sync::CancellationToken;

use crate::controls::{Asked, ControlError, SettingChange};
use crate::labels::{LabelChange, LabelError};
use crate::limits;
use crate::status::{AgentStatus, LabelsStatus, SettingsStatus};

/// The socket's name in an outbox's directory.
const SOCKET_NAME: &str = "agent.sock";

/// How long an agent may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What the endpoint tells.
pub trait Report: Send + Sync + 'static {
    /// How the agent stands; an error is for people.
    fn status(&self) -> Result<AgentStatus, String>;
    /// Why it is not well, if it is not.
    fn illness(&self) -> Option<String>;
    /// Metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// Asks for other labels.
    fn change_labels(&self, change: &LabelChange) -> Result<(), LabelError>;
    /// The labels of live sources, now.
    fn labels(&self) -> Result<Vec<LabelsStatus>, LabelError>;
    /// Asks an instrument for other settings.
    fn change_settings(&self, change: SettingChange) -> Result<Asked, ControlError>;
}

/// Why there is no endpoint. The agent runs without one.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AdminError {
    #[error(
        "the path {path} is too long for a Unix socket (at most {max} bytes): give a shorter one with --admin-socket",
        max = limits::SOCKET_PATH_BYTES_MAX
    )]
    PathTooLong { path: PathBuf },
    #[error("the admin socket {path} cannot be made ({error}): give another one with --admin-socket")]
    Bind { path: PathBuf, error: io::Error },
    #[error("no agent answers at {path} ({error})")]
    NoAnswer { path: PathBuf, error: io::Error },
    #[error("{0}")]
    Refused(String),
}

impl AdminError {
    /// Is nobody there?
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::NoAnswer { .. })
    }
}

/// A running endpoint; dropping it ends it and removes the socket.
#[derive(Debug)]
pub struct Admin {
    path: PathBuf,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Serves at `path`. Whoever calls this owns the outbox, so a socket that is there belongs to nobody; anything else stays.
    pub fn start(path: &Path, report: Arc<dyn Report>) -> Result<Self, AdminError> {
        check_path(path)?;
        let failed = |error| AdminError::Bind {
            path: path.into(),
            error,
        };
        match std::fs::symlink_metadata(path) {
            Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path).map_err(failed)?,
            Ok(_) => {
                return Err(failed(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "something else is there",
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = {
            let _guard = runtime.enter();
            tokio::net::UnixListener::bind(path).map_err(failed)?
        };
        // The owner and the group: whoever may read the outbox may ask.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serve = move || {
            let app = router(report);
            runtime.block_on(async {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    result = axum::serve(listener, app) => {
                        if let Err(error) = result {
                            tracing::warn!("the admin endpoint ended: {error}");
                        }
                    }
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("admin".into())
            .spawn(serve)
            .map_err(failed)?;
        Ok(Self {
            path: path.into(),
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // If it is gone already, so much the better.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where the endpoint of the agent on this outbox is, unless it was told another place.
#[must_use]
pub fn socket_of(outbox: &Path, told: Option<&Path>) -> PathBuf {
    told.map_or_else(|| outbox.join(SOCKET_NAME), Path::to_path_buf)
}

/// Asks the agent at `path` how it stands: [`AgentStatus`] as JSON.
pub fn ask_status(path: &Path) -> Result<serde_json::Value, AdminError> {
    ask_json(path, "GET /status", &[])
}

/// Asks the agent at `path` for other labels; answers what its live sources have now.
pub fn ask_labels(path: &Path, change: &LabelChange) -> Result<Vec<LabelsStatus>, AdminError> {
    let body = serde_json::to_vec(change).map_err(|error| AdminError::Refused(error.to_string()))?;
    ask_json(path, "POST /labels", &body)
}

/// Asks the agent at `path` for other settings of an instrument; answers what it is set to then.
pub fn ask_settings(path: &Path, change: &SettingChange) -> Result<SettingsStatus, AdminError> {
    let body = serde_json::to_vec(change).map_err(|error| AdminError::Refused(error.to_string()))?;
    ask_json(path, "POST /settings", &body)
}

fn ask_json<T: serde::de::DeserializeOwned>(path: &Path, what: &str, body: &[u8]) -> Result<T, AdminError> {
    check_path(path)?;
    let failed = |error| AdminError::NoAnswer {
        path: path.into(),
        error,
    };
    let (is_ok, body) = ask(path, what, body).map_err(failed)?;
    if !is_ok {
        return Err(AdminError::Refused(String::from_utf8_lossy(&body).trim().into()));
    }
    serde_json::from_slice(&body).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
}

/// One request of HTTP/1.0, which ends with the connection: no client library is needed for that. Answers whether it was granted,
/// and the body.
fn ask(path: &Path, what: &str, body: &[u8]) -> io::Result<(bool, Vec<u8>)> {
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(ANSWER_WAIT))?;
    socket.set_write_timeout(Some(ANSWER_WAIT))?;
    let length = body.len();
    write!(
        socket,
        "{what} HTTP/1.0\r\nHost: agent\r\nContent-Length: {length}\r\n\r\n"
    )?;
    socket.write_all(body)?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let head_end = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .ok_or_else(|| invalid("no HTTP"))?;
    let is_ok = answer.split(|byte| *byte == b' ').nth(1) == Some(b"200");
    Ok((is_ok, answer.split_off(head_end + 4)))
}

fn check_path(path: &Path) -> Result<(), AdminError> {
    if path.as_os_str().as_bytes().len() > limits::SOCKET_PATH_BYTES_MAX {
        return Err(AdminError::PathTooLong { path: path.into() });
    }
    Ok(())
}

fn router(report: Arc<dyn Report>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/labels", post(change_labels))
        .route("/settings", post(change_settings))
        .layer(DefaultBodyLimit::max(limits::ADMIN_REQUEST_BYTES_MAX))
        .with_state(report)
}

async fn health(State(report): State<Arc<dyn Report>>) -> Response {
    match report.illness() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(report): State<Arc<dyn Report>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], report.metrics()).into_response()
}

async fn status(State(report): State<Arc<dyn Report>>) -> Response {
    match report.status() {
        Ok(status) => json(&status),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response(),
    }
}

/// Answers once the sources have done it, or when they did not for [`limits::LABEL_WAIT`].
async fn change_labels(State(report): State<Arc<dyn Report>>, body: Bytes) -> Response {
    let change: LabelChange = match serde_json::from_slice(&body) {
        Ok(change) => change,
        Err(error) => {
            return (
                StatusCode::BAD_REQUEST,
                format!("this is no change of labels: {error}\n"),
            )
                .into_response();
        }
    };
    let refused = |error: LabelError| (StatusCode::CONFLICT, format!("{error}\n")).into_response();
    if let Err(error) = report.change_labels(&change) {
        return refused(error);
    }
    let deadline = tokio::time::Instant::now() + limits::LABEL_WAIT;
    loop {
        match report.labels() {
            Err(error) => return refused(error),
            Ok(labels) if labels.iter().all(|source| source.settled) || tokio::time::Instant::now() >= deadline => {
                return json(&labels);
            }
            Ok(_) => tokio::time::sleep(limits::LABEL_LOOK).await,
        }
    }
}

/// Answers once the instrument has done it, or with why not.
async fn change_settings(State(report): State<Arc<dyn Report>>, body: Bytes) -> Response {
    let change: SettingChange = match serde_json::from_slice(&body) {
        Ok(change) => change,
        Err(error) => {
            let why = format!("this is no change of settings: {error}\n");
            return (StatusCode::BAD_REQUEST, why).into_response();
        }
    };
    let answer = match report.change_settings(change) {
        Ok(asked) => asked.wait().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(settings) => json(&settings),
        Err(error) => (StatusCode::CONFLICT, format!("{error}\n")).into_response(),
    }
}

fn json(answer: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(answer) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::Controls;
    use crate::outbox::verify::OutboxReport;
    use crate::status::{LagStatus, LinkStatus, SourceStatus};

    struct Fixed(Option<String>);

    impl Report for Fixed {
        fn status(&self) -> Result<AgentStatus, String> {
            let source = SourceStatus {
                device: "bench".into(),
                state: "capturing".into(),
                error: self.0.clone(),
                sample_count: 12,
                gap_sample_count: 3,
                gap_count: 1,
                gaps_by_reason: std::collections::BTreeMap::new(),
                chunk_count: 2,
                encodings: std::collections::BTreeMap::new(),
                settings: std::collections::BTreeMap::new(),
                last_chunk_age_ms: None,
            };
            let link = LinkStatus {
                state: "up".into(),
                server: "http://127.0.0.1:7460".into(),
                session_age_ms: Some(1),
                last_ack_age_ms: None,
                upload_limit_bytes: None,
                schedule: None,
                closed_until: None,
                window_bytes: 1,
                in_flight_bytes: 0,
                acked_chunk_count: 2,
                last_error: None,
                alarm_count: 0,
                alarms: Vec::new(),
            };
            let outbox = OutboxReport {
                agent_id: String::new(),
                ledger_id: None,
                held_bytes: 0,
                unacked_bytes: 0,
                disk_bytes: 0,
                streams: Vec::new(),
            };
            Ok(AgentStatus {
                version: "1".into(),
                sources: vec![source],
                link,
                outbox,
                oldest_unacked_ms: 0,
                unacked_chunk_count: 0,
                quota_bytes: 1,
                evicted_sample_count: 0,
                corrupt_sample_count: 0,
                lag: LagStatus {
                    chunk_count: 0,
                    p50_ms: None,
                    p99_ms: None,
                },
                uptime_ms: 1,
            })
        }
        fn illness(&self) -> Option<String> {
            self.0.clone()
        }
        fn metrics(&self) -> String {
            "wavekeep_agent_up 1\n".into()
        }
        fn change_labels(&self, change: &LabelChange) -> Result<(), LabelError> {
            change.apply(&std::collections::BTreeMap::new()).map(drop)
        }
        /// Its source never answers; an ill one is away.
        fn change_settings(&self, change: SettingChange) -> Result<Asked, ControlError> {
            let controls = Arc::new(Controls::new("bench", std::collections::BTreeMap::new()));
            let attending = self.0.is_none().then(|| controls.attend());
            let asked = controls.ask(change.set);
            // It goes on attending.
            std::mem::forget(attending);
            asked
        }
        /// Its source never delivers; an ill one has ended.
        fn labels(&self) -> Result<Vec<LabelsStatus>, LabelError> {
            match &self.0 {
                Some(device) => Err(LabelError::Ended(device.clone())),
                None => Ok(vec![LabelsStatus {
                    device: "bench".into(),
                    labels: std::collections::BTreeMap::new(),
                    settled: false,
                }]),
            }
        }
    }

    #[test]
    fn the_endpoint_tells_how_the_agent_stands() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(SOCKET_NAME);
        // Left behind by an agent that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        let admin = Admin::start(&path, Arc::new(Fixed(None))).expect("it starts");
        let status = ask_status(&path).expect("it answers");
        assert_eq!(
            (&status["sources"][0]["sample_count"], &status["link"]["state"]),
            (&12.into(), &"up".into())
        );
        assert_eq!(
            ask(&path, "GET /health", &[]).expect("it is well"),
            (true, b"ok\n".to_vec())
        );
        let (_, metrics) = ask(&path, "GET /metrics", &[]).expect("it has metrics");
        assert!(metrics.starts_with(b"wavekeep_agent_up"));
        let labels = ask_labels(&path, &LabelChange::default()).expect("it takes labels");
        assert!(
            !labels[0].settled,
            "I12: nobody waits for ever for a source that delivers nothing"
        );
        let (is_ok, why) = ask(&path, "POST /labels", br#"{"st":{}}"#).expect("it answers");
        assert!(!is_ok && why.starts_with(b"this is no change of labels"));
        let bad = LabelChange {
            set: [("a".to_owned(), "\n".to_owned())].into(),
            ..LabelChange::default()
        };
        assert!(matches!(ask_labels(&path, &bad), Err(AdminError::Refused(why)) if why.contains("key=value")));
        let settings = ask_settings(&path, &SettingChange::default());
        assert!(
            matches!(settings, Err(AdminError::Refused(why)) if why.contains("has not confirmed")),
            "I12: nor for one that confirms nothing"
        );
        let (is_ok, why) = ask(&path, "POST /settings", b"{}").expect("it answers");
        assert!(!is_ok && why.starts_with(b"this is no change of settings"));
        drop(admin);
        assert!(ask_status(&path).is_err_and(|error| error.is_silence()));

        let ill = Admin::start(&path, Arc::new(Fixed(Some("unplugged".into())))).expect("it starts");
        assert!(ask(&path, "GET /health", &[]).is_ok_and(|(is_ok, _)| !is_ok));
        let ended = ask_labels(&path, &LabelChange::default());
        assert!(matches!(ended, Err(AdminError::Refused(why)) if why.starts_with("unplugged has ended")));
        let away = ask_settings(&path, &SettingChange::default());
        assert!(matches!(away, Err(AdminError::Refused(why)) if why.starts_with("bench is not there")));
        drop(ill);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_where_the_socket_should_be_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notes.txt");
        std::fs::write(&path, b"somebody's").expect("a file");
        let error = Admin::start(&path, Arc::new(Fixed(None))).expect_err("it is no socket");
        assert!(error.to_string().contains("--admin-socket"), "{error}");
        assert_eq!(std::fs::read(&path).expect("it is there"), b"somebody's");
    }

    #[test]
    fn i12_a_path_that_no_socket_can_have_is_refused() {
        let long = PathBuf::from("/tmp").join("d".repeat(110)).join(SOCKET_NAME);
        assert!(matches!(
            Admin::start(&long, Arc::new(Fixed(None))),
            Err(AdminError::PathTooLong { .. })
        ));
    }
}
