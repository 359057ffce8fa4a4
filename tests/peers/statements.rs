//! What others tell wrongly: each statement of the recorded segments with the whole of what is told of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::scene::Scene;
use super::support::cql::Types;
use super::support::oracle::{self, Change};
use super::support::{Laid, load, position, rebuild};

/// The statements' case.
const CASE: &str = "4.1-mutations";

/// The events of a table: what Cassandra's own reader saw of it, as many changes, at the same positions, the same to the
/// last byte.
#[track_caller]
fn events_of(case: &str, table: &str) -> Vec<Value> {
    let laid = Laid::own(case);
    let schema: Value = serde_json::from_slice(&load::read(&laid.schema)).unwrap();
    let types = Types::of(&schema);
    let is_of = |keyspace: &str, name: &str| format!("{keyspace}.{name}") == table;
    let mut events = laid.replay::<&str>([]).expect(0).events();
    events.retain(|event| is_of(event["keyspace"].as_str().unwrap(), event["table"].as_str().unwrap()));
    let expected = oracle::read(&load::own_case(case).folder.join("expected.jsonl.gz"));
    let updates = expected
        .mutations
        .iter()
        .flat_map(|mutation| mutation.published().map(|(_, update)| (mutation.position, update)))
        .filter(|(_, update)| is_of(&update.keyspace, &update.table));
    let seen: Vec<(u32, Change)> = updates.map(|(at, update)| (at, update.change().expect("a full line"))).collect();
    let ours: Vec<(u32, Change)> =
        events.iter().map(|event| (position(event), rebuild::change(&types, event).unwrap())).collect();
    assert!(!seen.is_empty() && ours == seen, "{table}: {ours:?}, seen {seen:?}");
    events
}

/// What is told of one partition of a table, in the words of the events. Left out is what names the recording: ids, and
/// its clock (`now`, `host`, `time`).
#[track_caller]
fn told(case: &str, table: &str, key: &Value) -> Vec<Value> {
    events_of(case, table).into_iter().filter(|event| event["key"] == *key).map(content).collect()
}

/// What an event says of its partition.
fn content(mut event: Value) -> Value {
    let members = event.as_object_mut().unwrap();
    for name in ["v", "id", "digest", "keyspace", "table", "table_id", "key", "source"] {
        assert!(members.shift_remove(name).is_some(), "no {name}");
    }
    timeless(&mut event);
    event
}

/// Moments of the recording's clock are no part of a statement.
fn timeless(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(timeless),
        Value::Object(members) => {
            for (name, value) in members {
                let is_now = |from: i64| value.as_i64().is_some_and(|number| number > from);
                match name.as_str() {
                    "at" | "deleted" | "expires" if is_now(1_790_000_000) => *value = "now".into(),
                    "ts" | "clock" if is_now(1_790_000_000_000_000) => *value = "now".into(),
                    "path" if value.as_str().is_some_and(|path| path.len() == 36) => *value = "time".into(),
                    "id" => *value = "host".into(),
                    _ => timeless(value),
                }
            }
        }
        _ => {}
    }
}

/// The time of the statement with this number.
fn ts(number: i64) -> i64 {
    1_700_000_000_000_000 + number
}

/// The deletion by the statement with this number.
fn at(number: i64) -> Value {
    json!({"ts": ts(number), "at": "now"})
}

/// A cell of the statement with this number.
fn cell(value: Value, number: i64) -> Value {
    json!({"value": value, "ts": ts(number)})
}

fn dead_cell(number: i64) -> Value {
    json!({"deleted": "now", "ts": ts(number)})
}

fn place(day: i32, hour: &str, tick: i64) -> Value {
    json!({"day": day, "hour": hour, "tick": tick})
}

