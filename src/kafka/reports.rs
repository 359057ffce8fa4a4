//! Delivery reports: counted per run, on a thread of their own.
//!
//! Owns: the slots of runs under way, the counts of accepted and reported records, the thread that serves reports, and
//! what the client last complained of. Does not own: tickets (a slot is only a number here), or what a failure means.
//!
//! A callback does a constant amount of work, takes a lock only at the end of a run or on a failure, and has no way to
//! panic. It runs a million times a second.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};
use serde::Deserialize;

use super::errors::{Action, Place, classify, wants_certificate};

/// Nobody waits for a count of reports.
const NEVER: u64 = u64::MAX;

/// One run under way.
#[derive(Debug, Default)]
struct Slot {
    /// Records that were not reported.
    pending: AtomicU32,
    failed: AtomicBool,
    /// How much the failure that was kept tells about the cause; 0 without one.
    told: AtomicU8,
}

/// A run that was reported to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) slot: u32,
    pub(super) failed: bool,
    /// When its last report came.
    pub(super) at: Instant,
}

#[derive(Debug, Default)]
struct Shared {
    /// Never longer than there are slots.
    finished: Vec<Finished>,
    /// The failures of each run, as long as one tells more than those before it: no more per run than there are actions.
    failures: Vec<(u32, Code)>,
    event: Option<ClientEvent>,
    /// The last event that says that a broker does not let us in. Others follow it: all brokers seem to be away.
    refusal: Option<ClientEvent>,
    /// What was last wrong with a connection: with its guess at the cause, which no event has.
    disconnected: Option<String>,
    round_trip: Option<Duration>,
    /// Whether any broker was connected when the client last said so.
    connected: Option<bool>,
    /// When each code was last logged: no more of them than there are codes.
    told: Vec<(Code, Instant)>,
}

/// How long the same complaint of the client is not logged again.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What the client last complained of. With an infinite message timeout this is the only way to learn that a password
/// is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientEvent {
    /// The code.
    pub code: Code,
    /// librdkafka's words.
    pub reason: String,
    /// When.
    pub at: Instant,
}

/// The state between the thread that sends and the one that serves reports.
#[derive(Debug)]
pub(super) struct Reports {
    slots: Box<[Slot]>,
    accepted: AtomicU64,
    reported: AtomicU64,
    failed: AtomicBool,
    fatal: AtomicBool,
    /// The count of reports that the sending thread waits for.
    wake_at: AtomicU64,
    shared: Mutex<Shared>,
    wake: Condvar,
    on_turn: OnTurn,
}

/// What is called at every turn of the thread that serves reports.
#[derive(Default)]
struct OnTurn(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl fmt::Debug for OnTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnTurn").field(&self.0.get().is_some()).finish()
    }
}

/// What counts of librdkafka's statistics.
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    brokers: HashMap<String, BrokerStatistics>,
}

#[derive(Deserialize)]
struct BrokerStatistics {
    #[serde(default)]
    state: String,
    rtt: Option<RoundTrips>,
}

/// Over the last interval.
#[derive(Deserialize)]
struct RoundTrips {
    /// Microseconds.
    avg: i64,
    cnt: i64,
}

impl Statistics {
    fn is_connected(&self) -> bool {
        self.brokers.values().any(|broker| broker.state == "UP")
    }

    /// The average of the slowest broker that was asked anything.
    fn round_trip(&self) -> Option<Duration> {
        let trips = self.brokers.values().filter_map(|broker| broker.rtt.as_ref()).filter(|trips| trips.cnt > 0);
        trips.filter_map(|trips| u64::try_from(trips.avg).ok()).max().map(Duration::from_micros)
    }
}

impl Reports {
    pub(super) fn new(slots: u32) -> Self {
        let length = usize::try_from(slots).unwrap_or(usize::MAX);
        Self {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            accepted: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            fatal: AtomicBool::new(false),
            wake_at: AtomicU64::new(NEVER),
            shared: Mutex::new(Shared { finished: Vec::with_capacity(length), ..Shared::default() }),
            wake: Condvar::new(),
            on_turn: OnTurn::default(),
        }
    }

    /// Has the thread that serves reports call this at every turn, at least once a second. Only the first counts.
    pub(super) fn on_turn(&self, hook: impl Fn() + Send + Sync + 'static) {
        drop(self.on_turn.0.set(Box::new(hook)));
    }

    fn turn(&self) {
        if let Some(hook) = self.on_turn.0.get() {
            hook();
        }
    }

