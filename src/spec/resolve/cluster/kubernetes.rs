//! A Kubernetes cluster: its document in canonical form.

mod built;
mod guests;

use std::collections::{BTreeMap, BTreeSet};

use trueup_kubernetes::grant;
use trueup_kubernetes::namespace::{self, ContainerLimits, Namespace, NetworkRule, Role, Subject};
use trueup_kubernetes::node::skew::{self, Version};
use trueup_kubernetes::node::{Amount, DrainRules, NodeWish, Taint};
use trueup_slurm::hostlist;

use super::super::super::kinds::cluster_kubernetes::{
    AccessRole, KubeconfigRole, KubernetesAccessSpec, KubernetesClusterSpec, KubernetesGpusSpec,
    KubernetesKubeconfigSpec, KubernetesNamespaceSpec, KubernetesPoolSpec, MigStrategy,
    NetworkPolicySpec,
};
use super::super::super::scalar;
use super::super::Cx;
use super::{each, span};
use crate::model::resource::{KubeconfigRule, KubernetesCluster, KubernetesPool};

/// How long pods may take to leave a node, when nothing is said, seconds.
const DRAIN_S: u64 = 30 * 60;
/// How long before its end a certificate is told of, when nothing is said, seconds.
const WARN_S: u64 = 30 * 24 * 3600;
/// How long a kubeconfig for a person may be for, when nothing is said; at least, which is what servers
/// make tokens for; and at most, seconds.
const KUBECONFIG_S: u64 = 8 * 3600;
const KUBECONFIG_MIN_S: u64 = grant::SECONDS_MIN;
const KUBECONFIG_MAX_S: u64 = 7 * 24 * 3600;
/// Most nodes of one cluster: Kubernetes itself is made for 5,000.
const NODES_MAX: usize = 10_000;
/// Longest name of an object, and of a part of a label's key (RFC 1123; RFC 1035).
const NAME_MAX: usize = 253;
const PART_MAX: usize = 63;
/// Longest name of a person or a group.
const SUBJECT_MAX: usize = 256;
/// What trueup's own notes begin with: a label of that kind would be taken for one of them.
const OWN: &str = "trueup.io/";
/// What whole GPUs are called by NVIDIA's device plugin, and what begins the name of a MIG profile there.
const GPU: &str = "nvidia.com/gpu";
const MIG: &str = "nvidia.com/mig-";

pub(super) fn resolve(cx: &mut Cx<'_>, spec: &KubernetesClusterSpec) -> Option<KubernetesCluster> {
    if let Err(error) = namespace::release(cx.id.name.as_str()) {
        cx.err("spec/wrong-value", "/metadata/name", error.to_string())
            .hint("an inventory in the cluster is named after it: choose a shorter name");
    }
    let version = match spec.version.as_deref() {
        None => Some(None),
        Some(text) => cx.check("/spec/version", minor(text)).map(Some),
    };
    let drain_timeout_s = match spec.drain_timeout.as_deref() {
        None => Some(DRAIN_S),
        some => span(cx, "/spec/drainTimeout", some),
    };
    let warn_before_s = match spec.certificates.warn_before.as_deref() {
        None => Some(WARN_S),
        some => span(cx, "/spec/certificates/warnBefore", some),
    };
    if spec.max_unavailable == 0 {
        cx.err("spec/wrong-value", "/spec/maxUnavailable", "with 0 no node could ever change");
    }
    let is_built = spec.machines.is_some();
    let pools = each(cx, "/spec/pools", &spec.pools, |cx, at, spec| pool(cx, at, spec, is_built));
    let namespaces = each(cx, "/spec/namespaces", &spec.namespaces, namespace);
    let kubeconfigs = each(cx, "/spec/namespaces", &spec.namespaces, |cx, at, of| {
        each(cx, &format!("{at}/kubeconfigs"), &of.kubeconfigs, |cx, at, spec| {
            kubeconfig(cx, at, &of.name, spec)
        })
    });
    twice(cx, "/spec/pools", spec.pools.iter().map(|pool| pool.name.as_str()));
    twice(cx, "/spec/namespaces", spec.namespaces.iter().map(|it| it.name.as_str()));
    let pools = pools?;
    once(cx, &pools);
    let version = version?;
    stand_together(cx, version.as_deref(), &pools);
    let built = match spec.machines {
        Some(_) => Some(built::resolve(cx, spec, version.as_deref())?),
        None => {
            built::refuse(cx, spec);
            None
        }
    };
    Some(KubernetesCluster {
        version,
        pools,
        namespaces: namespaces?,
        drain_timeout_s: drain_timeout_s?,
        evicts: DrainRules { bare: spec.evict.bare_pods, local_data: spec.evict.local_data },
        max_unavailable: spec.max_unavailable,
        warn_before_s: warn_before_s?,
        built,
        kubeconfigs: kubeconfigs?.into_iter().flatten().collect(),
        seen: None,
        lost: None,
    })
}

