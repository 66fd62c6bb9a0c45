//! Message parameters of draft 16 (§9.2): a count, then key-value pairs.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::wire::{self, MAX};
use crate::moqt::authorization::{Form, Token};
use crate::moqt::codec::{Read, Reader, whole};
use crate::moqt::error::{CloseCode, Violation};
use crate::moqt::message::{Filter, GroupOrder, Location, Parameters, Scopes};
use crate::moqt::parameters::to_millis;
use crate::moqt::properties::Value;
use crate::moqt::version::Draft;

mod key {
    pub(super) const DELIVERY_TIMEOUT: u64 = 0x02;
    pub(super) const AUTHORIZATION_TOKEN: u64 = 0x03;
    pub(super) const EXPIRES: u64 = 0x08;
    pub(super) const LARGEST_OBJECT: u64 = 0x09;
    pub(super) const FORWARD: u64 = 0x10;
    pub(super) const SUBSCRIBER_PRIORITY: u64 = 0x20;
    pub(super) const SUBSCRIPTION_FILTER: u64 = 0x21;
    pub(super) const GROUP_ORDER: u64 = 0x22;
    pub(super) const NEW_GROUP_REQUEST: u64 = 0x32;

    pub(super) const ALL: [u64; 9] = [
        DELIVERY_TIMEOUT,
        AUTHORIZATION_TOKEN,
        EXPIRES,
        LARGEST_OBJECT,
        FORWARD,
        SUBSCRIBER_PRIORITY,
        SUBSCRIPTION_FILTER,
        GROUP_ORDER,
        NEW_GROUP_REQUEST,
    ];
}

/// Of a message with these scopes. Those that this draft puts elsewhere are ignored whatever they hold (§9.2.2), where later drafts
/// close; unknown ones close here too.
pub(super) fn decode(reader: &mut Reader<'_>, scopes: Scopes) -> Read<Parameters> {
    let (mut parameters, mut last) = (Parameters::default(), None);
    for _ in 0..wire::read(reader)? {
        let (key, value) = wire::pair(reader, last.unwrap_or(0))?;
        if last == Some(key) && key != key::AUTHORIZATION_TOKEN {
            return Err(Violation::protocol("a parameter given twice").into());
        }
        last = Some(key);
        if !key::ALL.contains(&key) || belongs(key, scopes) {
            take(&mut parameters, key, value)?;
        }
    }
    Ok(parameters)
}

fn belongs(key: u64, scopes: Scopes) -> bool {
    Draft::D16.profile().parameter(key).is_some_and(|row| row.scopes.meets(scopes))
}

/// Of a REQUEST_OK, now that it is known what it answers: the two that any of them may have.
pub(super) fn only(parameters: &Parameters, scopes: Scopes) -> Parameters {
    let Parameters { expires, largest, .. } = *parameters;
    Parameters {
        expires: expires.filter(|_| belongs(key::EXPIRES, scopes)),
        largest: largest.filter(|_| belongs(key::LARGEST_OBJECT, scopes)),
        ..Parameters::default()
    }
}

fn take(parameters: &mut Parameters, key: u64, value: Value) -> Result<(), Violation> {
    match (key, value) {
        (key::DELIVERY_TIMEOUT, Value::Number(0)) => return Err(Violation::protocol("a delivery timeout of 0")),
        (key::DELIVERY_TIMEOUT, Value::Number(ms)) => {
            parameters.object_delivery_timeout = Some(Duration::from_millis(ms))
        }
        (key::AUTHORIZATION_TOKEN, Value::Bytes(value)) => {
            parameters.add_token(&token_in(&value)?)?;
        }
        (key::EXPIRES, Value::Number(ms)) => parameters.expires = Some(Duration::from_millis(ms)),
        (key::LARGEST_OBJECT, Value::Bytes(value)) => parameters.largest = Some(all(&value, wire::location)?),
        (key::FORWARD, Value::Number(forward @ 0..=1)) => parameters.forward = Some(forward == 1),
        (key::SUBSCRIBER_PRIORITY, Value::Number(priority)) => {
            let priority = u8::try_from(priority).map_err(|_| Violation::protocol("a priority above 255"))?;
            parameters.priority = Some(priority);
        }
        (key::SUBSCRIPTION_FILTER, Value::Bytes(value)) => parameters.filter = Some(all(&value, filter)?),
        (key::GROUP_ORDER, Value::Number(code)) => parameters.group_order = Some(GroupOrder::from_code(code)?),
        (key::NEW_GROUP_REQUEST, Value::Number(group)) => parameters.new_group_request = Some(group),
        _ => return Err(Violation::protocol("an unknown message parameter, or one of an unknown value")),
    }
    Ok(())
}

