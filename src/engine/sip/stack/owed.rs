//! Requests of ours that went over a connection and that nobody has answered by a word. The crate sends a request once over TCP and
//! TLS, and learns of a connection that breaks behind it by the silence of 64·T1: here it is told at once (RFC 3261 §18.4).
//!
//! A far side that closes its connection in order may still answer over another one (§18.2.2), so only what broke is told. How many are
//! remembered is bounded: of one that is forgotten nobody is told before its 64·T1 are over, as without all of this.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rsipstack::sip::{Method, Request, Response};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transport::SipAddr;

/// Of one more that waits for a word the oldest is forgotten. A far side that says no word has some 100 calls a second in 64·T1.
const MOST: usize = 4096;
/// 64·T1: nobody waits longer for a first word.
const LIFE: Duration = Duration::from_secs(32);

#[derive(Default)]
pub(super) struct Owed(Mutex<Requests>);

#[derive(Default)]
struct Requests {
    asked: HashMap<TransactionKey, Asked>,
    /// When those that are over were looked for last.
    swept: Option<Instant>,
}

struct Asked {
    request: Request,
    to: SipAddr,
    at: Instant,
}

impl Owed {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is about to be sent there. ACK and CANCEL are of other transactions. `false`: another one was forgotten for it.
    pub(super) fn note(&self, request: &Request, to: &SipAddr, now: Instant) -> bool {
        if matches!(request.method, Method::Ack | Method::Cancel) {
            return true;
        }
        let Ok(key) = TransactionKey::from_request(request, TransactionRole::Client) else { return true };
        let mut requests = self.requests();
        let has_room = requests.make_room(now);
        let request = Request { body: Vec::new(), ..request.clone() };
        requests.asked.insert(key, Asked { request, to: to.clone(), at: now });
        has_room
    }

    pub(super) fn answered(&self, response: &Response) {
        if let Ok(key) = TransactionKey::from_response(response, TransactionRole::Client) {
            self.requests().asked.remove(&key);
        }
    }

    /// What went there is lost.
    pub(super) fn take(&self, to: &SipAddr) -> Vec<(TransactionKey, Request)> {
        let lost = self.requests().asked.extract_if(|_, asked| asked.to == *to).collect::<Vec<_>>();
        lost.into_iter().map(|(key, asked)| (key, asked.request)).collect()
    }
}

impl Requests {
    fn make_room(&mut self, now: Instant) -> bool {
        let age = |at: Instant| now.saturating_duration_since(at);
        if self.swept.is_none_or(|swept| age(swept) >= LIFE) {
            self.asked.retain(|_, asked| age(asked.at) < LIFE);
            self.swept = Some(now);
        }
        if self.asked.len() < MOST {
            return true;
        }
        let oldest = self.asked.iter().min_by_key(|(_, asked)| asked.at).map(|(key, asked)| (key.clone(), asked.at));
        let Some((key, at)) = oldest else { return true };
        self.asked.remove(&key);
        age(at) >= LIFE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, nth: usize) -> Request {
        let text = format!(
            "{method} sip:1@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK{nth}\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:1@h>\r\n\
             Call-ID: {nth}\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        Request::try_from(text.as_bytes()).unwrap()
    }

    fn place(port: u16) -> SipAddr {
        SipAddr {
            r#type: Some(rsipstack::sip::Transport::Tcp),
            addr: std::net::SocketAddr::from(([127, 0, 0, 1], port)).into(),
        }
    }

    fn call_ids(lost: &[(TransactionKey, Request)]) -> Vec<usize> {
        use rsipstack::sip::HeadersExt as _;
        let mut ids: Vec<usize> =
            lost.iter().map(|(_, request)| request.call_id_header().unwrap().value().parse().unwrap()).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn what_is_owed_is_bounded_by_a_number() {
        let (owed, start) = (Owed::default(), Instant::now());
        let at = |nth: usize| start + Duration::from_millis(nth as u64);
        for nth in 0..MOST {
            assert!(owed.note(&request("INVITE", nth), &place(1), at(nth)), "{nth}");
        }
        for nth in MOST..MOST + 3 {
            assert!(!owed.note(&request("INVITE", nth), &place(2), at(nth)), "the oldest is forgotten: {nth}");
        }
        assert_eq!(owed.requests().asked.len(), MOST);
        assert!(owed.note(&request("ACK", MOST + 3), &place(2), at(MOST + 3)), "nobody owes a word for it");
        assert_eq!(call_ids(&owed.take(&place(1))), (3..MOST).collect::<Vec<_>>());
        assert_eq!(call_ids(&owed.take(&place(2))), [MOST, MOST + 1, MOST + 2]);
    }

    #[test]
    fn what_nobody_waits_for_any_more_takes_no_room() {
        let (owed, start) = (Owed::default(), Instant::now());
        for nth in 0..MOST {
            owed.note(&request("OPTIONS", nth), &place(1), start);
        }
        assert!(owed.note(&request("OPTIONS", MOST), &place(1), start + LIFE), "it was over");
        assert_eq!(call_ids(&owed.take(&place(1))), [MOST]);
    }
}
