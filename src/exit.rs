//! How a command ends.
//!
//! Owns: exit codes, and the error that carries one. Does not own: the wording of errors.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::catalog::cql::{Refused, Unusable};

/// Exit codes, as scripts and service managers see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Fine = 0,
    /// A check found something, or the command could not do what it was asked.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Bytes of a segment are damaged, or an entry could not be decoded.
    Corrupt = 65,
    /// Kafka or Cassandra can't be reached.
    Unreachable = 69,
    /// A bug of this program.
    Bug = 70,
    /// Reading or writing failed.
    Io = 74,
    /// A permission is missing.
    Permission = 77,
    /// The configuration, or a file it names, is wrong.
    Config = 78,
    /// Interrupted from the terminal.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that ends the command, and how.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    error: anyhow::Error,
}

/// What a command gives back.
pub type Ending = Result<Exit, Failure>;

impl Failure {
    /// This error, ending so.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// This text, ending so.
    pub fn text(exit: Exit, text: impl fmt::Display) -> Self {
        Self { exit, error: anyhow::anyhow!("{text}") }
    }

    /// Whether somebody who read the output has seen enough: `… | head` is no failure.
    pub fn is_broken_pipe(&self) -> bool {
        let io_error =
            |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<io::Error>().map(io::Error::kind);
        self.error.chain().any(|cause| io_error(cause) == Some(io::ErrorKind::BrokenPipe))
    }

    /// What is wrong with a file that the command line or the configuration names; a missing permission has an exit code
    /// of its own.
    pub fn config(error: anyhow::Error) -> Self {
        let cause = error.root_cause().downcast_ref::<io::Error>();
        let denied = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied);
        Self { exit: if denied { Exit::Permission } else { Exit::Config }, error }
    }

    /// Why Cassandra was not asked: it can't be reached, it and we refuse each other, or a file that this takes is wrong.
    pub fn cassandra(error: anyhow::Error) -> Self {
        if error.downcast_ref::<Unusable>().is_some() {
            return Self::config(error);
        }
        let exit = if error.downcast_ref::<Refused>().is_some() { Exit::Permission } else { Exit::Unreachable };
        Self { exit, error }
    }

    /// An I/O error with what was being done; a missing permission has an exit code of its own.
    pub fn io(context: impl fmt::Display, error: io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::PermissionDenied { Exit::Permission } else { Exit::Io };
        Self { exit, error: anyhow::Error::from(error).context(context.to_string()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}
