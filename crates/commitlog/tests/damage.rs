//! Damaged and hostile segments: reading gives exactly the records before the damage and then says where and in which
//! structure it is, without a panic and without memory that a lie asked for.

mod support;

use std::sync::Arc;

use cassandra_commitlog::{
    Cause, DecodeError, Descriptor, MutationError, Place, Plaintext, Schema, Sections, Step, Structure, Tail,
};
use support::framing::lying_entry;
use support::memory::peak_of;
use support::model::{EPOCH_MICROS, Update, mutation, update_head};
use support::reader::{self, Ending, Record, read};
use support::samples::{self, NO_TABLE, int};
use support::tables::{ABYSS, COMPOSITE, DEEP, MIXED, WIDE, schema};
use support::wire::{self, crc32, uv, vbytes};
use support::writer::{self, Codec, Segment, descriptor, encrypted_chunk, entry, marker, stored};

const VERSIONS: [i32; 4] = [6, 7, 8, 9];

/// What reading a segment of a kilobyte may hold at once, whatever it says: the decoder's lists, and a decompressor.
const LITTLE: usize = 1 << 20;

fn each_segment(mut check: impl FnMut(&Segment, &[Record], &Arc<Schema>)) {
    let schema = schema();
    for version in VERSIONS {
        for codec in Codec::ALL {
            let segment = samples::segment(version, codec, &schema);
            let (records, ending) = read(&segment.bytes, &schema, Tail::Sealed);
            assert_eq!((records.len(), ending), (4, Ending::End));
            check(&segment, &records, &schema);
        }
    }
}

/// The error names a structure and a place that the file has.
fn is_placed(error: &DecodeError, file: &[u8]) {
    match error.at {
        Place::File(at) => assert!(at.0 as usize <= file.len(), "{error}"),
        // A little file has no positions beyond these, compressed as it may be.
        Place::Log(at) => assert!((at.0 as usize) < 1 << 14, "{error}"),
        Place::Bytes(_) => panic!("{error}: a segment has offsets"),
    }
    let text = error.to_string();
    assert!(text.contains(" at file offset ") || text.contains(" at position "), "{text}");
}

/// Reads a damaged file: what comes is the beginning of what was there, in little memory.
fn damaged(file: &[u8], good: &[Record], schema: &Arc<Schema>, tail: Tail) -> (usize, Ending) {
    let ((records, ending), peak) = peak_of(|| read(file, schema, tail));
    assert!(good.starts_with(&records), "records that were not written, or not in this order");
    assert!(peak < LITTLE, "{peak} bytes held for a file of {}", file.len());
    if let Ending::Damage(error) = &ending {
        is_placed(error, file);
    }
    (records.len(), ending)
}

#[test]
fn cut_at_every_byte() {
    each_segment(|segment, good, schema| {
        let plain = segment.codec == Codec::Plain;
        for cut in 0..segment.bytes.len() {
            let file = &segment.bytes[..cut];
            // A compressed file has no mark at its end: one that is cut between two sections is whole to all appearances.
            // A plain one is whole if its last marker, the unwritten one, is.
            let whole = if plain {
                cut >= segment.chain_end() + 8
            } else {
                cut == segment.header || segment.sections.iter().any(|section| section.end == cut)
            };
            let (count, ending) = damaged(file, good, schema, Tail::Sealed);
            assert_eq!(ending == Ending::End, whole, "cut at {cut}: {ending:?}");
            // Sections that are there in full are read in full.
            let sections = segment.sections.iter().filter(|section| section.end <= cut).count();
            assert_eq!(count, [0, 2, 2, 4][sections], "cut at {cut}");
            // To a reader of a live file nothing is wrong with what has not been written yet.
            let live = damaged(file, good, schema, Tail::Live);
            if cut < segment.header {
                assert_eq!(live, (0, ending), "cut at {cut}");
            } else {
                assert_eq!(live, (count, Ending::Pending), "cut at {cut}");
            }
        }
    });
}

#[test]
fn every_bit_of_every_byte_flipped() {
    each_segment(|segment, good, schema| {
        for at in 0..segment.bytes.len() {
            for bit in 0..8 {
                let mut file = segment.bytes.clone();
                file[at] ^= 1 << bit;
                let (count, ending) = damaged(&file, good, schema, Tail::Sealed);
                match &ending {
                    Ending::Damage(error) => check_place(error, at, count, segment, good),
                    Ending::Pending => panic!("bit {bit} of byte {at}: a sealed file has nothing to wait for"),
                    // What no checksum and no rule covers says nothing: bytes behind the end, bits that a codec ignores.
                    Ending::End => {
                        assert_eq!(count, good.len(), "bit {bit} of byte {at} took records away unnoticed");
                        let idle = at >= segment.chain_end() + 8;
                        assert!(idle || segment.codec != Codec::Plain, "bit {bit} of byte {at} was not noticed");
                    }
                }
                let (live_count, live) = damaged(&file, good, schema, Tail::Live);
                assert!(live != Ending::End && live_count <= count.max(live_count), "bit {bit} of byte {at}");
                assert_eq!(
                    live == Ending::Pending && live_count == good.len(),
                    ending == Ending::End || at >= segment.chain_end()
                );
            }
        }
    });
}

