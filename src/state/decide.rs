//! What an operator asks for, and whether it can be granted.
//!
//! Deciding never acts: it gives the events to append, or the reason for a refusal.

use jiff::Timestamp;
use trueup_kubernetes::grant::SECONDS_MIN;
use trueup_kubernetes::namespace::Role;

use crate::event::body::{
    AccessGiven, AccessTaken, BackupAsked, BackupCancelled, DrillAsked, NodeDrained, NodeResumed,
    OperatorHeld, OperatorPaused, OperatorReleased, PlanApproved, Resumed, RewriteAccepted,
};
use crate::event::{Entry, Event};
use crate::model::resource::Cluster;
use crate::model::{CommitId, Digest, Kind, Resource, ResourceId};

use super::{ClusterState, State};

/// Something an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum Command {
    /// Stop all changes.
    Pause {
        /// Why.
        reason: String,
    },
    /// Let changes go on.
    Resume,
    /// Stop changes to one resource.
    Hold {
        /// Which.
        resource: ResourceId,
        /// Why.
        reason: String,
    },
    /// Let changes to one resource go on.
    Release {
        /// Which.
        resource: ResourceId,
    },
    /// Approve the plan whose digest starts with this text.
    Approve {
        /// At least [`APPROVE_DIGITS_MIN`] hexadecimal digits.
        plan: String,
    },
    /// Take a snapshot now.
    BackUp {
        /// Which backup.
        resource: ResourceId,
    },
    /// Restore the last complete snapshot beside now, to prove that it can be.
    Drill {
        /// Which backup.
        resource: ResourceId,
    },
    /// End what is being done for a backup.
    CancelBackup {
        /// Which backup.
        resource: ResourceId,
    },
    /// Take a node of a cluster out of use for a while.
    DrainNode {
        /// Which cluster.
        resource: ResourceId,
        /// Which node.
        node: String,
        /// Why.
        reason: String,
        /// When it is given back.
        until: Timestamp,
    },
    /// Give a node back before its time.
    ResumeNode {
        /// Which cluster.
        resource: ResourceId,
        /// Which node.
        node: String,
    },
    /// Give somebody access to a namespace of a cluster for a while.
    GiveAccess {
        /// Which cluster.
        resource: ResourceId,
        /// Whom.
        user: String,
        /// Where.
        namespace: String,
        /// What they may do there.
        role: Role,
        /// For how long, seconds.
        seconds: u64,
        /// Until when that is.
        until: Timestamp,
    },
    /// Take access back before its time.
    TakeAccess {
        /// Which cluster.
        resource: ResourceId,
        /// Whose.
        user: String,
        /// Only there; `None`: everywhere.
        namespace: Option<String>,
        /// Only what this event gave; `None`: all of it.
        number: Option<u64>,
    },
    /// Let a rewritten history through.
    AcceptRewrite {
        /// The refused head.
        commit: CommitId,
    },
}

/// Fewest digits of a digest that approve a plan: as many as the plan's own short form shows.
pub const APPROVE_DIGITS_MIN: usize = 12;

