//! A server that goes away while something is followed is waited for; the person is told when it goes, and when it is back.

use std::hash::{BuildHasher, Hasher, RandomState};

use wavekeep::Error;
use wavekeep::proto::backoff::Backoff;

use super::failure::Failure;
use super::limits::{FOLLOW_PERIOD, FOLLOW_WAIT_MAX};
use super::table::Output;

/// Why a follower stopped.
pub(super) enum Stopped {
    /// It may pass: the server restarts, or has too much to do.
    Lost(String),
    Failed(Failure),
}

impl Stopped {
    /// For whoever does not try again.
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Lost(sentence) => Failure::Failed(sentence),
            Self::Failed(failure) => failure,
        }
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        if error.is_passing() {
            Self::Lost(error.to_string())
        } else {
            Self::Failed(error.into())
        }
    }
}

/// How long a follower has waited.
#[derive(Debug, Default)]
pub(super) struct Patience {
    backoff: Backoff,
    is_lost: bool,
}

impl Patience {
    /// The server did what it was asked to do.
    pub(super) fn answered(&mut self, output: &Output) {
        if std::mem::take(&mut self.is_lost) {
            output.note("the server answers again");
        }
        self.backoff.reset();
    }

    /// Waits, where it is worth it.
    pub(super) async fn wait(&mut self, stopped: Stopped, output: &Output) -> Result<(), Failure> {
        let sentence = match stopped {
            Stopped::Lost(sentence) => sentence,
            Stopped::Failed(failure) => return Err(failure),
        };
        if !std::mem::replace(&mut self.is_lost, true) {
            output.note(&format!("{sentence}; trying again until it answers"));
        }
        let random = RandomState::new().build_hasher().finish();
        tokio::time::sleep(self.backoff.next(random).clamp(FOLLOW_PERIOD, FOLLOW_WAIT_MAX)).await;
        Ok(())
    }
}
