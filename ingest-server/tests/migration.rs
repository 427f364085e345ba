//! Migrations and workspaces: what they make, as whom, together, and what they refuse.

mod common;

use common::{connect, is_timescale, shared};
use sqlx::{AssertSqlSafe, Row as _};
use wavekeep_server::store::{Database, DatabaseError};
use wavekeep_server::workspace::{self, WorkspaceError};

/// A database of its own in the shared server, owned by a role that is nothing special. Its URL as that role.
async fn database(name: &str) -> String {
    shared().await.database(name).await.expect("it is made")
}

async fn one(url: &str, sql: &str) -> i64 {
    let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .fetch_one(&mut connect(url, "main").await)
        .await;
    row.expect("the query runs").get::<i64, _>(0)
}

#[tokio::test]
async fn migrating_needs_no_superuser_and_makes_main() {
    let url = database("plain_role").await;
    let made = workspace::migrate(&url).await.expect("it migrates");
    assert_eq!(made.iter().map(|made| made.name.as_str()).collect::<Vec<_>>(), ["main"]);
    assert_eq!(made[0].kind, shared().await.kind(), "is TimescaleDB in this database?");
    assert_eq!(
        one(
            &url,
            "SELECT count(*) FROM pg_roles WHERE rolname = current_user AND rolsuper"
        )
        .await,
        0
    );
    // The branch that ran is what was recorded.
    for table in ["chunk", "chunk_signal", "envelope"] {
        let sql = if is_timescale().await {
            format!(
                "SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_schema = 'main' AND hypertable_name = '{table}'"
            )
        } else {
            format!(
                "SELECT count(*) FROM pg_class c JOIN pg_partitioned_table p ON p.partrelid = c.oid WHERE c.oid = 'main.{table}'::regclass AND p.partstrat = 'r'"
            )
        };
        assert_eq!(one(&url, &sql).await, 1, "{table} is partitioned by range");
    }
    let external = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'chunk_signal'::regclass AND attname = 'payload' AND attstorage = 'e'";
    assert_eq!(
        one(&url, external).await,
        1,
        "STORAGE EXTERNAL survives the change to partitions"
    );
    assert_eq!(
        one(&url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await,
        0
    );
    // Repeating it changes nothing.
    assert_eq!(workspace::migrate(&url).await.expect("it is up to date"), made);
    let second = workspace::create(&url, "team_two").await.expect("it is created");
    assert_ne!(second.ledger_id, made[0].ledger_id);
    assert_eq!(
        workspace::list(&url).await.expect("it answers"),
        [made[0].clone(), second]
    );
    assert_eq!(
        one(
            &url,
            "SELECT count(*) FROM wavekeep.audit WHERE action = 'workspace created'"
        )
        .await,
        2
    );
}

#[tokio::test]
async fn tables_and_columns_say_what_they_are() {
    let url = database("commented").await;
    workspace::migrate(&url).await.expect("it migrates");
    let silent = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname IN ('main', 'wavekeep') AND c.relkind IN ('r', 'p') AND c.relname <> 'migration'
                     AND obj_description(c.oid) IS NULL";
    assert_eq!(one(&url, silent).await, 0);
    let on_payload = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'chunk_signal'::regclass AND attname = 'payload' AND col_description(attrelid, attnum) LIKE 'The samples%'";
    assert_eq!(one(&url, on_payload).await, 1);
}

#[tokio::test]
async fn servers_that_start_together_migrate_one_after_the_other() {
    let url = database("together").await;
    let starts: Vec<_> = (0..6)
        .map(|_| url.clone())
        .map(|url| tokio::spawn(async move { workspace::migrate(&url).await }))
        .collect();
    let mut ledger_ids = Vec::new();
    for start in starts {
        let made = start.await.expect("no panic").expect("it migrates");
        ledger_ids.extend(made.iter().map(|made| made.ledger_id));
    }
    ledger_ids.dedup();
    assert_eq!(ledger_ids.len(), 1, "one ledger id, minted once");
    let creates: Vec<_> = (0..4)
        .map(|_| url.clone())
        .map(|url| tokio::spawn(async move { workspace::create(&url, "same").await }))
        .collect();
    let mut created = 0;
    for create in creates {
        match create.await.expect("no panic") {
            Ok(_) => created += 1,
            Err(error) => assert!(matches!(error, WorkspaceError::Exists(_)), "{error}"),
        }
    }
    assert_eq!(created, 1);
}

#[tokio::test]
async fn names_that_cannot_be_are_refused_in_words() {
    let url = database("named").await;
    workspace::migrate(&url).await.expect("it migrates");
    for name in [
        "",
        "Main",
        "a b",
        "a;b",
        "pg_x",
        "public",
        "wavekeep",
        "information_schema",
        &"a".repeat(41),
    ] {
        let refused = workspace::create(&url, name).await.expect_err(name);
        assert!(matches!(refused, WorkspaceError::Name(_)), "{refused}");
    }
    let refused = workspace::create(&url, "main").await.expect_err("it exists");
    assert_eq!(
        refused.to_string(),
        "there is a workspace \"main\" already: choose another name"
    );
    sqlx::raw_sql("CREATE SCHEMA theirs")
        .execute(&mut connect(&url, "main").await)
        .await
        .expect("it is created");
    let refused = workspace::create(&url, "theirs")
        .await
        .expect_err("it is somebody else's");
    assert!(matches!(refused, WorkspaceError::SchemaTaken(_)), "{refused}");
}

#[tokio::test]
async fn a_database_from_the_future_or_with_another_past_is_left_alone() {
    let url = database("future").await;
    workspace::migrate(&url).await.expect("it migrates");
    let mut connection = connect(&url, "main").await;
    let newer = "INSERT INTO migration (version, description, success, checksum, execution_time) VALUES (999, 'later', true, '\\x00', 0)";
    sqlx::raw_sql(newer)
        .execute(&mut connection)
        .await
        .expect("it is written");
    let refused = workspace::migrate(&url).await.expect_err("it is newer");
    assert!(
        refused
            .to_string()
            .contains("a newer version has migrated this database (migration 999)"),
        "{refused}"
    );
    let edited = "DELETE FROM migration WHERE version = 999; UPDATE migration SET checksum = '\\x00'";
    sqlx::raw_sql(edited)
        .execute(&mut connection)
        .await
        .expect("it is written");
    let refused = workspace::migrate(&url).await.expect_err("it was edited");
    assert!(refused.to_string().contains("migration 1 is not the one"), "{refused}");
}

#[tokio::test]
async fn a_database_that_is_not_usable_is_said_to_be_so() {
    let refused = Database::connect("http://x", 1)
        .await
        .map(|_| ())
        .expect_err("no such port");
    assert!(
        matches!(refused, DatabaseError::Unreachable { .. } | DatabaseError::Url(_)),
        "{refused}"
    );
    let refused = Database::connect("nonsense", 1)
        .await
        .map(|_| ())
        .expect_err("not a URL");
    assert!(refused.to_string().contains("give one like postgres://"), "{refused}");
    let refused = Database::connect("postgres://me:secret@127.0.0.1:1/x", 1)
        .await
        .map(|_| ())
        .expect_err("nobody listens");
    assert!(
        refused.to_string().contains("127.0.0.1:1") && !refused.to_string().contains("secret"),
        "{refused}"
    );

    let url = database("not_durable").await;
    let mut owner = connect(&url, "public").await;
    let set = |to: &str| {
        let sql = format!("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I {to}', current_database()); END $$");
        sqlx::raw_sql(AssertSqlSafe(sql))
    };
    set("SET synchronous_commit = off")
        .execute(&mut owner)
        .await
        .expect("it is set");
    let refused = workspace::migrate(&url).await.expect_err("acks would lie");
    assert!(refused.to_string().contains("synchronous_commit = off"), "{refused}");
    set("RESET synchronous_commit")
        .execute(&mut owner)
        .await
        .expect("it is set");
    let empty = workspace::list(&url).await.expect_err("never migrated");
    assert!(empty.to_string().contains("wavekeep-server migrate"), "{empty}");
}
