//! The line inside this process, piece by piece, each against what it can't be faster than.
//!
//! Owns: these rows. Does not own: whole processes (`end_to_end`).

use std::hint::black_box;

use cassandra_commitlog::{Decoder, LogOffset, PartitionUpdate};
use cassandra_event::Format;
use prost::Message as _;

use crate::allocations::allocations_of;
use crate::image::Image;
use crate::line::{Publisher, bodies, each_entry, each_update, first_section};
use crate::measure::{Duel, Effort, Spread, duel};
use crate::ready;
use crate::table::{Row, Target};

/// Ready updates that the encoders are given in turn: as many records as a run has.
const UPDATES: usize = 256;

/// A row's first column, and what it is to reach; `S` stands for the numbers of the figures with theirs.
type Id = (&'static str, Target);

/// All of them.
pub(crate) fn rows(effort: Effort, orders: &Image, recorded: &Image, lz4: &Image) -> Vec<Row> {
    let once = |image: &Image| look(&crc32fast::hash(black_box(&image.file)));
    let bodies = bodies(&orders.file);
    let mut each = || black_box(&bodies).iter().for_each(|body| look(&crc32fast::hash(&orders.file[body.clone()])));
    let mut rows = line_rows(effort, orders, ("S", Target::None), "one crc32fast pass", &mut || once(orders));
    rows.extend(encoder_rows(effort, orders));
    rows.extend([Format::Protobuf, Format::Json].map(|format| allocation_row(orders, format)));
    rows.extend(line_rows(effort, orders, ("bare", Target::None), "crc32fast, body by body", &mut each));
    rows.push(lz4_row(effort, orders, lz4));
    rows.extend(line_rows(effort, recorded, ("mixed", Target::None), "one crc32fast pass", &mut || once(recorded)));
    rows
}

/// How far a segment goes through the line, against a pass that only sums its bytes up.
fn line_rows(effort: Effort, image: &Image, id: Id, against: &'static str, sum: &mut dyn FnMut()) -> Vec<Row> {
    let mut row = |what: &str, id: Id, ours: &mut dyn FnMut()| {
        let duel = duel(effort, ours, sum);
        let rate = |seconds: f64| image.file.len() as f64 / seconds / 1e9;
        let each = |seconds: f64| seconds / image.entries as f64 * 1e9;
        Row {
            id: id.0,
            what: String::from(what),
            against,
            target: id.1,
            reached: duel.cpu,
            unit: "",
            wall: Some(duel.wall.middle),
            gated: true,
            ours: format!("{:.2} GB/s, {:.0} ns an entry", rate(duel.ours.cpu), each(duel.ours.cpu)),
            theirs: format!("{:.1} GB/s, {:.1} ns", rate(duel.theirs.cpu), each(duel.theirs.cpu)),
        }
    };
    let numbered = |number, target| if id.0 == "S" { (number, Target::AtLeast(target)) } else { id };
    let mut decoder = Decoder::new(image.schema.clone());
    let mut rows = vec![
        row("framing, both CRCs", numbered("S1", 0.5), &mut || each_entry(&image.file, |_, entry| look(entry))),
        row("decode to borrowed updates", numbered("S2", 0.2), &mut || {
            each_update(image, &mut decoder, |update, _| look(update));
        }),
    ];
    let json = if id.0 == "S" { ("JSON", Target::None) } else { id };
    for (what, id, format) in
        [("decode + Protobuf", numbered("S3", 0.1), Format::Protobuf), ("decode + JSON", json, Format::Json)]
    {
        let mut publisher = Publisher::new(format, image);
        rows.push(row(what, id, &mut || {
            each_update(image, &mut decoder, |update, end| publisher.encode(update, end));
        }));
    }
    rows
}

/// As much as it takes to have something read.
fn look<T>(seen: &T) {
    black_box(seen);
}

/// The encoders alone, key, hash, id and digest included, against writers of the finished value.
fn encoder_rows(effort: Effort, image: &Image) -> Vec<Row> {
    // An update is lent by its decoder: as many updates at once take as many decoders.
    let entries: Vec<_> = first_section(&image.file).take(UPDATES).collect();
    let mut decoders: Vec<_> = entries.iter().map(|_| Decoder::new(image.schema.clone())).collect();
    let version = image.name.version;
    let mut mutations: Vec<_> = decoders
        .iter_mut()
        .zip(&entries)
        .map(|(decoder, entry)| decoder.mutation(version, entry).expect("a mutation"))
        .collect();
    let updates: Vec<(PartitionUpdate<'_>, LogOffset)> = mutations
        .iter_mut()
        .zip(&entries)
        .map(|(mutation, entry)| (mutation.next_update().expect("to decode").expect("an update"), entry.end()))
        .collect();
    let values = |publisher: &mut Publisher| -> Vec<Vec<u8>> {
        updates.iter().map(|(update, end)| publisher.record_of(update, *end).2.to_vec()).collect()
    };
    let encode = |publisher: &mut Publisher| {
        for (update, end) in black_box(&updates) {
            publisher.encode(update, *end);
        }
    };

    let mut protobuf = Publisher::new(Format::Protobuf, image);
    let (messages, message_bytes) = ready_messages(&values(&mut protobuf));
    let mut buffer = Vec::new();
    let protobuf = duel(effort, &mut || encode(&mut protobuf), &mut || {
        buffer.clear();
        for message in black_box(&messages) {
            message.encode(&mut buffer).expect("room");
        }
        black_box(&buffer);
    });

    let mut json = Publisher::new(Format::Json, image);
    let (structs, struct_bytes) = ready_structs(&values(&mut json));
    let mut buffer = Vec::new();
    let json = duel(effort, &mut || encode(&mut json), &mut || {
        buffer.clear();
        for event in black_box(&structs) {
            serde_json::to_writer(&mut buffer, event).expect("room");
        }
        black_box(&buffer);
    });

    let row = |id, what: &str, against, target, duel: Duel, bytes: usize| Row {
        id,
        what: what.to_owned(),
        against,
        target: Target::AtMost(target),
        reached: duel.cpu.inverse(),
        unit: "",
        wall: Some(1.0 / duel.wall.middle),
        gated: true,
        ours: format!("{:.0} ns an event of {bytes} bytes", duel.ours.cpu / UPDATES as f64 * 1e9),
        theirs: format!("{:.0} ns", duel.theirs.cpu / UPDATES as f64 * 1e9),
    };
    vec![
        row("S4", "Protobuf encode", "prost, the struct ready", 0.6, protobuf, message_bytes),
        row("S5", "JSON encode", "serde_json, the struct ready", 1.0, json, struct_bytes),
    ]
}

/// Messages that write these values, and how long a value is.
fn ready_messages(values: &[Vec<u8>]) -> (Vec<ready::proto::Event>, usize) {
    let decode = |value: &Vec<u8>| {
        let message = ready::proto::Event::decode(value.as_slice()).expect("our own output");
        assert_eq!(message.encode_to_vec(), *value, "prost writes something else");
        message
    };
    (values.iter().map(decode).collect(), average(values))
}

/// Structs that write these values, and how long a value is.
fn ready_structs(values: &[Vec<u8>]) -> (Vec<ready::Event>, usize) {
    let parse = |value: &Vec<u8>| {
        let event: ready::Event = serde_json::from_slice(value).expect("our own output");
        assert_eq!(serde_json::to_vec(&event).expect("room"), *value, "serde_json writes something else");
        event
    };
    (values.iter().map(parse).collect(), average(values))
}

fn average(values: &[Vec<u8>]) -> usize {
    values.iter().map(Vec::len).sum::<usize>() / values.len()
}

/// Decoding the same mutations, compressed by 100 KB.
fn lz4_row(effort: Effort, plain: &Image, lz4: &Image) -> Row {
    let mut decoders = [Decoder::new(plain.schema.clone()), Decoder::new(lz4.schema.clone())];
    let [theirs, ours] = &mut decoders;
    let duel = duel(effort, &mut || each_update(lz4, ours, |update, _| look(update)), &mut || {
        each_update(plain, theirs, |update, _| look(update))
    });
    let each = |seconds: f64| format!("{:.0} ns an entry", seconds / plain.entries as f64 * 1e9);
    Row {
        id: "LZ4",
        what: "decode a compressed segment".to_owned(),
        against: "a plain one",
        target: Target::None,
        reached: duel.cpu,
        unit: "",
        wall: Some(duel.wall.middle),
        gated: true,
        ours: each(duel.ours.cpu),
        theirs: each(duel.theirs.cpu),
    }
}

/// What a segment costs in allocations once buffers have grown.
fn allocation_row(image: &Image, format: Format) -> Row {
    let mut decoder = Decoder::new(image.schema.clone());
    let mut publisher = Publisher::new(format, image);
    let mut pass = || each_update(image, &mut decoder, |update, end| publisher.encode(update, end));
    pass();
    let calls = allocations_of(pass);
    let each = calls as f64 / image.entries as f64;
    let what = match format {
        Format::Protobuf => "allocations an event, Protobuf",
        Format::Json => "allocations an event, JSON",
    };
    Row {
        id: "S9",
        what: what.to_owned(),
        against: "",
        target: Target::AtMost(0.05),
        reached: Spread::one(each),
        unit: "",
        wall: None,
        gated: true,
        ours: format!("{calls} in {} events", image.entries),
        theirs: String::new(),
    }
}
