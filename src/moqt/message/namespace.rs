//! The requests about namespaces: PUBLISH_NAMESPACE (§10.15), SUBSCRIBE_NAMESPACE (§10.18), SUBSCRIBE_TRACKS (§10.19) and
//! PUBLISH_BLOCKED (§10.20).

use bytes::{Bytes, BytesMut};

use super::{Kind, Message, Parameters, Scopes};
use crate::moqt::codec::{Read, Reader};
use crate::moqt::name::{FullTrackName, TrackNamespace};
use crate::moqt::version::Profile;

/// A track that a SUBSCRIBE_TRACKS would have got as a PUBLISH, if the publisher could send one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishBlocked {
    pub suffix: TrackNamespace,
    pub name: Bytes,
}

impl PublishBlocked {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Read<Self> {
        let FullTrackName { namespace: suffix, name } = FullTrackName::decode(reader)?;
        Ok(Self { suffix, name })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        FullTrackName { namespace: self.suffix.clone(), name: self.name.clone() }.encode(out);
    }
}

pub(super) fn decode(reader: &mut Reader<'_>, profile: &Profile, kind: Kind) -> Read<Message> {
    let id = reader.varint()?;
    let prefix = TrackNamespace::decode(reader)?;
    let mut parameters = |scopes| Parameters::decode(reader, profile, scopes);
    Ok(match kind {
        Kind::SubscribeNamespace => {
            Message::SubscribeNamespace { id, prefix, parameters: parameters(Scopes::SUBSCRIBE_NAMESPACE)? }
        }
        Kind::SubscribeTracks => {
            Message::SubscribeTracks { id, prefix, parameters: parameters(Scopes::SUBSCRIBE_TRACKS)? }
        }
        _ => Message::PublishNamespace { id, namespace: prefix, parameters: parameters(Scopes::PUBLISH_NAMESPACE)? },
    })
}
