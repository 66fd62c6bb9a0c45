//! Holders come and go on a real worker: nothing of them stays.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::*;
use crate::client::runtime::Runtime;
use crate::moqt::TrackNamespace;
use crate::moqt::message::Setup;
use crate::net::Trust;

const CYCLES: u64 = 2_000;
const LIMIT: Duration = Duration::from_secs(20);

/// A relay that is not there, under a URL of this holder's own; its tokens last for an hour.
struct Nowhere(u64);

fn url(n: u64) -> url::Url {
    format!("moqt://127.0.0.1:9/{n}").parse().unwrap()
}

fn in_an_hour() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(3600))
}

impl Dialer for Nowhere {
    fn prepare(&self, _: Option<String>) -> Boxed<Result<Prepared, Refused>> {
        let address = ([127, 0, 0, 1], 9).into();
        let dial = Dial {
            url: url(self.0),
            address,
            trust: Trust::Anything,
            drafts: Default::default(),
            setup: Setup::default(),
        };
        Box::pin(std::future::ready(Ok(Prepared { dial, tokens: Vec::new(), renew_at: in_an_hour() })))
    }
    fn verdict(&self) -> Boxed<Verdict> {
        Box::pin(std::future::ready(Verdict::Lives))
    }
}

fn track(n: u64, name: &str) -> FullTrackName {
    FullTrackName::new(TrackNamespace::new(["voice".to_owned(), n.to_string()]).unwrap(), name.to_owned()).unwrap()
}

fn attach(runtime: &Runtime, port: &MediaPort, n: u64) -> (HolderId, HandoffSender<Outgoing>) {
    let holder = port.holder();
    let route =
        RouteKey { url: url(n).to_string(), trust: Vec::new(), anything: true, drafts: Default::default(), cap: 1 };
    let seat = Seat {
        route,
        tokens: Vec::new(),
        dialer: Arc::new(Nowhere(n)),
        standing: Arc::new(Standing::new()),
        states: None,
        ends_with_track: true,
        renew_at: in_an_hour(),
    };
    port.send(Command::Open(holder, Box::new(seat)));
    let (ring, _) = runtime.delivery().ring(1);
    let subscription =
        Subscription { track: track(n, "up"), ring, lag: None, is_control: false, figures: Arc::default() };
    port.send(Command::Subscribe(holder, Box::new(subscription)));
    let (sender, frames) = port.handoff(Duration::from_secs(60));
    let publish = PublishTrack {
        track: track(n, "down"),
        delivery: crate::tracks::Delivery::Stream,
        frame_us: 20_000,
        waits: false,
        properties: Default::default(),
    };
    let pace = Some(Clock::process());
    let publication = Publication { track: publish, frames, pace, figures: Arc::default() };
    port.send(Command::Publish(holder, Box::new(publication)));
    (holder, sender)
}

fn sizes(port: &MediaPort) -> Vec<usize> {
    let (sender, answer): (_, Receiver<Vec<usize>>) = channel();
    port.send(Command::Count(sender));
    answer.recv_timeout(LIMIT).unwrap()
}

#[test]
fn attaching_and_closing_leaves_nothing_behind() {
    let runtime = Runtime::shared();
    let port = runtime.media().unwrap().clone();
    for n in 0..CYCLES {
        let (holder, frames) = attach(&runtime, &port, n);
        let payload = Bytes::from_static(b"frame");
        assert!(frames.push(Outgoing { payload, timestamp_us: None }, 20_000).is_ok());
        port.flush();
        port.send(Command::Close(holder));
    }
    // What the control thread still had to say of closed holders comes to nothing too.
    let begun = Instant::now();
    while sizes(&port).iter().any(|size| *size > 1) {
        assert!(begun.elapsed() < LIMIT, "{:?}", sizes(&port));
        std::thread::yield_now();
    }
}
