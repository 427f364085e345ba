//! `tail`: what is committed, as it is committed: a line for each chunk.
//!
//! # Invariants
//! - I1: each chunk is printed once, in order of its stream, whatever happened to the server in between; with `--state` also across runs of
//!   this command: the file is written when what it counts was printed, so a kill between the two prints a chunk again, and none is missed.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use wavekeep::proto::chunk::{ChunkKind, Header};
use wavekeep::{Client, Committed, Tail, TailFrom};

use super::Select;
use super::failure::Failure;
use super::json::{CommittedLine, Extremes};
use super::listing::{stream_name, time};
use super::patience::{Patience, Stopped};
use super::state::State;
use super::table::{Heading, Output, fixed, name, number, text};
use super::words::{Scale, thousands};

pub(super) const EXAMPLES: &str = "Examples:
  wavekeep tail --device js220-001
  wavekeep tail --run night-1 --from-start --json | jq .signals.current.mean
  wavekeep tail --device js220-001 --state follower.json

Each line is a chunk, at the moment in which it is committed, by whichever server; with mean, least and most of its samples, which were
verified. A server that goes away is waited for, and nothing is missed and nothing comes twice. With --state, that also holds from one run
of this command to the next.";

/// What to follow.
#[derive(Debug, Args)]
pub(super) struct Follow {
    #[command(flatten)]
    pub(super) select: Select,
    /// Everything that is stored first, then what comes.
    #[arg(long, env = "WAVEKEEP_FROM_START", value_parser = BoolishValueParser::new())]
    from_start: bool,
    /// Go on where the last run with this file stood, and keep it up to date.
    #[arg(long, value_name = "FILE", env = "WAVEKEEP_STATE")]
    state: Option<PathBuf>,
    /// End after N chunks.
    #[arg(long, value_name = "N", env = "WAVEKEEP_LIMIT")]
    limit: Option<u64>,
}

impl Follow {
    pub(super) fn require_sense(&self) -> Result<(), Failure> {
        if self.select.from.is_some() || self.select.to.is_some() {
            return Err(Failure::Usage(
                "tail shows what is committed from now on: leave --from and --to out, or see `wavekeep waveform` for a range"
                    .into(),
            ));
        }
        Ok(())
    }
}

pub(super) async fn tail(client: &Client, follow: &Follow, output: &mut Output) -> Result<(), Failure> {
    let selection = follow.select.selection(client).await?;
    let state = follow.state.as_deref().map(State::open).transpose()?;
    let mut from = match &state {
        Some((_, Some(cursors))) => TailFrom::After(cursors.clone()),
        _ if follow.from_start => TailFrom::Start,
        _ => TailFrom::Now,
    };
    let mut state = state.map(|(state, _)| state);
    output.table(headings(output.is_narrow()));
    let mut left = follow.limit.unwrap_or(u64::MAX);
    let mut patience = Patience::default();
    while left > 0 {
        let stopped = match client.tail(&selection, from.clone()).await {
            Ok(mut tail) => {
                let ended = print_all(&mut tail, &mut left, &mut patience, state.as_mut(), output).await;
                // From here on a stream that it does not know has begun later, also where it knows none.
                if tail.has_begun() {
                    from = TailFrom::After(tail.cursors().clone());
                }
                ended
            }
            Err(error) => Err(error.into()),
        };
        if let Err(stopped) = stopped {
            patience.wait(stopped, output).await?;
        }
    }
    Ok(())
}

async fn print_all(
    tail: &mut Tail,
    left: &mut u64,
    patience: &mut Patience,
    mut state: Option<&mut State>,
    output: &mut Output,
) -> Result<(), Stopped> {
    tail.begin().await?;
    patience.answered(output);
    if let Some(state) = &mut state {
        state.write(tail.cursors())?;
    }
    while *left > 0 {
        print(&tail.next().await?, output)?;
        output.flush()?;
        if let Some(state) = &mut state {
            state.write(tail.cursors())?;
        }
        *left -= 1;
    }
    Ok(())
}

