//! What `cassandra.yaml` means for us.
//!
//! Owns: settings of the node that lose changes, or don't go with ours. Does not own: reading them (`config`).

use std::path::Path;

use super::Report;
use crate::config::{Config, OnDone, ReadTo};
use crate::folder;

const YAML: &str = "cassandra.yaml";

pub(super) fn look(config: &Config, report: &mut Report) {
    let Some(yaml) = &config.cassandra.node.yaml else {
        let fix = "set cassandra.yaml, so that the node's limits and modes are known and can be looked at";
        report.warn(YAML, "not found at its usual places", fix);
        return;
    };
    let before = report.0.len();
    if config.cassandra.node.cdc_enabled == Some(false) {
        let fix = format!("set cdc_enabled: true in {}, and restart the node", yaml.display());
        report.fail(YAML, "cdc_enabled is false: Cassandra links no segments", fix);
    }
    directories(config, report);
    limits(config, report);
    encryption(config, report);
    early(config, report);
    if let OnDone::Move(directory) = &config.cassandra.on_done
        && directory.starts_with(&config.cassandra.cdc_raw)
    {
        let found = format!("{} is inside cdc_raw: what is moved there still counts", directory.display());
        report.fail(YAML, found, "set cassandra.on_done to a directory beside cdc_raw");
    }
    if report.0.len() == before {
        report.ok(YAML, yaml.display().to_string());
    }
}

/// What was typed counts before the node's own word, and may be another node's.
fn directories(config: &Config, report: &mut Report) {
    let (cassandra, node) = (&config.cassandra, &config.cassandra.node);
    let pairs = [
        ("cassandra.cdc_raw", Some(&cassandra.cdc_raw), "cdc_raw_directory", &node.cdc_raw),
        ("cassandra.commitlog", cassandra.commitlog.as_ref(), "commitlog_directory", &node.commitlog),
    ];
    for (key, ours, its, theirs) in pairs {
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && !is_same(ours, theirs)
        {
            let found = format!("{key} is {}, but {its} is {}", ours.display(), theirs.display());
            report.fail(YAML, found, format!("drop {key} from the configuration, or name the right cassandra.yaml"));
        }
    }
    if let (Some(ours), Some(theirs)) = (&cassandra.cluster, &node.cluster_name)
        && ours != theirs
    {
        let found = format!("cassandra.cluster is {ours:?}, but cluster_name is {theirs:?}");
        report.fail(YAML, found, "drop cassandra.cluster from the configuration, or name the right cassandra.yaml");
    }
}

/// Whether two paths lead to one place, as far as they can be followed.
fn is_same(one: &Path, other: &Path) -> bool {
    let followed = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    one == other || followed(one) == followed(other)
}

fn limits(config: &Config, report: &mut Report) {
    let node = &config.cassandra.node;
    let limit = node.cdc_limit(folder::volume_bytes(&config.cassandra.cdc_raw).unwrap_or(u64::MAX));
    if let Some(segments) = limit.and_then(|limit| node.too_few_segments(limit)) {
        let found = format!("cdc_total_space holds {segments} segments, and one of them is being written");
        report.fail(YAML, found, "raise cdc_total_space to many times commitlog_segment_size: hours of writes");
    }
    if node.cdc_block_writes == Some(false) && !config.spool.enabled {
        let found = "cdc_block_writes is false: at the limit Cassandra deletes segments, published or not";
        report.fail(YAML, found, "set spool.enabled = \"auto\" or true");
    }
}

fn encryption(config: &Config, report: &mut Report) {
    let (node, keys) = (&config.cassandra.node, &config.cassandra.keys);
    if node.encrypted && keys.keystore.is_none() && keys.key_file.is_none() {
        let fix = "set cassandra.keystore and cassandra.keystore_password_file, or cassandra.key_file";
        report.fail(YAML, "commit logs are encrypted, and no key is configured", fix);
    }
}

/// Reading ahead of the sync.
fn early(config: &Config, report: &mut Report) {
    let node = &config.cassandra.node;
    if config.cassandra.read_to == ReadTo::Synced {
        return;
    }
    if node.compressed || node.encrypted || node.direct_io {
        let found = "cassandra.read_to is ahead of the sync, but segments are compressed, encrypted or direct: nothing is \
                     in them before it";
        report.warn(YAML, found, "set cassandra.read_to = \"synced\"; a shorter commitlog_sync_period is what helps");
    } else {
        let found = "cassandra.read_to is ahead of the sync: a crash of the machine takes back what was published";
        report.warn(YAML, found, "set cassandra.read_to = \"synced\" unless latency matters more");
    }
}
