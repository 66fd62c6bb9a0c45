//! What arrives on each stream, and what it turned out to be.

use bytes::Bytes;

use super::{Dir, RequestId};
use crate::moqt::stream::{ControlReader, FetchReader, SubgroupReader, UniReader};
use crate::moqt::version::Draft;

pub(super) enum Stream {
    /// A unidirectional stream without a whole header.
    Unknown(UniReader),
    /// The peer's control stream.
    Control(ControlReader),
    /// The peer's half of a request.
    Request(RequestStream),
    /// Objects of a subscription.
    Subgroup { request: RequestId, reader: SubgroupReader },
    /// Objects of a FETCH of ours.
    Fetched { request: RequestId, reader: FetchReader },
    /// Objects of a track alias that nobody named yet.
    Held(Held),
    /// Whatever arrives is dropped.
    Discarded,
}

pub(super) struct RequestStream {
    pub(super) reader: ControlReader,
    /// `None`: the peer opened it and has not said what it wants.
    pub(super) request: Option<RequestId>,
    /// In the list of streams that wait for SETUP.
    pub(super) early: bool,
    pub(super) fin: bool,
    /// The peer stopped our half: nothing more is said on it.
    pub(super) mute: bool,
    /// Bytes of our half that the link has not reported as written.
    pub(super) unwritten: usize,
}

pub(super) struct Held {
    pub(super) alias: u64,
    pub(super) reader: SubgroupReader,
    pub(super) fin: bool,
}

impl Stream {
    pub(super) fn accepted(dir: Dir, draft: Draft) -> Self {
        match dir {
            Dir::Uni => Self::Unknown(UniReader::new(draft)),
            Dir::Bi => Self::request(None, draft),
        }
    }

    pub(super) fn request(request: Option<RequestId>, draft: Draft) -> Self {
        let reader = ControlReader::new(draft);
        Self::Request(RequestStream { reader, request, early: false, fin: false, mute: false, unwritten: 0 })
    }
}

impl RequestStream {
    pub(super) fn push(&mut self, data: Bytes, fin: bool) {
        self.reader.push(data);
        self.fin |= fin;
    }
}
