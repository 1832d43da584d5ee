//! The client against the stand-in, through the real loader and the real wrapper; and, where there
//! is a GPU and it is asked for, what may be read from that.
#![allow(clippy::disallowed_methods, reason = "tests talk to the machine")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "the real GPU's table is told")]
#![allow(missing_docs, reason = "tests")]

mod contract;
mod faults;
mod look;
mod real;
mod rules;
mod support;
