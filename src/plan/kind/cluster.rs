//! Clusters: files that are proved before anything is touched, nodes that change one after another and
//! empty, and what operators took out through us.
//!
//! Every step follows from what was seen, so that a plan after a crash is the rest of the plan before
//! it: a node's own reason says that it is in our hands, and the live files say which nodes are as
//! wished. Nodes that somebody took out by other means are left alone, and count as out of use.

mod beside;
mod built;
mod kubernetes;
mod roll;

pub(in super::super) use built::{keeps, weave};
pub(in super::super) use kubernetes::leave;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use trueup_slurm::conf::{self, Conf};
use trueup_slurm::observe::Observed;
use trueup_slurm::plan::config::{self, Change, ConfigPlan, Loss};
use trueup_slurm::plan::{self as slurm, accounts, roll::Token};
use trueup_slurm::{Shape, adopt, render, wish};

use super::super::{Action, Disruption, FieldChange, Reason, SkipReason};
use super::{Case, Draft, Verdict};
use crate::model::Resource;
use crate::model::resource::{Cluster, NodeStep, SlurmCluster, SlurmSeen};
use crate::model::{Digest, digest_of};
use crate::plan::NodeDrain;

/// Stands for a value that may be a secret.
const MASKED: &str = "(not shown)";

/// What has to be done for a cluster.
pub(in super::super) fn decide(
    case: &Case<'_, '_>,
    to: &Cluster,
    from: Option<&Cluster>,
) -> Verdict {
    let mut verdict = Verdict::default();
    let moved = built::moved(case, to.slurm());
    if let Some(why) = moved.or_else(|| kubernetes::built::moved(case, to.kubernetes())) {
        verdict.skip(SkipReason::Conflict(why), Vec::new());
        return verdict;
    }
    let to = match to {
        Cluster::Slurm(to) => to,
        Cluster::Kubernetes(to) => return kubernetes::decide(case, to, from),
    };
    let Some(from) = from else {
        if let Some(built) = &to.built {
            match built::Create::new(case, to, built) {
                Ok(create) => create.decide(&mut verdict),
                Err(why) => verdict.skip(SkipReason::Conflict(why), Vec::new()),
            }
            return verdict;
        }
        let why = format!(
            "there is no slurm.conf in its folder: trueup takes over a cluster that runs, so install Slurm \
             and start it first, or say where it is in `clusters.{}.folder` of the host's config",
            case.id.name
        );
        verdict.skip(SkipReason::Unplaceable(why), Vec::new());
        return verdict;
    };
    // An observation without a look is one that nobody made.
    let Some(seen) = from.seen() else { return verdict };
    if seen.cut_off {
        let action = Action::ClusterRecover { place: to.place.clone() };
        verdict.step(
            Draft::quiet(action, case.reason, Vec::new())
                .disturbing(Disruption::Live, BTreeSet::new()),
        );
        return verdict;
    }
    let Some(observed) = seen.observed.as_deref() else { return verdict };
    if seen.by_backup {
        let why = "the machine of its first controller does not answer and the backup runs it: nothing is \
                   changed until the first one is back";
        verdict.skip(SkipReason::BusyWaits(why.to_owned()), Vec::new());
        return verdict;
    }
    match Work::new(case, to, seen, observed) {
        Ok(work) => work.decide(&mut verdict),
        Err(why) => verdict.skip(SkipReason::Conflict(why), Vec::new()),
    }
    verdict
}

/// Files as they are or will be, in a form in which order and spelling are no difference.
struct Files {
    texts: BTreeMap<String, String>,
    conf: Conf,
    /// The wish that says the same, and what it does not say.
    wish: wish::Cluster,
    left: Vec<String>,
}

impl Files {
    fn read(texts: BTreeMap<String, String>) -> Result<Self, String> {
        let of = |name: &str| texts.get(name).map(String::as_str).unwrap_or_default();
        let conf = Conf::parse(of("slurm.conf")).map_err(|error| {
            format!(
                "slurm.conf cannot be read: {error}; mend it by hand, nothing is written over it"
            )
        })?;
        let adopted = adopt(&conf, of("gres.conf")).map_err(|error| error.to_string())?;
        let mut left = adopted.left;
        // slurmdbd's own file is not written here.
        left.retain(|it| !it.contains("slurmdbd.conf"));
        Ok(Self { conf, wish: adopted.cluster, left, texts })
    }