/// A connector that tells unset columns as null can't tell them from such as were set to null.
#[test]
fn a_column_that_is_not_set_is_not_there_and_one_that_is_nulled_is_deleted() {
    let up = place(1, "up", 1);
    let many = |hours: [&str; 2]| -> Vec<Value> {
        let places = hours.into_iter().flat_map(|hour| (1..=3).map(move |tick| place(1, hour, tick)));
        places.map(|clustering| json!({"clustering": clustering, "delete": at(38)})).collect()
    };
    let now = json!({"ts": "now"});
    assert_eq!(
        told(CASE, "acts.readings", &json!({"sensor": 1})),
        [
            json!({"rows": [{"clustering": place(3, "h1", 10_000_000_000), "liveness": {"ts": ts(2)},
                "cells": {"note": cell("first".into(), 2), "value": cell((1.0 / 3.0).into(), 2)}}]}),
            json!({"rows": [{"clustering": place(1, "", 0), "liveness": {"ts": ts(6)}}]}),
            json!({"rows": [{"clustering": place(1, "nulls", 0), "liveness": {"ts": ts(7)},
                "cells": {"note": dead_cell(7), "value": dead_cell(7)}}]}),
            // An update makes no row.
            json!({"rows": [{"clustering": up, "cells": {"value": cell(2.5.into(), 8)}}]}),
            json!({"rows": [{"clustering": up, "cells": {"note": cell("half".into(), 9), "value": dead_cell(9)}}]}),
            json!({"rows": [{"clustering": place(2, "server time", 0), "liveness": now.clone(),
                "cells": {"note": {"value": "x", "ts": "now"}}}]}),
            json!({"rows": [{"clustering": up, "cells": {"note": dead_cell(36)}}]}),
            json!({"rows": [{"clustering": up, "delete": at(37)}]}),
            json!({"rows": [{"clustering": up, "delete": {"ts": "now", "at": "now"}}]}),
            json!({"rows": many(["b", "a"])}),
        ]
    );
    let dead = json!({"deleted": "now", "ts": "now"});
    assert_eq!(
        told(CASE, "acts.readings", &json!({"sensor": 3}))[1..],
        [
            json!({"rows": [{"clustering": place(1, "unset", 1), "liveness": now.clone(),
                "cells": {"note": {"value": "kept", "ts": "now"}}}]}),
            json!({"static": {"owner": dead.clone()}, "rows": [{"clustering": place(1, "null", 1), "liveness": now,
                "cells": {"note": {"value": "kept", "ts": "now"}, "value": dead}}]}),
        ]
    );
}

/// A connector that reads rows alone says nothing when only static columns change.
#[test]
fn static_columns_alone_are_an_event() {
    assert_eq!(
        told(CASE, "acts.readings", &json!({"sensor": 7})),
        [json!({"static": {"owner": cell("static only".into(), 32)}})]
    );
    let element = |path: &str, number| json!({"path": path, "ts": ts(number)});
    assert_eq!(
        told(CASE, "acts.profile", &json!({"who": "ada"})),
        [
            json!({"static": {"plan": cell("free".into(), 26)}}),
            json!({"static": {"quota": cell(5.into(), 27), "labels": {"elements": [element("eu", 27), element("new", 27)]}}}),
            json!({"static": {"labels": {"overwrite": at(27), "elements": [element("only", 28)]}}}),
            json!({"partition_delete": at(221)}),
            json!({"partition_delete": at(229)}),
        ]
    );
}

/// A connector that tells a row tells none of the static values that were written with it, or null in their place.
#[test]
fn static_values_written_with_a_row_are_told_with_it() {
    let events = told(CASE, "acts.profile", &json!({"who": "bob"}));
    let brief = |value: Value| json!({"value": value, "ts": ts(30), "ttl": 4000, "expires": "now"});
    assert_eq!(
        events[..2],
        [
            json!({"static": {"plan": cell("paid".into(), 29)}, "rows": [{"clustering": {"device": 1},
                "liveness": {"ts": ts(29)}, "cells": {"seen": cell(1_700_000_000_000_i64.into(), 29)}}]}),
            json!({"static": {"quota": brief(9.into())}, "rows": [{"clustering": {"device": 2},
                "cells": {"seen": brief(1_700_000_000_001_i64.into())}}]}),
        ]
    );
    assert_eq!(
        told(CASE, "acts.profile", &json!({"who": "cleo"})),
        [json!({"static": {"quota": cell(1.into(), 33)},
            "rows": [{"clustering": {"device": 1}, "liveness": {"ts": ts(34)}}],
            "range_deletes": [{"start": {"clustering": {"device": 5}, "inclusive": false}, "ts": ts(35), "at": "now"}]})]
    );
}