/// A minor release.
fn minor(text: &str) -> Result<String, String> {
    let bad = || format!("`{}` is no minor release: write '1.33'", text.escape_debug());
    let read: Version = text.parse().map_err(|_| bad())?;
    let plain = format!("{}.{}", read.major, read.minor);
    if plain == text { Ok(plain) } else { Err(bad()) }
}

/// Kubelets that may not stand beside the API server, as far as the document says them.
fn stand_together(cx: &mut Cx<'_>, server: Option<&str>, pools: &[KubernetesPool]) {
    let Some(server) = server.and_then(|text| text.parse::<Version>().ok()) else { return };
    for (n, pool) in pools.iter().enumerate() {
        let kubelet = pool.version.as_ref().and_then(|text| text.parse::<Version>().ok());
        let Some(kubelet) = kubelet else { continue };
        let named = |name: &str, version| [(name.to_owned(), version)];
        let pool = format!("pool {}", pool.name);
        for why in skew::check(&named("the cluster", server), &named(&pool, kubelet)) {
            cx.err("spec/conflict", format!("/spec/pools/{n}/version"), why);
        }
    }
}

/// Names that stand twice.
fn twice<'s>(cx: &mut Cx<'_>, at: &str, names: impl Iterator<Item = &'s str>) {
    let mut seen = BTreeMap::new();
    for (n, name) in names.enumerate() {
        if let Some(first) = seen.insert(name, n) {
            let message = format!("`{}` is also entry {}", name.escape_debug(), first + 1);
            cx.err("spec/wrong-value", format!("{at}/{n}/name"), message);
        }
    }
}

/// A node is of one pool, and there are not more than a cluster can have.
fn once(cx: &mut Cx<'_>, pools: &[KubernetesPool]) {
    let mut of: BTreeMap<&str, &str> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for (n, pool) in pools.iter().enumerate() {
        for node in &pool.nodes {
            let Some(other) = of.insert(node, &pool.name) else { continue };
            if told.insert(n) {
                let message = format!("`{node}` is in pool `{other}` too, or twice in this one");
                cx.err("spec/wrong-value", format!("/spec/pools/{n}/nodes"), message);
            }
        }
    }
    if of.len() > NODES_MAX {
        let message = format!("{} nodes; at most {NODES_MAX} are taken", of.len());
        cx.err("spec/too-large", "/spec/pools", message);
    }
}

fn pool(
    cx: &mut Cx<'_>,
    at: &str,
    spec: &KubernetesPoolSpec,
    is_built: bool,
) -> Option<KubernetesPool> {
    let name = cx.check(format!("{at}/name"), word(&spec.name, PART_MAX));
    if spec.nodes.is_empty() {
        cx.err("spec/wrong-value", format!("{at}/nodes"), "a pool has a node at least");
    }
    let version = match spec.version.as_deref() {
        None => Some(None),
        Some(text) => cx.check(format!("{at}/version"), minor(text)).map(Some),
    };
    let nodes = each(cx, &format!("{at}/nodes"), &spec.nodes, |cx, at, node| {
        let names = hostlist::expand(node.name()).map_err(|error| error.to_string());
        let names = names.and_then(|names| match names.iter().find(|name| !is_node(name)) {
            None => Ok(names),
            Some(name) => Err(format!("`{}` is no name of a node", name.escape_debug())),
        });
        cx.check(format!("{at}{}", node.name_at()), names)
    });
    let labels = labels(cx, at, &spec.labels);
    let taints = each(cx, &format!("{at}/taints"), &spec.taints, |cx, at, taint| {
        let key = cx.check(format!("{at}/key"), label_key(&taint.key));
        let value = cx.check(format!("{at}/value"), label_value(&taint.value));
        Some(Taint { key: key?, value: value?, effect: taint.effect.as_str().to_owned() })
    });
    let offers = match &spec.gpus {
        None => Some(BTreeMap::new()),
        Some(gpus) => {
            let at = format!("{at}/gpus");
            let nodes: Vec<String> = nodes.iter().flatten().flatten().cloned().collect();
            let guests = guests::Guests::of(cx, &nodes, is_built);
            guests.settle(cx, &at, gpus).and_then(|gpus| offers(cx, &at, &gpus))
        }
    };
    let mut set = BTreeSet::new();
    for (n, taint) in taints.iter().flatten().enumerate() {
        if !set.insert((taint.key.as_str(), taint.effect.as_str())) {
            let message = format!("the taint `{}:{}` stands here twice", taint.key, taint.effect);
            cx.err("spec/wrong-value", format!("{at}/taints/{n}"), message);
        }
    }
    Some(KubernetesPool {
        name: name?,
        version: version?,
        nodes: nodes?.into_iter().flatten().collect(),
        wish: NodeWish { labels: labels?, taints: taints?.into_iter().collect() },
        offers: offers?,
    })
}