    fn of(wish: wish::Cluster, shape: Shape) -> Result<Self, String> {
        let files = render(&wish, shape).map_err(|error| error.to_string())?;
        let conf = Conf::parse(&files.slurm).map_err(|error| error.to_string())?;
        let texts =
            [("slurm.conf", files.slurm), ("gres.conf", files.gres), ("cgroup.conf", files.cgroup)];
        let texts = texts.map(|(name, text)| (name.to_owned(), text)).into();
        Ok(Self { texts, conf, wish, left: Vec::new() })
    }

    /// Lines of `gres.conf` that are of no node, in any spelling.
    fn gres_lines(&self) -> BTreeSet<Vec<(String, String)>> {
        let text = self.texts.get("gres.conf").map(String::as_str).unwrap_or_default();
        let folded = |line: conf::Line| {
            let pairs = line.pairs.into_iter();
            pairs.map(|(key, value)| (key.to_ascii_lowercase(), value)).collect::<Vec<_>>()
        };
        let of_node = |pairs: &Vec<(String, String)>| pairs.iter().any(|(key, _)| key == "name");
        conf::lines(text).into_iter().map(folded).filter(|pairs| !of_node(pairs)).collect()
    }

    fn lines(&self, name: &str) -> BTreeSet<&str> {
        let text = self.texts.get(name).map(String::as_str).unwrap_or_default();
        let plain = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        plain.filter(|line| !line.is_empty()).collect()
    }
}

/// The decision on one cluster.
struct Work<'a, 'w> {
    case: &'a Case<'a, 'w>,
    to: &'a SlurmCluster,
    seen: &'a SlurmSeen,
    observed: &'a Observed,
    shape: Shape,
    /// What is in force.
    live: Files,
    /// What is wished, whole.
    last: Files,
    /// Digest of the wish.
    digest: Digest,
    /// Nodes whose change needs them to be empty.
    outdated: BTreeSet<String>,
    /// Those of them that the files say otherwise; the machines of the others are started anew.
    by_files: BTreeSet<String>,
}

impl<'a, 'w> Work<'a, 'w> {
    fn new(
        case: &'a Case<'a, 'w>,
        to: &'a SlurmCluster,
        seen: &'a SlurmSeen,
        observed: &'a Observed,
    ) -> Result<Self, String> {
        let release = observed.release;
        let shape = release.shape().ok_or_else(|| format!("Slurm {release} is not known here"))?;
        let texts =
            [("slurm.conf", &seen.slurm), ("gres.conf", &seen.gres), ("cgroup.conf", &seen.cgroup)];
        let live = Files::read(texts.map(|(name, text)| (name.to_owned(), text.clone())).into())?;
        if live.wish.name != to.wish.name {
            return Err(format!(
                "the files in {} are of the cluster `{}`, not of `{}`: name that one in `spec.name`, \
                 or say another folder in `clusters.{}.folder` of the host's config",
                seen.folder, live.wish.name, to.wish.name, case.id.name
            ));
        }
        let last = Files::of(to.wish.clone(), shape)?;
        let by_files = slurm::outdated(&live.wish, &to.wish);
        let mut outdated = by_files.clone();
        outdated.extend(built::stopped(case, to).filter(|node| observed.nodes.contains_key(node)));
        let digest = digest_of(&to.wish);
        Ok(Self { case, to, seen, observed, shape, live, last, digest, outdated, by_files })
    }

    fn decide(&self, verdict: &mut Verdict) {
        if self.case.adopting() {
            let (place, name) = (self.to.place.clone(), self.to.wish.name.clone());
            self.quiet(verdict, Action::ClusterAdopt { place, name }, Vec::new());
        }
        self.unwell(verdict);
        // Before what may wait for jobs for hours.
        self.prepare(verdict);
        self.firewall(verdict);
        self.database(verdict);
        self.asked(verdict);
        self.accounts(verdict);
        if let Err(why) = self.files(verdict) {
            verdict.skip(SkipReason::Conflict(why), Vec::new());
        }
        let exchanges = |draft: &Draft| matches!(draft.action, Action::ClusterConfigure { .. });
        if !verdict.drafts.iter().any(exchanges) {
            self.copies(verdict);
        }
    }

