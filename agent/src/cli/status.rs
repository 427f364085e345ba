//! `wavekeep-agent status`: how a running agent stands, for people; on a terminal as a live view.

mod render;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use wavekeep_agent::admin::{self, AdminError};
use wavekeep_agent::status::AgentStatus;

use super::CliError;
use super::summary::print_line;

/// How often a live view is drawn.
const REFRESH: Duration = Duration::from_secs(1);
/// Of what is no terminal.
const WIDTH_DEFAULT: usize = 120;
/// Narrower ones are drawn like this.
const WIDTH_MIN: usize = 40;

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The outbox's directory, by which its agent is found
    #[arg(long, env = "WAVEKEEP_OUTBOX", value_name = "DIR", default_value = ".")]
    outbox: PathBuf,
    /// Where the agent's admin socket is [default: agent.sock in the outbox's directory]
    #[arg(long, env = "WAVEKEEP_ADMIN_SOCKET", value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    /// Once, also on a terminal
    #[arg(long, env = "WAVEKEEP_STATUS_ONCE", value_parser = BoolishValueParser::new())]
    once: bool,
    /// Prints one JSON object, once
    #[arg(long, env = "WAVEKEEP_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

pub(crate) fn status(args: &StatusArgs) -> Result<(), CliError> {
    let socket = admin::socket_of(&args.outbox, args.admin_socket.as_deref());
    let ask = || admin::ask_status(&socket).map_err(|error| no_agent(args, &error));
    let status = ask()?;
    if args.json {
        return print_line(&status.to_string());
    }
    let live = std::io::stdout().is_terminal() && !args.once;
    let mut lines = draw(status)?;
    if !live {
        return lines.iter().try_for_each(|line| print_line(line));
    }
    loop {
        print_over(&lines, 0)?;
        std::thread::sleep(REFRESH);
        let drawn = lines.len();
        lines = draw(ask()?)?;
        print_over(&[], drawn)?;
    }
}

fn draw(status: serde_json::Value) -> Result<Vec<String>, CliError> {
    let status: AgentStatus = serde_json::from_value(status).map_err(|error| {
        CliError::Failed(format!(
            "the agent is of another version, and says what this program does not understand ({error}): ask with --json"
        ))
    })?;
    let (width, height) = match terminal_size::terminal_size() {
        Some((width, height)) => (usize::from(width.0), usize::from(height.0)),
        None => (WIDTH_DEFAULT, usize::MAX),
    };
    let mut lines = render::render(&status, width.max(WIDTH_MIN));
    // More than the terminal shows could not be drawn over.
    lines.truncate(height.saturating_sub(1).max(1));
    Ok(lines)
}

/// Goes back over `drawn` lines, clears what is below, and prints these.
fn print_over(lines: &[String], drawn: usize) -> Result<(), CliError> {
    let back = if drawn > 0 {
        format!("\x1b[{drawn}F\x1b[J")
    } else {
        String::new()
    };
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut out = std::io::stdout();
    write!(out, "{back}{text}")
        .and_then(|()| out.flush())
        .map_err(|error| CliError::Failed(format!("the status cannot be written: {error}")))
}

fn no_agent(args: &StatusArgs, error: &AdminError) -> CliError {
    if !error.is_silence() {
        return CliError::failed(error);
    }
    let outbox = args.outbox.display();
    CliError::Failed(format!(
        "{error}: no agent runs on this outbox, or --outbox is another one; `wavekeep-agent outbox status {outbox}` shows what it holds"
    ))
}
