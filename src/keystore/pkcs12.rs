//! PKCS#12 keystore, as `keytool -genseckey -storetype PKCS12` writes it.
//!
//! Owns: finding a secret key by its alias, and telling the library's errors apart. Does not own: the format, which is
//! the library's, as are its limits on rounds of hashing.

use anyhow::{Result, anyhow};
use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error;

use super::{Wiped, missing, same_alias};

/// The key of `alias`.
pub(super) fn key(file: &[u8], password: &str, alias: &str) -> Result<Wiped> {
    let archive = Pkcs12Archive::from_pkcs12(file, password).map_err(told)?;
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let found = archive.secrets.iter().find(|bag| same_alias(&name(&bag.friendly_name), alias));
    found.map(|bag| Wiped(bag.key.key().to_vec())).ok_or_else(|| {
        let mut secret: Vec<String> = archive.secrets.iter().map(|bag| name(&bag.friendly_name)).collect();
        secret.sort();
        let keys = archive.keys.iter().map(|bag| name(&bag.friendly_name));
        let others: Vec<String> = keys.chain(archive.certs.iter().map(|bag| name(&bag.friendly_name))).collect();
        missing(alias, &secret, &others)
    })
}

fn told(error: Error) -> anyhow::Error {
    match error {
        Error::MacError(_) => anyhow!("wrong password, or the file was changed"),
        Error::DerError(error) => anyhow!("the file is damaged: {error}"),
        Error::UnsupportedEncryptionScheme => {
            anyhow!("it is encrypted in a way that is not known; write it anew with keytool of Java 17")
        }
        other => anyhow!("the file is damaged, or not written by keytool: {other}"),
    }
}
