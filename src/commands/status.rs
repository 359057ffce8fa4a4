//! `status`: not built yet.

use crate::cli::{ConfigArgs, Output};
use crate::exit::{Ending, Exit, Failure};

/// Runs the command.
pub(super) fn run(_config: &ConfigArgs, _output: Output) -> Ending {
    Err(Failure::text(Exit::Bug, "not built yet"))
}
