//! What the brains cost per frame: MoQT objects, a forwarded object, a token, a ring. Codecs have a bench of their own (`audio`).
//!
//! ```text
//! cargo bench --bench brains             # all of it, half a minute
//! cargo bench --bench brains -- token    # what has this word in its name
//! ```
//!
//! Allocations per operation are printed first; `docs/performance.md` has the figures.

mod relay;
#[path = "../support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clutchcall::moqt::object::{decode_datagram, encode_datagram};
use clutchcall::moqt::subgroup::Objects;
use clutchcall::moqt::{Object, SubgroupHeader, varint};
use clutchcall::ring::{Inbox, Source};
use clutchcall::token::{Claims, KeySet, LEEWAY_S, SigningKey};
use criterion::Criterion;

#[global_allocator]
static ALLOCATOR: support::alloc::Counting = support::alloc::Counting(std::alloc::System);

/// One operation, measured in time and in allocations.
fn measure(criterion: &mut Criterion, name: &str, mut work: impl FnMut()) {
    const TIMES: u64 = 1000;
    // What grows only once has grown before it is counted.
    (0..TIMES).for_each(|_| work());
    let allocated = support::alloc::during(|| (0..TIMES).for_each(|_| work()));
    let each = |count: u64| count as f64 / TIMES as f64;
    println!("{name:<40} {:8.2} allocations, {:8.1} bytes", each(allocated.calls), each(allocated.bytes));
    criterion.bench_function(name, |bencher| bencher.iter(&mut work));
}

/// A frame of 20 ms of Opus with the stamp that goes with it.
fn object(id: u64) -> Object {
    Object {
        group: 1_700_000_000_000,
        id,
        properties: Bytes::from_static(&[0x06, 0xc0, 1, 2, 3, 4, 5, 6, 7]),
        payload: Bytes::from_static(&[0x55; 60]),
        ..Object::default()
    }
}

fn objects(criterion: &mut Criterion) {
    let mut out = BytesMut::with_capacity(64);
    measure(criterion, "varint: write and read", || {
        out.clear();
        varint::put(&mut out, black_box(1_700_000_000));
        assert_eq!(varint::read(black_box(&out)), Some((1_700_000_000, out.len())));
    });
    let mut out = BytesMut::with_capacity(256);
    let datagram = object(7);
    measure(criterion, "object datagram: encode", || {
        out.clear();
        encode_datagram(3, black_box(&datagram), &mut out).expect("a normal object");
    });
    let wire = out.clone().freeze();
    measure(criterion, "object datagram: decode", || {
        let (alias, found) = decode_datagram(black_box(&wire)).expect("our own").expect("no padding");
        assert_eq!((alias, found.id), (3, 7));
    });
    let header = SubgroupHeader { group: 1_700_000_000_000, properties: true, ..SubgroupHeader::default() };
    let mut stream = Objects::new(header);
    let mut next = object(0);
    measure(criterion, "subgroup object: encode", || {
        out.clear();
        stream.encode(black_box(&next), &mut out).expect("ids grow");
        next.id += 1;
    });
}

fn token(criterion: &mut Criterion) {
    let (key, _) = SigningKey::generate(&ring::rand::SystemRandom::new()).expect("the system has random bytes");
    let keys: KeySet = [key.public()].into_iter().collect();
    let claims = Claims {
        sub: "org".to_owned(),
        exp: 2_000_000_000,
        ns: vec!["voice/CA0123456789/uplink".parse().expect("a pattern")],
        ..Claims::default()
    };
    measure(criterion, "token: mint", || drop(black_box(claims.encode(&key))));
    let token = claims.encode(&key);
    let namespace = ["voice", "CA0123456789", "uplink"];
    measure(criterion, "token: verify and match", || {
        let found = Claims::decode(black_box(token.as_bytes()), &keys, 1_900_000_000, LEEWAY_S).expect("a good token");
        assert!(found.may_publish(&namespace));
    });
}

/// One thread plays both ends, so this is the bare cost without a wake-up.
fn ring_hand_off(criterion: &mut Criterion) {
    let inbox = Inbox::parking();
    let neighbour = inbox.neighbour();
    let (sender, receiver) = inbox.ring::<Bytes>(10);
    let frame = Bytes::from_static(&[0x55; 160]);
    measure(criterion, "ring: push, flush, take, settle", || {
        sender.push(frame.clone());
        neighbour.flush();
        assert_eq!(inbox.take(), Some(receiver.id()));
        assert!(receiver.pop().is_some());
        receiver.settle();
    });
    let queues: Vec<_> = (0..100).map(|_| inbox.ring::<Bytes>(10)).collect();
    let first = queues[0].1.id();
    measure(criterion, "ring: one turn of 100 queues", || {
        for (sender, _) in &queues {
            sender.push(frame.clone());
        }
        neighbour.flush();
        while let Some(id) = inbox.take() {
            let (_, receiver) = &queues[(id.0 - first.0) as usize];
            while receiver.pop().is_some() {}
            receiver.settle();
        }
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    objects(&mut criterion);
    relay::forward(&mut criterion);
    token(&mut criterion);
    ring_hand_off(&mut criterion);
    criterion.final_summary();
}
