//! `port`: the traits between deciding and doing.
//!
//! It holds no implementation but plain data. Everything that crosses a port can be serialised, so
//! that the hand that performs may one day live in a process of its own.

mod provider;

pub use provider::{BoxFuture, Outcome, Progress, ProgressUpdate, Provider, Scope};
