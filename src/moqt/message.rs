//! Control messages of draft 18 (§9) as plain values; their codec lives in the submodules.

use std::time::Duration;

use bytes::Bytes;

use super::name::{FullTrackName, TrackNamespace};

/// SETUP options (§9.4). Unknown options of a peer are skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub path: Option<String>,
    pub authority: Option<String>,
    pub tokens: Vec<Token>,
    pub max_token_cache: u64,
    pub implementation: Option<String>,
}

/// AUTHORIZATION_TOKEN (§9.3.2) in its USE_VALUE form; alias forms are refused while our cache size is 0.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// 0 = agreed out of band (our JWT).
    pub kind: u64,
    pub value: Bytes,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token {{ kind: {}, value: <{} bytes> }}", self.kind, self.value.len())
    }
}

/// (group, object), ordered (§1.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    pub group: u64,
    pub object: u64,
}

/// Subscription filter (§9.3.x SUBSCRIPTION_FILTER).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    NextGroupStart,
    LargestObject,
    AbsoluteStart(Location),
    AbsoluteRange { start: Location, end_group: u64 },
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

/// Track properties (§ "Properties"), kept as the raw key-value pairs that travel; typed readers beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackProperties(pub Bytes);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOk {
    pub expires: Option<Duration>,
    pub largest: Option<Location>,
    pub group_order: Option<GroupOrder>,
    pub properties: TrackProperties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub track: FullTrackName,
    pub forward: bool,
    pub largest: Option<Location>,
    pub tokens: Vec<Token>,
    pub properties: TrackProperties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishOk {
    pub forward: bool,
    pub priority: u8,
    pub filter: Option<Filter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// See [`super::RequestErrorCode`]; unknown codes are kept.
    pub code: u64,
    /// `None`: don't retry.
    pub retry_after: Option<Duration>,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishDone {
    /// See [`super::PublishDoneCode`].
    pub code: u64,
    /// Filled in by the session when sending.
    pub streams: u64,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    pub uri: String,
    pub timeout: Option<Duration>,
}

#[allow(dead_code)]
type _Names = (TrackNamespace,);
