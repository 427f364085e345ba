//! SIGINT and SIGTERM: the first asks for an orderly end, the second for one at once. What follows the first within moments is
//! the same wish, sent to the process and to its group.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use wavekeep_agent::stop::StopToken;

use super::CliError;

/// Signals this close together are one wish.
const SAME_WISH: Duration = Duration::from_millis(300);

/// What the signals have asked for so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals {
    /// Stop the sources, deliver what can be delivered.
    pub(crate) stop: StopToken,
    /// Stop waiting, too.
    pub(crate) now: StopToken,
}

impl Signals {
    /// Listens from now on, on a thread of its own.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let signals = Self::default();
        let heard = signals.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(CliError::failed)?;
        let (mut interrupt, mut terminate) = {
            let _guard = runtime.enter();
            let listen = |kind| signal(kind).map_err(CliError::failed);
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?)
        };
        let listen = move || {
            runtime.block_on(async {
                let mut next = async || {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                };
                next().await;
                heard.stop.stop();
                let same = async {
                    loop {
                        next().await;
                    }
                };
                // It never ends by itself: the elapsed time is what is waited for.
                let _: Result<(), _> = tokio::time::timeout(SAME_WISH, same).await;
                next().await;
                heard.now.stop();
            });
        };
        // It waits for signals as long as the process lives: there is nothing to join.
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(listen)
            .map_err(CliError::failed)?;
        Ok(signals)
    }
}
