//! A histogram that an agent serves on its admin socket, as Prometheus has it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result};

/// Upper bounds, and how many values are not above each.
pub(crate) struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    /// Asks the agent that runs on this outbox.
    pub(crate) fn of_agent(outbox: &Path, name: &str) -> Result<Self> {
        let mut stream = UnixStream::connect(outbox.join("agent.sock")).context("the agent's admin socket")?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let start = format!("{name}_bucket{{le=\"");
        let bucket = |line: &str| {
            let (bound, count) = line.strip_prefix(&start)?.split_once("\"} ")?;
            Some((bound.parse().ok()?, count.trim().parse().ok()?))
        };
        Ok(Self(answer.lines().filter_map(bucket).collect()))
    }

    /// The bound of the bucket in which this share of the values ends.
    pub(crate) fn quantile(&self, share: f64) -> Result<f64> {
        let all = self.0.last().context("the agent serves no such histogram")?.1;
        let found = self.0.iter().find(|(_, count)| *count >= share * all);
        Ok(found.context("there are no values")?.0)
    }
}
