//! `wavekeep-server dev`.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;
use tracing::info;

use super::options::ServerOptions;
use crate::devdb::{DevDatabase, KeptDatabase};
use crate::drain::StopSignals;
use crate::serve::{ServeConfig, Sockets, serve};
use crate::{telemetry, workspace};

#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// Where the private Postgres lives; made if it is not there
    #[arg(long, env = "WAVEKEEP_DATA_DIR", value_name = "DIR", default_value = "wavekeep-data")]
    data_dir: PathBuf,
    #[command(flatten)]
    server: ServerOptions,
}

pub(super) async fn run(args: DevArgs) -> anyhow::Result<()> {
    let config = args.server.config()?;
    let mut signals = StopSignals::listen()?;
    let sockets = Sockets::bind(&config)?;
    let database = DevDatabase::start(&args.data_dir).await?;
    let adopted = database.is_adopted();
    info!(data_dir = %args.data_dir.display(), adopted, "the private Postgres is up");
    let database = database.keep_running()?;
    let served = migrate_and_serve(&config, &database, sockets, &mut signals).await;
    database.stop().await;
    info!("the private Postgres is stopped");
    served
}

async fn migrate_and_serve(
    config: &ServeConfig,
    database: &KeptDatabase,
    sockets: Sockets,
    signals: &mut StopSignals,
) -> anyhow::Result<()> {
    workspace::migrate(database.url()).await?;
    let metrics = telemetry::start_metrics()?;
    let url = SecretString::from(database.url());
    let (grpc, http) = (sockets.grpc_address()?, sockets.http_address()?);
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let sql = database.tcp_url();
    let ready = || {
        println!("wavekeep-server is ready; Ctrl-C drains and stops it");
        println!("  agents, readers   {scheme}://{grpc}");
        println!("  health, metrics   http://{http}");
        println!("  SQL               psql '{sql}?options=-csearch_path%3Dmain'");
    };
    serve(config, &url, sockets, metrics, signals, ready).await?;
    Ok(())
}
