//! A Slurm cluster as wished and as observed: its files, what a change of them needs, and a way to
//! change nodes one after another without losing a job.
//!
//! In reading order:
//!
//! - [`Release`], [`Shape`] (`release`): which Slurm answers, and whether its ways were tried.
//! - [`hostlist`], [`conf`]: Slurm's own spellings, read and written.
//! - [`wish`]: what somebody wants, and what is wrong with it; [`render()`] makes the files of it.
//! - [`observe`]: what is there: versioned parsers, and the two ways to ask ([`observe::Observer`]).
//! - [`plan`]: pure: what differs, what that needs ([`plan::config`]), in which order nodes are
//!   changed ([`plan::roll`]), and what is written to the accounts ([`plan::accounts`]).
//! - [`Prover`]: a candidate configuration, tried by a controller of its own before it is written.
//! - [`switch()`]: the live files exchanged, and put back where the controller does not come up.
//! - [`Control`]: what is decided, done by Slurm's own programs.
//! - [`Database`]: what MariaDB and slurmdbd are set up with, and a cluster made known to them.
//! - [`Firewall`]: what the machines of a cluster accept, as rules of nftables.
//! - [`adopt()`]: a wish made of the files of a cluster that is there.
//! - [`overview()`]: a cluster at a glance, its nodes in groups ([`NodeGroup`]).
//! - [`Machine`]: where the controller is: [`Here`], or a machine that is reached in another way.
//! - [`run`]: programs by argument vector with a time limit.
//!
//! Rules of this crate:
//!
//! - A controller that does not answer is no empty cluster: every such answer is an error.
//! - A release that nobody tried is said to be unknown, never taken for another.
//! - Nodes that were taken out under another reason than ours are never given back.
//! - The live files are touched by [`switch()`] alone, and only with what a [`Prover`] let through.
//! - What a candidate names, programs and files, is what the host names or allows ([`Allowed`]).
//! - No secret: neither the munge key nor a password is ever read or written here.
#![forbid(unsafe_code)]

mod adopt;
pub mod conf;
#[expect(
    clippy::disallowed_methods,
    reason = "waits for a controller that tells nobody when it is up"
)]
mod control;
#[expect(
    clippy::disallowed_methods,
    reason = "waits for slurmdbd, which tells nobody when it is up"
)]
mod database;
mod firewall;
mod group;
pub mod hostlist;
#[expect(
    clippy::disallowed_methods,
    reason = "reads and writes files, and watches a daemon on trial"
)]
mod machine;
pub mod observe;
mod paths;
pub mod plan;
mod prove;
mod release;
mod render;
mod resources;
#[expect(clippy::disallowed_methods, reason = "starts the programs of Slurm")]
pub mod run;
mod switch;
mod view;
pub mod wish;

pub use adopt::{Adopted, Unadoptable, adopt};
pub use control::{Control, ControlError};
pub use database::{Database, DatabaseError};
pub use firewall::{Firewall, Opening, Protocol, network, port_range};
pub use group::{NodeGroup, NodeUse};
pub use machine::{Heard, HeardEnd, Here, Machine, TRIAL_FOLDER, Trial};
pub use paths::Allowed;
pub use prove::{Proof, ProveError, Prover, Refused};
pub use release::{NoRelease, Release, Shape};
pub use render::{Files, Unsound, render};
pub use switch::{Controller, Live, SwitchError, Switched, is_cut_off, recover, switch};
pub use view::{Load, NodeCounts, Out, Overview, Queue, Share, overview};

#[cfg(test)]
mod sample;
