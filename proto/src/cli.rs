//! How our command lines are read (feature `cli`): from the arguments and the environment, in which nothing may be misspelt.

use clap::error::ErrorKind;
use clap::{Command, Parser};

use crate::nearest::misspelt;

/// Usage errors end the process with 2, after one sentence.
#[must_use]
pub fn parse<P: Parser>() -> P {
    let mut command = P::command();
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    if let Some((name, meant)) = misspelt(set, &variables(&command)) {
        let sentence = format!("{name} is set, and nothing reads it: rename it to {meant}, or unset it");
        command.error(ErrorKind::UnknownArgument, sentence).exit();
    }
    P::parse()
}

/// All that a command and its subcommands read.
fn variables(command: &Command) -> Vec<String> {
    let own = command
        .get_arguments()
        .filter_map(|argument| argument.get_env()?.to_str());
    own.map(str::to_owned)
        .chain(command.get_subcommands().flat_map(variables))
        .collect()
}