/// The resources that a device plugin offers.
fn offers(cx: &mut Cx<'_>, at: &str, spec: &KubernetesGpusSpec) -> Option<BTreeMap<String, u64>> {
    let mut offers = BTreeMap::new();
    if spec.strategy != MigStrategy::Mixed && !spec.partitions.is_empty() {
        cx.err(
            "spec/conflict",
            format!("{at}/partitions"),
            "only with `strategy: mixed` has each profile a name of its own",
        )
        .hint("say `strategy: mixed`, or how many there are together in `count`");
        return None;
    }
    if spec.count.is_none() && spec.partitions.is_empty() {
        cx.err("spec/missing-field", at, "nothing is expected: say `count` or `partitions`");
        return None;
    }
    offers.extend(spec.count.map(|count| (GPU.to_owned(), count)));
    for (profile, count) in &spec.partitions {
        // The plugin writes `1g.10gb+me` with a dot (nvidia/k8s-device-plugin, README).
        let plain = profile.replace('+', ".");
        let pointer = format!("{at}/partitions/{}", token(profile));
        let read = match is_profile(profile) {
            true => Ok(format!("{MIG}{plain}")),
            false => Err(format!("`{}` is no MIG profile, as 1g.10gb is", profile.escape_debug())),
        };
        offers.insert(cx.check(pointer, read)?, *count);
    }
    Some(offers)
}

fn namespace(cx: &mut Cx<'_>, at: &str, spec: &KubernetesNamespaceSpec) -> Option<Namespace> {
    let name = cx.check(format!("{at}/name"), word(&spec.name, PART_MAX));
    let name = name.filter(|name| {
        let kept = ["default", "kube-system", "kube-public", "kube-node-lease"];
        let own = kept.contains(&name.as_str());
        if own {
            let message = format!("`{name}` is the cluster's own: choose another");
            cx.err("spec/wrong-value", format!("{at}/name"), message);
        }
        !own
    });
    let labels = labels(cx, at, &spec.labels);
    let quota = amounts(cx, &format!("{at}/quota"), &spec.quota);
    let of = &spec.limits;
    let mut limit = |name: &str, of| amounts(cx, &format!("{at}/limits/{name}"), of);
    let default = limit("default", &of.default);
    let default_request = limit("defaultRequest", &of.default_request);
    let (max, min) = (limit("max", &of.max), limit("min", &of.min));
    let grants = each(cx, &format!("{at}/access"), &spec.access, grant);
    let mut access: BTreeMap<Role, BTreeSet<Subject>> = BTreeMap::new();
    for (role, subject) in grants? {
        access.entry(role).or_default().insert(subject);
    }
    Some(Namespace {
        name: name?,
        labels: labels?,
        quota: quota?,
        limits: ContainerLimits {
            default: default?,
            default_request: default_request?,
            max: max?,
            min: min?,
        },
        access,
        network: match spec.network_policy {
            NetworkPolicySpec::Open => NetworkRule::Open,
            NetworkPolicySpec::SameNamespace => NetworkRule::SameNamespace,
            NetworkPolicySpec::DenyAll => NetworkRule::DenyAll,
        },
    })
}

fn grant(cx: &mut Cx<'_>, at: &str, spec: &KubernetesAccessSpec) -> Option<(Role, Subject)> {
    let read = |cx: &mut Cx<'_>, field: &str, name: &str| {
        let read = scalar::line(name, SUBJECT_MAX).and_then(|name| match name.is_empty() {
            true => Err("nobody is called so".to_owned()),
            false => Ok(name),
        });
        cx.check(format!("{at}/{field}"), read)
    };
    let subject = match (&spec.group, &spec.user) {
        (Some(group), None) => Subject::Group(read(cx, "group", group)?),
        (None, Some(user)) => Subject::User(read(cx, "user", user)?),
        (Some(_), Some(_)) | (None, None) => {
            cx.err("spec/conflict", at, "say either `group` or `user`");
            return None;
        }
    };
    let role = match spec.role {
        AccessRole::View => Role::View,
        AccessRole::Edit => Role::Edit,
        AccessRole::Admin => Role::Admin,
    };
    Some((role, subject))
}

