//! A question for SRV records (RFC 2782) as a name server reads it, and what it answers (RFC 1035 §4). The bytes are `domain`'s, which is
//! named here alone; what is believed of them is decided here.
//!
//! An answer counts if it has the question's number, name and type. Of an alias (CNAME) the records of its canonical name count, as far as
//! the answer has them. A target that is no name of a host is passed over. No input panics; of any a bounded part is kept.

use std::time::Duration;

use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::{Message, MessageBuilder, Name, Rtype, ToName};
use domain::rdata::{Cname, Soa, Srv};

use super::srv::{MOST_RECORDS, Record, Service};

/// How long it is believed that there are no records where the answer does not say it (RFC 2308 §5).
const UNSAID: Duration = Duration::from_secs(60);

/// Why an answer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It answers something else, or is no answer: the right one may still come.
    Foreign,
    /// It was cut: all of it comes by TCP (RFC 7766 §5).
    Truncated,
    /// The server can't say, or will not.
    Refused,
}

/// `None`: this is no name that could be asked for. Without EDNS: what is longer than 512 bytes comes by TCP.
pub fn question(name: &str, id: u16) -> Option<Vec<u8>> {
    let name: Name<Vec<u8>> = name.parse().ok()?;
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(id);
    message.header_mut().set_rd(true);
    let mut message = message.question();
    message.push((&name, Rtype::SRV)).ok()?;
    Some(message.finish())
}

/// What it says of the service, and for how long.
pub fn read(bytes: &[u8], name: &str, id: u16) -> Result<(Service, Duration), Unread> {
    let message = Message::from_slice(bytes).map_err(|_| Unread::Foreign)?;
    let header = message.header();
    let asked: Name<Vec<u8>> = name.parse().map_err(|_| Unread::Foreign)?;
    let is_ours = header.qr()
        && (header.id(), header.opcode()) == (id, Opcode::QUERY)
        && message.sole_question().is_ok_and(|question| {
            (question.qtype(), question.qclass()) == (Rtype::SRV, Class::IN) && question.qname().name_eq(&asked)
        });
    match header.rcode() {
        _ if !is_ours => Err(Unread::Foreign),
        _ if header.tc() => Err(Unread::Truncated),
        Rcode::NOERROR => records(message).ok_or(Unread::Refused),
        Rcode::NXDOMAIN => Ok((Service::Unsaid, unsaid_for(message))),
        _ => Err(Unread::Refused),
    }
}

/// `None`: it can't be read to its end.
fn records(message: &Message<[u8]>) -> Option<(Service, Duration)> {
    let (canonical, answer) = (message.canonical_name()?, message.answer().ok()?);
    let aliases = answer.limit_to_in::<Cname<_>>().map(|alias| alias.map(|alias| alias.ttl().into_duration()));
    let mut lifetime = aliases.take(MOST_RECORDS).collect::<Result<Vec<_>, _>>().ok()?.into_iter().min();
    let (mut places, mut is_refused) = (Vec::new(), false);
    for record in answer.limit_to_in::<Srv<_>>() {
        let record = record.ok()?;
        if !record.owner().name_eq(&canonical) {
            continue;
        }
        let (lives, srv) = (record.ttl().into_duration(), record.data());
        lifetime = Some(lifetime.map_or(lives, |least| least.min(lives)));
        is_refused |= srv.target().is_root();
        let target = srv.target().to_string();
        if is_host(&target) && srv.port() != 0 {
            places.push(Record { priority: srv.priority(), weight: srv.weight(), port: srv.port(), target });
        }
    }
    // As many as a message holds were read; those that would be tried first are kept.
    places.sort_by_key(|record| record.priority);
    places.truncate(MOST_RECORDS);
    Some(match (places.is_empty(), is_refused) {
        (false, _) => (Service::At(places), lifetime?),
        (true, true) => (Service::NotOffered, lifetime?),
        (true, false) => (Service::Unsaid, unsaid_for(message)),
    })
}

/// How long nothing goes on to be there: the zone says it (RFC 2308 §5).
fn unsaid_for(message: &Message<[u8]>) -> Duration {
    let zone = message.authority().ok().and_then(|section| section.limit_to_in::<Soa<_>>().next()?.ok());
    zone.map_or(UNSAID, |zone| zone.ttl().into_duration().min(zone.data().minimum().into_duration()))
}

/// Letters, digits, `-` and `_`, in parts that are not empty: what stands in logs and answers of ours without harm.
fn is_host(name: &str) -> bool {
    let fits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    name.split('.').all(fits)
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
