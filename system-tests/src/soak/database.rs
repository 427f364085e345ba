//! The fleet's database: a private Postgres that is kept running, with TimescaleDB or without it, on a disk that fills up, and the link
//! by which servers come to it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use sqlx::{Connection, PgConnection};
use tokio::runtime::Runtime;
use wavekeep_server::devdb::{DevDatabase, KeptDatabase};
use wavekeep_server::workspace;

use super::fleet::Link;
use super::tally::Tally;
use super::{MINUTES_IN_MEMORY, Plan};
use crate::lab::{Lab, free_port};
use crate::proxy::Proxy;
use crate::small_disk;

/// What was killed, or could not write, is left in peace for so long.
const REST: Duration = Duration::from_secs(8);
/// Of its disk, in memory: far more than is stored in [`MINUTES_IN_MEMORY`].
const DISK: u64 = 16 << 30;

/// See the module's documentation.
pub(super) struct Database {
    runtime: Runtime,
    postgres: KeptDatabase,
    pub(super) link: Link,
    has_own_disk: bool,
    /// The disk is full until then.
    is_full_until: Option<Instant>,
    /// When it was last killed or could not write.
    disturbed: Instant,
}

impl Database {
    /// Runs, migrated.
    pub(super) fn start(lab: &Lab, plan: &Plan, tally: &Tally) -> Result<Self> {
        let runtime = Runtime::new()?;
        let has_own_disk = plan.has_mounts && plan.minutes <= MINUTES_IN_MEMORY;
        if has_own_disk {
            small_disk::mount(&lab.data(), DISK)?;
        } else {
            std::fs::create_dir(lab.data())?;
            tally.note(format!(
                "the database's disk is never full: it would be in memory, for at most {MINUTES_IN_MEMORY} minutes and where disks can be mounted"
            ));
        }
        // Below those that the system gives to outgoing connections: it is the same after each kill.
        std::fs::write(lab.data().join("port"), free_port()?.port().to_string())?;
        let postgres = runtime.block_on(start(&lab.data(), plan.has_timescale, tally))?;
        let link = Link::new(Proxy::start(url_address(postgres.tcp_url())?)?);
        Ok(Self {
            runtime,
            postgres,
            link,
            has_own_disk,
            is_full_until: None,
            disturbed: Instant::now(),
        })
    }

    /// Straight to it.
    pub(super) fn url(&self) -> &str {
        self.postgres.tcp_url()
    }

    /// By the link.
    pub(super) fn url_by_link(&self) -> Result<String> {
        let address = url_address(self.url())?;
        let by_link = self.link.proxy.address().to_string();
        Ok(self.url().replace(&address.to_string(), &by_link))
    }

    /// Was it killed, or could it not write, now or a short time ago?
    pub(super) fn is_disturbed(&self) -> bool {
        self.is_full_until.is_some() || self.disturbed.elapsed() < REST
    }

    /// SIGKILL of all of it, unless that has just been done; it is started again by who keeps it.
    pub(super) fn kill(&mut self, lab: &Lab) -> Result<bool> {
        if self.is_disturbed() {
            return Ok(false);
        }
        lab.signal_postgres(Signal::SIGKILL)?;
        self.disturbed = Instant::now();
        Ok(true)
    }

    /// From now on it gets no more room, for so long: it refuses what is to be stored, or ends for want of a log.
    pub(super) fn fill_disk(&mut self, lab: &Lab, time: Duration) -> Result<bool> {
        if !self.has_own_disk || self.is_disturbed() {
            return Ok(false);
        }
        small_disk::fill(&lab.data())?;
        self.is_full_until = Some(Instant::now() + time);
        Ok(true)
    }

    fn empty_disk(&mut self, lab: &Lab) -> Result<()> {
        if self.is_full_until.take().is_some() {
            small_disk::resize(&lab.data(), DISK)?;
            self.disturbed = Instant::now();
        }
        Ok(())
    }

    pub(super) fn tick(&mut self, lab: &Lab) -> Result<()> {
        self.link.tick();
        if self.is_full_until.is_some_and(|until| Instant::now() >= until) {
            self.empty_disk(lab)?;
        }
        Ok(())
    }

    /// Nothing is wrong with it any more.
    pub(super) fn calm(&mut self, lab: &Lab) -> Result<()> {
        self.link.proxy.heal();
        self.empty_disk(lab)
    }

    pub(super) fn stop(self) {
        self.runtime.block_on(self.postgres.stop());
    }
}

async fn start(data: &Path, has_timescale: bool, tally: &Tally) -> Result<KeptDatabase> {
    let database = DevDatabase::start(data).await?;
    if has_timescale {
        let mut connection = PgConnection::connect(&database.url()).await?;
        let extension = "CREATE EXTENSION timescaledb";
        let made = sqlx::raw_sql(extension).execute(&mut connection).await;
        made.context("TimescaleDB is not where Postgres is: run this under scripts/with-timescale")?;
    }
    workspace::migrate(&database.url()).await?;
    if has_timescale {
        let mut connection = PgConnection::connect(&database.url()).await?;
        let sql = "SELECT extversion || ', ' || (SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_schema = 'main')
                     FROM pg_extension WHERE extname = 'timescaledb'";
        let found: String = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        tally.note(format!("TimescaleDB {found} hypertables"));
    }
    Ok(database.keep_running()?)
}

fn url_address(url: &str) -> Result<SocketAddr> {
    let host = url.rsplit('@').next().and_then(|rest| rest.split('/').next());
    Ok(host.context("the URL has a host")?.parse()?)
}