    /// The files, and the nodes that change with them.
    fn files(&self, verdict: &mut Verdict) -> Result<(), String> {
        self.can_go()?;
        let mut waiting = self.by_files.clone();
        let first = self.staged(&waiting)?;
        let mut told = None;
        let soft = self.exchange(&self.live, &first, &mut told);
        let pools = self.to.wish.pools.iter();
        let waves: Vec<roll::Wave> = pools.flat_map(|pool| self.waves(pool, verdict)).collect();
        if soft.is_some() || waves.iter().any(|wave| wave.changes(&waiting)) {
            let action = Action::ClusterProve {
                place: self.to.place.clone(),
                files: self.last.texts.clone(),
                wish: self.digest,
            };
            self.quiet(verdict, action, Vec::new());
        }
        let mut before = first;
        match soft {
            Some((plan, changes)) => {
                self.leave(verdict);
                self.configure(verdict, &before, &plan, changes, Vec::new());
            }
            None => self.drift(verdict),
        }
        self.prepare_rest(verdict);
        self.join(verdict, &waves);
        for wave in &waves {
            self.wave(verdict, wave, |verdict, nodes| {
                for node in &nodes {
                    waiting.remove(node);
                }
                let next = self.staged(&waiting)?;
                if let Some((plan, changes)) = self.exchange(&before, &next, &mut told) {
                    self.configure(verdict, &next, &plan, changes, nodes);
                }
                before = next;
                Ok(())
            })?;
        }
        self.shut_out(verdict, &before);
        Ok(())
    }

    fn staged(&self, waiting: &BTreeSet<String>) -> Result<Files, String> {
        Files::of(slurm::stage(&self.live.wish, &self.to.wish, waiting), self.shape)
    }

    /// What an exchange of files changes and takes away; `None` where they say the same. `told` is what
    /// the first one takes away: what is lost is lost once, and that is all that is lost.
    fn exchange(
        &self,
        from: &Files,
        to: &Files,
        told: &mut Option<BTreeSet<String>>,
    ) -> Option<(ConfigPlan, Vec<FieldChange>)> {
        let mut plan = match told {
            None => config::plan(&from.conf, &to.conf, self.observed, self.shape),
            Some(_) => config::differences(&from.conf, &to.conf, self.shape),
        };
        let mut changes: Vec<FieldChange> = plan.changes.iter().map(change).collect();
        if devices(&from.wish) != devices(&to.wish) || from.gres_lines() != to.gres_lines() {
            changes.push(plain("gres.conf", "other devices"));
        }
        if from.lines("cgroup.conf") != to.lines("cgroup.conf") {
            changes.push(plain("cgroup.conf", "other constraints"));
        }
        if changes.is_empty() && from.left.is_empty() {
            return None;
        }
        plan.controller = plan.controller.max(config::Action::Reconfigure);
        let going = self.going();
        let emptied = |loss: &&Loss| matches!(loss, Loss::NodeJobs { name, .. } if going.contains(name.as_str()));
        let lost = plan
            .losses
            .iter()
            .filter(|loss| !emptied(loss))
            .map(|loss| (loss.to_string(), weight(loss)));
        let unsaid =
            from.left.iter().map(|it| (format!("not in the spec: {it}"), Disruption::Destroy));
        let told = told.get_or_insert_default();
        for (what, disruption) in lost.chain(unsaid) {
            if told.insert(what.clone()) {
                // What is lost is in the path, which is what a promise is held to.
                let path = format!("/lost/{}", what.replace('/', " "));
                changes.push(FieldChange { path, from: Some("now".into()), to: None, disruption });
            }
        }
        Some((plan, changes))
    }

    fn configure(
        &self,
        verdict: &mut Verdict,
        files: &Files,
        plan: &ConfigPlan,
        changes: Vec<FieldChange>,
        nodes: Vec<String>,
    ) {
        let worst = changes.iter().map(|it| it.disruption).max().unwrap_or(Disruption::Live);
        let worst = worst.max(Disruption::Live);
        let interrupts = match worst >= Disruption::Restart {
            true => BTreeSet::from([self.case.id.clone()]),
            false => BTreeSet::new(),
        };
        let action = Action::ClusterConfigure {
            place: self.to.place.clone(),
            files: files.texts.clone(),
            controller: plan.controller,
            nodes,
            wish: self.digest,
        };
        let draft = Draft::quiet(action, self.case.reason, changes);
        verdict.step(draft.disturbing(worst, interrupts));
        self.copy_on(verdict);
    }

