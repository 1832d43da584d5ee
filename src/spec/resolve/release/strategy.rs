//! NVIDIA's device plugin names parts of GPUs by a strategy, and the pools of its cluster expect them by one:
//! a release that brings the plugin, or NVIDIA's operator, with another than any of them is a mistake, which would
//! show only as pods that wait for ever.

use serde_json::Value;
use trueup_kubernetes::release::Manifest;

use super::super::super::kinds::Spec;
use super::super::super::kinds::cluster::ClusterSpec;
use super::super::super::kinds::cluster_kubernetes::MigStrategy;
use super::super::{Cx, Place};
use crate::model::{Kind, Name, ResourceId};

/// The variable and the argument that tell the plugin (NVIDIA/k8s-device-plugin, README).
const VARIABLE: &str = "MIG_STRATEGY";
const ARGUMENT: &str = "--mig-strategy";
/// What tells NVIDIA's operator of it, which then tells the plugin (NVIDIA/gpu-operator, `ClusterPolicySpec`).
const POLICY: (&str, &str) = ("nvidia.com/v1", "ClusterPolicy");
const SETTING: &str = "`mig.strategy` of the ClusterPolicy";

/// Compares what these manifests tell the plugin with what the cluster's pools expect. Whether it is right.
pub(super) fn check(cx: &mut Cx<'_>, cluster: &Name, manifests: &[Manifest]) -> bool {
    let id = ResourceId::new(Kind::Cluster, cluster.clone());
    let Some(&member) = cx.world.by_id.get(&id) else { return true };
    let Spec::Cluster(spec) = &cx.world.members[member].doc.spec else { return true };
    let ClusterSpec::Kubernetes(spec) = &**spec else { return true };
    let wanted: Vec<&str> =
        spec.pools.iter().filter_map(|pool| Some(word(pool.gpus.as_ref()?.strategy))).collect();
    if wanted.is_empty() {
        return true;
    }
    let mut is_good = true;
    for manifest in manifests {
        let told = told(&manifest.object).into_iter();
        let mut others = told.filter(|(_, told)| !wanted.iter().any(|wanted| fits(told, wanted)));
        let Some((by, told)) = others.next() else { continue };
        let message = format!(
            "{by} is `{}`, and `gpus` of the pools of {id} say `{}`",
            told.escape_debug(),
            wanted.join("`, `")
        );
        let draft = cx.err("spec/conflict", "/spec/manifests", message);
        draft.hint("say the same in both: by it the plugin names what pods ask for");
        draft.see(Place::value(member, "/spec/pools"), "the pools are here");
        draft.elsewhere = Some((manifest.place.file.clone(), manifest.place.line));
        is_good = false;
    }
    is_good
}

fn word(strategy: MigStrategy) -> &'static str {
    match strategy {
        MigStrategy::None => "none",
        MigStrategy::Single => "single",
        MigStrategy::Mixed => "mixed",
    }
}

/// Whether pods of a pool that expects `wanted` find what they ask for. Whole GPUs have the same name where a plugin
/// gives all parts of a GPU that name, as NVIDIA's operator has it when nothing is said.
fn fits(told: &str, wanted: &str) -> bool {
    told == wanted || (told == "single" && wanted == "none")
}

/// What an object tells the plugin, each with what says it: NVIDIA's operator by its policy, and containers.
fn told(object: &Value) -> Vec<(&'static str, &str)> {
    let is = |field: &str, what: &str| object.get(field).is_some_and(|it| it == what);
    if is("apiVersion", POLICY.0) && is("kind", POLICY.1) {
        let told = object.pointer("/spec/mig/strategy").and_then(Value::as_str);
        return told.map(|told| (SETTING, told)).into_iter().collect();
    }
    let containers = object.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    containers.into_iter().flatten().filter_map(by_container).collect()
}

/// What a container tells the plugin in it: an argument counts more than a variable.
fn by_container(container: &Value) -> Option<(&'static str, &str)> {
    let list = |field: &str| container.get(field).and_then(Value::as_array).into_iter().flatten();
    let words: Vec<&str> = list("command").chain(list("args")).filter_map(Value::as_str).collect();
    let mut argument = words.iter().enumerate().filter_map(|(n, word)| {
        let rest = word.strip_prefix(ARGUMENT)?;
        match rest.strip_prefix('=') {
            None if rest.is_empty() => words.get(n + 1).copied(),
            given => given,
        }
    });
    // As its library for arguments does, the last one counts.
    if let Some(told) = argument.next_back() {
        // A variable of the container in it is not known here.
        return (!told.contains("$(")).then_some((ARGUMENT, told));
    }
    let mut told = list("env").filter(|it| it.get("name").is_some_and(|name| name == VARIABLE));
    Some((VARIABLE, told.next()?.get("value")?.as_str()?))
}
