//! The leaves of JSON text.
//!
//! Owns: strings, numbers, hexadecimal and base64 as bytes of JSON. Does not own: which member they belong to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const HIGH: u64 = 0x8080_8080_8080_8080;
const LOW: u64 = 0x0101_0101_0101_0101;

/// Appends an integer.
#[inline]
pub(crate) fn push_int(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a string with its quotes.
pub(crate) fn push_str(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

/// Appends a string without quotes.
pub(crate) fn push_escaped(out: &mut Vec<u8>, text: &str) {
    if is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
    } else {
        escape(out, text.as_bytes());
    }
}

/// Appends bytes as a string with its quotes if they are UTF-8, otherwise nothing.
#[inline]
pub(crate) fn push_utf8(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    // Most text is ASCII that needs no escape: one look tells both.
    if is_plain(bytes) {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
        return true;
    }
    match str::from_utf8(bytes) {
        Ok(text) => {
            out.push(b'"');
            escape(out, text.as_bytes());
            out.push(b'"');
            true
        }
        Err(_) => false,
    }
}

/// Whether all bytes are ASCII that JSON takes as it is, eight at a time.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.iter().all(|byte| (0x20..0x80).contains(byte) && *byte != b'"' && *byte != b'\\');
    };
    let (words, _) = bytes.as_chunks::<8>();
    // The last word may overlap the one before: looking twice is cheaper than a tail.
    words.iter().chain([last]).fold(0, |odd, word| odd | odd_bytes(u64::from_ne_bytes(*word))) == 0
}

/// Zero if none of eight bytes is a control character, a quote, a backslash or beyond ASCII.
#[inline]
fn odd_bytes(word: u64) -> u64 {
    let control = word.wrapping_sub(LOW * 0x20);
    let quote = (word ^ (LOW * 0x22)).wrapping_sub(LOW);
    let backslash = (word ^ (LOW * 0x5c)).wrapping_sub(LOW);
    (control | quote | backslash | word) & HIGH
}

#[cold]
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for run in text.split_inclusive(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\') {
        let Some((last, plain)) = run.split_last() else { continue };
        let letter = match last {
            b'"' | b'\\' => *last,
            8 => b'b',
            9 => b't',
            10 => b'n',
            12 => b'f',
            13 => b'r',
            0..0x20 => {
                out.extend_from_slice(plain);
                out.extend_from_slice(b"\\u00");
                push_hex(out, &[*last]);
                continue;
            }
            _ => {
                out.extend_from_slice(run);
                continue;
            }
        };
        out.extend_from_slice(plain);
        out.extend_from_slice(&[b'\\', letter]);
    }
}

/// Appends bytes in hexadecimal.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        let [.., high, low] = hex(u32::from(*byte));
        out.extend_from_slice(&[high, low]);
    }
}

/// Eight hexadecimal digits.
#[inline]
pub(crate) fn hex(word: u32) -> [u8; 8] {
    // Every nibble to a byte of its own, then to its digit, all eight at once.
    let mut x = u64::from(word);
    x = (x << 16 | x) & 0x0000_ffff_0000_ffff;
    x = (x << 8 | x) & 0x00ff_00ff_00ff_00ff;
    x = (x << 4 | x) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((x + LOW * 6) >> 4) & LOW;
    (x + LOW * 0x30 + letters * 0x27).to_be_bytes()
}

/// The words of 128 bits, most significant first.
#[inline]
fn words(value: u128) -> [u32; 4] {
    [(value >> 96) as u32, (value >> 64) as u32, (value >> 32) as u32, value as u32]
}

/// 32 hexadecimal digits.
#[inline]
pub(crate) fn push_hex128(out: &mut Vec<u8>, value: u128) {
    let [a, b, c, d] = words(value);
    for word in [a, b, c, d] {
        out.extend_from_slice(&hex(word));
    }
}

/// The 8-4-4-4-12 form, without quotes.
#[inline]
pub(crate) fn push_uuid(out: &mut Vec<u8>, value: u128) {
    let [a, b, c, d] = words(value);
    let [b0, b1, b2, b3, b4, b5, b6, b7] = hex(b);
    let [c0, c1, c2, c3, c4, c5, c6, c7] = hex(c);
    out.extend_from_slice(&hex(a));
    out.extend_from_slice(&[b'-', b0, b1, b2, b3, b'-', b4, b5, b6, b7, b'-', c0, c1, c2, c3, b'-', c4, c5, c6, c7]);
    out.extend_from_slice(&hex(d));
}

/// Appends padded base64, without quotes.
pub(crate) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    match out.get_mut(start..).map(|room| STANDARD.encode_slice(bytes, room)) {
        Some(Ok(_)) => {}
        // The room is exact, so this can't happen; if it did, a copy must not lose a byte.
        _ => {
            out.truncate(start);
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
        }
    }
}

/// Appends `{"$base64":"…"}`.
pub(crate) fn push_raw(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"{\"$base64\":\"");
    push_base64(out, bytes);
    out.extend_from_slice(b"\"}");
}

/// Appends `{"$chunk":1,"$chunks":9,"$base64":"…"}`.
pub(crate) fn push_chunk(out: &mut Vec<u8>, number: u32, of: u32, bytes: &[u8]) {
    out.extend_from_slice(b"{\"$chunk\":");
    push_int(out, number);
    out.extend_from_slice(b",\"$chunks\":");
    push_int(out, of);
    out.extend_from_slice(b",\"$base64\":\"");
    push_base64(out, bytes);
    out.extend_from_slice(b"\"}");
}
