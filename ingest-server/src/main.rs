//! `wavekeep-server`: see `wavekeep_server::cli`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Columns come and go in buffers of a quarter of a megabyte, which the system's allocator gives back to the kernel each time, page by
/// page: a tenth of a picture's time ([BENCHMARKS](../../docs/BENCHMARKS.md)).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    wavekeep_server::cli::run()
}
