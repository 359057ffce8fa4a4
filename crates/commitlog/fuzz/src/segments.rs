//! Descriptors, sections, entries: the frames around mutations.

use cassandra_commitlog::{
    CdcIndex, DecodeError, Descriptor, Entries, FileOffset, Key, LogOffset, Place, Plaintext, Sections, SegmentName,
    Step, Tail,
};

use super::bytes::{Bytes, crc32};

const ID: i64 = 0x1a1_fd0b_6ab4;

fn halves() -> [[u8; 4]; 2] {
    let [a, b, c, d, e, f, g, h] = ID.to_be_bytes();
    [[e, f, g, h], [a, b, c, d]]
}

fn descriptor_of(version: i32, parameters: &[u8]) -> Vec<u8> {
    let len = u16::try_from(parameters.len()).unwrap_or(u16::MAX);
    let [low, high] = halves();
    let crc = crc32(&[&version.to_be_bytes(), &low, &high, &u32::from(len).to_be_bytes(), parameters]);
    [&version.to_be_bytes()[..], &ID.to_be_bytes(), &len.to_be_bytes(), parameters, &crc.to_be_bytes()].concat()
}

/// A descriptor as it is; parameters in a descriptor with a good checksum; the text of an index; a file's name.
pub fn descriptor(data: &[u8]) {
    let mut input = Bytes(data);
    match input.byte() % 4 {
        0 => check_descriptor(input.0),
        1 => {
            let version = i32::from(input.byte());
            check_descriptor(&descriptor_of(version, &input.0[..input.0.len().min(65535)]));
        }
        2 => {
            if let Ok(Some(CdcIndex::Growing(offset))) = CdcIndex::parse(input.0) {
                let sealed = [input.0, b"\nCOMPLETED"].concat();
                assert_eq!(CdcIndex::parse(&sealed), Ok(Some(CdcIndex::Sealed(offset))));
            }
        }
        _ => {
            let text = String::from_utf8_lossy(input.0);
            if let Ok(name) = SegmentName::parse(&text) {
                assert_eq!(name.to_string(), text, "a name prints back identically");
            }
        }
    }
}

fn check_descriptor(file: &[u8]) {
    match Descriptor::parse(file) {
        Ok(descriptor) => {
            let end = descriptor.end.0 as usize;
            assert!(end <= file.len());
            assert_eq!(Descriptor::parse(&file[..end]).as_ref(), Ok(&descriptor));
            assert!(Descriptor::parse(&file[..end - 1]).is_err());
        }
        Err(error) => is_placed(&error, file),
    }
}

fn is_placed(error: &DecodeError, file: &[u8]) {
    if let Place::File(at) = error.at {
        assert!(at.0 as usize <= file.len(), "{error}: behind the end of the file");
    }
    assert!(!error.to_string().is_empty());
}

const PARAMETERS: [&str; 8] = [
    "{}",
    r#"{"compressionClass":"LZ4Compressor"}"#,
    r#"{"compressionClass":"SnappyCompressor"}"#,
    r#"{"compressionClass":"DeflateCompressor"}"#,
    r#"{"compressionClass":"ZstdCompressor"}"#,
    r#"{"encCipher":"AES/CBC/PKCS5Padding","encIV":"00000000000000000000000000000000","encKeyAlias":"k"}"#,
    r#"{"encCipher":"AES/CBC/PKCS5Padding","encIV":"00","encKeyAlias":"k"}"#,
    r#"{"encCipher":"AES/CTR/NoPadding","encIV":"","encKeyAlias":"k"}"#,
];

/// A segment as the bytes say to build it: sections, markers that lie, entries, and anything in between.
fn segment(input: &mut Bytes<'_>) -> Vec<u8> {
    let choice = input.byte();
    let version = 6 + i32::from(choice % 4);
    let mut file = descriptor_of(version, PARAMETERS[usize::from(choice >> 2) % PARAMETERS.len()].as_bytes());
    while !input.0.is_empty() {
        let kind = input.byte();
        match kind % 5 {
            0 => push_section(&mut file, input.chunk(), None),
            1 => {
                let next = input.u32();
                push_section(&mut file, input.chunk(), Some(next));
            }
            2 => {
                let plaintext: Vec<u8> = (0..=kind >> 6).flat_map(|_| entry(input.chunk())).collect();
                push_section(&mut file, &plaintext, None);
            }
            3 => file.extend_from_slice(input.chunk()),
            _ => file.resize(file.len().next_multiple_of(512), 0),
        }
    }
    file
}

