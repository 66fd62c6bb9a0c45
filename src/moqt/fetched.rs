//! Fetch streams (§11.4.4): the header, and objects of any groups behind it, each told by what differs from the one before.
//!
//! [`Fetched`] is the part of reading and writing that remembers. Status objects are not told on such a stream: what does not
//! exist is a gap, and [`Item::Gap`] says what a gap is where it matters.

use bytes::{BufMut, BytesMut};

use super::codec::{Read, Reader, Stop, put_prefixed};
use super::error::Violation;
use super::message::{DEFAULT_PRIORITY, GroupOrder, Location};
use super::object::{Object, Status, Unsendable};
use super::stream::FETCH_HEADER;
use super::varint;

/// Serialization flags.
mod bit {
    pub(super) const SUBGROUP: u64 = 0x03;
    pub(super) const OBJECT: u64 = 0x04;
    pub(super) const GROUP: u64 = 0x08;
    pub(super) const PRIORITY: u64 = 0x10;
    pub(super) const PROPERTIES: u64 = 0x20;
    pub(super) const DATAGRAM: u64 = 0x40;
    pub(super) const ALL: u64 = 0x7f;
}

/// Where the subgroup id stands.
mod subgroup {
    pub(super) const ZERO: u64 = 0;
    pub(super) const SAME: u64 = 1;
    pub(super) const NEXT: u64 = 2;
    pub(super) const EXPLICIT: u64 = 3;
}

/// Values that are no flags (§11.4.4.2). The last came with draft 20.
const NON_EXISTENT: u64 = 0x8c;
const UNKNOWN: u64 = 0x10c;
const TIMED_OUT: u64 = 0x20c;

/// Why objects up to a location are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// They do not exist.
    NonExistent,
    /// The publisher does not know them.
    Unknown,
    /// They did not come in time (since draft 20).
    TimedOut,
}

/// What a fetch stream carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Object(Object),
    /// All between what came before and `to`, inclusive.
    Gap {
        to: Location,
        gap: Gap,
    },
}

/// One fetch stream, in either direction.
#[derive(Clone, Debug)]
pub struct Fetched {
    order: GroupOrder,
    /// Where the last item was.
    at: Option<Location>,
    /// Of the last object.
    subgroup: Option<u64>,
    priority: Option<u8>,
}

/// Appends the header: the type of the stream and whose it is.
pub fn encode_header(request: u64, out: &mut BytesMut) {
    varint::put(out, FETCH_HEADER);
    varint::put(out, request);
}

impl Fetched {
    pub fn new(order: GroupOrder) -> Self {
        Self { order, at: None, subgroup: None, priority: None }
    }

    /// One item; what it says is remembered only when it is whole.
    pub(crate) fn decode(&mut self, reader: &mut Reader<'_>, max_bytes: usize) -> Read<Item> {
        let flags = reader.varint()?;
        let gap = match flags {
            NON_EXISTENT => Gap::NonExistent,
            UNKNOWN => Gap::Unknown,
            TIMED_OUT => Gap::TimedOut,
            _ if flags & !bit::ALL != 0 => return Err(Violation::protocol("unknown serialization flags").into()),
            _ => return self.decode_object(flags, reader, max_bytes).map(Item::Object),
        };
        // Both are absolute, and no payload length follows: so reads aiomoqt; moqtap-codec has a length of 0 there.
        let to = Location { group: reader.varint()?, object: reader.varint()? };
        self.at = Some(to);
        Ok(Item::Gap { to, gap })
    }

    fn decode_object(&mut self, flags: u64, reader: &mut Reader<'_>, max_bytes: usize) -> Read<Object> {
        const TOO_LARGE: &str = "an object larger than this endpoint takes";
        let has = |bit: u64| flags & bit != 0;
        // The group comes first on the wire, then the subgroup, then the object.
        let group = if has(bit::GROUP) { Some(reader.varint()?) } else { None };
        let subgroup = match flags & bit::SUBGROUP {
            // A datagram has none, whatever the two bits say.
            _ if has(bit::DATAGRAM) => 0,
            subgroup::ZERO => 0,
            subgroup::SAME => self.subgroup.ok_or_else(nothing_before)?,
            subgroup::NEXT => {
                let next = self.subgroup.ok_or_else(nothing_before)?.checked_add(1);
                next.ok_or(Violation::protocol("a subgroup id beyond 2^64 - 1"))?
            }
            _ => reader.varint()?,
        };
        let object = if has(bit::OBJECT) { Some(reader.varint()?) } else { None };
        let at = self.locate(group, object)?;
        let priority = if has(bit::PRIORITY) { reader.u8()? } else { self.priority.ok_or_else(nothing_before)? };
        let mut object =
            Object { group: at.group, subgroup, id: at.object, priority: Some(priority), ..Object::default() };
        if has(bit::PROPERTIES) {
            object.properties = reader.prefixed(max_bytes, TOO_LARGE)?;
        }
        object.payload = reader.prefixed(max_bytes, TOO_LARGE)?;
        self.remember(&object);
        Ok(object)
    }