    /// What runs otherwise than its files say, although those are right.
    fn drift(&self, verdict: &mut Verdict) {
        let mark = format!("trueup:{}/", self.to.wish.name);
        let in_our_hands =
            |reason: &str| reason.starts_with(&mark) && !reason[mark.len()..].starts_with('@');
        let reasons = self.observed.nodes.values().filter_map(|node| node.reason.as_ref());
        // A node on its way is not yet what its file says.
        if reasons.into_iter().any(|reason| in_our_hands(&reason.text)) {
            return;
        }
        let drift = slurm::drift(&self.live.conf, self.observed);
        if drift.is_empty() {
            return;
        }
        let mut changes: Vec<FieldChange> = drift.iter().map(change).collect();
        for made in changes.iter_mut().filter(|it| it.from.is_some() && it.to.is_none()) {
            made.disruption = Disruption::Destroy;
        }
        let worst = changes.iter().map(|it| it.disruption).max().unwrap_or(Disruption::Live);
        let interrupts = match worst >= Disruption::Restart {
            true => BTreeSet::from([self.case.id.clone()]),
            false => BTreeSet::new(),
        };
        let action = Action::ClusterReconfigure { place: self.to.place.clone() };
        verdict.step(Draft::quiet(action, self.case.reason, changes).disturbing(worst, interrupts));
    }

    fn accounts(&self, verdict: &mut Verdict) {
        let Some(there) = self.seen.accounts.as_deref() else { return };
        let claimed = match self.case.facts.claimed(self.case.id) {
            Some(Resource::Cluster(cluster)) => Some(&**cluster),
            _ => None,
        };
        let ours = claimed.and_then(Cluster::slurm).map(|it| accounts::Ours::of(&it.wish));
        let ours = ours.unwrap_or_default();
        for write in accounts::plan(&self.to.wish, there, &ours) {
            let removes = write.0.iter().any(|word| word == "delete");
            let arguments = write.0;
            let shown = FieldChange {
                path: "/accounts".to_owned(),
                from: None,
                to: Some(Value::from(arguments.join(" "))),
                disruption: if removes { Disruption::Destroy } else { Disruption::None },
            };
            let place = self.to.place.clone();
            let action = Action::ClusterAccount { place, arguments };
            let mut draft = Draft::quiet(action, self.case.reason, vec![shown]);
            if removes {
                let own = BTreeSet::from([self.case.id.clone()]);
                draft = draft.disturbing(Disruption::Destroy, own);
            }
            verdict.step(draft);
        }
    }

    /// What operators took out through us, and what of it is over.
    fn asked(&self, verdict: &mut Verdict) {
        let Some(known) = self.case.facts.cluster(self.case.id) else { return };
        for (node, drain) in &known.drains {
            let Some(seen) = self.observed.nodes.get(node) else { continue };
            let token = token_of(&self.to.wish.name, drain);
            let reason = seen.reason.as_ref().map(|reason| reason.text.as_str());
            let ours = seen.is_drained() && reason.is_some_and(|reason| token.owns(reason));
            let step = match (drain.over, ours) {
                (false, false) if !seen.is_drained() => {
                    NodeStep::Drain { pool: Arc::default(), at_most: None }
                }
                (true, true) => NodeStep::Resume,
                _ => continue,
            };
            self.node(verdict, node, step, &token, Reason::Due);
        }
    }

