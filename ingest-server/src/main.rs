//! `wavekeep-server`: see `wavekeep_server::cli`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    wavekeep_server::cli::run()
}
