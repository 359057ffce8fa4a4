//! A new configuration for a running agent.
//!
//! Owns: which of its values count at once, and which need a restart. Does not own: acting on them.

use super::keys::{self, LIBRDKAFKA};
use super::{Config, Loaded};

/// What becomes of a new configuration.
#[derive(Debug, Clone)]
pub struct Reload {
    /// The configuration to go on with: the old one, with what can be taken over of the new one.
    pub config: Config,
    /// Keys with new values that count now.
    pub applied: Vec<String>,
    /// Keys with new values that count after a restart.
    pub restart: Vec<String>,
}

impl Config {
    /// This configuration, with what a running agent takes over of a new one: log level, tables, credentials, the Kafka
    /// client's properties (they count when it is rebuilt), limits of the spool.
    pub fn reload(&self, new: &Self) -> Self {
        let mut config = self.clone();
        config.log.level.clone_from(&new.log.level);
        config.cassandra.tables.clone_from(&new.cassandra.tables);
        if let (Some(contact), Some(new)) = (&mut config.cassandra.contact, &new.cassandra.contact) {
            contact.login.clone_from(&new.login);
            contact.tls.clone_from(&new.tls);
        }
        config.kafka.settings.properties.clone_from(&new.kafka.settings.properties);
        config.kafka.properties_file.clone_from(&new.kafka.properties_file);
        config.kafka.typed_properties.clone_from(&new.kafka.typed_properties);
        config.spool.max_bytes = new.spool.max_bytes;
        config.spool.min_free = new.spool.min_free;
        config
    }
}

impl Loaded {
    /// What becomes of a new configuration: [`Config::reload`], and what differs.
    pub fn reload(&self, new: &Self) -> Reload {
        let value = |loaded: &Self, key: &str| {
            loaded.origins.iter().find(|setting| setting.key == key).map(|setting| setting.text().to_owned())
        };
        let mut names: Vec<&str> =
            self.origins.iter().chain(&new.origins).map(|setting| setting.key.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let changed = names.into_iter().filter(|key| value(self, key) != value(new, key)).map(ToOwned::to_owned);
        let is_live = |key: &String| key.starts_with(LIBRDKAFKA) || keys::find(key).is_some_and(|key| key.reload);
        let (applied, restart) = changed.partition(is_live);
        Reload { config: self.config.reload(&new.config), applied, restart }
    }
}
