//! `wavekeep-server migrate` and `workspace create|set|list`.

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use secrecy::ExposeSecret;

use super::options::DatabaseOptions;
use crate::store::{Retention, Workspace};
use crate::workspace;

const MIGRATE_EXAMPLES: &str = "\
Example, before the servers of a new version start:
  wavekeep-server migrate --database-url postgres://wavekeep@db/wavekeep";

const WORKSPACE_EXAMPLES: &str = "\
Examples:
  wavekeep-server workspace create team_7 --database-url postgres://wavekeep@db/wavekeep
  wavekeep-server workspace create soak --retention 90d --database-url postgres://wavekeep@db/wavekeep
  wavekeep-server workspace set soak --retention none --database-url postgres://wavekeep@db/wavekeep
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
        /// Samples taken longer ago are dropped, whenever they were loaded: whole days, such as 90d, or none
        #[arg(long, env = "WAVEKEEP_RETENTION", value_name = "DAYS", default_value = "none")]
        retention: Retention,
        #[command(flatten)]
        database: DatabaseOptions,
        #[command(flatten)]
        output: Output,
    },
    /// Change how long one keeps what it stores; the servers carry it out within the hour
    #[command(after_help = WORKSPACE_EXAMPLES)]
    Set {
        /// Which
        name: String,
        /// Samples taken longer ago are dropped, whenever they were loaded: whole days, such as 90d, or none
        #[arg(long, env = "WAVEKEEP_RETENTION", value_name = "DAYS")]
        retention: Retention,
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
                retention,
            } = workspace;
            if self.json {
                let ledger_id = ledger_id.to_string();
                let line = serde_json::json!({
                    "name": name, "schema": schema, "tables": kind.name(), "ledger_id": ledger_id,
                    "retention_days": retention.days(),
                });
                println!("{line}");
            } else {
                println!(
                    "{name}  tables {}  retention {retention}  ledger {ledger_id}",
                    kind.name()
                );
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
        WorkspaceCommand::Create {
            name,
            retention,
            database,
            output,
        } => {
            let made = workspace::create_keeping(database.database_url.expose_secret(), &name, retention).await?;
            output.print(&[made]);
        }
        WorkspaceCommand::Set {
            name,
            retention,
            database,
            output,
        } => {
            let set = workspace::set_retention(database.database_url.expose_secret(), &name, retention).await?;
            output.print(&[set]);
        }
        WorkspaceCommand::List { database, output } => {
            output.print(&workspace::list(database.database_url.expose_secret()).await?);
        }
    }
    Ok(())
}
