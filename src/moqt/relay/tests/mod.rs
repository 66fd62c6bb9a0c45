//! The relay in virtual time: a core, and as many pairs of sessions as a test wants ([`world`]).
#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

mod world;

mod abroad;
mod cache;
mod drain;
mod edges;
mod ends;
mod errands;
mod forward;
mod history;
mod join;
mod limits;
mod malformed;
mod offers;
mod publishers;
mod returns;
mod rights;
mod slow;
mod steer;
mod subscribers;
mod takeover;
mod tokens;
mod updates;
