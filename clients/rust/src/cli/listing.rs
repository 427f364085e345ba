//! `devices`, `streams`, `gaps`.

use wavekeep::proto::id::StreamId;
use wavekeep::time::{rfc3339, rfc3339_ms};
use wavekeep::{Client, StreamInfo};

use super::Select;
use super::failure::Failure;
use super::json::{DeviceLine, GapLine, StreamLine};
use super::table::{Heading, Output, fixed, name, number, text};
use super::words::{si, size, thousands};

/// Digits of an id that a terminal shows; `--stream` takes them.
const STREAM_DIGITS_SHOWN: usize = 8;

/// To the millisecond where a person looks at it.
pub(super) fn time(ns: Option<i64>, output: &Output) -> String {
    let written = if output.is_narrow() { rfc3339_ms } else { rfc3339 };
    ns.map(written).unwrap_or_default()
}

pub(super) fn stream_name(id: StreamId, output: &Output) -> String {
    shown(id.to_string(), output)
}

/// The digits of an id or a digest: whole, or as many as a terminal has room for.
pub(super) fn shown(mut digits: String, output: &Output) -> String {
    if output.is_narrow() {
        digits.truncate(STREAM_DIGITS_SHOWN);
    }
    digits
}

/// An empty listing is an answer, too: standard output stays empty, for scripts.
pub(super) fn say_if_empty(output: &Output, sentence: &str) {
    if output.is_empty() {
        output.note(sentence);
    }
}

pub(super) async fn devices(client: &Client, output: &mut Output) -> Result<(), Failure> {
    output.table([
        name("DEVICE"),
        text("STATE"),
        number("STREAMS").spare(3),
        number("SAMPLES"),
        number("MISSING"),
        number("STORED").spare(1),
        fixed("FROM").spare(4),
        fixed("TO").spare(2),
    ]);
    for device in client.devices().await? {
        if output.json {
            output.json_line(&DeviceLine::from(&device))?;
            continue;
        }
        output.row([
            device.name.clone(),
            if device.live { "live" } else { "ended" }.into(),
            thousands(device.streams),
            thousands(device.sample_count),
            thousands(device.gap_sample_count),
            size(device.stored_bytes),
            time(device.first_time_ns, output),
            time(device.last_time_ns, output),
        ])?;
    }
    say_if_empty(output, "no devices");
    Ok(())
}

fn state(stream: &StreamInfo) -> &'static str {
    stream.end_reason.map_or("live", |reason| reason.name())
}

const STREAMS: [Heading; 11] = [
    text("STREAM"),
    name("DEVICE"),
    text("STATE").spare(3),
    text("SIGNALS"),
    number("RATE").spare(2),
    number("SAMPLES"),
    number("MISSING").spare(4),
    number("STORED").spare(7),
    text("RUN").spare(5),
    fixed("FROM").spare(1),
    fixed("TO").spare(6),
];

pub(super) async fn streams(client: &Client, select: &Select, output: &mut Output) -> Result<(), Failure> {
    let selection = select.selection(client).await?;
    output.table(STREAMS);
    for stream in client.streams(&selection).await? {
        if output.json {
            output.json_line(&StreamLine::from(&stream))?;
            continue;
        }
        let signals: Vec<&str> = stream
            .definition
            .signals
            .iter()
            .map(|signal| signal.name.as_str())
            .collect();
        output.row([
            stream_name(stream.id(), output),
            stream.definition.device.clone(),
            state(&stream).into(),
            signals.join(","),
            si(stream.definition.rate_hz, "Hz"),
            thousands(stream.sample_count),
            thousands(stream.gap_sample_count),
            size(stream.stored_bytes),
            stream.run.clone(),
            time(stream.first_time_ns, output),
            time(stream.last_time_ns, output),
        ])?;
    }
    say_if_empty(output, "no streams");
    Ok(())
}

const GAPS: [Heading; 8] = [
    name("DEVICE"),
    text("STREAM"),
    text("REASON"),
    text("SIGNALS").spare(3),
    number("FIRST SAMPLE").spare(2),
    number("MISSING"),
    fixed("FROM").spare(1),
    fixed("TO").spare(4),
];

pub(super) async fn gaps(client: &Client, select: &Select, output: &mut Output) -> Result<(), Failure> {
    let selection = select.selection(client).await?;
    output.table(GAPS);
    let mut gaps = client.gaps(&selection).await?;
    while let Some(gap) = gaps.next().await? {
        if output.json {
            output.json_line(&GapLine::from(&gap))?;
            continue;
        }
        let signals = if gap.signals.is_empty() {
            "all".into()
        } else {
            gap.signals.join(",")
        };
        output.row([
            gap.device.clone(),
            stream_name(gap.stream, output),
            gap.reason.name().into(),
            signals,
            gap.first_sample.to_string(),
            thousands(gap.count),
            time(Some(gap.from_ns), output),
            time(Some(gap.to_ns), output),
        ])?;
    }
    say_if_empty(output, "no gaps");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::table::drawn;
    use super::*;

    const FROM: &str = "2026-11-23T00:00:00.000Z";

    #[test]
    fn streams_and_gaps_fit_a_terminal_and_say_which_device_it_is() {
        let stream = [
            "01010101",
            "js220-001122",
            "live",
            "current,voltage",
            "2 MHz",
            "123,456,789,012",
            "1,200",
            "1.2 GiB",
            "night-1",
            FROM,
            FROM,
        ];
        let gap = [
            "js220-001122",
            "01010101",
            "source_loss",
            "all",
            "123456789012",
            "1,200",
            FROM,
            FROM,
        ];
        for (headings, row) in [(&STREAMS[..], &stream[..]), (&GAPS, &gap)] {
            for width in [60, 80] {
                let drawn = drawn(headings, row, width);
                assert!(drawn.contains("js220-001122") && drawn.contains("01010101"), "{drawn}");
                assert_eq!(drawn.contains(FROM), width == 80, "{drawn}");
            }
        }
        let narrow = drawn(&STREAMS, &stream, 60);
        assert!(
            narrow.contains("RATE") && narrow.contains("123,456,789,012"),
            "{narrow}"
        );
        assert!(drawn(&GAPS, &gap, 60).contains("123456789012"));
        let long = [&["js220-001122-on-the-long-bench"], &gap[1..]].concat();
        assert!(drawn(&GAPS, &long, 60).contains("-bench"), "the end of a name tells");
    }
}
