//! The steps on a cluster. Each may be repeated, and looks anew first; waiting ends at once when it is
//! dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use trueup_kubernetes::Fault as KubeFault;
use trueup_kubernetes::grant::{Found, Grants};
use trueup_kubernetes::node::{
    self, Amount, CUT_STATE, CordonMark, Cordoned, DrainEnd, DrainError, DrainRules, NodeWish, Out,
};
use trueup_kubernetes::release::{Done, Engine, EngineError, Step as ReleaseStep, Waits};
use trueup_slurm::hostlist;

use super::KubernetesProvider;
use super::link::Link;
use super::look::wish;
use crate::model::resource::KubernetesNodeStep;
use crate::model::{Fault, Resource, ResourceId};
use crate::port::{Outcome, Progress, ProgressUpdate, Scope};

/// How long a node may take to be well after it was changed. GPUs that are cut anew take some minutes.
pub(super) const COMES_BACK: Duration = Duration::from_secs(900);
/// After how long a drain tells what it waits for, and looks whether the node is in our hands still.
const TELL: Duration = Duration::from_secs(20);
/// Pods that are named of those that are waited for; the rest is counted.
const PODS_NAMED_MAX: usize = 5;

/// Work on one cluster.
pub(super) struct Job<'a> {
    pub(super) provider: &'a KubernetesProvider,
    pub(super) id: &'a ResourceId,
    pub(super) link: Arc<Link>,
    progress: &'a Progress,
}

impl<'a> Job<'a> {
    pub(super) async fn open(
        provider: &'a KubernetesProvider,
        id: &'a ResourceId,
        progress: &'a Progress,
    ) -> Result<Self, Fault> {
        let link = provider.link(&id.name).await;
        let link = link.map_err(|why| Fault::transient(format!("{id}: {why}")))?;
        Ok(Self { provider, id, link, progress })
    }

    pub(super) async fn adopt(&self) -> Result<Outcome, Fault> {
        let release = self.link.api().version().await.map_err(|fault| self.fault(&fault))?;
        let facts = BTreeMap::from([("release".to_owned(), release)]);
        Ok(Outcome { already: true, facts, ..Outcome::default() })
    }

    pub(super) async fn node(
        &self,
        node: &str,
        step: &KubernetesNodeStep,
        mark: &CordonMark,
    ) -> Result<Outcome, Fault> {
        let done = match step {
            KubernetesNodeStep::Cordon { pool, at_most } => {
                self.cordon(node, pool, *at_most, mark).await
            }
            KubernetesNodeStep::Drain { timeout_s, evicts } => {
                self.drain(node, Duration::from_secs(*timeout_s), *evicts, mark).await
            }
            KubernetesNodeStep::Set { wish, empty: _ } => self.set(node, wish, mark).await,
            KubernetesNodeStep::Join { machine, version } => {
                self.join(node, machine, version.as_deref()).await
            }
            KubernetesNodeStep::Remove => self.remove(node, mark).await,
            KubernetesNodeStep::Check { offers } => self.comes_back(node, offers).await,
            KubernetesNodeStep::Uncordon => {
                self.cordoned(node, self.link.nodes.uncordon(node, &mark.token).await)
            }
        };
        // Also where it failed: something may have been done before.
        self.link.note();
        done
    }

    pub(super) async fn namespace(
        &self,
        step: &ReleaseStep,
        scope: &Scope,
    ) -> Result<Outcome, Fault> {
        let wished = scope.desired.resources.get(self.id);
        let cluster = wished.and_then(|wish| match &wish.resource {
            Resource::Cluster(cluster) => Some((cluster.kubernetes()?, wish.lifecycle.adopt)),
            _ => None,
        });
        let Some((cluster, adopt)) = cluster else {
            return Err(Fault::transient(format!("{}: it is not asked for any more", self.id)));
        };
        let wish = wish(self.id, cluster, adopt)?;
        let mut engine = Engine::new(self.link.api().clone(), Waits::default());
        let done = engine.perform(&wish, step).await;
        self.link.note();
        match done.map_err(|error| self.not_performed(&error))? {
            Done::Done => Ok(Outcome::default()),
            Done::Left(why) => {
                let facts = BTreeMap::from([("left".to_owned(), why)]);
                Ok(Outcome { already: true, facts, ..Outcome::default() })
            }
        }
    }

    /// Takes away what gives somebody access. That it is gone already is what is wanted.
    pub(super) async fn take(&self, found: &Found) -> Result<Outcome, Fault> {
        let grants = Grants::new(self.link.api().clone(), self.link.giver().clone());
        let taken = grants.take(found).await;
        self.link.note();
        let any = taken.map_err(|fault| self.fault(&fault))?;
        Ok(Outcome { already: !any, ..Outcome::default() })
    }

