//! What our command lines have in common (feature `cli`): they are read from the arguments and the environment, in which nothing may be
//! misspelt, complete themselves in shells, and print numbers alike.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Args, Command, CommandFactory, Parser, ValueHint};
use clap_complete::Shell;

use crate::nearest::{misspelt, nearest};

/// Values that are files, in whichever type they are read.
const PATHS: [&str; 3] = ["FILE", "DIR", "PATH"];

/// Usage errors end the process with 2, after one sentence.
#[must_use]
pub fn parse<P: Parser>() -> P {
    let mut command = P::command();
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    if let Some((name, meant)) = misspelt(set, &variables(&command)) {
        let sentence = format!("{name} is set, and nothing reads it: rename it to {meant}, or unset it");
        command.error(ErrorKind::UnknownArgument, sentence).exit();
    }
    P::try_parse().unwrap_or_else(|mut error| {
        suggest(&mut error, &command, std::env::args_os().skip(1));
        error.exit()
    })
}

/// Names the subcommand that was meant. What clap finds alike by itself depends on the length of the names: `dve` is no `dev` to it.
fn suggest(error: &mut clap::Error, command: &Command, arguments: impl Iterator<Item = OsString>) {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidSubcommand) else {
        return;
    };
    // Where in the tree it stood: below the subcommands before it.
    let before = arguments.take_while(|word| word.to_str() != Some(unknown.as_str()));
    let parent = before.fold(command, |parent, word| parent.find_subcommand(word).unwrap_or(parent));
    let names = parent.get_subcommands().map(|known| known.get_name().to_owned());
    let Some(meant) = nearest(unknown, names) else {
        return;
    };
    let mut alike = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(alike)) => alike.clone(),
        _ => Vec::new(),
    };
    if !alike.contains(&meant) {
        alike.push(meant);
    }
    error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(alike));
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
        let mut command = with_hints(P::command());
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, &name, &mut script);
        if self.shell == Shell::Bash {
            script = with_one_name(&name, &script);
        }
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

/// Where an option wants a name or a number, no shell offers files.
fn with_hints(command: Command) -> Command {
    let is_open = |argument: &Arg| {
        let mut names = argument.get_value_names().unwrap_or_default().iter();
        argument.get_action().takes_values()
            && argument.get_possible_values().is_empty()
            && argument.get_value_hint() == ValueHint::Unknown
            && !names.any(|name| PATHS.contains(&name.as_str()))
    };
    let hinted = command.mut_args(|argument| {
        if is_open(&argument) {
            argument.value_hint(ValueHint::Other)
        } else {
            argument
        }
    });
    hinted.mut_subcommands(with_hints)
}

/// What every program promises of each of its commands: examples of itself, and a variable for each option. What is not so, in sentences;
/// for their tests.
#[must_use]
pub fn broken_promises<P: CommandFactory>() -> Vec<String> {
    fn check(command: &Command, path: &str, broken: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name()).trim().to_owned();
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !(help.contains("Example") && help.contains(&path)) {
            broken.push(format!("`{path} --help` has no example of it"));
        }
        for argument in command.get_arguments() {
            let Some(option) = argument.get_long() else { continue };
            let variable = argument.get_env().and_then(|name| name.to_str());
            let is_plain = ["help", "version"].contains(&option);
            if !is_plain && !variable.is_some_and(|name| name.starts_with("WAVEKEEP_")) {
                broken.push(format!("--{option} of `{path}` has no variable WAVEKEEP_…"));
            }
        }
        for inner in command.get_subcommands() {
            check(inner, &path, broken);
        }
    }
    let mut broken = Vec::new();
    check(&P::command(), "", &mut broken);
    broken
}

/// clap_complete 4.6 calls the commands of a program with a hyphen by two names: it goes on from `a__b`, and knows what comes
/// next by `a__subcmd__b`. Here both are the first.
fn with_one_name(name: &str, script: &[u8]) -> Vec<u8> {
    let (other, one) = (name.replace('-', "__subcmd__"), name.replace('-', "__"));
    String::from_utf8_lossy(script).replace(&other, &one).into_bytes()
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

#[cfg(test)]
mod tests {
    use clap::{Subcommand, ValueEnum};

    use super::*;

    #[derive(Debug, Parser)]
    #[allow(dead_code, reason = "nobody asks what was parsed")]
    #[command(name = "two-words")]
    struct Program {
        #[command(subcommand)]
        verb: Verb,
    }

    #[derive(Debug, Subcommand)]
    #[allow(dead_code, reason = "nobody asks what was parsed")]
    enum Verb {
        /// First
        Dev,
        /// Second
        Run {
            /// Any
            #[arg(long)]
            run_for: Option<String>,
        },
        /// Third
        #[command(subcommand)]
        DeadLetters(Inner),
    }

    #[derive(Debug, Subcommand)]
    enum Inner {
        /// First
        List,
        /// Second
        ShowAll,
    }

    fn script(shell: Shell) -> String {
        String::from_utf8(Completions { shell }.script::<Program>()).expect("text")
    }

    #[test]
    fn bash_knows_each_command_by_the_name_that_it_goes_on_from() {
        let script = script(Shell::Bash);
        let assigned = script
            .lines()
            .filter_map(|line| line.trim().strip_prefix("cmd=\"")?.strip_suffix('"'));
        let assigned: Vec<&str> = assigned.filter(|name| !name.is_empty()).collect();
        assert!(assigned.len() > 6, "{script}");
        for name in assigned {
            let case = format!("{name})");
            assert!(
                script.lines().any(|line| line.trim() == case),
                "{case} is missing in {script}"
            );
        }
        assert!(script.contains("two__words__subcmd__dead__subcmd__letters__subcmd__show__subcmd__all)"));
    }

    #[test]
    fn each_shell_has_all_commands_and_options() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for word in ["two-words", "dead-letters", "show-all", "run-for"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn the_nearest_subcommand_is_suggested() {
        let of = |words: &[&str]| {
            let line = std::iter::once(&"two-words").chain(words);
            let mut error = Program::try_parse_from(line).expect_err("there is none");
            suggest(&mut error, &Program::command(), words.iter().map(OsString::from));
            error.to_string()
        };
        for (words, meant) in [
            (&["dve"][..], "'dev'"),
            (&["rnu"], "'run'"),
            (&["dead-letter"], "'dead-letters'"),
            (&["dead-letters", "lsit"], "'list'"),
        ] {
            let said = of(words);
            assert!(
                said.contains(&format!("a similar subcommand exists: {meant}")),
                "{said}"
            );
        }
        let said = of(&["oscilloscope"]);
        assert!(
            said.contains("unrecognized subcommand 'oscilloscope'") && !said.contains("similar"),
            "{said}"
        );
        let said = of(&["dead-letters", "dev"]);
        assert!(!said.contains("similar"), "{said}");
    }
}
