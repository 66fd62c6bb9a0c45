//! The MoQT codec against foreign bytes ([`vectors`], [`vectors_of_drafts`]), a foreign codec ([`differential`], and [`older`] for draft 16) and no sense at all ([`garbage`]), and
//! what forwarding an object costs ([`allocations`]).

mod allocations;
mod differential;
mod garbage;
mod generate;
mod older;
mod vectors;
mod vectors_of_drafts;
