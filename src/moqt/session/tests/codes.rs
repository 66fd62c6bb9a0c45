//! Every session close code and request error code that a session gives by itself, provoked from bytes. The others are given by
//! who authorises, routes or negotiates: the relay's and the link's tests have them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::lone::{Lone, bytes_in, none};
use super::pair;
use super::requests::{subscribe_message, subscribe_ok};
use super::smoke::{subscribe, track};
use crate::moqt::authorization::Form;
use crate::moqt::error::{CloseCode, RequestErrorCode};
use crate::moqt::message::{Fetch, GoAway, Message, Parameters, Setup, SubscribeOk, Token, TrackProperties};
use crate::moqt::properties::Writer;
use crate::moqt::session::{Config, Event, Role, constants};
use crate::moqt::version::Draft;

/// SETUP with one option.
fn setup(key: u8, value: &[u8]) -> Bytes {
    let mut out = BytesMut::from(&[0xaf, 0x00, 0, value.len() as u8 + 2, key, value.len() as u8][..]);
    out.extend_from_slice(value);
    out.freeze()
}

/// SUBSCRIBE 0 of a/t with one authorization token.
fn with_token(value: &[u8]) -> Bytes {
    let mut out =
        BytesMut::from(&[0x03, 0, value.len() as u8 + 9, 0, 1, 1, b'a', 1, b't', 1, 3, value.len() as u8][..]);
    out.extend_from_slice(value);
    out.freeze()
}

fn early(role: Role, control: Bytes) -> Lone {
    let mut lone = Lone::early(pair::config(role));
    lone.data(lone.control, control, false);
    lone
}

fn asked(data: Bytes) -> Lone {
    let mut lone = Lone::new(Role::Server);
    let stream = lone.session.accept_stream(crate::moqt::Dir::Bi);
    lone.data(stream, data, false);
    lone
}

fn alias_of_two() -> Lone {
    let mut lone = Lone::new(Role::Client);
    for name in ["one", "two"] {
        lone.session.subscribe(subscribe(name));
        let stream = lone.opened();
        lone.say(stream, &subscribe_ok(7));
    }
    lone
}

fn silent() -> Lone {
    let mut lone = Lone::early(pair::config(Role::Server));
    lone.pass(lone.session.poll_timeout().unwrap() - lone.now);
    lone
}

fn left_open() -> Lone {
    let mut lone = Lone::new(Role::Server);
    lone.request(&subscribe_message(0));
    lone.session.goaway(GoAway { uri: String::new(), timeout: Some(Duration::from_secs(1)) });
    lone.pass(Duration::ZERO);
    lone.pass(Duration::from_secs(1));
    lone
}

fn updated_too_often() -> Lone {
    let mut lone = Lone::of(Draft::D20, Role::Server);
    let stream = lone.request(&subscribe_message(0));
    for i in 1..=17 {
        lone.say(stream, &Message::RequestUpdate { id: 2 * i, parameters: none() });
    }
    lone
}

fn stalled() -> Lone {
    let mut lone = Lone::new(Role::Client);
    lone.uni(Bytes::from_static(&[0x10]), false);
    lone.pass(constants::DATA_TIMEOUT);
    lone.pass(constants::DATA_TIMEOUT);
    lone
}

/// In SETUP, where our cache has room for both.
fn registered_twice() -> Lone {
    let setup = Setup { max_token_cache: 1000, ..Setup::default() };
    let mut lone = Lone::early(Config { setup, ..pair::config(Role::Server) });
    let register = || Form::Register { alias: 7, token: Token { kind: 0, value: Bytes::from_static(b"x") } };
    let token_aliases = vec![register(), register()];
    lone.say(lone.control, &Message::Setup(Setup { token_aliases, ..Setup::default() }));
    lone
}

fn unsayable() -> Lone {
    let setup = Setup { path: Some("x".repeat(70_000)), ..Setup::default() };
    Lone::early_kept(Config { setup, ..pair::config(Role::Client) })
}

