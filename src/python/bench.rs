//! The native producer of the delivery benches: it feeds the very rings that bridges use, without a network.
//!
//! Private: `benches/` is its only user. The calling thread is the producer, detached; it pushes the frames of one
//! millisecond's share of the rings and flushes once, as the media worker does in a turn.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pyo3::prelude::*;

use super::delivery::{self, Consumer, Delivery, Purpose, Sort};
use crate::client::bridge::RING_FRAMES;
use crate::client::{Delivered, Runtime};
use crate::ring::RingSender;

/// One of the slots that a frame's time is divided into.
const SLOT: Duration = Duration::from_millis(1);
/// The rings are empty again, or the callbacks are hopelessly behind.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Feeds `bridges` rings with `frames_per_s` frames each, for `seconds`. `on_frame(frame, timestamp_us)` is called for each;
/// the stamp is the moment of the push on `time.monotonic()`'s clock. Returns (pushed, dropped, late_slots): frames
/// pushed, frames that made room in a full ring, and slots that the producer itself began more than 1 ms late.
#[pyfunction]
#[pyo3(name = "_bench_rings", signature = (on_frame, bridges, frames_per_s, seconds, frame_bytes))]
pub(super) fn bench_rings(
    py: Python<'_>,
    on_frame: Py<PyAny>,
    bridges: usize,
    frames_per_s: u32,
    seconds: f64,
    frame_bytes: usize,
) -> PyResult<(u64, u64, u64)> {
    let runtime = Runtime::shared();
    let (delivery, clock) = (Delivery::of(py, &runtime)?, delivery::clock(py)?);
    let mut senders = Vec::with_capacity(bridges);
    let mut slots = Vec::with_capacity(bridges);
    for i in 0..bridges {
        let (sender, receiver) = runtime.delivery().ring(RING_FRAMES);
        let consumer = Some(Consumer::Each(on_frame.clone_ref(py)));
        let purpose = Purpose::new(format!("bench {i}"), Sort::Frames).of_codec("opus");
        slots.push(delivery.register(receiver, consumer, purpose));
        senders.push(sender);
    }
    let payload = Bytes::from(vec![0x55; frame_bytes]);
    let figures =
        py.detach(|| {
            let frame = Duration::from_secs(1) / frames_per_s.max(1);
            let figures = produce(&runtime, &senders, frame, Duration::from_secs_f64(seconds), |now| {
                Delivered::Frame { timestamp_us: clock.us_at(now), payload: payload.clone(), sequence: 0 }
            });
            let limit = Instant::now() + DRAIN_LIMIT;
            while slots.iter().any(|slot| slot.waits()) && Instant::now() < limit {
                std::thread::sleep(SLOT);
            }
            figures
        });
    let dropped = senders.iter().map(RingSender::dropped).sum();
    slots.iter().for_each(|slot| delivery.forget(py, slot));
    Ok((figures.0, dropped, figures.1))
}

/// Each slot's share of the rings gets one frame; each ring gets one per frame time.
fn produce(
    runtime: &Runtime,
    senders: &[RingSender<Delivered>],
    frame: Duration,
    length: Duration,
    item: impl Fn(Instant) -> Delivered,
) -> (u64, u64) {
    let neighbour = runtime.delivery().neighbour();
    let slots = (frame.as_micros() / SLOT.as_micros()).max(1) as usize;
    let (begin, mut next) = (Instant::now(), Instant::now());
    let (mut pushed, mut late) = (0, 0);
    for slot in (0..slots).cycle() {
        let now = Instant::now();
        if now - begin >= length {
            break;
        }
        if now < next {
            std::thread::sleep(next - now);
        } else if now - next > SLOT {
            late += 1;
        }
        let now = Instant::now();
        for sender in senders.iter().skip(slot).step_by(slots) {
            sender.push(item(now));
            pushed += 1;
        }
        neighbour.flush();
        next += frame / slots as u32;
    }
    (pushed, late)
}
