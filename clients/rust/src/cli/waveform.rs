//! `waveform`: draws in the terminal, or gives the columns or samples as JSON.

use std::io::{self, IsTerminal};

use wavekeep::Client;

use super::Draw;
use super::failure::Failure;
use super::json::WaveformLine;
use super::limits::{POINTS_JSON, WIDTH_PLAIN, WIDTH_RANGE};
use super::picture::{Look, picture};
use super::table::{Output, terminal_width};
use super::trace::Gatherer;

const POWER: &str = "power";

pub(super) async fn waveform(client: &Client, draw: &Draw, output: &mut Output) -> Result<(), Failure> {
    let select = &draw.select;
    let mut selection = select.selection(client).await?;
    if select.signals.iter().any(|signal| signal == POWER) {
        // The server knows which names there are. Where there are few samples, power is the product of those of current and
        // voltage: all signals are asked for, and what is not wanted is left out here.
        client.streams(&selection).await?;
        selection = selection.signals(Vec::<String>::new());
    }
    let look = look(draw.height);
    let points = match draw.points {
        Some(points) => points,
        None if output.json => POINTS_JSON,
        // Two dots in each character.
        None => 2 * u32::try_from(look.width).unwrap_or(u32::MAX / 2),
    };
    let answer = client.columns(&selection, points).await?;
    let traces = Gatherer::new(&select.signals).all(answer).await?;
    if output.json {
        return traces
            .iter()
            .try_for_each(|trace| output.json_line(&WaveformLine::from(trace)));
    }
    picture(&traces, &look).iter().try_for_each(|line| output.line(line))
}

/// Colours are for terminals, and for those who do not refuse them (NO_COLOR).
pub(super) fn look(height: usize) -> Look {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let width = terminal_width().unwrap_or(WIDTH_PLAIN);
    Look {
        width: width.clamp(WIDTH_RANGE.0, WIDTH_RANGE.1),
        height,
        colour: io::stdout().is_terminal() && !set("NO_COLOR") && !dumb,
    }
}
