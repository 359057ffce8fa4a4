//! What `cassandra.yaml` says that matters here.
//!
//! Owns: its keys in their old and new spelling, and Cassandra's defaults for them. Does not own: the rest of that file,
//! which is not looked at.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use super::units;

/// Fewer segments than this in cdc_total_space, and Cassandra is at its limit with what it has not even synced.
const FEWEST_SEGMENTS: u64 = 4;

/// Where packages put the file: Debian's, Red Hat's.
const DEFAULT_FILES: [&str; 2] = ["/etc/cassandra/cassandra.yaml", "/etc/cassandra/conf/cassandra.yaml"];

/// What `cassandra.yaml` says; where it says nothing and Cassandra has a default, that one. All `None` without a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// The file.
    pub yaml: Option<PathBuf>,
    /// `cluster_name`.
    pub cluster_name: Option<String>,
    /// `cdc_raw_directory`, if it is set.
    pub cdc_raw: Option<PathBuf>,
    /// `commitlog_directory`, if it is set.
    pub commitlog: Option<PathBuf>,
    /// `cdc_enabled`.
    pub cdc_enabled: Option<bool>,
    /// `cdc_block_writes`; `None` also where it is not set: releases before 4.1 have no such setting, and block.
    pub cdc_block_writes: Option<bool>,
    /// `cdc_total_space` in bytes, if it is set: Cassandra's default is 4096 MiB, or an eighth of the volume if less.
    pub cdc_total_space: Option<u64>,
    /// `commitlog_segment_size` in bytes.
    pub commitlog_segment_size: Option<u64>,
    /// `commitlog_sync`: `periodic`, `batch` or `group`.
    pub commitlog_sync: Option<String>,
    /// `commitlog_sync_period` in milliseconds.
    pub commitlog_sync_period_ms: Option<u64>,
    /// Whether segments may be written with direct I/O: `commitlog_disk_access_mode` is `direct` or `auto`.
    pub direct_io: bool,
    /// Whether segments are compressed.
    pub compressed: bool,
    /// Whether segments are encrypted.
    pub encrypted: bool,
}

impl Node {
    /// The file to read: the one that is named, or the first of the usual ones that is there.
    pub(super) fn find(named: Option<&str>) -> Option<PathBuf> {
        let usual = || DEFAULT_FILES.iter().map(PathBuf::from).find(|path| path.is_file());
        named.map(PathBuf::from).or_else(usual)
    }

    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let mut node = Self::parse(&text).with_context(|| path.display().to_string())?;
        node.yaml = Some(path.to_owned());
        Ok(node)
    }

    /// How much Cassandra lets lie in `cdc_raw`, on a volume of so many bytes. Without the file that is not known.
    pub fn cdc_limit(&self, volume: u64) -> Option<u64> {
        self.yaml.as_ref()?;
        Some(self.cdc_total_space.unwrap_or_else(|| (4096 << 20).min(volume / 8)))
    }

    /// Bytes that Cassandra wants to be left of that limit for the next segment: its size before it is compressed.
    pub fn segment_size(&self) -> u64 {
        self.commitlog_segment_size.unwrap_or(32 << 20)
    }

    /// How many segments such a limit holds, if those are too few.
    pub fn too_few_segments(&self, limit: u64) -> Option<u64> {
        let segments = limit.checked_div(self.segment_size())?;
        (segments < FEWEST_SEGMENTS).then_some(segments)
    }

    fn parse(text: &str) -> Result<Self> {
        // Cassandra's own reader takes the last of equal keys.
        let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
        let yaml: Yaml = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            // Only what is wrong and where: its picture of the place would show other lines of the file.
            anyhow!("{}", error.to_string().lines().next().unwrap_or_default().to_owned())
        })?;
        yaml.node()
    }
}

/// The keys, in all spellings. Quantities are text: some releases write a number, others a number with a unit.
#[derive(Deserialize)]
struct Yaml {
    cluster_name: Option<String>,
    cdc_enabled: Option<bool>,
    cdc_block_writes: Option<bool>,
    cdc_raw_directory: Option<String>,
    commitlog_directory: Option<String>,
    cdc_total_space: Option<String>,
    cdc_total_space_in_mb: Option<String>,
    commitlog_segment_size: Option<String>,
    commitlog_segment_size_in_mb: Option<String>,
    commitlog_sync: Option<String>,
    commitlog_sync_period: Option<String>,
    commitlog_sync_period_in_ms: Option<String>,
    commitlog_disk_access_mode: Option<String>,
    commitlog_compression: Option<serde::de::IgnoredAny>,
    transparent_data_encryption_options: Option<Encryption>,
}

#[derive(Deserialize)]
struct Encryption {
    enabled: Option<bool>,
}

impl Yaml {
    fn node(self) -> Result<Node> {
        let space = size("cdc_total_space", self.cdc_total_space, self.cdc_total_space_in_mb)?;
        let segment = size("commitlog_segment_size", self.commitlog_segment_size, self.commitlog_segment_size_in_mb)?;
        let period = period(self.commitlog_sync_period, self.commitlog_sync_period_in_ms)?;
        let mode = self.commitlog_disk_access_mode.unwrap_or_default().to_ascii_lowercase();
        Ok(Node {
            yaml: None,
            cluster_name: Some(self.cluster_name.unwrap_or_else(|| "Test Cluster".to_owned())),
            cdc_raw: self.cdc_raw_directory.map(PathBuf::from),
            commitlog: self.commitlog_directory.map(PathBuf::from),
            cdc_enabled: Some(self.cdc_enabled.unwrap_or(false)),
            cdc_block_writes: self.cdc_block_writes,
            // 0 is how some files write "the default".
            cdc_total_space: space.filter(|space| *space > 0),
            commitlog_segment_size: Some(segment.unwrap_or(32 << 20)),
            commitlog_sync: Some(self.commitlog_sync.unwrap_or_else(|| "periodic".to_owned())),
            commitlog_sync_period_ms: Some(period.unwrap_or(10_000)),
            direct_io: matches!(mode.as_str(), "direct" | "auto"),
            compressed: self.commitlog_compression.is_some(),
            encrypted: self.transparent_data_encryption_options.and_then(|options| options.enabled).unwrap_or(false),
        })
    }
}

