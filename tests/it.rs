//! The whole program from outside, one folder a subject.

#![allow(clippy::disallowed_methods, reason = "tests talk to the host")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a child process tells its parent")]

mod journal;
