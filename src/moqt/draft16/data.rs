//! Data of draft 16 (§10): the same fields as later ones have, with other integers. What it says goes into our form and back
//! object by object; nothing is remembered but what is not whole, and of a fetch stream the object before.

use bytes::{BufMut, Bytes, BytesMut};

use super::fetched::{self, Prior};
use super::wire;
use crate::moqt::codec::{Read, Reader, whole};
use crate::moqt::error::Violation;
use crate::moqt::fetched::FetchedObjects;
use crate::moqt::message::GroupOrder;
use crate::moqt::stream::{FETCH_HEADER, Input};
use crate::moqt::varint;

/// From one form into the other.
pub(super) struct Way {
    read: fn(&mut Reader<'_>) -> Read<u64>,
    put: fn(&mut BytesMut, u64),
    properties: fn(&Bytes) -> Result<Bytes, Violation>,
    /// Bits that a subgroup's type may have before, and has behind.
    subgroup_bits: (u64, u64),
    /// One thing of a fetch stream.
    fetched: fn(&mut Reader<'_>, (&mut Prior, &mut FetchedObjects), usize, &mut BytesMut) -> Read<()>,
}

pub(super) const IN: Way = Way {
    read: wire::read,
    put: varint::put,
    properties: wire::properties_in,
    subgroup_bits: (0x3f, 0x3f),
    fetched: |reader, (theirs, ours), max, out| match ours.encode(&theirs.read(reader, max)?, out) {
        true => Ok(()),
        false => Err(Violation::protocol("a fetched object that is not behind the one before").into()),
    },
};
/// FIRST_OBJECT can't be said.
pub(super) const OUT: Way = Way {
    read: |reader| reader.varint(),
    put: wire::put,
    properties: |ours| Ok(wire::properties_out(ours)),
    subgroup_bits: (0x7f, 0x3f),
    fetched: |reader, (_, ours), max, out| {
        fetched::put(&ours.decode(reader, max)?, out);
        Ok(())
    },
};

mod bit {
    pub(super) const PROPERTIES: u64 = 0x01;
    pub(super) const ID_MODE: u64 = 0x06;
    pub(super) const EXPLICIT_ID: u64 = 0x04;
    pub(super) const SUBGROUP: u64 = 0x10;
    pub(super) const DEFAULT_PRIORITY: u64 = 0x20;
    /// Of a datagram.
    pub(super) const ZERO_OBJECT_ID: u64 = 0x04;
    pub(super) const PRIORITY_LEFT_OUT: u64 = 0x08;
    pub(super) const STATUS: u64 = 0x20;
    pub(super) const DATAGRAM: u64 = 0x2f;
}

const TOO_LARGE: &str = "an object larger than this endpoint takes";

/// One data stream.
pub(super) struct Stream {
    way: &'static Way,
    input: Input,
    part: Part,
}

enum Part {
    Header,
    Objects {
        properties: bool,
    },
    /// Of a FETCH: what its objects refer to, there and here.
    Fetched(Prior, FetchedObjects),
    /// Whatever comes is nobody's.
    Rest,
}

/// What becomes of a stream behind its header.
enum Kind {
    Subgroup {
        properties: bool,
    },
    /// Of the request with this id.
    Fetch(u64),
}

impl Stream {
    pub(super) fn new(way: &'static Way) -> Self {
        Self { way, input: Input::default(), part: Part::Header }
    }

    /// What is whole of `chunk` and of what was held, in the other form. `order` is that of a FETCH, by its id, while it lives.
    pub(super) fn push(
        &mut self,
        chunk: Bytes,
        max_object: usize,
        order: impl FnOnce(u64) -> Option<GroupOrder>,
    ) -> Result<Bytes, Violation> {
        self.input.push(chunk);
        let (way, mut out) = (self.way, BytesMut::new());
        if let Part::Header = self.part {
            let Some(kind) = self.input.take(|reader| way.header(reader, &mut out))? else { return Ok(Bytes::new()) };
            self.part = match kind {
                Kind::Subgroup { properties } => Part::Objects { properties },
                Kind::Fetch(id) => match order(id) {
                    Some(order) => Part::Fetched(Prior::default(), FetchedObjects::new(order)),
                    None => Part::Rest,
                },
            };
        }
        while self.input.held() > 0 {
            let start = out.len();
            let taken = match &mut self.part {
                Part::Objects { properties } => {
                    let properties = *properties;
                    self.input.take(|reader| way.object(reader, properties, max_object, &mut out))?
                }
                Part::Fetched(theirs, ours) => {
                    let (mut next_theirs, mut next_ours) = (theirs.clone(), ours.clone());
                    let taken = self.input.take(|reader| {
                        (way.fetched)(reader, (&mut next_theirs, &mut next_ours), max_object, &mut out)
                    })?;
                    // What an unfinished object changed must not count twice.
                    if taken.is_some() {
                        (*theirs, *ours) = (next_theirs, next_ours);
                    }
                    taken
                }
                Part::Header | Part::Rest => {
                    self.input = Input::default();
                    break;
                }
            };
            if taken.is_none() {
                out.truncate(start);
                break;
            }
        }
        Ok(out.freeze())
    }

    pub(super) fn held(&self) -> usize {
        self.input.held()
    }

    /// Bytes taken before something that is not whole.
    pub(super) fn unfinished(&self) -> Option<u64> {
        self.input.unfinished()
    }

    pub(super) fn finish(&self) -> Result<(), Violation> {
        self.input.finish()
    }
}

impl Way {
    fn copy(&self, reader: &mut Reader<'_>, out: &mut BytesMut) -> Read<u64> {
        let value = (self.read)(reader)?;
        (self.put)(out, value);
        Ok(value)
    }

    fn header(&self, reader: &mut Reader<'_>, out: &mut BytesMut) -> Read<Kind> {
        let mut header = BytesMut::new();
        let kind = (self.read)(reader)?;
        if kind == FETCH_HEADER {
            (self.put)(&mut header, kind);
            let request = self.copy(reader, &mut header)?;
            out.extend_from_slice(&header);
            return Ok(Kind::Fetch(request));
        }
        let (allowed, kept) = self.subgroup_bits;
        if kind & !allowed != 0 || kind & bit::SUBGROUP == 0 || kind & bit::ID_MODE == bit::ID_MODE {
            return Err(Violation::protocol("an unknown stream type").into());
        }
        (self.put)(&mut header, kind & kept);
        self.copy(reader, &mut header)?;
        self.copy(reader, &mut header)?;
        if kind & bit::ID_MODE == bit::EXPLICIT_ID {
            self.copy(reader, &mut header)?;
        }
        if kind & bit::DEFAULT_PRIORITY == 0 {
            header.put_u8(reader.u8()?);
        }
        out.extend_from_slice(&header);
        Ok(Kind::Subgroup { properties: kind & bit::PROPERTIES != 0 })
    }

    fn prefixed(&self, reader: &mut Reader<'_>, max: usize) -> Read<Bytes> {
        match usize::try_from((self.read)(reader)?) {
            Ok(len) if len <= max => reader.bytes(len),
            _ => Err(Violation::protocol(TOO_LARGE).into()),
        }
    }

    fn put_prefixed(&self, bytes: &[u8], out: &mut BytesMut) {
        (self.put)(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }

    /// Appends nothing that counts unless the object is whole: the caller cuts what is too much.
    fn object(&self, reader: &mut Reader<'_>, properties: bool, max: usize, out: &mut BytesMut) -> Read<()> {
        self.copy(reader, out)?;
        if properties {
            let properties = self.prefixed(reader, max)?;
            self.put_prefixed(&(self.properties)(&properties)?, out);
        }
        let payload = self.prefixed(reader, max)?;
        self.put_prefixed(&payload, out);
        if payload.is_empty() {
            self.copy(reader, out)?;
        }
        Ok(())
    }

    /// A whole datagram.
    pub(super) fn datagram(&self, datagram: &Bytes) -> Result<Bytes, Violation> {
        let mut out = BytesMut::with_capacity(datagram.len() + 32);
        whole(self.read_datagram(&mut Reader::new(datagram), &mut out))?;
        Ok(out.freeze())
    }

    fn read_datagram(&self, reader: &mut Reader<'_>, out: &mut BytesMut) -> Read<()> {
        let kind = (self.read)(reader)?;
        if kind & !bit::DATAGRAM != 0 {
            return Err(Violation::protocol("an unknown datagram type").into());
        }
        let mut fields = BytesMut::new();
        self.copy(reader, &mut fields)?;
        self.copy(reader, &mut fields)?;
        if kind & bit::ZERO_OBJECT_ID == 0 {
            self.copy(reader, &mut fields)?;
        }
        if kind & bit::PRIORITY_LEFT_OUT == 0 {
            fields.put_u8(reader.u8()?);
        }
        let mut left_out = 0;
        if kind & bit::PROPERTIES != 0 {
            let before = self.prefixed(reader, usize::MAX)?;
            let behind = (self.properties)(&before)?;
            if behind.is_empty() && !before.is_empty() {
                left_out = bit::PROPERTIES;
            } else {
                self.put_prefixed(&behind, &mut fields);
            }
        }
        (self.put)(out, kind & !left_out);
        out.extend_from_slice(&fields);
        if kind & bit::STATUS != 0 {
            self.copy(reader, out)?;
        }
        out.extend_from_slice(&reader.rest());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moqt::object::{decode_datagram, encode_datagram};
    use crate::moqt::subgroup::{Objects, encode_header};
    use crate::moqt::{Object, SubgroupHeader, properties};

    fn object(id: u64) -> Object {
        let properties = properties::timestamp(1_700_000_000_000_000 + id);
        Object { group: 1_795_362_135, id, properties, payload: vec![7; 300].into(), ..Object::default() }
    }

    /// There and back in pieces of every size.
    #[test]
    fn a_stream_keeps_its_meaning() {
        let header = SubgroupHeader { group: 1_795_362_135, properties: true, ..SubgroupHeader::default() };
        let mut ours = BytesMut::new();
        encode_header(900, &header, &mut ours);
        let mut objects = Objects::new(header);
        for id in [3, 4, 90] {
            objects.encode(&object(id), &mut ours).unwrap();
        }
        let ours = ours.freeze();
        for size in [1, 2, 7, 100, 4000] {
            let (mut out, mut back) = (Stream::new(&OUT), Stream::new(&IN));
            let mut again = BytesMut::new();
            for chunk in ours.chunks(size) {
                let wire = out.push(Bytes::copy_from_slice(chunk), 1000, |_| None).unwrap();
                for piece in wire.chunks(3) {
                    again.extend_from_slice(&back.push(Bytes::copy_from_slice(piece), 1000, |_| None).unwrap());
                }
            }
            assert_eq!((again, out.held(), back.held()), (BytesMut::from(&ours[..]), 0, 0));
        }
        let mut small = Stream::new(&OUT);
        assert!(small.push(ours, 200, |_| None).is_err());
    }

    #[test]
    fn a_datagram_keeps_its_meaning() {
        for object in [object(0), object(5), Object { properties: Bytes::new(), end_of_group: true, ..object(1) }] {
            let mut ours = BytesMut::new();
            encode_datagram(300, &object, &mut ours).unwrap();
            let wire = OUT.datagram(&ours.freeze()).unwrap();
            let back = IN.datagram(&wire).unwrap();
            let Object { subgroup: 0, .. } = object else { panic!("a datagram has no subgroup") };
            assert_eq!(decode_datagram(&back), Ok(Some((300, object))));
        }
        assert!(IN.datagram(&Bytes::from_static(&[0x40])).is_err());
        assert!(IN.datagram(&Bytes::from_static(&[0x10, 0, 0])).is_err());
    }
}
