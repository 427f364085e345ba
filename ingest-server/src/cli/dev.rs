//! `wavekeep-server dev`.

use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::SecretString;
use tracing::{info, warn};

use super::options::ServerOptions;
use crate::devdb::{DevDatabase, KeptDatabase};
use crate::drain::StopSignals;
use crate::serve::{ServeConfig, ServeError, Sockets, serve};
use crate::store::reader_role::reader_role;
use crate::telemetry;
use crate::workspace::{self, FIRST_WORKSPACE};

const EXAMPLES: &str = "\
Examples:
  wavekeep-server dev
  wavekeep-server dev --data-dir /var/lib/wavekeep --listen 0.0.0.0:7460";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DevArgs {
    /// Where the private Postgres lives; made if it is not there
    #[arg(long, env = "WAVEKEEP_DATA_DIR", value_name = "DIR", default_value = "wavekeep-data")]
    data_dir: PathBuf,
    #[command(flatten)]
    server: ServerOptions,
}

pub(super) async fn run(args: DevArgs) -> anyhow::Result<()> {
    let config = args.server.config()?;
    let signals = StopSignals::listen()?;
    let sockets = Sockets::bind(&config)?;
    let database = started(&args.data_dir, &signals).await?;
    let adopted = database.is_adopted();
    info!(data_dir = %args.data_dir.display(), adopted, "the private Postgres is up");
    let database = database.keep_running()?;
    let served = migrate_and_serve(&config, &database, sockets, &signals).await;
    // It is a fast shutdown, which only writes a checkpoint; whoever does not wait for that finds Postgres running, and may adopt it.
    tokio::select! {
        () = database.stop() => info!("the private Postgres is stopped"),
        () = signals.reached(3) => warn!("the private Postgres was not waited for"),
    }
    served
}

/// A cluster that is being made is made to its end, or the next start would find half of one.
async fn started(data_dir: &Path, signals: &StopSignals) -> anyhow::Result<DevDatabase> {
    let starting = DevDatabase::start(data_dir);
    tokio::pin!(starting);
    tokio::select! {
        started = &mut starting => return Ok(started?),
        () = signals.first() => info!("stopping once the private Postgres has started; a second signal ends this at once"),
    }
    tokio::select! {
        started = starting => Ok(started?),
        () = signals.reached(2) => Err(ServeError::StoppedAtOnce.into()),
    }
}

async fn migrate_and_serve(
    config: &ServeConfig,
    database: &KeptDatabase,
    sockets: Sockets,
    signals: &StopSignals,
) -> anyhow::Result<()> {
    tokio::select! {
        migrated = workspace::migrate(database.url()) => drop(migrated?),
        () = signals.first() => return Ok(()),
    }
    let metrics = telemetry::start_metrics()?;
    let url = SecretString::from(database.url());
    let (grpc, http) = (sockets.grpc_address()?, sockets.http_address()?);
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let role = reader_role(FIRST_WORKSPACE);
    let sql = database.tcp_url().replacen("://wavekeep@", &format!("://{role}@"), 1);
    let ready = || {
        println!("wavekeep-server is ready; Ctrl-C drains and stops it");
        println!("  agents, readers   {scheme}://{grpc}");
        println!("  health, metrics   http://{http}");
        println!("  SQL               psql '{sql}' -c 'select * from measurement limit 100'");
    };
    serve(config, &url, sockets, metrics, signals, ready).await?;
    Ok(())
}
