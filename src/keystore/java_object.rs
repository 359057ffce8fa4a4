//! One serialized Java object: `u16` magic `aced`, `u16` version 5, then the object by its class. A class says its name,
//! its fields and its superclass; values follow, those of the topmost superclass first. What was written before is
//! referred to by its number.
//!
//! Owns: as much of that notation as the objects of a keystore need: fields of text and of bytes. Does not own: what the
//! objects mean. No class is ever loaded: a field of any other type ends the reading.

use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};

/// Classes above one class. `SealedObjectForKeyProtector` has one.
const MAX_SUPERCLASSES: usize = 8;

const NULL: u8 = 0x70;
const REFERENCE: u8 = 0x71;
const CLASS: u8 = 0x72;
const OBJECT: u8 = 0x73;
const STRING: u8 = 0x74;
const ARRAY: u8 = 0x75;
const END_OF_ANNOTATIONS: u8 = 0x78;

/// Handles count from here.
const FIRST_HANDLE: u32 = 0x007e_0000;

/// An object: its class, and all fields with those of superclasses.
pub(super) struct Object {
    pub(super) class: String,
    fields: Vec<(String, Value)>,
}

impl Object {
    /// A field by its name.
    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }
}

/// The value of a field.
pub(super) enum Value {
    Null,
    Text(String),
    Bytes(Vec<u8>),
}

impl Drop for Value {
    /// One of these values is the key.
    fn drop(&mut self) {
        if let Self::Bytes(bytes) = self {
            bytes.fill(0);
            std::hint::black_box(&bytes);
        }
    }
}

/// Reads one object with its stream header, and gives back what comes behind it.
pub(super) fn read_object(bytes: &[u8]) -> Result<(Object, &[u8])> {
    let mut stream = Stream { bytes, handles: Vec::new() };
    ensure!(stream.array()? == [0xac, 0xed, 0, 5], "no serialized Java object");
    ensure!(stream.u8()? == OBJECT, "no object where one should begin");
    let class = stream.class(0)?.context("an object without a class")?;
    stream.handles.push(Handle::Other);
    let mut fields = Vec::new();
    let mut classes: Vec<&Class> = std::iter::successors(Some(&*class), |class| class.above.as_deref()).collect();
    classes.reverse();
    for field in classes.into_iter().flat_map(|class| &class.fields) {
        fields.push((field.name.clone(), stream.value(field.kind)?));
    }
    Ok((Object { class: class.name.clone(), fields }, stream.bytes))
}

struct Class {
    name: String,
    fields: Vec<Field>,
    above: Option<Rc<Class>>,
}

struct Field {
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Bytes,
}

enum Handle {
    Class(Rc<Class>),
    Text(String),
    Other,
}

struct Stream<'a> {
    bytes: &'a [u8],
    handles: Vec<Handle>,
}

impl<'a> Stream<'a> {
    fn class(&mut self, below: usize) -> Result<Option<Rc<Class>>> {
        ensure!(below <= MAX_SUPERCLASSES, "more than {MAX_SUPERCLASSES} superclasses");
        match self.u8()? {
            NULL => return Ok(None),
            REFERENCE => match self.handle()? {
                Handle::Class(class) => return Ok(Some(Rc::clone(class))),
                _ => bail!("a reference to something else where a class should be"),
            },
            CLASS => {}
            other => bail!("unknown code {other:#x} where a class should be"),
        }
        let name = self.text()?;
        self.array::<8>()?;
        // The class takes its number before its fields' types and its superclass take theirs.
        let number = self.handles.len();
        self.handles.push(Handle::Other);
        // Serializable, with no method of its own that writes whatever it likes behind the fields.
        ensure!(self.u8()? == 2, "class {name} does not write plain fields");
        let fields = self.fields()?;
        ensure!(self.u8()? == END_OF_ANNOTATIONS, "class {name} is annotated");
        let above = self.class(below + 1)?;
        let class = Rc::new(Class { name, fields, above });
        if let Some(handle) = self.handles.get_mut(number) {
            *handle = Handle::Class(Rc::clone(&class));
        }
        Ok(Some(class))
    }

