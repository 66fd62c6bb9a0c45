//! The walls of the house (`ARCHITECTURE.md`): who may name whom, where threads start, what a room's first lines are.
//!
//! Reads the text of `src/`, so that a wall falls in the change that breaks it and not in a review. Comments don't count,
//! and neither does what stands behind a file's `#[cfg(test)]`: tests may look around.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms that it may name.
const MAY_NAME: &[(&str, &[&str])] = &[
    // 1 brains: no sister; `call`, `playout` and `sip` know audio's nouns.
    ("audio", &[]),
    ("call", &["audio"]),
    ("jitter", &[]),
    ("moqt", &[]),
    ("playout", &["audio"]),
    ("rtp", &[]),
    ("sip", &["audio"]),
    ("token", &[]),
    // 2 wires
    ("files", &[]),
    ("net", &["files", "moqt"]),
    // 2½ joints
    ("error", &["moqt"]),
    ("heap", &[]),
    ("ring", &[]),
    ("tracks", &["audio", "moqt", "net"]),
    // 3 hands
    (
        "client",
        &["audio", "call", "error", "files", "heap", "moqt", "net", "playout", "ring", "rtp", "token", "tracks"],
    ),
    ("relay", &["error", "files", "heap", "moqt", "net", "ring", "token", "tracks"]),
    (
        "engine",
        &[
            "audio", "call", "error", "files", "heap", "jitter", "moqt", "net", "playout", "relay", "ring", "rtp",
            "sip", "token", "tracks",
        ],
    ),
    // Tests of all floors.
    ("fuzz", &["audio", "call", "engine", "jitter", "moqt", "net", "rtp", "sip", "token", "tracks"]),
    // 4 face
    ("python", &["audio", "call", "client", "engine", "error", "moqt", "net", "relay", "ring", "token"]),
];

const BRAINS: &[&str] = &["audio", "call", "jitter", "moqt", "playout", "rtp", "sip", "token"];

/// Crates, and the only rooms that may name them.
const FOREIGN: &[(&str, &[&str])] = &[
    ("pyo3", &["python"]),
    ("tokio", &["client", "engine", "relay"]),
    ("reqwest", &["client", "engine"]),
    ("axum", &["engine"]),
    ("hyper", &["engine", "relay"]),
    ("rsipstack", &["engine"]),
    ("rusqlite", &["engine"]),
    ("quinn_proto", &["net"]),
    ("quinn_udp", &["net"]),
    ("mio", &["net"]),
    ("rustls", &["net", "client"]),
    ("tokio_rustls", &["engine"]),
    ("web_transport_proto", &["net"]),
    ("audiopus", &["audio"]),
    ("sdp_types", &["sip"]),
    ("domain", &["sip"]),
    ("ring::signature", &["token"]),
];

/// Where threads start (`ARCHITECTURE.md`, "Threads").
const THREADS: &[&str] = &[
    "client/runtime.rs",
    "python/delivery/",
    "engine/runtime.rs",
    "engine/store/",
    "relay/control.rs",
    "relay/shard.rs",
    "engine/media/",
    "engine/phone/",
];

/// Where `unsafe` may stand, each block with its reason.
const UNSAFE: &[&str] = &["heap/mapping.rs", "net/outbox.rs", "net/warm.rs"];

/// A file longer than this asks for a split.
const MOST_LINES: usize = 600;

struct Source {
    /// Below `src/`.
    path: String,
    room: String,
    text: String,
    /// Without comments and without tests.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.into_iter().filter_map(|file| source(&root, &file)).collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src/ is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}

/// `None` for `lib.rs`, which only lists the rooms.
fn source(root: &Path, file: &Path) -> Option<Source> {
    let path = file.strip_prefix(root).expect("found below it").to_string_lossy().into_owned();
    let room = path.split('/').next()?.trim_end_matches(".rs").to_owned();
    if room == "lib" {
        return None;
    }
    let text = fs::read_to_string(file).expect("sources are UTF-8");
    let is_test = path.ends_with("tests.rs") || path.contains("/tests/") || path.contains("/testing");
    let code = if is_test { String::new() } else { without_tests(&text) };
    Some(Source { path, room, text, code })
}

/// Up to the tests inside the file; a `mod tests;` that stands elsewhere ends nothing.
fn without_tests(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let inline =
        |at: &usize| lines[*at].trim() == "#[cfg(test)]" && lines.get(at + 1).is_some_and(|l| l.ends_with('{'));
    let end = (0..lines.len()).find(inline).unwrap_or(lines.len());
    let code = lines[..end].iter().map(|line| line.split("//").next().unwrap_or(""));
    code.collect::<Vec<_>>().join("\n")
}

/// The rooms named by `crate::room…` and `crate::{room…, …}`.
fn named_rooms(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            rooms.extend(first_words_of_group(group));
        } else {
            rooms.insert(first_word(rest));
        }
    }
    rooms
}

