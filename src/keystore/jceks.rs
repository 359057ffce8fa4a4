//! JCEKS keystore: `u32` magic `cececece`, `u32` version (1 or 2), `u32` count, entries, SHA-1 digest. Entry: `u32` tag,
//! alias, `i64` date, and by tag 1 a private key with its certificates, 2 a certificate, 3 a secret key, which is a
//! serialized Java object without a length. Digest: over the password in UTF-16, `Mighty Aphrodite`, all before it.
//!
//! Owns: the entries, the digest, the cipher of a secret key. Does not own: the notation of Java objects.

use anyhow::{Context, Result, bail, ensure};
use cbc::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7};
use md5::{Digest, Md5};

use super::java_object::{Object, Value, read_object};
use super::{Wiped, missing, same_alias};

/// Rounds of MD5 beyond which Java itself refuses a keystore.
const MAX_ITERATIONS: u32 = 5_000_000;

const DIGEST_BYTES: usize = 20;

/// The key of `alias`.
pub(super) fn key(file: &[u8], password: &str, key_password: &str, alias: &str) -> Result<Wiped> {
    let (body, digest) = file.split_last_chunk::<DIGEST_BYTES>().context("the file is damaged: it is too short")?;
    let keystore = Entries::read(body).context("the file is damaged")?;
    ensure!(*digest == sha1(password, body), "wrong password, or the file was changed");
    let (_, sealed) = keystore
        .secret
        .iter()
        .find(|(name, _)| same_alias(name, alias))
        .ok_or_else(|| missing(alias, &keystore.secret_aliases(), &keystore.others))?;
    unseal(sealed, key_password)
}

fn sha1(password: &str, body: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut sha1 = openssl::sha::Sha1::new();
    for unit in password.encode_utf16() {
        sha1.update(&unit.to_be_bytes());
    }
    sha1.update(b"Mighty Aphrodite");
    sha1.update(body);
    sha1.finish()
}

#[derive(Default)]
struct Entries {
    secret: Vec<(String, Object)>,
    others: Vec<String>,
}

impl Entries {
    fn read(body: &[u8]) -> Result<Self> {
        let mut input = Input { bytes: body };
        ensure!(input.u32()? == 0xcece_cece, "no magic number");
        let version = input.u32()?;
        ensure!(matches!(version, 1 | 2), "unknown version {version}");
        let mut entries = Self::default();
        // The count is untrusted, but no entry is empty: the bytes end the loop.
        for _ in 0..input.u32()? {
            let tag = input.u32()?;
            let alias = input.text()?;
            input.take(8)?;
            match tag {
                1 => {
                    input.sized()?;
                    for _ in 0..input.u32()? {
                        input.certificate(version)?;
                    }
                    entries.others.push(alias);
                }
                2 => {
                    input.certificate(version)?;
                    entries.others.push(alias);
                }
                3 => {
                    let (object, rest) = read_object(input.bytes).context("read a secret key")?;
                    input.bytes = rest;
                    entries.secret.push((alias, object));
                }
                _ => bail!("unknown kind of entry {tag}"),
            }
        }
        ensure!(input.bytes.is_empty(), "{} bytes are left behind the last entry", input.bytes.len());
        Ok(entries)
    }

    fn secret_aliases(&self) -> Vec<String> {
        let mut aliases: Vec<String> = self.secret.iter().map(|(alias, _)| alias.clone()).collect();
        aliases.sort();
        aliases
    }
}

/// What is left to read.
struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len).context("it ends early")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32> {
        let (number, rest) = self.bytes.split_first_chunk().context("it ends early")?;
        self.bytes = rest;
        Ok(u32::from_be_bytes(*number))
    }

    fn text(&mut self) -> Result<String> {
        let (len, rest) = self.bytes.split_first_chunk().context("it ends early")?;
        self.bytes = rest;
        Ok(String::from_utf8_lossy(self.take(u16::from_be_bytes(*len).into())?).into_owned())
    }

    fn sized(&mut self) -> Result<&'a [u8]> {
        let len = self.u32()?;
        self.take(usize::try_from(len)?)
    }

    fn certificate(&mut self, version: u32) -> Result<()> {
        if version == 2 {
            self.text()?;
        }
        self.sized().map(|_| ())
    }
}

