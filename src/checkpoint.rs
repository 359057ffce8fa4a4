//! The state directory: two generations of the checkpoint, written so that a crash at any instruction leaves one whole.
//!
//! Owns: the lock of the directory, the two files, and which damaged ones are set aside. Does not own: the order of
//! write, fsync and rename (`durable_file`), what a checkpoint holds, which generation is next, what may be deleted
//! (`cassandra-progress`), when to save (the pump).
//!
//! Every name is used relative to the locked directory's own descriptor, so that a directory that is renamed or
//! replaced under the agent can't lead it to write into another one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use cassandra_progress::{
    Checkpoint, DecodeError, DurableWatermark, Generation, Generations, Identity, MAX_BYTES, Node, SaveError,
    StartError,
};
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::durable_file::{self, NewFile};
use crate::fault;

fn file_name(generation: Generation) -> &'static str {
    match generation {
        Generation::A => "checkpoint.a",
        Generation::B => "checkpoint.b",
    }
}

/// Why the state can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another agent has the directory.
    #[error("another agent uses the state directory {}", .0.display())]
    Locked(PathBuf),
    /// Others than its owner could read or change it.
    #[error("the state directory {} has mode {mode:04o}; it must be 0700: chmod 0700 {}", .path.display(), .path.display())]
    Mode {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Neither generation is whole. [`StateDir::set_aside`] keeps them and starts anew: everything present counts as
    /// unread, which repeats events and loses none.
    #[error(
        "no checkpoint in {} is whole ({cause}); `state reset` sets them aside and reads everything present again",
        .path.display()
    )]
    NoneWhole {
        /// The directory.
        path: PathBuf,
        /// What is wrong with the last of them.
        cause: DecodeError,
    },
    /// The checkpoint is another node's, or of another version of this program.
    #[error("the state in {} is not for this agent: {cause}; `state adopt` takes it over, `state reset` starts anew", .path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Whose it is, or which version wrote it.
        cause: StartError,
    },
    /// The file system refused.
    #[error("{action} {}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The locked state directory. The lock goes with it.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    directory: File,
}

/// The number of a generation and what it records, or why it can't be used.
pub type Decoded = Result<(u64, Checkpoint), DecodeError>;

/// What a state directory holds, read beside an agent that may be writing to it.
#[derive(Debug)]
pub struct Glance {
    /// Whether an agent holds the directory.
    pub held: bool,
    /// The generations that are there.
    pub generations: Vec<(Generation, Decoded)>,
}

impl Glance {
    /// Looks into a state directory and changes nothing.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn at(path: &Path) -> Result<Self, StateError> {
        let io = |action| move |source: io::Error| StateError::Io { action, path: path.to_path_buf(), source };
        let directory = File::open(path).map_err(io("open the state directory"))?;
        // The lock itself is the only sign that can't be stale. It is ours for an instant, if it is nobody's.
        let held = match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockShared) {
            Ok(()) => rustix::fs::flock(&directory, FlockOperation::Unlock).map(|()| false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error),
        };
        let held = held.map_err(|error| io("look at the lock of the state directory")(error.into()))?;
        let state = StateDir { path: path.to_path_buf(), directory };
        let mut generations = Vec::new();
        for generation in [Generation::A, Generation::B] {
            if let Some(bytes) = state.read(generation)? {
                generations.push((generation, Checkpoint::decode(&bytes)));
            }
        }
        Ok(Self { held, generations })
    }

    /// The newest whole checkpoint.
    pub fn newest(&self) -> Option<&Checkpoint> {
        let whole = self.generations.iter().filter_map(|(_, found)| found.as_ref().ok());
        whole.max_by_key(|(number, _)| *number).map(|(_, checkpoint)| checkpoint)
    }
}

/// What was found in a state directory, and the store for what comes.
#[derive(Debug)]
pub struct Loaded {
    /// The newest whole checkpoint; none on the very first start.
    pub checkpoint: Option<Checkpoint>,
    /// The generation that was damaged, if the other one stood in for it: worth an alarm.
    pub damaged: Option<(Generation, DecodeError)>,
    /// For the saves to come.
    pub store: CheckpointStore,
}

