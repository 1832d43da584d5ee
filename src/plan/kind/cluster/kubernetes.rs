//! Kubernetes clusters: nodes that bear what is asked for, one after another where that moves work, and
//! namespaces with what is around them; `built` has what is more where trueup makes the machines.
//!
//! Every step follows from what was seen: a node's own mark says that it is in our hands, so that a plan
//! after a crash is the rest of the plan before it. Nodes that somebody took out by other means are left
//! alone, and count as out of use.

pub(super) mod built;
mod pools;
pub(super) mod upgrade;

use std::collections::{BTreeMap, BTreeSet};

use trueup_kubernetes::grant::Found;
use trueup_kubernetes::namespace::Role;
use trueup_kubernetes::node::skew::{self, Version};
use trueup_kubernetes::node::{self, CordonMark, Out};
use trueup_kubernetes::release::{self, Item, Step as ReleaseStep};
use trueup_kubernetes::{ObjectKey, namespace};

use super::super::{Case, Draft, Verdict};
use crate::model::resource::{
    Cluster, KubernetesCluster, KubernetesData, KubernetesNodeStep, KubernetesSeen,
};
use crate::plan::{
    Action, Disruption, FieldChange, KnownAccess, NodeDrain, Reason, Remark, SkipReason,
};

/// Most refusals that are told at once; the rest is counted.
const REFUSED_MAX: usize = 5;

/// What has to be done for a cluster.
pub(super) fn decide(
    case: &Case<'_, '_>,
    to: &KubernetesCluster,
    from: Option<&Cluster>,
) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(from) = from else {
        if let Some(built) = &to.built {
            built::create(case, to, built, &mut verdict);
            return verdict;
        }
        let why =
            "trueup takes over a cluster that is there: name its kubeconfig in the host's config";
        verdict.skip(SkipReason::Unplaceable(why.to_owned()), Vec::new());
        return verdict;
    };
    if let Some(lost) = from.kubernetes().and_then(|from| from.lost) {
        built::found_lost(case, to, lost, &mut verdict);
        return verdict;
    }
    // An observation without a look is one that nobody made.
    let Some(seen) = from.kubernetes_seen() else { return verdict };
    let work = Work { case, to, seen };
    if case.adopting() {
        verdict.step(Draft::quiet(Action::KubernetesAdopt, case.reason, Vec::new()));
    }
    // Before everything else: no kubelet may be newer than the API server.
    if work.restores(&mut verdict) {
        return verdict;
    }
    work.tell(&mut verdict);
    work.renew(&mut verdict);
    work.prepare(&mut verdict);
    work.asked(&mut verdict);
    work.namespaces(&mut verdict);
    work.pools(&mut verdict);
    work.leave(&mut verdict);
    verdict
}

/// The decision on one cluster.
struct Work<'a, 'w> {
    case: &'a Case<'a, 'w>,
    to: &'a KubernetesCluster,
    seen: &'a KubernetesSeen,
}

impl Work<'_, '_> {
    /// What its marks call it.
    fn name(&self) -> &str {
        self.case.id.name.as_str()
    }

    /// What is otherwise than asked for and for a person to mend.
    fn tell(&self, verdict: &mut Verdict) {
        let upgraded = upgrade::upgrades(&verdict.drafts);
        if let Some(why) = self.other_release().filter(|_| !upgraded) {
            verdict.skip(SkipReason::Unlike(why), Vec::new());
        }
        if let Some(why) = self.on_root() {
            verdict.skip(SkipReason::Unlike(why), Vec::new());
        }
        for why in self.other_kubelets() {
            verdict.skip(SkipReason::Unlike(why), Vec::new());
        }
        for (node, why) in &self.seen.unwell {
            let why = format!("the machine of {node} is not well, and stays as it is: {why}");
            verdict.skip(SkipReason::Unlike(why), Vec::new());
        }
        for why in self.seen.view.skew(&self.seen.release) {
            verdict.skip(SkipReason::Unlike(why), Vec::new());
        }
        let warns = i64::try_from(self.to.warn_before_s).unwrap_or(i64::MAX);
        let ends = |until: i64| until.saturating_sub(self.seen.now) <= warns;
        if self.seen.certificates.iter().any(|it| ends(it.until.as_second())) {
            verdict.remark = Some(Remark::CertificateEnds);
        }
    }