#[test]
fn every_close_code_of_a_session_can_be_provoked() {
    let cases: [(CloseCode, Lone); 17] = [
        (CloseCode::InternalError, unsayable()),
        (CloseCode::ProtocolViolation, asked(Bytes::from_static(&[0x1e, 0, 0]))),
        (CloseCode::InvalidRequestId, asked(bytes_in(Draft::D18, &subscribe_message(1)))),
        (CloseCode::DuplicateTrackAlias, alias_of_two()),
        (CloseCode::KeyValueFormatting, asked(with_token(&[9]))),
        (CloseCode::InvalidPath, early(Role::Client, setup(1, b"/x"))),
        (CloseCode::MalformedPath, early(Role::Server, setup(1, b"\x01"))),
        (CloseCode::GoAwayTimeout, left_open()),
        (CloseCode::ControlMessageTimeout, silent()),
        (CloseCode::DataStreamTimeout, stalled()),
        (CloseCode::DuplicateAuthTokenAlias, registered_twice()),
        (CloseCode::AuthTokenCacheOverflow, asked(with_token(&[1, 7, 0, b'x']))),
        (CloseCode::UnknownAuthTokenAlias, asked(with_token(&[2, 7]))),
        (CloseCode::UnknownAuthTokenAlias, asked(with_token(&[0, 7]))),
        (CloseCode::InvalidAuthority, early(Role::Client, setup(5, b"x"))),
        (CloseCode::MalformedAuthority, early(Role::Server, setup(5, b"\x01"))),
        (CloseCode::TooManyRequestUpdates, updated_too_often()),
    ];
    for (code, mut lone) in cases {
        assert_eq!(lone.closed(), Some(code as u64), "{code:?}");
    }
}

fn mandatory() -> TrackProperties {
    TrackProperties(Writer::default().number(0x4000, 1).finish())
}

fn publish() -> Message {
    Message::Publish { id: 0, track: track("p"), alias: 1, parameters: none(), properties: mandatory() }
}

fn joining(request: u64) -> Message {
    Message::Fetch { id: 2, fetch: Fetch::RelativeJoining { request, groups: 1 }, parameters: none() }
}

/// What the peer's message is refused with, after `before` made the session what it is.
fn refused(role: Role, before: impl FnOnce(&mut Lone), message: &Message) -> Option<u64> {
    let mut lone = Lone::new(role);
    before(&mut lone);
    let stream = lone.request(message);
    let refusal = lone.refusal(stream);
    assert_eq!(lone.closed(), None);
    refusal
}

fn busy(lone: &mut Lone) {
    for i in 0..pair::limits().requests as u64 {
        lone.request(&subscribe_message(2 * i));
    }
}

fn paused(lone: &mut Lone) {
    let parameters = Parameters { forward: Some(false), ..none() };
    lone.request(&Message::Subscribe { id: 0, track: track("audio"), parameters });
}

fn status(id: u64) -> Message {
    Message::TrackStatus { id, track: track("audio"), parameters: none() }
}

#[test]
fn every_request_error_of_a_session_can_be_provoked() {
    let leaving = |lone: &mut Lone| lone.session.goaway(GoAway { uri: String::new(), timeout: None });
    let cases = [
        (RequestErrorCode::NotSupported, refused(Role::Client, |_| (), &status(1))),
        (RequestErrorCode::GoingAway, refused(Role::Server, leaving, &subscribe_message(0))),
        (
            RequestErrorCode::ExcessiveLoad,
            refused(Role::Server, busy, &subscribe_message(2 * pair::limits().requests as u64)),
        ),
        (RequestErrorCode::UnsupportedExtension, refused(Role::Server, |_| (), &publish())),
        (RequestErrorCode::InvalidJoiningRequestId, refused(Role::Server, |_| (), &joining(0))),
        (RequestErrorCode::InvalidRange, refused(Role::Server, paused, &joining(0))),
    ];
    for (code, refusal) in cases {
        assert_eq!(refusal, Some(code as u64), "{code:?}");
    }
}

#[test]
fn an_answer_that_can_not_be_said_is_an_internal_error() {
    let mut lone = Lone::new(Role::Server);
    let stream = lone.request(&subscribe_message(0));
    let Some(Event::Subscribe { request, .. }) = lone.events.pop() else { panic!("{:?}", lone.events) };
    let long = Writer::default().bytes(0x77, &vec![0; 65_535]).finish();
    lone.session.accept_subscribe(request, SubscribeOk { properties: TrackProperties(long), ..SubscribeOk::default() });
    assert_eq!(lone.refusal(stream), Some(RequestErrorCode::InternalError as u64));
}

#[test]
fn a_joining_fetch_of_a_live_subscription_is_asked() {
    let mut lone = Lone::new(Role::Server);
    lone.request(&subscribe_message(0));
    lone.request(&joining(0));
    let last = lone.events.last();
    assert!(matches!(last, Some(Event::Fetch { fetch: Fetch::RelativeJoining { request: 0, .. }, .. })), "{last:?}");
}
