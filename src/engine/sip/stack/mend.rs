//! What is put right in messages between the wire and the crate, which reads and writes some of them otherwise than the RFCs.
//!
//! - Challenges and proofs have other words for it (`digests`), and what it has proved once has to be proved again (`proofs`).
//! - It takes the first `<` of From and To for the begin of their URI, inside of a display name too: such names are left out.
//! - It ends a dialog in which a challenge can't be answered: in a call that is up such a challenge is a refusal (RFC 5057 §5.1).
//! - A datagram without Content-Length has no body for it (RFC 3261 §18.3 takes it to the end of the datagram): it is written in.
//! - A 2xx to an INVITE is an answer for it only if it is a 200 with a Contact.
//! - Its refusals name a Contact, which in a 3xx is a place to go on to (RFC 3261 §8.1.3.4): ours name none. A 488 is to say
//!   why (§13.3.1.3), which it leaves to us.
//! - A Route of ours tells it alone where a call goes, and those of far sides have names for it (`route`): no far side sees that.
//! - Answers that it makes itself, for a timer or a broken connection, look like the far side's: they are marked.

use std::sync::Arc;

use rsipstack::sip::{
    HasHeaders as _, Header, HeadersExt, Method, Request, Response, SipMessage, StatusCode, StatusCodeKind,
};
use rsipstack::transaction::endpoint::MessageInspector;
use rsipstack::transport::SipAddr;

use super::connections::Connections;
use super::proofs::{Asked, Challenges};
use super::route::{self, PLACE};
use super::{Calls, digests, users};
use crate::sip::reliable::OPTION;
use crate::sip::uri::plainly_named;

/// Of a 488.
const WARNING: &str = "305 clutchcall \"Incompatible media format\"";
/// Stands in answers that no far side sent.
const MARK: &str = "X-No-Answer";
/// Stands in refusals that were challenges: the code that was sent.
const CHALLENGED: &str = "X-Challenged";

pub(super) struct Mend {
    pub(super) calls: Arc<Calls>,
    /// Who is told what is asked over one of them.
    pub(super) connections: Arc<Connections>,
}

impl Mend {
    /// What proves who we are is noted; what others have asked for before stands beside it.
    fn prove(&self, request: &mut Request) {
        let (Some(challenges), Ok(number)) =
            (self.challenges(&*request), request.cseq_header().and_then(|cseq| cseq.seq()))
        else {
            return;
        };
        let own = request.headers.iter().find_map(digests::proof_of);
        // Nobody challenges a CANCEL, or the ACK of a refusal (RFC 3261 §22.1).
        match request.method {
            Method::Cancel => return,
            Method::Ack if own.is_none() && self.call(&*request).is_none_or(|call| !call.is_up()) => return,
            _ => {}
        }
        let (method, uri) = (request.method.to_string(), request.uri.to_string());
        let shows = challenges.show(Asked { number, method: &method, uri: &uri }, own);
        request.headers.retain(|header| digests::proof_of(header).is_none());
        request.headers.0.extend(shows.into_iter().map(|(party, proof)| match party.is_proxy() {
            true => Header::ProxyAuthorization(proof.into()),
            false => Header::Authorization(proof.into()),
        }));
    }

    /// A challenge that is to be answered is called stale, so that the crate answers it as it does its first one. In a call that is up one
    /// that is not is a refusal.
    fn judge(&self, response: &mut Response) {
        let asks = response.headers.iter().find_map(digests::asks);
        let number = response.cseq_header().and_then(|cseq| cseq.seq());
        let is_answered = match (self.challenges(&*response), asks, number) {
            (Some(challenges), Some((party, is_stale)), Ok(number)) => challenges.may_answer(number, &party, is_stale),
            _ => false,
        };
        if is_answered {
            digests::call_it_stale(response);
        } else if self.call(&*response).is_some_and(|call| call.is_up()) {
            refuse(response);
        }
    }

