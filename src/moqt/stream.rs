//! Streams as they arrive: chunks of any size in, whole messages and objects out.
//!
//! A unidirectional stream begins as a [`UniReader`]; its type tells what it becomes ([`Opened`]). A request stream is a
//! [`ControlReader`] from its first byte. Readers hold at most one unfinished message or object beside the chunk that brought it;
//! how long that may be is known before its bytes arrive. Payloads that lie in one chunk are slices of it.
//! `finish` is for a FIN: one in the middle of something is a violation (§11.4). A reset needs no word.

use bytes::{Buf, Bytes, BytesMut};

use super::codec::{Read, Reader, Stop};
use super::error::Violation;
use super::fetched::{Fetched, FetchedObjects};
use super::message::{GroupOrder, Kind, Message};
use super::object::{Object, SubgroupHeader};
use super::subgroup::{self, Objects};
use super::version::Draft;

/// Type of a stream that carries fetched objects (§11.4.4).
pub const FETCH_HEADER: u64 = 0x05;
/// Type of a stream that carries nothing (§11.5.1).
pub const PADDING_STREAM: u64 = 0x132b_3e28;

/// Bytes that arrived and are not taken yet, and how many were.
#[derive(Debug, Default)]
pub(crate) struct Input(Bytes, u64);

impl Input {
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0
    }

    pub(crate) fn held(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        if self.0.is_empty() {
            self.0 = chunk;
            return;
        }
        // Something is unfinished: join. The buffer stays ours while it grows, so many small chunks cost one copy each.
        let held = std::mem::take(&mut self.0);
        let mut joined = held.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        joined.extend_from_slice(&chunk);
        self.0 = joined.freeze();
    }

    /// Reads one thing. `None`, and nothing taken: it is not whole yet.
    pub(crate) fn take<T>(&mut self, read: impl FnOnce(&mut Reader<'_>) -> Read<T>) -> Result<Option<T>, Violation> {
        let mut reader = Reader::new(&self.0);
        match read(&mut reader) {
            Ok(value) => {
                let taken = reader.position();
                self.drop_front(taken);
                Ok(Some(value))
            }
            Err(Stop::Short) => Ok(None),
            Err(Stop::Violation(violation)) => Err(violation),
        }
    }

    /// How far the stream has come, when something of it is not whole.
    pub(crate) fn unfinished(&self) -> Option<u64> {
        (!self.0.is_empty()).then_some(self.1)
    }

    pub(crate) fn drop_front(&mut self, bytes: usize) {
        self.1 += bytes as u64;
        if bytes == self.0.len() {
            // Let go of the chunk's memory now, not at the next push.
            self.0 = Bytes::new();
        } else {
            self.0.advance(bytes);
        }
    }

    pub(crate) fn finish(&self) -> Result<(), Violation> {
        if self.0.is_empty() { Ok(()) } else { Err(Violation::protocol("a stream that ends in the middle")) }
    }
}

/// Messages of a control stream (SETUP first) or of one half of a request stream.
#[derive(Debug)]
pub struct ControlReader {
    draft: Draft,
    input: Input,
}

impl ControlReader {
    pub fn new(draft: Draft) -> Self {
        Self { draft, input: Input::default() }
    }

    pub fn push(&mut self, chunk: Bytes) {
        self.input.push(chunk);
    }

    /// The next whole message. After a violation the session is over; the reader is not asked again.
    pub fn read(&mut self) -> Result<Option<Message>, Violation> {
        let Some((message, taken)) = Message::decode(self.draft, &self.input.0)? else { return Ok(None) };
        self.input.drop_front(taken);
        Ok(Some(message))
    }

    pub fn finish(&self) -> Result<(), Violation> {
        self.input.finish()
    }

    /// Bytes held of a message that is not whole.
    pub fn held(&self) -> usize {
        self.input.0.len()
    }
}

/// A unidirectional stream of which not even the header is known.
#[derive(Debug)]
pub struct UniReader {
    draft: Draft,
    input: Input,
}

/// What a unidirectional stream turned out to be; the reader has the bytes behind the header.
#[derive(Debug)]
pub enum Opened {
    /// The peer's control stream; its first message is not taken yet.
    Control(ControlReader),
    Subgroup {
        alias: u64,
        reader: SubgroupReader,
    },
    /// The answer to a FETCH.
    Fetch {
        request: u64,
        reader: FetchReader,
    },
    /// To be discarded, whatever arrives.
    Padding,
}

impl UniReader {
    pub fn new(draft: Draft) -> Self {
        Self { draft, input: Input::default() }
    }

    pub fn push(&mut self, chunk: Bytes) {
        self.input.push(chunk);
    }

