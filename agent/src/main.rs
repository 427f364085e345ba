//! `wavekeep-agent`: the agent as a program. Everything that it does is in the library; here are its command line and its signals.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