fn push_section(file: &mut Vec<u8>, stored: &[u8], next: Option<u32>) {
    let at = u32::try_from(file.len()).unwrap_or(u32::MAX);
    let end = at + 8 + u32::try_from(stored.len()).unwrap_or(u32::MAX);
    let [low, high] = halves();
    file.extend_from_slice(&next.unwrap_or(end).to_be_bytes());
    file.extend_from_slice(&crc32(&[&low, &high, &at.to_be_bytes()]).to_be_bytes());
    file.extend_from_slice(stored);
}

fn entry(body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&size[..], &crc32(&[&size]).to_be_bytes(), body, &crc32(&[&size, body]).to_be_bytes()].concat()
}

/// What was read: the ends of entries with their bodies, and whether reading came to an end without damage.
type Reading = (Vec<(LogOffset, Vec<u8>)>, Option<Step<()>>);

fn read(file: &[u8], descriptor: &Descriptor, tail: Tail) -> Reading {
    let mut sections = Sections::new(file, descriptor, tail);
    let mut plaintext = Plaintext::new(Key::new(&[0; 16]));
    let mut records = Vec::new();
    loop {
        let (before, _) = sections.position();
        let section = match sections.step() {
            Ok(Step::Item(section)) => section,
            Ok(Step::Pending) => return (records, Some(Step::Pending)),
            Ok(Step::End) => return (records, Some(Step::End)),
            Err(error) => {
                is_placed(&error, file);
                assert_eq!(sections.step(), Err(error), "an error repeats");
                salvage(file, sections, before);
                return (records, None);
            }
        };
        assert!(section.end > before && section.marker == before, "each step makes progress");
        let entries = match plaintext.of(&section, descriptor) {
            Ok(bytes) => Entries::new(bytes, section.start),
            Err(error) => {
                is_placed(&error, file);
                return (records, None);
            }
        };
        if !read_entries(entries, &mut records) {
            return (records, None);
        }
    }
}

/// Whether no entry was damaged.
fn read_entries(mut entries: Entries<'_>, records: &mut Vec<(LogOffset, Vec<u8>)>) -> bool {
    loop {
        let before = entries.offset();
        match entries.next() {
            None => return true,
            Some(Ok(entry)) => {
                assert_eq!(entry.end(), entries.offset());
                records.push((entry.end(), entry.body.to_vec()));
            }
            Some(Err(error)) => {
                assert_eq!(entries.next(), Some(Err(error)), "an error repeats");
                while entries.skip_damaged() {
                    entries.by_ref().take_while(Result::is_ok).for_each(drop);
                }
                return false;
            }
        }
        assert!(entries.offset() > before, "each entry makes progress");
    }
}

/// Every marker that can be told lies behind the one before it.
fn salvage(file: &[u8], mut sections: Sections<'_>, damaged: FileOffset) {
    let mut from = FileOffset(damaged.0.saturating_add(1));
    while let Some(at) = sections.next_marker(from) {
        assert!(at >= from && (at.0 as usize) < file.len());
        sections.resume_at(at, LogOffset(at.0));
        while let Ok(Step::Item(section)) = sections.step() {
            from = section.end;
        }
        from = FileOffset(from.0.max(at.0) + 1);
    }
}

/// A segment with good checksums and anything in between, or a file as it is.
pub fn sections(data: &[u8]) {
    let mut input = Bytes(data);
    let file = if input.byte() % 8 == 7 { input.0.to_vec() } else { segment(&mut input) };
    let Ok(descriptor) = Descriptor::parse(&file) else { return };
    let (sealed, sealed_end) = read(&file, &descriptor, Tail::Sealed);
    let (live, live_end) = read(&file, &descriptor, Tail::Live);
    assert_ne!(sealed_end, Some(Step::Pending), "a sealed file has nothing to wait for");
    assert_ne!(live_end, Some(Step::End), "only the index ends a live file");
    // Damage apart, a live file is a sealed one that has not ended yet.
    assert_eq!(sealed, live);
    assert!(sealed_end.is_none() || live_end == Some(Step::Pending));
}
