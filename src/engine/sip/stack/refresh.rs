//! Session timers on the wire (RFC 4028): what messages say of them, and the request that refreshes a session. When it is due, and what an
//! answer means, is `sip::SessionTimer`'s.

use rsipstack::sip::headers::make_header;
use rsipstack::sip::{HasHeaders, Header, HeadersExt, StatusCodeKind};

use super::{Heard, Line, Refusal, mend, reply, uas};
use crate::sip::session_timer;

/// What a message says of session timers and of requests that it takes, as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Terms {
    pub(in crate::engine) session_expires: Option<String>,
    pub(in crate::engine) min_se: Option<String>,
    /// Its `Supported` or `Require` names `timer`.
    pub(in crate::engine) supports_timer: bool,
    /// Its `Allow` names UPDATE, and INFO.
    pub(in crate::engine) takes_updates: bool,
    pub(in crate::engine) takes_info: bool,
}

impl Terms {
    pub(super) fn of(message: &impl HeadersExt) -> Self {
        Self {
            session_expires: message.header_value("Session-Expires"),
            min_se: message.header_value("Min-SE"),
            supports_timer: names(message, "Supported", "timer") || names(message, "Require", "timer"),
            takes_updates: names(message, "Allow", "UPDATE"),
            takes_info: names(message, "Allow", "INFO"),
        }
    }

    /// Of an INVITE that asks for less than is taken (RFC 4028 §9). Who knows no timer is not refused.
    pub(in crate::engine) fn refused_below(&self, least_s: u32) -> Option<Refusal> {
        let asked = self.session_expires.as_deref().filter(|_| self.supports_timer)?;
        let refusal = || Refusal { code: 422, headers: vec![("Min-SE".to_owned(), least_s.to_string())] };
        session_timer::is_too_short(asked, least_s).then(refusal)
    }
}

/// Whether one of these headers lists the word.
fn names(message: &impl HasHeaders, header: &str, word: &str) -> bool {
    let of_name = message.headers().iter().filter(|found| found.name().eq_ignore_ascii_case(header));
    of_name.flat_map(|found| found.value().split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
}

/// Of a request of ours (§7.1): that we know timers, and which we ask for.
pub(super) fn asked(timer: Option<&(String, String)>) -> Vec<Header> {
    let supported = Header::Supported("timer".into());
    let asked = timer.iter().flat_map(|(session_expires, min_se)| {
        [make_header("Session-Expires", session_expires.clone()), make_header("Min-SE", min_se.clone())]
    });
    [supported].into_iter().chain(asked).collect()
}

/// Of a 2xx of ours (§9). Where the far side refreshes, it has to know how.
pub(super) fn agreed(session_expires: Option<String>) -> Vec<Header> {
    let mut headers = vec![Header::Supported("timer".into())];
    if let Some(session_expires) = session_expires {
        if session_expires.ends_with("refresher=uac") {
            headers.push(Header::Require("timer".into()));
        }
        headers.push(make_header("Session-Expires", session_expires));
    }
    headers
}

impl Line {
    /// An UPDATE without a description; with one, a re-INVITE. What comes of it is [`Heard::Refreshed`].
    pub(in crate::engine::sip) fn refresh(&self, body: Option<String>, timer: Option<(String, String)>) {
        let (dialog, way, heard) = (self.dialog.clone(), self.way.clone(), self.heard.clone());
        let mut headers = asked(timer.as_ref());
        tokio::spawn(async move {
            let answered = match body {
                _ if !way.is_fit(&dialog) => Ok(None),
                Some(body) => {
                    headers.push(Header::ContentType("application/sdp".into()));
                    dialog.reinvite(Some(headers), Some(body.into_bytes())).await
                }
                None => dialog.update(Some(headers), None).await,
            };
            // What the crate says by itself nobody answered.
            let said = answered.ok().flatten().filter(|response| !mend::is_made_up(response));
            if let Some(accepted) =
                said.as_ref().filter(|response| response.status_code.kind() == StatusCodeKind::Successful)
            {
                uas::retarget(&dialog, accepted);
            }
            // A call that nobody follows any more is over.
            let _ = heard.send(Heard::Refreshed(said.as_ref().map(reply)));
        });
    }
}
