//! Keeps a private Postgres running: one that ends by itself (killed for want of memory, or after a crash that it could not
//! recover from on a full disk) is started again, as an init system does for a real one.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{error, info};

use super::DevDatabase;

/// Between two looks at a Postgres that runs.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Between two attempts to start one that does not.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// A private Postgres in the care of a thread of its own, which has it alone.
#[derive(Debug)]
pub struct KeptDatabase {
    url: String,
    tcp_url: String,
    stop: mpsc::SyncSender<()>,
    thread: JoinHandle<DevDatabase>,
}

impl DevDatabase {
    /// From now on, one that ends is started again.
    pub fn keep_running(self) -> std::io::Result<KeptDatabase> {
        let (url, tcp_url) = (self.url(), self.tcp_url());
        let (stop, stopped) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("postgres-keeper".into());
        let thread = thread.spawn(move || keep(self, &stopped))?;
        Ok(KeptDatabase {
            url,
            tcp_url,
            stop,
            thread,
        })
    }
}

impl KeptDatabase {
    /// See [`DevDatabase::url`].
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// See [`DevDatabase::tcp_url`].
    #[must_use]
    pub fn tcp_url(&self) -> &str {
        &self.tcp_url
    }

    /// See [`DevDatabase::stop`]. An attempt to start it is waited for.
    pub async fn stop(self) {
        drop(self.stop);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        let database = joined.expect("waiting does not panic and is not cancelled");
        database.expect("the keeper does not panic").stop().await;
    }
}

fn keep(mut database: DevDatabase, stopped: &mpsc::Receiver<()>) -> DevDatabase {
    let url = database.url();
    let mut wait = LOOK_INTERVAL;
    let mut said = false;
    while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        if !database.postgres.has_exited() {
            continue;
        }
        if !said {
            error!("the private Postgres has ended by itself, and is started again");
        }
        match database.postgres.adopt_or_launch() {
            Ok(()) if database.url() == url => info!("the private Postgres is up again"),
            Ok(()) => error!("the private Postgres had to take another port: restart this server"),
            Err(error) if !said => error!("{error}; trying again every {} s", RETRY_INTERVAL.as_secs()),
            Err(_) => {}
        }
        said = database.postgres.has_exited();
        wait = if said { RETRY_INTERVAL } else { LOOK_INTERVAL };
    }
    database
}
