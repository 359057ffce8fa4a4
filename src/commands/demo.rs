//! `demo`.

use crate::exit::{Ending, Exit};

/// Runs the command.
pub(super) fn run() -> Ending {
    Ok(Exit::Fine)
}
