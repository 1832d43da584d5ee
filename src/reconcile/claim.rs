//! What the log remembers of a resource, so that it can be found and judged when its spec is gone.
//!
//! Never the texts it was made from: those may hold what does not belong in a log.

use std::collections::BTreeSet;
use std::sync::Arc;

use trueup_slurm::plan::accounts;

use crate::event::body::Claim;
use crate::model::resource::{Cluster, GpuLayout};
use crate::model::{Resource, ResourceId};
use crate::plan::{Action, Step};
use crate::spec::DesiredResource;

/// The claim on what `desired` asks for.
pub(super) fn claim_of(desired: &DesiredResource) -> Claim {
    Claim {
        resource: findable(&desired.resource),
        prevent_destroy: desired.lifecycle.prevent_destroy,
        orphan: desired.lifecycle.orphan,
        depends_on: desired.depends_on.clone(),
    }
}

/// The claim that `step` makes before it acts; `None` where it makes nothing ours.
///
/// What is taken off a GPU stays ours until that is proved: the claim is the one `known`, with what
/// has to be remembered where that breaks off. So do rights in a cluster that are to be taken back.
pub(super) fn claim_before(
    step: &Step,
    desired: Option<&DesiredResource>,
    known: Option<&Claim>,
) -> Option<Claim> {
    let mut claim = match desired {
        Some(desired) if makes_ours(&step.action) => claim_of(desired),
        None if step.action.gpu_change().is_some() => known?.clone(),
        Some(_) | None => return None,
    };
    if let (Some(Resource::GpuLayout(layout)), Some(change)) =
        (&mut claim.resource, step.action.gpu_change())
    {
        layout.memory = Some(Box::new(change.memory.clone()));
    }
    // What an earlier wish gave to accounts is there until it was taken back, which comes after this step.
    if let (Some(Resource::Cluster(cluster)), Some(Resource::Cluster(before))) =
        (&mut claim.resource, known.and_then(|known| known.resource.as_ref()))
        && let (Cluster::Slurm(slurm), Some(before)) = (&mut **cluster, before.slurm())
    {
        accounts::remember(&mut slurm.wish, &before.wish);
    }
    Some(claim)
}

/// The claim on what `desired` asks for and the machine now has: of what is known of it, the names
/// of a GPU's partitions stay, and what was only needed on the way is forgotten.
pub(super) fn settled(desired: &DesiredResource, known: Option<&Claim>) -> Claim {
    let mut claim = claim_of(desired);
    if let (Some(Resource::GpuLayout(layout)), Some(Resource::GpuLayout(before))) =
        (&mut claim.resource, known.and_then(|known| known.resource.as_ref()))
    {
        layout.memory = before.memory.clone();
        if let Some(memory) = &mut layout.memory {
            memory.close();
        }
    }
    claim
}

/// Whether the action makes something ours.
pub(super) fn makes_ours(action: &Action) -> bool {
    matches!(
        action,
        Action::PoolDefine { .. }
            | Action::NetworkDefine { .. }
            | Action::ImageCreate { .. }
            | Action::DiskCreate { .. }
            | Action::SeedCreate { .. }
            | Action::VmDefine { .. }
            | Action::BackupOpen { .. }
            | Action::ClusterAdopt { .. }
            | Action::ClusterPrepare { .. }
            | Action::KubernetesAdopt
            | Action::KubernetesPrepare { .. }
            | Action::Release { .. }
    ) || action.gpu_change().is_some()
}

/// Adds what these steps, which have succeeded, made ours. A step that is only begun proves nothing: what it found
/// may have been there before.
pub(super) fn known_after<'a>(
    known: &mut Arc<BTreeSet<ResourceId>>,
    done: impl Iterator<Item = &'a Step>,
) {
    let made = done.filter(|step| makes_ours(&step.action)).map(|step| &step.resource);
    let new: Vec<&ResourceId> = made.filter(|id| !known.contains(*id)).collect();
    if !new.is_empty() {
        Arc::make_mut(known).extend(new.into_iter().cloned());
    }
}