    /// What is known of whom a request of ours, or its answer, belongs to.
    fn challenges(&self, message: &impl HeadersExt) -> Option<Arc<Challenges>> {
        let of_call = self.call(message).map(|call| call.challenges);
        of_call.or_else(|| self.calls.challenges(message.call_id_header().ok()?.value()))
    }

    /// Where a 2xx names no Contact the far end is where it was (RFC 3261 §12.2.1.2); of a new call, where the answer came from.
    fn mend(&self, response: &mut Response, from: &SipAddr) {
        let is_of_invite =
            response.cseq_header().and_then(|cseq| cseq.method()).is_ok_and(|method| method == Method::Invite);
        if !is_of_invite || response.status_code.kind() != StatusCodeKind::Successful {
            return;
        }
        response.status_code = StatusCode::OK;
        if !response.typed_contact_headers().is_ok_and(|contacts| !contacts.is_empty()) {
            let known = self.call(&*response).filter(|call| call.is_up()).map(|call| call.dialog.snapshot().remote_uri);
            let contact = known.map_or_else(|| format!("<sip:{}>", from.addr), users::contact);
            response.headers.retain(|header| !matches!(header, Header::Contact(_)));
            response.headers.push(Header::Contact(contact.into()));
        }
    }

    /// Whose dialog a request of ours, or its answer, belongs to.
    fn call(&self, message: &impl HeadersExt) -> Option<super::Call> {
        let tag = message.from_header().ok()?.tag().ok()??;
        self.calls.find(message.call_id_header().ok()?.value(), tag.value())
    }
}

impl MessageInspector for Mend {
    fn before_send(&self, message: SipMessage, to: Option<&SipAddr>) -> SipMessage {
        let mut request = match message {
            SipMessage::Request(request) => request,
            SipMessage::Response(mut response) => {
                if response.status_code.code() >= 300 {
                    response.headers.retain(|header| !matches!(header, Header::Contact(_)));
                }
                if response.status_code == StatusCode::NotAcceptableHere {
                    response.headers.unique_push(Header::Warning(WARNING.into()));
                }
                route::name_no_more(&mut response.headers);
                return SipMessage::Response(response);
            }
        };
        request.headers.retain(|header| !matches!(header, Header::Route(value) if value.value().contains(PLACE)));
        if request.method == Method::PRack
            && let Some(call) = self.call(&request).filter(|call| !call.is_up())
        {
            call.aim.give(&mut request);
        }
        route::name_no_more(&mut request.headers);
        let to = to.map(|to| self.connections.place(to));
        if let Some(to) = to.filter(route::is_stream) {
            let call = self.call(&request).filter(|call| request.method == Method::Invite && !call.is_up());
            self.connections.sends(&request, &to, call.as_ref().map(|call| &call.flow));
        }
        for header in request.headers_mut().iter_mut() {
            match header {
                Header::Authorization(value) => *value = digests::answer(value.value()).into(),
                Header::ProxyAuthorization(value) => *value = digests::answer(value.value()).into(),
                _ => {}
            }
        }
        users::show(&mut request.uri);
        self.prove(&mut request);
        SipMessage::Request(request)
    }

    fn after_received(&self, message: SipMessage, from: Option<&SipAddr>) -> SipMessage {
        let SipMessage::Response(mut response) = message else { return message };
        let is_ours = |name: &str| [MARK, CHALLENGED].iter().any(|mark| name.eq_ignore_ascii_case(mark));
        response.headers.retain(|header| !matches!(header, Header::Other(name, _) if is_ours(name)));
        if from.is_some() {
            self.connections.owed.answered(&response);
        }
        match from {
            None => mark(&mut response),
            Some(_) if is_challenge(&response) => {
                digests::choose(&mut response);
                self.judge(&mut response);
            }
            Some(from) => {
                let is_reliable =
                    response.status_code.code() < 200 && response.header_contains_token("Require", OPTION);
                if is_reliable && let Some(call) = self.call(&response).filter(|call| !call.is_up()) {
                    call.aim.take(call.dialog, &response);
                }
                self.mend(&mut response, from);
            }
        }
        SipMessage::Response(response)
    }
}

