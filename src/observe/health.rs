//! Whether the agent lives, and whether it does its work.
//!
//! Owns: the conditions of both. Does not own: the answers over HTTP (`http`), the watchdog (`systemd`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::status::{State, Status};

/// How long a loop may take for one turn.
pub const BEAT: Duration = Duration::from_secs(30);

/// How long Kafka may take for an acknowledgement.
pub const ACKNOWLEDGEMENT: Duration = Duration::from_secs(60);

/// A loop that must turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Reads, sends, settles.
    Pump,
    /// Looks after segments, spool and limits.
    Keeper,
    /// Serves delivery reports.
    Reports,
}

impl Part {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Pump, Self::Keeper, Self::Reports];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pump => "pump",
            Self::Keeper => "keeper",
            Self::Reports => "reports",
        }
    }
}

/// One thing that must be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What.
    pub name: String,
    /// Whether it is so.
    pub ok: bool,
    /// In words.
    pub detail: String,
}

impl Condition {
    fn new(name: &str, ok: bool, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok, detail: detail.into() }
    }
}

/// Several conditions: good if all are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether all are met.
    pub ok: bool,
    /// Each of them.
    pub conditions: Vec<Condition>,
}

impl Health {
    fn of(conditions: Vec<Condition>) -> Self {
        Self { ok: conditions.iter().all(|condition| condition.ok), conditions }
    }

    /// Those that are not met.
    pub fn unmet(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.iter().filter(|condition| !condition.ok)
    }
}

/// Every part that is at work must have beaten lately. Waiting for Kafka or Cassandra is work: whoever waits beats.
pub(super) fn live(silent_for: [Option<Duration>; Part::ALL.len()]) -> Health {
    let conditions = Part::ALL.into_iter().zip(silent_for).map(|(part, silent)| match silent {
        None => Condition::new(part.as_str(), true, "not at work"),
        Some(silent) => {
            let detail = format!("last turn {:.1} s ago", silent.as_secs_f64());
            Condition::new(part.as_str(), silent < BEAT, detail)
        }
    });
    Health::of(conditions.collect())
}

/// Whether there is something for Kafka: records in its queue, or segments that wait for a broker.
pub(super) fn has_work_for_kafka(status: &Status) -> bool {
    status.state == State::WaitingForKafka || status.kafka.as_ref().is_some_and(|kafka| kafka.in_flight > 0)
}

/// `waiting` is how long there has been something for Kafka without a pause.
pub(super) fn ready(status: &Status, config_valid: bool, waiting: Option<Duration>) -> Health {
    let config = if config_valid {
        Condition::new("config", true, "valid")
    } else {
        Condition::new("config", false, "the last one read is refused, see the log; one that was in force stays so")
    };
    let readable = status.cdc_raw.readable;
    let cdc_raw =
        Condition::new("cdc_raw", readable, if readable { "readable" } else { "not read yet, or unreadable" });
    let schema = match &status.schema {
        Some(schema) => Condition::new("schema", true, format!("{} CDC tables", schema.cdc_tables)),
        None => Condition::new("schema", false, "not loaded"),
    };
    let hold = match &status.hold {
        Some(hold) => Condition::new("hold", false, format!("{}: {}", hold.reason.as_str(), hold.detail)),
        None => Condition::new("hold", status.state != State::Held, status.state.as_str()),
    };
    let quarantined = status.segment_counts.quarantined;
    let segments = match quarantined {
        0 => Condition::new("segments", true, "none is set aside"),
        _ => Condition::new(
            "segments",
            false,
            format!("{quarantined} set aside: their headers name others; see the log"),
        ),
    };
    Health::of(vec![config, cdc_raw, schema, hold, segments, kafka(status, waiting)])
}

