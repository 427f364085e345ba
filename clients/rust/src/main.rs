//! `wavekeep`: the reader's command line. Results go to standard output, progress and errors to standard error.
//!
//! Exit codes: 0 on full success only, 2 for a usage error, 1 otherwise, with one sentence that says what to do.

mod cli;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use wavekeep::proto::cli as proto_cli;

use crate::cli::Arguments;
use crate::cli::failure::Failure;

fn main() -> ExitCode {
    let arguments = proto_cli::parse::<Arguments>();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::Failed(format!("cannot start: {error}"))),
    };
    let outcome = runtime.block_on(async {
        // Before anything is begun, so that there is no moment at which a signal ends us without a word.
        let wait_for =
            |kind| signal(kind).map_err(|error| Failure::Failed(format!("cannot wait for signals: {error}")));
        let (mut interrupted, mut terminated) =
            (wait_for(SignalKind::interrupt())?, wait_for(SignalKind::terminate())?);
        tokio::select! {
            outcome = cli::run(&arguments) => outcome,
            // Dropping the run removes what it has half written.
            _ = interrupted.recv() => {
                if arguments.ends_by_interrupt() {
                    Ok(())
                } else {
                    Err(Failure::Failed(arguments.interrupted().into()))
                }
            }
            _ = terminated.recv() => Err(Failure::Failed(arguments.interrupted().into())),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Usage(sentence) => {
            eprintln!("error: {sentence}");
            ExitCode::from(2)
        }
        Failure::Failed(sentence) | Failure::Unknown(sentence) => {
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
        // The reader of our output closed the pipe, as `head` does.
        Failure::OutputClosed => ExitCode::FAILURE,
    }
}