/// A connector that says nothing of it keeps the old value at every consumer.
#[test]
fn deleting_static_columns_is_an_event() {
    let events = told(CASE, "acts.profile", &json!({"who": "bob"}));
    assert_eq!(events.len(), 3);
    assert_eq!(events[2], json!({"static": {"plan": dead_cell(31), "labels": {"overwrite": at(31)}}}));
}

/// The Kafka key and partition of every event of one partition of a table.
fn homes(table: &str, key: &Value) -> Vec<(Value, i64)> {
    let laid = Laid::own(CASE);
    let records = laid.replay(["--envelope", "--partitions", "12"]).expect(0).events();
    let ours = records.iter().filter(|record| {
        let value = &record["value"];
        record["topic"] == format!("cassandra.{table}") && value["key"] == *key
    });
    ours.map(|record| (record["key"].clone(), record["partition"].as_i64().expect("a partition"))).collect()
}

/// A connector that makes the record key of partition and clustering key sends a range deletion to another Kafka partition
/// than the rows that it deletes; and its bounds are texts.
#[test]
fn a_range_deletion_has_typed_bounds_and_goes_where_its_rows_go() {
    let days = |start: Option<(i32, bool)>, end: Option<(i32, bool)>, number: i64| {
        let bound = |(day, inclusive): (i32, bool)| json!({"clustering": {"day": day}, "inclusive": inclusive});
        let mut range = json!({});
        for (name, side) in [("start", start), ("end", end)] {
            if let Some(side) = side {
                range[name] = bound(side);
            }
        }
        (range["ts"], range["at"]) = (ts(number).into(), "now".into());
        json!({"range_deletes": [range]})
    };
    let key = json!({"sensor": 20});
    let events = told(CASE, "acts.readings", &key);
    let (closed, open) = (|day| Some((day, true)), |day| Some((day, false)));
    assert_eq!(
        events[..8],
        [
            days(closed(1), closed(1), 51),
            days(open(1), None, 52),
            days(closed(1), None, 53),
            days(None, open(9), 54),
            days(None, closed(9), 55),
            days(open(1), open(9), 56),
            days(closed(1), closed(9), 57),
            days(closed(4), closed(4), 58),
        ]
    );
    let places: Vec<(Value, i64)> = homes("acts.readings", &key);
    assert_eq!(places.len(), events.len());
    assert!(places.iter().all(|(of, partition)| *of == key && *partition == places[0].1), "{places:?}");
}

/// Ranges that meet in one batch: what differs in time stays apart, and a range may be open to one side.
#[test]
fn ranges_that_meet_keep_their_bounds_and_times() {
    let bound = |day: i32, inclusive: bool| json!({"clustering": {"day": day}, "inclusive": inclusive});
    let range = |start: Value, end: Value, number| json!({"start": start, "end": end, "ts": ts(number), "at": "now"});
    let of = |sensor: i32| told(CASE, "acts.readings", &json!({"sensor": sensor}));
    assert_eq!(
        of(30),
        [
            json!({"range_deletes": [range(bound(1, true), bound(5, true), 177), range(bound(5, false), bound(20, true), 178)]})
        ]
    );
    assert_eq!(
        of(31),
        [json!({"rows": [{"clustering": place(7, "in both", 1), "liveness": {"ts": ts(181)}}],
            "range_deletes": [range(bound(1, true), bound(10, false), 178), range(bound(10, true), bound(20, true), 177)]})]
    );
    assert_eq!(
        of(32),
        [json!({"range_deletes": [range(bound(1, true), bound(9, true), 179),
            {"start": bound(9, false), "ts": ts(180), "at": "now"}]})]
    );
}

/// A connector that makes two records of it, each with its own key and the time of the later one, has them in any order.
#[test]
fn a_deletion_and_the_insert_behind_it_are_one_event_with_a_time_each() {
    let key = json!({"sensor": 13});
    assert_eq!(
        told(CASE, "acts.readings", &key),
        [json!({"partition_delete": at(50), "static": {"owner": cell("o".into(), 51)},
            "rows": [{"clustering": place(1, "survives", 1), "liveness": {"ts": ts(51)}}]})]
    );
    assert_eq!(homes("acts.readings", &key).len(), 1);
}

