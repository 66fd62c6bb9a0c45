//! Whatever bytes a decoder is given, it does not panic, and where they are cut makes no difference.

use bytes::{Bytes, BytesMut};
use clutchcall::moqt::authorization::Form;
use clutchcall::moqt::message::Message;
use clutchcall::moqt::object::decode_datagram;
use clutchcall::moqt::stream::{ControlReader, Opened, UniReader};
use clutchcall::moqt::subgroup::{Objects, encode_header};
use clutchcall::moqt::{Draft, Object, Violation, properties};

use super::generate::{self, Rng};

/// Good bytes with some of them changed, or none good at all.
fn spoil(rng: &mut Rng, mut wire: BytesMut) -> Bytes {
    if rng.below(8) == 0 {
        return rng.bytes(200);
    }
    for _ in 0..rng.below(4) {
        if !wire.is_empty() {
            let at = rng.below(wire.len() as u64) as usize;
            wire[at] = rng.next() as u8;
        }
    }
    let keep = if rng.flip() { wire.len() } else { rng.below(wire.len() as u64 + 1) as usize };
    wire.truncate(keep);
    wire.freeze()
}

fn control(rng: &mut Rng, draft: Draft) -> Bytes {
    let mut wire = BytesMut::new();
    for _ in 0..1 + rng.below(3) {
        let which = rng.next();
        generate::message(rng, draft, which).encode(draft, &mut wire).unwrap();
    }
    spoil(rng, wire)
}

fn subgroup(rng: &mut Rng) -> Bytes {
    let mut wire = BytesMut::new();
    let header = generate::header(rng);
    encode_header(rng.number(), &header, &mut wire);
    let mut writer = Objects::new(header);
    generate::objects(rng, &header).iter().for_each(|object| writer.encode(object, &mut wire).unwrap());
    spoil(rng, wire)
}

/// What a reader made of a stream, and how it ended.
type Read<T> = (Vec<T>, Result<(), Violation>);

fn cut(rng: &mut Rng, mut wire: Bytes, whole: bool) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    while !wire.is_empty() {
        let len = if whole { wire.len() } else { 1 + rng.below(wire.len().min(9) as u64) as usize };
        chunks.push(wire.split_to(len));
    }
    chunks
}

fn read_control(draft: Draft, chunks: Vec<Bytes>) -> Read<Message> {
    let (mut reader, mut read) = (ControlReader::new(draft), Vec::new());
    for chunk in chunks {
        reader.push(chunk);
        loop {
            match reader.read() {
                Ok(Some(message)) => read.push(message),
                Ok(None) => break,
                Err(violation) => return (read, Err(violation)),
            }
        }
    }
    let end = reader.finish();
    (read, end)
}

fn read_subgroup(chunks: Vec<Bytes>) -> Read<Object> {
    let (mut stream, mut opened, mut read) = (UniReader::new(Draft::D18), None, Vec::new());
    for chunk in chunks {
        match &mut opened {
            None => {
                stream.push(chunk);
                match stream.open() {
                    Ok(Some(Opened::Subgroup { reader, .. })) => opened = Some(reader),
                    Ok(None) => continue,
                    // Another kind of stream: not this test's.
                    Ok(Some(_)) => return (read, Ok(())),
                    Err(violation) => return (read, Err(violation)),
                }
            }
            Some(reader) => reader.push(chunk),
        }
        while let Some(reader) = &mut opened {
            match reader.read(10_000) {
                Ok(Some(object)) => read.push(object),
                Ok(None) => break,
                Err(violation) => return (read, Err(violation)),
            }
        }
    }
    let end = opened.map_or_else(|| stream.finish(), |reader| reader.finish());
    (read, end)
}

#[test]
fn messages() {
    for seed in 0..8000 {
        let mut rng = Rng(seed);
        let draft = generate::DRAFTS[seed as usize % generate::DRAFTS.len()];
        let wire = control(&mut rng, draft);
        let whole = read_control(draft, cut(&mut rng, wire.clone(), true));
        assert_eq!(read_control(draft, cut(&mut rng, wire, false)), whole, "seed {seed}");
    }
}

#[test]
fn subgroup_streams() {
    for seed in 0..8000 {
        let mut rng = Rng(seed);
        let wire = subgroup(&mut rng);
        let whole = read_subgroup(cut(&mut rng, wire.clone(), true));
        assert_eq!(read_subgroup(cut(&mut rng, wire, false)), whole, "seed {seed}");
    }
}

#[test]
fn datagrams_properties_and_tokens() {
    for seed in 0..40_000 {
        let wire = Rng(seed).bytes(60);
        let _ = decode_datagram(&wire);
        let _ = Form::decode(&wire);
        assert!(properties::pairs(&wire).count() <= wire.len());
        let _ = properties::number(&wire, seed % 64);
        let changed = properties::with_number(&wire, 0x22, 1);
        assert!(properties::pairs(&wire).any(|pair| pair.is_err()) || properties::number(&changed, 0x22) == Some(1));
    }
}
