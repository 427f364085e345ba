//! An agent's status as lines of text. Pure: the same status and width are the same lines.
//!
//! Each line has a name and items; items that find no room go on below. Nothing is wider than the width.

use std::collections::BTreeMap;

use wavekeep_agent::status::{AgentStatus, LinkStatus, SourceStatus};
use wavekeep_proto::cli::thousands;

/// Names of lines, and the space after them.
const NAME_WIDTH: usize = 9;

/// See the module's documentation.
pub(super) fn render(status: &AgentStatus, width: usize) -> Vec<String> {
    let mut lines = vec![fit(
        &format!(
            "wavekeep-agent {}, running for {}",
            status.version,
            duration(status.uptime_ms)
        ),
        width,
    )];
    for source in &status.sources {
        row(&mut lines, "source", &source_items(status, source), width);
    }
    row(&mut lines, "outbox", &outbox_items(status), width);
    row(&mut lines, "link", &link_items(&status.link), width);
    row(&mut lines, "lag", &lag_items(status), width);
    row(&mut lines, "gaps", &gap_items(status), width);
    row(&mut lines, "alarms", &alarm_items(&status.link), width);
    lines
}

fn source_items(status: &AgentStatus, source: &SourceStatus) -> Vec<String> {
    let mut items = vec![format!("{} {}", source.device, source.state)];
    items.extend(source.error.clone());
    let open = |stream: &&wavekeep_agent::outbox::verify::StreamReport| {
        stream.device == source.device && !stream.ended && !stream.to_end
    };
    let streams: Vec<_> = status.outbox.streams.iter().filter(open).collect();
    for stream in &streams {
        items.push(format!("{}/s", scaled(stream.rate_hz)));
        let id: String = stream.stream.chars().take(8).collect();
        items.push(format!("stream {id}"));
    }
    items.push(format!("{} samples captured", thousands(source.sample_count)));
    if let Some(age) = source.last_chunk_age_ms {
        items.push(format!("last chunk {} ago", duration(age)));
    }
    if let Some(stream) = streams.first().filter(|stream| !stream.labels.is_empty()) {
        items.push(format!("labels {}", pairs(&stream.labels)));
    }
    if !source.settings.is_empty() {
        items.push(format!("settings {}", pairs(&source.settings)));
    }
    items
}

fn pairs(all: &BTreeMap<String, String>) -> String {
    let pairs: Vec<_> = all.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}

fn outbox_items(status: &AgentStatus) -> Vec<String> {
    let outbox = &status.outbox;
    let percent = outbox.held_bytes as f64 / status.quota_bytes.max(1) as f64 * 100.0;
    let mut items = vec![format!(
        "{} of {} ({percent:.0} %)",
        bytes(outbox.held_bytes),
        bytes(status.quota_bytes)
    )];
    if status.unacked_chunk_count == 0 {
        items.push("all is acknowledged".into());
    } else {
        items.push(format!(
            "{} chunks ({}) not acknowledged",
            thousands(status.unacked_chunk_count),
            bytes(outbox.unacked_bytes)
        ));
        items.push(format!("the oldest for {}", duration(status.oldest_unacked_ms)));
    }
    items.push(format!("{} samples evicted", thousands(status.evicted_sample_count)));
    items
}

fn link_items(link: &LinkStatus) -> Vec<String> {
    let mut items = Vec::new();
    let server = &link.server;
    items.push(match link.session_age_ms {
        Some(age) => format!("{} with {server} for {}", link.state, duration(age)),
        None if link.closed_until.is_some() => "resting, as --schedule says".into(),
        None => format!("{}: no session with {server}", link.state),
    });
    items.extend(link.closed_until.as_ref().map(|until| format!("until {until}")));
    if link.session_age_ms.is_some() {
        items.push(format!(
            "{} of {} in flight",
            bytes(link.in_flight_bytes),
            bytes(link.window_bytes)
        ));
    }
    items.push(match link.last_ack_age_ms {
        Some(age) => format!("last ack {} ago", duration(age)),
        None => "no ack yet".into(),
    });
    if let Some(limit) = link.upload_limit_bytes {
        items.push(format!("at most {}/s", bytes(limit)));
    }
    items.extend(link.schedule.as_ref().map(|schedule| format!("schedule {schedule}")));
    if let Some(error) = link.last_error.as_ref().filter(|_| link.state != "up") {
        items.push(format!("last error: {error}"));
    }
    items
}

fn lag_items(status: &AgentStatus) -> Vec<String> {
    let lag = &status.lag;
    match (lag.p50_ms, lag.p99_ms) {
        (Some(p50), Some(p99)) => vec![
            format!("p50 {p50:.0} ms"),
            format!("p99 {p99:.0} ms"),
            format!("from sample to ack over the last {} chunks", thousands(lag.chunk_count)),
        ],
        _ => vec!["nothing live is acknowledged yet".into()],
    }
}

fn gap_items(status: &AgentStatus) -> Vec<String> {
    let mut items = Vec::new();
    for source in &status.sources {
        for (reason, gaps) in &source.gaps_by_reason {
            let (count, samples) = (thousands(gaps.gap_count), thousands(gaps.sample_count));
            let plural = if gaps.gap_count == 1 { "" } else { "s" };
            items.push(format!(
                "{} {reason}: {count} gap{plural}, {samples} samples",
                source.device
            ));
        }
    }
    if status.corrupt_sample_count > 0 {
        let samples = thousands(status.corrupt_sample_count);
        items.push(format!("outbox corrupt: {samples} samples"));
    }
    if items.is_empty() {
        items.push("none since the start".into());
    }
    items
}

fn alarm_items(link: &LinkStatus) -> Vec<String> {
    match link.alarms.last() {
        None => vec!["none".into()],
        Some(newest) => vec![thousands(link.alarm_count), format!("the newest: {newest}")],
    }
}

/// A named line and what goes on below it.
fn row(lines: &mut Vec<String>, name: &str, items: &[String], width: usize) {
    let room = width - NAME_WIDTH;
    let mut head = format!("{name:<NAME_WIDTH$}");
    let mut line = String::new();
    let mut push = |line: &str| {
        lines.push(fit(&format!("{head}{line}"), width));
        head = " ".repeat(NAME_WIDTH);
    };
    for item in items {
        if line.is_empty() {
            line.clone_from(item);
        } else if length(&line) + 2 + length(item) <= room {
            line = format!("{line}, {item}");
        } else {
            push(&line);
            line.clone_from(item);
        }
    }
    push(&line);
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// One line of at most this width, whatever a server or a device put into it.
fn fit(text: &str, width: usize) -> String {
    let clean = text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c });
    if length(text.trim_end()) <= width {
        return clean.collect();
    }
    clean.take(width - 1).chain(['…']).collect()
}

fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{}.{} s", seconds, ms % 1_000 / 100),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1_024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1_024.0;
    let mut unit = 0;
    while value >= 1_023.95 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Samples, with a prefix.
fn scaled(rate_hz: f64) -> String {
    match rate_hz {
        rate if rate >= 1e6 => format!("{} MS", rate / 1e6),
        rate if rate >= 1e3 => format!("{} kS", rate / 1e3),
        rate => format!("{rate} S"),
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
