//! The private Postgres: made with checksums, adopted after a kill, stopped for good, and refused in words.

use std::path::PathBuf;
use std::process::Command;

use wavekeep_server::devdb::{DevDatabase, DevDatabaseError, setting};

/// Removed by the test that made it.
fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("wavekeep-devdb-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a temporary directory");
    path
}

fn is_running(process_id: i32) -> bool {
    let signalled = Command::new("kill").arg("-0").arg(process_id.to_string()).output();
    signalled.expect("kill is there").status.success()
}

#[tokio::test]
async fn a_cluster_of_ours_is_durable_checked_and_private() {
    let directory = directory("durable");
    let database = DevDatabase::start(&directory).await.expect("it starts");
    let url = database.url();
    for (name, value) in [
        ("data_checksums", "on"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("listen_addresses", "127.0.0.1"),
    ] {
        assert_eq!(setting(&url, name).await.expect("it answers"), value, "{name}");
    }
    assert_eq!(
        setting(&database.tcp_url(), "data_checksums")
            .await
            .expect("over TCP too"),
        "on"
    );
    let in_use = DevDatabase::start(&directory).await;
    assert!(matches!(in_use, Err(DevDatabaseError::InUse(_))), "{in_use:?}");
    let process_id = database.process_id();
    database.stop().await;
    assert!(!is_running(process_id));
    assert!(setting(&url, "fsync").await.is_err());
    let again = DevDatabase::start(&directory).await.expect("it starts again");
    assert_eq!(again.url(), url, "the same port, while it is free");
    drop(again);
    std::fs::remove_dir_all(&directory).expect("it is ours");
}

#[tokio::test]
async fn a_postgres_that_a_killed_server_left_is_adopted() {
    let directory = directory("adopted");
    let first = DevDatabase::start(&directory).await.expect("it starts");
    let (url, process_id) = (first.url(), first.process_id());
    // What SIGKILL leaves behind: no destructor runs, and the lock is given back.
    let lock = directory.join("lock");
    std::mem::forget(first);
    std::fs::remove_file(&lock).expect("it was there");
    let second = DevDatabase::start(&directory).await.expect("it is adopted");
    assert!(second.is_adopted());
    assert_eq!((second.url(), second.process_id()), (url, process_id));
    second.stop().await;
    // It is a child of this very process, and nobody waited for it: gone, or a zombie.
    let state = std::fs::read_to_string(format!("/proc/{process_id}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
    std::fs::remove_dir_all(&directory).expect("it is ours");
}

#[tokio::test]
async fn a_path_that_is_too_long_for_a_socket_is_no_obstacle() {
    let outer = directory("long");
    let directory = outer.join("d".repeat(100));
    let database = DevDatabase::start(&directory).await.expect("it starts");
    assert_eq!(setting(&database.url(), "fsync").await.expect("it answers"), "on");
    drop(database);
    std::fs::remove_dir_all(&outer).expect("it is ours");
}

#[tokio::test]
async fn what_stands_in_the_way_is_said() {
    let outer = directory("refused");
    let file = outer.join("file");
    std::fs::write(&file, "").expect("a temporary file");
    let refused = DevDatabase::start(&file).await.expect_err("a file is no directory");
    assert!(refused.to_string().starts_with("cannot create"), "{refused}");

    let foreign = outer.join("foreign");
    std::fs::create_dir_all(foreign.join("data/precious")).expect("a temporary directory");
    let refused = DevDatabase::start(&foreign)
        .await
        .expect_err("initdb refuses what is not empty");
    assert!(refused.to_string().contains("exists but is not empty"), "{refused}");
    assert!(foreign.join("data/precious").is_dir(), "untouched");

    if nix::unistd::Uid::effective().is_root() {
        let closed = outer.join("closed");
        std::fs::create_dir(&closed).expect("a temporary directory");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&closed, private).expect("it is ours");
        let refused = DevDatabase::start(&closed.join("inner"))
            .await
            .expect_err("postgres may not enter");
        assert!(refused.to_string().contains("choose another --data-dir"), "{refused}");
    }
    std::fs::remove_dir_all(&outer).expect("it is ours");
}
