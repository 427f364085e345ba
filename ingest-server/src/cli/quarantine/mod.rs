//! `wavekeep-server quarantine list|show|replay`.

mod list;
mod replay;
mod show;
mod table;

pub(super) use self::table::plain;

use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;

use super::options::DatabaseOptions;
use super::usage::UsageError;
use crate::store::quarantine::KeptFilter;
use crate::store::{Database, Workspace};
use crate::workspace::{self, FIRST_WORKSPACE};

const EXAMPLES: &str = "\
Examples, with WAVEKEEP_DATABASE_URL set:
  wavekeep-server quarantine list
  wavekeep-server quarantine list --device js220-001 --json
  wavekeep-server quarantine show 17 --output study
  wavekeep-server quarantine replay --all --dry-run
  wavekeep-server quarantine replay --stream 4b2f91c0";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct QuarantineArgs {
    #[command(subcommand)]
    command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
enum QuarantineCommand {
    /// List the chunks that readers see as gaps because of what is in them, the newest first
    #[command(after_help = EXAMPLES)]
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many
        #[arg(long, env = "WAVEKEEP_LIMIT", value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
        /// Only those before this id: the last one of the page before
        #[arg(long, env = "WAVEKEEP_BEFORE", value_name = "ID")]
        before: Option<i64>,
        #[command(flatten)]
        common: Common,
    },
    /// Show one: what it says of itself, what its columns begin with, and what is wrong
    #[command(after_help = EXAMPLES)]
    Show {
        /// As `list` prints it; or, with SEQ, a stream, of which the first digits are enough
        #[arg(value_name = "ID|STREAM")]
        id: String,
        /// Of the chunk in that stream
        seq: Option<u64>,
        /// Write each column there, as it was sent
        #[arg(long, env = "WAVEKEEP_OUTPUT", value_name = "DIR")]
        output: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Validate them again, with this version, and put in its place what passes now
    ///
    /// Each chunk in one transaction, beside servers at work. What does not pass stays, and the command ends with 1.
    #[command(after_help = EXAMPLES)]
    Replay {
        /// As `list` prints them
        #[arg(value_name = "ID")]
        ids: Vec<i64>,
        #[command(flatten)]
        which: Which,
        /// Of a chunk in that stream
        #[arg(long, env = "WAVEKEEP_SEQ", value_name = "N", requires = "stream")]
        seq: Option<u64>,
        /// All that there are
        #[arg(long, env = "WAVEKEEP_ALL", value_parser = BoolishValueParser::new())]
        all: bool,
        /// Only say what would become of them
        #[arg(long, env = "WAVEKEEP_DRY_RUN", value_parser = BoolishValueParser::new())]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// Only of this device
    #[arg(long, env = "WAVEKEEP_DEVICE", value_name = "NAME")]
    device: Option<String>,
    /// Only of this stream; the first digits are enough
    #[arg(long, env = "WAVEKEEP_STREAM", value_name = "ID", value_parser = parse_stream)]
    stream: Option<String>,
}

#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    database: DatabaseOptions,
    /// Where they are
    #[arg(long, env = "WAVEKEEP_WORKSPACE", value_name = "NAME", default_value = FIRST_WORKSPACE)]
    workspace: String,
    /// One JSON object a line
    #[arg(long, env = "WAVEKEEP_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

/// A workspace that is open.
struct Place {
    database: Database,
    workspace: Arc<Workspace>,
}

impl Common {
    async fn enter(&self) -> anyhow::Result<Place> {
        let url = self.database.database_url.expose_secret();
        let (database, workspace) = workspace::enter(url, &self.workspace).await?;
        Ok(Place { database, workspace })
    }
}

impl Which {
    fn filter(self) -> KeptFilter {
        KeptFilter {
            device: self.device,
            stream: self.stream,
            ..KeptFilter::default()
        }
    }
}

/// Hexadecimal digits, of which the first are enough.
pub(super) fn parse_stream(text: &str) -> Result<String, String> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_digits || !(4..=32).contains(&text.len()) {
        return Err(format!(
            "{text:?} is no stream: give 4 to 32 hexadecimal digits, as `list` prints them"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

/// One chunk, as a person names it.
fn one(id: &str, seq: Option<u64>) -> Result<KeptFilter, UsageError> {
    if seq.is_some() {
        let stream = Some(parse_stream(id).map_err(UsageError)?);
        return Ok(KeptFilter {
            stream,
            seq,
            ..KeptFilter::default()
        });
    }
    let wrong = |_| {
        UsageError(format!(
            "{id:?} is no id: give one that `list` prints, or a stream and a seq"
        ))
    };
    Ok(KeptFilter {
        id: Some(id.parse().map_err(wrong)?),
        ..KeptFilter::default()
    })
}

pub(super) async fn run(args: QuarantineArgs) -> anyhow::Result<()> {
    match args.command {
        QuarantineCommand::List {
            which,
            limit,
            before,
            common,
        } => {
            list::list(
                &common.enter().await?,
                &which.filter(),
                (before, limit.into()),
                common.json,
            )
            .await
        }
        QuarantineCommand::Show {
            id,
            seq,
            output,
            common,
        } => {
            let filter = one(&id, seq)?;
            show::show(&common.enter().await?, &filter, output.as_deref(), common.json).await
        }
        QuarantineCommand::Replay {
            ids,
            which,
            seq,
            all,
            dry_run,
            common,
        } => {
            let filter = KeptFilter { seq, ..which.filter() };
            let named = [!ids.is_empty(), filter != KeptFilter::default(), all];
            if named.iter().filter(|named| **named).count() != 1 {
                let which = "say which: ids as `list` prints them, --device or --stream, or --all";
                return Err(UsageError(which.into()).into());
            }
            let filters = if ids.is_empty() {
                vec![filter]
            } else {
                let of_id = |id| KeptFilter {
                    id: Some(id),
                    ..KeptFilter::default()
                };
                ids.into_iter().map(of_id).collect()
            };
            replay::replay(&common.enter().await?, (&filters, all), dry_run, common.json).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_named_by_its_id_or_by_stream_and_seq() {
        assert_eq!(one("17", None).expect("an id").id, Some(17));
        let filter = one("4B2F91c0", Some(3)).expect("a stream and a seq");
        assert_eq!(
            (filter.id, filter.stream.as_deref(), filter.seq),
            (None, Some("4b2f91c0"), Some(3))
        );
        for (id, seq) in [("4b2f91c0", None), ("", None), ("4b2", Some(3)), ("no stream", Some(3))] {
            assert!(one(id, seq).is_err(), "{id:?}");
        }
    }
}