    /// What the stream is, as soon as its header is whole; this reader is then empty and done.
    pub fn open(&mut self) -> Result<Option<Opened>, Violation> {
        let draft = self.draft;
        let opened = self.input.take(|reader| {
            let kind = reader.peek_varint()?;
            if draft.profile().kind(kind) == Some(Kind::Setup) {
                // The type is also the first message's: it stays.
                return Ok(Opened::Control(ControlReader::new(draft)));
            }
            reader.varint()?;
            match kind {
                FETCH_HEADER => Ok(Opened::Fetch { request: reader.varint()?, reader: FetchReader::default() }),
                PADDING_STREAM => Ok(Opened::Padding),
                _ if subgroup::is_subgroup(kind) => {
                    let (alias, header) = subgroup::decode_header(kind, reader)?;
                    Ok(Opened::Subgroup { alias, reader: SubgroupReader::new(header) })
                }
                _ => Err(Violation::protocol("an unknown stream type").into()),
            }
        })?;
        Ok(opened.map(|opened| self.hand_over(opened)))
    }

    fn hand_over(&mut self, mut opened: Opened) -> Opened {
        let rest = std::mem::take(&mut self.input);
        match &mut opened {
            Opened::Control(reader) => reader.input = rest,
            Opened::Subgroup { reader, .. } => reader.input = rest,
            Opened::Fetch { reader, .. } => reader.input = rest,
            Opened::Padding => {}
        }
        opened
    }

    /// A FIN before the header is whole. A subgroup named by its first object may end without one; it said nothing.
    pub fn finish(&self) -> Result<(), Violation> {
        match subgroup::waits_for_object(&mut Reader::new(&self.input.0)) {
            true => Ok(()),
            false => self.input.finish(),
        }
    }

    /// A header that is not whole, though more of it is due.
    pub(crate) fn unfinished(&self) -> Option<u64> {
        self.input.unfinished().filter(|_| self.finish().is_err())
    }

    /// Bytes held of a header that is not whole.
    pub fn held(&self) -> usize {
        self.input.0.len()
    }
}

/// Objects of a subgroup stream.
#[derive(Debug)]
pub struct SubgroupReader {
    objects: Objects,
    input: Input,
}

impl SubgroupReader {
    fn new(header: SubgroupHeader) -> Self {
        Self { objects: Objects::new(header), input: Input::default() }
    }

    pub fn header(&self) -> &SubgroupHeader {
        self.objects.header()
    }

    pub fn push(&mut self, chunk: Bytes) {
        self.input.push(chunk);
    }

    /// The next whole object. Properties or payload of more than `max_bytes` are a violation as soon as their length is read.
    pub fn read(&mut self, max_bytes: usize) -> Result<Option<Object>, Violation> {
        if self.input.0.is_empty() {
            return Ok(None);
        }
        let objects = &mut self.objects;
        self.input.take(|reader| objects.decode(reader, max_bytes))
    }

    pub fn finish(&self) -> Result<(), Violation> {
        self.input.finish()
    }

    /// Bytes taken before an object that is not whole.
    pub(crate) fn unfinished(&self) -> Option<u64> {
        self.input.unfinished()
    }

    /// Bytes held: of an object that is not whole, or of many that nobody asked for yet.
    pub fn held(&self) -> usize {
        self.input.0.len()
    }
}

/// Objects of a fetch stream.
#[derive(Debug, Default)]
pub struct FetchReader {
    /// `None` until the reader knows in which order groups come: only the one who asked does.
    objects: Option<FetchedObjects>,
    input: Input,
}

impl FetchReader {
    pub fn expect(&mut self, order: GroupOrder) {
        self.objects = Some(FetchedObjects::new(order));
    }

    pub fn push(&mut self, chunk: Bytes) {
        self.input.push(chunk);
    }

    /// The next whole thing; bounds as of [`SubgroupReader::read`].
    pub fn read(&mut self, max_bytes: usize) -> Result<Option<Fetched>, Violation> {
        let Some(objects) = self.objects.as_mut().filter(|_| !self.input.0.is_empty()) else { return Ok(None) };
        // What an unfinished object changed must not count twice.
        let mut next = objects.clone();
        let fetched = self.input.take(|reader| next.decode(reader, max_bytes))?;
        if fetched.is_some() {
            *objects = next;
        }
        Ok(fetched)
    }

    /// Bytes taken before a thing that is not whole.
    pub(crate) fn unfinished(&self) -> Option<u64> {
        self.input.unfinished()
    }

    pub fn finish(&self) -> Result<(), Violation> {
        self.input.finish()
    }

    pub fn held(&self) -> usize {
        self.input.0.len()
    }
}
