//! The secret key that commit-log segments are encrypted with, from where Cassandra keeps it.
//!
//! Owns: telling a JCEKS keystore, a PKCS#12 keystore and a bare key apart, finding an alias, and the key's life in
//! memory. Does not own: decryption of segments, where passwords are configured.
//!
//! Errors name the file and its aliases, never a password or a byte of a key.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

mod java_object;
mod jceks;
mod pkcs12;

/// Bytes that a keystore may have. Real ones have a few thousand.
const MAX_BYTES: u64 = 16 << 20;

/// Aliases that an error lists.
const MAX_LISTED: usize = 20;

/// An AES key of 16, 24 or 32 bytes. Wiped when dropped; shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(Wiped);

impl SecretKey {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0.0
    }

    fn new(bytes: Wiped) -> Result<Self> {
        let len = bytes.0.len();
        ensure!(matches!(len, 16 | 24 | 32), "it is {len} bytes long, and an AES key has 16, 24 or 32");
        Ok(Self(bytes))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({} bytes)", self.0.0.len())
    }
}

/// Secret bytes. No `Debug`: they must not reach a log by way of another type's.
#[derive(Clone, PartialEq, Eq)]
struct Wiped(Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.fill(0);
        // Without a reader the compiler may leave the zeroes out.
        std::hint::black_box(&self.0);
    }
}

/// Reads the key of `alias` from a JCEKS or PKCS#12 keystore; `password` is the store's and the key's.
pub fn load(path: &Path, password: &str, alias: &str) -> Result<SecretKey> {
    load_with(path, password, None, alias)
}

/// [`load`], for a JCEKS key with a password of its own (`key_password` in `cassandra.yaml`).
pub fn load_with(path: &Path, password: &str, key_password: Option<&str>, alias: &str) -> Result<SecretKey> {
    let told = || format!("key {alias:?} of keystore {}", path.display());
    let bytes = read(path).with_context(told)?;
    let key = match &bytes.0[..] {
        [0xce, 0xce, 0xce, 0xce, ..] => jceks::key(&bytes.0, password, key_password.unwrap_or(password), alias),
        [0xfe, 0xed, 0xfe, 0xed, ..] => {
            bail!("{}: a JKS keystore cannot hold secret keys, JCEKS and PKCS12 can", told())
        }
        [0x30, ..] => pkcs12::key(&bytes.0, password, alias),
        _ => bail!("{}: the file is neither JCEKS nor PKCS12; a bare key is configured as such", told()),
    };
    key.and_then(SecretKey::new).with_context(told)
}

/// Reads a bare key: 16, 24 or 32 bytes, or the same in hexadecimal digits, with a line end or without.
pub fn load_raw(path: &Path) -> Result<SecretKey> {
    let told = || format!("key file {}", path.display());
    let bytes = read(path).with_context(told)?;
    let trimmed = bytes.0.trim_ascii();
    // 32 bytes that are all digits are a key of 16 in hex: at random that happens once in 10^34 keys.
    let key = if !trimmed.is_empty() && trimmed.iter().all(u8::is_ascii_hexdigit) {
        ensure!(trimmed.len().is_multiple_of(2), "{}: an odd number of hex digits", told());
        Wiped(trimmed.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | nibble(*digit))).collect())
    } else {
        bytes
    };
    SecretKey::new(key).with_context(told)
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        digit => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

fn read(path: &Path) -> Result<Wiped> {
    let mut bytes = Wiped(Vec::new());
    let read = File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes.0)? as u64;
    ensure!(read <= MAX_BYTES, "it is larger than {MAX_BYTES} bytes");
    Ok(bytes)
}

/// An alias that is not there, or is no secret key.
fn missing(alias: &str, secret: &[String], others: &[String]) -> anyhow::Error {
    if others.iter().any(|other| same_alias(other, alias)) {
        return anyhow::anyhow!("the alias is there, but what it names is no secret key");
    }
    let mut listed: Vec<String> = secret.iter().take(MAX_LISTED).map(|alias| format!("{alias:?}")).collect();
    if secret.len() > MAX_LISTED {
        listed.push(format!("and {} more", secret.len() - MAX_LISTED));
    }
    let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
    anyhow::anyhow!("no such alias; secret keys in this keystore: {listed}")
}

