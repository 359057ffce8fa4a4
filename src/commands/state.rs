//! `state`: not built yet.

use crate::cli::StateCommand;
use crate::exit::{Ending, Exit, Failure};

/// Runs the command.
pub(super) fn run(_command: &StateCommand) -> Ending {
    Err(Failure::text(Exit::Bug, "not built yet"))
}
