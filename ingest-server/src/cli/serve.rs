//! `wavekeep-server serve`.

use clap::Args;

use super::options::{DatabaseOptions, ServerOptions};
use crate::drain::StopSignals;
use crate::serve::{Sockets, serve};
use crate::telemetry;

#[derive(Debug, Args)]
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
