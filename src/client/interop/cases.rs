//! The cases: the six that the interop runner requires, and those that its clients have beyond them.
//!
//! A case is a list of steps that are taken in order; a step that waits for something fails the case when its limit passes.
//! Names and namespaces are the runner's (`moq-test/interop`, `test-track`). Cases whose relay must keep something of
//! its own per run use `moq-test/<case>/<run>`, so that two runs don't hear each other.

use std::time::Duration;

use super::speech::Speech;
use crate::moqt::Draft;

/// Whose turn it is. A case has at most one session of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Client,
    Publisher,
    Subscriber,
    Fetcher,
    Joiner,
}

impl Who {
    pub(super) const ALL: [Who; 5] = [Who::Client, Who::Publisher, Who::Subscriber, Who::Fetcher, Who::Joiner];

    pub(super) fn label(self) -> &'static str {
        match self {
            Who::Client => "client",
            Who::Publisher => "publisher",
            Who::Subscriber => "subscriber",
            Who::Fetcher => "fetcher",
            Who::Joiner => "joiner",
        }
    }
}

/// A namespace of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `moq-test/interop`.
    Interop,
    /// `moq-test/<case>/<run>`.
    Own,
    /// The same and the fields that say what its track carries.
    Described,
    /// `nonexistent/namespace`, where nobody publishes.
    Nowhere,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    PublishNamespace(Place),
    Publish(Place),
    /// With RENDEZVOUS_TIMEOUT, where there is one.
    Subscribe(Place, Option<Duration>),
    SubscribeNamespace(Place),
    SubscribeTracks(Place),
    /// The first group that the subscriber is sure to have heard whole.
    Fetch(Place),
    /// What was published before the subscription that was asked for last, from the group before its own on. Since draft 20 that
    /// was asked for with the subscription.
    Join,
}

/// How a request must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Ok,
    /// Any refusal but INTERNAL_ERROR, which is a fault and no refusal.
    Refusal,
    /// OK or such a refusal.
    Either,
    /// The refusal TIMEOUT.
    Timeout,
}

/// What must be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Objects of [`Speech::Live`], at least so many.
    Live(usize),
    /// All of [`Speech::Groups`], and its PUBLISH_DONE.
    Groups,
    /// Objects of [`Speech::Datagrams`], each as a datagram.
    Datagrams,
    /// Objects of [`Speech::Live`] in so many groups that one between the first and the last was whole.
    History,
    /// The group of [`Ask::Fetch`], whole.
    Fetched,
    /// The group before the live edge, and what follows it up to the newest without a hole: fetched and live.
    Joined,
    /// PUBLISH of the track under the prefix.
    Offered,
    /// NAMESPACE, or NAMESPACE_DONE, of the very namespace that was asked for.
    Namespace { done: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Dials, and waits for the peer's SETUP.
    Connect(Who),
    /// Says this to whoever subscribes from now on.
    Serve(Who, Speech),
    Ask(Who, Ask),
    /// Waits for the answer to what was asked last.
    Answered(Who, Answer),
    /// Withdraws what was asked last.
    Cancel(Who),
    /// PUBLISH_DONE for what was asked last.
    EndTrack(Who),
    Hear(Who, Heard),
    /// Does nothing for so long: no session may end meanwhile.
    Stay(Duration),
}

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) limit: Duration,
    /// Drafts that have no word for what the case asks.
    pub(super) not_in: &'static [Draft],
    pub(super) steps: &'static [Step],
}

/// Long enough to be told what a peer thinks of the last word.
const A_MOMENT: Duration = Duration::from_millis(100);
/// The runner's: the publisher comes so much later.
const LATE: Duration = Duration::from_millis(500);
const RENDEZVOUS: Duration = Duration::from_millis(500);
/// The runner's limits are 2 to 3.5 s and count a fast network; these leave room for a slow one.
const SHORT: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(15);

use Step::{Answered, Ask as Asks, Cancel, Connect, EndTrack, Hear, Serve, Stay};
use Who::{Client, Fetcher, Joiner, Publisher, Subscriber};

const fn case(name: &'static str, limit: Duration, steps: &'static [Step]) -> Case {
    Case { name, limit, not_in: &[], steps }
}

