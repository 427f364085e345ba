//! `wavekeep-server serve`.

use clap::Args;

use super::options::{DatabaseOptions, ServerOptions};
use crate::drain::StopSignals;
use crate::serve::{Sockets, serve};
use crate::telemetry;

const EXAMPLES: &str = "\
Examples:
  WAVEKEEP_DATABASE_URL=postgres://wavekeep:secret@db/wavekeep wavekeep-server serve --listen 0.0.0.0:7460
  wavekeep-server serve --database-url postgres://wavekeep@db/wavekeep --memory-budget 2GiB --tls-cert chain.pem --tls-key key.pem";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    server: ServerOptions,
}

pub(super) async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let config = args.server.config()?;
    let signals = StopSignals::listen()?;
    let sockets = Sockets::bind(&config)?;
    let (grpc, http) = (sockets.grpc_address()?, sockets.http_address()?);
    let metrics = telemetry::start_metrics()?;
    let ready = || tracing::info!(%grpc, %http, "ready");
    let url = &args.database.database_url;
    serve(&config, url, sockets, metrics, &signals, ready).await?;
    Ok(())
}
