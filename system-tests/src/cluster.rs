//! Two real Postgres instances: a primary, and a standby that follows it by streaming replication without being waited for; and
//! the address under which servers find whichever of them is the primary.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::{AssertSqlSafe, Row};
use tokio::runtime::Runtime;
use wavekeep_server::devdb::TestDatabase;

use crate::lab::wait_for;
use crate::proxy::Proxy;
use crate::stored;

/// For what Postgres does within a second when nobody disturbs it.
const PATIENCE: Duration = Duration::from_secs(60);

/// One Postgres, and the runtime to ask it with.
pub struct Instance {
    runtime: Runtime,
    /// It.
    pub postgres: TestDatabase,
}

impl Instance {
    /// Of its own, migrated.
    pub fn start() -> Result<Self> {
        let runtime = Runtime::new()?;
        let postgres = runtime.block_on(TestDatabase::start())?;
        Ok(Self { runtime, postgres })
    }

    /// A standby of this one, that follows it through `way`.
    fn standby(&self, way: SocketAddr) -> Result<Self> {
        let runtime = Runtime::new()?;
        let postgres = runtime.block_on(self.postgres.standby(way))?;
        Ok(Self { runtime, postgres })
    }

    /// In workspace `main`: one number, or none.
    pub fn number(&self, sql: &str) -> Result<Option<i64>> {
        self.runtime.block_on(async {
            let mut connection = stored::sql(&self.postgres.tcp_url()).await?;
            let row = sqlx::query(AssertSqlSafe(sql.to_owned()))
                .fetch_one(&mut connection)
                .await?;
            Ok(row.try_get(0)?)
        })
    }

    /// In workspace `main`: whatever it is, all of it in one transaction.
    pub fn run(&self, sql: &str) -> Result<()> {
        let url = self.postgres.tcp_url();
        self.runtime.block_on(stored::execute(&url, sql)).map(drop)
    }

    /// How far the newest stream of a device is committed here; 0 before there is one.
    pub fn watermark(&self, device: &str) -> Result<u64> {
        let sql = format!(
            "SELECT coalesce((SELECT watermark FROM stream WHERE device = '{device}' ORDER BY created_at DESC LIMIT 1), 0)"
        );
        Ok(self.number(&sql)?.unwrap_or_default().cast_unsigned())
    }

    /// Waits until so many seqs of it are.
    pub fn wait_for_watermark(&self, device: &str, seq: u64) -> Result<()> {
        let what = format!("seq {seq} of {device} is committed");
        wait_for(&what, PATIENCE, || Ok(self.watermark(device)? >= seq))
    }

    /// Answers like [`crate::truth::check_device`].
    pub fn check(&self, server_url: &str, device: &str) -> Result<(usize, crate::truth::Report)> {
        let url = self.postgres.tcp_url();
        self.runtime
            .block_on(crate::truth::check_device(&url, server_url, device))
    }
}

/// See the module's documentation.
pub struct Cluster {
    /// The primary at first.
    pub first: Instance,
    /// Its standby at first.
    pub second: Instance,
    /// What servers connect to.
    pub address: Proxy,
    replication: Proxy,
}

impl Cluster {
    /// Both, and the one follows the other.
    pub fn start() -> Result<Self> {
        let first = Instance::start()?;
        let replication = Proxy::start(first.postgres.address())?;
        let second = first.standby(replication.address())?;
        let address = Proxy::start(first.postgres.address())?;
        let cluster = Self {
            first,
            second,
            address,
            replication,
        };
        wait_for("the standby follows", PATIENCE, || {
            let following = cluster.first.number("SELECT count(*) FROM pg_stat_replication")?;
            Ok(following == Some(1))
        })?;
        Ok(cluster)
    }

    /// The database's URL, wherever the primary is.
    #[must_use]
    pub fn url(&self) -> String {
        let own = self.first.postgres.address().to_string();
        let moving = self.address.address().to_string();
        self.first.postgres.tcp_url().replace(&own, &moving)
    }

    /// From here on the standby gets nothing more. The primary does not mind.
    pub fn stop_replication(&self) {
        self.replication.refuse(true);
        self.replication.cut();
    }

    /// The primary dies, the standby takes its place and its address. Answers where a device's stream stood on either.
    pub fn fail_over(&mut self, device: &str) -> Result<(u64, u64)> {
        let before = self.first.watermark(device)?;
        self.first.postgres.kill9();
        self.address.cut();
        self.second
            .run("SELECT pg_promote()")
            .context("the standby is promoted")?;
        self.address.lead_to(self.second.postgres.address());
        let after = self.second.number(&format!(
            "SELECT coalesce(max(watermark), 0) FROM stream WHERE device = '{device}'"
        ))?;
        Ok((before, after.unwrap_or_default().cast_unsigned()))
    }
}
