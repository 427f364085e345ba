//! `wavekeep-server migrate` and `workspace create|list`.

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;

use super::options::DatabaseOptions;
use crate::store::Workspace;
use crate::workspace;

const MIGRATE_EXAMPLES: &str = "\
Example, before the servers of a new version start:
  wavekeep-server migrate --database-url postgres://wavekeep@db/wavekeep";

const WORKSPACE_EXAMPLES: &str = "\
Examples:
  wavekeep-server workspace create team_7 --database-url postgres://wavekeep@db/wavekeep
  wavekeep-server workspace list --database-url postgres://wavekeep@db/wavekeep --json";

#[derive(Debug, Args)]
#[command(after_help = MIGRATE_EXAMPLES)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
#[command(after_help = WORKSPACE_EXAMPLES)]
pub(super) struct WorkspaceArgs {
    #[command(subcommand)]
    command: WorkspaceCommand,
}

#[derive(Debug, Subcommand)]
enum WorkspaceCommand {
    /// Create one: its schema, its tables, its ledger id
    #[command(after_help = WORKSPACE_EXAMPLES)]
    Create {
        /// Lower-case letters, digits and underscores, a letter first
        name: String,
        #[command(flatten)]
        database: DatabaseOptions,
        #[command(flatten)]
        output: Output,
    },
    /// List them
    #[command(after_help = WORKSPACE_EXAMPLES)]
    List {
        #[command(flatten)]
        database: DatabaseOptions,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
struct Output {
    /// One JSON object a line
    #[arg(long, env = "WAVEKEEP_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

impl Output {
    fn print(&self, workspaces: &[Workspace]) {
        for workspace in workspaces {
            let Workspace {
                name,
                schema,
                kind,
                ledger_id,
            } = workspace;
            if self.json {
                let ledger_id = ledger_id.to_string();
                let line = serde_json::json!({
                    "name": name, "schema": schema, "tables": kind.name(), "ledger_id": ledger_id,
                });
                println!("{line}");
            } else {
                println!("{name}  tables {}  ledger {ledger_id}", kind.name());
            }
        }
    }
}

pub(super) async fn migrate(args: MigrateArgs) -> anyhow::Result<()> {
    let workspaces = workspace::migrate(args.database.database_url.expose_secret()).await?;
    args.output.print(&workspaces);
    Ok(())
}

pub(super) async fn run(args: WorkspaceArgs) -> anyhow::Result<()> {
    match args.command {
        WorkspaceCommand::Create { name, database, output } => {
            let made = workspace::create(database.database_url.expose_secret(), &name).await?;
            output.print(&[made]);
        }
        WorkspaceCommand::List { database, output } => {
            output.print(&workspace::list(database.database_url.expose_secret()).await?);
        }
    }
    Ok(())
}
