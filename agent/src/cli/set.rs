//! `wavekeep-agent set`: changes what an instrument is set to, while an agent captures it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use wavekeep_agent::admin;
use wavekeep_agent::controls::SettingChange;

use super::summary::print_line;
use super::{CliError, values};

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// A setting of the instrument and its new value: current_range, voltage_range, vref, gpo0, gpo1 or power of a JS220
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = values::setting)]
    settings: Vec<(String, String)>,
    /// The instrument's name [default: the only one that is captured]
    #[arg(long, env = "WAVEKEEP_DEVICE", value_name = "NAME", value_parser = values::name)]
    device: Option<String>,
    /// The outbox's directory, by which its agent is found
    #[arg(long, env = "WAVEKEEP_OUTBOX", value_name = "DIR", default_value = ".")]
    outbox: PathBuf,
    /// Where the agent's admin socket is [default: agent.sock in the outbox's directory]
    #[arg(long, env = "WAVEKEEP_ADMIN_SOCKET", value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    /// Prints one JSON object
    #[arg(long, env = "WAVEKEEP_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

pub(crate) fn set(args: SetArgs) -> Result<(), CliError> {
    let mut set = BTreeMap::new();
    for (key, value) in args.settings {
        if set.contains_key(&key) {
            return Err(CliError::Usage(format!(
                "the setting {key} is given more than once: keep one of them"
            )));
        }
        set.insert(key, value);
    }
    let change = SettingChange {
        device: args.device,
        set,
    };
    let socket = admin::socket_of(&args.outbox, args.admin_socket.as_deref());
    let status = admin::ask_settings(&socket, &change)
        .map_err(|error| CliError::unanswered(&error, "an instrument is set while an agent captures it"))?;
    if args.json {
        return print_line(&serde_json::to_string(&status).map_err(CliError::failed)?);
    }
    let settings: Vec<_> = status
        .settings
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    print_line(&format!("{}: settings {}", status.device, settings.join(" ")))
}
