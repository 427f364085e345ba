//! The benchmarks and their peers. Timings are noisy on shared machines: read the ratios, which come from one run.
//!
//!     make bench                  all of them
//!     make bench BENCH=codecs     one: codecs, outbox, ledger, envelopes, end-to-end, real-time, cadence, reading, compare, failover, joulescope, samples, tail, exports

mod cadence;
mod codecs;
mod compare;
mod end_to_end;
mod envelopes;
mod exports;
mod failover;
mod histogram;
mod joulescope;
mod ledger;
mod outbox;
mod peers;
mod processes;
mod reading;
mod real_time;
mod samples;
mod tail;

use anyhow::{Result, bail};
use wavekeep_system_tests::recordings::shared;

const ALL: [&str; 14] = [
    "codecs",
    "outbox",
    "ledger",
    "envelopes",
    "end-to-end",
    "real-time",
    "cadence",
    "reading",
    "compare",
    "failover",
    "joulescope",
    "samples",
    "tail",
    "exports",
];

fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let names = if names.is_empty() {
        ALL.map(String::from).to_vec()
    } else {
        names
    };
    for name in names {
        println!("\n## {name}\n");
        match name.as_str() {
            "codecs" => codecs::run(&shared())?,
            "outbox" => outbox::run()?,
            "ledger" => ledger::run()?,
            "envelopes" => envelopes::run()?,
            "end-to-end" => end_to_end::run()?,
            "real-time" => real_time::run()?,
            "cadence" => cadence::run()?,
            "reading" => reading::run()?,
            "compare" => compare::run()?,
            "failover" => failover::run()?,
            "joulescope" => joulescope::run()?,
            "samples" => samples::run()?,
            "tail" => tail::run()?,
            "exports" => exports::run()?,
            other => bail!("there is no benchmark {other:?}; there are {}", ALL.join(", ")),
        }
    }
    Ok(())
}

/// How much of it: what the environment says, else as many as usual.
fn size<T: std::str::FromStr>(variable: &str, usual: T) -> T {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}
