//! Users in Contacts and Record-Routes of the far side, from which our requests to it have their URI and their way (RFC 3261 §12.1). The crate
//! takes the first semicolon of a URI for the end of its host, in a user too (RFC 4904 has trunk groups there), so that nothing of ours would
//! find its way; and it escapes the percent sign of what is escaped already. Letters that no URI has stand for both while it reads, and are put
//! back on the way out. Those of Record-Routes are `route`'s to hide and to show.

use rsipstack::sip::{Header, HeadersExt as _, Method, SipMessage, Uri};

use crate::sip::uri::unescaped;

const SEMICOLON: char = '\u{1}';
const PERCENT: char = '\u{2}';

/// In a message as it came, but for those whose Contacts are texts to us alone: bindings, and where a call is sent on to.
pub(super) fn hide(message: &mut SipMessage) {
    let headers = match message {
        SipMessage::Request(request) => &mut request.headers,
        SipMessage::Response(response) => {
            let method = response.cseq_header().and_then(|cseq| cseq.method());
            if response.status_code.code() >= 300 || method.is_ok_and(|method| method == Method::Register) {
                return;
            }
            &mut response.headers
        }
    };
    for header in &mut headers.0 {
        if let Header::Contact(value) = header {
            *value = hidden(value.value()).into();
        }
    }
}

/// Of a list of Contacts or Routes.
pub(super) fn hidden(list: &str) -> String {
    let mut hidden = String::with_capacity(list.len());
    for part in list.split_inclusive('<') {
        let end = part.find('>').unwrap_or(part.len());
        let (user, rest) = part.split_at(part[..end].find('@').unwrap_or(0));
        hidden.extend(user.chars().map(|letter| match letter {
            ';' => SEMICOLON,
            '%' => PERCENT,
            letter => letter,
        }));
        hidden.push_str(rest);
    }
    hidden
}

/// In a request of ours. The crate escapes what has to be when it writes.
pub(super) fn show(uri: &mut Uri) {
    if let Some(auth) = uri.auth.as_mut().filter(|auth| auth.user.contains([SEMICOLON, PERCENT])) {
        let user = shown(&auth.user);
        auth.user = unescaped(&user).unwrap_or(user);
    }
}

/// As the far side wrote it. The crate copies a list, or writes it anew, with each of the two letters escaped.
pub(super) fn shown(text: &str) -> String {
    text.replace("%01", ";").replace("%02", "%").replace(SEMICOLON, ";").replace(PERCENT, "%")
}

/// A Contact that the crate reads as this again.
pub(super) fn contact(mut uri: Uri) -> String {
    let user = uri.auth.take().map(|auth| auth.user + "@").unwrap_or_default();
    let text = uri.to_string();
    let (scheme, rest) = text.split_once(':').unwrap_or(("sip", &text));
    format!("<{scheme}:{user}{rest}>")
}

/// For `crate::fuzz`: what is hidden can be shown again, as it was.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn fuzz(data: &[u8]) {
    let Ok(list) = std::str::from_utf8(data) else { return };
    // Escapes of the two letters are taken for the crate's.
    if !list.contains([SEMICOLON, PERCENT]) && !list.contains("%01") && !list.contains("%02") {
        assert_eq!(shown(&hidden(list)), list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the crate reads it, and as it stands in a request of ours; read once more between the two.
    fn target(text: &str) -> (String, String) {
        let read = |contact: &str| {
            let uri = contact.split_once('<').map_or(contact, |(_, rest)| rest.split_once('>').unwrap().0);
            Uri::try_from(uri).unwrap()
        };
        let mut uri = read(&contact(read(&hidden(text))));
        show(&mut uri);
        (uri.host_with_port.to_string(), uri.to_string())
    }

    #[test]
    fn a_users_letters_stay_its_own() {
        for (text, host, expected) in [
            ("<sip:+1;tgrp=a;trunk-context=b@h:5080;lr>", "h:5080", "sip:+1;tgrp=a;trunk-context=b@h:5080;lr"),
            ("\"A;B\" <sip:1;x@h>;expires=5", "h", "sip:1;x@h"),
            ("<sip:%23123@h>", "h", "sip:%23123@h"),
            ("<sip:a%40b%3ac@10.0.0.1>", "10.0.0.1", "sip:a%40b%3Ac@10.0.0.1"),
            ("sip:1;phone-context=+1@h", "h", "sip:1;phone-context=+1@h"),
            ("<sip:far@h;transport=tcp>", "h", "sip:far@h;transport=tcp"),
            ("<sip:h:5070;lr>", "h:5070", "sip:h:5070;lr"),
            ("<sips:far@[::1]:5061>", "[::1]:5061", "sips:far@[::1]:5061"),
        ] {
            let (at, said) = target(text);
            assert_eq!((&*at, said.to_lowercase()), (host, expected.to_lowercase()), "{text}");
        }
    }

    #[test]
    fn a_list_is_shown_as_it_was_however_the_crate_writes_it() {
        for list in ["<sip:p;x=%3a@h;lr>, \"a;b\" <sip:q@h;lr>", "<sip:%01%02;%25@h>", "<sip:h;y=1>"] {
            let hidden = hidden(list);
            assert_eq!(shown(&hidden), list);
            assert_eq!(shown(&hidden.replace(SEMICOLON, "%01").replace(PERCENT, "%02")), list);
        }
    }

    #[test]
    fn what_has_no_user_is_left_alone() {
        for text in ["*", "", "<sip:h;x=%41>;q=1;y=%", "<sip:a@h;x=%41>, <sip:h;a=%;b=c>"] {
            assert_eq!(hidden(text), text);
        }
    }
}
