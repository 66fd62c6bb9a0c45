//! The drafts we speak, and what differs between them.

/// A MoQT draft. Only drafts that the tests cover are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Draft {
    D18,
}

impl Draft {
    /// The ALPN of raw QUIC, and the token of WebTransport's protocol list.
    pub fn alpn(self) -> &'static str {
        match self {
            Draft::D18 => "moqt-18",
        }
    }
    pub fn from_alpn(alpn: &[u8]) -> Option<Self> {
        (alpn == b"moqt-18").then_some(Draft::D18)
    }
}