/// The part of a resource that finds it again: files have a path, marked objects need nothing.
fn findable(resource: &Resource) -> Option<Resource> {
    match resource {
        Resource::StoragePool(_) | Resource::Disk(_) => Some(resource.clone()),
        Resource::Backup(backup) => {
            let mut backup = backup.clone();
            backup.strip_texts();
            Some(Resource::Backup(backup))
        }
        Resource::Cluster(cluster) => {
            let mut cluster = cluster.clone();
            cluster.strip_texts();
            Some(Resource::Cluster(cluster))
        }
        Resource::Release(release) => {
            let mut release = release.clone();
            release.strip_texts();
            Some(Resource::Release(release))
        }
        Resource::Image(image) => {
            Some(Resource::Image(crate::model::resource::Image { origin: None, ..image.clone() }))
        }
        Resource::Seed(seed) => {
            let mut seed = seed.clone();
            seed.strip_texts();
            Some(Resource::Seed(seed))
        }
        // What it is cut into is in the wish; what was made of it is added by whoever knows.
        Resource::GpuLayout(layout) => Some(Resource::GpuLayout(Box::new(GpuLayout {
            memory: None,
            state: None,
            ..(**layout).clone()
        }))),
        Resource::Network(_) | Resource::VirtualMachine(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::Digest;
    use crate::model::resource::{SlurmCluster, SlurmPlace};
    use crate::plan::{Disruption, Reason};
    use crate::spec::{Lifecycle, Origin};

    #[test]
    fn rights_that_are_to_be_taken_back_are_ours_over_what_comes_first() {
        let desired = |accounts: serde_json::Value| {
            let cluster: SlurmCluster = serde_json::from_value(serde_json::json!({
                "place": {}, "drainTimeoutS": 60, "maxUnavailable": 1,
                "wish": {
                    "name": "lab", "controllers": [], "pools": [], "partitions": [],
                    "accounts": accounts,
                },
            }))
            .unwrap();
            DesiredResource {
                resource: Resource::Cluster(Box::new(Cluster::Slurm(cluster))),
                depends_on: BTreeSet::new(),
                owner: None,
                lifecycle: Lifecycle::default(),
                labels: BTreeMap::new(),
                origin: Origin { path: "lab/all.yaml".into(), line: 1 },
                digest: Digest::of("x"),
            }
        };
        let before = desired(serde_json::json!([{"name": "research", "qos": ["gold"]}]));
        let next = desired(serde_json::json!([{"name": "research"}]));
        let prepare = Step {
            resource: "cluster/hpc".parse().unwrap(),
            action: Action::ClusterPrepare {
                place: SlurmPlace::default(),
                machines: BTreeMap::new(),
                key: 1,
                shared: None,
            },
            disruption: Disruption::None,
            reason: Reason::Missing,
            changes: Vec::new(),
            after: BTreeSet::new(),
            interrupts: BTreeSet::new(),
        };
        let given = |claim: &Claim| match &claim.resource {
            Some(Resource::Cluster(it)) => it.slurm().unwrap().wish.accounts[0].qos.len(),
            other => panic!("{other:?}"),
        };
        let claim = claim_before(&prepare, Some(&next), Some(&claim_of(&before))).unwrap();
        assert_eq!(given(&claim), 1, "it was ours and is there still");
        assert_eq!(given(&settled(&next, Some(&claim))), 0, "it was taken back");
    }

    #[test]
    fn what_a_plan_has_made_is_known_to_its_later_steps() {
        let id = |text: &str| text.parse::<ResourceId>().unwrap();
        let step = |at: &str, action: Action| Step {
            resource: id(at),
            action,
            disruption: Disruption::None,
            reason: Reason::Missing,
            changes: Vec::new(),
            after: BTreeSet::new(),
            interrupts: BTreeSet::new(),
        };
        let before = Arc::new(BTreeSet::from([id("vm/old")]));
        let after = |steps: &[Step]| {
            let mut known = Arc::clone(&before);
            known_after(&mut known, steps.iter());
            known
        };
        let takes = step("cluster/cloud", Action::KubernetesAdopt);
        let starts = step("vm/somebodys", Action::VmStart);
        let made = after(&[takes.clone(), starts.clone()]);
        assert_eq!(*made, BTreeSet::from([id("cluster/cloud"), id("vm/old")]));
        assert!(Arc::ptr_eq(&after(&[starts]), &before), "a start makes nothing ours");
        assert_eq!(*before, BTreeSet::from([id("vm/old")]), "others have it as it was");
    }
}
