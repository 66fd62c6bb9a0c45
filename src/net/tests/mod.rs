//! Workers over loopback, each on a thread of its own, driven by events. Every wait has an upper limit of its own.

mod busy;
mod ends;
mod foreign;
mod lossy;
mod node;
mod order;
mod paths;
mod sessions;
mod watch;
