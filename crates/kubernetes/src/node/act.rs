//! What was decided about nodes, done. Each call can be repeated, and looks anew first.

use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watch_object, watcher};
use serde_json::Value;

use super::began::{drain_began, note};
use super::cordon::{CordonMark, Out, Taken, cordon, uncordon};
use super::drain::{DrainPlan, DrainRules, PodRef, Stays, drain_plan};
use super::skew::{Version, eviction_api};
use super::view::{ClusterView, overview};
use super::wish::{NodeChange, NodeWish, change};
use crate::api::{Api, Evicted, Resource, Selector};
use crate::fault::{About, Fault};
use crate::key::{Kind, ObjectKey};
use crate::watch::{dynamic, explain_watch, plain};

/// How often a patch is made anew because somebody else was first. Kubelets write every ten seconds.
const CONFLICTS_MAX: u32 = 5;
/// After how long a pod that a budget holds is asked again. Nothing tells when a budget has room: it
/// follows from the health of other pods.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What taking a node out, or giving it back, came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cordoned {
    /// It was done.
    Done,
    /// It was so already.
    Already,
    /// Somebody else took it out: left alone.
    LeftTo(Out),
}

/// How a drain ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainEnd {
    /// Nothing is left on the node that has to go.
    Drained,
    /// The time is over. What was evicted is gone; the node can be drained on or given back.
    TimedOut {
        /// Held by a budget, with the server's words.
        blocked: Vec<(PodRef, String)>,
        /// On their way, or not asked yet.
        leaving: Vec<PodRef>,
    },
}

/// Why a drain did not begin.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The server.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// There is no such node.
    #[error("there is no node {0}")]
    NoNode(String),
    /// It is in service: what leaves would come back.
    #[error("node {0} is in service, so what leaves it could come back: cordon it first")]
    InService(String),
    /// Pods are on it that are not to be moved without being told.
    #[error("node {node} has pods that would be lost: {}; allow that for this drain, or move them first", told(.pods))]
    Refused {
        /// The node.
        node: String,
        /// These.
        pods: Vec<Stays>,
    },
}

fn told(pods: &[Stays]) -> String {
    let all: Vec<_> =
        pods.iter().map(|stays| format!("{} ({})", stays.pod.key, stays.why)).collect();
    all.join(", ")
}

/// The nodes of a cluster.
#[derive(Debug, Clone)]
pub struct Nodes {
    api: Api,
    again: Duration,
}

impl Nodes {
    /// Of this cluster.
    pub fn new(api: Api) -> Self {
        Self { api, again: ASK_AGAIN }
    }

    /// With another time after which a pod is asked again.
    #[must_use]
    pub fn asking_again(self, again: Duration) -> Self {
        Self { again, ..self }
    }

    async fn of(&self, kind: &str) -> Result<Resource, Fault> {
        self.api.resource(&Kind::new("", "v1", kind)).await
    }

