//! What a document asks for that nothing will do, although none of it is a mistake: told as warnings.

use super::diag::{Severity, did_you_mean};
use super::environment::Gathered;
use super::kinds::Spec;
use super::kinds::cluster::ClusterSpec;
use super::kinds::cluster_kubernetes::{NetworkPolicySpec, PodNetworkSpec};
use super::kinds::release::ReleaseSpec;
use super::resolve::{Draft, Place};
use crate::model::{Kind, Name};

/// Adds a warning for each of them.
pub(crate) fn warn(all: &mut Gathered) {
    let mut drafts = Vec::new();
    let ids = all.members.iter().filter_map(|of| of.id.clone());
    let clusters: Vec<Name> = ids.filter(|id| id.kind == Kind::Cluster).map(|id| id.name).collect();
    for (member, of) in all.members.iter().enumerate() {
        match &of.doc.spec {
            Spec::Cluster(spec) => policies(member, spec, &mut drafts),
            Spec::Release(spec) => drafts.extend(misspelt(member, spec, &clusters)),
            _ => {}
        }
    }
    all.drafts.extend(drafts);
}

/// The cluster of a release that no document has, and that is called nearly as one of them: it may be one that the
/// host's config alone knows, or a slip.
fn misspelt(member: usize, spec: &ReleaseSpec, clusters: &[Name]) -> Option<Draft> {
    let known = || clusters.iter().map(Name::as_str);
    if known().any(|name| name == spec.cluster) {
        return None;
    }
    let near = did_you_mean(&spec.cluster, known())?;
    let shown = spec.cluster.escape_debug();
    let message = format!(
        "no document has `cluster/{shown}`, so the config of the host has to know where it is"
    );
    let mut draft = Draft::new("spec/unheeded", Place::value(member, "/spec/cluster"), message);
    draft.severity = Severity::Warning;
    draft.hint(near);
    Some(draft)
}

/// Network policies of a cluster whose network knows none: what they keep apart is open to everybody.
fn policies(member: usize, spec: &ClusterSpec, drafts: &mut Vec<Draft>) {
    let ClusterSpec::Kubernetes(spec) = spec else { return };
    if spec.machines.is_none() || spec.cni.unwrap_or_default() != PodNetworkSpec::Bridge {
        return;
    }
    for (n, namespace) in spec.namespaces.iter().enumerate() {
        let word = match namespace.network_policy {
            NetworkPolicySpec::Open => continue,
            NetworkPolicySpec::SameNamespace => "sameNamespace",
            NetworkPolicySpec::DenyAll => "denyAll",
        };
        let message = format!(
            "nothing heeds `{word}` here: the network that trueup gives this cluster (`cni: bridge`) knows no \
             policies, so every pod is reached by all others"
        );
        let place = Place::value(member, format!("/spec/namespaces/{n}/networkPolicy"));
        let mut draft = Draft::new("spec/unheeded", place, message);
        draft.severity = Severity::Warning;
        draft.hint("say `cni: none`, and bring a network that knows policies by a `Release`");
        drafts.push(draft);
    }
}