/// In a plain segment every byte belongs to one structure, and damage to it must be told as that one's.
fn check_place(error: &DecodeError, at: usize, records: usize, segment: &Segment, good: &[Record]) {
    if at < segment.header {
        assert_eq!((error.structure, records), (Structure::Descriptor, 0), "{error}");
        return;
    }
    let before = segment.sections.iter().take_while(|section| section.end <= at).count();
    assert!(records >= [0, 2, 2, 4][before], "{error}: records of sections before the damage are missing");
    if segment.codec != Codec::Plain {
        return;
    }
    let Some(hit) = segment.entries.iter().position(|entry| entry.contains(&at)) else {
        // A marker: damage to its offset may show only where that leads.
        let structures = [Structure::SyncMarker, Structure::EntryHeader];
        assert!(structures.contains(&error.structure), "{error}");
        return;
    };
    let entry = &segment.entries[hit];
    assert_eq!(good[hit].end, entry.end);
    let structure = if at < entry.start + 8 { Structure::EntryHeader } else { Structure::EntryBody };
    assert_eq!((error.structure, records), (structure, hit), "{error}");
    assert_eq!(error.at, Place::Log(cassandra_commitlog::LogOffset(entry.start as u32)));
    assert!(matches!(error.cause, Cause::Checksum { .. }), "{error}");
}

#[test]
fn zeros_from_every_byte_on() {
    each_segment(|segment, good, schema| {
        for from in 0..segment.bytes.len() {
            let mut file = segment.bytes.clone();
            file[from..].fill(0);
            // In a plain file zeros from a marker on are what was never written.
            let boundary = |at: usize| file[..at] == segment.bytes[..at] && file[at..].iter().all(|byte| *byte == 0);
            let ends = [segment.header].into_iter().chain(segment.sections.iter().map(|section| section.end));
            let whole = file == segment.bytes || segment.codec == Codec::Plain && ends.clone().any(boundary);
            let (count, ending) = damaged(&file, good, schema, Tail::Sealed);
            assert_eq!(ending == Ending::End, whole, "zeros from {from}: {ending:?}");
            let sections = segment.sections.iter().filter(|section| section.end <= from).count();
            assert!(count >= [0, 2, 2, 4][sections], "zeros from {from}");
        }
    });
}

#[test]
fn bytes_behind_the_end() {
    each_segment(|segment, good, schema| {
        for extra in [1, 7, 8, 9, 600] {
            for fill in [0, 0xff] {
                let mut file = segment.bytes.clone();
                file.resize(file.len() + extra, fill);
                let (count, ending) = damaged(&file, good, schema, Tail::Sealed);
                assert_eq!(count, good.len());
                assert_eq!(ending == Ending::End, segment.codec == Codec::Plain, "{extra} bytes {fill:x}");
            }
        }
    });
}

#[test]
fn other_versions_and_no_segments() {
    let schema = schema();
    for version in [i32::MIN, -1, 0, 1, 2, 5, 10, 42, i32::MAX] {
        let (records, ending) = read(&descriptor(version, "{}"), &schema, Tail::Sealed);
        let Ending::Damage(error) = ending else { panic!("version {version} was read") };
        assert_eq!((records, error.structure), (vec![], Structure::Descriptor));
        assert_eq!(error.cause, Cause::Unknown { what: "commit-log version", value: version.to_string() });
        // What follows the number is not looked at.
        assert_eq!(Descriptor::parse(&version.to_be_bytes()), Err(error));
    }
    for file in [&[][..], &[0; 3], &[0; 4096], &[0xff; 4096], b"CommitLog"] {
        let (_, ending) = damaged(file, &[], &schema, Tail::Sealed);
        assert!(matches!(ending, Ending::Damage(DecodeError { structure: Structure::Descriptor, .. })), "{ending:?}");
    }
}

