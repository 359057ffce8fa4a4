//! Files that the configuration names, and those that hold secrets.
//!
//! Owns: whether they can be read, and by whom else. Does not own: what is in them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Report;
use crate::config::keys::LIBRDKAFKA;
use crate::config::{Loaded, Origin};
use crate::kafka::is_secret;

const FILES: &str = "files";

pub(super) fn look(loaded: &Loaded, report: &mut Report) {
    let cassandra = &loaded.config.cassandra;
    let contact = cassandra.contact.as_ref();
    let login = contact.and_then(|contact| contact.login.as_ref()).map(|login| login.password_file.as_path());
    let tls = contact.and_then(|contact| contact.tls.as_ref());
    let client = tls.and_then(|tls| tls.identity.as_ref());
    let keys = &cassandra.keys;
    let named = [
        tls.map(|tls| tls.ca_file.as_path()),
        client.map(|client| client.certificate_file.as_path()),
        keys.keystore.as_deref(),
    ];
    let client_key = client.map(|client| client.key_file.as_path());
    let secret = [login, client_key, keys.keystore_password_file.as_deref(), keys.key_file.as_deref()];
    let mut secret: BTreeSet<&Path> = secret.into_iter().flatten().collect();
    for setting in &loaded.origins {
        if let Origin::File(path, _) = &setting.origin
            && setting.key.strip_prefix(LIBRDKAFKA).is_some_and(is_secret)
        {
            secret.insert(path);
        }
    }
    for path in named.into_iter().flatten().chain(secret.iter().copied()) {
        if let Err(error) = File::open(path) {
            let fix = "correct its name, or let the user who runs the agent read it";
            report.fail(FILES, format!("{}: {error}", path.display()), fix);
        }
    }
    for path in secret {
        if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0) {
            let fix = format!("chmod o= {}", path.display());
            report.warn(FILES, format!("{} holds a secret, and everybody can read it", path.display()), fix);
        }
    }
}
