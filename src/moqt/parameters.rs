//! Message parameters (§10.2): a count, then types as ascending deltas with values whose form the type fixes.
//!
//! [`Parameters`] is the union of all of them; which may stand in which message is a column of the draft's table
//! ([`super::version`]). Unknown, repeated or misplaced parameters are violations: nothing here is skipped.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::authorization::{Form, Token};
use super::codec::{Read, Reader, put_prefixed, whole};
use super::error::Violation;
use super::message::{Filter, GroupOrder, Location};
use super::name::TrackNamespace;
use super::varint;
use super::version::{Profile, Row};

/// Everything a message's parameters can say. `None`: absent, the draft's default for the message holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    pub object_delivery_timeout: Option<Duration>,
    pub tokens: Vec<Token>,
    /// Tokens that are registered, meant or deleted by alias; the session turns them into `tokens`.
    pub token_aliases: Vec<Form>,
    pub rendezvous_timeout: Option<Duration>,
    pub subgroup_delivery_timeout: Option<Duration>,
    pub expires: Option<Duration>,
    pub largest: Option<Location>,
    pub fill_timeout: Option<Duration>,
    pub forward: Option<bool>,
    pub priority: Option<u8>,
    pub filter: Option<Filter>,
    pub group_order: Option<GroupOrder>,
    pub new_group_request: Option<u64>,
    pub namespace_prefix: Option<TrackNamespace>,
    /// What a fill fetch stream is wanted with (since draft 20).
    pub fill: Option<Box<Parameters>>,
    /// Ascending by code.
    pub range_filters: Vec<RangeFilter>,
    /// `false`: the answer need not describe the track (since draft 20).
    pub include_properties: Option<bool>,
}

/// A filter by ranges of ids, priorities or properties (since draft 20). It travels as it is: who announces no
/// MAX_FILTER_RANGES refuses it unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeFilter {
    pub code: u64,
    pub value: Bytes,
}

/// The parameters by name, as the registry lists them (§15.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    ObjectDeliveryTimeout,
    AuthorizationToken,
    RendezvousTimeout,
    SubgroupDeliveryTimeout,
    Expires,
    LargestObject,
    FillTimeout,
    Forward,
    SubscriberPriority,
    SubscriptionFilter,
    GroupOrder,
    NewGroupRequest,
    TrackNamespacePrefix,
    FillParameters,
    RangeFilter,
    IncludeProperties,
}

/// A set of messages that a parameter may stand in. REQUEST_OK answers several requests, each with a scope of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes(u16);

impl Scopes {
    pub const SUBSCRIBE: Self = Self(1);
    pub const SUBSCRIBE_OK: Self = Self(1 << 1);
    pub const PUBLISH: Self = Self(1 << 2);
    pub const PUBLISH_OK: Self = Self(1 << 3);
    pub const REQUEST_UPDATE: Self = Self(1 << 4);
    pub const REQUEST_UPDATE_OK: Self = Self(1 << 5);
    pub const TRACK_STATUS: Self = Self(1 << 6);
    pub const TRACK_STATUS_OK: Self = Self(1 << 7);
    pub const FETCH: Self = Self(1 << 8);
    pub const FETCH_OK: Self = Self(1 << 9);
    pub const PUBLISH_NAMESPACE: Self = Self(1 << 10);
    pub const SUBSCRIBE_NAMESPACE: Self = Self(1 << 11);
    pub const SUBSCRIBE_TRACKS: Self = Self(1 << 12);
    /// REQUEST_OK to PUBLISH_NAMESPACE, SUBSCRIBE_NAMESPACE or SUBSCRIBE_TRACKS.
    pub const NAMESPACE_OK: Self = Self(1 << 13);
    pub const PUBLISH_STATE_NOTIFY: Self = Self(1 << 14);
    /// Inside FILL_PARAMETERS.
    pub const FILL: Self = Self(1 << 15);

