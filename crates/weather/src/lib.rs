//! Bad weather for UDP: a proxy between clients and one server that delays, loses, reorders, doubles, throttles and cuts.
//!
//! Test equipment, built once for Rust tests (this library) and Python tests and benches (the program `weather`, which does
//! what the lines of its standard input say). It exists because `netem` is not in every kernel, and because a seed makes
//! a run repeatable: the fate of the n-th datagram of a direction depends on the seed and on n.
//!
//! | File | Holds |
//! |---|---|
//! | `climate` | [`Climate`]: what one direction does to datagrams, and how that is written |
//! | `sky` | [`Sky`]: the brain of one direction, in virtual time, without sockets |
//! | `random` | the seeded generator |
//! | `flows` | a socket towards the server for each client's address |
//! | `proxy` | [`Proxy`]: one thread, one port for the clients, both skies; cut, healed, moved and counted from outside |
//!
//! It never looks into a datagram, and nothing here is part of the product.

mod climate;
mod flows;
mod proxy;
mod random;
mod sky;
#[cfg(test)]
mod tests;

pub use climate::{Climate, Loss};
pub use proxy::{Counts, Direction, Proxy};
pub use sky::{Sky, Tally};
