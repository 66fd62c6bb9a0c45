//! The vendor's clients: what each of them sends, byte for byte, and what it is answered (`tests/data/vendor/exchanges.txt`).

use crate::common::{Bench, KEY, NARROW_KEY};

const EXCHANGES: &str = include_str!("../data/vendor/exchanges.txt");

/// Whether this is the text, where `{name}` stands for anything; and what `{sid}` stood for.
fn fits(pattern: &str, text: &str) -> Option<String> {
    let (mut rest, mut sid) = (text, String::new());
    let mut pattern = pattern;
    while let Some((fixed, more)) = holes(pattern) {
        rest = rest.strip_prefix(fixed)?;
        let (name, after) = more.split_once('}')?;
        let end = after.chars().next().map_or(Some(rest.len()), |_| {
            let next = holes(after).map_or(after, |(fixed, _)| fixed);
            rest.find(next)
        })?;
        // The call's INVITE has left by now, or has not.
        if name == "sip" && end > 0 && !rest.starts_with(",\"sipCallId\":\"") {
            return None;
        }
        if name == "sid" {
            rest[..end].clone_into(&mut sid);
        }
        (rest, pattern) = (&rest[end..], after);
    }
    (rest == pattern).then_some(sid)
}

/// Up to the next `{name}`, and from its name on.
fn holes(pattern: &str) -> Option<(&str, &str)> {
    let names = ["{sid}", "{status}", "{time}", "{sip}", "{request}", "{message}"];
    let at = names.iter().filter_map(|name| pattern.find(name)).min()?;
    Some((&pattern[..at], &pattern[at + 1..]))
}

#[test]
fn patterns_are_exact_but_for_their_holes() {
    assert_eq!(fits("{\"a\":\"{sid}\",\"t\":\"{time}\"}", "{\"a\":\"X1\",\"t\":\"now\"}").as_deref(), Some("X1"));
    assert_eq!(fits("{\"a\":\"{sid}\"}", "{\"a\":\"X1\",\"error\":null}"), None);
    assert_eq!(fits("{\"ok\":true}", "{\"ok\":true} "), None);
    let row = "{\"a\":\"{sid}\"{sip}}}";
    assert!(fits(row, "{\"a\":\"X1\"}}").is_some() && fits(row, "{\"a\":\"X1\",\"sipCallId\":\"y\"}}").is_some());
    assert_eq!(fits(row, "{\"a\":\"X1\",\"error\":null}}"), None);
}

#[test]
fn every_client_of_the_vendors_is_answered_as_it_expects() {
    let bench = Bench::new();
    let (mut sid, mut cases) = (String::new(), 0);
    for case in EXCHANGES.split("=== ").skip(1) {
        let (asked, answered) = case.split_once("\n--->\n").unwrap();
        let (name, asked) = asked.split_once('\n').unwrap();
        let (head, body) = asked.split_once("\n\n").unwrap();
        if let Some((_, status)) = name.split_once(", once it is ") {
            bench.wait(&sid, &[status]);
        }
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let (line, body) = (line.replace("{sid}", &sid), body.replace("{sid}", &sid));
        let mut request = format!("{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n");
        for header in headers.lines().filter(|header| !header.starts_with("connection")) {
            request += &format!("{header}\r\n");
        }
        if !body.is_empty() {
            request += &format!("content-length: {}\r\n", body.len());
        }
        let answer = bench.raw(&format!("{request}connection: close\r\n\r\n{body}"));
        let (status, expected) = answered.trim_end().split_once('\n').unwrap();
        assert_eq!(answer.status.to_string(), status, "{name}: {answer:?}");
        assert!(answer.head.contains("content-type: application/json"), "{name}: {answer:?}");
        assert!(!answer.head.contains("location:") && !answer.head.contains("content-encoding:"), "{name}: {answer:?}");
        let found = fits(expected, &answer.body).unwrap_or_else(|| panic!("{name}: {expected}\n{}", answer.body));
        if !found.is_empty() {
            sid = found;
        }
        cases += 1;
    }
    assert_eq!(cases, 67);
}

#[test]
fn a_keys_scopes_count_under_every_name() {
    let bench = Bench::new();
    let refused = bench.post_as(NARROW_KEY, "telephony.terminate", "{\"call_sid\":\"CA1\"}", "");
    assert!(refused.error(403, "FORBIDDEN").contains("voice:calls.hangup"));
    bench.get("telephony.originate", &serde_json::json!({})).error(405, "METHOD_NOT_SUPPORTED");
    bench.post("telephony.dial", &serde_json::json!({})).error(404, "NOT_FOUND");
}