#[test]
fn parameters_that_no_server_writes() {
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let class = |class: &str| format!(r#"{{"compressionClass":"{class}"}}"#);
    let iv = |iv: &str| format!(r#"{{"encCipher":"AES/CBC/PKCS5Padding","encKeyAlias":"k","encIV":"{iv}"}}"#);
    for parameters in [
        "",
        "{",
        "7",
        "null",
        "\"{}\"",
        "{}{}",
        "{\"compressionClass\":7}",
        &deep,
        &class("NoopCompressor"),
        &class(""),
        &class("com.acme.LZ4Compressor"),
        &class(".LZ4Compressor"),
        &class("lz4compressor"),
        &iv("0"),
        &iv("zz"),
        &iv("é"),
        "{\"compressionClass\":\"\\ud800\"}",
        "{\"a\u{0}\":1}",
    ] {
        let error = Descriptor::parse(&descriptor(7, parameters)).expect_err(&parameters[..parameters.len().min(80)]);
        assert_eq!(error.structure, Structure::Descriptor);
        assert!(matches!(error.cause, Cause::Unknown { .. } | Cause::Codec(_)), "{error}");
    }
    // What no reader needs to know may be anything.
    for parameters in
        ["{\"x\":[7,null]}", &format!("{{\"x\":{deep}}}"), "{\"encCipher\":\"x\",\"compressionClass\":null}"]
    {
        assert_eq!(Descriptor::parse(&descriptor(7, parameters)).unwrap().codec, cassandra_commitlog::Codec::Plain);
    }
    // An initialisation vector of another length shows when the first chunk is to be decrypted, and so does a cipher.
    for (parameters, words) in [
        (iv(""), "initialisation vector"),
        (iv(&"00".repeat(8)), "initialisation vector"),
        (iv(&"00".repeat(30_000)), "initialisation vector"),
        (iv("00").replace("CBC", "CTR"), "unknown cipher AES/CTR/PKCS5Padding"),
    ] {
        let mut segment = Segment::new(7, Codec::Encrypted);
        segment.bytes = descriptor(7, &parameters);
        let file = segment.section(&[samples::body(7, &samples::insert(), &schema())]).bytes.clone();
        let (_, ending) = damaged(&file, &[], &schema(), Tail::Sealed);
        let Ending::Damage(error) = ending else { panic!("{parameters} was read") };
        assert!(error.structure == Structure::EncryptedChunk && error.to_string().contains(words), "{error}");
    }
}

/// Numbers that a length may lie with.
fn lies(truth: i32) -> Vec<i32> {
    let mut lies = vec![i32::MIN, i32::MIN + 1, -9, -1, 0, 1, 7, 8, 9, 10, 255, 4096, 1 << 20];
    lies.extend([truth - 8, truth - 1, truth + 1, truth + 8, truth ^ 0x100, truth ^ 0x1_0000]);
    lies.extend([64 << 20, (64 << 20) + 1, i32::MAX - 8, i32::MAX - 1, i32::MAX]);
    lies.retain(|lie| *lie != truth);
    lies
}

#[test]
fn the_next_offset_of_a_marker_lies() {
    each_segment(|segment, good, schema| {
        for section in &segment.sections {
            for lie in lies(section.end as i32) {
                let mut file = segment.bytes.clone();
                file[section.start..section.start + 8].copy_from_slice(&marker(section.start, lie));
                let (_, ending) = damaged(&file, good, schema, Tail::Sealed);
                let Ending::Damage(error) = &ending else { panic!("next {lie} at {}: {ending:?}", section.start) };
                if lie < section.start as i32 + 8 || lie > file.len() as i32 {
                    assert_eq!(error.structure, Structure::SyncMarker);
                    let out_of_range =
                        matches!(error.cause, Cause::OutOfRange { value, .. } if value == i64::from(lie));
                    assert!(out_of_range, "{error}");
                }
                let (_, live) = damaged(&file, good, schema, Tail::Live);
                assert!(live != Ending::End && (live == ending || live == Ending::Pending));
            }
        }
    });
}

#[test]
fn the_size_of_an_entry_lies() {
    let schema = schema();
    for version in VERSIONS {
        for codec in Codec::ALL {
            let bodies = [samples::insert(), samples::change()].map(|said| samples::body(version, &said, &schema));
            let good = read(&Segment::new(version, codec).section(&bodies).close().bytes, &schema, Tail::Sealed).0;
            for lie in lies(bodies[1].len() as i32) {
                let plaintext = [entry(&bodies[0]), lying_entry(lie, &bodies[1])].concat();
                let file = Segment::new(version, codec).raw_section(&stored(codec, &plaintext)).close().bytes;
                let (count, ending) = damaged(&file, &good, &schema, Tail::Sealed);
                let Ending::Damage(error) = ending else { panic!("size {lie} was believed") };
                let fits = lie >= 10 && lie < bodies[1].len() as i32;
                let structure = if fits { Structure::EntryBody } else { Structure::EntryHeader };
                assert_eq!((count, error.structure), (1, structure), "{error}");
                assert_eq!(error.at, Place::Log(cassandra_commitlog::LogOffset(good[0].end as u32)));
            }
        }
    }
}

/// A section that ends inside an entry, at every byte, in all codecs: their lengths are right, the entries are not.
#[test]
fn a_section_ends_inside_an_entry() {
    let schema = schema();
    for version in VERSIONS {
        for codec in Codec::ALL {
            let bodies = [samples::composite(), samples::wide([1])].map(|said| samples::body(version, &said, &schema));
            let good = read(&Segment::new(version, codec).section(&bodies).close().bytes, &schema, Tail::Sealed).0;
            let plaintext: Vec<u8> = bodies.iter().flat_map(|body| entry(body)).collect();
            let first = bodies[0].len() + 12;
            for cut in 0..plaintext.len() {
                let file = Segment::new(version, codec).raw_section(&stored(codec, &plaintext[..cut])).close().bytes;
                let (count, ending) = damaged(&file, &good, &schema, Tail::Sealed);
                assert_eq!(count, usize::from(cut >= first));
                assert_eq!(ending == Ending::End, cut == 0 || cut == first, "cut at {cut}: {ending:?}");
            }
        }
    }
}

#[test]
fn the_plaintext_length_of_a_section_lies() {
    each_segment(|segment, good, schema| {
        if segment.codec == Codec::Plain {
            return;
        }
        for section in &segment.sections {
            let place = section.start + 8..section.start + 12;
            let truth = i32::from_be_bytes(segment.bytes[place.clone()].try_into().unwrap());
            for lie in lies(truth) {
                let mut file = segment.bytes.clone();
                file[place.clone()].copy_from_slice(&lie.to_be_bytes());
                let (_, ending) = damaged(&file, good, schema, Tail::Sealed);
                let Ending::Damage(error) = ending else { panic!("length {lie} for {truth} was believed") };
                let own = [Structure::Section, Structure::CompressedBlock, Structure::EncryptedChunk];
                assert!(own.contains(&error.structure), "{error}");
                let Place::File(at) = error.at else { panic!("{error}: a stored section has an offset in the file") };
                assert!(section.contains(&(at.0 as usize)), "{error}");
            }
        }
    });
}

/// One section of this stored form.
fn lone_section(codec: Codec, stored: &[u8]) -> (Ending, usize) {
    let file = Segment::new(7, codec).raw_section(stored).close().bytes;
    let schema = schema();
    let ((_, ending), peak) = peak_of(|| read(&file, &schema, Tail::Sealed));
    (ending, peak)
}

/// The section is refused by its codec, with no more memory than this.
fn refused(codec: Codec, stored: &[u8], memory: usize) -> DecodeError {
    let (ending, peak) = lone_section(codec, stored);
    let Ending::Damage(error) = ending else { panic!("{codec:?}: {:x?} was read", &stored[..stored.len().min(40)]) };
    let own = [Structure::Section, Structure::CompressedBlock, Structure::EncryptedChunk];
    assert!(own.contains(&error.structure), "{error}");
    assert!(peak < memory, "{codec:?}: {peak} bytes held: {error}");
    error
}

#[test]
fn lengths_inside_blocks_and_chunks_lie() {
    let plaintext = entry(&samples::body(7, &samples::insert(), &schema()));
    let declared = (plaintext.len() as i32).to_be_bytes();
    for lie in lies(plaintext.len() as i32) {
        let mut block = writer::block(Codec::Lz4, &plaintext);
        block[..4].copy_from_slice(&lie.to_le_bytes());
        refused(Codec::Lz4, &[&declared, &block[..]].concat(), LITTLE);

        let block = writer::block(Codec::Snappy, &plaintext);
        let preamble = block.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let mut lying = leb128(lie as u32);
        lying.extend_from_slice(&block[preamble..]);
        refused(Codec::Snappy, &[&declared, &lying[..]].concat(), LITTLE);

        // Chunk: ciphertext length, compressed length, and inside the ciphertext the plaintext length.
        let good = stored(Codec::Encrypted, &plaintext);
        for at in [4, 8] {
            let mut file = good.clone();
            let truth = i32::from_be_bytes(file[at..at + 4].try_into().unwrap());
            if lie != truth {
                file[at..at + 4].copy_from_slice(&lie.to_be_bytes());
                refused(Codec::Encrypted, &file, LITTLE);
            }
        }
        let compressed = [&lie.to_be_bytes()[..], &writer::block(Codec::Lz4, &plaintext)].concat();
        let chunk = encrypted_chunk(&compressed, compressed.len() as i32);
        refused(Codec::Encrypted, &[&declared, &chunk[..]].concat(), LITTLE);
    }
    // Chunks that hold nothing, chunks that are left over, a chunk cut at every byte.
    let good = stored(Codec::Encrypted, &plaintext);
    for cut in 4..good.len() {
        refused(Codec::Encrypted, &good[..cut], LITTLE);
    }
    refused(Codec::Encrypted, &[&good[..], &good[4..]].concat(), LITTLE);
    refused(Codec::Encrypted, &[&good[..], &[0; 8]].concat(), LITTLE);
    refused(Codec::Encrypted, &[&[0; 4][..], &good[4..]].concat(), LITTLE);
    for codec in [Codec::Lz4, Codec::Snappy, Codec::Deflate, Codec::Zstd] {
        let good = stored(codec, &plaintext);
        for cut in 0..good.len() {
            refused(codec, &good[..cut], LITTLE);
        }
        refused(codec, &[&good[..], &[7]].concat(), LITTLE);
        refused(codec, &[&[0; 4][..], &good[4..]].concat(), LITTLE);
    }
}

fn leb128(mut value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A block that says it is small and is not, one that says it is huge and is not, and one that is as large as may be.
#[test]
fn decompression_bombs() {
    const MAX: usize = Plaintext::MAX_SECTION as usize;
    let zeros = vec![0; MAX + 1];
    for codec in [Codec::Lz4, Codec::Snappy, Codec::Deflate, Codec::Zstd] {
        let largest = writer::block(codec, &zeros[..MAX]);
        // It says 1000 bytes, or any number that is not its own: not one byte more is made of it.
        for says in [1000, MAX as u32 - 1] {
            let stored = [&says.to_be_bytes()[..], &largest].concat();
            refused(codec, &stored, says as usize + LITTLE);
        }
        // It says more than any section has: refused before anything is allocated.
        let too_large = [&(MAX as u32 + 1).to_be_bytes()[..], &writer::block(codec, &zeros)].concat();
        let error = refused(codec, &too_large, LITTLE);
        assert_eq!(error.structure, Structure::Section);
        // It says the most that a section may have, and is a few bytes: refused by its ratio.
        let mut small = [&(MAX as u32).to_be_bytes()[..], &writer::block(codec, &zeros[..1000])].concat();
        if codec == Codec::Lz4 {
            small[4..8].copy_from_slice(&(MAX as u32).to_le_bytes());
        }
        refused(codec, &small, LITTLE);
        // It is what it says: 64 MiB, held once; then its zeros are no entries.
        let (ending, peak) = lone_section(codec, &[&(MAX as u32).to_be_bytes()[..], &largest].concat());
        assert!(peak < MAX + LITTLE, "{codec:?}: {peak} bytes held");
        let Ending::Damage(error) = ending else { panic!("{codec:?}: zeros are no entries") };
        assert_eq!(error.structure, Structure::EntryHeader, "{codec:?}");
    }
    // Encrypted chunks: each may be as long as what is left of the section, never longer.
    let block = writer::block(Codec::Lz4, &zeros[..MAX]);
    let chunk = |says: u32| {
        let compressed = [&says.to_be_bytes()[..], &block].concat();
        encrypted_chunk(&compressed, compressed.len() as i32)
    };
    refused(Codec::Encrypted, &[&1000_u32.to_be_bytes()[..], &chunk(1000)].concat(), 2 * LITTLE);
    refused(Codec::Encrypted, &[&1000_u32.to_be_bytes()[..], &chunk(MAX as u32)].concat(), 2 * LITTLE);
    refused(Codec::Encrypted, &[&(MAX as u32 + 1).to_be_bytes()[..], &chunk(MAX as u32)].concat(), LITTLE);
    let two = [&(MAX as u32).to_be_bytes()[..], &chunk(MAX as u32), &chunk(MAX as u32)].concat();
    refused(Codec::Encrypted, &two, MAX + 2 * LITTLE);
}

/// Frames whose headers ask for memory: a content of 2^62 bytes, a window of 2 GiB and more, one of 3.75 TiB.
#[test]
fn zstd_frames_that_ask_for_memory() {
    let magic = [0x28, 0xb5, 0x2f, 0xfd];
    let raw_block = [0x21, 0, 0, 1, 2, 3, 4];
    for header in
        [&[0xe0, 0, 0, 0, 0, 0, 0, 0, 0x40][..], &[0xc0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0x40], &[0x00, 0xa8], &[0x00, 0xff]]
    {
        let stored = [&4_u32.to_be_bytes()[..], &magic, header, &raw_block].concat();
        let file = Segment::new(7, Codec::Zstd).raw_section(&stored).close().bytes;
        let ((_, ending), peak) = peak_of(|| read(&file, &schema(), Tail::Sealed));
        assert!(matches!(ending, Ending::Damage(_)) && peak < LITTLE, "{ending:?}, {peak} bytes");
    }
}

/// The body is refused as malformed, inside itself, in this structure, with little memory.
fn malformed(version: i32, body: &[u8], structure: Structure) -> DecodeError {
    let schema = schema();
    let (told, peak) = peak_of(|| reader::body(body, version, &schema));
    let shown = &body[..body.len().min(80)];
    let Err(MutationError::Malformed(error)) = told else { panic!("{shown:x?}: {told:?}") };
    assert_eq!(error.structure, structure, "{error}: {shown:x?}");
    let Place::Log(at) = error.at else { panic!("{error}: a body has positions") };
    assert!(at.0 as usize <= body.len(), "{error}");
    assert!(peak < LITTLE + 64 * body.len(), "{peak} bytes held: {error}");
    error
}

/// Counts and lengths that no body can hold, as vints.
fn huge() -> impl Iterator<Item = Vec<u8>> {
    let numbers =
        [1 << 16, 1 << 20, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, i64::MAX as u64, 1 << 63, u64::MAX];
    numbers.into_iter().map(|number| {
        let mut out = Vec::new();
        uv(&mut out, number);
        out
    })
}

/// A mutation of one update: its head, flags and what follows them.
fn with(version: i32, table: cassandra_commitlog::TableId, parts: &[&[u8]]) -> Vec<u8> {
    let key: Vec<u8> = if table == COMPOSITE { samples::composite().key } else { int(4) };
    let update = [&update_head(version, table, 7, &key)[..], &parts.concat()].concat();
    mutation(version, &[update])
}

/// Flags of an update with nothing but stats, and stats without biases.
const BARE: &[u8] = &[0x00, 0, 0, 0];
/// The end of an update; twenty bytes more let counts of up to twenty pass.
const END: &[u8] = &[0x01];

fn list(names: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    uv(&mut out, names.len() as u64);
    names.iter().for_each(|name| vbytes(&mut out, name.as_bytes()));
    out
}

/// A row's flags, `c1 = 1`, `c2 = 'x'`.
fn row(flags: u8) -> Vec<u8> {
    vec![flags, 0, 0, 0, 0, 1, 1, b'x']
}

#[test]
fn counts_and_lengths_in_a_mutation_lie() {
    use Structure::{Cell, Clustering, ColumnList, ColumnSubset, ComplexColumn, Mutation, PartitionKey};
    for version in VERSIONS {
        let start: &[u8] = if version == 9 { &[0] } else { &[] };
        let good = samples::body(version, &samples::insert(), &schema());
        for n in huge() {
            malformed(version, &[start, &n, &good[start.len() + 1..]].concat(), Mutation);
            let mut head = update_head(version, MIXED, 7, &[]);
            head.pop();
            malformed(version, &mutation(version, &[[&head[..], &n, &good].concat()]), PartitionKey);
            let bare = |parts: &[&[u8]]| with(version, MIXED, &[BARE, &parts.concat()]);
            malformed(version, &bare(&[&n, b"\x01a", END]), ColumnList);
            malformed(version, &bare(&[&[1], &n, b"a", END]), ColumnList);
            malformed(version, &bare(&[&list(&["b"]), &row(0x20), &[0, 0], &n, b"text", END]), Cell);
            let cell = [0, 0, 1, b'p', 1, b'v'];
            malformed(version, &bare(&[&list(&["m"]), &row(0x20), &n, &cell, END]), ComplexColumn);
            malformed(version, &bare(&[&list(&["m"]), &row(0x20), &[1, 0, 0], &n, b"pv", END]), Cell);
            malformed(version, &bare(&[&list(&["m"]), &row(0x20), &[1, 0, 0, 1, b'p'], &n, b"v", END]), Cell);
            malformed(version, &bare(&[&list(&["a"]), &row(0x00), &n, END]), ColumnSubset);
            malformed(version, &bare(&[&[0], &[0x20, 0, 0, 0, 0, 1], &n, END]), Clustering);
            let header = &[0x20][..];
            malformed(version, &bare(&[&[0], header, &n, &int(1), b"\x01x", END]), Clustering);
        }
        // One more than the bytes that are left can hold is refused as a count, before the first is looked at.
        let cells = with(version, MIXED, &[BARE, &list(&["m"]), &row(0x20), &[3], &[0; 5]]);
        let updates = [start, &[2], &[0; 35]].concat();
        for (body, structure, name) in [(cells, ComplexColumn, "cells"), (updates, Mutation, "updates")] {
            let error = malformed(version, &body, structure);
            assert!(error.to_string().contains(&format!("number of {name} out of range: ")), "{error}");
        }
        // As many columns, cells and updates as there are bytes: each is looked at, none is there.
        let many = 100_000_u64;
        let mut count = Vec::new();
        uv(&mut count, many);
        let padding = vec![0; 2 * many as usize];
        malformed(version, &with(version, MIXED, &[BARE, &list(&["m"]), &row(0x20), &count, &padding]), Cell);
        let too_many = with(version, MIXED, &[BARE, &count, &padding]);
        let unknown = reader::body(&too_many, version, &schema());
        assert!(matches!(unknown, Err(MutationError::UnknownColumn { .. })), "{unknown:?}");
        // An estimate is a number that nobody relies on.
        let mut estimated = vec![0x10, 0, 0, 0, 0];
        estimated.extend_from_slice(&[0xff; 9]);
        let body = with(version, MIXED, &[&estimated, END]);
        assert_eq!(reader::body(&body, version, &schema()), Ok(vec![Update::new(MIXED, &int(4))]));
    }
}

#[test]
fn numbers_of_updates_and_tables() {
    for version in VERSIONS {
        let schema = schema();
        let one = samples::bytes(version, &samples::composite(), &schema, |_| ());
        let two = samples::bytes(version, &samples::wide([1]), &schema, |_| ());
        malformed(version, &mutation(version, &[]), Structure::Mutation);
        malformed(version, &[], Structure::Mutation);
        malformed(version, &mutation(version, &[one.clone(), one.clone()]), Structure::PartitionUpdate);
        // One update more than is said, one less, and bytes behind the last.
        let mut body = mutation(version, &[one.clone(), two.clone()]);
        let count = usize::from(version == 9);
        body[count] = 1;
        let error = malformed(version, &body, Structure::PartitionUpdate);
        assert_eq!(error.cause, Cause::Surplus { bytes: two.len() });
        body[count] = 3;
        malformed(version, &body, Structure::PartitionUpdate);
        body[count] = 2;
        body.push(0);
        assert_eq!(malformed(version, &body, Structure::PartitionUpdate).cause, Cause::Surplus { bytes: 1 });
        // What comes before an unknown table is read, what comes after is lost.
        let mut lost = update_head(version, NO_TABLE, 7, b"key");
        lost.push(0x01);
        let body = mutation(version, &[one.clone(), lost, two]);
        assert_eq!(reader::body(&body, version, &schema), Err(MutationError::UnknownTable { id: NO_TABLE }));
    }
    // Version 9 alone begins with flags, of which one is known.
    for flags in 0..=0xff {
        let mut body = samples::body(9, &samples::composite(), &schema());
        body[0] = flags;
        if flags < 2 {
            assert_eq!(reader::body(&body, 9, &schema()), Ok(vec![samples::composite()]));
        } else {
            malformed(9, &body, Structure::Mutation);
        }
    }
}

#[test]
fn flags_that_no_writer_sets() {
    use Structure::{Cell, PartitionUpdate, Row, StaticRow};
    for version in VERSIONS {
        for flags in 0..=0xff_u8 {
            let known = flags == 0x01 || flags & !0x1c == 0;
            let body = with(version, MIXED, &[&[flags], &[0; 12], END]);
            if !known {
                malformed(version, &body, PartitionUpdate);
            }
            let at_rows = |parts: &[&[u8]]| with(version, MIXED, &[BARE, &list(&["a"]), &parts.concat()]);
            if flags & 0x03 != 0 && flags != 0x01 && flags != 0x02 {
                malformed(version, &at_rows(&[&row(flags), END]), Row);
            }
            // A second flags byte: a static row is none of the rows, and other bits are unknown.
            let body = at_rows(&[&[0xa0, flags], &row(0)[1..], &[0, 0], &int(1), END]);
            if flags & !0x02 == 0 {
                assert!(reader::body(&body, version, &schema()).is_ok());
            } else {
                malformed(version, &body, Row);
            }
            // The static row's own two bytes of flags.
            let static_row = |first: u8, second: u8| {
                let cell = [&[0, 0][..], &int(1)].concat();
                with(version, MIXED, &[&[0x08, 0, 0, 0], &list(&["s"]), &[0], &[first, second], &cell, END])
            };
            assert!(reader::body(&static_row(0xa0, 0x01), version, &schema()).is_ok());
            if flags != 0x01 {
                malformed(version, &static_row(0xa0, flags), StaticRow);
            }
            if flags & 0x80 == 0 || flags & 0x03 != 0 {
                malformed(version, &static_row(flags, 0x01), StaticRow);
            }
            // A cell in a row without liveness: no bits above 0x10, nothing from a row that has nothing, no tombstone
            // that expires or has a value.
            let body = at_rows(&[&row(0x20), &[flags, 0, 0, 0], &int(1), END]);
            let wrong = flags & 0xe0 != 0 || flags & 0x18 != 0 || flags & 0x03 == 0x03 || flags & 0x05 == 0x01;
            if wrong {
                malformed(version, &body, Cell);
            }
        }
        malformed(version, &with(version, MIXED, &[BARE, &[0], &row(0x28), &[0; 4], END]), Row);
    }
}

#[test]
fn markers_that_no_writer_writes() {
    use Structure::{Clustering, RangeTombstoneMarker};
    for version in VERSIONS {
        let update = |parts: &[&[u8]]| with(version, MIXED, &[BARE, &[0], &parts.concat()]);
        let marker = |kind: u8, values: u16| -> Vec<u8> {
            let mut out = vec![0x02, kind];
            out.extend_from_slice(&values.to_be_bytes());
            if values > 0 {
                out.extend_from_slice(&[0, 0, 0, 0, 1]);
            }
            out
        };
        let deletion = [5, 5];
        for kind in 0..=0xff {
            let alone = update(&[&marker(kind, 1), &deletion, END]);
            malformed(version, &alone, RangeTombstoneMarker);
        }
        for values in [3, 4, 32, 33, 255, u16::MAX] {
            malformed(version, &update(&[&marker(1, values), &[0; 200], END]), RangeTombstoneMarker);
        }
        let open = [&marker(1, 1)[..], &deletion].concat();
        let close = [&marker(6, 1)[..], &deletion].concat();
        assert!(reader::body(&update(&[&open, &close, END]), version, &schema()).is_ok());
        malformed(version, &update(&[&open, END]), RangeTombstoneMarker);
        malformed(version, &update(&[&open, &open, &close, END]), RangeTombstoneMarker);
        malformed(version, &update(&[&open, &close, &close, END]), RangeTombstoneMarker);
        malformed(version, &update(&[&open, &marker(6, 1), &[5, 6], END]), RangeTombstoneMarker);
        malformed(version, &update(&[&open, &marker(2, 1), &[6, 5], &deletion, &close, END]), RangeTombstoneMarker);
        // A marker that deletes nothing.
        let mut live = Vec::new();
        uv(&mut live, i64::MIN.wrapping_sub(EPOCH_MICROS).cast_unsigned());
        live.push(0);
        malformed(version, &update(&[&marker(1, 1), &live, END]), RangeTombstoneMarker);
        // A header with bits for values that are not there, and one with the fourth pair.
        for header in [0b11, 0b100, 0b1100, 0x80] {
            let mut bytes = vec![0x02, 1, 0, 1];
            uv(&mut bytes, header);
            malformed(version, &update(&[&bytes, &[0; 12], END]), Clustering);
        }
    }
}

#[test]
fn clustering_headers_with_bits_that_mean_nothing() {
    for version in VERSIONS {
        let rows = |table, header: u64, values: &[u8]| {
            let mut row = vec![0x20];
            uv(&mut row, header);
            with(version, table, &[BARE, &[0], &row, values, END])
        };
        for bit in 0..64 {
            if bit >= 4 {
                malformed(version, &rows(MIXED, 1 << bit, &[0; 12]), Structure::Clustering);
            }
            if bit % 2 == 0 {
                malformed(version, &rows(DEEP, 0b11 << bit, &[0; 300]), Structure::Clustering);
            }
        }
        // In the second block of 40 columns are eight values: 16 bits.
        let all_null = [0xff, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa];
        for bit in 16..64 {
            let mut row = [&[0x20][..], &all_null].concat();
            uv(&mut row, 1 << bit);
            malformed(version, &with(version, DEEP, &[BARE, &[0], &row, &[0; 100], END]), Structure::Clustering);
        }
    }
}

#[test]
fn subsets_that_no_writer_writes() {
    let names: Vec<String> = (0..70).map(|at| format!("a{at:02}")).collect();
    for version in VERSIONS {
        let update = |columns: usize, subset: &[u64]| {
            let names: Vec<&str> = names[..columns].iter().map(String::as_str).collect();
            let mut row = vec![0x00];
            subset.iter().for_each(|number| uv(&mut row, *number));
            with(version, WIDE, &[BARE, &list(&names), &row, &[0; 700]])
        };
        let refuse = |columns, subset: &[u64]| malformed(version, &update(columns, subset), Structure::ColumnSubset);
        for columns in [0, 1, 2, 31, 32, 33, 62, 63] {
            refuse(columns, &[1 << columns]);
            refuse(columns, &[1 << 63]);
            refuse(columns, &[u64::MAX]);
        }
        for columns in [64, 65, 70] {
            let n = columns as u64;
            for missing in [n + 1, 255, 1 << 32, u64::MAX] {
                refuse(columns, &[missing]);
            }
            // Indexes of missing ones, then of present ones: twice the same, falling, out of the list.
            for said in [3, n - 3] {
                for indexes in [[1, 1, 2], [2, 1, 3], [0, 1, n], [0, 1, 1 << 32], [0, 1, u64::MAX]] {
                    refuse(columns, &[&[said][..], &indexes].concat());
                }
            }
        }
    }
}

#[test]
fn lists_that_no_writer_writes() {
    for version in VERSIONS {
        let update = |flags: u8, lists: &[Vec<u8>]| with(version, MIXED, &[&[flags, 0, 0, 0], &lists.concat(), END]);
        malformed(version, &update(0, &[list(&["a", "a"])]), Structure::ColumnList);
        malformed(version, &update(0, &[list(&["a", "b", "a"])]), Structure::ColumnList);
        // Names that the table has not, or not as this kind of column.
        let long = "x".repeat(70_000);
        for name in ["", "p", "c1", "s", "A", "aa", "\0", &long] {
            let unknown =
                MutationError::UnknownColumn { keyspace: "ks".into(), table: "mixed".into(), column: name.into() };
            assert_eq!(reader::body(&update(0, &[list(&[name])]), version, &schema()), Err(unknown));
        }
        let told = reader::body(&update(0x08, &[list(&["a"]), list(&[])]), version, &schema());
        assert!(matches!(told, Err(MutationError::UnknownColumn { .. })), "{told:?}");
    }
}

#[test]
fn keys_that_no_table_has() {
    for version in VERSIONS {
        for key in [
            &[][..],
            &[0],
            &[0, 4, 0, 0, 0, 1],
            &[0, 4, 0, 0, 0, 1, 0],
            &[0, 4, 0, 0, 0, 1, 0, 0, 2, b'p', b'k'],
            &[0, 4, 0, 0, 0, 1, 1, 0, 2, b'p', b'k', 0],
            &[0, 4, 0, 0, 0, 1, 0, 0, 2, b'p', b'k', 0, 0],
            &[0, 4, 0, 0, 0, 1, 0, 0, 2, b'p', b'k', 0, 0, 0, 0],
            &[0xff; 40],
        ] {
            let mut update = update_head(version, COMPOSITE, 7, key);
            update.push(0x01);
            malformed(version, &mutation(version, &[update]), Structure::PartitionKey);
        }
    }
}

#[test]
fn numbers_that_are_not_32_bits_wide_and_ttls_that_are_negative() {
    use Structure::{EncodingStats, Row};
    for version in VERSIONS {
        for wide in [1 << 31, (1 << 32) - 1, 1 << 32, i64::MAX as u64, 1 << 63, (-(1_i64 << 31) - 1) as u64] {
            let mut number = Vec::new();
            uv(&mut number, wide);
            malformed(version, &with(version, MIXED, &[&[0, 0], &number, &[0, 0], END]), EncodingStats);
            malformed(version, &with(version, MIXED, &[&[0, 0, 0], &number, &[0], END]), EncodingStats);
            let row_with_ttl = row(0x2c);
            malformed(version, &with(version, MIXED, &[BARE, &[0], &row_with_ttl, &[0], &number, &[0], END]), Row);
            malformed(version, &with(version, MIXED, &[BARE, &[0], &row_with_ttl, &[0, 0], &number, END]), Row);
        }
        for ttl in [-1, i32::MIN] {
            let mut number = Vec::new();
            wire::int(&mut number, ttl);
            malformed(version, &with(version, MIXED, &[BARE, &[0], &row(0x2c), &[0], &number, &[0], END]), Row);
        }
    }
}

/// A body whose checksum holds may still be anything: every cut of it is refused, every bit of it flipped gives an
/// answer, in little memory.
#[test]
fn bodies_cut_and_flipped_behind_good_checksums() {
    let schema = schema();
    for version in VERSIONS {
        for said in samples::all() {
            let good = samples::body(version, &said, &schema);
            for cut in 0..good.len() {
                let told = reader::body(&good[..cut], version, &schema);
                assert!(matches!(told, Err(MutationError::Malformed(_))), "cut at {cut}: {told:?}");
            }
            for at in 0..good.len() * 8 {
                let mut body = good.clone();
                body[at / 8] ^= 1 << (at % 8);
                let (told, peak) = peak_of(|| reader::body(&body, version, &schema));
                assert!(peak < LITTLE, "{peak} bytes held for bit {at}");
                if let Err(MutationError::Malformed(error)) = told {
                    assert!(matches!(error.at, Place::Log(place) if place.0 as usize <= body.len()), "{error}");
                }
            }
        }
    }
}

/// The shortest items of an update take a byte or less, their places in memory do not: there is an end to them.
#[test]
fn an_update_of_more_items_than_anybody_writes() {
    let schema = schema();
    // Each row has 1024 null clustering values: 289 bytes for 12 KiB.
    let mut row = vec![0x20];
    for _ in 0..32 {
        uv(&mut row, 0xaaaa_aaaa_aaaa_aaaa);
    }
    let body = |rows: usize| {
        let mut update = update_head(7, ABYSS, 7, b"pk");
        update.extend_from_slice(BARE);
        update.push(0);
        (0..rows).for_each(|_| update.extend_from_slice(&row));
        update.push(0x01);
        mutation(7, &[update])
    };
    let decode = |body: &[u8]| {
        let entry = cassandra_commitlog::Entry { body, body_at: cassandra_commitlog::LogOffset(0), crc: 0 };
        let mut decoder = cassandra_commitlog::Decoder::new(schema.clone());
        let version = cassandra_commitlog::FormatVersion::V7;
        let mut mutation = decoder.mutation(version, &entry).unwrap();
        mutation.next_update().map(|update| update.map(|update| update.rows.len()))
    };
    assert_eq!(decode(&body(8000)), Ok(Some(8000)));
    let much = body(100_000);
    let (told, peak) = peak_of(|| decode(&much));
    assert!(matches!(told, Err(MutationError::Malformed(error)) if error.structure == Structure::PartitionUpdate));
    assert!(peak < 512 << 20, "{peak} bytes held");
    // A count of cells is refused before the first of them is kept.
    let mut count = Vec::new();
    uv(&mut count, 9 << 20);
    let cells = vec![0; 18 << 20];
    let cells = with(7, MIXED, &[BARE, &list(&["m"]), &self::row(0x20), &count, &cells]);
    let (told, peak) = peak_of(|| reader::body(&cells, 7, &schema));
    assert!(matches!(told, Err(MutationError::Malformed(error)) if error.structure == Structure::ComplexColumn));
    assert!(peak < LITTLE, "{peak} bytes held");
}

/// Checks of the writer itself: a damaged yardstick measures nothing.
#[test]
fn the_writer_agrees_with_recorded_bytes() {
    assert_eq!(crc32(&[&[0, 0, 1, 0x4e]]), 0xa93b_82ca);
    assert_eq!(descriptor(7, "{}")[16..], [0x24, 0x8f, 0x7b, 0xf6]);
    assert_eq!(marker(20, 449), [0, 0, 1, 0xc1, 0xcd, 0x5a, 0x1a, 0x07]);
    let mut nine = Vec::new();
    uv(&mut nine, (1_i64 - EPOCH_MICROS).cast_unsigned());
    assert_eq!(nine, [0xff, 0xff, 0xfa, 0xdf, 0xb5, 0x52, 0x25, 0x80, 0x01]);
    let schema = schema();
    let file = samples::segment(9, Codec::Plain, &schema).bytes;
    let descriptor = Descriptor::parse(&file).unwrap();
    let mut sections = Sections::new(&file, &descriptor, Tail::Sealed);
    assert!(matches!(sections.step(), Ok(Step::Item(_))));
}
