//! What holds against an API server: a fake one in every run, and a real one where
//! `TRUEUP_TEST_KUBECONFIG` names it (`make test-kube`). Both have to pass the same contract.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests write files, wait for servers, say what they skip, and fail where they cannot"
)]

mod access;
mod away;
mod contract;
mod faults;
mod kinds;
mod lab;
mod nodes;
mod rest;