    async fn cordon(
        &self,
        node: &str,
        pool: &[String],
        at_most: Option<u32>,
        mark: &CordonMark,
    ) -> Result<Outcome, Fault> {
        if let Some(most) = at_most {
            // Nodes may have gone away since the plan was made.
            let away = self.link.away(pool).await.map_err(|fault| self.fault(&fault))?;
            if away.len() >= most as usize {
                return Err(Fault::transient(format!(
                    "{}: {node} stays in service, because {} of its pool are out already",
                    self.id,
                    hostlist::compress(away.iter().map(String::as_str))
                )));
            }
        }
        self.cordoned(node, self.link.nodes.cordon(node, mark).await)
    }

    fn cordoned(&self, node: &str, done: Result<Cordoned, DrainError>) -> Result<Outcome, Fault> {
        match done.map_err(|error| self.undrained(&error))? {
            Cordoned::Done => Ok(Outcome::default()),
            Cordoned::Already => Ok(Outcome { already: true, ..Outcome::default() }),
            // The next plan leaves the node to them.
            Cordoned::LeftTo(_) => Err(Fault::transient(format!(
                "{}: somebody else took {node} out meanwhile, and it is left to them",
                self.id
            ))),
        }
    }

    /// Asks pods to go until none is left that has to. It costs nothing to be dropped, and has the time that
    /// is left of it when it is gone on with.
    async fn drain(
        &self,
        node: &str,
        limit: Duration,
        evicts: DrainRules,
        mark: &CordonMark,
    ) -> Result<Outcome, Fault> {
        self.in_our_hands(node, mark).await?;
        let began = self.link.nodes.draining(node, &mark.token, now()).await;
        let began = began.map_err(|error| self.undrained(&error))?;
        let until = Instant::now() + node::time_left(began, now(), limit);
        let drained = self.drained_by(until, node, evicts, mark).await;
        // However it ended, the next time begins anew; where this one was only cut off, it goes on.
        let over = self.link.nodes.drained(node, &mark.token).await;
        let drained = drained?;
        over.map_err(|error| self.undrained(&error))?;
        match drained {
            None => Ok(Outcome::default()),
            Some(what) => Err(Fault::transient(format!(
                "{}: {what}, after {} s; give the budget room, or raise `drainTimeout`",
                self.id,
                limit.as_secs()
            ))),
        }
    }

    /// Asks pods to go until then; what is waited for still, in words.
    async fn drained_by(
        &self,
        until: Instant,
        node: &str,
        evicts: DrainRules,
        mark: &CordonMark,
    ) -> Result<Option<String>, Fault> {
        loop {
            self.in_our_hands(node, mark).await?;
            let slice = TELL.min(until.saturating_duration_since(Instant::now()));
            let end = self.link.nodes.drain(node, evicts, slice).await;
            let (blocked, leaving) = match end.map_err(|error| self.undrained(&error))? {
                DrainEnd::Drained => return Ok(None),
                DrainEnd::TimedOut { blocked, leaving } => (blocked, leaving),
            };
            let held = blocked.iter().map(|(pod, why)| format!("{} ({why})", pod.key));
            let going = leaving.iter().map(|pod| format!("{} (is ending)", pod.key));
            let what = format!("{node} is waited for: {}", listed(held.chain(going)));
            if Instant::now() >= until {
                return Ok(Some(what));
            }
            (self.progress)(ProgressUpdate { what, done: 0, total: None });
        }
    }

    pub(super) fn tell(&self, what: String) {
        (self.progress)(ProgressUpdate { what, done: 0, total: None });
    }

    pub(super) async fn in_our_hands(&self, node: &str, mark: &CordonMark) -> Result<(), Fault> {
        let live = self.get(node).await?;
        match node::out(&live) {
            Some(Out::Ours(have)) if have.token == mark.token => Ok(()),
            _ => Err(Fault::transient(format!(
                "{}: somebody gave {node} back, or took it out otherwise, before it was changed",
                self.id
            ))),
        }
    }

    async fn get(&self, node: &str) -> Result<Value, Fault> {
        let live = self.link.nodes.get(node).await.map_err(|fault| self.fault(&fault))?;
        live.ok_or_else(|| Fault::transient(format!("{}: there is no node {node}", self.id)))
    }

    async fn set(&self, node: &str, wish: &NodeWish, mark: &CordonMark) -> Result<Outcome, Fault> {
        // What was quiet when it was planned may not be so any more.
        let live = self.get(node).await?;
        if node::change(&live, wish).is_some_and(|change| change.moves_work) {
            self.in_our_hands(node, mark).await?;
        }
        let done = self.link.nodes.set(node, wish).await;
        let changed = done.map_err(|error| self.undrained(&error))?;
        Ok(Outcome { already: changed.is_none(), ..Outcome::default() })
    }

