//! What a call's INVITE carries for whoever places it, beside the numbers: headers of his own, and a name that is shown.
//!
//! Neither is kept in the record: headers may hold what is nobody else's. What is checked here can't leave its header, and stands
//! in for none of the protocol's: only names that begin with `X-` are a user's.

use std::collections::{BTreeMap, BTreeSet};

/// Names and values as they stand in the INVITE.
pub type Headers = BTreeMap<String, String>;

const MAX_HEADERS: usize = 16;
const MAX_NAME: usize = 64;
const MAX_VALUE: usize = 256;
/// All of them: an INVITE has to fit into a datagram beside its description.
const MAX_BYTES: usize = 2048;
/// Carriers cut longer names, or refuse them.
const MAX_CALLER_NAME: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    pub headers: Headers,
    /// The display name of From.
    pub caller_name: Option<String>,
}

/// The error begins with the field's name and says what to do.
pub fn check_headers(headers: &Headers) -> Result<(), String> {
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_BYTES {
        let have = headers.len();
        return Err(format!(
            "headers has {have} of {bytes} bytes: at most {MAX_HEADERS} of {MAX_BYTES} bytes together"
        ));
    }
    let mut known = BTreeSet::new();
    for (name, value) in headers {
        let is_own = name.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case("X-")) && name.len() > 2;
        if !is_own || name.len() > MAX_NAME || !name.bytes().all(is_of_token) {
            return Err(format!(
                "headers has the name {name:?}: write X- and up to {} letters, digits or any of -.!%*_+`'~",
                MAX_NAME - 2
            ));
        }
        if value.is_empty() || value.len() > MAX_VALUE || value.chars().any(char::is_control) || value.trim() != value {
            return Err(format!(
                "headers {name:?} is {value:?}: 1 to {MAX_VALUE} bytes, no control characters, no space around it"
            ));
        }
        if !known.insert(name.to_ascii_lowercase()) {
            return Err(format!("headers has {name:?} twice: capitals make no difference"));
        }
    }
    Ok(())
}

/// RFC 3261 §25.1.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// The same. `field` is what the name is called there. Who reads a From by its first `<`, or by the quote before it, would find another
/// address than ours behind some names: a BYE with such a From ends nothing.
pub fn check_caller_name(field: &str, name: &str) -> Result<(), String> {
    let misleads = name.contains(['<', '>']) || name.ends_with('"');
    let is_odd = name.chars().any(char::is_control) || name.trim() != name || misleads;
    if name.is_empty() || name.len() > MAX_CALLER_NAME || is_odd {
        return Err(format!(
            "{field} is {name:?}: 1 to {MAX_CALLER_NAME} bytes, no control characters, no < and >, no quote at its end, no space around it"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> Result<(), String> {
        check_headers(&[(name.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn headers_of_a_users_own() {
        for (name, value) in [("X-Order", "7"), ("x-order.id", "a b; c=\"d\", <e>"), ("X-Name", "Zoë")] {
            assert_eq!(check(name, value), Ok(()));
        }
        for name in [
            "From",
            "X-",
            "X",
            "",
            "X-A B",
            "X-A:",
            "X-A\r\nVia",
            "X-Ä",
            "Route",
            "é-A",
            &format!("X-{}", "a".repeat(63)),
        ] {
            assert!(check(name, "v").unwrap_err().starts_with("headers has the name"), "{name}");
        }
        for value in ["", " a", "a\r\nRoute: <sip:evil>", "a\0", "a\u{85}b", &"v".repeat(257)] {
            assert!(check("X-A", value).unwrap_err().starts_with("headers \"X-A\""), "{value:?}");
        }
    }

    #[test]
    fn headers_together_have_bounds() {
        let many = |count: usize, length: usize| (0..count).map(|i| (format!("X-{i}"), "v".repeat(length))).collect();
        assert_eq!(check_headers(&many(16, 100)), Ok(()));
        for wrong in [many(17, 1), many(16, 200)] {
            assert!(check_headers(&wrong).unwrap_err().contains("at most 16 of 2048 bytes"));
        }
        let twice = [("X-a", "1"), ("x-A", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert!(check_headers(&twice.into()).unwrap_err().contains("twice"));
    }

    #[test]
    fn names_that_are_shown() {
        for name in ["Example Inc.", "Zoë \"Z\" \\o/", "7"] {
            assert_eq!(check_caller_name("callerName", name), Ok(()));
        }
        for name in ["", " a", "a\r\nFrom: x", "a\tb", "a <sip:b@c>", "a<", ">", "the \"Best\"", &"n".repeat(65)] {
            assert!(check_caller_name("callerName", name).unwrap_err().starts_with("callerName is"), "{name:?}");
        }
    }
}