    /// Absolute first; then groups by their distance in the stream's order, and objects by theirs within a group.
    fn locate(&self, group: Option<u64>, object: Option<u64>) -> Read<Location> {
        const BEYOND: &str = "a location that does not exist";
        let Some(at) = self.at else {
            return match (group, object) {
                (Some(group), Some(object)) => Ok(Location { group, object }),
                _ => Err(nothing_before()),
            };
        };
        let next = || at.object.checked_add(1);
        let (group, object) = match (group, object) {
            (Some(delta), object) => {
                let step = delta.checked_add(1);
                let group = step.and_then(|step| match self.order {
                    GroupOrder::Ascending => at.group.checked_add(step),
                    GroupOrder::Descending => at.group.checked_sub(step),
                });
                (group, object.or_else(next))
            }
            (None, Some(delta)) => (Some(at.group), at.object.checked_add(delta)),
            (None, None) => (Some(at.group), next()),
        };
        match (group, object) {
            (Some(group), Some(object)) => Ok(Location { group, object }),
            _ => Err(Violation::protocol(BEYOND).into()),
        }
    }

    fn remember(&mut self, object: &Object) {
        self.at = Some(Location { group: object.group, object: object.id });
        self.subgroup = Some(object.subgroup);
        self.priority = object.priority;
    }

    /// Appends one object. On an error nothing was written: objects must follow in the stream's order.
    pub fn encode(&mut self, object: &Object, out: &mut BytesMut) -> Result<(), Unsendable> {
        if object.status != Status::Normal {
            return Err(Unsendable::StatusWithContent);
        }
        let (group, id) = self.distance(Location { group: object.group, object: object.id })?;
        let priority = object.priority.unwrap_or(DEFAULT_PRIORITY);
        let subgroup = match self.subgroup {
            _ if object.subgroup == 0 => subgroup::ZERO,
            Some(before) if before == object.subgroup => subgroup::SAME,
            Some(before) if before.checked_add(1) == Some(object.subgroup) => subgroup::NEXT,
            _ => subgroup::EXPLICIT,
        };
        let bits = [
            (bit::OBJECT, id.is_some()),
            (bit::GROUP, group.is_some()),
            (bit::PRIORITY, self.priority != Some(priority)),
            (bit::PROPERTIES, !object.properties.is_empty()),
        ];
        out.reserve(object.payload.len() + object.properties.len() + 6 * varint::MAX_LEN);
        varint::put(out, subgroup | bits.iter().filter(|(_, set)| *set).map(|(bit, _)| bit).sum::<u64>());
        put_some(out, group);
        put_some(out, (subgroup == subgroup::EXPLICIT).then_some(object.subgroup));
        put_some(out, id);
        if self.priority != Some(priority) {
            out.put_u8(priority);
        }
        if !object.properties.is_empty() {
            put_prefixed(out, &object.properties);
        }
        put_prefixed(out, &object.payload);
        self.remember(object);
        self.priority = Some(priority);
        Ok(())
    }

    /// Appends an end of range: everything up to `to` that was not told is left out for this reason.
    pub fn encode_gap(&mut self, to: Location, gap: Gap, out: &mut BytesMut) {
        let flags = match gap {
            Gap::NonExistent => NON_EXISTENT,
            Gap::Unknown => UNKNOWN,
            Gap::TimedOut => TIMED_OUT,
        };
        [flags, to.group, to.object].into_iter().for_each(|value| varint::put(out, value));
        self.at = Some(to);
    }

    /// Group and object fields of what is at `to`; `None`: left out.
    fn distance(&self, to: Location) -> Result<(Option<u64>, Option<u64>), Unsendable> {
        let Some(at) = self.at else { return Ok((Some(to.group), Some(to.object))) };
        if at.group == to.group {
            let delta = to.object.checked_sub(at.object).filter(|delta| *delta > 0);
            return match delta.ok_or(Unsendable::IdDoesNotGrow)? {
                1 => Ok((None, None)),
                delta => Ok((None, Some(delta))),
            };
        }
        let steps = match self.order {
            GroupOrder::Ascending => to.group.checked_sub(at.group),
            GroupOrder::Descending => at.group.checked_sub(to.group),
        };
        let steps = steps.ok_or(Unsendable::IdDoesNotGrow)?;
        Ok((Some(steps - 1), Some(to.object)))
    }
}

fn nothing_before() -> Stop {
    Violation::protocol("the first object of a fetch refers to the one before").into()
}

fn put_some(out: &mut BytesMut, value: Option<u64>) {
    if let Some(value) = value {
        varint::put(out, value);
    }
}
