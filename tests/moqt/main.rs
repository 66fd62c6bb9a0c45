//! The MoQT codec against foreign bytes ([`vectors`]), a foreign codec ([`differential`]) and no sense at all ([`garbage`]), and
//! what forwarding an object costs ([`allocations`]).

mod allocations;
mod differential;
mod garbage;
mod generate;
mod vectors;
