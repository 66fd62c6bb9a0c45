//! URLs as messages, logs and `repr` may show them: a user, a password and a query may be secrets.
//!
//! What is shown is often no URL at all, and that is why it is shown. A password with a `/`, `?`, `#`, `\` or `@` of its own ends
//! elsewhere for a reader than for who wrote it, so nothing that may be a part of one is shown: where an `@` stands behind the
//! place at which a host ends, only the scheme is left. Pure, never fails, opens nothing.

use url::Url;

/// Schemes that are no secret whatever follows.
const SCHEMES: [&str; 5] = ["http", "https", "moqt", "moq", "quic"];
/// What ends a host (RFC 3986 §3.2), and the sign that is read as one of them.
const ENDS: [char; 4] = ['/', '?', '#', '\\'];
const HIDDEN: &str = "…";

/// Scheme, host, port and path; `…` for what may be a secret.
pub fn shown(url: &str) -> String {
    let url = url.trim();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let scheme = match scheme {
        known if SCHEMES.contains(&known) => format!("{known}://"),
        other if !other.is_empty() && !url.contains('@') => format!("{other}://"),
        _ => String::new(),
    };
    let (authority, behind) = rest.split_at(rest.find(ENDS).unwrap_or(rest.len()));
    if behind.contains('@') {
        return scheme + HIDDEN;
    }
    let path = behind.split(['?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}{HIDDEN}@{}{path}", with_port(host)),
        None => format!("{scheme}{}{path}", with_port(authority)),
    }
}

/// The same up to the host: a path may hold a token.
pub fn origin(url: &str) -> String {
    let shown = shown(url);
    let host = shown.find("//").map_or(0, |at| at + 2);
    let end = shown[host..].find(['/', '\\']).map_or(shown.len(), |at| host + at);
    shown[..end].to_owned()
}

/// An `@` behind the host: who wrote it may have meant a password.
pub fn is_doubtful(url: &Url) -> bool {
    let behind = [Some(url.path()), url.query(), url.fragment()];
    behind.into_iter().flatten().any(|part| part.contains('@'))
}

/// What stands where a port does and is none was meant to be something else.
fn with_port(host: &str) -> String {
    let name = host.rfind(']').map_or(0, |at| at + 1);
    match host[name..].find(':').map(|at| name + at) {
        Some(at) if !host[at + 1..].bytes().all(|byte| byte.is_ascii_digit()) => format!("{}:{HIDDEN}", &host[..at]),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_secret_is_shown() {
        for (url, seen) in [
            ("http://h", "http://h"),
            ("moqt://h:1/a/b?key=b#c", "moqt://h:1/a/b"),
            ("https://[::1]:4433/voice", "https://[::1]:4433/voice"),
            ("ftp://h/x", "ftp://h/x"),
            ("h:80", "h:80"),
            (" h?token", "h"),
            ("http://user:pass@h:1/a?key=b#c", "http://…@h:1/a"),
            ("user@h", "…@h"),
            ("", ""),
        ] {
            assert_eq!(shown(url), seen);
        }
        for (url, seen) in [
            ("moqt://user:pass@h:1?jwt=secret", "moqt://…@h:1"),
            ("https://h/voice/secret?jwt=secret", "https://h"),
            ("moqt://h:1#secret", "moqt://h:1"),
            ("https://h\\secret", "https://h"),
            ("h/secret", "h"),
        ] {
            assert_eq!(origin(url), seen);
        }
    }

    /// Every sign that a password may hold, at each place of it, under every scheme and none.
    #[test]
    fn no_part_of_a_user_or_password_is_shown() {
        let words = ["us3r", "pa55", "w0rd"];
        for scheme in ["http://", "https://", "moqt://", "us3r://", "ftp://", "http:", "http:/", "http:///", ""] {
            for sign in
                ["", "/", "?", "#", "\\", "@", ":", "//", "://", "[", "]", "%", " ", "\t", "ä", "@/", "/@", "?@:"]
            {
                for user in ["us3r:", "us3r", ":", ""] {
                    for host in ["h.example:4433/path?x=pa55", "h.example", "[::1]:1", ""] {
                        let url = format!("{scheme}{user}pa55{sign}w0rd@{host}");
                        for seen in [shown(&url), origin(&url)] {
                            assert!(!words.iter().any(|word| seen.contains(word)), "{url} is shown as {seen}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_password_that_stands_for_a_port_is_not_shown() {
        assert_eq!(shown("http://user:pass"), "http://user:…");
        assert_eq!(shown("http://[::1]:pass/x"), "http://[::1]:…/x");
    }

    #[test]
    fn doubtful_is_an_at_behind_the_host() {
        let doubtful = |url: &str| is_doubtful(&Url::parse(url).unwrap());
        // Read as the host `user`, its port 12, and a path.
        assert!(doubtful("http://user:12/ss@h") && doubtful("moqt://user:12?ss@h") && doubtful("moqt://user#ss@h"));
        assert!(!doubtful("http://user:12%2Fss@h/a") && !doubtful("http://h/a%40b"));
    }
}
