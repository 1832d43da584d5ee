//! The integration tests: one binary, one module a subject.
#![allow(clippy::disallowed_methods, reason = "tests talk to the machine")]
#![allow(missing_docs, reason = "tests")]

mod source;
mod support;
