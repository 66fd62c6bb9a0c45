//! An engine ends: whoever is at its relay is told to go, and then that it is over.

use std::net::SocketAddr;
use std::time::Duration;

use clutchcall::engine::{Config, Engine, signing_key_of};
use clutchcall::moqt::message::{Setup, Token};
use clutchcall::moqt::{CloseCode, Drafts, Event};
use clutchcall::net::{Dial, Down, Trust};
use clutchcall::token::Claims;

use super::rig::{Client, Kind, LIMIT, Relay, unix};

fn dial(engine: &Engine) -> Dial {
    let key = signing_key_of(&engine.state().join("token.key")).expect("the engine has its key");
    let all = Some(vec!["voice/**".parse().expect("a pattern")]);
    let exp = unix().as_secs() + 60;
    let claims = Claims { sub: "listener".into(), exp, subscribe: all, ..Claims::default() };
    let token = Token { kind: 0, value: claims.encode(&key).into() };
    let url: url::Url = engine.relay_url().parse().expect("a URL");
    let address = SocketAddr::from(([127, 0, 0, 1], url.port().expect("it has a port")));
    let setup = Setup { tokens: vec![token], ..Setup::default() };
    Dial { url, address, trust: Trust::Anything, drafts: Drafts::default(), setup }
}

#[test]
fn sessions_are_sent_away_and_the_last_hear_why_they_end() {
    for shards in [1, 2] {
        let state = tempfile::tempdir().expect("a folder");
        let mut config = Config::dev(state.path());
        config.relay.relaying.shards = shards;
        let engine = Engine::start(config).expect("the engine starts");
        let client = Client::start();
        let (goes, stays) = (client.link(dial(&engine)), client.link(dial(&engine)));
        for link in [goes, stays] {
            link.up();
            // Held for a publisher: a session without a request would have nothing to keep it.
            link.ask("voice/CA1/uplink", Some(LIMIT), Vec::new());
        }
        std::thread::scope(|scope| {
            let ending = scope.spawn(move || engine.shutdown());
            for link in [goes, stays] {
                let timeout = link.on("GOAWAY", |event| match event {
                    Event::GoAway(goaway) => Some(goaway.timeout),
                    _ => None,
                });
                assert!(timeout.is_some_and(|timeout| !timeout.is_zero()), "{timeout:?}");
            }
            goes.close();
            let down = stays.down();
            let told = [(CloseCode::NoError as u64, "this relay ends"), (CloseCode::GoAwayTimeout as u64, "")];
            let known = |told: (u64, &str)| matches!(&down, Down::Peer { code, reason } if *code == told.0 && reason.contains(told.1));
            assert!(told.into_iter().any(known), "{down:?}");
            ending.join().expect("the engine ends");
        });
    }
}

#[test]
fn a_relay_says_whether_all_have_gone() {
    let (empty, full, client) = (Relay::start(), Relay::start(), Client::start());
    assert!(empty.server.dismiss(LIMIT), "nobody was there");
    let stays = client.connect(&full, Kind::RawQuic, vec![full.token(&[], &["voice/**"])]);
    stays.ask("voice/CA1/uplink", Some(LIMIT), Vec::new());
    full.wait("a held subscription", |counters| counters.held == 1);
    assert!(!full.server.dismiss(Duration::from_millis(50)), "a held request keeps its session");
    stays.down();
    assert!(full.server.dismiss(LIMIT));
}
