//! Who is asked about what, how often, and what an answer counts for.

use super::*;
use crate::catalog::Identity;
use crate::catalog::timeline::Timeline;
use crate::line::Wanted;
use cassandra_commitlog::{SchemaStore, TableId};
use cassandra_event::{Encoder, Format, Int64, KeyFormat, Settings, TopicTemplate, Unit};
use std::sync::atomic::{AtomicUsize, Ordering};

fn pulled(at_micros: i64) -> Pulled {
    let identity =
        Identity { cluster_name: "c".to_owned(), host_id: "h".to_owned(), release_version: "4.1.10".to_owned() };
    Pulled { identity, schema: SystemSchema::default(), document: serde_json::Value::Null, at_micros }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

fn line() -> Line {
    let encoder = Encoder::new(Settings {
        format: Format::Json,
        key: KeyFormat::Json,
        unit: Unit::Mutation,
        int64: Int64::Number,
        max_record_bytes: 1 << 20,
        topic: TopicTemplate::new("{keyspace}.{table}", "").unwrap(),
        dead_letter_topic: "dead-letter".to_owned(),
        cluster: "c".to_owned(),
        host_id: "h".to_owned(),
    });
    Line::following(Timeline::new(SchemaStore::new()), encoder, Wanted::default())
}

fn source(ask: impl Fn(&Observe) -> anyhow::Result<Pulled> + Send + 'static) -> SchemaSource {
    SchemaSource { ask: Some(Box::new(ask)), ..SchemaSource::new(None, false) }
}

fn table(id: u128) -> MutationError {
    MutationError::UnknownTable { id: TableId(id) }
}

/// Asks until it is not worth it any more. Says how often that was.
fn ask_in_vain(source: &mut SchemaSource, unknown: &MutationError) -> usize {
    let (mut answers, mut line, observe) = (0, line(), Observe::new());
    while source.ask(unknown, &mut answers, &mut line, &observe).unwrap() {}
    answers
}

#[test]
fn what_all_answers_lack_is_nobodys_for_a_while_and_another_table_is_asked_about() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let mut source = source(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(pulled(now()))
    });
    assert_eq!(ask_in_vain(&mut source, &table(1)), PAUSES.len());
    assert_eq!(ask_in_vain(&mut source, &table(1)), 0);
    assert_eq!(ask_in_vain(&mut source, &table(2)), PAUSES.len());
    assert_eq!(asked.load(Ordering::Relaxed), 2 * PAUSES.len());
}

#[test]
fn an_answer_counts_as_of_when_it_was_asked_for() {
    let mut document: serde_json::Value =
        serde_json::from_str(include_str!("../../../fixtures/4.1-demo/schema.json")).unwrap();
    let fresh: SystemSchema = serde_json::from_value(document.clone()).unwrap();
    for column in document["columns"].as_array_mut().unwrap() {
        column["type"] = "blob".into();
    }
    let stale: SystemSchema = serde_json::from_value(document).unwrap();
    let mut line = line();
    assert!(line.merge_schema(&fresh, 10));
    let rows = line.timeline().unwrap().rows();
    let mut source = source(move |_| Ok(Pulled { schema: stale.clone(), ..pulled(5) }));
    assert!(source.ask(&table(1), &mut 0, &mut line, &Observe::new()).unwrap());
    assert_eq!(line.timeline().unwrap().rows(), rows);
}

#[test]
fn a_node_that_does_not_answer_has_not_said_that_it_lacks_anything() {
    let mut source = source(|_| anyhow::bail!("refused"));
    for _ in 0..2 * PAUSES.len() {
        let (mut answers, mut line, observe) = (0, line(), Observe::new());
        assert!(source.ask(&table(1), &mut answers, &mut line, &observe).is_err());
        assert_eq!(answers, 0);
        assert!(!line.has_schema());
    }
}

#[test]
fn without_a_node_nobody_is_asked() {
    let mut source = SchemaSource::new(None, false);
    assert!(!source.has_contact());
    assert_eq!(ask_in_vain(&mut source, &table(1)), 0);
    assert!(source.news().is_none());
}

#[test]
fn news_that_waited_long_is_no_news() {
    let (sender, receiver) = channel();
    let mut source = SchemaSource { news: Some(receiver), ..SchemaSource::new(None, false) };
    let fresh = now();
    let old = fresh - i64::try_from(OLD.as_micros()).unwrap();
    for at in [old - 1, fresh, fresh + 1] {
        sender.send(pulled(at)).unwrap();
    }
    let mut news = || source.news().map(|pulled| pulled.at_micros);
    assert_eq!([news(), news(), news()], [Some(fresh), Some(fresh + 1), None]);
    drop(sender);
    assert!(source.news().is_none() && source.news.is_none());
}

#[test]
fn a_signal_ends_what_waits_for_the_node() {
    let observe = Observe::new();
    let (sender, silent) = channel::<()>();
    assert!(answer_of(&silent, &observe, || true).is_err());
    sender.send(()).unwrap();
    answer_of(&silent, &observe, || true).unwrap();
    assert!(rest(QUIET, &observe, || true).is_err());
    rest(Duration::ZERO, &observe, || true).unwrap();
}

#[test]
fn new_credentials_count_with_the_next_question() {
    let contact = |login: Option<&str>| Contact {
        address: "localhost:9042".to_owned(),
        login: login.map(|user| cql::Login { user: user.to_owned(), password_file: "password".into() }),
        tls: None,
    };
    let shared = Arc::new(Mutex::new(contact(None)));
    let mut source = SchemaSource { contact: Some(Arc::clone(&shared)), ..SchemaSource::new(None, false) };
    source.set_contact(Some(contact(Some("cdc"))));
    assert_eq!(current(&shared).login.unwrap().user, "cdc");
}
