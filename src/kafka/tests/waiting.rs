//! Waiting for brokers that say nothing, or let nobody in.

use super::*;

#[test]
fn no_broker_at_all_is_told_with_the_address() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = KafkaSettings {
        bootstrap: format!("127.0.0.1:{port}"),
        lookup_timeout: Duration::from_secs(1),
        ..KafkaSettings::default()
    };
    let started = Instant::now();
    let Err(error) = Publisher::connect(&settings) else { panic!("there is no broker") };
    assert!(matches!(error, KafkaError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&settings.bootstrap), "{error}");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_publisher_goes_promptly_with_everything_in_flight() {
    let mock = mock(&[("t", 3)]);
    let mut publisher = Publisher::connect(&settings(&mock)).unwrap();
    let topic = publisher.topic("t").unwrap();
    let mut ledger = ledger();
    mock.broker_down(-1).unwrap();
    for entry in 1..=2_000 {
        push(&mut publisher, &mut ledger, topic, entry, entry).unwrap();
    }
    assert_eq!(publisher.drain(&mut ledger, Duration::from_millis(50)), Ok(2_000));
    assert!(publisher.is_served());
    let started = Instant::now();
    drop(publisher);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(acknowledged(&ledger), at(0));
}

/// One complaint of the client, as librdkafka's thread makes it.
fn complain(publisher: &Publisher, code: rdkafka::error::RDKafkaErrorCode) {
    use rdkafka::ClientContext as _;
    Context(Arc::clone(&publisher.reports)).error(rdkafka::error::KafkaError::Global(code), "refused");
}

#[test]
fn a_login_that_is_refused_while_nothing_is_reported_is_a_failure() {
    use rdkafka::error::RDKafkaErrorCode as Code;
    let mock = mock(&[("t", 1)]);
    let settings = KafkaSettings { patience: Duration::from_millis(500), ..settings(&mock) };
    let mut publisher = Publisher::connect(&settings).unwrap();
    let topic = publisher.topic("t").unwrap();
    let mut ledger = ledger();
    push(&mut publisher, &mut ledger, topic, 0, 1).unwrap();
    assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
    // Before the last report, and while nothing is on its way, it says nothing.
    complain(&publisher, Code::Authentication);
    publisher.settle(&mut ledger).unwrap();
    mock.broker_down(-1).unwrap();
    push(&mut publisher, &mut ledger, topic, 0, 2).unwrap();
    assert_eq!(publisher.drain(&mut ledger, Duration::from_millis(600)), Ok(1));
    // Others follow it: no broker is there any more.
    complain(&publisher, Code::SSL);
    complain(&publisher, Code::AllBrokersDown);
    let failure = publisher.settle(&mut ledger).unwrap_err();
    assert!(matches!(failure, KafkaError::Credentials { .. }), "{failure}");
    assert_eq!(failure.action(), Action::Credentials);
    assert_eq!(publisher.drain(&mut ledger, Duration::ZERO), Err(failure));
}

#[test]
fn a_producer_that_is_silent_for_long_is_a_failure() {
    let mock = mock(&[("t", 1)]);
    let settings = KafkaSettings { patience: Duration::from_millis(300), ..settings(&mock) };
    let mut publisher = Publisher::connect(&settings).unwrap();
    let topic = publisher.topic("t").unwrap();
    let mut ledger = ledger();
    mock.broker_down(-1).unwrap();
    push(&mut publisher, &mut ledger, topic, 0, 1).unwrap();
    let failure = publisher.drain(&mut ledger, Duration::from_secs(4)).unwrap_err();
    let KafkaError::Silent { lasts } = failure else { panic!("{failure}") };
    assert!(lasts >= settings.patience * 2, "{lasts:?}");
    assert_eq!(failure.action(), Action::Fatal);
}

#[test]
fn a_full_queue_is_not_waited_for_while_the_login_is_refused() {
    let mock = mock(&[("t", 1)]);
    let settings =
        KafkaSettings { patience: Duration::from_millis(50), queue_messages: 10, run_records: 5, ..settings(&mock) };
    let mut publisher = Publisher::connect(&settings).unwrap();
    let topic = publisher.topic("t").unwrap();
    let mut ledger = ledger();
    let reports = Arc::clone(&publisher.reports);
    publisher.on_wait(move |_| {
        use rdkafka::ClientContext as _;
        Context(Arc::clone(&reports))
            .error(rdkafka::error::KafkaError::Global(rdkafka::error::RDKafkaErrorCode::SSL), "refused");
        ControlFlow::Continue(())
    });
    mock.broker_down(-1).unwrap();
    let failure = (1..=100).find_map(|entry| push(&mut publisher, &mut ledger, topic, 0, entry).err()).unwrap();
    assert!(matches!(failure, KafkaError::Credentials { .. }), "{failure}");
}

#[test]
fn between_the_steps_of_a_look_up_whoever_waits_is_asked() {
    let mock = mock(&[]);
    let settings =
        KafkaSettings { create_topics: Some(TopicCreation { partitions: 1, replication: 1 }), ..settings(&mock) };
    let mut publisher = Publisher::connect(&settings).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    publisher.on_wait(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    publisher.topic("t").unwrap();
    assert!(asked.load(Ordering::Relaxed) >= 2);
    publisher.on_wait(|_| ControlFlow::Break(()));
    mock.create_topic("u", 1, 1).unwrap();
    assert_eq!(publisher.topic("u"), Err(KafkaError::Interrupted));
    publisher.on_wait(|_| ControlFlow::Continue(()));
    assert!(publisher.topic("u").is_ok(), "nothing failed");
}
