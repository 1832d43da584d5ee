//! In which order objects are applied; they are deleted in the reverse. Pure.

use crate::key::ObjectKey;

/// Kinds in the order in which a cluster wants them: what others are in, mean or refer to comes first.
/// Webhooks come last, as they may refuse the rest while what they ask is not up yet.
const RANKS: &[&[&str]] = &[
    &["Namespace"],
    &["CustomResourceDefinition"],
    &["PriorityClass", "StorageClass", "RuntimeClass", "IngressClass", "CSIDriver", "DeviceClass"],
    &["ResourceQuota", "LimitRange", "NetworkPolicy", "PodSecurityPolicy"],
    &["ServiceAccount", "ClusterRole", "Role"],
    &["ClusterRoleBinding", "RoleBinding"],
    &["Secret", "ConfigMap", "PersistentVolume", "PersistentVolumeClaim"],
    &["Service", "PodDisruptionBudget"],
    &["DaemonSet", "Deployment", "StatefulSet", "ReplicaSet", "Pod", "Job", "CronJob"],
    &["HorizontalPodAutoscaler", "Ingress"],
];

/// Kinds that come after all others.
const LAST: &[&str] = &[
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

/// The place of an object in the order: smaller is applied earlier.
pub fn rank(key: &ObjectKey) -> usize {
    let custom = RANKS.len();
    if LAST.contains(&key.kind.as_str()) {
        return custom + 1;
    }
    // A kind of others that is called like one of these is not one of these.
    let own = !key.group.contains('.') || key.group.ends_with(".k8s.io");
    let of = RANKS.iter().position(|kinds| kinds.contains(&key.kind.as_str()));
    of.filter(|_| own).unwrap_or(custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_need_comes_first() {
        let rank_of = |group: &str, kind: &str| rank(&ObjectKey::new(group, kind, None, "x"));
        let order = [
            rank_of("", "Namespace"),
            rank_of("apiextensions.k8s.io", "CustomResourceDefinition"),
            rank_of("", "ConfigMap"),
            rank_of("apps", "Deployment"),
            rank_of("example.org", "Widget"),
            rank_of("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ];
        assert!(order.is_sorted(), "{order:?}");
        assert_eq!(rank_of("serving.knative.dev", "Service"), rank_of("example.org", "Widget"));
    }
}