    /// A run of so many records is about to be sent under this slot. They count as accepted from here on, because the
    /// first report may come before the last is sent.
    pub(super) fn begin(&self, slot: u32, records: u16) {
        if let Some(slot) = self.slot(slot) {
            slot.failed.store(false, Ordering::Relaxed);
            slot.told.store(0, Ordering::Relaxed);
            slot.pending.store(u32::from(records), Ordering::Release);
        }
        self.accepted.fetch_add(u64::from(records), Ordering::SeqCst);
    }

    /// The last so many records of a run were not accepted after all, and never will be under this slot.
    /// Whoever sends them knows why; no failure is recorded.
    pub(super) fn give_up(&self, slot: u32, records: u16) {
        self.accepted.fetch_sub(u64::from(records), Ordering::SeqCst);
        if let Some(state) = self.slot(slot) {
            state.failed.store(true, Ordering::Release);
        }
        self.settle(slot, u32::from(records));
    }

    /// One record of the run under this slot is reported.
    fn report(&self, slot: u32, failure: Option<Code>) {
        if let Some(code) = failure {
            self.fail(slot, code);
        }
        self.settle(slot, 1);
        let reported = self.reported.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        if reported >= self.wake_at.load(Ordering::SeqCst) {
            self.wake_at.store(NEVER, Ordering::SeqCst);
            // Taking the lock orders this after the waiter's last look at the count.
            drop(self.lock());
            self.wake.notify_all();
        }
    }

    fn fail(&self, slot: u32, code: Code) {
        let Some(state) = self.slot(slot) else { return };
        state.failed.store(true, Ordering::Release);
        // Records that were purged because of a poison batch may be reported before the batch itself.
        let tells = classify(Place::Report, code).rank();
        if state.told.fetch_max(tells, Ordering::AcqRel) < tells {
            self.lock().failures.push((slot, code));
            self.failed.store(true, Ordering::Release);
        }
    }

    fn settle(&self, slot: u32, records: u32) {
        let Some(state) = self.slot(slot) else { return };
        if records > 0 && state.pending.fetch_sub(records, Ordering::AcqRel) == records {
            let failed = state.failed.load(Ordering::Acquire);
            self.lock().finished.push(Finished { slot, failed, at: Instant::now() });
        }
    }

    /// Takes the finished runs, into a list whose memory is used again, and the failures so far.
    pub(super) fn take(&self, finished: &mut Vec<Finished>) -> Vec<(u32, Code)> {
        finished.clear();
        let mut shared = self.lock();
        std::mem::swap(&mut shared.finished, finished);
        std::mem::take(&mut shared.failures)
    }