fn kafka(status: &Status, waiting: Option<Duration>) -> Condition {
    let Some(kafka) = &status.kafka else { return Condition::new("kafka", true, "not used") };
    let Some(waiting) = waiting else { return Condition::new("kafka", true, "nothing to send") };
    let limit = ACKNOWLEDGEMENT.as_secs_f64();
    // After a pause the last acknowledgement is old, and says nothing of what was just sent.
    let waiting = waiting.as_secs_f64();
    let silent = kafka.last_ack_age_seconds.map_or(waiting, |age| age.min(waiting));
    let mut detail = format!("no acknowledgement for {silent:.1} s");
    if let Some(error) = kafka.last_error.as_ref().filter(|_| silent > limit) {
        detail = format!("{detail}: {error}");
    }
    Condition::new("kafka", silent <= limit, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::status::{CdcRaw, Hold, HoldReason, Kafka, Schema};

    /// A status with which nothing is wrong.
    fn good() -> Status {
        Status {
            state: State::Running,
            cdc_raw: CdcRaw { readable: true, ..CdcRaw::default() },
            schema: Some(Schema::default()),
            kafka: Some(Kafka { connected: true, in_flight: 5, last_ack_age_seconds: Some(1.0), last_error: None }),
            ..Status::default()
        }
    }

    fn hold() -> Hold {
        Hold {
            reason: HoldReason::Damage,
            segment: None,
            position: None,
            detail: "a bad CRC".to_owned(),
            next_action: "look".to_owned(),
            since: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn with(change: impl FnOnce(&mut Status)) -> Status {
        let mut status = good();
        change(&mut status);
        status
    }

    fn unmet(health: &Health) -> Vec<&str> {
        assert_eq!(health.ok, health.unmet().next().is_none());
        health.unmet().map(|unmet| unmet.name.as_str()).collect()
    }

    #[test]
    fn each_condition_alone_makes_it_not_ready() {
        let cases: [(&str, Status, bool); 7] = [
            ("config", good(), false),
            ("cdc_raw", with(|status| status.cdc_raw.readable = false), true),
            ("schema", with(|status| status.schema = None), true),
            ("hold", with(|status| status.hold = Some(hold())), true),
            ("hold", with(|status| status.state = State::Held), true),
            ("segments", with(|status| status.segment_counts.quarantined = 1), true),
            (
                "kafka",
                with(|status| status.kafka = Some(Kafka { last_ack_age_seconds: Some(61.0), ..Kafka::default() })),
                true,
            ),
        ];
        let waiting = Some(Duration::from_secs(61));
        for (name, status, config_valid) in cases {
            assert_eq!(unmet(&ready(&status, config_valid, waiting)), [name]);
        }
        assert_eq!(unmet(&ready(&good(), true, waiting)), [""; 0]);
        let all = ["config", "cdc_raw", "schema", "kafka"];
        let start = Status { kafka: Some(Kafka::default()), ..Status::default() };
        assert_eq!(unmet(&ready(&start, false, waiting)), all);
    }

    #[test]
    fn kafka_is_good_while_it_acknowledges_or_has_nothing_to_do() {
        let last_ack = |age| with(|status| status.kafka.as_mut().unwrap().last_ack_age_seconds = age);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let is_ready = |status: &Status, waiting| ready(status, true, waiting).ok;
        // Nothing to send, for hours.
        assert!(is_ready(&last_ack(Some(7200.0)), None));
        // Sent after hours without anything to send.
        assert!(is_ready(&last_ack(Some(7200.0)), seconds(1)));
        assert!(is_ready(&last_ack(None), seconds(60)));
        // Kafka acknowledges, without ever catching up.
        assert!(is_ready(&last_ack(Some(0.1)), seconds(7200)));
        assert!(!is_ready(&last_ack(Some(61.0)), seconds(61)));
        assert!(!is_ready(&last_ack(None), seconds(61)));
        // Another sink.
        assert!(is_ready(&with(|status| status.kafka = None), seconds(61)));
        let silent = with(|status| {
            status.kafka = Some(Kafka { last_error: Some("all brokers are down".to_owned()), ..Kafka::default() });
        });
        let health = ready(&silent, true, seconds(70));
        assert_eq!(health.unmet().next().unwrap().detail, "no acknowledgement for 70.0 s: all brokers are down");
    }

    #[test]
    fn what_waits_for_a_broker_is_something_to_send() {
        assert!(has_work_for_kafka(&good()));
        assert!(!has_work_for_kafka(&with(|status| status.kafka = Some(Kafka::default()))));
        let waiting = |status: &mut Status| {
            status.kafka = Some(Kafka::default());
            status.state = State::WaitingForKafka;
        };
        assert!(has_work_for_kafka(&with(waiting)));
    }

    #[test]
    fn one_silent_part_is_enough() {
        let (now, late) = (Some(Duration::from_secs(1)), Some(BEAT));
        assert!(live([now, now, now]).ok && live([now, None, None]).ok);
        assert_eq!(unmet(&live([late, now, now])), ["pump"]);
        assert_eq!(unmet(&live([now, late, now])), ["keeper"]);
        assert_eq!(unmet(&live([now, None, late])), ["reports"]);
    }
}
