//! `wavekeep-agent label`: changes the labels of what an agent captures, while it does.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use wavekeep_agent::admin;
use wavekeep_agent::labels::LabelChange;

use super::summary::print_line;
use super::{CliError, values};

#[derive(Debug, Args)]
pub(crate) struct LabelArgs {
    /// KEY=VALUE sets a label, KEY= removes it
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = values::label)]
    labels: Vec<(String, String)>,
    /// The outbox's directory, by which its agent is found
    #[arg(long, env = "WAVEKEEP_OUTBOX", value_name = "DIR", default_value = ".")]
    outbox: PathBuf,
    /// Where the agent's admin socket is [default: agent.sock in the outbox's directory]
    #[arg(long, env = "WAVEKEEP_ADMIN_SOCKET", value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    /// Prints one JSON object for each device
    #[arg(long, env = "WAVEKEEP_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

pub(crate) fn label(args: LabelArgs) -> Result<(), CliError> {
    let change = change(args.labels)?;
    let socket = admin::socket_of(&args.outbox, args.admin_socket.as_deref());
    let labelled = admin::ask_labels(&socket, &change)
        .map_err(|error| CliError::unanswered(&error, "labels are changed while an agent captures"))?;
    for device in &labelled {
        let text = if args.json {
            serde_json::to_string(device).map_err(CliError::failed)?
        } else {
            let labels: Vec<_> = device
                .labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let labels = if labels.is_empty() {
                "none".into()
            } else {
                labels.join(" ")
            };
            format!("{}: labels {labels}", device.device)
        };
        print_line(&text)?;
    }
    match labelled.iter().find(|device| !device.settled) {
        Some(device) => Err(CliError::Incomplete(format!(
            "{} delivers nothing just now: its labels change with the next samples that it delivers",
            device.device
        ))),
        None => Ok(()),
    }
}

fn change(labels: Vec<(String, String)>) -> Result<LabelChange, CliError> {
    let mut change = LabelChange::default();
    for (key, value) in labels {
        if change.set.contains_key(&key) || change.remove.contains(&key) {
            return Err(CliError::Usage(format!(
                "the label {key} is given more than once: keep one of them"
            )));
        }
        if value.is_empty() {
            change.remove.insert(key);
        } else {
            change.set.insert(key, value);
        }
    }
    Ok(change)
}