    /// Waits until `reported` records were reported, or the timeout. It is woken once, not for every report.
    pub(super) fn wait_for(&self, reported: u64, timeout: Duration) {
        let shared = self.lock();
        self.wake_at.store(reported, Ordering::SeqCst);
        if self.reported.load(Ordering::SeqCst) < reported {
            // A spurious wake only costs the caller one more look.
            drop(self.wake.wait_timeout(shared, timeout).unwrap_or_else(PoisonError::into_inner));
        }
        self.wake_at.store(NEVER, Ordering::SeqCst);
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(super) fn reported(&self) -> u64 {
        self.reported.load(Ordering::SeqCst)
    }

    pub(super) fn in_flight(&self) -> u64 {
        // The later of the two is read first: a report between the reads must not make this negative.
        let reported = self.reported();
        self.accepted().saturating_sub(reported)
    }

    /// Whether any run has failed that nobody took note of.
    pub(super) fn any_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(super) fn forget_failures(&self) {
        self.lock().failures.clear();
        self.failed.store(false, Ordering::Release);
    }

    pub(super) fn is_fatal(&self) -> bool {
        self.fatal.load(Ordering::Acquire)
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.lock().round_trip
    }

    pub(super) fn is_connected(&self) -> bool {
        self.lock().connected.unwrap_or(true)
    }

    pub(super) fn last_event(&self) -> Option<ClientEvent> {
        self.lock().event.clone()
    }

    pub(super) fn last_refusal(&self) -> Option<ClientEvent> {
        self.lock().refusal.clone()
    }

    pub(super) fn last_disconnect(&self) -> Option<String> {
        self.lock().disconnected.clone()
    }

    fn slot(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(usize::try_from(slot).ok()?)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing that holds this lock can panic; if something did, a stopped report thread would be worse.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a broker does not let us in. One that does not like our certificate, or that we show none, says so by a TLS
/// alert behind the handshake, and librdkafka takes that for a lost connection.
fn refuses(code: Code, reason: &str) -> bool {
    classify(Place::Event, code) == Action::Credentials
        || (code == Code::BrokerTransportFailure && wants_certificate(reason))
}

/// What librdkafka calls back.
#[derive(Clone)]
pub(super) struct Context(pub(super) Arc<Reports>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            self.0.lock().disconnected = Some(message.to_owned());
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            // Lost connections, and its own remarks on our settings. What matters of them comes as an event too.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(statistics) => {
                let mut shared = self.0.lock();
                shared.connected = Some(statistics.is_connected());
                // An interval without requests says nothing: the last one that had some holds.
                shared.round_trip = statistics.round_trip().or(shared.round_trip);
            }
            Err(error) => tracing::debug!(target: "librdkafka", %error, "read the statistics"),
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        if code == Code::Fatal {
            self.0.fatal.store(true, Ordering::Release);
        }
        let at = Instant::now();
        let mut shared = self.0.lock();
        // While a broker is away the client says so several times a second: one line in a while is enough.
        let known = shared.told.iter_mut().find(|(told, _)| *told == code);
        let tell = known.as_ref().is_none_or(|(_, last)| at.duration_since(*last) >= TELL_AGAIN);
        match known {
            Some((_, last)) if tell => *last = at,
            Some(_) => {}
            None => shared.told.push((code, at)),
        }
        if tell {
            tracing::warn!(target: "librdkafka", %code, "{reason}");
        }
        let event = ClientEvent { code, reason: reason.to_owned(), at };
        if refuses(code, reason) {
            shared.refusal = Some(event.clone());
        }
        // It follows from what was said of each broker, and says less.
        if code != Code::AllBrokersDown || shared.event.is_none() {
            shared.event = Some(event);
        }
    }
}

impl ProducerContext for Context {
    /// The slot of the run.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, slot: usize) {
        let failure = match result {
            Ok(_) => None,
            Err((error, _)) => Some(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        };
        self.0.report(u32::try_from(slot).unwrap_or(u32::MAX), failure);
    }
}

/// The thread that serves delivery reports and log lines.
#[derive(Debug)]
pub(super) struct ReportThread {
    stop: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

/// `BaseProducer::poll` never returns early, and spins through the last millisecond of every call: short polls burn a
/// core, long ones can't be stopped. So polls are long only while reports are late, and while nothing is in flight
/// the thread parks and does not poll at all.
const BUSY_POLL: Duration = Duration::from_millis(100);
const LATE_POLL: Duration = Duration::from_millis(500);
const IDLE_PARK: Duration = Duration::from_secs(1);
/// Log lines and events that are served in one second without traffic.
const IDLE_EVENTS: usize = 64;

impl ReportThread {
    pub(super) fn start(producer: Arc<BaseProducer<Context>>, reports: Arc<Reports>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let handle = thread::Builder::new()
            .name("kafka-reports".to_owned())
            .spawn(move || serve(&producer, &reports, &stopped))?;
        Ok(Self { stop, handle: Some(handle) })
    }

