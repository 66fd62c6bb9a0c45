//! The MoQT codec against foreign bytes ([`vectors`]) and a foreign codec ([`differential`]), and what forwarding an object
//! costs ([`allocations`]).

mod allocations;
mod differential;
mod generate;
mod vectors;
