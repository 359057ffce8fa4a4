//! The key of encrypted segments: whether it is the one that they were written with.
//!
//! Owns: trying it on a segment that is there. Does not own: reading it (`keys`, `keystore`).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use cassandra_commitlog::{Codec, Descriptor};

use super::{Report, disk};
use crate::config::Config;
use crate::keys::KeySource;

const KEY: &str = "key";

/// A descriptor has a few hundred bytes.
const HEAD: u64 = 64 << 10;

pub(super) fn look(config: &Config, report: &mut Report) {
    let cassandra = &config.cassandra;
    let source = match KeySource::of(&cassandra.keys) {
        Ok(source) => source,
        Err(failure) => {
            let fix = "correct cassandra.keystore, cassandra.keystore_password_file or cassandra.key_file";
            return report.fail(KEY, failure.to_string(), fix);
        }
    };
    let encrypted = disk::segments(&cassandra.cdc_raw).unwrap_or_default().into_iter().find_map(|path| {
        let head = head(&path)?;
        let Ok(Descriptor { codec: Codec::Encrypted(with), .. }) = Descriptor::parse(&head) else { return None };
        Some((path, head, with.key_alias))
    });
    match (source, encrypted) {
        // Where the node says that it encrypts, that is told already.
        (KeySource::None, Some(_)) if cassandra.node.encrypted => {}
        (KeySource::None, Some((path, _, alias))) => {
            let found = format!("{} is encrypted with key {alias:?}, and no key is configured", path.display());
            let fix = "set cassandra.keystore and cassandra.keystore_password_file, or cassandra.key_file";
            report.fail(KEY, found, fix);
        }
        (KeySource::None, None) => {}
        (source, Some((path, head, alias))) => match source.key_for(&head) {
            Ok(_) => report.ok(KEY, format!("{alias:?} is there")),
            Err(failure) => {
                let found = format!("{} needs it: {failure}", path.display());
                let fix = "set cassandra.keystore to the store of key_provider in cassandra.yaml, and put its password \
                           into the file of cassandra.keystore_password_file";
                report.fail(KEY, found, fix);
            }
        },
        (_, None) => report.ok(KEY, "configured; there is no encrypted segment yet to try it with"),
    }
}

fn head(path: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    Some(head)
}