impl StateDir {
    /// Opens and locks the directory; makes it, with mode 0700, if it is missing.
    ///
    /// # Errors
    /// [`StateError::Locked`], [`StateError::Mode`] or [`StateError::Io`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let io = |action| move |source: io::Error| StateError::Io { action, path: path.to_path_buf(), source };
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io("make the state directory")(error));
            }
            _ => {}
        }
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .map(File::from)
            .map_err(|error| io("open the state directory")(error.into()))?;
        let mode = directory.metadata().map_err(io("look at the state directory"))?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(StateError::Mode { path: path.to_path_buf(), mode });
        }
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StateError::Locked(path.to_path_buf())),
            Err(error) => return Err(io("lock the state directory")(error.into())),
        }
        // Nobody else writes here while the lock is held.
        durable_file::sweep(&directory).map_err(io("remove what a crash left in"))?;
        Ok(Self { path: path.to_path_buf(), directory })
    }

    /// Loads the newest checkpoint that is whole and belongs to `node`.
    ///
    /// # Errors
    /// [`StateError::NoneWhole`] and [`StateError::NotOurs`] need somebody's decision; the directory stays as it is.
    pub fn load(self, node: &Node) -> Result<Loaded, (Self, StateError)> {
        let read = self.read(Generation::A).and_then(|a| Ok((a, self.read(Generation::B)?)));
        let (a, b) = match read {
            Ok(files) => files,
            Err(error) => return Err((self, error)),
        };
        match Generations::start(a.as_deref(), b.as_deref(), node) {
            Ok(start) => Ok(Loaded {
                checkpoint: start.checkpoint,
                damaged: start.damaged,
                store: CheckpointStore { state: self, generations: start.generations },
            }),
            Err(cause) => {
                let error = self.refused(cause);
                Err((self, error))
            }
        }
    }

    /// Makes the newest whole checkpoint this node's, whosever it is: both generations say so when it returns. Gives
    /// back whose it was; none where there is no checkpoint.
    ///
    /// # Errors
    /// No checkpoint is whole, or one is of another version of this program, or it can't be saved.
    pub fn adopt(self, node: &Node) -> Result<Option<Node>, StateError> {
        let (a, b) = (self.read(Generation::A)?, self.read(Generation::B)?);
        let start = Generations::adopt(a.as_deref(), b.as_deref()).map_err(|cause| self.refused(cause))?;
        let Some(mut checkpoint) = start.checkpoint else { return Ok(None) };
        let before = std::mem::replace(&mut checkpoint.node, node.clone());
        let mut store = CheckpointStore { state: self, generations: start.generations };
        // After a crash between the two the one that still names the other node stops every start but this one.
        for _ in 0..2 {
            store.save(&checkpoint).map_err(|error| match error {
                SaveError::Write(error) => error,
                error => store.state.io("save", file_name(Generation::A), io::Error::other(error.to_string())),
            })?;
        }
        Ok(Some(before))
    }

    fn refused(&self, cause: StartError) -> StateError {
        let path = self.path.clone();
        match cause {
            StartError::NoneWhole(cause) => StateError::NoneWhole { path, cause },
            cause => StateError::NotOurs { path, cause },
        }
    }

    /// Renames both generations to `checkpoint.a.<suffix>` and `checkpoint.b.<suffix>`, and starts without any.
    ///
    /// # Errors
    /// [`StateError::Io`] if one could not be renamed, or a name with that suffix exists.
    pub fn set_aside(self, suffix: &str) -> Result<CheckpointStore, StateError> {
        for generation in [Generation::A, Generation::B] {
            let name = file_name(generation);
            let aside = format!("{name}.{suffix}");
            fault::point("checkpoint.set-aside").map_err(|error| self.io("set aside", name, error))?;
            let renamed = rustix::fs::renameat_with(
                &self.directory,
                name,
                &self.directory,
                &aside,
                // Setting aside a second time must not destroy what the first one kept.
                rustix::fs::RenameFlags::NOREPLACE,
            );
            match renamed {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(self.io("set aside", name, error.into())),
            }
        }
        self.directory
            .sync_all()
            .map_err(|error| self.io("fsync the directory of", file_name(Generation::A), error))?;
        Ok(CheckpointStore { state: self, generations: Generations::new() })
    }

    fn read(&self, generation: Generation) -> Result<Option<Vec<u8>>, StateError> {
        let name = file_name(generation);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.io("open", name, error.into())),
        };
        // One byte over the limit is enough for the decoder to refuse a file that something else has filled.
        let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(|error| self.io("read", name, error))?;
        Ok(Some(bytes))
    }

    /// Returns only when the bytes and their name survive a power loss.
    fn write(&self, generation: Generation, bytes: &[u8]) -> Result<(), StateError> {
        let name = file_name(generation);
        let write = || {
            let mut file = NewFile::inside(self.directory.try_clone()?, name, "checkpoint")?;
            file.write_all(bytes)?;
            file.replace()
        };
        write().map_err(|error| self.io("write", name, error))
    }

    fn io(&self, action: &'static str, name: &str, source: io::Error) -> StateError {
        StateError::Io { action, path: self.path.join(name), source }
    }
}

/// Saves checkpoints, and says what may be deleted on the strength of them.
#[derive(Debug)]
pub struct CheckpointStore {
    state: StateDir,
    generations: Generations,
}

impl CheckpointStore {
    /// Saves into the older generation: temporary file, fsync, rename, fsync of the directory.
    ///
    /// # Errors
    /// After any failed write every later save is refused: stop acknowledging and exit.
    pub fn save(&mut self, checkpoint: &Checkpoint) -> Result<(), SaveError<StateError>> {
        let Self { state, generations } = self;
        generations.save(checkpoint, |generation, bytes| state.write(generation, bytes))
    }

    /// How far both saved generations hold a finished segment; `None` until two saves of this process do.
    pub fn durable(&self, identity: Identity) -> Option<DurableWatermark> {
        self.generations.durable(identity)
    }

    /// The state directory, for what else is kept there.
    pub fn path(&self) -> &Path {
        &self.state.path
    }
}

#[cfg(test)]
mod tests;