fn headings(is_narrow: bool) -> [Heading; 7] {
    [
        name("DEVICE").least(10),
        text("STREAM").spare(3),
        number("SEQ").least(6),
        fixed("FROM").spare(1).least(24),
        number("SAMPLES").spare(2).least(7),
        fixed("COMMITTED").spare(4).least(24),
        text("MEAN, LEAST TO MOST").least(if is_narrow { 26 } else { 60 }),
    ]
}

fn print(committed: &Committed<'_>, output: &mut Output) -> Result<(), Failure> {
    let (stream, header) = (committed.stream, committed.header);
    if let Some(expired) = &committed.expired {
        let (from, to) = (expired.start(), expired.end());
        output.note(&format!(
            "stream {}: chunks {from} to {to} are not stored any more",
            stream.id()
        ));
    }
    let extremes: Vec<_> = extremes(committed);
    if output.json {
        return output.json_line(&CommittedLine::new(committed, extremes));
    }
    let mut words: Vec<_> = extremes.iter().map(words).collect();
    words.extend(said(header));
    words.extend(committed.gaps.iter().map(|gap| {
        let of = if gap.signals.is_empty() {
            String::new()
        } else {
            format!(" of {}", gap.signals.join(", "))
        };
        format!("{} missing{of}: {}", thousands(gap.count), gap.reason.name())
    }));
    output.row([
        stream.definition.device.clone(),
        stream_name(stream.id(), output),
        header.seq.to_string(),
        time(Some(header.utc_ns), output),
        thousands(header.count),
        time(Some(committed.loaded_at_ns), output),
        words.join("; "),
    ])
}

fn said(header: &Header) -> Option<String> {
    (header.kind == ChunkKind::End).then(|| format!("the end: {}", header.reason.name()))
}

/// Of each signal that is there.
fn extremes(committed: &Committed<'_>) -> Vec<Extremes> {
    let Some(block) = &committed.block else {
        return Vec::new();
    };
    let present = block.columns.iter().filter(|column| column.absent.is_none());
    let mut samples = Vec::new();
    present
        .map(|column| {
            samples.clear();
            column.append_f64(&mut samples);
            Extremes::of(&committed.stream.definition.signals[column.signal], &samples)
        })
        .collect()
}

/// `current 1.25 mA, 0.50 to 2.00`, with four digits of the largest.
fn words(extremes: &Extremes) -> String {
    let (Some(mean), Some(min), Some(max)) = (extremes.mean, extremes.min, extremes.max) else {
        return format!("{} NaN", extremes.name);
    };
    let scale = Scale::of_four_digits(&[mean, min, max]);
    let mean = scale.with_unit(mean, &extremes.unit);
    format!(
        "{} {mean}, {}",
        extremes.name,
        scale
            .all_with_unit(&[min, max], &extremes.unit)
            .replacen(' ', " to ", 1)
    )
}

#[cfg(test)]
mod tests {
    use wavekeep::proto::stream::{SampleType, Signal};

    use super::super::table::drawn;
    use super::*;

    #[test]
    fn a_chunk_in_words() {
        let signal = Signal {
            number: 0,
            name: "current".into(),
            sample_type: SampleType::F32,
            unit: "A".into(),
            finite_only: false,
        };
        let extremes = Extremes::of(&signal, &[0.000_5, 0.002, f64::NAN]);
        assert_eq!(words(&extremes), "current 1.250 mA, 0.500 to 2.000 mA");
        assert_eq!(words(&Extremes::of(&signal, &[f64::NAN])), "current NaN");
    }

    #[test]
    fn chunks_fit_a_terminal_and_say_which_device_they_are_of() {
        let time = "2026-11-23T00:00:00.000Z";
        let said = "current 1.250 mA, 0.500 to 2.000 mA; voltage 3.300 V, 3.299 to 3.301 V";
        let row = ["js220-001122", "01010101", "1234567", time, "65,536", time, said];
        for width in [60, 80] {
            let drawn = drawn(&headings(true), &row, width);
            assert!(
                drawn.contains("js220-001122  ") && drawn.contains("current 1.250 mA"),
                "{drawn}"
            );
            assert_eq!(drawn.contains(time), width == 80, "{drawn}");
        }
    }
}
