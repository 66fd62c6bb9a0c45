//! Tokens by alias, over the requests of a session.

use bytes::Bytes;

use super::lone::Lone;
use super::pair;
use super::smoke::track;
use crate::moqt::CloseCode;
use crate::moqt::authorization::Form;
use crate::moqt::message::{Message, Parameters, Setup, Token};
use crate::moqt::session::{Config, Event, Role};

fn token(value: &'static str) -> Token {
    Token { kind: 0, value: Bytes::from_static(value.as_bytes()) }
}

fn register(alias: u64, value: &'static str) -> Form {
    Form::Register { alias, token: token(value) }
}

/// A server whose SETUP announces this cache, and a peer whose SETUP registers these.
fn server(max_token_cache: u64, token_aliases: Vec<Form>) -> Lone {
    let setup = Setup { max_token_cache, ..Setup::default() };
    let mut lone = Lone::early(Config { setup, ..pair::config(Role::Server) });
    lone.say(lone.control, &Message::Setup(Setup { token_aliases, ..Setup::default() }));
    lone
}

/// A SUBSCRIBE with these, and the tokens that the application sees.
fn ask(lone: &mut Lone, id: u64, token_aliases: Vec<Form>) -> Option<Vec<Token>> {
    lone.events.clear();
    let parameters = Parameters { token_aliases, ..Parameters::default() };
    lone.request(&Message::Subscribe { id, track: track("audio"), parameters });
    lone.events.iter().find_map(|event| match event {
        Event::Subscribe { subscribe, .. } => Some(subscribe.tokens.clone()),
        _ => None,
    })
}

#[test]
fn a_token_is_registered_by_one_request_and_meant_by_another() {
    let mut lone = server(1000, vec![register(1, "setup")]);
    let setup = lone.events.iter().find_map(|event| match event {
        Event::Setup(setup) => Some(setup.tokens.clone()),
        _ => None,
    });
    assert_eq!(setup, Some(vec![token("setup")]));
    assert_eq!(ask(&mut lone, 0, vec![register(2, "more")]), Some(vec![token("more")]));
    let both = vec![Form::UseAlias { alias: 1 }, Form::UseAlias { alias: 2 }];
    assert_eq!(ask(&mut lone, 2, both), Some(vec![token("setup"), token("more")]));
    assert_eq!(ask(&mut lone, 4, vec![Form::Delete { alias: 2 }]), Some(Vec::new()));
    assert_eq!(ask(&mut lone, 6, vec![Form::UseAlias { alias: 2 }]), None);
    assert_eq!(lone.closed(), Some(CloseCode::UnknownAuthTokenAlias as u64));
}

#[test]
fn a_refused_request_registers_its_tokens_too() {
    let mut lone = server(1000, Vec::new());
    lone.session.goaway(crate::moqt::message::GoAway { uri: String::new(), timeout: None });
    assert_eq!(ask(&mut lone, 0, vec![register(1, "kept")]), None);
    assert_eq!(lone.closed(), None);
    ask(&mut lone, 2, vec![register(1, "again")]);
    assert_eq!(lone.closed(), Some(CloseCode::DuplicateAuthTokenAlias as u64));
}

#[test]
fn more_than_was_announced_ends_the_session_and_in_setup_it_does_not() {
    let mut lone = server(0, vec![register(1, "used at once")]);
    assert_eq!(lone.closed(), None);
    ask(&mut lone, 0, vec![register(2, "x")]);
    assert_eq!(lone.closed(), Some(CloseCode::AuthTokenCacheOverflow as u64));
    let mut lone = server(1000, vec![register(1, "x"), register(1, "y")]);
    assert_eq!(lone.closed(), Some(CloseCode::DuplicateAuthTokenAlias as u64));
    let mut lone = server(1000, vec![Form::UseAlias { alias: 1 }]);
    assert_eq!(lone.closed(), Some(CloseCode::ProtocolViolation as u64));
}
