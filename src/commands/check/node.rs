//! What `cassandra.yaml` means for us.
//!
//! Owns: settings of the node that lose changes, or don't go with ours. Does not own: reading them (`config`).

use super::Report;
use crate::config::{Config, OnDone, ReadTo};

const YAML: &str = "cassandra.yaml";

/// Fewer segments than this in cdc_total_space, and Cassandra deletes ones that it has not even synced.
const FEWEST_SEGMENTS: u64 = 4;

pub(super) fn look(config: &Config, report: &mut Report) {
    let (cassandra, node) = (&config.cassandra, &config.cassandra.node);
    let Some(yaml) = &node.yaml else {
        let fix = "set cassandra.yaml, so that the node's limits and modes are known and can be looked at";
        report.warn(YAML, "not found at its usual places", fix);
        return;
    };
    let before = report.0.len();
    if node.cdc_enabled == Some(false) {
        report.fail(
            YAML,
            "cdc_enabled is false: Cassandra links no segments",
            "set cdc_enabled: true and restart the node",
        );
    }
    limits(config, report);
    if node.encrypted && cassandra.keys.keystore.is_none() && cassandra.keys.key_file.is_none() {
        let fix = "set cassandra.keystore and cassandra.keystore_password_file, or cassandra.key_file";
        report.fail(YAML, "commit logs are encrypted, and no key is configured", fix);
    }
    let early = cassandra.read_to != ReadTo::Synced;
    if early && (node.compressed || node.encrypted || node.direct_io) {
        let found = "cassandra.read_to is ahead of the sync, but segments are compressed, encrypted or direct: nothing is \
                     in them before it";
        report.warn(YAML, found, "set cassandra.read_to = \"synced\"; a shorter commitlog_sync_period is what helps");
    } else if early {
        let fix = "set cassandra.read_to = \"synced\" unless latency matters more";
        report.warn(
            YAML,
            "cassandra.read_to is ahead of the sync: a crash of the machine takes back what was published",
            fix,
        );
    }
    if let OnDone::Move(directory) = &cassandra.on_done
        && directory.starts_with(&cassandra.cdc_raw)
    {
        let found = format!("{} is inside cdc_raw: what is moved there still counts", directory.display());
        report.fail(YAML, found, "set cassandra.on_done to a directory beside cdc_raw");
    }
    if report.0.len() == before {
        report.ok(YAML, yaml.display().to_string());
    }
}

fn limits(config: &Config, report: &mut Report) {
    let node = &config.cassandra.node;
    let segment = node.commitlog_segment_size.unwrap_or(32 << 20);
    if let Some(space) = node.cdc_total_space
        && space < segment.saturating_mul(FEWEST_SEGMENTS)
    {
        let found = format!(
            "cdc_total_space holds {} segments, and one of them is being written",
            space.checked_div(segment).unwrap_or_default()
        );
        report.fail(YAML, found, "raise cdc_total_space to many times commitlog_segment_size: hours of writes");
    }
    if node.cdc_block_writes == Some(false) && !config.spool.enabled {
        let found = "cdc_block_writes is false: at the limit Cassandra deletes segments, published or not";
        report.fail(YAML, found, "set spool.enabled = \"auto\" or true");
    }
}