/// A size in bytes, from `key: 32MiB` or the older `key_in_mb: 32`.
fn size(key: &str, new: Option<String>, in_mb: Option<String>) -> Result<Option<u64>> {
    let number = |text: &str| text.trim().parse::<u64>().ok()?.checked_mul(1 << 20);
    let read = match (new, in_mb) {
        // A bare number counts mebibytes under the new name too.
        (Some(text), _) => number(&text).or_else(|| units::bytes(&text).ok()).ok_or((key.to_owned(), text)),
        (None, Some(text)) => number(&text).ok_or((format!("{key}_in_mb"), text)),
        (None, None) => return Ok(None),
    };
    read.map(Some).map_err(|(key, text)| anyhow!("{key}: {text}: this is no size"))
}

/// A time in milliseconds, from `10000ms`, `10s`, or the older number.
fn period(new: Option<String>, in_ms: Option<String>) -> Result<Option<u64>> {
    let Some(text) = new.or(in_ms) else { return Ok(None) };
    let trimmed = text.trim();
    let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = trimmed.split_at(digits);
    let factor = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(period) if factor > 0 => Ok(Some(period)),
        _ => Err(anyhow!("commitlog_sync_period: {text}: this is no time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_spelling_mean_the_same() {
        let old = "cluster_name: 'Test Cluster'\ncdc_enabled: true\ncdc_total_space_in_mb: 4096\n\
                   commitlog_segment_size_in_mb: 32\ncommitlog_sync: periodic\ncommitlog_sync_period_in_ms: 10000\n";
        let new = "cluster_name: \"Test Cluster\"\ncdc_enabled: yes\ncdc_total_space: 4096MiB\n\
                   commitlog_segment_size: 32MiB\ncommitlog_sync: periodic\ncommitlog_sync_period: 10000ms\n";
        let node = Node::parse(old).unwrap();
        assert_eq!(node, Node::parse(new).unwrap());
        assert_eq!(node.cdc_total_space, Some(4 << 30));
        assert_eq!(node.commitlog_segment_size, Some(32 << 20));
        assert_eq!(node.commitlog_sync_period_ms, Some(10_000));
        assert_eq!(node.cdc_enabled, Some(true));
        assert_eq!(Node::parse("commitlog_sync_period: 10s").unwrap().commitlog_sync_period_ms, Some(10_000));
    }

    #[test]
    fn other_keys_of_any_form_are_passed_over() {
        let text = "# a comment\n\nnum_tokens: 16\ninitial_token:\nhinted_handoff_throttle: ~\npermissions_validity: 2000ms\n\
                    memtable:\n  configurations:\n    skiplist:\n      class_name: SkipListMemtable\n    default:\n      \
                    inherits: skiplist\nlisten_address: localhost\nlisten_address: 127.0.0.1\n\
                    seed_provider:\n  - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n    \
                    parameters:\n      - seeds: \"127.0.0.1:7000\"\ndata_file_directories:\n    - /var/lib/cassandra/data\n\
                    commitlog_compression:\n    - class_name: LZ4Compressor\n      parameters:\n         -\n\
                    transparent_data_encryption_options:\n    enabled: true\n    chunk_length_kb: 64\n    \
                    cipher: AES/CBC/PKCS5Padding\n    key_provider:\n      - class_name: \
                    org.apache.cassandra.security.JKSKeyProvider\ncdc_block_writes: false\n\
                    cdc_raw_directory: /data/cdc_raw\ncommitlog_disk_access_mode: direct\n";
        // The files that come with Cassandra are long, and most of them is comments.
        let text = format!("{}{text}", "# what this is about, in a line as long as such lines are\n".repeat(3000));
        let node = Node::parse(&text).unwrap();
        assert!(node.compressed && node.encrypted && node.direct_io);
        assert_eq!(node.cdc_block_writes, Some(false));
        assert_eq!(node.cdc_raw, Some("/data/cdc_raw".into()));
        assert_eq!((node.cdc_enabled, node.cdc_total_space), (Some(false), None));
    }

    #[test]
    fn a_limit_has_cassandras_default_and_holds_so_many_segments() {
        let node = |text| Node { yaml: Some("y".into()), ..Node::parse(text).unwrap() };
        assert_eq!(Node::default().cdc_limit(1 << 40), None);
        assert_eq!(node("cdc_enabled: true").cdc_limit(1 << 40), Some(4 << 30));
        assert_eq!(node("cdc_total_space: 0MiB").cdc_limit(8 << 30), Some(1 << 30));
        let node = node("cdc_total_space: 96MiB");
        assert_eq!(node.cdc_limit(1 << 40), Some(96 << 20));
        assert_eq!((node.too_few_segments(96 << 20), node.too_few_segments(128 << 20)), (Some(3), None));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let wrong = |text: &str| format!("{:#}", Node::parse(text).unwrap_err());
        assert!(wrong("cdc_total_space: much").contains("cdc_total_space: much"));
        assert!(wrong("commitlog_sync_period: 10 fortnights").contains("fortnights"));
        assert!(wrong("cdc_enabled: [").contains("line"));
        assert!(!Node::parse("commitlog_compression:\n").unwrap().compressed);
    }
}
