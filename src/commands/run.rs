//! `run`: not built yet.

use crate::cli::Run;
use crate::exit::{Ending, Exit, Failure};

/// Runs the command.
pub(super) fn run(_arguments: &Run) -> Ending {
    Err(Failure::text(Exit::Bug, "not built yet"))
}