/// A connector that leaves counters out loses them without a trace.
#[test]
fn counters_are_events_with_what_each_host_counted() {
    let counted =
        |count: i64| json!({"value": count, "shards": [{"id": "host", "clock": "now", "count": count}], "ts": "now"});
    let row = |hour: i32, hits: i64, bytes: i64| json!({"rows": [{"clustering": {"hour": hour}, "cells": {"bytes": counted(bytes), "hits": counted(hits)}}]});
    let of = |page: &str| told(CASE, "acts.tally", &json!({"page": page}));
    let gone = json!({"ts": "now", "at": "now"});
    assert_eq!(
        of("p0"),
        [
            row(0, 0, 0),
            row(2, 22, -2_000_000_000),
            row(1, 44, -4_000_000_000),
            json!({"rows": [{"clustering": {"hour": 2}, "delete": gone}]})
        ]
    );
    assert_eq!(
        of("p1"),
        [
            row(1, 11, -1_000_000_000),
            row(0, 33, -3_000_000_000),
            row(2, 55, -5_000_000_000),
            json!({"static": {"total": counted(4)}}),
            json!({"rows": [{"clustering": {"hour": 1}, "cells": {"hits": {"deleted": "now", "ts": "now"}}}]})
        ]
    );
    assert_eq!(
        of("p2"),
        [json!({"rows": [{"clustering": {"hour": 1}, "cells": {"hits": counted(1)}},
            {"clustering": {"hour": 2}, "cells": {"bytes": counted(1)}}]})]
    );
}

/// The cells of every event that changes one column of the bag with this id alone, by the number of its statement.
fn bag(column: &str) -> Vec<Value> {
    let events = told(CASE, "acts.bag", &json!({"id": 1}));
    let cells = events.iter().filter_map(|event| match event["rows"].as_array().map(Vec::as_slice) {
        Some([row]) if row.get("liveness").is_none() => row["cells"].as_object(),
        _ => None,
    });
    cells.filter(|cells| cells.len() == 1).filter_map(|cells| cells.get(column).cloned()).collect()
}

/// A connector that publishes the elements of a removal as the set's value says the opposite of what happened.
#[test]
fn an_element_removed_from_a_set_is_told_as_deleted() {
    let gone = |path: i32| json!({"path": path, "deleted": "now", "ts": ts(185)});
    assert_eq!(bag("tags")[2], json!({"elements": [gone(1), gone(2)]}));
}

/// A connector that leaves the overwrite's deletion out makes no difference between adding to a set and replacing it.
#[test]
fn adding_to_a_set_and_overwriting_it_differ() {
    assert_eq!(
        bag("tags"),
        [
            json!({"overwrite": at(182), "elements": [{"path": 9, "ts": ts(183)}]}),
            json!({"elements": [{"path": 10, "ts": ts(184)}, {"path": 11, "ts": ts(184)}]}),
            json!({"elements": [{"path": 1, "deleted": "now", "ts": ts(185)}, {"path": 2, "deleted": "now", "ts": ts(185)}]}),
            json!({"overwrite": at(185)}),
        ]
    );
}

/// The same for lists, where places have names, and maps, where elements have values.
#[test]
fn lists_and_maps_tell_appended_overwritten_and_deleted_elements_apart() {
    let element = |value: Value, number| json!({"path": "time", "value": value, "ts": ts(number)});
    assert_eq!(
        bag("queue"),
        [
            json!({"overwrite": at(177), "elements": [element("over".into(), 178)]}),
            json!({"elements": [element("last".into(), 179)]}),
            json!({"elements": [element("first".into(), 180)]}),
            json!({"overwrite": at(180)}),
            json!({"overwrite": at(181)}),
        ]
    );
    let entry = |path: &str, value: i32, number| json!({"path": path, "value": value, "ts": ts(number)});
    let gone = |path: &str, number| json!({"path": path, "deleted": "now", "ts": ts(number)});
    assert_eq!(
        bag("attrs"),
        [
            json!({"overwrite": at(186), "elements": [entry("only", 1, 187)]}),
            json!({"elements": [entry("m", 5, 188), entry("n", 6, 188)]}),
            json!({"elements": [gone("k", 189), gone("zz", 189)]}),
            json!({"elements": [entry("one", 42, 190)]}),
            json!({"elements": [gone("gone", 191)]}),
            json!({"overwrite": at(191)}),
        ]
    );
}

