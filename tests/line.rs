//! The line with a schema that follows the log: handing back what the schema lacks, pulled rows, dead letters.

#[path = "../fixtures/load.rs"]
mod load;

use std::ops::ControlFlow;

use cassandra_cdc::catalog::timeline::Timeline;
use cassandra_cdc::line::{Done, Line, Rejected, Segment, Wanted};
use cassandra_cdc::sink::Sink;
use cassandra_cdc::walk::{Options, Seen, walk};
use cassandra_commitlog::{Entry, FormatVersion, LogOffset, MutationError, Plaintext, SchemaStore, SegmentName, Tail};
use cassandra_event::{Encoder, Format, Int64, KeyFormat, Settings, TopicTemplate, Unit};
use cassandra_progress::{Ledger, Outcome, Window};

/// Long after all recordings, microseconds.
const LATER: i64 = 4_000_000_000_000_000;

fn encoder() -> Encoder {
    Encoder::new(Settings {
        format: Format::Json,
        key: KeyFormat::Json,
        unit: Unit::Mutation,
        int64: Int64::Number,
        max_record_bytes: 1 << 20,
        topic: TopicTemplate::new("{keyspace}.{table}", "").unwrap(),
        dead_letter_topic: "dead-letter".to_owned(),
        cluster: "c1".to_owned(),
        host_id: "h1".to_owned(),
    })
}

struct Following {
    line: Line,
    sink: Sink,
    ledger: Ledger,
}

impl Following {
    fn new(store: SchemaStore) -> Self {
        let line = Line::following(Timeline::new(store), encoder(), Wanted::default());
        Self { line, sink: Sink::Count(Vec::new()), ledger: Ledger::new(Window::default()) }
    }

    fn entry(&mut self, segment: &Segment, version: FormatVersion, entry: &Entry<'_>, may_retry: bool) -> Option<Done> {
        self.line.entry(segment, version, entry, may_retry, &mut self.sink, &mut self.ledger).unwrap()
    }
}

/// Every entry of a segment, until it is enough.
fn each(name: SegmentName, file: &[u8], mut each: impl FnMut(&Segment, FormatVersion, &Entry<'_>) -> bool) {
    let segment = Segment::new(name);
    let options = Options { tail: Tail::Sealed, salvage: false, index: None, limit: None, start: None };
    let walked = walk(&name, file, options, &mut Plaintext::default(), |descriptor, seen| match seen {
        Seen::Entry(entry) if !each(&segment, descriptor.version, &entry) => ControlFlow::Break(()),
        Seen::Damage(damage) => panic!("{damage}"),
        _ => ControlFlow::Continue(()),
    });
    assert!(walked.is_ok());
}

#[test]
fn what_the_schema_lacks_is_handed_back_and_sent_once_it_is_known() {
    let case = load::own_case("4.1-demo");
    let (name, file) = case.segments().swap_remove(1);
    let mut following = Following::new(SchemaStore::new());
    let mut handed_back = 0;
    let mut published = 0;
    assert_eq!(following.line.schema_status().source, "nowhere yet");
    following.line.ask_written();
    each(name, &file, |segment, version, entry| {
        let before = following.ledger.read_position();
        let done = following.entry(segment, version, entry, true).or_else(|| {
            handed_back += 1;
            assert_eq!(following.ledger.read_position(), before);
            assert!(following.sink.arena().is_empty());
            assert!(following.line.merge_schema(&case.system_schema(), LATER));
            following.entry(segment, version, entry, true)
        });
        published += usize::from(done.unwrap().outcome == Outcome::Published);
        true
    });
    assert_eq!(handed_back, 1);
    assert!(published > 10);
    assert_eq!(following.line.schema_status().source, "the node");
    // Of the first one, and only because it was asked for.
    let year = 365 * 24 * 3600 * 1_000_000;
    assert!(following.line.take_written().is_some_and(|written| (50 * year..LATER).contains(&written)));
    assert_eq!(following.line.take_written(), None);
}

#[test]
fn without_help_it_is_dead_lettered() {
    let case = load::own_case("4.1-demo");
    let (name, file) = case.segments().swap_remove(1);
    let mut following = Following::new(SchemaStore::new());
    each(name, &file, |segment, version, entry| {
        let Some(done) = following.entry(segment, version, entry, false) else { panic!("handed back") };
        let Some(rejected) = done.rejected else { return true };
        assert!(matches!(rejected, Rejected::Undecodable(MutationError::UnknownTable { .. })));
        assert_eq!((done.outcome, done.records), (Outcome::DeadLettered, 1));
        false
    });
}

#[test]
fn what_kafka_refuses_is_dead_lettered_and_its_ddl_counts() {
    let case = load::own_case("4.1-schema");
    let mut following = Following::new(SchemaStore::new());
    for (name, file) in case.segments() {
        each(name, &file, |segment, version, entry| {
            let Following { line, sink, ledger } = &mut following;
            let done = line.reject(segment, version, entry, "too busy", sink, ledger).unwrap();
            assert_eq!((done.outcome, done.records), (Outcome::DeadLettered, 1));
            let rejected = done.rejected.unwrap();
            assert!(Rejected::reasons().any(|reason| reason == rejected.reason()));
            assert_eq!(rejected.to_string(), "Kafka refuses its events: too busy");
            true
        });
    }
    let timeline = following.line.timeline().unwrap();
    let evolving = |table: &&cassandra_commitlog::TableRow| table.table_name == "evolving";
    assert!(timeline.rows().tables.iter().find(evolving).is_some_and(|table| table.cdc == Some(true)));
    assert_eq!(following.line.schema_status().source, "the log", "nothing else told of it");
}

/// After a restart with what was saved, the rest of the log reads as it would have without one.
#[test]
fn a_restart_in_the_middle_changes_no_decoding() {
    let case = load::own_case("6.0-schema");
    let segments = case.segments();
    let order: Vec<_> = segments.iter().map(|(name, _)| name.id).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("schema.json");
    let mut whole = Following::new(SchemaStore::new());
    whole.line = Line::following(Timeline::new(SchemaStore::new()).kept_in(&path), encoder(), Wanted::default());
    let mut outcomes = Vec::new();
    for (name, file) in &segments {
        each(*name, file, |segment, version, entry| {
            let done = whole.entry(segment, version, entry, false).unwrap();
            outcomes.push((name.id, entry.end(), done.outcome, done.records));
            true
        });
    }
    let rows = whole.line.timeline().unwrap().rows();
    whole.line.save_schema().unwrap();
    for at in (0..outcomes.len()).step_by(40) {
        let (id, offset, ..) = outcomes[at];
        let mut again = Following::new(SchemaStore::new());
        let timeline = Timeline::load(&path).unwrap().unwrap();
        again.line = Line::following(timeline, encoder(), Wanted::default());
        let rank = |id| order.iter().position(|known| *known == id);
        again.line.rewind_schema(|other| match rank(other).cmp(&rank(id)) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(offset),
            std::cmp::Ordering::Greater => Some(LogOffset(0)),
        });
        let mut rest = outcomes[at + 1..].iter();
        for (name, file) in segments.iter().skip_while(|(name, _)| name.id != id) {
            each(*name, file, |segment, version, entry| {
                if name.id != id || entry.end() > offset {
                    let done = again.entry(segment, version, entry, false).unwrap();
                    let expected = rest.next().unwrap();
                    assert_eq!((name.id, entry.end(), done.outcome, done.records), *expected);
                }
                true
            });
        }
        assert!(rest.next().is_none());
        assert_eq!(again.line.timeline().unwrap().rows(), rows);
    }
}