pub(super) const ALL: &[Case] = &[
    case("setup-only", SHORT, &[Connect(Client)]),
    case(
        "announce-only",
        SHORT,
        &[Connect(Publisher), Asks(Publisher, Ask::PublishNamespace(Place::Interop)), Answered(Publisher, Answer::Ok)],
    ),
    case(
        "publish-namespace-done",
        SHORT,
        &[
            Connect(Publisher),
            Asks(Publisher, Ask::PublishNamespace(Place::Interop)),
            Answered(Publisher, Answer::Ok),
            Cancel(Publisher),
            Stay(A_MOMENT),
        ],
    ),
    case(
        "subscribe-error",
        SHORT,
        &[
            Connect(Subscriber),
            Asks(Subscriber, Ask::Subscribe(Place::Nowhere, None)),
            Answered(Subscriber, Answer::Refusal),
        ],
    ),
    case(
        "announce-subscribe",
        SHORT,
        &[
            Connect(Publisher),
            Serve(Publisher, Speech::Nothing),
            Asks(Publisher, Ask::PublishNamespace(Place::Interop)),
            Answered(Publisher, Answer::Ok),
            Connect(Subscriber),
            Asks(Subscriber, Ask::Subscribe(Place::Interop, None)),
            Answered(Subscriber, Answer::Ok),
        ],
    ),
    case(
        "subscribe-before-announce",
        SHORT,
        &[
            Connect(Subscriber),
            Asks(Subscriber, Ask::Subscribe(Place::Interop, None)),
            Stay(LATE),
            Connect(Publisher),
            Serve(Publisher, Speech::Nothing),
            Asks(Publisher, Ask::PublishNamespace(Place::Interop)),
            Answered(Publisher, Answer::Ok),
            Answered(Subscriber, Answer::Either),
        ],
    ),
    Case {
        name: "rendezvous-timeout",
        limit: SHORT,
        not_in: &[Draft::D16],
        steps: &[
            Connect(Subscriber),
            Asks(Subscriber, Ask::Subscribe(Place::Nowhere, Some(RENDEZVOUS))),
            Answered(Subscriber, Answer::Timeout),
        ],
    },
    case(
        "data-subgroup-basic",
        LONG,
        &[
            Connect(Publisher),
            Serve(Publisher, Speech::Groups),
            Asks(Publisher, Ask::PublishNamespace(Place::Own)),
            Answered(Publisher, Answer::Ok),
            Connect(Subscriber),
            Asks(Subscriber, Ask::Subscribe(Place::Described, None)),
            Answered(Subscriber, Answer::Ok),
            Hear(Subscriber, Heard::Groups),
        ],
    ),
    case(
        "data-datagram-basic",
        LONG,
        &[
            Connect(Publisher),
            Serve(Publisher, Speech::Datagrams),
            Asks(Publisher, Ask::PublishNamespace(Place::Own)),
            Answered(Publisher, Answer::Ok),
            Connect(Subscriber),
            Asks(Subscriber, Ask::Subscribe(Place::Own, None)),
            Answered(Subscriber, Answer::Ok),
            Hear(Subscriber, Heard::Datagrams),
        ],
    ),
    case(
        "namespace-discovery",
        LONG,
        &[
            Connect(Publisher),
            Serve(Publisher, Speech::Live),
            Asks(Publisher, Ask::PublishNamespace(Place::Own)),
            Answered(Publisher, Answer::Ok),
            Asks(Publisher, Ask::Publish(Place::Own)),
            Answered(Publisher, Answer::Ok),
            Connect(Subscriber),
            Asks(Subscriber, Ask::SubscribeTracks(Place::Own)),
            Answered(Subscriber, Answer::Ok),
            Hear(Subscriber, Heard::Offered),
        ],
    ),
    case(
        "fetch",
        LONG,
        &[
            Connect(Publisher),
            Serve(Publisher, Speech::Live),
            Asks(Publisher, Ask::PublishNamespace(Place::Own)),
            Answered(Publisher, Answer::Ok),
            Connect(Subscriber),
            Asks(Subscriber, Ask::Subscribe(Place::Own, None)),
            Answered(Subscriber, Answer::Ok),
            Hear(Subscriber, Heard::History),
            Connect(Fetcher),
            Asks(Fetcher, Ask::Fetch(Place::Own)),
            Answered(Fetcher, Answer::Ok),
            Hear(Fetcher, Heard::Fetched),
        ],
    ),
    case(
        "join",
        LONG,
        &[
            Connect(Publisher),
            Serve(Publisher, Speech::Live),
            Asks(Publisher, Ask::PublishNamespace(Place::Own)),
            Answered(Publisher, Answer::Ok),
            Connect(Subscriber),
            Asks(Subscriber, Ask::Subscribe(Place::Own, None)),
            Answered(Subscriber, Answer::Ok),
            Hear(Subscriber, Heard::History),
            Connect(Joiner),
            Asks(Joiner, Ask::Subscribe(Place::Own, None)),
            // A FETCH that overtakes it finds nothing to join.
            Answered(Joiner, Answer::Ok),
            Asks(Joiner, Ask::Join),
            Answered(Joiner, Answer::Ok),
            Hear(Joiner, Heard::Joined),
        ],
    ),
    case(
        "subscribe-namespace-lifecycle",
        LONG,
        &[
            Connect(Subscriber),
            Asks(Subscriber, Ask::SubscribeNamespace(Place::Own)),
            Answered(Subscriber, Answer::Ok),
            Connect(Publisher),
            Asks(Publisher, Ask::PublishNamespace(Place::Own)),
            Answered(Publisher, Answer::Ok),
            Hear(Subscriber, Heard::Namespace { done: false }),
            Cancel(Publisher),
            Hear(Subscriber, Heard::Namespace { done: true }),
        ],
    ),
    case(
        "publish-track-only",
        SHORT,
        &[
            Connect(Publisher),
            Asks(Publisher, Ask::Publish(Place::Own)),
            Answered(Publisher, Answer::Ok),
            EndTrack(Publisher),
            Stay(A_MOMENT),
        ],
    ),
    case(
        "publish-track-subscribe",
        LONG,
        &[
            Connect(Publisher),
            Serve(Publisher, Speech::Live),
            Asks(Publisher, Ask::Publish(Place::Own)),
            Answered(Publisher, Answer::Ok),
            Connect(Subscriber),
            Asks(Subscriber, Ask::Subscribe(Place::Own, None)),
            Answered(Subscriber, Answer::Ok),
            Hear(Subscriber, Heard::Live(5)),
        ],
    ),
];