/// A connector that knows no user types drops every row of a table that has one.
#[test]
fn a_table_with_user_types_is_read_like_any_other() {
    let field = |path: &str, value: Value, number| json!({"path": path, "value": value, "ts": ts(number)});
    assert_eq!(
        bag("place"),
        [
            json!({"elements": [field("x", 5.into(), 193)]}),
            json!({"elements": [field("y", "field".into(), 194)]}),
            json!({"elements": [field("path", json!([7]), 195)]}),
            json!({"elements": [{"path": "x", "deleted": "now", "ts": ts(196)}]}),
            json!({"overwrite": at(196), "elements": [field("x", 1.into(), 197)]}),
            json!({"overwrite": at(197)}),
        ]
    );
    assert_eq!(bag("fixed"), [cell(json!({"x": 9, "y": null, "path": null}), 199), dead_cell(200)]);
    let first = &told(CASE, "acts.bag", &json!({"id": 1}))[0]["rows"][0]["cells"];
    assert_eq!(first["fixed"], cell(json!({"x": 2, "y": null, "path": null}), 177));
    assert_eq!(
        first["place"],
        json!({"overwrite": at(176), "elements": [field("x", 1.into(), 177), field("y", "why".into(), 177),
            field("path", json!([1, 2]), 177)]})
    );
}

/// A connector that knows the tables with CDC alone can't read a mutation with another one in it, and drops all of it.
#[test]
fn a_batch_with_tables_without_cdc_loses_nothing_of_the_others() {
    let laid = Laid::own(CASE);
    let events = laid.replay::<&str>([]).expect(0).events();
    let keys = [json!({"sensor": 80}), json!({"id": 80})];
    let of_batch = |event: &&Value| {
        let deletes = event.get("partition_delete").is_some() && event["table"] == "profile";
        keys.contains(&event["key"]) || deletes && event["key"]["who"] == "ada"
    };
    let mut found: Vec<(u32, u32, String, Value)> = Vec::new();
    for event in events.iter().filter(of_batch) {
        let index = event["id"].as_str().unwrap().rsplit_once('/').unwrap().1.parse().unwrap();
        let table = format!("{}.{}", event["keyspace"].as_str().unwrap(), event["table"].as_str().unwrap());
        found.push((position(event), index, table, content(event.clone())));
    }
    let batch = |first: i64| {
        [
            (
                "acts.bag",
                json!({"rows": [{"liveness": {"ts": ts(first + 2)}, "cells": {"tags":
                {"overwrite": at(first + 1), "elements": [{"path": 1, "ts": ts(first + 2)}]}}}]}),
            ),
            ("acts.profile", json!({"partition_delete": at(first + 5)})),
            ("acts.readings", json!({"rows": [{"clustering": place(1, "mixed", 1), "liveness": {"ts": ts(first)}}]})),
            (
                "side.other",
                json!({"rows": [{"clustering": {"nr": 1}, "liveness": {"ts": ts(first + 3)},
                "cells": {"v": cell("other keyspace".into(), first + 3)}}]}),
            ),
        ]
    };
    let at = |mine: &dyn Fn(&str) -> bool| -> Vec<u32> {
        found.iter().filter(|(_, _, table, _)| mine(table)).map(|(at, ..)| *at).collect()
    };
    // The bag and the reading of one partition key are one mutation, beside a table without CDC.
    assert_eq!(at(&|table| table == "acts.bag"), at(&|table| table == "acts.readings"));
    let expected = oracle::read(&load::own_case(CASE).folder.join("expected.jsonl.gz"));
    for at in at(&|table| table == "acts.bag") {
        let mutation = expected.mutations.iter().find(|mutation| mutation.position == at).unwrap();
        let tables: Vec<(&str, bool)> =
            mutation.updates.iter().map(|update| (update.table.as_str(), update.cdc)).collect();
        assert!(tables.contains(&("quiet", false)) && tables.len() == 3, "{tables:?}");
        for (_, index, table, _) in found.iter().filter(|(position, ..)| *position == at) {
            assert!(table.ends_with(tables[*index as usize].0), "{table} is number {index} of {tables:?}");
        }
    }
    for (number, first) in [216, 224].into_iter().enumerate() {
        let mut of: Vec<(&str, Value)> =
            found[number * 4..(number + 1) * 4].iter().map(|(_, _, table, event)| (&**table, event.clone())).collect();
        of.sort_by_key(|(table, _)| *table);
        assert_eq!(of, batch(first));
    }
    assert_eq!(found.len(), 8);
    assert!(events.iter().all(|event| event["table"] != "quiet"));
}

