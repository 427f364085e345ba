//! TLS to a managed database, `sslmode=verify-full` with the provider's root certificate: it connects to whom the certificate names,
//! and to nobody else. Certificates are made with the `openssl` command, which comes with Debian's Postgres.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use wavekeep_server::devdb::TestDatabase;

fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let output = command.current_dir(folder).args(arguments.split(' ')).output();
    let output = output.expect("openssl is installed, as with Debian's Postgres");
    assert!(
        output.status.success(),
        "{arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A root certificate, `NAME.pem`, with its key.
fn authority(folder: &Path, name: &str) -> PathBuf {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"
        ),
    );
    folder.join(format!("{name}.pem"))
}

/// A Postgres that talks TLS, under a certificate for `localhost` alone, by `authority`.
async fn with_certificate(folder: &Path, authority: &str) -> TestDatabase {
    let database = TestDatabase::start().await.expect("Postgres is installed");
    let request =
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=localhost";
    openssl(folder, request);
    fs::write(folder.join("san"), "subjectAltName=DNS:localhost\n").expect("it is ours");
    openssl(
        folder,
        &format!(
            "x509 -req -in server.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -out server.pem -days 2 -extfile san"
        ),
    );
    let data = database.directory().join("data");
    let owner = fs::metadata(&data).expect("the cluster is there");
    for (file, mode) in [("server.pem", 0o644), ("server.key", 0o600)] {
        let path = data.join(file);
        fs::copy(folder.join(file), &path).expect("it is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).expect("it is ours");
    }
    for sql in [
        "ALTER SYSTEM SET ssl_cert_file = 'server.pem'",
        "ALTER SYSTEM SET ssl_key_file = 'server.key'",
    ] {
        run(&database, sql).await;
    }
    set_ssl(&database, "on").await;
    database
}

async fn run(database: &TestDatabase, sql: &str) {
    let mut connection = PgConnection::connect(&database.url()).await.expect("it answers");
    let run = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    run.execute(&mut connection).await.expect("the statement runs");
}

async fn set_ssl(database: &TestDatabase, to: &str) {
    run(database, &format!("ALTER SYSTEM SET ssl = {to}")).await;
    run(database, "SELECT pg_reload_conf()").await;
    // A new connection has it once the postmaster has read it.
    loop {
        let mut connection = PgConnection::connect(&database.url()).await.expect("it answers");
        let row = sqlx::query("SELECT current_setting('ssl')").fetch_one(&mut connection);
        if row.await.expect("it answers").get::<String, _>(0) == to {
            return;
        }
    }
}

/// `wavekeep-server migrate` at this host, trusting this root certificate.
fn migrate(database: &TestDatabase, host: &str, root: &Path) -> Output {
    let url = database.tcp_url().replace("127.0.0.1", host);
    let url = format!("{url}?sslmode=verify-full&sslrootcert={}", root.display());
    Command::new(env!("CARGO_BIN_EXE_wavekeep-server"))
        .args(["migrate", "--database-url", &url])
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

#[track_caller]
fn assert_refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "one sentence: {said}");
    let sentence = "wavekeep-server: there is no trusted connection to the database at ";
    assert!(said.starts_with(sentence) && said.contains(why), "{said}");
}

#[tokio::test]
async fn verify_full_connects_to_whom_the_certificate_names_and_to_nobody_else() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (right, wrong) = (authority(folder.path(), "right"), authority(folder.path(), "wrong"));
    let database = with_certificate(folder.path(), "right").await;
    let migrated = migrate(&database, "localhost", &right);
    assert!(
        migrated.status.success(),
        "{}",
        String::from_utf8_lossy(&migrated.stderr)
    );
    assert!(String::from_utf8_lossy(&migrated.stdout).starts_with("main "));
    assert_refused(&migrate(&database, "localhost", &wrong), "certificate");
    assert_refused(&migrate(&database, "127.0.0.1", &right), "certificate");
    assert_refused(
        &migrate(&database, "localhost", &folder.path().join("none.pem")),
        "No such file",
    );
    set_ssl(&database, "off").await;
    assert_refused(&migrate(&database, "localhost", &right), "TLS");
}
