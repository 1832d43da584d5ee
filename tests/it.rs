//! The one integration-test binary.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read fixtures, and a panic is their way to fail"
)]

mod check;