    fn fields(&mut self) -> Result<Vec<Field>> {
        let mut fields = Vec::new();
        for _ in 0..u16::from_be_bytes(self.array()?) {
            let code = self.u8()?;
            let name = self.text()?;
            ensure!(matches!(code, b'[' | b'L'), "field {name} is of a primitive type");
            let kind = match self.text_object()?.as_deref() {
                Some("[B") => Kind::Bytes,
                Some("Ljava/lang/String;") => Kind::Text,
                _ => bail!("field {name} is neither text nor bytes"),
            };
            fields.push(Field { name, kind });
        }
        Ok(fields)
    }

    fn value(&mut self, kind: Kind) -> Result<Value> {
        match kind {
            Kind::Text => Ok(self.text_object()?.map_or(Value::Null, Value::Text)),
            Kind::Bytes => match self.u8()? {
                NULL => Ok(Value::Null),
                ARRAY => {
                    let class = self.class(0)?.context("an array without a class")?;
                    ensure!(class.name == "[B", "an array of {} where bytes should be", class.name);
                    self.handles.push(Handle::Other);
                    let len = usize::try_from(u32::from_be_bytes(self.array()?))?;
                    Ok(Value::Bytes(self.take(len)?.to_vec()))
                }
                other => bail!("unknown code {other:#x} where bytes should be"),
            },
        }
    }

    fn text_object(&mut self) -> Result<Option<String>> {
        match self.u8()? {
            NULL => Ok(None),
            STRING => {
                let text = self.text()?;
                self.handles.push(Handle::Text(text.clone()));
                Ok(Some(text))
            }
            REFERENCE => match self.handle()? {
                Handle::Text(text) => Ok(Some(text.clone())),
                _ => bail!("a reference to something else where text should be"),
            },
            other => bail!("unknown code {other:#x} where text should be"),
        }
    }

    fn handle(&mut self) -> Result<&Handle> {
        let number = u32::from_be_bytes(self.array()?);
        let at = number.checked_sub(FIRST_HANDLE).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.handles.get(at)).context("a reference to nothing")
    }

    fn text(&mut self) -> Result<String> {
        let len = u16::from_be_bytes(self.array()?);
        Ok(String::from_utf8_lossy(self.take(len.into())?).into_owned())
    }

    fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk().context("it ends early")?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len).context("it ends early")?;
        self.bytes = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `class K { byte[] b; String s, t; }` above `class J`, with `t` the same string as `s`.
    fn object() -> Vec<u8> {
        let mut bytes = vec![0xac, 0xed, 0, 5, OBJECT];
        bytes.extend(b"\x72\0\x01J\0\0\0\0\0\0\0\0\x02\0\0\x78");
        bytes.extend(b"\x72\0\x01K\0\0\0\0\0\0\0\0\x02\0\x03");
        bytes.extend(b"[\0\x01bt\0\x02[BL\0\x01st\0\x12Ljava/lang/String;L\0\x01tq\0\x7e\0\x03\x78\x70");
        bytes.extend(b"\x75\x72\0\x02[B\0\0\0\0\0\0\0\0\x02\0\0\x78\x70\0\0\0\x02\x01\x02");
        bytes.extend(b"t\0\x02hiq\0\x7e\0\x07");
        bytes
    }

    #[test]
    fn fields_of_superclasses_and_references() {
        let mut bytes = object();
        bytes.extend(b"rest");
        let (object, rest) = read_object(&bytes).unwrap();
        assert_eq!((object.class.as_str(), rest), ("J", &b"rest"[..]));
        assert!(matches!(object.field("b"), Some(Value::Bytes(b)) if b[..] == [1, 2]));
        for name in ["s", "t"] {
            assert!(matches!(object.field(name), Some(Value::Text(text)) if text == "hi"));
        }
        assert!(object.field("u").is_none());
    }

    #[test]
    fn whatever_else_is_refused() {
        let whole = object();
        for len in 0..whole.len() {
            assert!(read_object(&whole[..len]).is_err());
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                let _ = read_object(&changed);
            }
        }
        let mut deep = vec![0xac, 0xed, 0, 5, OBJECT];
        for _ in 0..100_000 {
            deep.extend(b"\x72\0\x01J\0\0\0\0\0\0\0\0\x02\0\0\x78");
        }
        assert_eq!(read_object(&deep).err().unwrap().to_string(), "more than 8 superclasses");
    }
}