    /// Everything at a glance.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn overview(&self) -> Result<ClusterView, Fault> {
        let (nodes, pods) = (self.of("Node").await?, self.of("Pod").await?);
        let all = Selector::default();
        Ok(overview(&self.api.list(&nodes, &all).await?, &self.api.list(&pods, &all).await?))
    }

    /// Takes a node out of service, with our mark.
    ///
    /// # Errors
    /// [`DrainError`].
    pub async fn cordon(&self, node: &str, mark: &CordonMark) -> Result<Cordoned, DrainError> {
        self.patched(node, |live| cordon(live, mark)).await
    }

    /// Gives a node back that was taken out with this token.
    ///
    /// # Errors
    /// [`DrainError`].
    pub async fn uncordon(&self, node: &str, token: &str) -> Result<Cordoned, DrainError> {
        self.patched(node, |live| uncordon(live, token)).await
    }

    async fn patched(
        &self,
        node: &str,
        decide: impl Fn(&Value) -> Taken,
    ) -> Result<Cordoned, DrainError> {
        let of = self.of("Node").await?;
        let key = ObjectKey::new("", "Node", None, node);
        let mut left = CONFLICTS_MAX;
        loop {
            let live = self.api.get(&of, &key).await?;
            let live = live.ok_or_else(|| DrainError::NoNode(node.to_owned()))?;
            let patch = match decide(&live) {
                Taken::Patch(patch) => patch,
                Taken::Already => return Ok(Cordoned::Already),
                Taken::Others(out) => return Ok(Cordoned::LeftTo(out)),
            };
            match self.api.merge(&of, &key, &patch).await {
                Ok(_) => return Ok(Cordoned::Done),
                Err(Fault::Conflict { .. }) if left > 0 => left -= 1,
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// Makes a node bear what is wished; what had to change, where something had.
    ///
    /// # Errors
    /// [`DrainError`].
    pub async fn set(&self, node: &str, wish: &NodeWish) -> Result<Option<NodeChange>, DrainError> {
        let of = self.of("Node").await?;
        let key = ObjectKey::new("", "Node", None, node);
        let mut left = CONFLICTS_MAX;
        loop {
            let live = self.api.get(&of, &key).await?;
            let live = live.ok_or_else(|| DrainError::NoNode(node.to_owned()))?;
            let Some(change) = change(&live, wish) else { return Ok(None) };
            match self.api.merge(&of, &key, &change.patch).await {
                Ok(_) => return Ok(Some(change)),
                Err(Fault::Conflict { .. }) if left > 0 => left -= 1,
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// A node as the server has it; `None`: there is none of that name.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn get(&self, node: &str) -> Result<Option<Value>, Fault> {
        let of = self.of("Node").await?;
        self.api.get(&of, &ObjectKey::new("", "Node", None, node)).await
    }

    /// Follows a node until nothing is wrong with it any more, as `wrong` judges it; for `limit` at most.
    /// What is wrong still, where the time is over.
    ///
    /// # Errors
    /// [`Fault`]; what passes by itself is waited out.
    pub async fn awaited(
        &self,
        node: &str,
        limit: Duration,
        mut wrong: impl FnMut(Option<&Value>) -> Option<String>,
    ) -> Result<Option<String>, Fault> {
        let of = self.of("Node").await?;
        let what = format!("watch node {node}");
        let about = About { server: self.api.server(), what: &what, hide: false };
        let mut last = None;
        let following = async {
            let nodes = dynamic(&self.api, &of, None);
            let mut events = std::pin::pin!(watch_object(nodes, node).default_backoff());
            while let Some(event) = events.next().await {
                let live = match event {
                    Ok(live) => live.and_then(|object| plain(object, &of)),
                    Err(error) => {
                        let fault = explain_watch(&error, &about);
                        let passes = fault.is_transient()
                            || matches!(fault, Fault::Refused { code: 410, .. });
                        if passes {
                            continue;
                        }
                        return Err(fault);
                    }
                };
                last = wrong(live.as_ref());
                if last.is_none() {
                    return Ok(());
                }
            }
            let (server, words) = (self.api.server().to_owned(), "the watch ended".to_owned());
            Err(Fault::Unreachable { server, what: what.clone(), words })
        };
        match tokio::time::timeout(limit, following).await {
            Ok(ended) => ended.map(|()| None),
            Err(_) => Ok(Some(last.unwrap_or_else(|| "it was not heard of".to_owned()))),
        }
    }

    /// Since when a node is being emptied for this: as the note on it says, or from `now` on, which is
    /// noted then.
    ///
    /// # Errors
    /// [`DrainError`].
    pub async fn draining(
        &self,
        node: &str,
        token: &str,
        now: Timestamp,
    ) -> Result<Timestamp, DrainError> {
        let began = self.noted(node, |live| match drain_began(live, token, now) {
            Some(_) => None,
            None => Some(note(live, token, Some(now))),
        });
        let live = began.await?;
        Ok(drain_began(&live, token, now).unwrap_or(now))
    }

    /// Notes that a node is not being emptied any more: the next time begins anew.
    ///
    /// # Errors
    /// [`DrainError`].
    pub async fn drained(&self, node: &str, token: &str) -> Result<(), DrainError> {
        let over = self.noted(node, |live| {
            let noted = live.get("metadata")?.get("annotations")?.get(super::began::DRAIN);
            noted.map(|_| note(live, token, None))
        });
        over.await.map(drop)
    }

    /// Patches a node as `decide` says, and gives it as it is then.
    async fn noted(
        &self,
        node: &str,
        decide: impl Fn(&Value) -> Option<Value>,
    ) -> Result<Value, DrainError> {
        let of = self.of("Node").await?;
        let key = ObjectKey::new("", "Node", None, node);
        let mut left = CONFLICTS_MAX;
        loop {
            let live = self.api.get(&of, &key).await?;
            let live = live.ok_or_else(|| DrainError::NoNode(node.to_owned()))?;
            let Some(patch) = decide(&live) else { return Ok(live) };
            match self.api.merge(&of, &key, &patch).await {
                Ok(live) => return Ok(live),
                Err(Fault::Conflict { .. }) if left > 0 => left -= 1,
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// What a drain would do.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn drain_plan(&self, node: &str, rules: DrainRules) -> Result<DrainPlan, Fault> {
        let of = self.of("Pod").await?;
        Ok(drain_plan(&self.api.list(&of, &on(node)).await?, rules))
    }

    /// Asks all that has to leave a cordoned node to go, and waits until it went, for `limit` at most.
    /// Budgets are respected: a pod that may not go is asked again, and named when the time is over.
    ///
    /// # Errors
    /// [`DrainError`]; then nothing was asked to go but for [`DrainError::Fault`].
    pub async fn drain(
        &self,
        node: &str,
        rules: DrainRules,
        limit: Duration,
    ) -> Result<DrainEnd, DrainError> {
        let of = self.of("Node").await?;
        let key = ObjectKey::new("", "Node", None, node);
        let live = self.api.get(&of, &key).await?;
        let live = live.ok_or_else(|| DrainError::NoNode(node.to_owned()))?;
        if super::cordon::out(&live).is_none() {
            return Err(DrainError::InService(node.to_owned()));
        }
        let version: Option<Version> = self.api.version().await?.parse().ok();
        // A server that does not say its release in a known way is a new one.
        let version = version.map_or("v1", eviction_api);
        let pods = self.of("Pod").await?;
        let config = watcher::Config::default()
            .timeout(self.api.limits().watch_seconds())
            .fields(&format!("spec.nodeName={node}"));
        // What was there before is not news, and an error of the watch leaves the time to ask again.
        let news = |event: &watcher::Result<Event<_>>| {
            let is = matches!(event, Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone));
            std::future::ready(is)
        };
        let changes = watcher(dynamic(&self.api, &pods, None), config).default_backoff();
        let changes = changes.filter(news);
        let mut changes = std::pin::pin!(changes);
        let until = tokio::time::Instant::now() + limit;
        loop {
            let plan = self.drain_plan(node, rules).await?;
            if !plan.refused.is_empty() {
                let (node, pods) = (node.to_owned(), plan.refused);
                return Err(DrainError::Refused { node, pods });
            }
            if plan.is_done() {
                return Ok(DrainEnd::Drained);
            }
            let mut blocked = Vec::new();
            let mut leaving = plan.leaving;
            for pod in plan.evict {
                match self.api.evict(&pod.key, &pod.uid, version).await {
                    Ok(Evicted::Yes) => leaving.push(pod),
                    Ok(Evicted::Gone) => {}
                    Ok(Evicted::Blocked(words)) => blocked.push((pod, words)),
                    // It is asked again with the next look; the limit bounds that.
                    Err(fault) if fault.is_transient() => blocked.push((pod, fault.to_string())),
                    Err(fault) => return Err(fault.into()),
                }
            }
            let again = tokio::time::Instant::now() + self.again;
            if tokio::time::Instant::now() >= until {
                return Ok(DrainEnd::TimedOut { blocked, leaving });
            }
            // Anything about pods of the node, or the time to ask again, whichever is first.
            tokio::select! {
                _ = changes.next() => {}
                () = tokio::time::sleep_until(again.min(until)) => {}
            }
        }
    }
}

fn on(node: &str) -> Selector {
    let fields = Some(format!("spec.nodeName={node}"));
    Selector { namespace: None, labels: None, fields }
}
