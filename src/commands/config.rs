//! `config`: not built yet.

use crate::cli::ConfigCommand;
use crate::exit::{Ending, Exit, Failure};

/// Runs the command.
pub(super) fn run(_command: &ConfigCommand) -> Ending {
    Err(Failure::text(Exit::Bug, "not built yet"))
}
