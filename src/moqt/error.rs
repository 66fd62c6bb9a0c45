//! The draft's error codes (§15.10), pinned by a test, and [`Violation`]: what a peer did wrong and what that costs.

/// Bytes of a peer that the draft answers by closing the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code:?})")]
pub struct Violation {
    pub code: CloseCode,
    /// Ours, never the peer's words.
    pub reason: &'static str,
}

impl Violation {
    pub const fn new(code: CloseCode, reason: &'static str) -> Self {
        Self { code, reason }
    }

    pub const fn protocol(reason: &'static str) -> Self {
        Self::new(CloseCode::ProtocolViolation, reason)
    }
}

/// Session close codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum CloseCode {
    NoError = 0x0,
    InternalError = 0x1,
    Unauthorized = 0x2,
    ProtocolViolation = 0x3,
    InvalidRequestId = 0x4,
    DuplicateTrackAlias = 0x5,
    KeyValueFormatting = 0x6,
    /// Until draft 16.
    TooManyRequests = 0x7,
    InvalidPath = 0x8,
    MalformedPath = 0x9,
    GoAwayTimeout = 0x10,
    ControlMessageTimeout = 0x11,
    DataStreamTimeout = 0x12,
    AuthTokenCacheOverflow = 0x13,
    DuplicateAuthTokenAlias = 0x14,
    VersionNegotiationFailed = 0x15,
    MalformedAuthToken = 0x16,
    UnknownAuthTokenAlias = 0x17,
    ExpiredAuthToken = 0x18,
    InvalidAuthority = 0x19,
    MalformedAuthority = 0x1a,
    /// Since draft 20.
    TooManyRequestUpdates = 0x1b,
}

/// REQUEST_ERROR codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum RequestErrorCode {
    InternalError = 0x0,
    Unauthorized = 0x1,
    Timeout = 0x2,
    NotSupported = 0x3,
    MalformedAuthToken = 0x4,
    ExpiredAuthToken = 0x5,
    GoingAway = 0x6,
    ExcessiveLoad = 0x9,
    DoesNotExist = 0x10,
    InvalidRange = 0x11,
    MalformedTrack = 0x12,
    /// Gone in draft 20.
    DuplicateSubscription = 0x19,
    Uninterested = 0x20,
    PrefixOverlap = 0x30,
    NamespaceTooLarge = 0x31,
    InvalidJoiningRequestId = 0x32,
    UnsupportedExtension = 0x33,
    Redirect = 0x34,
    /// Since draft 20.
    ConflictingFilters = 0x35,
    /// Since draft 20.
    InvalidFilter = 0x36,
}

/// PUBLISH_DONE codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum PublishDoneCode {
    InternalError = 0x0,
    Unauthorized = 0x1,
    TrackEnded = 0x2,
    SubscriptionEnded = 0x3,
    GoingAway = 0x4,
    TooFarBehind = 0x5,
    Expired = 0x6,
    UpdateFailed = 0x8,
    ExcessiveLoad = 0x9,
    MalformedTrack = 0x12,
}

/// RESET_STREAM and STOP_SENDING codes of data streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum ResetCode {
    InternalError = 0x0,
    Cancelled = 0x1,
    DeliveryTimeout = 0x2,
    SessionClosed = 0x3,
    GoingAway = 0x4,
    TooFarBehind = 0x5,
    UnknownObjectStatus = 0x6,
    ExpiredAuthToken = 0x7,
    ExcessiveLoad = 0x9,
    MalformedTrack = 0x12,
}
