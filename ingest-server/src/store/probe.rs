//! Which primary answers? Asked over one connection that is kept: a failover, a restart or a cut breaks it. Where it does not
//! (an address that moved from one living server to another), the transactions over other connections have seen a higher
//! timeline, and the kept connection is given up as one to an old primary.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Row};

use super::database::Database;
use super::error::StoreError;
use super::statement;
use crate::ingest::watch::Probe;

/// See the module's documentation.
#[derive(Debug)]
pub struct PrimaryProbe {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    database: Database,
}

impl PrimaryProbe {
    /// Not connected yet. `database` is at the same URL.
    pub fn new(url: &str, database: Database) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)?.application_name("wavekeep-server watch");
        Ok(Self {
            options: options.disable_statement_logging(),
            connection: None,
            database,
        })
    }

    async fn ask(&mut self) -> Result<String, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        // Fails on a standby. The second tells a restart, behind a pooler too.
        let sql = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), pg_postmaster_start_time()::text";
        let row = statement(sql).fetch_one(&mut connection).await?;
        let (timeline, started): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let number = u32::from_str_radix(&timeline, 16).map_err(|_| StoreError::Unexpected("the current WAL file"))?;
        self.database.observe(number)?;
        self.connection = Some(connection);
        Ok(format!("timeline {timeline}, up since {started}"))
    }
}

impl Probe for PrimaryProbe {
    async fn primary(&mut self) -> Result<String, String> {
        self.ask().await.map_err(|error| error.to_string())
    }
}