/// Why a command is not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nothing of that name.
    #[error("{0} is neither asked for by the commit in force nor ours; see `trueup status`")]
    UnknownResource(ResourceId),
    /// It is no backup.
    #[error("{0} is no backup; see `trueup backup`")]
    NoBackup(ResourceId),
    /// There is nothing to restore.
    #[error(
        "{0} has no complete snapshot to restore yet: `trueup backup run {name}` takes one",
        name = .0.name
    )]
    NoSnapshot(ResourceId),
    /// Nothing is being done for it.
    #[error("nothing is being done for {0} now; see `trueup backup`")]
    NothingRuns(ResourceId),
    /// It is no cluster, or none that was seen.
    #[error("{0} is no cluster that was seen; see `trueup cluster`")]
    NoCluster(ResourceId),
    /// The cluster is not ours yet.
    #[error("{0} is not taken over yet: set `lifecycle.adopt` in its document first")]
    ForeignCluster(ResourceId),
    /// It has no such node.
    #[error(
        "{cluster} has no node {node}: the names are those of its pools in the document, and of nodes of \
         no pool that `trueup cluster` shows"
    )]
    NoNode {
        /// Which cluster.
        cluster: ResourceId,
        /// The node.
        node: String,
    },
    /// The node was not taken out through us.
    #[error(
        "node {node} was not taken out with `trueup cluster drain`: what people do with scontrol or \
         kubectl is left to them (`scontrol update NodeName={node} State=RESUME`, `kubectl uncordon {node}`)"
    )]
    NotDrained {
        /// Which.
        node: String,
    },
    /// The document does not let them.
    #[error(
        "{user} may not be given {role} in {namespace} of {cluster}: {allowed}; `namespaces[].kubeconfigs` \
         of its document says who may be given what",
        role = .role.as_str()
    )]
    AccessNotAllowed {
        /// Which cluster.
        cluster: ResourceId,
        /// Whom.
        user: String,
        /// Where.
        namespace: String,
        /// What.
        role: Role,
        /// What they may be given there.
        allowed: String,
    },
    /// It is for too long, or no time at all.
    #[error("{user} may be given access to {namespace} for 10m at least and {most} at most")]
    AccessSpan {
        /// Whom.
        user: String,
        /// Where.
        namespace: String,
        /// For how long at most.
        most: String,
    },
    /// Nobody of that name has any.
    #[error(
        "{user} has no access to {cluster} that was given with `trueup cluster access kubeconfig`"
    )]
    NoAccess {
        /// Which cluster.
        cluster: ResourceId,
        /// Whose.
        user: String,
    },
    /// Nothing is paused.
    #[error("nothing is paused or held")]
    NotPaused,
    /// The resource is not held.
    #[error("{0} is not held")]
    NotHeld(ResourceId),
    /// There is no plan that waits.
    #[error("no plan is waiting for approval; see `trueup plan`")]
    NoPlan,
    /// The plan that waits is another one.
    #[error("the plan that waits is {waiting}, not {asked}: look at it again with `trueup plan`")]
    OtherPlan {
        /// Digest of the plan that waits.
        waiting: Digest,
        /// What was given.
        asked: String,
    },
    /// No head was refused.
    #[error("no rewritten head is waiting; see `trueup status`")]
    NoRewrite,
    /// The refused head has no signature that is accepted, which no operator stands in for.
    #[error(
        "{0} is refused for its signature, not for its history: sign it, or allow its signer in the \
         config, and trueup looks at it again by itself"
    )]
    Unsigned(CommitId),
    /// The refused head is another one.
    #[error("the refused head is {refused}, not {asked}")]
    OtherRewrite {
        /// The refused head.
        refused: CommitId,
        /// What was given.
        asked: CommitId,
    },
}

