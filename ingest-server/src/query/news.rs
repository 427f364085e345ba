//! What moves in each workspace: its streams' watermarks, as one task a workspace sees them in the database, for all who follow.
//!
//! The database is asked, not the writers of this server: another server may commit. It is asked only while somebody follows.
//!
//! # Invariants
//! - News is a hint. Whoever misses some finds out by a listing: nothing is decided by it.
//! - I12: one question at a time for each workspace, however many follow; asking takes a fifth of the time, and half of it at worst.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::debug;
use wavekeep_proto::id::StreamId;

use super::limits;
use super::read::Reader;

/// Of the streams that had a commit lately.
pub(super) type Watermarks = Arc<BTreeMap<StreamId, u64>>;

/// See the module's documentation. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct News(Arc<Mutex<HashMap<String, watch::Sender<Watermarks>>>>);

type Told<'a> = MutexGuard<'a, HashMap<String, watch::Sender<Watermarks>>>;

impl News {
    fn told(&self) -> Told<'_> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of what moves in the workspace that the reader reads.
    pub(super) fn hear(&self, workspace: &str, reader: &Reader) -> watch::Receiver<Watermarks> {
        let mut told = self.told();
        if let Some(sender) = told.get(workspace) {
            return sender.subscribe();
        }
        let (sender, heard) = watch::channel(Watermarks::default());
        told.insert(workspace.into(), sender.clone());
        tokio::spawn(self.clone().look(workspace.to_owned(), reader.clone(), sender));
        heard
    }

    /// Until nobody hears.
    async fn look(self, workspace: String, reader: Reader, sender: watch::Sender<Watermarks>) {
        while !self.is_over(&workspace, &sender) {
            let since = Instant::now();
            match reader.watermarks().await {
                Ok(watermarks) => {
                    sender.send_if_modified(|known| {
                        let is_new = **known != watermarks;
                        if is_new {
                            *known = Arc::new(watermarks);
                        }
                        is_new
                    });
                }
                // Those who follow find out by themselves, and say it.
                Err(error) => debug!(%error, "what moves cannot be read"),
            }
            tokio::time::sleep(pause(since.elapsed())).await;
        }
    }

    /// Whoever comes after this starts another task.
    fn is_over(&self, workspace: &str, sender: &watch::Sender<Watermarks>) -> bool {
        let mut told = self.told();
        let is_over = sender.receiver_count() == 0;
        if is_over {
            told.remove(workspace);
        }
        is_over
    }
}

/// Until the next look, after one that took so long.
fn pause(took: Duration) -> Duration {
    let rest = took * limits::NEWS_REST;
    rest.clamp(limits::NEWS_INTERVAL, limits::NEWS_PAUSE_MAX.max(took))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_look_does_not_make_the_next_one_late() {
        let paused = |took| pause(Duration::from_millis(took)).as_millis();
        assert_eq!([1, 10, 50, 100, 900].map(paused), [25, 40, 100, 100, 900]);
    }
}
