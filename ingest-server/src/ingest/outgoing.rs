//! The frames on their way to an agent, and what happens when it does not read them.
//!
//! # Invariants
//! - I12: at most [`FRAMES_MAX`] frames wait, and one more that found no room: while it waits the session takes no further action
//!   and reads nothing. One place is kept for the last words, so that a refusal finds room when nothing else does.

use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;
use wavekeep_proto::frame::{Refused, ServerFrame};
use wavekeep_proto::v1;
use wavekeep_proto::wire;

/// Frames between the session and its connection. One ack stands for all that a burst committed.
pub(super) const FRAMES_MAX: usize = 64;

/// What the connection sends.
pub(super) type Sent = Result<v1::ServerFrame, Status>;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Outgoing {
    sender: mpsc::Sender<Sent>,
    last_words: Option<mpsc::OwnedPermit<Sent>>,
    blocked: Option<(v1::ServerFrame, Instant)>,
}

impl Outgoing {
    /// And the end that the connection reads.
    #[must_use]
    pub(super) fn new() -> (Self, mpsc::Receiver<Sent>) {
        let (sender, receiver) = mpsc::channel(FRAMES_MAX + 1);
        let last_words = sender.clone().try_reserve_owned().ok();
        let outgoing = Self {
            sender,
            last_words,
            blocked: None,
        };
        (outgoing, receiver)
    }

    /// Does a frame wait for room?
    #[must_use]
    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Since when.
    #[must_use]
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        self.blocked.as_ref().map(|(_, since)| *since)
    }

    /// Sends it, or keeps it until there is room.
    pub(super) fn send(&mut self, frame: &ServerFrame) {
        assert!(self.blocked.is_none(), "I12: nothing is sent past a frame that waits");
        let frame = wire::server_frame_to_wire(frame);
        if let Err(mpsc::error::TrySendError::Full(Ok(frame))) = self.sender.try_send(Ok(frame)) {
            self.blocked = Some((frame, Instant::now()));
        }
    }

    /// Sends a session's refusal, for which there is always room once; what waited is not sent any more.
    pub(super) fn send_last(&mut self, refused: &Refused) {
        self.blocked = None;
        let frame = wire::server_frame_to_wire(&ServerFrame::Refused(refused.clone()));
        if let Some(permit) = self.last_words.take() {
            permit.send(Ok(frame));
        }
    }

    /// Waits until the frame that waits is sent, or, if none does, until the connection is gone. Says whether it is still there.
    /// Cancel-safe.
    pub(super) async fn progress(&mut self) -> bool {
        if self.blocked.is_none() {
            self.sender.closed().await;
            return false;
        }
        match self.sender.reserve().await {
            Ok(permit) => {
                if let Some((frame, _)) = self.blocked.take() {
                    permit.send(Ok(frame));
                }
                true
            }
            Err(_) => false,
        }
    }
}