fn first_words_of_group(group: &str) -> Vec<String> {
    let (mut depth, mut expects_word, mut words) = (1, true, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => expects_word = true,
            _ if depth == 1 && expects_word && letter.is_alphabetic() => {
                words.push(first_word(&group[at..]));
                expects_word = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    words
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// Whether `code` names the path `name`, as a word of its own.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':')
    })
}

#[test]
fn nobody_looks_up() {
    let table: BTreeMap<_, _> = MAY_NAME.iter().copied().collect();
    let mut broken = Vec::new();
    for source in sources() {
        let allowed = table.get(source.room.as_str()).unwrap_or_else(|| panic!("room {} has no row", source.room));
        for room in named_rooms(&source.code) {
            let is_room = table.contains_key(room.as_str());
            if is_room && room != source.room && !allowed.contains(&room.as_str()) {
                broken.push(format!("src/{} names crate::{room}", source.path));
            }
        }
    }
    assert!(broken.is_empty(), "walls broken:\n{}", broken.join("\n"));
}

#[test]
fn foreign_crates_stay_in_their_rooms() {
    let mut broken = Vec::new();
    for source in sources() {
        for (name, rooms) in FOREIGN {
            if names(&source.code, name) && !rooms.contains(&source.room.as_str()) {
                broken.push(format!("src/{} names {name}, which belongs to {}", source.path, rooms.join(", ")));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn threads_start_where_the_plan_says() {
    let starts = ["thread::Builder", "thread::spawn", "runtime::Builder", "Runtime::new", "thread::scope"];
    for source in sources() {
        let allowed = THREADS.iter().any(|place| source.path.starts_with(place));
        let found = starts.iter().find(|start| source.code.contains(**start));
        assert!(allowed || found.is_none(), "src/{} starts a thread: {}", source.path, found.unwrap_or(&""));
    }
}

#[test]
fn unsafe_stands_where_the_plan_says() {
    for source in sources() {
        let allows = source.text.contains("allow(unsafe_code)");
        assert_eq!(allows, UNSAFE.contains(&source.path.as_str()), "src/{} and the list of unsafe files", source.path);
    }
}

#[test]
fn brains_are_under_the_ban_list() {
    for brain in BRAINS {
        let path = format!("{brain}/mod.rs");
        let source = sources().into_iter().find(|source| source.path == path).expect("every brain has its mod.rs");
        let deny = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";
        assert!(source.text.contains(deny), "src/{path} lacks {deny}");
    }
}

#[test]
fn every_file_opens_with_its_contract_and_stays_readable() {
    for source in sources() {
        let is_tests = source.code.is_empty();
        assert!(is_tests || source.text.starts_with("//!"), "src/{} has no contract in its first line", source.path);
        let lines = source.text.lines().count();
        assert!(lines <= MOST_LINES, "src/{} has {lines} lines: split it by phase", source.path);
    }
}

#[test]
fn the_reader_of_paths_reads_paths() {
    let code = "use crate::{audio, net::{Dial, Links}, moqt};\nlet x = crate::ring::Inbox::new();";
    let rooms: Vec<_> = named_rooms(code).into_iter().collect();
    assert_eq!(rooms, ["audio", "moqt", "net", "ring"]);
    assert!(names("use tokio::sync", "tokio") && !names("my_tokio::x crate::tokio::y", "tokio"));
    assert!(!without_tests("a // crate::python\n#[cfg(test)]\nmod tests {\ncrate::engine").contains("crate"));
}