    /// Why the API server is not of the release that is asked for.
    fn other_release(&self) -> Option<String> {
        let wanted: Version = self.to.version.as_deref()?.parse().ok()?;
        let release = &self.seen.release;
        let Ok(have) = release.parse::<Version>() else {
            return Some(format!(
                "the API server says that it is `{release}`, and nobody knows that"
            ));
        };
        if (have.major, have.minor) == (wanted.major, wanted.minor) {
            return None;
        }
        let what =
            format!("the API server is {have}, and {}.{} is asked for", wanted.major, wanted.minor);
        Some(match skew::way(have, wanted) {
            Ok(way) => {
                let way: Vec<String> =
                    way.iter().map(|it| format!("{}.{}", it.major, it.minor)).collect();
                let how = match self.to.built {
                    Some(_) => {
                        ": each is a `version` with an image of that release for the control plane's `machine`, and \
                         `onImageChange: replace` there"
                    }
                    None => "",
                };
                format!("{what}: upgrade the control plane to {}{how}", way.join(", then to "))
            }
            Err(why) => format!("{what}: {why}"),
        })
    }

    /// That the control plane was built before it had a disk for what the cluster knows.
    fn on_root(&self) -> Option<String> {
        let built = self.to.built.as_ref()?;
        let seen = self.seen.machines.get(&built.control_plane)?;
        (seen.data == KubernetesData::OnRoot).then(|| {
            format!(
                "what the cluster knows is on the first disk of {}, which can thus never be made anew: move it to \
                 the disk beside it, as docs/cluster.md says",
                built.control_plane
            )
        })
    }

    /// Kubelets that are of another release than their pool's.
    fn other_kubelets(&self) -> Vec<String> {
        let kubelets = self.seen.view.kubelets();
        let mut all = Vec::new();
        for pool in &self.to.pools {
            let wanted = pool.version.as_ref().and_then(|text| text.parse::<Version>().ok());
            let Some(wanted) = wanted else { continue };
            let other = kubelets.iter().filter(|(node, version)| {
                pool.nodes.contains(node)
                    && (version.major, version.minor) != (wanted.major, wanted.minor)
            });
            all.extend(other.map(|(node, version)| {
                format!(
                    "the kubelet of {node} is {version}, and pool {} is to be of {}.{}",
                    pool.name, wanted.major, wanted.minor
                )
            }));
        }
        all
    }

    /// What operators took out through us, and what of it is over.
    fn asked(&self, verdict: &mut Verdict) {
        let Some(known) = self.case.facts.cluster(self.case.id) else { return };
        for (name, drain) in &known.drains {
            let Some(live) = self.seen.nodes.get(name) else { continue };
            let mark = mark_of(self.name(), drain);
            let step = match (drain.over, node::out(live)) {
                (false, None) => KubernetesNodeStep::Cordon { pool: Vec::new(), at_most: None },
                (true, Some(Out::Ours(have))) if have.token == mark.token => {
                    KubernetesNodeStep::Uncordon
                }
                _ => continue,
            };
            self.node(verdict, name, step, &mark, Reason::Due);
        }
        for found in &self.seen.access {
            let access = found.number.and_then(|number| known.access.get(&number));
            if !access.is_some_and(|access| self.lets(access, found)) {
                self.take(verdict, found);
            }
        }
    }

    /// Whether access is as it was given, is not over, and is something that the document lets them have.
    fn lets(&self, access: &KnownAccess, found: &Found) -> bool {
        let as_given = |(namespace, role): &(String, Role)| {
            *namespace == access.namespace && *role == access.role
        };
        let mut rules = self.to.kubeconfigs.iter();
        !access.over
            && found.lets.as_ref().is_none_or(as_given)
            && rules.any(|rule| rule.lets(&access.user, &access.namespace, access.role))
    }

