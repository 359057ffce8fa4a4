//! `quarantine`: not built yet.

use crate::cli::QuarantineCommand;
use crate::exit::{Ending, Exit, Failure};

/// Runs the command.
pub(super) fn run(_command: &QuarantineCommand) -> Ending {
    Err(Failure::text(Exit::Bug, "not built yet"))
}