/// Decides on `command`, asked for by `actor`: the events that grant it, or why it is refused.
///
/// # Errors
/// A [`Refusal`] that says what is in the way.
pub fn decide(state: &State, command: &Command, actor: &str) -> Result<Vec<Entry>, Refusal> {
    let event = match command {
        Command::Pause { reason } => {
            Entry::new(Event::OperatorPaused(OperatorPaused { reason: reason.clone() }))
        }
        Command::Resume => {
            if state.paused.is_none() {
                return Err(Refusal::NotPaused);
            }
            Entry::new(Event::OperatorResumed(Resumed {}))
        }
        Command::Hold { resource, reason } => {
            if !state.resources.contains_key(resource) {
                return Err(Refusal::UnknownResource(resource.clone()));
            }
            let held = OperatorHeld { reason: reason.clone() };
            Entry::new(Event::OperatorHeld(held)).about(resource)
        }
        Command::Release { resource } => {
            if state.resources.get(resource).is_none_or(|known| known.hold.is_none()) {
                return Err(Refusal::NotHeld(resource.clone()));
            }
            Entry::new(Event::OperatorReleased(OperatorReleased {})).about(resource)
        }
        Command::BackUp { resource } => {
            wished_backup(state, resource)?;
            Entry::new(Event::BackupAsked(BackupAsked {})).about(resource)
        }
        Command::Drill { resource } => {
            wished_backup(state, resource)?;
            if state.backup(resource).good.is_none() {
                return Err(Refusal::NoSnapshot(resource.clone()));
            }
            Entry::new(Event::DrillAsked(DrillAsked {})).about(resource)
        }
        Command::CancelBackup { resource } => {
            if resource.kind != Kind::Backup {
                return Err(Refusal::NoBackup(resource.clone()));
            }
            if state.resources.get(resource).is_none_or(|known| known.in_flight.is_none()) {
                return Err(Refusal::NothingRuns(resource.clone()));
            }
            Entry::new(Event::BackupCancelled(BackupCancelled {})).about(resource)
        }
        Command::DrainNode { resource, node, reason, until } => {
            cluster(state, resource)?;
            if !has_node(state, resource, node) {
                let (cluster, node) = (resource.clone(), node.clone());
                return Err(Refusal::NoNode { cluster, node });
            }
            let drained = NodeDrained { node: node.clone(), reason: reason.clone(), until: *until };
            Entry::new(Event::NodeDrained(drained)).about(resource)
        }
        Command::ResumeNode { resource, node } => {
            let drain = cluster(state, resource)?.drains.get(node).filter(|drain| !drain.ended);
            if drain.is_none() {
                return Err(Refusal::NotDrained { node: node.clone() });
            }
            Entry::new(Event::NodeResumed(NodeResumed { node: node.clone() })).about(resource)
        }
        Command::GiveAccess { resource, user, namespace, role, seconds, until } => {
            cluster(state, resource)?;
            access_allowed(state, resource, (user, namespace, *role), *seconds)?;
            let (user, namespace) = (user.clone(), namespace.clone());
            let given = AccessGiven { user, namespace, role: *role, until: *until };
            Entry::new(Event::AccessGiven(given)).about(resource)
        }
        Command::TakeAccess { resource, user, namespace, number } => {
            let access = &cluster(state, resource)?.access;
            let meant = access.iter().filter(|(at, it)| {
                !it.ended
                    && it.user == *user
                    && namespace.as_ref().is_none_or(|namespace| it.namespace == *namespace)
                    && number.is_none_or(|number| number == **at)
            });
            let taken = meant.map(|(number, it)| {
                let (user, namespace) = (it.user.clone(), it.namespace.clone());
                let taken = AccessTaken { number: *number, user, namespace };
                Entry::new(Event::AccessTaken(taken)).about(resource).by(actor)
            });
            let taken: Vec<Entry> = taken.collect();
            if taken.is_empty() {
                let (cluster, user) = (resource.clone(), user.clone());
                return Err(Refusal::NoAccess { cluster, user });
            }
            return Ok(taken);
        }
        Command::Approve { plan } => approve(state, plan)?,
        Command::AcceptRewrite { commit } => accept_rewrite(state, commit)?,
    };
    Ok(vec![event.by(actor)])
}

fn wished_backup(state: &State, resource: &ResourceId) -> Result<(), Refusal> {
    if resource.kind != Kind::Backup {
        return Err(Refusal::NoBackup(resource.clone()));
    }
    match state.resources.get(resource).is_none_or(|known| known.wish.is_none()) {
        true => Err(Refusal::UnknownResource(resource.clone())),
        false => Ok(()),
    }
}

fn cluster<'s>(state: &'s State, id: &ResourceId) -> Result<&'s ClusterState, Refusal> {
    let known = state.resources.get(id);
    let cluster = known.and_then(|known| known.cluster.as_deref());
    let cluster = cluster.ok_or_else(|| Refusal::NoCluster(id.clone()))?;
    match known.is_some_and(|known| known.is_ours()) {
        true => Ok(cluster),
        false => Err(Refusal::ForeignCluster(id.clone())),
    }
}