    /// Something was sent: a parked thread must look for its report. Costs a system call only if it is parked.
    pub(super) fn wake(&self) {
        if let Some(handle) = &self.handle {
            handle.thread().unpark();
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.handle.as_ref().is_some_and(|handle| !handle.is_finished())
    }

    pub(super) fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
        if let Some(handle) = self.handle.take() {
            // A thread that panicked has said so; there is nothing left to stop.
            drop(handle.join());
        }
    }
}

fn serve(producer: &BaseProducer<Context>, reports: &Reports, stop: &AtomicBool) {
    let mut poll = BUSY_POLL;
    while !stop.load(Ordering::Acquire) {
        reports.turn();
        if reports.in_flight() == 0 {
            for _ in 0..IDLE_EVENTS {
                producer.poll(Duration::ZERO);
            }
            thread::park_timeout(IDLE_PARK);
        } else {
            let before = reports.reported();
            producer.poll(poll);
            poll = if reports.reported() == before { LATE_POLL } else { BUSY_POLL };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots with whether they failed, and failures.
    type Taken = (Vec<(u32, bool)>, Vec<(u32, Code)>);

    #[test]
    fn a_certificate_that_a_broker_does_not_take_is_a_refusal_and_a_lost_connection_is_none() {
        let alert = "ssl://k:9093/bootstrap: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: \
                     SSL alert number 42 (after 0ms in state APIVERSION_QUERY)";
        let reports = Arc::new(Reports::new(1));
        let context = Context(Arc::clone(&reports));
        context.error(ClientError::Global(Code::BrokerTransportFailure), "k:9093: Connect failed: Connection refused");
        assert_eq!(reports.last_refusal(), None);
        context.error(ClientError::Global(Code::BrokerTransportFailure), alert);
        context.error(ClientError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(reports.last_refusal().unwrap().reason, alert);
        assert_eq!(reports.last_event().unwrap().reason, alert, "what all brokers are for is known");
    }

    fn taken(reports: &Reports) -> Taken {
        let mut finished = Vec::new();
        let failures = reports.take(&mut finished);
        (finished.iter().map(|finished| (finished.slot, finished.failed)).collect(), failures)
    }

    #[test]
    fn a_run_finishes_with_its_last_report_and_tells_its_cause() {
        let reports = Reports::new(4);
        reports.begin(2, 4);
        reports.report(2, None);
        reports.report(2, Some(Code::PurgeQueue));
        assert_eq!(taken(&reports), (vec![], vec![(2, Code::PurgeQueue)]));
        assert!(reports.any_failed());
        reports.report(2, Some(Code::InvalidRecord));
        reports.report(2, Some(Code::PurgeQueue));
        assert_eq!(taken(&reports), (vec![(2, true)], vec![(2, Code::InvalidRecord)]));
        assert_eq!((reports.accepted(), reports.reported(), reports.in_flight()), (4, 4, 0));
    }

    #[test]
    fn a_run_that_was_sent_in_part_finishes_with_the_part() {
        let reports = Reports::new(1);
        reports.begin(0, 5);
        reports.report(0, None);
        reports.give_up(0, 3);
        assert_eq!((reports.accepted(), reports.in_flight()), (2, 1));
        reports.report(0, None);
        assert_eq!(taken(&reports), (vec![(0, true)], vec![]));
        // Nothing of it was accepted: it is over at once.
        reports.begin(0, 2);
        reports.give_up(0, 2);
        assert_eq!(taken(&reports).0, vec![(0, true)]);
    }

    #[test]
    fn a_report_of_a_slot_that_does_not_exist_is_only_counted() {
        let reports = Reports::new(1);
        reports.report(9, Some(Code::Fatal));
        assert_eq!((taken(&reports), reports.reported()), ((vec![], vec![]), 1));
    }

    #[test]
    fn the_slowest_broker_that_was_asked_counts() {
        let round_trip = |text: &str| serde_json::from_str::<Statistics>(text).unwrap().round_trip();
        let text = r#"{"msg_cnt":1,"brokers":{
            "a:1/1":{"state":"UP","rtt":{"avg":1500,"cnt":3,"max":9}},
            "b:1/2":{"rtt":{"avg":2500,"cnt":1}},
            "c:1/3":{"rtt":{"avg":90000,"cnt":0}},
            "d:1/bootstrap":{"state":"INIT"}}}"#;
        assert_eq!(round_trip(text), Some(Duration::from_micros(2500)));
        assert_eq!(round_trip(r#"{"brokers":{"c:1/3":{"rtt":{"avg":0,"cnt":0}}}}"#), None);
        assert_eq!(round_trip("{}"), None);
    }

    #[test]
    fn one_broker_that_is_up_is_a_connection() {
        let connected = |text: &str| serde_json::from_str::<Statistics>(text).unwrap().is_connected();
        assert!(connected(r#"{"brokers":{"a:1/1":{"state":"DOWN"},"b:1/2":{"state":"UP"}}}"#));
        assert!(!connected(r#"{"brokers":{"a:1/1":{"state":"TRY_CONNECT"},"b:1/2":{}}}"#));
        assert!(Reports::new(1).is_connected(), "nothing is said yet");
    }

    #[test]
    fn a_waiter_is_woken_at_its_count() {
        let reports = Arc::new(Reports::new(1));
        reports.begin(0, 100);
        let other = Arc::clone(&reports);
        let reporter = thread::spawn(move || (0..100).for_each(|_| other.report(0, None)));
        let started = Instant::now();
        while reports.reported() < 100 {
            reports.wait_for(100, Duration::from_secs(10));
        }
        assert!(started.elapsed() < Duration::from_secs(5));
        reporter.join().unwrap();
    }
}
