//! What our command lines have in common (feature `cli`): they are read from the arguments and the environment, in which nothing may be
//! misspelt, complete themselves in shells, and print numbers alike.

use std::io::{self, Write};

use clap::error::ErrorKind;
use clap::{Args, Command, CommandFactory, Parser};
use clap_complete::Shell;

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

/// What `completions` is told.
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// The shell that they are for
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Prints what the shell reads to complete commands, options and their values.
    ///
    /// # Errors
    /// Nobody reads standard output.
    pub fn print<P: CommandFactory>(&self) -> io::Result<()> {
        io::stdout().write_all(&self.script::<P>())
    }

    fn script<P: CommandFactory>(&self) -> Vec<u8> {
        let mut command = P::command();
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        script
    }

    /// Where shells look for them, for `--help`.
    #[must_use]
    pub fn examples(name: &str) -> String {
        format!(
            "Examples:
  {name} completions bash > ~/.local/share/bash-completion/completions/{name}
  {name} completions fish > ~/.config/fish/completions/{name}.fish
  {name} completions zsh > \"${{fpath[1]}}/_{name}\"

A shell that is started afterwards has them."
        )
    }
}

/// `1,200,000`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
