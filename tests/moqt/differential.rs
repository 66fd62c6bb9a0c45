//! Our codec against `moqtap-codec`, which knows nothing of it: what we write it must read, what it writes back we must read
//! as what we meant, to the byte.

use bytes::{Buf, Bytes, BytesMut};
use clutchcall::moqt::message::{FetchOk, Message, RequestOk};
use clutchcall::moqt::object::{decode_datagram, encode_datagram};
use clutchcall::moqt::properties::{Value, Writer};
use clutchcall::moqt::stream::{Opened, UniReader};
use clutchcall::moqt::subgroup::{Objects, encode_header};
use clutchcall::moqt::{Draft, Object, Status, properties, varint};
use moqtap_codec::varint::{Moqt18, VarInt};

use super::generate::{self, Rng};

#[test]
fn integers() {
    for seed in 0..20_000 {
        let value = Rng(seed).next() >> (seed % 64);
        let mut ours = BytesMut::new();
        varint::put(&mut ours, value);
        let mut other = Vec::new();
        VarInt::from_u64_moqt(value).encode_moqt::<Moqt18>(&mut other);
        assert_eq!(ours, other);
        assert_eq!(VarInt::decode_moqt::<Moqt18>(&mut &ours[..]).unwrap().into_inner(), value);
    }
}

/// What the foreign codec makes of a message: its name, the bytes it took, and what it writes for it.
struct Foreign {
    name: String,
    taken: usize,
    back: Result<Vec<u8>, String>,
}

macro_rules! foreign {
    ($($draft:ident: $module:ident),*) => {
        fn foreign(draft: Draft, wire: &[u8]) -> Result<Foreign, String> {
            let mut unread = wire;
            match draft {
                $(Draft::$draft => {
                    let read = moqtap_codec::$module::message::ControlMessage::decode(&mut unread);
                    let read = read.map_err(|error| format!("{error:?}"))?;
                    let mut back = Vec::new();
                    let written = read.encode(&mut back).map_err(|error| format!("{error:?}"));
                    let (name, taken) = (read.message_type().name().to_owned(), wire.len() - unread.remaining());
                    Ok(Foreign { name, taken, back: written.map(|()| back) })
                })*
                Draft::D16 => unreachable!("see `older`"),
            }
        }
    };
}

foreign!(D18: draft18, D20: draft20, D22: draft22);

#[test]
fn every_message() {
    for (draft, seed) in
        generate::DRAFTS.into_iter().flat_map(|draft| (0..generate::KINDS * 400).map(move |seed| (draft, seed)))
    {
        let message = generate::message(&mut Rng(seed), draft, seed);
        let mut ours = BytesMut::new();
        message.encode(draft, &mut ours).unwrap();
        let read = foreign(draft, &ours).unwrap_or_else(|error| panic!("{draft:?} {error}: {message:?}"));
        assert_eq!(read.taken, ours.len());
        let name = |text: &str| text.replace('_', "").to_lowercase().replace("publishskipped", "publishblocked");
        let kind = format!("{:?}", message.kind());
        assert_eq!(name(&read.name), name(&kind));
        let back = Bytes::from(read.back.unwrap());
        assert_eq!(ours, back, "{draft:?} {message:?}");
        assert_eq!(Message::decode(draft, &back), Ok(Some((message, back.len()))));
    }
}

/// One flipped bit: whatever both read, they read alike.
#[test]
fn spoiled_messages() {
    for draft in generate::DRAFTS {
        let mut both = 0;
        for seed in 0..generate::KINDS * 2000 {
            let mut rng = Rng(seed);
            let mut wire = BytesMut::new();
            generate::message(&mut rng, draft, seed).encode(draft, &mut wire).unwrap();
            let at = rng.below(wire.len() as u64) as usize;
            wire[at] ^= 1 << rng.below(8);
            let wire = wire.freeze();
            let Ok(Some((message, taken))) = Message::decode(draft, &wire) else { continue };
            let Ok(read) = foreign(draft, &wire) else { continue };
            assert_eq!(taken, read.taken);
            if let Ok(back) = read.back {
                both += 1;
                let (again, _) = Message::decode(draft, &Bytes::from(back)).unwrap().unwrap();
                assert_eq!(shortest(again), shortest(message), "{draft:?}");
            }
        }
        assert!(both > 10_000, "{draft:?} {both}");
    }
}

/// Properties stay the bytes they came in here; there they are written anew, with the shortest integers.
fn shortest(mut message: Message) -> Message {
    if let Message::SubscribeOk { properties, .. }
    | Message::Publish { properties, .. }
    | Message::FetchOk(FetchOk { properties, .. })
    | Message::RequestOk(RequestOk { properties, .. }) = &mut message
    {
        let pairs = properties::pairs(&properties.0).map(Result::unwrap);
        let writer = pairs.fold(Writer::default(), |writer, (key, value)| match value {
            Value::Number(value) => writer.number(key, value),
            Value::Bytes(value) => writer.bytes(key, &value),
        });
        properties.0 = writer.finish();
    }
    message
}

