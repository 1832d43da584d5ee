//! trueup keeps one machine true to a Git repository.
//!
//! Reading order: [`model`] names things; [`spec`] turns text into desired state; [`plan`] compares
//! it with what was observed; [`policy`] asks rules about both; [`event`] is what gets written down;
//! [`state`] is the fold of that; [`view`] answers questions about it; [`port`] is the seam; the shell
//! around it talks to the world: [`journal`], [`source`], [`provider`], [`forge`], [`reconcile`],
//! [`preflight`], which looks at a host before all that, and [`cli`], which wires it all.

#[allow(clippy::disallowed_methods, reason = "the shell: talks to the host")]
pub mod cli;
#[allow(clippy::disallowed_methods, reason = "the shell: talks to the host")]
pub mod config;
pub mod event;
#[allow(clippy::disallowed_methods, reason = "the shell: talks to the host")]
pub mod forge;
#[allow(clippy::disallowed_methods, reason = "the shell: talks to the host")]
pub mod journal;
pub mod model;
pub mod plan;
pub mod policy;
pub mod port;
#[allow(clippy::disallowed_methods, reason = "the shell: talks to the host")]
pub mod preflight;
#[allow(clippy::disallowed_methods, reason = "the shell: reads the host's files")]
pub mod private;
#[allow(clippy::disallowed_methods, reason = "the shell: talks to the host")]
pub mod provider;
#[allow(clippy::disallowed_methods, reason = "the shell: talks to the host")]
pub mod reconcile;
#[allow(clippy::disallowed_methods, reason = "the shell: talks to the host")]
pub mod source;
pub mod spec;
pub mod state;
#[allow(clippy::disallowed_methods, reason = "the shell: talks to the host")]
pub mod telemetry;
pub mod view;
