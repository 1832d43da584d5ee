//! NVIDIA's device plugin names parts of GPUs by a strategy, and the pools of its cluster expect them by one:
//! a release that brings the plugin with another than any of them is a mistake, which would show only as
//! pods that wait for ever.

use serde_json::Value;
use trueup_kubernetes::release::Manifest;

use super::super::super::kinds::Spec;
use super::super::super::kinds::cluster::ClusterSpec;
use super::super::super::kinds::cluster_kubernetes::MigStrategy;
use super::super::{Cx, Place};
use crate::model::{Kind, Name, ResourceId};

/// The variable that tells the plugin.
const VARIABLE: &str = "MIG_STRATEGY";

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
        let Some(told) = told(&manifest.object) else { continue };
        if wanted.contains(&told) {
            continue;
        }
        let message = format!(
            "{VARIABLE} is `{}`, and `gpus` of the pools of {id} say `{}`",
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

/// What an object tells the plugin; `None`: it says nothing of it.
fn told(object: &Value) -> Option<&str> {
    let containers = object.pointer("/spec/template/spec/containers")?.as_array()?;
    let variables = containers.iter().filter_map(|it| it.get("env")?.as_array()).flatten();
    let mut told = variables.filter(|it| it.get("name").is_some_and(|name| name == VARIABLE));
    told.next()?.get("value")?.as_str()
}
