//! The one integration-test binary.
#![allow(clippy::disallowed_methods, reason = "tests read fixtures")]

mod check;