/// Java stores aliases of both kinds in lower case and looks them up so.
fn same_alias(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn testdata(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testdata").join(name)
    }

    fn hex(key: &SecretKey) -> String {
        key.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn told(result: Result<SecretKey>) -> String {
        let told = format!("{:#}", result.unwrap_err());
        told.replace(&testdata("").display().to_string(), "")
    }

    /// Made by `keytool` of Java 17 as `src/testdata/README.md` says; the keys' bytes as Java reads them.
    #[test]
    fn keys_of_both_kinds_of_keystore() {
        for (file, alias, expected) in [
            ("secret.jceks", "testing:128", "5af305181c741de0ca3ca470da5c6643"),
            ("secret.jceks", "Testing:256", "b33a85b01098e101eecb07364a46ee7a35b6e79b0cf5c45871d938890d32c507"),
            ("secret.p12", "TESTING:128", "947161923d1ea3b1ee66869cc7374964"),
            ("secret.p12", "testing:256", "7e48fe5a81787f576b4baa3c08107b1f45a0f47c34d382f9440cbc4d7b001bb7"),
        ] {
            assert_eq!(hex(&load(&testdata(file), "cassandra", alias).unwrap()), expected, "{file} {alias}");
        }
    }

    #[test]
    fn a_key_may_have_a_password_of_its_own() {
        let own = |password| load_with(&testdata("secret.jceks"), "cassandra", password, "own");
        assert_eq!(hex(&own(Some("another")).unwrap()), "d7e3259997b6551c2eae9da81a10f2897b9ca3bf19e9b58f");
        let expected = "key \"own\" of keystore secret.jceks: the keystore's password is right, the key's is not";
        assert_eq!(told(own(None)), expected);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (file, password, alias, expected) in [
            ("secret.jceks", "wrong", "testing:128", "wrong password, or the file was changed"),
            ("secret.p12", "wrong", "testing:128", "wrong password, or the file was changed"),
            (
                "secret.jceks",
                "cassandra",
                "nope",
                "no such alias; secret keys in this keystore: \"own\", \"testing:128\", \"testing:256\"",
            ),
            (
                "secret.p12",
                "cassandra",
                "nope",
                "no such alias; secret keys in this keystore: \"testing:128\", \"testing:256\"",
            ),
            ("secret.jceks", "cassandra", "pair", "the alias is there, but what it names is no secret key"),
            ("secret.jceks", "cassandra", "trusted", "the alias is there, but what it names is no secret key"),
            ("secret.p12", "cassandra", "pair", "the alias is there, but what it names is no secret key"),
            ("README.md", "cassandra", "x", "the file is neither JCEKS nor PKCS12; a bare key is configured as such"),
            ("absent", "cassandra", "x", "No such file or directory (os error 2)"),
        ] {
            let told = told(load(&testdata(file), password, alias));
            assert_eq!(told, format!("key {alias:?} of keystore {file}: {expected}"));
        }
    }

    #[test]
    fn a_keystore_cut_short_or_changed_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for name in ["secret.jceks", "secret.p12"] {
            let whole = std::fs::read(testdata(name)).unwrap();
            for len in 0..whole.len() {
                std::fs::write(file.path(), &whole[..len]).unwrap();
                assert!(load(file.path(), "cassandra", "testing:128").is_err(), "{name} cut to {len}");
            }
            // Each changed PKCS#12 costs ten thousand rounds of a hash, and each error a backtrace where those are on.
            for at in (0..whole.len()).step_by(if name == "secret.p12" { 31 } else { 5 }) {
                let mut changed = whole.clone();
                changed[at] ^= 0x41;
                std::fs::write(file.path(), &changed).unwrap();
                let refused = load(file.path(), "cassandra", "testing:128");
                // The count of rounds in a PKCS#12 and what lies outside its digest may change without effect.
                assert!(refused.is_err() || name == "secret.p12", "{name} changed at {at}");
            }
        }
    }

    #[test]
    fn bare_keys() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let key = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            load_raw(file.path())
        };
        assert_eq!(key(&[7; 24]).unwrap().bytes(), [7; 24]);
        assert_eq!(
            key(b" 000102030405060708090A0b0c0d0e0f\n").unwrap().bytes(),
            core::array::from_fn::<_, 16, _>(|n| n as u8)
        );
        assert_eq!(key(&[b'f'; 64]).unwrap().bytes(), [0xff; 32]);
        for (bytes, len) in [(&b""[..], 0), (b"ff", 1), (&[0; 33], 33), (b"f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0", 17)] {
            let told = told(key(bytes));
            assert!(told.ends_with(&format!("it is {len} bytes long, and an AES key has 16, 24 or 32")), "{told}");
        }
        for odd in [&b"fff"[..], b"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0"] {
            assert!(told(key(odd)).ends_with("an odd number of hex digits"));
        }
    }

    #[test]
    fn a_key_shows_nothing_of_itself() {
        let key = SecretKey::new(Wiped(vec![7; 16])).unwrap();
        assert_eq!(format!("{key:?}"), "SecretKey(16 bytes)");
    }

    #[test]
    fn keystores_of_recorded_nodes() {
        for root in ["fixtures", "../shared/fixtures"] {
            let cases = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(root));
            for case in cases.into_iter().flatten().flatten() {
                let path = case.path().join("tde.keystore");
                if path.exists() {
                    assert_eq!(load(&path, "cassandra", "testing:1").unwrap().bytes().len(), 16, "{}", path.display());
                }
            }
        }
    }
}
