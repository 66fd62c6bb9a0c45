//! The pool in virtual time, against the relay's core and against peers played by the test.

mod churn;
mod flow;
mod foreign;
mod goaway;
mod outage;
mod refusals;
mod sent_away;
mod shared;
mod storm;
mod weather;
mod world;
