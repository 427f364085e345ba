//! How the uplink reaches a server: the seam that simulations replace, and gRPC behind it.
//!
//! # Invariants
//! - I12: frames on their way out wait in a bounded channel; when it is full, nothing more is read from the outbox.
//! - HTTP/2 windows are fixed: adaptive ones were measured to be slower.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use wavekeep_proto::v1;
use wavekeep_proto::v1::ingest_client::IngestClient;

use crate::limits;

/// A session's two directions. Dropping it closes the session.
pub struct Link {
    /// To the server.
    pub outgoing: mpsc::Sender<v1::AgentFrame>,
    /// From the server; its end is the session's.
    pub incoming: Incoming,
}

/// Frames from a server; an error is the last of them.
pub type Incoming = Pin<Box<dyn Stream<Item = Result<v1::ServerFrame, LinkError>> + Send>>;

/// A connection that failed, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LinkError(pub String);

/// A link that is on its way.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Link, LinkError>> + Send>>;

/// Makes links, again and again.
pub trait Connect: Send + 'static {
    /// Starts to connect. Dropping the future gives up.
    fn connect(&self) -> Connecting;
}

/// gRPC over HTTP/2, with TLS where the URL says `https`.
#[derive(Debug, Clone)]
pub struct GrpcConnect {
    endpoint: Endpoint,
    url: String,
}

/// A server's URL that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` is no server URL ({why}): write it like http://127.0.0.1:7460 or https://host:7460")]
pub struct BadServerUrl {
    url: String,
    why: String,
}

impl GrpcConnect {
    /// Checks the URL; connects to nothing yet.
    pub fn new(url: &str) -> Result<Self, BadServerUrl> {
        let bad = |why: &str| BadServerUrl {
            url: url.into(),
            why: why.into(),
        };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| bad(&describe(&error)))?;
        let uri = endpoint.uri();
        if uri.host().is_none_or(str::is_empty) {
            return Err(bad("it names no host"));
        }
        let endpoint = match uri.scheme_str() {
            Some("http") => endpoint,
            Some("https") => endpoint
                .tls_config(ClientTlsConfig::new().with_native_roots())
                .map_err(|error| bad(&describe(&error)))?,
            _ => return Err(bad("it starts with neither http:// nor https://")),
        };
        let endpoint = endpoint
            .connect_timeout(limits::CONNECT_WAIT)
            .tcp_nodelay(true)
            .initial_stream_window_size(limits::HTTP2_WINDOW_BYTES)
            .initial_connection_window_size(limits::HTTP2_WINDOW_BYTES)
            .http2_adaptive_window(false)
            .http2_keep_alive_interval(limits::KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(limits::KEEP_ALIVE_INTERVAL)
            .keep_alive_while_idle(true);
        Ok(Self {
            endpoint,
            url: url.into(),
        })
    }

    /// With all that is set for a connection: for those who connect by other means than TCP, and then call [`Self::over`].
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// A session over a channel that is on its way.
    pub fn over<F>(&self, channel: F) -> Connecting
    where
        F: Future<Output = Result<Channel, tonic::transport::Error>> + Send + 'static,
    {
        let url = self.url.clone();
        Box::pin(async move {
            let session = async {
                let channel = channel.await.map_err(|error| describe(&error))?;
                open_session(channel).await.map_err(|status| describe_status(&status))
            };
            match tokio::time::timeout(limits::CONNECT_WAIT, session).await {
                Ok(Ok(link)) => Ok(link),
                Ok(Err(why)) => Err(LinkError(format!("{url} cannot be reached: {why}"))),
                Err(_) => Err(LinkError(format!("{url} does not answer"))),
            }
        })
    }
}

impl Connect for GrpcConnect {
    fn connect(&self) -> Connecting {
        let endpoint = self.endpoint();
        self.over(async move { endpoint.connect().await })
    }
}

async fn open_session(channel: Channel) -> Result<Link, tonic::Status> {
    let (outgoing, frames) = mpsc::channel(limits::OUTGOING_FRAMES_MAX);
    let mut client = IngestClient::new(channel).max_decoding_message_size(limits::SERVER_FRAME_BYTES_MAX);
    let incoming = client.session(ReceiverStream::new(frames)).await?.into_inner();
    let incoming = incoming.map(|frame| frame.map_err(|status| LinkError(describe_status(&status))));
    Ok(Link {
        outgoing,
        incoming: Box::pin(incoming),
    })
}

fn describe_status(status: &tonic::Status) -> String {
    let mut deepest: Option<&(dyn Error + 'static)> = status.source();
    while let Some(next) = deepest.and_then(Error::source) {
        deepest = Some(next);
    }
    // What the message says already need not be said again.
    let cause = deepest
        .map(ToString::to_string)
        .filter(|cause| !status.message().contains(cause.as_str()));
    let cause = cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
    format!("{:?}: {}{cause}", status.code(), status.message())
}

/// An error and everything behind it: the outermost alone says "transport error".
fn describe(error: &(dyn Error + 'static)) -> String {
    let mut texts = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts.dedup();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_before_anything_starts() {
        for url in [
            "http://127.0.0.1:7460",
            "https://ingest.example:443",
            "http://[::1]:7460",
        ] {
            assert!(GrpcConnect::new(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "127.0.0.1:7460",
            "ftp://host:1",
            "/tmp/socket",
            "http://",
            "no url at all",
        ] {
            let why = GrpcConnect::new(url).expect_err(url).to_string();
            assert!(why.contains("write it like http://127.0.0.1:7460"), "{why}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        // Bound and dropped: nobody listens there.
        let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let url = format!("http://{}", address.expect("a free port"));
        let connect = GrpcConnect::new(&url).expect("a good URL");
        let why = connect.connect().await.err().expect("nobody listens").to_string();
        assert!(why.starts_with(&format!("{url} cannot be reached: ")), "{why}");
    }
}
