//! The binary: reads the command line and ends with the command's exit code.

use std::process::ExitCode;

use cassandra_cdc::cli::Cli;
use cassandra_cdc::commands;
use cassandra_cdc::exit::Exit;
use clap::Parser;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("cassandra-cdc: a bug of this program, please report it: {panic}");
        std::process::exit(Exit::Bug as i32);
    }));
    commands::start_log();
    match commands::run(Cli::parse()) {
        Ok(exit) => exit.into(),
        Err(failure) if failure.is_broken_pipe() => Exit::Fine.into(),
        Err(failure) => {
            eprintln!("cassandra-cdc: {failure}");
            failure.exit.into()
        }
    }
}
