//! The gauges that repeat the status, so that a graph and `/statusz` never disagree.
//!
//! Owns: their names, and how each follows from the status. Does not own: the status; what is counted (`metrics`).

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;

use super::health::Health;
use super::metrics::{Count, Reason, Register, Seconds};
use super::status::{HoldReason, Identity, Status};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabel {
    condition: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    part: String,
}

/// Prometheus servers give a label `cluster` of their own to what they scrape: this one has another name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabels {
    cluster_name: String,
    host_id: String,
    release: String,
}

/// What the gauges show.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) status: Status,
    pub(super) live: Health,
    pub(super) ready: Health,
    pub(super) config_valid: bool,
}

/// Written at every scrape.
#[derive(Debug)]
pub(super) struct Gauges {
    lag_bytes: Count,
    lag_segments: Count,
    lag_seconds: Seconds,
    oldest_age: Seconds,
    cdc_raw_bytes: Count,
    cdc_raw_limit: Count,
    time_to_full: Seconds,
    spool_bytes: Count,
    spool_limit: Count,
    segments: Family<StateLabel, Count>,
    hold_state: Family<Reason, Count>,
    broker_up: Count,
    checkpoint_age: Seconds,
    config_valid: Count,
    read_to_fallback: Count,
    problems: Count,
    damaged_gap_files: Count,
    live: Family<PartLabel, Count>,
    ready: Family<ConditionLabel, Count>,
    node: Family<NodeLabels, Count>,
}

impl Gauges {
    pub(super) fn new(all: &mut Register) -> Self {
        Self {
            lag_bytes: all.count("lag_bytes", "Readable bytes that are not acknowledged"),
            lag_segments: all.count("lag_segments", "Segments that are not acknowledged to their end"),
            lag_seconds: all.seconds("lag_seconds", "Age of the oldest readable byte that is not acknowledged"),
            oldest_age: all
                .seconds("oldest_unacked_segment_age_seconds", "Age of the oldest segment not acknowledged to its end"),
            cdc_raw_bytes: all.count("cdc_raw_bytes", "What the segments in cdc_raw hold"),
            cdc_raw_limit: all.count("cdc_raw_limit_bytes", "What Cassandra lets cdc_raw hold; 0 if unknown"),
            time_to_full: all.seconds(
                "cdc_raw_time_to_full_seconds",
                "Until cdc_raw is full, at the rate of the last ten minutes; infinite if never",
            ),
            spool_bytes: all.count("spool_bytes", "What nothing but the spool holds any more"),
            spool_limit: all.count("spool_limit_bytes", "What the spool may hold"),
            segments: all.add("segments", "Segments by state", Family::default()),
            hold_state: all.add("hold_state", "1 while reading is stopped for this reason", Family::default()),
            broker_up: all.count("kafka_broker_up", "1 while a broker is connected, as the client saw it last"),
            checkpoint_age: all.seconds("checkpoint_age_seconds", "Age of the newest checkpoint; 0 before the first"),
            config_valid: all.count("config_last_reload_successful", "1 if the last configuration read is in force"),
            problems: all.count("problems", "Things that a person should look at, as the status lists them"),
            damaged_gap_files: all.count("damaged_gap_files", "Files that should hold a gap record, and don't"),
            read_to_fallback: all.count("read_to_fallback", "1 while segments are read less far than configured"),
            live: all.add("live", "1 while this loop turns, or is not at work: what /livez says", Family::default()),
            ready: all.add("ready", "1 while this condition is met: what /readyz says", Family::default()),
            node: all.add("node_info", "The node whose segments these are, once it is known", Family::default()),
        }
    }

    pub(super) fn show(&self, shown: &Shown) {
        let Shown { status, live, ready, config_valid } = shown;
        self.lag_bytes.set(status.lag.bytes);
        self.lag_segments.set(status.lag.segments);
        self.lag_seconds.set(status.lag.seconds);
        self.oldest_age.set(status.oldest_unacknowledged_age_seconds);
        self.cdc_raw_bytes.set(status.cdc_raw.bytes);
        self.cdc_raw_limit.set(status.cdc_raw.limit.unwrap_or(0));
        self.time_to_full.set(status.cdc_raw.time_to_full_seconds.unwrap_or(f64::INFINITY));
        self.spool_bytes.set(status.spool.bytes);
        self.spool_limit.set(status.spool.limit);
        for (state, count) in status.segment_counts.by_state() {
            self.segments.get_or_create(&StateLabel { state: state.as_str() }).set(count);
        }
        let held = status.hold.as_ref().map(|hold| hold.reason);
        for reason in HoldReason::ALL {
            self.hold_state.get_or_create(&Reason { reason: reason.as_str() }).set(u64::from(held == Some(reason)));
        }
        self.broker_up.set(u64::from(status.kafka.as_ref().is_some_and(|kafka| kafka.connected)));
        self.checkpoint_age.set(status.checkpoint.age_seconds.unwrap_or(0.0));
        self.config_valid.set(u64::from(*config_valid));
        self.problems.set(status.problems.len() as u64);
        self.damaged_gap_files.set(status.damaged_gap_files);
        self.read_to_fallback.set(u64::from(status.read_to.fallback.is_some()));
        for part in &live.conditions {
            self.live.get_or_create(&PartLabel { part: part.name.clone() }).set(u64::from(part.ok));
        }
        for condition in &ready.conditions {
            let label = ConditionLabel { condition: condition.name.clone() };
            self.ready.get_or_create(&label).set(u64::from(condition.ok));
        }
        self.show_node(status.identity.as_ref());
    }

    fn show_node(&self, identity: Option<&Identity>) {
        // A node that was updated has another release: there is one series, not one for each.
        self.node.clear();
        let Some(Identity { cluster, host_id, release }) = identity else { return };
        let labels = NodeLabels {
            cluster_name: cluster.clone(),
            host_id: host_id.clone(),
            release: release.clone().unwrap_or_default(),
        };
        self.node.get_or_create(&labels).set(1);
    }
}
