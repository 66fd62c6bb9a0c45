//! SUBSCRIBE and SUBSCRIBE_OK (§10.7, §10.8) as the application sees them, and the structures they are made of.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Filter, Parameters, Token};
use crate::moqt::codec::{Read, Reader};
use crate::moqt::error::Violation;
use crate::moqt::name::FullTrackName;
use crate::moqt::parameters::DEFAULT_PRIORITY;
use crate::moqt::properties;
use crate::moqt::varint;

/// (group, object), ordered (§1.4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    pub group: u64,
    pub object: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    pub track: FullTrackName,
    pub filter: Option<Filter>,
    pub forward: bool,
    pub priority: u8,
    pub group_order: Option<GroupOrder>,
    pub rendezvous_timeout: Option<Duration>,
    pub object_delivery_timeout: Option<Duration>,
    pub tokens: Vec<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupOrder {
    Ascending,
    Descending,
}

/// Track properties (§2.5), kept as the raw key-value pairs that travel; readers are in [`crate::moqt::properties`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackProperties(pub Bytes);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOk {
    pub expires: Option<Duration>,
    pub largest: Option<Location>,
    /// The publisher's preference: the property DEFAULT_PUBLISHER_GROUP_ORDER (§12.5), also when `properties` lacks it.
    pub group_order: Option<GroupOrder>,
    pub properties: TrackProperties,
}

impl Location {
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Read<Self> {
        Ok(Self { group: reader.varint()?, object: reader.varint()? })
    }

    pub(crate) fn encode(self, out: &mut BytesMut) {
        varint::put(out, self.group);
        varint::put(out, self.object);
    }
}

impl GroupOrder {
    pub(crate) fn from_code(code: u64) -> Result<Self, Violation> {
        match code {
            1 => Ok(Self::Ascending),
            2 => Ok(Self::Descending),
            _ => Err(Violation::protocol("a group order that is neither 1 nor 2")),
        }
    }

    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Ascending => 1,
            Self::Descending => 2,
        }
    }
}

impl TrackProperties {
    /// The rest of a message: it must be key-value pairs, and the ones this draft gives a range to must keep it (§12).
    pub(super) fn decode(reader: &mut Reader<'_>) -> Read<Self> {
        let bytes = reader.rest();
        for pair in properties::pairs(&bytes) {
            let in_range = match pair? {
                (properties::kind::DEFAULT_PUBLISHER_PRIORITY, properties::Value::Number(value)) => value <= 255,
                (properties::kind::DEFAULT_GROUP_ORDER, properties::Value::Number(value)) => matches!(value, 1 | 2),
                (properties::kind::DYNAMIC_GROUPS, properties::Value::Number(value)) => value <= 1,
                _ => true,
            };
            if !in_range {
                return Err(Violation::protocol("a track property outside its range").into());
            }
        }
        Ok(Self(bytes))
    }

    /// The publisher begins a new group when it is asked to (§12.6).
    pub fn has_dynamic_groups(&self) -> bool {
        properties::number(&self.0, properties::kind::DYNAMIC_GROUPS) == Some(1)
    }

    /// A property that must be understood (§2.5.1), and we understand none of that range.
    pub fn has_mandatory(&self) -> bool {
        properties::pairs(&self.0).map_while(Result::ok).any(|(key, _)| properties::kind::MANDATORY.contains(&key))
    }
}

impl Subscribe {
    /// Without any parameter: each has its default (§10.2).
    pub fn new(track: FullTrackName) -> Self {
        Self::from_parameters(track, Parameters::default())
    }

    /// From the live edge on, as every subscription of ours.
    pub fn live(track: FullTrackName) -> Self {
        Self { filter: Some(Filter::LargestObject), ..Self::new(track) }
    }

    pub fn from_parameters(track: FullTrackName, parameters: Parameters) -> Self {
        Self {
            track,
            filter: parameters.filter,
            forward: parameters.forward.unwrap_or(true),
            priority: parameters.priority.unwrap_or(DEFAULT_PRIORITY),
            group_order: parameters.group_order,
            rendezvous_timeout: parameters.rendezvous_timeout,
            object_delivery_timeout: parameters.object_delivery_timeout,
            tokens: parameters.tokens,
        }
    }

    /// Defaults are left unsaid, except FORWARD: some peers take its absence for 0.
    pub fn parameters(&self) -> Parameters {
        Parameters {
            filter: self.filter,
            forward: Some(self.forward),
            priority: Some(self.priority).filter(|priority| *priority != DEFAULT_PRIORITY),
            group_order: self.group_order,
            rendezvous_timeout: self.rendezvous_timeout,
            object_delivery_timeout: self.object_delivery_timeout,
            tokens: self.tokens.clone(),
            ..Parameters::default()
        }
    }
}

impl SubscribeOk {
    pub fn from_parameters(parameters: Parameters, properties: TrackProperties) -> Self {
        let order = properties::number(&properties.0, properties::kind::DEFAULT_GROUP_ORDER);
        Self {
            expires: parameters.expires.filter(|expires| !expires.is_zero()),
            largest: parameters.largest,
            group_order: order.and_then(|code| GroupOrder::from_code(code).ok()),
            properties,
        }
    }

    pub fn parameters(&self) -> Parameters {
        Parameters { expires: self.expires, largest: self.largest, ..Parameters::default() }
    }

    /// The properties that travel: `group_order` added when they don't say it.
    pub fn track_properties(&self) -> TrackProperties {
        let key = properties::kind::DEFAULT_GROUP_ORDER;
        match self.group_order {
            Some(order) if properties::number(&self.properties.0, key) != Some(order.code()) => {
                TrackProperties(properties::with_number(&self.properties.0, key, order.code()))
            }
            _ => self.properties.clone(),
        }
    }
}