impl Ask {
    pub(super) fn message(self) -> &'static str {
        match self {
            Ask::PublishNamespace(_) => "PUBLISH_NAMESPACE",
            Ask::Publish(_) => "PUBLISH",
            Ask::Subscribe(..) => "SUBSCRIBE",
            Ask::SubscribeNamespace(_) => "SUBSCRIBE_NAMESPACE",
            Ask::SubscribeTracks(_) => "SUBSCRIBE_TRACKS",
            Ask::Fetch(_) => "FETCH",
            Ask::Join => "joining FETCH",
        }
    }
}

impl Answer {
    pub(super) fn words(self) -> &'static str {
        match self {
            Answer::Ok => "OK",
            Answer::Refusal => "REQUEST_ERROR, not INTERNAL_ERROR,",
            Answer::Either => "OK or REQUEST_ERROR, not INTERNAL_ERROR,",
            Answer::Timeout => "REQUEST_ERROR TIMEOUT",
        }
    }
}

impl Heard {
    pub(super) fn words(self) -> String {
        match self {
            Heard::Live(least) => format!("{least} objects as they were sent"),
            Heard::Groups => "three groups of five objects as they were sent, PUBLISH_DONE TRACK_ENDED".to_owned(),
            Heard::Datagrams => "fifteen datagrams as they were sent, most of them".to_owned(),
            Heard::History => "objects of three groups as they were sent".to_owned(),
            Heard::Fetched => "every object of the group once, in its order".to_owned(),
            Heard::Joined => "the group before, and from it on every object once".to_owned(),
            Heard::Offered => "PUBLISH of the track that was published".to_owned(),
            Heard::Namespace { done: false } => "NAMESPACE of the namespace itself".to_owned(),
            Heard::Namespace { done: true } => "NAMESPACE_DONE of the namespace itself".to_owned(),
        }
    }
}