    fn take(&self, verdict: &mut Verdict, found: &Found) {
        verdict.step(take(found));
    }

    /// Namespaces and what is around them, as steps of a release.
    fn namespaces(&self, verdict: &mut Verdict) {
        let adopt = self.case.desired.lifecycle.adopt;
        let named = namespace::release(self.name()).map_err(|error| error.to_string());
        let wish = named.and_then(|release| {
            namespace::wish(release, &self.to.namespaces, adopt).map_err(|error| error.to_string())
        });
        let wish = match wish {
            Ok(wish) => wish,
            Err(why) => return verdict.skip(SkipReason::Conflict(why), Vec::new()),
        };
        let plan = release::plan(&wish, &self.seen.namespaces);
        let refused: Vec<String> = plan.refused().map(|(_, why)| why.to_owned()).collect();
        if !refused.is_empty() {
            let more = refused.len().saturating_sub(REFUSED_MAX);
            let mut why = refused.into_iter().take(REFUSED_MAX).collect::<Vec<_>>().join("; ");
            if more > 0 {
                why.push_str(&format!("; and {more} more"));
            }
            return verdict.skip(SkipReason::Conflict(why), Vec::new());
        }
        let items: BTreeMap<&ObjectKey, &Item> =
            plan.items.iter().map(|it| (&it.key, it)).collect();
        for item in items.values().filter(|it| !it.extras.is_empty() && !it.key.is_namespace()) {
            verdict.skip(SkipReason::Unlike(added(item)), Vec::new());
        }
        for step in &plan.steps {
            let changes = match step {
                ReleaseStep::Apply { key, .. } | ReleaseStep::Delete { key, .. } => {
                    items.get(key).map(|item| changes(item, step)).unwrap_or_default()
                }
                _ => Vec::new(),
            };
            let worst = changes.iter().map(|it| it.disruption).max().unwrap_or(Disruption::None);
            let interrupts = match worst >= Disruption::Restart {
                true => BTreeSet::from([self.case.id.clone()]),
                false => BTreeSet::new(),
            };
            let action = Action::KubernetesNamespace { step: step.clone() };
            let draft = Draft::quiet(action, self.case.reason, changes);
            verdict.step(draft.disturbing(worst, interrupts));
        }
    }

    fn node(
        &self,
        verdict: &mut Verdict,
        node: &str,
        step: KubernetesNodeStep,
        mark: &CordonMark,
        reason: Reason,
    ) {
        // In the log, too, a step says which node it is about.
        let (from, to) = match step {
            KubernetesNodeStep::Cordon { .. } => ("in service", "out of service"),
            KubernetesNodeStep::Drain { .. } => ("with pods", "empty"),
            KubernetesNodeStep::Set { .. } => ("as before", "as asked for"),
            KubernetesNodeStep::Check { .. } => ("as asked for", "well"),
            KubernetesNodeStep::Uncordon => ("out of service", "in service"),
            KubernetesNodeStep::Join { .. } => ("a machine", "a node"),
            KubernetesNodeStep::Remove => ("a node", "a machine"),
        };
        let change = FieldChange {
            path: format!("/nodes/{node}"),
            from: Some(from.into()),
            to: Some(to.into()),
            disruption: Disruption::None,
        };
        self.node_with(verdict, node, step, mark, reason, vec![change]);
    }

