//! A Kafka that is not there, does not let us in, or loses or refuses what it is given.

use std::fs;
use std::net::TcpListener;
use std::thread;

use crate::broker::{Broker, CLUSTER_AUTHORIZATION_FAILED, Says, TOPIC_AUTHORIZATION_FAILED, Topic};
use crate::place::{Lines, Place, TOPIC, TOPICS, mode_of, well};
use crate::tls::Authority;

fn check_at(place: &Place, bootstrap: &str, sets: &[&str]) -> Lines {
    let bootstrap = format!("kafka.bootstrap={bootstrap}");
    place.check(&[&[bootstrap.as_str()], sets].concat())
}

#[test]
fn a_broker_that_is_not_there() {
    let place = Place::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    // A socket that takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    let checks = [
        (free.as_str(), "Connection refused", "start Kafka, or correct the port in kafka.bootstrap"),
        ("no-such-host.invalid:9092", "Failed to resolve", "correct the host name in kafka.bootstrap"),
        (silent.as_str(), "does not answer within", "correct kafka.bootstrap, or open the way to it"),
    ];
    thread::scope(|scope| {
        for (bootstrap, found, fix) in checks {
            let place = &place;
            scope.spawn(move || check_at(place, bootstrap, &[]).say("fail", "Kafka", found, fix).only(&["Kafka"]));
        }
    });
}

#[test]
fn tls_on_one_side_only_or_of_another_authority() {
    let place = Place::new();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let ca = format!("kafka.librdkafka.ssl.ca.location={}", place.file("ca.pem").display());
    fs::write(place.file("ca.pem"), ours.pem()).unwrap();
    let tls = ["kafka.librdkafka.security.protocol=ssl", ca.as_str()];
    let at = &|broker: &Broker, sets: &[&str]| check_at(&place, &broker.bootstrap(), sets);

    let encrypted = Broker::start(well(), Some(ours.server(None)));
    let foreign = Broker::start(well(), Some(theirs.server(None)));
    let elsewhere = Broker::start(well(), Some(ours.server(Some("elsewhere"))));
    thread::scope(|scope| {
        scope.spawn(|| at(&encrypted, &tls).only(&[]));
        for (broker, sets, found, fix) in [
            (&encrypted, &tls[..0], "does not answer", "set security.protocol to ssl"),
            (&place.broker, &tls[..], "SSL", "set security.protocol to plaintext"),
            (&foreign, &tls[..], "certificate", "set ssl.ca.location to the certificate of the authority"),
            // What the client says of a certificate for another host is the same.
            (&elsewhere, &tls[..], "certificate", "set ssl.ca.location to the certificate of the authority"),
        ] {
            scope.spawn(move || at(broker, sets).say("fail", "Kafka", found, fix).only(&["Kafka"]));
        }
    });
}

#[test]
fn a_login_that_is_refused() {
    let place = Place::new();
    let broker = Broker::start(Says { login: Some(("cdc", "right")), ..well() }, None);
    let properties = place.file("kafka.properties");
    let file = format!("kafka.properties_file={}", properties.display());
    let check = |mechanism: &str, password: &str| {
        let text = format!(
            "security.protocol=sasl_plaintext\nsasl.mechanism={mechanism}\nsasl.username=cdc\nsasl.password={password}\n"
        );
        fs::write(&properties, text).unwrap();
        mode_of(&properties, 0o600);
        let lines = check_at(&place, &broker.bootstrap(), &[&file]);
        assert!(!lines.shown().contains("canary"));
        lines
    };
    check("PLAIN", "right").only(&[]);
    check("PLAIN", "canary").say("fail", "Kafka", "does not let us in", "correct sasl.username, and sasl.password");
    check("SCRAM-SHA-256", "right").say("fail", "Kafka", "does not let us in", "set sasl.mechanism");
    // No login where one is wanted: the broker hangs up.
    check_at(&place, &broker.bootstrap(), &[]).say("fail", "Kafka", "does not answer", "to sasl_ssl or sasl_plaintext");
}

#[test]
fn rights_that_are_missing() {
    let place = Place::new();
    place.broker.set(TOPIC, Topic { error: TOPIC_AUTHORIZATION_FAILED, ..Topic::safe() });
    place.broker.set("cassandra.shop.customers", Topic { settings: None, ..Topic::safe() });
    let lines = place.check::<&str>(&[]);
    lines.say(
        "fail",
        "topic",
        "cassandra.shop.orders: the agent's user may not see it",
        "kafka-acls.sh --add --producer",
    );
    lines.say("warn", "topic", "does not tell the settings", "DESCRIBE_CONFIGS");
    lines.only(&["topic"]);
    let closed = Broker::start(Says { no_producer: CLUSTER_AUTHORIZATION_FAILED, ..well() }, None);
    let lines = check_at(&place, &closed.bootstrap(), &[]);
    lines.say("fail", "Kafka", "lets us produce nothing", "WRITE and DESCRIBE");
    lines.only(&["Kafka"]);
}

#[test]
fn topics_that_are_missing() {
    let place = Place::new();
    let none = Broker::start(Says::default(), None);
    let lines = check_at(&place, &none.bootstrap(), &[]);
    lines.say("fail", "topic", "cassandra.shop.orders does not exist", "kafka-topics.sh --create");
    lines.say("fail", "topic", "cassandra.dead-letter does not exist", "or set kafka.create_topics");
    let lines = check_at(&place, &none.bootstrap(), &["kafka.create_topics=12,3"]);
    lines.say("ok", "topic", "cassandra.shop.orders is not there yet", "").only(&[]);
}

#[test]
fn topics_that_lose_or_refuse_records() {
    let place = Place::new();
    let safe = Topic::safe;
    let mistakes = [
        [
            ("min.insync.replicas", "1", "warn", "min.insync.replicas=1", "--add-config min.insync.replicas=2"),
            ("cleanup.policy", "compact", "fail", "is compacted", "--add-config cleanup.policy=delete"),
            (
                "unclean.leader.election.enable",
                "true",
                "warn",
                "can be dropped",
                "unclean.leader.election.enable=false",
            ),
        ],
        [
            ("retention.ms", "3600000", "warn", "keeps records for 60 minutes", "--add-config retention.ms="),
            ("max.message.bytes", "10000", "warn", "takes 9.77 KiB at once", "--add-config max.message.bytes="),
            ("min.insync.replicas", "4", "fail", "Kafka takes no record", "start the brokers that are away"),
        ],
    ];
    for mistakes in mistakes {
        for (topic, (key, value, ..)) in TOPICS.into_iter().zip(mistakes) {
            place.broker.set(topic, safe().with(key, value));
        }
        let lines = place.check::<&str>(&[]);
        for (topic, (_, _, level, found, fix)) in TOPICS.into_iter().zip(mistakes) {
            lines.say(level, "topic", found, fix).say(level, "topic", topic, fix);
        }
        lines.only(&["topic"]);
    }
    place.broker.set(TOPIC, Topic { in_sync: 1, ..Topic::safe() });
    let lines = place.check::<&str>(&[]);
    lines.say("fail", "topic", "1 replicas in sync and min.insync.replicas=2", "start the brokers");
    place.broker.set(TOPIC, Topic { replicas: 1, in_sync: 1, ..Topic::safe().with("min.insync.replicas", "1") });
    place.check::<&str>(&[]).say("warn", "topic", "has one replica", "give it 3 replicas");
}