fn read_back(draft: Draft, wire: Bytes) -> (u64, Vec<Object>) {
    let mut stream = UniReader::new(draft);
    stream.push(wire);
    let Ok(Some(Opened::Subgroup { alias, mut reader })) = stream.open() else { panic!("no subgroup") };
    let objects = std::iter::from_fn(|| reader.read(1000).unwrap()).collect();
    reader.finish().unwrap();
    (alias, objects)
}

/// Streams and datagrams, for each draft by its own referee.
macro_rules! data {
    ($($module:ident: $draft:ident),*) => {
        $(mod $module {
            use moqtap_codec::$module::data_stream as theirs;
            use moqtap_codec::$module::types::ObjectStatus;

            use super::*;

            const DRAFT: Draft = Draft::$draft;

            fn same_status(ours: &Object, other: ObjectStatus) {
                let expected = match ours.status {
                    Status::Normal => ObjectStatus::Normal,
                    Status::EndOfGroup => ObjectStatus::EndOfGroup,
                    Status::EndOfTrack => ObjectStatus::EndOfTrack,
                };
                assert_eq!(other, expected);
            }

            #[test]
            fn every_subgroup_stream() {
                for seed in 0..4000 {
                    let mut rng = Rng(seed);
                    let header = generate::header(&mut rng);
                    let (alias, objects) = (rng.number(), generate::objects(&mut rng, &header));
                    let mut ours = BytesMut::new();
                    encode_header(alias, &header, &mut ours);
                    let mut writer = Objects::new(header);
                    objects.iter().for_each(|object| writer.encode(object, &mut ours).unwrap());

                    let mut unread = &ours[..];
                    let read = theirs::SubgroupHeader::decode(&mut unread).unwrap();
                    let place = (read.track_alias, read.group_id, read.subgroup_id);
                    let expected = (alias, header.group, header.subgroup);
                    assert_eq!((place.0.into_inner(), place.1.into_inner(), place.2.into_inner()), expected);
                    assert_eq!(read.publisher_priority, header.priority);
                    assert_eq!((read.is_end_of_group(), read.is_first_object()), (header.end_of_group, header.first_object));
                    let mut back = Vec::new();
                    read.encode_checked(&mut back).unwrap();
                    let (mut reader, mut rewriter) =
                        (theirs::SubgroupObjectReader::new(&read), theirs::SubgroupObjectReader::new(&read));
                    for object in &objects {
                        let read = reader.read_object(&mut unread).unwrap();
                        assert_eq!((read.object_id.into_inner(), &read.payload[..]), (object.id, &object.payload[..]));
                        assert_eq!(read.extension_headers, object.properties);
                        same_status(object, read.status());
                        rewriter.write_object(&read, &mut back).unwrap();
                    }
                    assert!(unread.is_empty());
                    assert_eq!(ours, back);
                    assert_eq!(read_back(DRAFT, Bytes::from(back)), (alias, objects));
                }
            }

            #[test]
            fn every_datagram() {
                for seed in 0..4000 {
                    let mut rng = Rng(seed);
                    let alias = rng.number();
                    let object = generate::object(&mut rng, true);
                    let object = Object {
                        group: rng.number(),
                        id: if rng.flip() { 0 } else { rng.number() },
                        priority: rng.flip().then(|| rng.next() as u8),
                        end_of_group: object.status == Status::Normal && rng.flip(),
                        ..object
                    };
                    let mut ours = BytesMut::new();
                    encode_datagram(alias, &object, &mut ours).unwrap();
                    let (header, payload) = theirs::DatagramHeader::decode_object(&mut &ours[..]).unwrap();
                    assert_eq!((header.track_alias.into_inner(), header.group_id.into_inner()), (alias, object.group));
                    assert_eq!((header.object_id.into_inner(), header.publisher_priority), (object.id, object.priority));
                    assert_eq!((&header.properties[..], &payload[..]), (&object.properties[..], &object.payload[..]));
                    assert_eq!(header.is_end_of_group(), object.end_of_group);
                    same_status(&object, header.status());
                    let mut back = Vec::new();
                    header.encode_checked(&mut back).unwrap();
                    back.extend_from_slice(&payload);
                    assert_eq!(ours, back);
                    assert_eq!(decode_datagram(&Bytes::from(back)), Ok(Some((alias, object))));
                }
            }
        })*
    };
}

data!(draft18: D18, draft20: D20, draft22: D22);
