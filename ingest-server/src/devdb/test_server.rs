//! Where tests make databases of their own: the server that `WAVEKEEP_TEST_DATABASE_URL` names, as its administrator, with
//! TimescaleDB in each of them; else a private Postgres, without. `make test-timescale` sets the variable, and removes at the end
//! what is named with `WAVEKEEP_TEST_DATABASE_PREFIX`.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::connect;
use super::test_database::{TestDatabase, TestDatabaseError};
use crate::store::Kind;
use crate::workspace;

/// The variable that names an administrator's URL of a server with TimescaleDB.
const URL: &str = "WAVEKEEP_TEST_DATABASE_URL";
/// The variable that says how names begin in it.
const PREFIX: &str = "WAVEKEEP_TEST_DATABASE_PREFIX";

/// See the module's documentation.
#[derive(Debug)]
pub struct TestServer {
    /// Of the private Postgres.
    private: Option<TestDatabase>,
    /// As the administrator, of a database of ours.
    url: String,
    /// How the names of databases and roles begin.
    prefix: String,
}

/// Of databases and roles, whose names have no quotes; they begin with ours, so two runs do not meet.
fn random_suffix() -> String {
    let mut random = [0; 4];
    getrandom::fill(&mut random).expect("the operating system has random bytes");
    format!("{:08x}", u32::from_le_bytes(random))
}

/// The same server, another database.
fn with_database(url: &str, name: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let (place, parameters) = rest
        .split_once('?')
        .map_or((rest, None), |(place, rest)| (place, Some(rest)));
    let host = place.split_once('/').map_or(place, |(host, _)| host);
    let parameters = parameters
        .map(|parameters| format!("?{parameters}"))
        .unwrap_or_default();
    format!("{scheme}://{host}/{name}{parameters}")
}

fn as_role(url: &str, name: &str, password: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}user={name}&password={password}")
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), TestDatabaseError> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

impl TestServer {
    /// With a database that is migrated, and has workspace `main`.
    pub async fn start() -> Result<Self, TestDatabaseError> {
        let Ok(administrator) = std::env::var(URL) else {
            let private = TestDatabase::start().await?;
            let url = private.url();
            return Ok(Self {
                private: Some(private),
                url,
                prefix: "test".into(),
            });
        };
        let prefix = std::env::var(PREFIX).unwrap_or_else(|_| "wavekeep_test".into());
        let prefix = format!("{prefix}_{}", random_suffix());
        let mut connection = connect(&administrator).await?;
        // Of template0: nobody is ever connected to it.
        run(&mut connection, format!("CREATE DATABASE {prefix} TEMPLATE template0")).await?;
        connection.close().await?;
        let url = with_database(&administrator, &prefix);
        add_extension(&url).await?;
        workspace::migrate(&url).await?;
        Ok(Self {
            private: None,
            url,
            prefix,
        })
    }

    /// Of the migrated database, as the administrator.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// What the tables of a workspace must be here.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        if self.private.is_some() {
            Kind::Native
        } else {
            Kind::Hypertable
        }
    }

    /// An empty database, owned by a role that is nothing special, as a managed database's user is. Its URL as that role.
    pub async fn database(&self, name: &str) -> Result<String, TestDatabaseError> {
        let (name, password) = (format!("{}_{name}", self.prefix), random_suffix());
        let mut connection = connect(&self.url).await?;
        let role = format!(
            "CREATE ROLE {name} LOGIN PASSWORD '{password}' NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
        );
        run(&mut connection, role).await?;
        run(
            &mut connection,
            format!("CREATE DATABASE {name} OWNER {name} TEMPLATE template0"),
        )
        .await?;
        connection.close().await?;
        let url = with_database(&self.url, &name);
        if self.kind() == Kind::Hypertable {
            add_extension(&url).await?;
        }
        Ok(as_role(&url, &name, &password))
    }
}

async fn add_extension(url: &str) -> Result<(), TestDatabaseError> {
    let mut connection = connect(url).await?;
    run(&mut connection, "CREATE EXTENSION timescaledb".into()).await?;
    connection.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_to_another_database_of_the_same_server() {
        for (url, other) in [
            ("postgres://a:b@h:1/x", "postgres://a:b@h:1/new"),
            ("postgres://a:b@h:1", "postgres://a:b@h:1/new"),
            ("postgres://h/x?sslmode=disable", "postgres://h/new?sslmode=disable"),
            ("postgres:///x?host=/a/b&user=c", "postgres:///new?host=/a/b&user=c"),
        ] {
            assert_eq!(with_database(url, "new"), other);
        }
        assert_eq!(
            as_role("postgres://h/x", "me", "s"),
            "postgres://h/x?user=me&password=s"
        );
        assert_eq!(
            as_role("postgres://h/x?a=b", "me", "s"),
            "postgres://h/x?a=b&user=me&password=s"
        );
    }
}