/// A value that has exactly the bytes of its fields.
fn all<T>(value: &Bytes, read: fn(&mut Reader<'_>) -> Read<T>) -> Result<T, Violation> {
    let mut reader = Reader::new(value);
    let read = whole(read(&mut reader))?;
    if reader.is_empty() { Ok(read) } else { Err(Violation::protocol("a value longer than its fields")) }
}

fn filter(reader: &mut Reader<'_>) -> Read<Filter> {
    Ok(match wire::read(reader)? {
        1 => Filter::NextGroupStart,
        2 => Filter::LargestObject,
        3 => Filter::AbsoluteStart(wire::location(reader)?),
        4 => {
            let (start, end_group) = (wire::location(reader)?, wire::read(reader)?);
            if end_group < start.group {
                return Err(Violation::protocol("a filter that ends before it starts").into());
            }
            Filter::AbsoluteRange { start, end_group }
        }
        _ => return Err(Violation::protocol("an unknown filter type").into()),
    })
}

fn put_filter(out: &mut BytesMut, filter: Filter) {
    match filter {
        Filter::NextGroupStart => wire::put(out, 1),
        Filter::LargestObject | Filter::NewestGroups(_) => wire::put(out, 2),
        Filter::AbsoluteStart(start) => {
            wire::put(out, 3);
            wire::put_location(out, start);
        }
        Filter::AbsoluteRange { start, end_group }
        | Filter::LocationRange { start, end: Location { group: end_group, .. } } => {
            wire::put(out, 4);
            wire::put_location(out, start);
            wire::put(out, end_group);
        }
    }
}

/// What this draft can't say (other timeouts, namespace prefixes) is left out.
pub(super) fn encode(parameters: &Parameters, out: &mut BytesMut) {
    let number = |key, number: Option<u64>| number.map(|number| (key, Value::Number(number.min(MAX))));
    let millis = |key, time: Option<Duration>| number(key, time.map(to_millis));
    let bytes = |write: &dyn Fn(&mut BytesMut)| {
        let mut value = BytesMut::new();
        write(&mut value);
        Value::Bytes(value.freeze())
    };
    let mut pairs = Vec::new();
    pairs.extend(millis(key::DELIVERY_TIMEOUT, parameters.object_delivery_timeout.filter(|time| to_millis(*time) > 0)));
    pairs.extend(parameters.tokens.iter().map(|token| (key::AUTHORIZATION_TOKEN, bytes(&|out| put_token(out, token)))));
    pairs.extend(millis(key::EXPIRES, parameters.expires));
    pairs.extend(parameters.largest.map(|at| (key::LARGEST_OBJECT, bytes(&|out| wire::put_location(out, at)))));
    pairs.extend(number(key::FORWARD, parameters.forward.map(u64::from)));
    pairs.extend(number(key::SUBSCRIBER_PRIORITY, parameters.priority.map(u64::from)));
    pairs.extend(parameters.filter.map(|filter| (key::SUBSCRIPTION_FILTER, bytes(&|out| put_filter(out, filter)))));
    pairs.extend(number(key::GROUP_ORDER, parameters.group_order.map(GroupOrder::code)));
    pairs.extend(number(key::NEW_GROUP_REQUEST, parameters.new_group_request));
    put_pairs(out, &pairs);
}

/// A count and ascending pairs.
pub(super) fn put_pairs(out: &mut BytesMut, pairs: &[(u64, Value)]) {
    wire::put(out, pairs.len() as u64);
    let mut last = 0;
    for (key, value) in pairs {
        wire::put_pair(out, *key, last, value);
        last = *key;
    }
}

/// The Token structure (§9.2.2.1) in our form.
pub(super) fn token_in(value: &Bytes) -> Result<Bytes, Violation> {
    let wrong = Violation::new(CloseCode::KeyValueFormatting, "an authorization token of no known form");
    let form = read_token(&mut Reader::new(value)).ok().flatten().ok_or(wrong)?;
    let mut out = BytesMut::new();
    form.encode(&mut out);
    Ok(out.freeze())
}

fn read_token(reader: &mut Reader<'_>) -> Read<Option<Form>> {
    let code = wire::read(reader)?;
    let alias = if code < 3 { wire::read(reader)? } else { 0 };
    let token =
        |reader: &mut Reader<'_>| -> Read<Token> { Ok(Token { kind: wire::read(reader)?, value: reader.rest() }) };
    let form = match code {
        0 => Form::Delete { alias },
        1 => Form::Register { alias, token: token(reader)? },
        2 => Form::UseAlias { alias },
        3 => Form::UseValue(token(reader)?),
        _ => return Ok(None),
    };
    Ok(reader.is_empty().then_some(form))
}

pub(super) fn put_token(out: &mut BytesMut, token: &Token) {
    wire::put(out, 3);
    wire::put(out, token.kind);
    out.extend_from_slice(&token.value);
}
