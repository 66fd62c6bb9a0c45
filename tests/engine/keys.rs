//! API keys that come and go while the engine runs.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use clutchcall::engine::config::keyfile::{self, Wanted};
use serde_json::json;

use crate::common::{Bench, KEY, wait_for};

fn wanted(scopes: &[&str]) -> Wanted {
    Wanted {
        org: "org_dev".to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        name: None,
        created: "2026-01-02T03:04:05.000Z".to_owned(),
    }
}

fn file(bench: &Bench) -> PathBuf {
    bench.state.path().join(keyfile::NAME)
}

fn status(bench: &Bench, key: &str) -> u16 {
    bench.get_as(key, "voice.agents.list", &json!({})).status
}

/// Asked for at once, so that no test waits for the timer; `reload` counts it when it is done.
fn reload(bench: &Bench, result: &str) {
    let name = format!("clutchcall_api_key_reloads_total{{result=\"{result}\"}} ");
    let figure = || {
        let text = bench.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_else(|| panic!("{text}"));
        line.parse::<u64>().unwrap()
    };
    let before = figure();
    bench.engine.reload();
    wait_for(|| (figure() > before).then_some(()));
}

#[test]
fn a_key_counts_and_is_revoked_while_the_engine_runs() {
    let bench = Bench::new();
    let (first, text) = keyfile::create(&file(&bench), wanted(&["voice:calls.*", "voice:agents.list"])).unwrap();
    // Nobody asks: the engine looks by itself.
    wait_for(|| (status(&bench, &text) == 200).then_some(()));
    let refused = bench.get_as(&text, "voice.trunks.list", &json!({}));
    assert!(refused.error(403, "FORBIDDEN").contains("voice:trunks.list"));
    let (_, other) = keyfile::create(&file(&bench), wanted(&[])).unwrap();
    reload(&bench, "done");
    assert_eq!((status(&bench, &text), status(&bench, &other)), (200, 200));
    keyfile::revoke(&file(&bench), &first.key.id()).unwrap();
    reload(&bench, "done");
    bench.get_as(&text, "voice.agents.list", &json!({})).error(401, "UNAUTHORIZED");
    assert_eq!((status(&bench, &other), status(&bench, KEY)), (200, 200), "nobody else is concerned");
}

#[test]
fn a_broken_file_changes_nothing_but_a_counter() {
    let bench = Bench::new();
    let (_, text) = keyfile::create(&file(&bench), wanted(&[])).unwrap();
    reload(&bench, "done");
    let right = std::fs::read(file(&bench)).unwrap();
    for wrong in ["[[keys]", "[[keys]]\norg = \"org_dev\"\n"] {
        std::fs::write(file(&bench), wrong).unwrap();
        reload(&bench, "failed");
        assert_eq!(status(&bench, &text), 200, "{wrong}");
    }
    std::fs::remove_file(file(&bench)).unwrap();
    reload(&bench, "failed");
    assert_eq!(status(&bench, &text), 200, "a file that has gone");
    std::fs::write(file(&bench), "").unwrap();
    reload(&bench, "done");
    assert_eq!(status(&bench, &text), 401, "an empty file revokes them all");
    std::fs::write(file(&bench), right).unwrap();
    reload(&bench, "done");
    assert_eq!(status(&bench, &text), 200);
}

#[test]
fn a_revoked_keys_streams_end() {
    let bench = Bench::new();
    let (entry, text) = keyfile::create(&file(&bench), wanted(&[])).unwrap();
    reload(&bench, "done");
    let open = |key: &str| {
        let mut stream = bench.connect();
        let request = format!(
            "GET /api/trpc/voice.calls.events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        stream
    };
    let (mut revoked, kept) = (open(&text), open(KEY));
    keyfile::revoke(&file(&bench), &entry.key.id()).unwrap();
    bench.engine.reload();
    let mut rest = String::new();
    revoked.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "the stream has an orderly end: {rest}");
    wait_for(|| bench.metrics().contains("clutchcall_event_streams 1\n").then_some(()));
    drop(kept);
}

/// Rows wait for it in the engine: its connection is not written to any more, and the stream is not asked.
#[test]
fn a_revoked_keys_stream_ends_though_nobody_reads_it() {
    let bench = Bench::new();
    let (entry, text) = keyfile::create(&file(&bench), wanted(&[])).unwrap();
    reload(&bench, "done");
    let _unread = bench.unread(&text, |metrics| !metrics.contains("clutchcall_events_missed_total 0\n"));
    assert!(bench.metrics().contains("clutchcall_event_streams 1\n"));
    keyfile::revoke(&file(&bench), &entry.key.id()).unwrap();
    bench.engine.reload();
    wait_for(|| bench.metrics().contains("clutchcall_event_streams 0\n").then_some(()));
    assert!(bench.metrics().contains("clutchcall_api_limit_total{limit=\"stalled\"} 0\n"), "the key did it");
}

#[test]
fn a_broken_file_is_an_error_at_the_start() {
    let state = tempfile::tempdir().unwrap();
    let config = || crate::common::config(state.path());
    std::fs::write(state.path().join(keyfile::NAME), "keys = 3").unwrap();
    let error = clutchcall::engine::Engine::start(config()).err().unwrap();
    assert!(error.contains("keys.toml") && error.contains("[[keys]]"), "{error}");
}

/// Who makes keys does not know the engine's organisations.
#[test]
fn a_key_of_an_unknown_organisation_holds_up_no_other() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join(keyfile::NAME);
    let stranger = || Wanted { org: "org_x".to_owned(), ..wanted(&[]) };
    let (_, first_stranger) = keyfile::create(&path, stranger()).unwrap();
    let (entry, text) = keyfile::create(&path, wanted(&[])).unwrap();
    let bench = Bench::at(state, |_| {});
    assert_eq!((status(&bench, &first_stranger), status(&bench, &text)), (401, 200), "from the start on");
    wait_for(|| bench.metrics().contains("clutchcall_api_keys_skipped 1\n").then_some(()));
    let (_, second_stranger) = keyfile::create(&path, stranger()).unwrap();
    keyfile::revoke(&path, &entry.key.id()).unwrap();
    reload(&bench, "done");
    assert_eq!((status(&bench, &second_stranger), status(&bench, &text)), (401, 401), "the revocation is heard");
    assert!(bench.metrics().contains("clutchcall_api_keys_skipped 2\n"), "{}", bench.metrics());
}
