//! What a document asks for that nothing will do, although none of it is a mistake: told as warnings.

use super::diag::Severity;
use super::environment::Gathered;
use super::kinds::Spec;
use super::kinds::cluster::ClusterSpec;
use super::kinds::cluster_kubernetes::{NetworkPolicySpec, PodNetworkSpec};
use super::resolve::{Draft, Place};

/// Adds a warning for each of them.
pub(crate) fn warn(all: &mut Gathered) {
    let mut drafts = Vec::new();
    for (member, of) in all.members.iter().enumerate() {
        if let Spec::Cluster(spec) = &of.doc.spec {
            policies(member, spec, &mut drafts);
        }
    }
    all.drafts.extend(drafts);
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
