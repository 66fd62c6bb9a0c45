//! The MoQT codec against foreign bytes ([`vectors`], [`vectors_of_drafts`]), a foreign codec ([`differential`], and [`older`] and [`older_fetch`] for draft 16) and no sense at all ([`garbage`]), and
//! what forwarding an object costs ([`allocations`]), and a packet of a phone ([`packets`]).

mod allocations;
mod differential;
mod garbage;
mod generate;
mod older;
mod older_fetch;
mod packets;
mod vectors;
mod vectors_of_drafts;
