//! The engine as a stranger sees it: HTTP over loopback, with the simulated phone at the other end.

mod abuse;
mod answers;
mod bridges;
mod calls;
mod common;
mod disks;
mod elsewhere;
mod events;
mod keys;
mod kills;
mod limits;
mod openapi;
mod restarts;
mod schema;
mod secrets;
mod soak;
mod tls;
mod vendor;
