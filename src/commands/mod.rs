//! The commands, one file each.
//!
//! Owns: the way from a parsed command line to a command. Does not own: what commands are made of.

use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::sync::Arc;

use cassandra_commitlog::Schema;
use clap::CommandFactory;
use tracing_subscriber::EnvFilter;

use crate::catalog;
use crate::cli::{Cli, Command};
use crate::exit::{Ending, Exit, Failure};

pub mod check;
pub mod config;
mod configured;
pub mod demo;
pub mod inspect;
pub mod quarantine;
pub mod replay;
pub mod run;
pub mod schema;
pub mod state;
pub mod status;

/// Runs a command.
///
/// # Errors
/// Whatever ended it, with the exit code.
pub fn run(cli: Cli) -> Ending {
    match cli.command {
        Command::Demo => demo::run(),
        Command::Run(arguments) => run::run(&arguments),
        Command::Check { config, output } => check::run(&config, output),
        Command::Status { config, output } => status::run(&config, output),
        Command::Config(command) => config::run(&command),
        Command::Quarantine(command) => quarantine::run(&command),
        Command::State(command) => state::run(&command),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Schema(command) => schema::run(&command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "cassandra-cdc", &mut script);
            print(&script)
        }
        Command::Man => {
            let mut command = Cli::command();
            command.build();
            let mut pages = Vec::new();
            man_pages(&command, &mut pages);
            print(&pages)
        }
    }
}

/// The page of a command, and behind it those of its own commands.
fn man_pages(command: &clap::Command, pages: &mut Vec<u8>) {
    let page = clap_mangen::Man::new(command.clone()).source(concat!("cassandra-cdc ", env!("CARGO_PKG_VERSION")));
    // Writing to a vector can't fail.
    let _ = page.render(pages);
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        man_pages(subcommand, pages);
    }
}

/// Prints a whole answer.
fn print(text: &[u8]) -> Ending {
    let mut out = std::io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush()).map_err(|error| Failure::io("write to stdout", error))?;
    Ok(Exit::Fine)
}

/// Log lines go to stderr: warnings and worse, or what `RUST_LOG` asks for. What the CQL driver complains of comes in
/// our own error too.
pub fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,scylla=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        .init();
}

/// The schema in a file. Definitions that can't be used are named on stderr; all others count.
fn schema_of(path: &Path) -> Result<Arc<Schema>, Failure> {
    let rows = catalog::file::read(path).map_err(Failure::config)?;
    let (schema, problems) = rows.resolve();
    for problem in problems {
        eprintln!("cassandra-cdc: {}: {problem}", path.display());
    }
    Ok(Arc::new(schema))
}
