//! The integration tests: one binary, one module a subject.
#![allow(clippy::disallowed_methods, reason = "tests talk to the machine")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stderr, reason = "measured times and skipped tests are told")]
#![allow(missing_docs, reason = "tests")]

mod check;
mod cli;
mod image;
mod source;
mod support;
mod tidy;
mod world;
