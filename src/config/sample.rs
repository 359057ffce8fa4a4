//! The sample that `config init` writes.
//!
//! Owns: its layout. Does not own: the keys and what is said of them (`keys`).

use std::fmt::Write as _;

use super::keys::{KEYS, SECTIONS};

/// The key that has no default.
const NEEDED: &str = "kafka.bootstrap";

/// A file with every key and what it is for. All are comments but the one that must be set.
pub fn sample() -> String {
    let mut text = String::from(
        "# Configuration of cassandra-cdc. `cassandra-cdc check` says whether it works here.\n\
         # --set section.key=value and CASSANDRA_CDC_<SECTION>_<KEY> go before this file, this file before cassandra.yaml.\n",
    );
    for (section, about) in SECTIONS {
        // Writing to a string can't fail.
        let _ = write!(text, "\n# {about}\n[{section}]\n");
        for key in KEYS.iter().filter(|key| key.section() == section) {
            for line in key.help.lines() {
                let _ = writeln!(text, "# {line}");
            }
            let comment = if key.name == NEEDED { "" } else { "#" };
            let _ = writeln!(text, "{comment}{} = {}", key.short(), key.sample);
        }
        if section == "kafka" {
            text.push_str(
                "\n# Any librdkafka property that breaks no promise. Passwords belong in kafka.properties_file.\n\
                 [kafka.librdkafka]\n#\"linger.ms\" = \"5\"\n#\"security.protocol\" = \"ssl\"\n",
            );
        }
    }
    text
}