/// A connector that does not know a dropped column throws away the whole mutation that has it.
#[test]
fn data_of_a_column_that_was_dropped_since_is_told() {
    let insert = |nr: i32| {
        let number = 319 + i64::from(nr);
        json!({"static": {"s": cell(nr.into(), number)}, "rows": [{"clustering": {"nr": nr}, "liveness": {"ts": ts(number)},
            "cells": {"a": cell(nr.into(), number), "b": cell("b".into(), number),
                "items": {"overwrite": at(number - 1), "elements": [{"path": "x", "ts": ts(number)}]}}}]})
    };
    let expected = [
        insert(0),
        insert(1),
        insert(2),
        json!({"rows": [{"clustering": {"nr": 2}, "cells": {"b": dead_cell(322), "items": {"overwrite": at(322)}}}]}),
    ];
    assert_eq!(told(CASE, "acts.shrinking", &json!({"id": 1})), expected);
    // The same without a schema of the end, from the log alone.
    let events = Laid::own(CASE).replay_alone::<&str>([]).expect(0).events();
    let of_table = events.into_iter().filter(|event| event["table"] == "shrinking" && event["key"]["id"] == 1);
    assert_eq!(of_table.map(content).collect::<Vec<_>>(), expected);
}

/// A connector that gives a moment of expiry as if it was one of deletion, and no TTL, can't say what was written.
#[test]
fn a_ttl_is_told_with_its_expiry_and_a_conditional_write_once() {
    let laid = Laid::own(CASE);
    let brief = |value: Option<Value>, number: i64, ttl: i32| {
        let mut cell = json!({"ts": ts(number), "ttl": ttl, "expires": "now"});
        if let Some(value) = value {
            cell["value"] = value;
        }
        cell
    };
    assert_eq!(
        told(CASE, "acts.readings", &json!({"sensor": 60})),
        [
            json!({"rows": [{"clustering": place(1, "key only", 1), "liveness": brief(None, 211, 3600)}]}),
            json!({"rows": [{"clustering": place(2, "a second", 1), "liveness": brief(None, 212, 1),
                "cells": {"value": brief(Some(1.0.into()), 212, 1)}}]}),
            json!({"rows": [{"clustering": place(4, "two", 1), "liveness": brief(None, 214, 100),
                "cells": {"note": brief(Some("longer".into()), 215, 200), "value": brief(Some(1.0.into()), 214, 100)}}]}),
        ]
    );
    // Of one write, a TTL of 200 s expires 100 s after one of 100 s.
    let events = laid.replay::<&str>([]).expect(0).events();
    let row = &events.iter().rfind(|event| event["key"]["sensor"] == 60).unwrap()["rows"][0];
    let expires = |cell: &Value| cell["expires"].as_i64().unwrap();
    assert_eq!(expires(&row["cells"]["note"]) - expires(&row["liveness"]), 100);
    let (lwt, now) = (place(1, "lwt", 1), json!({"ts": "now"}));
    let value = |value: f64| json!({"value": {"value": value, "ts": "now"}});
    assert_eq!(
        told(CASE, "acts.readings", &json!({"sensor": 70})),
        [
            json!({"rows": [{"clustering": lwt, "liveness": now, "cells": value(1.0)}]}),
            json!({"rows": [{"clustering": lwt, "cells": value(2.0)}]}),
            json!({"static": {"owner": {"value": "first", "ts": "now"}},
                "rows": [{"clustering": place(2, "lwt", 1), "liveness": now}]}),
            json!({"rows": [{"clustering": lwt, "delete": {"ts": "now", "at": "now"}}]}),
        ]
    );
}

