//! The binary: reads the command line and ends with the command's exit code.

use std::process::ExitCode;

use cassandra_cdc::cli::{Cli, Command};
use cassandra_cdc::commands;
use cassandra_cdc::exit::Exit;
use clap::Parser;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("cassandra-cdc: a bug of this program, please report it: {panic}");
        std::process::exit(Exit::Bug as i32);
    }));
    let cli = Cli::parse();
    // The service logs as its configuration says.
    if !matches!(cli.command, Command::Run(_)) {
        commands::start_log();
    }
    match commands::run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) if failure.is_broken_pipe() => Exit::Fine.into(),
        Err(failure) => {
            eprintln!("cassandra-cdc: {failure}");
            failure.exit.into()
        }
    }
}
