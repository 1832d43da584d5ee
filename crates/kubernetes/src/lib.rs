//! A Kubernetes cluster as wished and as observed: releases of manifests, and work on its nodes that
//! loses nothing that runs.
//!
//! In reading order:
//!
//! - [`ObjectKey`], [`Kind`], [`Scopes`] (`key`): what names objects, and where kinds live.
//! - [`release`]: manifests as data ([`release::read`]), what differs and in which order that is mended
//!   ([`release::plan()`], pure), how objects do ([`release::health()`]), what others added
//!   ([`release::extras`]), and the hand that looks and performs one step at a time
//!   ([`release::Engine`]).
//! - [`node`]: a cluster at a glance ([`node::overview()`]), cordons that know whose they are, drains
//!   that respect disruption budgets, labels and taints as wished, and which versions may stand
//!   side by side ([`node::skew`]); what is decided is pure, and [`node::Nodes`] does it.
//! - [`namespace`]: namespaces with what is around them (quota, limits, who may do what, network) as the
//!   manifests of one release.
//! - [`Overview`]: a cluster in a few numbers, its nodes in groups ([`NodeGroup`]), for whoever keeps a history
//!   of it.
//! - [`kubeadm`], [`podnet`]: what the machines of a cluster are told that is built.
//! - [`access()`], [`Api`]: from a kubeconfig to requests, with limits, attempts and [`Fault`]s.
//! - [`Watches`]: objects followed, so that a look at a cluster at rest costs little. [`Connections`]: one
//!   way to each cluster with one set of watches, for all who have to do with it.
//! - [`grant`]: access for a person for a while, as a kubeconfig with a token that ends.
//! - [`cert`]: when certificates end. [`run`]: programs by argument vector with a time limit.
//!
//! Rules of this crate:
//!
//! - A server that does not answer is no empty cluster: every such answer is an error.
//! - What bears another's mark, or none, is neither changed nor removed unless that was said.
//! - The inventory is written before the first change, so that a crash leaves nothing unknown.
//! - A node that somebody else took out is never given back, and a budget is never gone around.
//! - No value of a Secret and no credential is in an error, a change or a log.
#![forbid(unsafe_code)]

#[expect(clippy::disallowed_methods, reason = "reads the kubeconfig and what it names")]
mod access;
mod api;
pub mod cert;
mod connection;
mod fault;
pub mod grant;
mod group;
mod key;
pub mod kubeadm;
pub mod namespace;
pub mod node;
mod overview;
pub mod podnet;
pub mod release;
#[expect(clippy::disallowed_methods, reason = "starts the programs that it is handed")]
pub mod run;
mod watch;

pub use access::{Access, AccessError, KubeconfigRef, access, leads_to, leads_where};
pub use api::{Api, Apply, Evicted, LIST_MAX, Limits, Resource, Selector};
pub use connection::{Connection, Connections, NoWay};
pub use fault::{Fault, WORDS_MAX, chain};
pub use group::{Named, NodeGroup, NodeUse};
pub use key::{Kind, ObjectKey, Scopes};
pub use overview::{AboutCluster, NodeCounts, NodeProblem, OutNode, Overview, Share, WaitingPod};
pub use watch::{Lens, Pulse, Stock, Watches};

/// The name under which everything is applied (`fieldManager`). It is part of what clusters store: with
/// another name, fields set under this one would be somebody else's.
pub const MANAGER: &str = "trueup";
