//! Options that `dev` and `serve` share.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use secrecy::SecretString;

use super::units::{parse_bytes, parse_duration};
use super::usage::UsageError;
use crate::budget::Budget;
use crate::ingest::writer::WriterConfig;
use crate::ingest::{IngestConfig, OPENS_MAX};
use crate::limits::SESSIONS_MAX;
use crate::query::limits::TRANSACTIONS_MAX;
use crate::serve::ServeConfig;
use crate::transport::Tls;

/// Where and how to serve.
#[derive(Debug, Args)]
pub(super) struct ServerOptions {
    /// Where agents and readers connect (gRPC)
    #[arg(long, env = "WAVEKEEP_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:7460")]
    listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are
    #[arg(long, env = "WAVEKEEP_HTTP", value_name = "ADDR", default_value = "127.0.0.1:7461")]
    http: SocketAddr,
    /// For chunks in memory: sessions of which chunks come share it, and their windows follow
    #[arg(long, env = "WAVEKEEP_MEMORY_BUDGET", value_name = "SIZE", default_value = "512MiB", value_parser = parse_bytes)]
    memory_budget: u64,
    /// Sessions at a time; each may hold a chunk (4.5MiB at most) above the budget [default: one for each 8MiB of the budget]
    #[arg(long, env = "WAVEKEEP_SESSIONS_MAX", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(SESSIONS_MAX)))]
    sessions_max: Option<u32>,
    /// Writers of each workspace; a stream always has the same one
    #[arg(long, env = "WAVEKEEP_WRITERS", value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    writers: u16,
    /// A group of so many bytes is committed as soon as the database is free
    #[arg(long, env = "WAVEKEEP_GROUP_BYTES", value_name = "SIZE", default_value = "4MiB", value_parser = parse_bytes)]
    group_bytes: u64,
    /// A smaller group is committed after so long
    #[arg(long, env = "WAVEKEEP_GROUP_LINGER", value_name = "DURATION", default_value = "5ms", value_parser = parse_duration)]
    group_linger: Duration,
    /// Connections to the database: at least 8, and one for each writer
    #[arg(long, env = "WAVEKEEP_DATABASE_CONNECTIONS", value_name = "N", default_value_t = crate::store::limits::CONNECTIONS_MAX, value_parser = clap::value_parser!(u32).range(9..=1000))]
    database_connections: u32,
    /// At start, how long to wait for a database that does not answer
    #[arg(long, env = "WAVEKEEP_DATABASE_WAIT", value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    database_wait: Duration,
    /// Acknowledge nothing while the database names no synchronous standby (synchronous_standby_names), so that no failover loses what was
    /// acknowledged
    #[arg(long, env = "WAVEKEEP_REQUIRE_STANDBY")]
    require_standby: bool,
    /// On SIGTERM or SIGINT, how long to wait for what was accepted to be committed and acknowledged
    #[arg(long, env = "WAVEKEEP_DRAIN", value_name = "DURATION", default_value = "20s", value_parser = parse_duration)]
    drain: Duration,
    /// Certificate chain for TLS, PEM; with --tls-key
    #[arg(long, env = "WAVEKEEP_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, env = "WAVEKEEP_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// Of connections to the database, besides the writers': one session's opens, and the readers.
const OTHER_CONNECTIONS: u32 = (OPENS_MAX + TRANSACTIONS_MAX) as u32;
const _: () = assert!(OTHER_CONNECTIONS == 8, "as the help has it");

impl ServerOptions {
    fn check(&self) -> Result<(), UsageError> {
        if self.group_bytes == 0 || self.group_bytes > self.memory_budget {
            return Err(UsageError(
                "--group-bytes must be above 0 and at most --memory-budget".into(),
            ));
        }
        let needed = OTHER_CONNECTIONS + u32::from(self.writers);
        if self.database_connections < needed {
            return Err(UsageError(format!(
                "--database-connections {} is too few for --writers {}: give at least {needed}",
                self.database_connections, self.writers
            )));
        }
        Ok(())
    }

    pub(super) fn config(&self) -> anyhow::Result<ServeConfig> {
        Budget::new(self.memory_budget)?;
        self.check()?;
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls {
                certificate: read(certificate)?,
                key: read(key)?,
            }),
            _ => None,
        };
        Ok(ServeConfig {
            listen: self.listen,
            http: self.http,
            memory_budget_bytes: self.memory_budget,
            sessions_max: self.sessions_max,
            database_connections: self.database_connections,
            database_wait: self.database_wait,
            standby_required: self.require_standby,
            ingest: IngestConfig {
                writers: WriterConfig {
                    writers: usize::from(self.writers),
                    group_bytes: self.group_bytes,
                    linger: self.group_linger,
                    ..WriterConfig::default()
                },
                drain: self.drain,
                ..IngestConfig::default()
            },
            tls,
        })
    }
}

/// Which database. Never logged: it may hold a password.
#[derive(Debug, Args)]
pub(super) struct DatabaseOptions {
    /// The database, such as postgres://user@host:5432/database
    #[arg(long, env = "WAVEKEEP_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(super) database_url: SecretString,
}
