//! REFER (RFC 3515): the headers of ours, and what its NOTIFYs say.
//!
//! A [`Refer`] is one transfer at the far end, from its 202 on. It reads the fragments in NOTIFY bodies and tells the one final
//! status, once. What that status means for a call is `call`'s: a failure is no proof while the dialog is up, and no NOTIFY at
//! all is none either.

use super::uri::{self, Template};

/// The most of a body that is looked at: a status line.
const MAX_LINE: usize = 256;

/// `Refer-To` and `Referred-By` of our REFER (RFC 3892 for the second).
pub fn headers(refer_to: &Template, to: &str, from: &str, trunk_host: &str) -> (String, String) {
    (format!("<{}>", refer_to.fill(to, trunk_host)), format!("<{}>", uri::at(from, trunk_host)))
}

/// One transfer that the far end works on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refer {
    done: bool,
    /// The last provisional status.
    last: Option<u16>,
}

impl Refer {
    /// A NOTIFY of its subscription: the final status of what the far end dialled, if this is the first that has one.
    /// `subscription_state` is the header's value; a subscription that ends without a final status says nothing.
    pub fn handle_notify(&mut self, body: &[u8], subscription_state: Option<&str>) -> Option<u16> {
        if self.done {
            return None;
        }
        let code = status(body);
        self.last = code.or(self.last);
        let is_over = subscription_state
            .and_then(|state| state.split(';').next())
            .is_some_and(|state| state.trim().eq_ignore_ascii_case("terminated"));
        self.done = is_over || code.is_some_and(|code| code >= 200);
        code.filter(|code| *code >= 200)
    }

    /// Nothing more will come.
    pub fn is_done(&self) -> bool {
        self.done
    }

    pub fn last(&self) -> Option<u16> {
        self.last
    }
}

/// The status of a `message/sipfrag` (RFC 3420) that begins with a status line.
fn status(body: &[u8]) -> Option<u16> {
    let body = body.get(..MAX_LINE).unwrap_or(body);
    let line = body.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty())?;
    let line = std::str::from_utf8(line).ok().or_else(|| std::str::from_utf8(line.get(..11)?).ok())?;
    let (version, rest) = line.trim_start().split_once(' ')?;
    version.eq_ignore_ascii_case("SIP/2.0").then_some(())?;
    let code = rest.trim_start().split(' ').next()?;
    code.parse().ok().filter(|code| (100..=699).contains(code) && rest.trim_start().as_bytes()[0].is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_headers_of_our_refer() {
        let template = "tel:{to}".parse().unwrap();
        let (refer_to, by) = headers(&template, "+15557654321", "+15558675309", "trunk.example.com");
        assert_eq!((refer_to.as_str(), by.as_str()), ("<tel:+15557654321>", "<sip:+15558675309@trunk.example.com>"));
        let (refer_to, _) = headers(&Template::sip(), "+1555", "+1", "h");
        assert_eq!(refer_to, "<sip:+1555@h>");
    }

    #[test]
    fn a_transfer_in_its_steps() {
        let mut refer = Refer::default();
        assert_eq!(refer.handle_notify(b"SIP/2.0 100 Trying\r\n", Some("active;expires=60")), None);
        assert_eq!(refer.handle_notify(b"SIP/2.0 180 Ringing", Some("active")), None);
        assert!(!refer.is_done());
        assert_eq!(
            refer.handle_notify(b"SIP/2.0 200 OK\r\nX: y\r\n\r\n", Some("terminated;reason=noresource")),
            Some(200)
        );
        assert!(refer.is_done());
        assert_eq!(refer.handle_notify(b"SIP/2.0 503 Later", None), None);
    }

    #[test]
    fn a_subscription_that_ends_without_a_word() {
        let mut refer = Refer::default();
        assert_eq!(refer.handle_notify(b"SIP/2.0 180 Ringing", Some("Terminated ; reason=timeout")), None);
        assert_eq!((refer.is_done(), refer.last()), (true, Some(180)));
    }

    #[test]
    fn bodies_that_say_something_and_bodies_that_do_not() {
        for (body, code) in [
            (&b"SIP/2.0 603 Decline"[..], Some(603)),
            (b"\r\nsip/2.0 486", Some(486)),
            (b"SIP/2.0 404 Nicht gef\xfcnden", Some(404)),
            (b"SIP/2.0 99", None),
            (b"SIP/2.0 700 X", None),
            (b"SIP/2.0 +200 X", None),
            (b"SIP/2.0 ", None),
            (b"HTTP/1.1 200 OK", None),
            (b"INVITE sip:x SIP/2.0", None),
            (b"", None),
            (b"\xff\xff", None),
        ] {
            assert_eq!(status(body), code, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..64), head in any::<bool>()) {
            let body = if head { [b"SIP/2.0 ".to_vec(), body].concat() } else { body };
            let _ = Refer::default().handle_notify(&body, None);
        }
    }
}