    /// Waits until a node is well, and offers what it should.
    async fn comes_back(
        &self,
        node: &str,
        offers: &BTreeMap<String, u64>,
    ) -> Result<Outcome, Fault> {
        let progress = |what: &str| {
            let what = format!("{node} is waited for: {what}");
            (self.progress)(ProgressUpdate { what, done: 0, total: None });
        };
        let judge = |live: Option<&Value>| {
            let wrong = wrong(live, offers);
            if let Some(what) = &wrong {
                progress(what);
            }
            wrong
        };
        let end = self.link.nodes.awaited(node, COMES_BACK, judge).await;
        match end.map_err(|fault| self.fault(&fault))? {
            None => Ok(Outcome::default()),
            Some(what) => Err(Fault::transient(format!(
                "{}: {node} is not well {} s after it was changed: {what}",
                self.id,
                COMES_BACK.as_secs()
            ))),
        }
    }

    fn undrained(&self, error: &DrainError) -> Fault {
        match error {
            DrainError::Fault(fault) => self.fault(fault),
            DrainError::NoNode(_) | DrainError::InService(_) => {
                Fault::transient(format!("{}: {error}", self.id))
            }
            DrainError::Refused { .. } => Fault::needs_human(
                format!("{}: {error}", self.id),
                "`evict` of the spec says what may be lost",
            ),
        }
    }

    fn not_performed(&self, error: &EngineError) -> Fault {
        let message = format!("{}: {error}", self.id);
        match error {
            EngineError::Fault(fault) => self.fault(fault),
            EngineError::Stale(_)
            | EngineError::NotReady { .. }
            | EngineError::Failed { .. }
            | EngineError::Stuck { .. } => Fault::transient(message),
            EngineError::Manifests { .. }
            | EngineError::Inventory(_)
            | EngineError::InventoryTaken { .. }
            | EngineError::Held { .. } => Fault::permanent(message),
        }
    }

    pub(super) fn fault(&self, fault: &KubeFault) -> Fault {
        self.provider.doubt(&self.id.name, fault);
        let message = format!("{}: {fault}", self.id);
        match fault {
            // The same would be refused again.
            KubeFault::Invalid { .. } | KubeFault::Refused { .. } => Fault::permanent(message),
            // A right or a certificate may be given at any time, and nobody tells.
            _ => Fault::transient(message),
        }
    }
}

/// The time.
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// What is not as it should be with a node; `None`: nothing.
fn wrong(live: Option<&Value>, offers: &BTreeMap<String, u64>) -> Option<String> {
    let Some(live) = live else { return Some("it is not there".to_owned()) };
    let labels = live.pointer("/metadata/labels");
    let cut = labels.and_then(|labels| labels.get(CUT_STATE)).and_then(Value::as_str);
    if let Some(state) = cut.filter(|state| *state != "success") {
        return Some(format!("its GPUs are being cut ({state})"));
    }
    let none: [&Value; 0] = [];
    let view = node::overview([live], none);
    let seen = view.nodes.first()?;
    if !seen.ready {
        let why = seen.problems.iter().find(|it| it.kind == "Ready");
        return Some(why.map_or_else(|| "it is not ready".to_owned(), |it| it.message.clone()));
    }
    let have = |resource: &str| seen.allocatable.get(resource).map_or(0, |it: &Amount| it.whole());
    let other = offers.iter().find(|(resource, count)| have(resource) != i128::from(**count));
    let (resource, count) = other?;
    Some(format!("it offers {} of {resource}, and {count} are expected", have(resource)))
}

fn listed(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    let more = all.len().saturating_sub(PODS_NAMED_MAX);
    let named = all.into_iter().take(PODS_NAMED_MAX).collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_well_when_it_answers_and_offers_what_it_should() {
        let offers = BTreeMap::from([("nvidia.com/mig-1g.10gb".to_owned(), 7)]);
        let mut node = json!({"metadata": {"name": "g1", "labels": {}}, "status": {
            "conditions": [{"type": "Ready", "status": "False", "message": "no network"}],
            "allocatable": {"nvidia.com/mig-1g.10gb": "3"}}});
        assert_eq!(wrong(None, &offers).as_deref(), Some("it is not there"));
        assert_eq!(wrong(Some(&node), &offers).as_deref(), Some("no network"));
        node["status"]["conditions"][0]["status"] = json!("True");
        assert!(wrong(Some(&node), &offers).unwrap().contains("offers 3 of"));
        assert_eq!(wrong(Some(&node), &BTreeMap::new()), None);
        node["metadata"]["labels"][CUT_STATE] = json!("pending");
        assert!(wrong(Some(&node), &BTreeMap::new()).unwrap().contains("pending"));
        node["metadata"]["labels"][CUT_STATE] = json!("success");
        node["status"]["allocatable"]["nvidia.com/mig-1g.10gb"] = json!("7");
        assert_eq!(wrong(Some(&node), &offers), None);
    }
}