    fn node(
        &self,
        verdict: &mut Verdict,
        node: &str,
        step: NodeStep,
        token: &Token,
        reason: Reason,
    ) {
        let (node, token) = (node.to_owned(), token.clone());
        let disruption = match step {
            NodeStep::Drain { .. } | NodeStep::Restart | NodeStep::Join { .. } => Disruption::Live,
            NodeStep::Wait { .. } | NodeStep::Check | NodeStep::Resume => Disruption::None,
        };
        // In the log, too, a step says which node it is about.
        let (from, to) = match step {
            NodeStep::Drain { .. } => ("in use", "out of use"),
            NodeStep::Wait { .. } => ("with jobs", "empty"),
            NodeStep::Restart => ("as before", "new daemon"),
            NodeStep::Join { .. } => ("a machine", "a node"),
            NodeStep::Check => ("new daemon", "well"),
            NodeStep::Resume => ("out of use", "in use"),
        };
        let change = FieldChange {
            path: format!("/nodes/{node}"),
            from: Some(from.into()),
            to: Some(to.into()),
            disruption,
        };
        let action = Action::ClusterNode { place: self.to.place.clone(), node, step, token };
        let draft = Draft::quiet(action, reason, vec![change]);
        verdict.step(draft.disturbing(disruption, BTreeSet::new()));
    }

    fn quiet(&self, verdict: &mut Verdict, action: Action, changes: Vec<FieldChange>) {
        verdict.step(Draft::quiet(action, self.case.reason, changes));
    }
}

/// Why something is done for several nodes: the reason that they have in common; where there is none, `otherwise`.
fn common(mut reasons: impl Iterator<Item = Reason>, otherwise: Reason) -> Reason {
    let first = reasons.next();
    first.filter(|first| reasons.all(|other| other == *first)).unwrap_or(otherwise)
}

/// The reason on a node that an operator took out through us.
fn token_of(cluster: &str, drain: &NodeDrain) -> Token {
    let who = drain.by.strip_prefix("operator:").unwrap_or(&drain.by);
    Token::of_person(cluster, who, drain.number, &drain.reason)
}

/// What the devices of each node are, whatever its pool is called and in whichever order they are said.
fn devices(cluster: &wish::Cluster) -> BTreeMap<&str, Vec<&wish::Gres>> {
    let pools = cluster.pools.iter().filter(|pool| !pool.gres.is_empty());
    pools.flat_map(|pool| pool.names().map(move |name| (name, sorted(&pool.gres)))).collect()
}

fn sorted(gres: &[wish::Gres]) -> Vec<&wish::Gres> {
    let mut all: Vec<&wish::Gres> = gres.iter().collect();
    all.sort_by(|a, b| (&a.name, &a.kind).cmp(&(&b.name, &b.kind)));
    all
}

/// A difference of Slurm's as one of ours.
fn change(change: &Change) -> FieldChange {
    let mut words = change.subject.splitn(2, ' ');
    let (what, name) = (words.next().unwrap_or_default(), words.next());
    let mut path = match (what, name) {
        ("partition", Some(name)) => format!("/partitions/{name}"),
        ("node", Some(name)) => format!("/nodes/{name}"),
        ("nodes", None) => "/nodes".to_owned(),
        ("lines", None) => "/lines".to_owned(),
        (other, _) => format!("/parameters/{other}"),
    };
    if !change.field.is_empty() {
        path.push('/');
        path.push_str(&change.field);
    }
    let secret = is_secret(&change.subject);
    let value = |text: &Option<String>| {
        text.as_ref().map(|text| Value::from(if secret { MASKED } else { text.as_str() }))
    };
    FieldChange {
        path,
        from: value(&change.from),
        to: value(&change.to),
        disruption: Disruption::Live,
    }
}

fn plain(path: &str, what: &str) -> FieldChange {
    FieldChange {
        path: format!("/{path}"),
        from: None,
        to: Some(what.into()),
        disruption: Disruption::Live,
    }
}

/// Whether a parameter of Slurm's holds a password (slurm.conf(5): `AccountingStoragePass`,
/// `JobCompPass`): the file that is there may have one.
fn is_secret(key: &str) -> bool {
    key.to_ascii_lowercase().ends_with("pass")
}

/// How much a loss weighs: a field that goes back to what the file says is what the file is for.
fn weight(loss: &Loss) -> Disruption {
    match loss {
        Loss::PartitionField { .. } | Loss::NodeField { .. } => Disruption::Live,
        Loss::Partition { .. }
        | Loss::Node { .. }
        | Loss::PartitionJobs { .. }
        | Loss::NodeJobs { .. }
        | Loss::AllJobs { .. }
        | Loss::Reservation { .. } => Disruption::Destroy,
    }
}
