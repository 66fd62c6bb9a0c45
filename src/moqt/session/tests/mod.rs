//! Sessions in virtual time: two of them over a simulated link ([`pair`]), or one against bytes we write ourselves ([`lone`]).
#![allow(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

#[allow(dead_code, reason = "each room uses some of it")]
pub(crate) mod pair;

mod codes;
mod control;
mod data;
mod drafts;
mod filled;
mod fuzz;
mod lateness;
mod lone;
mod moving;
mod older;
mod past;
mod requests;
mod sending;
mod smoke;
mod tokens;
mod updates;