/// Whether the cluster, as we last wrote it, has a node of this name; or, where Kubernetes runs it, was seen
/// to have one that is in no pool.
fn has_node(state: &State, id: &ResourceId, node: &str) -> bool {
    let known = state.resources.get(id);
    let seen = known.and_then(|known| known.cluster.as_ref()?.kubernetes.as_ref());
    if seen.is_some_and(|seen| seen.overview.may_have_other(node)) {
        return true;
    }
    claimed_cluster(state, id).is_some_and(|cluster| cluster.nodes().any(|name| name == node))
}

/// The cluster as we last wrote it.
fn claimed_cluster<'s>(state: &'s State, id: &ResourceId) -> Option<&'s Cluster> {
    let claim = state.resources.get(id)?.claim.as_ref()?;
    match claim.resource.as_ref()? {
        Resource::Cluster(cluster) => Some(cluster),
        _ => None,
    }
}

/// Whether the document of a cluster lets somebody be given this for so long: Git says who may be given
/// what, and an operator no more than that.
fn access_allowed(
    state: &State,
    id: &ResourceId,
    (user, namespace, role): (&str, &str, Role),
    seconds: u64,
) -> Result<(), Refusal> {
    // What a document said that is gone lets nobody have anything.
    let is_asked = state.resources.get(id).is_some_and(|known| known.wish.is_some());
    let rules = claimed_cluster(state, id).and_then(Cluster::kubernetes).filter(|_| is_asked);
    let rules = rules.map_or(&[][..], |cluster| cluster.kubeconfigs.as_slice());
    let fitting = rules.iter().filter(|rule| rule.lets(user, namespace, role));
    let Some(most) = fitting.map(|rule| rule.at_most_s).max() else {
        let there = rules.iter().filter(|rule| rule.user == user && rule.namespace == namespace);
        let allowed: Vec<&str> = there.map(|rule| rule.role.as_str()).collect();
        let allowed = match allowed.is_empty() {
            true => "nothing is allowed them there".to_owned(),
            false => format!("they may be given {}", allowed.join(", ")),
        };
        let (cluster, user) = (id.clone(), user.to_owned());
        let namespace = namespace.to_owned();
        return Err(Refusal::AccessNotAllowed { cluster, user, namespace, role, allowed });
    };
    if (SECONDS_MIN..=most).contains(&seconds) {
        return Ok(());
    }
    let most = match most % 3600 {
        0 => format!("{}h", most / 3600),
        _ => format!("{}m", most / 60),
    };
    Err(Refusal::AccessSpan { user: user.to_owned(), namespace: namespace.to_owned(), most })
}

fn approve(state: &State, asked: &str) -> Result<Entry, Refusal> {
    let waiting = state.plan.as_ref().filter(|plan| !plan.held.is_empty() && !plan.finished);
    let waiting = waiting.ok_or(Refusal::NoPlan)?.plan;
    if asked.len() < APPROVE_DIGITS_MIN || !waiting.to_string().starts_with(asked) {
        return Err(Refusal::OtherPlan { waiting, asked: asked.to_owned() });
    }
    Ok(Entry::new(Event::PlanApproved(PlanApproved::on_host(waiting))))
}

fn accept_rewrite(state: &State, asked: &CommitId) -> Result<Entry, Refusal> {
    let refused = state.source.refused.as_ref().ok_or(Refusal::NoRewrite)?;
    if refused.commit != *asked {
        let refused = refused.commit.clone();
        return Err(Refusal::OtherRewrite { refused, asked: asked.clone() });
    }
    if refused.signature {
        return Err(Refusal::Unsigned(asked.clone()));
    }
    let accepted = RewriteAccepted { offered: asked.clone() };
    Ok(Entry::new(Event::RewriteAccepted(accepted)).at_commit(asked))
}