    fn node_with(
        &self,
        verdict: &mut Verdict,
        node: &str,
        step: KubernetesNodeStep,
        mark: &CordonMark,
        reason: Reason,
        mut changes: Vec<FieldChange>,
    ) {
        let disruption =
            match step {
                // What is begun by it ends with all pods of the node made anew elsewhere; an operator's lets
                // them run on. What it began is gone on with, in a window or not.
                KubernetesNodeStep::Cordon { at_most: Some(_), .. }
                | KubernetesNodeStep::Remove => Disruption::Restart,
                KubernetesNodeStep::Cordon { at_most: None, .. }
                | KubernetesNodeStep::Drain { .. } => Disruption::Live,
                KubernetesNodeStep::Set { .. }
                | KubernetesNodeStep::Join { .. }
                | KubernetesNodeStep::Check { .. }
                | KubernetesNodeStep::Uncordon => Disruption::None,
            };
        changes.iter_mut().for_each(|change| change.disruption = disruption);
        let interrupts = match disruption >= Disruption::Restart {
            true => BTreeSet::from([self.case.id.clone()]),
            false => BTreeSet::new(),
        };
        let (node, mark) = (node.to_owned(), mark.clone());
        let action = Action::KubernetesNode { node, step, mark };
        verdict.step(Draft::quiet(action, reason, changes).disturbing(disruption, interrupts));
    }
}

/// The step that takes access back.
fn take(found: &Found) -> Draft {
    let change = FieldChange {
        path: format!("/access/{}", found.name),
        from: Some("given".into()),
        to: None,
        disruption: Disruption::None,
    };
    Draft::quiet(Action::KubernetesAccess { found: found.clone() }, Reason::Due, vec![change])
}

/// What has to be done for a cluster that is not asked for any more: nobody is to have access by a document
/// that is gone.
pub(in super::super::super) fn leave(from: &Cluster) -> Vec<Draft> {
    let seen = from.kubernetes_seen().into_iter();
    seen.flat_map(|seen| &seen.access).map(take).collect()
}

/// The mark on a node that an operator took out through us.
fn mark_of(cluster: &str, drain: &NodeDrain) -> CordonMark {
    let who = drain.by.strip_prefix("operator:").unwrap_or(&drain.by);
    CordonMark::of_person(cluster, who, drain.number, &drain.reason)
}

/// Where an object is, as a path.
fn path(key: &ObjectKey) -> String {
    match &key.namespace {
        Some(namespace) => format!("/namespaces/{namespace}/{}/{}", key.kind, key.name),
        None => format!("/namespaces/{}", key.name),
    }
}

/// What a step changes of an object.
fn changes(item: &Item, step: &ReleaseStep) -> Vec<FieldChange> {
    let at = path(&item.key);
    let whole = |from: Option<&str>, to: Option<&str>, disruption| FieldChange {
        path: at.clone(),
        from: from.map(Into::into),
        to: to.map(Into::into),
        disruption,
    };
    if matches!(step, ReleaseStep::Delete { .. }) {
        // What is around a namespace is made again from the commit; what is in one is not.
        let worst = if item.loses_data { Disruption::Destroy } else { Disruption::Live };
        return vec![whole(Some("there"), None, worst)];
    }
    if item.changes.is_empty() {
        return vec![whole(None, Some("as asked for"), Disruption::None)];
    }
    let changes = item.changes.iter().map(|change| FieldChange {
        path: format!("{at}{}", change.path),
        from: change.from.clone(),
        to: change.to.clone(),
        disruption: disruption(change.disruption),
    });
    changes.collect()
}

fn disruption(of: release::Disruption) -> Disruption {
    match of {
        release::Disruption::None => Disruption::None,
        release::Disruption::Live => Disruption::Live,
        release::Disruption::Restart => Disruption::Restart,
        release::Disruption::Replace => Disruption::Replace,
        release::Disruption::Destroy => Disruption::Destroy,
    }
}

/// What others added to an object of ours, which writing it again does not take away.
fn added(item: &Item) -> String {
    let by = |extra: &release::Extra| format!("{} ({})", extra.path, extra.manager);
    let all: Vec<String> = item.extras.iter().take(REFUSED_MAX).map(by).collect();
    format!(
        "{} has what others added: {}; take it out, or say it in the document",
        item.key,
        all.join(", ")
    )
}
