//! The keys of encrypted segments, as the command line or the configuration names them.
//!
//! Owns: which source counts, and the key for one segment. Does not own: reading key stores (`keystore`).

use std::fs;
use std::path::PathBuf;

use cassandra_commitlog::{Codec, Descriptor, Key};

use crate::cli::KeyStoreArgs;
use crate::exit::{Exit, Failure};
use crate::keystore;

/// The keys of encrypted segments: from a raw key file, or from a key store under the alias that a segment names.
pub enum KeySource {
    /// There are none.
    None,
    /// This one, for all segments.
    Raw(Key),
    /// A key store.
    Store {
        /// Its file.
        path: PathBuf,
        /// Its password.
        password: String,
    },
}

impl KeySource {
    /// What these arguments name.
    ///
    /// # Errors
    /// A file that can't be read, or holds no key.
    pub fn of(arguments: &KeyStoreArgs) -> Result<Self, Failure> {
        if let Some(path) = &arguments.key_file {
            let key = keystore::load_raw(path).map_err(Failure::config)?;
            return Ok(Self::Raw(aes_key(&key)?));
        }
        let (Some(path), Some(password_file)) = (&arguments.keystore, &arguments.keystore_password_file) else {
            return Ok(Self::None);
        };
        let password =
            fs::read_to_string(password_file).map_err(|error| Failure::io(password_file.display(), error))?;
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        Ok(Self::Store { path: path.clone(), password })
    }

    /// The key for this segment; none for one that is not encrypted, or whose descriptor can't be read.
    ///
    /// # Errors
    /// There is no key for it.
    pub fn key_for(&self, file: &[u8]) -> Result<Option<Key>, Failure> {
        let Ok(Descriptor { codec: Codec::Encrypted(encryption), .. }) = Descriptor::parse(file) else {
            return Ok(None);
        };
        match self {
            Self::None => {
                let text = format!(
                    "the segment is encrypted with key {:?}: give --keystore and --keystore-password-file, or --key-file",
                    encryption.key_alias
                );
                Err(Failure::text(Exit::Config, text))
            }
            Self::Raw(key) => Ok(Some(key.clone())),
            Self::Store { path, password } => {
                let key = keystore::load(path, password, &encryption.key_alias).map_err(Failure::config)?;
                Ok(Some(aes_key(&key)?))
            }
        }
    }
}

fn aes_key(key: &keystore::SecretKey) -> Result<Key, Failure> {
    Key::new(key.bytes()).ok_or_else(|| Failure::text(Exit::Bug, "a key of no AES length was let through"))
}