/// A `SealedObject` holds the ciphertext of another object, the key, and how it was made.
fn unseal(sealed: &Object, password: &str) -> Result<Wiped> {
    let algorithm = match sealed.field("sealAlg") {
        Some(Value::Text(algorithm)) => algorithm,
        _ => bail!("it is a {} and not sealed as JCEKS does", sealed.class),
    };
    ensure!(algorithm == "PBEWithMD5AndTripleDES", "it is sealed with {algorithm}, which no JCEKS does");
    let (Some(Value::Bytes(parameters)), Some(Value::Bytes(ciphertext))) =
        (sealed.field("encodedParams"), sealed.field("encryptedContent"))
    else {
        bail!("its sealed object lacks parameters or content");
    };
    let (salt, iterations) = parameters_of(parameters).context("its sealed object has odd parameters")?;
    ensure!(iterations <= MAX_ITERATIONS, "it asks for {iterations} rounds, {MAX_ITERATIONS} are the limit");
    let derived = derive(password, salt, iterations);
    let (key, iv) = derived.0.split_at(24);
    let plain = cbc::Decryptor::<des::TdesEde3>::new_from_slices(key, iv)
        .ok()
        .and_then(|cipher| cipher.decrypt_padded_vec::<Pkcs7>(ciphertext).ok())
        .map(Wiped)
        .context("the keystore's password is right, the key's is not")?;
    let (object, _) = read_object(&plain.0).context("the keystore's password is right, the key's is not")?;
    match object.field("key") {
        Some(Value::Bytes(key)) if object.class == "javax.crypto.spec.SecretKeySpec" => Ok(Wiped(key.clone())),
        _ => bail!("it is a {}, only SecretKeySpec is known", object.class),
    }
}

/// DER: a sequence of a salt of eight bytes and an iteration count.
fn parameters_of(der: &[u8]) -> Option<([u8; 8], u32)> {
    let [0x30, len, 0x04, 8, rest @ ..] = der else { return None };
    let (salt, rest) = rest.split_first_chunk::<8>()?;
    let [0x02, count_len @ 1..=4, count @ ..] = rest else { return None };
    if usize::from(*len) != der.len() - 2 || usize::from(*count_len) != count.len() || count.first()? & 0x80 != 0 {
        return None;
    }
    Some((*salt, count.iter().fold(0, |n, byte| n << 8 | u32::from(*byte))))
}

/// 24 bytes of key and 8 of initialisation vector: each half of the salt is hashed with the password over and over.
fn derive(password: &str, mut salt: [u8; 8], iterations: u32) -> Wiped {
    if salt[..4] == salt[4..] {
        salt[..4].reverse();
    }
    // Java keeps seven bits of each character of such a password.
    let password = Wiped(password.encode_utf16().map(|unit| unit.to_be_bytes()[1] & 0x7f).collect());
    let mut derived = Wiped(Vec::with_capacity(32));
    for half in salt.chunks(4) {
        let mut hash = half.to_vec();
        for _ in 0..iterations {
            let mut md5 = Md5::new();
            md5.update(&hash);
            md5.update(&password.0);
            hash = md5.finalize().to_vec();
        }
        hash.resize(16, 0);
        derived.0.extend_from_slice(&hash);
    }
    derived
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let der = [0x30, 15, 4, 8, 1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 3, 13, 0x40];
        assert_eq!(parameters_of(&der), Some(([1, 2, 3, 4, 5, 6, 7, 8], 200_000)));
        for len in 0..der.len() {
            assert_eq!(parameters_of(&der[..len]), None);
        }
        assert_eq!(parameters_of(&[0x30, 13, 4, 8, 1, 2, 3, 4, 5, 6, 7, 8, 2, 1, 0x80]), None, "a negative count");
    }

    /// What a hostile file can ask for is bounded: no entry is believed to be there before its bytes are.
    #[test]
    fn counts_are_not_believed() {
        let mut file = vec![0xce, 0xce, 0xce, 0xce, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff];
        file.extend([0; DIGEST_BYTES]);
        assert_eq!(format!("{:#}", key(&file, "", "", "x").err().unwrap()), "the file is damaged: it ends early");
    }
}
