//! The record of an entry that could not be decoded.
//!
//! Owns: its members in both formats, its chunks. Does not own: the decision to give an entry up, its reasons.

use cassandra_commitlog::Position;

use crate::encoder::{Chunk, Encoder, Record};
use crate::json::push_parts;
use crate::json_text::{hex, push_base64, push_chunk as push_chunk_json, push_int, push_str};
use crate::settings::Format;
use crate::split::chunk_bytes;
use crate::value_protobuf::push_chunk as push_chunk_proto;
use crate::wire::{open_long, push_bytes, push_text, push_uint_default};

/// An entry that could not be decoded.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// The segment's file name.
    pub segment: &'a str,
    /// The end of the entry.
    pub position: Position,
    /// A word for the kind of failure, such as `unknown-table`.
    pub reason: &'a str,
    /// What exactly.
    pub detail: &'a str,
    /// The keyspace, where it is known.
    pub keyspace: Option<&'a str>,
    /// The table, where it is known.
    pub table: Option<&'a str>,
    /// The entry's size as its header has it, bytes.
    pub size: u32,
    /// The checksum of the entry's bytes.
    pub crc: u32,
    /// The segment's commit-log version.
    pub version: i32,
    /// The entry's bytes.
    pub bytes: &'a [u8],
}

impl Encoder {
    /// Appends a dead letter: its key is its id without the part. In parts where it is larger than a record may be.
    pub fn dead_letter(&self, letter: &DeadLetter<'_>, arena: &mut Vec<u8>, records: &mut Vec<Record>) {
        let key = arena.len();
        arena.extend_from_slice(&self.constants.id);
        arena.extend_from_slice(letter.position.to_string().as_bytes());
        let key = key..arena.len();
        let start = arena.len();
        let limit = self.dead_letter_limit();
        self.push_letter(letter, None, arena);
        if arena.len() - start + key.len() <= limit {
            records.push(Record::new(Record::NO_TABLE, &key, start..arena.len(), arena));
            return;
        }
        arena.truncate(start);
        let longest = Chunk { number: u32::MAX, of: u32::MAX, ..Chunk::EMPTY };
        self.push_letter(letter, Some(longest), arena);
        let around = arena.len() - start + key.len();
        arena.truncate(start);
        for chunk in chunk_bytes(letter.bytes, limit.saturating_sub(around), self.settings.format) {
            let start = arena.len();
            self.push_letter(letter, Some(chunk), arena);
            records.push(Record::new(Record::NO_TABLE, &key, start..arena.len(), arena));
        }
    }

    fn push_letter(&self, letter: &DeadLetter<'_>, chunk: Option<Chunk<'_>>, out: &mut Vec<u8>) {
        match self.settings.format {
            Format::Json => self.letter_json(letter, chunk, out),
            Format::Protobuf => self.letter_proto(letter, chunk, out),
        }
    }

    fn letter_json(&self, letter: &DeadLetter<'_>, chunk: Option<Chunk<'_>>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"v\":1,\"id\":\"");
        out.extend_from_slice(&self.constants.id_json);
        out.extend_from_slice(letter.position.to_string().as_bytes());
        if let Some(chunk) = chunk {
            out.extend_from_slice(b"/p");
            push_int(out, chunk.number);
            out.push(b'"');
            push_parts(out, chunk.number, chunk.of);
        } else {
            out.push(b'"');
        }
        out.extend_from_slice(b",\"reason\":");
        push_str(out, letter.reason);
        out.extend_from_slice(b",\"detail\":");
        push_str(out, letter.detail);
        for (name, value) in [(b",\"keyspace\":".as_slice(), letter.keyspace), (b",\"table\":", letter.table)] {
            out.extend_from_slice(name);
            match value {
                Some(value) => push_str(out, value),
                None => out.extend_from_slice(b"null"),
            }
        }
        out.extend_from_slice(b",\"entry\":{\"position\":");
        push_int(out, letter.position.offset.0);
        out.extend_from_slice(b",\"size\":");
        push_int(out, letter.size);
        out.extend_from_slice(b",\"crc\":\"");
        out.extend_from_slice(&hex(letter.crc));
        out.extend_from_slice(b"\",\"version\":");
        push_int(out, letter.version);
        out.extend_from_slice(b",\"base64\":");
        match chunk {
            Some(chunk) => push_chunk_json(out, chunk.number, chunk.of, chunk.bytes),
            None => {
                out.push(b'"');
                push_base64(out, letter.bytes);
                out.push(b'"');
            }
        }
        out.extend_from_slice(b"},\"source\":");
        self.push_bare_source_json(letter.segment, out);
        out.push(b'}');
    }

    fn letter_proto(&self, letter: &DeadLetter<'_>, chunk: Option<Chunk<'_>>, out: &mut Vec<u8>) {
        push_uint_default(out, 1, 1);
        let id = open_long(out, 2);
        out.extend_from_slice(&self.constants.id);
        out.extend_from_slice(letter.position.to_string().as_bytes());
        if let Some(chunk) = chunk {
            out.extend_from_slice(format!("/p{}", chunk.number).as_bytes());
        }
        id.close(out);
        if let Some(chunk) = chunk {
            push_uint_default(out, 3, u64::from(chunk.number));
            push_uint_default(out, 4, u64::from(chunk.of));
        }
        push_text(out, 5, letter.reason);
        push_text(out, 6, letter.detail);
        for (field, value) in [(7, letter.keyspace), (8, letter.table)] {
            if let Some(value) = value {
                push_bytes(out, field, value.as_bytes());
            }
        }
        let entry = open_long(out, 9);
        push_uint_default(out, 1, u64::from(letter.position.offset.0));
        push_uint_default(out, 2, u64::from(letter.size));
        push_bytes(out, 3, &hex(letter.crc));
        push_uint_default(out, 4, i64::from(letter.version).cast_unsigned());
        match chunk {
            Some(chunk) => push_chunk_proto(out, 6, chunk.number, chunk.of, chunk.bytes),
            None => push_bytes(out, 5, letter.bytes),
        }
        entry.close(out);
        self.push_bare_source_proto(10, letter.segment, out);
    }

    /// A source without a position.
    pub(crate) fn push_bare_source_json(&self, segment: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.constants.source_json);
        push_str(out, segment);
        out.push(b'}');
    }

    /// A source without a position.
    pub(crate) fn push_bare_source_proto(&self, field: u8, segment: &str, out: &mut Vec<u8>) {
        let source = open_long(out, field);
        out.extend_from_slice(&self.constants.source_proto);
        push_text(out, 3, segment);
        source.close(out);
    }
}