/// Who may be given a kubeconfig.
fn kubeconfig(
    cx: &mut Cx<'_>,
    at: &str,
    namespace: &str,
    spec: &KubernetesKubeconfigSpec,
) -> Option<KubeconfigRule> {
    let user = scalar::line(&spec.user, SUBJECT_MAX).and_then(|name| match name.is_empty() {
        true => Err("nobody is called so".to_owned()),
        false => Ok(name),
    });
    let user = cx.check(format!("{at}/user"), user);
    let place = format!("{at}/atMost");
    let at_most_s = match spec.at_most.as_deref() {
        None => Some(KUBECONFIG_S),
        some => span(cx, &place, some).filter(|seconds| {
            let fits = (KUBECONFIG_MIN_S..=KUBECONFIG_MAX_S).contains(seconds);
            if !fits {
                let message = "no token is made for less than 10m, and none here for more than 7d";
                cx.err("spec/wrong-value", place.clone(), message)
                    .hint("for longer, give them rights with `access`");
            }
            fits
        }),
    };
    let role = match spec.role {
        KubeconfigRole::View => Role::View,
        KubeconfigRole::Edit => Role::Edit,
    };
    let namespace = namespace.to_owned();
    Some(KubeconfigRule { namespace, user: user?, role, at_most_s: at_most_s? })
}

/// Amounts by resource.
fn amounts(
    cx: &mut Cx<'_>,
    at: &str,
    texts: &BTreeMap<String, String>,
) -> Option<BTreeMap<String, String>> {
    let read = texts.iter().map(|(resource, text)| {
        let pointer = format!("{at}/{}", token(resource));
        let named = cx.check(pointer.clone(), label_key(resource));
        let amount = text.parse::<Amount>().map_err(|error| error.to_string());
        let amount = amount.and_then(|amount| match amount < Amount::default() {
            true => Err(format!("`{text}` is less than nothing")),
            false => Ok(text.clone()),
        });
        Some((named?, cx.check(pointer, amount)?))
    });
    let read: Vec<Option<(String, String)>> = read.collect();
    read.into_iter().collect()
}

fn labels(
    cx: &mut Cx<'_>,
    at: &str,
    texts: &BTreeMap<String, String>,
) -> Option<BTreeMap<String, String>> {
    let read = texts.iter().map(|(key, value)| {
        let pointer = format!("{at}/labels/{}", token(key));
        let key = cx.check(pointer.clone(), label_key(key));
        let value = cx.check(pointer, label_value(value));
        Some((key?, value?))
    });
    let read: Vec<Option<(String, String)>> = read.collect();
    read.into_iter().collect()
}

/// A part of a JSON pointer.
fn token(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

fn edges(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next()) && edge(text.chars().last())
}

/// A name of small letters, digits and dashes (RFC 1123, a label).
fn word(text: &str, max: usize) -> Result<String, String> {
    let fits = text.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'));
    match fits && edges(text) && text.len() <= max {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{}` is no name: at most {max} of a-z, 0-9 and -, with a letter or digit at both ends",
            text.escape_debug()
        )),
    }
}

/// A name of a node (RFC 1123, a subdomain).
fn is_node(text: &str) -> bool {
    let fits = text.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.'));
    fits && edges(text) && text.len() <= NAME_MAX
}

fn is_profile(text: &str) -> bool {
    let fits = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-'));
    fits && edges(text) && text.len() <= PART_MAX && text.contains('g')
}

/// `[prefix/]name` (kubernetes.io/docs, labels and selectors).
fn label_key(text: &str) -> Result<String, String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = name.chars().all(plain) && edges(name) && name.len() <= PART_MAX;
    if !good || !prefix.is_none_or(is_node) {
        return Err(format!("`{}` is no key, as nvidia.com/gpu is", text.escape_debug()));
    }
    if text.starts_with(OWN) {
        return Err(format!("`{text}` is trueup's own: choose another"));
    }
    Ok(text.to_owned())
}

fn label_value(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = text.is_empty() || (text.chars().all(plain) && edges(text));
    match good && text.len() <= PART_MAX {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{}` is no value: at most {PART_MAX} of letters, digits, -, _ and .",
            text.escape_debug()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_would_refuse_is_refused_here() {
        assert_eq!(minor("1.33"), Ok("1.33".to_owned()));
        for wrong in ["1", "1.33.1", "v1.33", "1.x", "latest"] {
            assert!(minor(wrong).is_err(), "{wrong}");
        }
        for key in ["gpu", "nvidia.com/gpu", "a.b-c/D_e.f"] {
            assert!(label_key(key).is_ok(), "{key}");
        }
        for key in ["", "/x", "a/", "a/b/c", "-a", "A.com/x y", "trueup.io/node"] {
            assert!(label_key(key).is_err(), "{key}");
        }
        assert!(label_value("").is_ok() && label_value("a b").is_err());
        assert!(is_node("gpu-1.rack-2") && !is_node("Gpu1") && !is_node("a_b"));
        assert!(is_profile("1g.10gb+me") && !is_profile("whole thing"));
    }
}