/// A connector that renders them in 64 bits, in mean months, or with a sign that is not theirs, tells other values.
#[test]
fn varints_durations_dates_and_addresses_are_told_exactly() {
    let events = events_of("4.1-types", "zoo.regulars");
    let of = |column: &str| -> Vec<Value> {
        let cells =
            events.iter().filter_map(|event| event["rows"][0]["cells"].as_object()).filter(|cells| cells.len() == 1);
        let cells = cells.filter_map(|cells| cells.get(column)).filter(|cell| cell.get("deleted").is_none());
        cells.map(|cell| cell["value"].clone()).collect()
    };
    let empty = json!({"$empty": true});
    let huge = format!("1{}", "0".repeat(50));
    assert_eq!(
        of("a_varint"),
        [
            json!("0"),
            json!("-1"),
            json!("127"),
            json!("128"),
            json!("-128"),
            json!("-129"),
            json!("9223372036854775808"),
            json!(huge),
            json!(format!("-{huge}")),
            json!("3019615180181953"),
            empty.clone()
        ]
    );
    let duration = |months: i32, days: i32, nanos: i64| json!({"months": months, "days": days, "nanos": nanos});
    assert_eq!(
        of("a_duration"),
        [
            duration(0, 0, 0),
            duration(1, 0, 0),
            duration(0, -2, 0),
            duration(0, 0, 1),
            duration(14, 3, 14_706_000_000_000),
            duration(-1, -2, -3),
            duration(-7, -44, -673_182_178_993)
        ]
    );
    assert_eq!(
        of("a_date"),
        [
            json!("1970-01-01"),
            json!("1969-12-31"),
            json!("0001-01-01"),
            json!("9999-12-31"),
            json!("-0753-04-21"),
            json!(i32::MIN),
            json!(i32::MAX),
            json!("5430-10-24")
        ]
    );
    assert_eq!(
        of("a_inet"),
        [
            json!("10.0.0.1"),
            json!("255.255.255.255"),
            json!("::"),
            json!("::1"),
            json!("2001:db8::1:0:0:2"),
            json!("192.0.2.1"),
            json!("217.137.46.152"),
            empty
        ]
    );
}

/// A connector that asks the node for tables, and does so too early, says nothing of a new one for the rest of its life.
#[test]
fn tables_made_while_it_runs_are_known_from_the_log() {
    let scene = Scene::new("4.1-schema");
    // What it knows at the start: none of the tables of users.
    let mut schema: Value = serde_json::from_slice(&load::read(&scene.laid.schema)).unwrap();
    for rows in schema.as_object_mut().unwrap().values_mut() {
        let of_users = |row: &Value| ["drift", "brief"].contains(&row["keyspace_name"].as_str().unwrap());
        rows.as_array_mut().unwrap().retain(|row| !of_users(row));
    }
    scene.set_schema(&schema);
    scene.once(&[]).expect(0);
    let found = scene.published(26);
    let labels: Vec<String> = found
        .iter()
        .map(|(topic, event)| {
            let table = topic.strip_prefix("cassandra.").unwrap();
            let row = &event["rows"][0];
            let label = row["clustering"].get("stage").or(row["clustering"].get("step"));
            let label = label.or(row["cells"].get("v").and_then(|cell| cell.get("value")));
            format!("{table} {} {}", event["key"]["id"], label.unwrap_or(&Value::Null))
        })
        .collect();
    let steps = |id: i32, numbers: &[i32]| -> Vec<String> {
        numbers.iter().map(|number| format!("drift.evolving {id} \"step {number:02}\"")).collect()
    };
    let others = [
        "brief.gone 1 \"of a keyspace that goes\"",
        "drift.emptied 1 \"before\"",
        "drift.emptied 2 \"after\"",
        "drift.evolving 1 null",
        "drift.late 1 \"the last table\"",
        "drift.phoenix 1 \"first life\"",
        "drift.phoenix \"7d444840-9dc0-41d1-b245-5ffdce74fad2\" 2",
        "drift.places 1 null",
        "drift.places 1 null",
        "drift.places 2 null",
        "drift.places 3 null",
        "drift.switched 2 \"cdc true\"",
        "drift.switched 4 \"cdc true\"",
    ];
    let mut expected: Vec<String> = others.map(str::to_owned).to_vec();
    expected.extend(steps(0, &[3, 6, 9, 12]));
    expected.extend(steps(1, &[1, 4, 7, 10, 13]));
    expected.extend(steps(2, &[2, 5, 8, 11]));
    let (mut labels, ids) = (labels, found.iter().map(|(_, event)| event["id"].to_string()));
    labels.sort();
    expected.sort();
    assert_eq!(labels, expected);
    assert_eq!(ids.collect::<BTreeSet<_>>().len(), labels.len());
    assert!(scene.letters().is_empty());
}