/// Leaves out display names that would mislead; others stay as they are. Before the crate looks for the transaction, which has the tag in
/// its name.
pub(super) fn name_plainly(message: &mut SipMessage) {
    let SipMessage::Request(request) = message else { return };
    for header in &mut request.headers.0 {
        match header {
            Header::From(value) => *value = plainly_named(value.value()).to_owned().into(),
            Header::To(value) => *value = plainly_named(value.value()).to_owned().into(),
            _ => {}
        }
    }
}

/// Nobody but we and the crate said this.
pub(super) fn mark(response: &mut Response) {
    response.headers.push(Header::Other(MARK.to_owned(), "1".to_owned()));
}

/// The same.
pub(super) fn is_made_up(response: &Response) -> bool {
    response.headers.iter().any(|header| matches!(header, Header::Other(name, _) if name == MARK))
}

fn is_challenge(response: &Response) -> bool {
    matches!(response.status_code, StatusCode::Unauthorized | StatusCode::ProxyAuthenticationRequired)
}

fn refuse(response: &mut Response) {
    response.headers.push(Header::Other(CHALLENGED.to_owned(), response.status_code.code().to_string()));
    response.status_code = StatusCode::Forbidden;
}

/// As it was sent.
pub(super) fn code(response: &Response) -> u16 {
    let challenged = response.headers.iter().find_map(|header| match header {
        Header::Other(name, value) if name == CHALLENGED => value.parse().ok(),
        _ => None,
    });
    challenged.unwrap_or(response.status_code.code())
}

/// A datagram with its Content-Length written in, if it has none and there is room: its new length.
pub(super) fn measured(datagram: &mut [u8], length: usize) -> usize {
    const END: &[u8] = b"\r\n\r\n";
    let Some(head) = datagram[..length].windows(END.len()).position(|bytes| bytes == END) else { return length };
    let body = length - head - END.len();
    let header = format!("\r\nContent-Length: {body}");
    let longer = length + header.len();
    if body == 0 || longer > datagram.len() || says_length(&datagram[..head]) {
        return length;
    }
    datagram.copy_within(head..length, head + header.len());
    datagram[head..head + header.len()].copy_from_slice(header.as_bytes());
    longer
}

fn says_length(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').any(|line| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii_end();
        name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l")
    })
}

/// For `crate::fuzz`.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn fuzz(data: &[u8]) {
    let mut datagram = [data, &[0; 64]].concat();
    let length = measured(&mut datagram, data.len());
    assert_eq!(measured(&mut datagram, length), length, "it says how long it is");
    assert!(length > data.len() || datagram[..length] == *data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_without_a_length_goes_to_its_end() {
        let read = |text: &str, room: usize| {
            let mut datagram = text.as_bytes().to_vec();
            datagram.resize(text.len() + room, 0);
            let length = measured(&mut datagram, text.len());
            String::from_utf8(datagram[..length].to_vec()).unwrap()
        };
        let bare = "SIP/2.0 200 OK\r\nVia: x\r\n\r\nv=0\r\n\r\n";
        assert_eq!(read(bare, 100), "SIP/2.0 200 OK\r\nVia: x\r\nContent-Length: 7\r\n\r\nv=0\r\n\r\n");
        for (text, room) in [
            (bare, 0),
            ("A\r\nContent-Length: 1\r\n\r\nv=0", 100),
            ("A\r\nl : 1\r\n\r\nv=0", 100),
            ("A\r\nVia: x\r\n\r\n", 100),
            ("\r\n\r\n", 100),
            ("A", 100),
            ("", 100),
        ] {
            assert_eq!(read(text, room), text);
        }
    }
}