    /// Every message that asks for something: where an authorization token may stand.
    pub const REQUESTS: Self = Self::SUBSCRIBE
        .or(Self::PUBLISH)
        .or(Self::REQUEST_UPDATE)
        .or(Self::TRACK_STATUS)
        .or(Self::FETCH)
        .or(Self::PUBLISH_NAMESPACE)
        .or(Self::SUBSCRIBE_NAMESPACE)
        .or(Self::SUBSCRIBE_TRACKS);
    /// REQUEST_OK before it is known what it answers.
    pub const REQUEST_OK: Self =
        Self::PUBLISH_OK.or(Self::REQUEST_UPDATE_OK).or(Self::TRACK_STATUS_OK).or(Self::NAMESPACE_OK);

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl Parameters {
    pub(crate) fn decode(reader: &mut Reader<'_>, profile: &Profile, scopes: Scopes) -> Read<Self> {
        let mut parameters = Self::default();
        let mut code = 0_u64;
        // A count beyond the bytes that follow ends in Stop::Short: each parameter takes two bytes at least.
        for i in 0..reader.varint()? {
            let delta = reader.varint()?;
            code = code.checked_add(delta).ok_or(Violation::protocol("a parameter type beyond 2^64 - 1"))?;
            let row = profile.parameter(code).ok_or(Violation::protocol("an unknown message parameter"))?;
            if !row.scopes.meets(scopes) {
                return Err(Violation::protocol("a parameter that this message may not carry").into());
            }
            let repeats = matches!(row.parameter, Parameter::AuthorizationToken | Parameter::RangeFilter);
            if i > 0 && delta == 0 && !repeats {
                return Err(Violation::protocol("a parameter given twice").into());
            }
            parameters.read(row, profile, reader)?;
        }
        Ok(parameters)
    }

    fn read(&mut self, row: &Row, profile: &Profile, reader: &mut Reader<'_>) -> Read<()> {
        match row.parameter {
            Parameter::ObjectDeliveryTimeout => self.object_delivery_timeout = Some(millis(reader)?),
            Parameter::AuthorizationToken => {
                self.add_token(&reader.prefixed(MAX_VALUE, "a token longer than 65535 bytes")?)?;
            }
            Parameter::RendezvousTimeout => self.rendezvous_timeout = Some(millis(reader)?),
            Parameter::SubgroupDeliveryTimeout => self.subgroup_delivery_timeout = Some(millis(reader)?),
            Parameter::Expires => self.expires = Some(millis(reader)?),
            Parameter::LargestObject => self.largest = Some(Location::decode(reader)?),
            Parameter::FillTimeout => self.fill_timeout = Some(millis(reader)?),
            Parameter::Forward => self.forward = Some(flag(reader, "FORWARD is neither 0 nor 1")?),
            Parameter::SubscriberPriority => self.priority = Some(reader.u8()?),
            Parameter::SubscriptionFilter => self.filter = Some(Filter::decode(profile.filter, reader)?),
            Parameter::GroupOrder => self.group_order = Some(GroupOrder::from_code(u64::from(reader.u8()?))?),
            Parameter::NewGroupRequest => self.new_group_request = Some(reader.varint()?),
            Parameter::TrackNamespacePrefix => self.namespace_prefix = Some(TrackNamespace::decode(reader)?),
            Parameter::FillParameters => {
                let value = reader.prefixed(MAX_VALUE, "fill parameters longer than 65535 bytes")?;
                self.fill = Some(Box::new(whole(Self::fill(&value, profile))?));
            }
            Parameter::RangeFilter => {
                let value = reader.prefixed(MAX_VALUE, "a filter longer than 65535 bytes")?;
                self.range_filters.push(RangeFilter { code: row.code, value });
            }
            Parameter::IncludeProperties => {
                self.include_properties = Some(flag(reader, "INCLUDE_PROPERTIES is neither 0 nor 1")?);
            }
        }
        Ok(())
    }

    /// No fill stands in a fill: its scope does not allow it.
    fn fill(value: &Bytes, profile: &Profile) -> Read<Self> {
        let mut reader = Reader::new(value);
        let fill = Self::decode(&mut reader, profile, Scopes::FILL)?;
        match reader.is_empty() {
            true => Ok(fill),
            false => Err(Violation::protocol("fill parameters longer than their fields").into()),
        }
    }

    /// What is set travels, wherever it may stand: the caller fills only what fits its message.
    pub(crate) fn encode(&self, profile: &Profile, out: &mut BytesMut) {
        let count: usize = profile.parameters.iter().map(|row| self.count(row)).sum();
        varint::put(out, count as u64);
        let mut last = 0;
        for row in profile.parameters {
            for i in 0..self.count(row) {
                varint::put(out, row.code - last);
                last = row.code;
                self.write(row, profile, i, out);
            }
        }
    }

    /// A value of AUTHORIZATION_TOKEN.
    pub(crate) fn add_token(&mut self, value: &Bytes) -> Result<(), Violation> {
        match Form::decode(value)? {
            Form::UseValue(token) => self.tokens.push(token),
            form => self.token_aliases.push(form),
        }
        Ok(())
    }

    /// How often a parameter stands in the message.
    fn count(&self, row: &Row) -> usize {
        usize::from(match row.parameter {
            Parameter::AuthorizationToken => return self.tokens.len() + self.token_aliases.len(),
            Parameter::RangeFilter => return self.ranges(row.code).count(),
            Parameter::ObjectDeliveryTimeout => self.object_delivery_timeout.is_some(),
            Parameter::RendezvousTimeout => self.rendezvous_timeout.is_some(),
            Parameter::SubgroupDeliveryTimeout => self.subgroup_delivery_timeout.is_some(),
            Parameter::Expires => self.expires.is_some(),
            Parameter::LargestObject => self.largest.is_some(),
            Parameter::FillTimeout => self.fill_timeout.is_some(),
            Parameter::Forward => self.forward.is_some(),
            Parameter::SubscriberPriority => self.priority.is_some(),
            Parameter::SubscriptionFilter => self.filter.is_some(),
            Parameter::GroupOrder => self.group_order.is_some(),
            Parameter::NewGroupRequest => self.new_group_request.is_some(),
            Parameter::TrackNamespacePrefix => self.namespace_prefix.is_some(),
            Parameter::FillParameters => self.fill.is_some(),
            Parameter::IncludeProperties => self.include_properties.is_some(),
        })
    }

    fn ranges(&self, code: u64) -> impl Iterator<Item = &RangeFilter> {
        self.range_filters.iter().filter(move |filter| filter.code == code)
    }

    /// The `i`th value of a parameter that [`Parameters::count`] counted.
    fn write(&self, row: &Row, profile: &Profile, i: usize, out: &mut BytesMut) {
        let put_millis =
            |out: &mut BytesMut, time: Option<Duration>| varint::put(out, to_millis(time.unwrap_or_default()));
        match row.parameter {
            Parameter::ObjectDeliveryTimeout => put_millis(out, self.object_delivery_timeout),
            Parameter::AuthorizationToken => match self.tokens.get(i) {
                Some(token) => put_prefixed(out, &token.encoded()),
                None => {
                    let mut form = BytesMut::new();
                    self.token_aliases[i - self.tokens.len()].encode(&mut form);
                    put_prefixed(out, &form);
                }
            },
            Parameter::RendezvousTimeout => put_millis(out, self.rendezvous_timeout),
            Parameter::SubgroupDeliveryTimeout => put_millis(out, self.subgroup_delivery_timeout),
            Parameter::Expires => put_millis(out, self.expires),
            Parameter::LargestObject => self.largest.unwrap_or_default().encode(out),
            Parameter::FillTimeout => put_millis(out, self.fill_timeout),
            Parameter::Forward => out.put_u8(u8::from(self.forward == Some(true))),
            Parameter::SubscriberPriority => out.put_u8(self.priority.unwrap_or(DEFAULT_PRIORITY)),
            Parameter::SubscriptionFilter => self.filter.iter().for_each(|filter| filter.encode(profile.filter, out)),
            Parameter::GroupOrder => out.put_u8(self.group_order.map_or(0, |order| order.code() as u8)),
            Parameter::NewGroupRequest => varint::put(out, self.new_group_request.unwrap_or_default()),
            Parameter::TrackNamespacePrefix => self.namespace_prefix.iter().for_each(|prefix| prefix.encode(out)),
            Parameter::FillParameters => {
                let mut value = BytesMut::new();
                self.fill.iter().for_each(|fill| fill.encode(profile, &mut value));
                put_prefixed(out, &value);
            }
            Parameter::RangeFilter => {
                self.ranges(row.code).nth(i).iter().for_each(|filter| put_prefixed(out, &filter.value))
            }
            Parameter::IncludeProperties => out.put_u8(u8::from(self.include_properties == Some(true))),
        }
    }

    /// Narrows what a REQUEST_OK may carry once it is known what it answers.
    pub(crate) fn fit(&self, profile: &Profile, scopes: Scopes) -> Result<(), Violation> {
        let misplaced = profile.parameters.iter().any(|row| self.count(row) > 0 && !row.scopes.meets(scopes));
        if misplaced { Err(Violation::protocol("a parameter that this answer may not carry")) } else { Ok(()) }
    }
}

/// SUBSCRIBER_PRIORITY of a subscription that names none (§10.2.7).
pub const DEFAULT_PRIORITY: u8 = 128;

/// Longest value with a length of its own.
const MAX_VALUE: usize = 65_535;

fn millis(reader: &mut Reader<'_>) -> Read<Duration> {
    Ok(Duration::from_millis(reader.varint()?))
}

/// Whole milliseconds; more than the wire can say becomes the most it can say.
pub(crate) fn to_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn flag(reader: &mut Reader<'_>, otherwise: &'static str) -> Read<bool> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Violation::protocol(otherwise).into()),
    }
}
