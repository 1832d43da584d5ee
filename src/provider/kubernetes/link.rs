//! The way to one cluster, and what is known of it from the last look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use trueup_kubernetes::cert::{self, Certificate};
use trueup_kubernetes::grant::{self, Found, Giver};
use trueup_kubernetes::node::{ClusterView, NODES, Nodes, overview};
use trueup_kubernetes::release::{Engine, Seen, Waits, Wish};
use trueup_kubernetes::{Api, Connection, Fault, Kind, Lens, ObjectKey, Resource, Selector, Stock};

use super::certificates::InMachine;
use crate::model::resource::KubernetesSeen;

/// How long what is known of certificates is taken for current. They change once in a year.
pub(super) const CERTIFICATES: Duration = Duration::from_secs(3600);

/// The way to one cluster.
pub(super) struct Link {
    pub(super) connection: Arc<Connection>,
    pub(super) nodes: Nodes,
    giver: Giver,
    /// Counts what was done to the cluster from here.
    done: AtomicU64,
    known: tokio::sync::Mutex<Known>,
    /// What is known of the certificates in the machine of its control plane, and for how long.
    pub(super) in_machine: tokio::sync::Mutex<Option<(Instant, InMachine)>>,
}

/// What is known from the last look.
struct Known {
    engine: Engine,
    /// What had been done when it was looked at last.
    done: u64,
    view: Option<Kept>,
    certificates: Option<(Instant, Vec<Certificate>, Vec<String>)>,
}

/// What was made of the nodes and pods of one moment.
#[derive(Clone)]
struct Kept {
    nodes: Arc<Stock>,
    pods: Arc<Stock>,
    view: ClusterView,
    by_name: BTreeMap<String, Arc<Value>>,
}

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    /// The server.
    #[error(transparent)]
    Server(#[from] Fault),
    /// The namespaces.
    #[error(transparent)]
    Namespaces(#[from] trueup_kubernetes::release::EngineError),
}

impl Link {
    pub(super) fn new(giver: Giver, connection: Arc<Connection>) -> Self {
        let api = connection.api().clone();
        let watches = connection.watches.clone();
        let known = Known {
            engine: Engine::with_watches(api.clone(), Waits::default(), watches),
            done: 0,
            view: None,
            certificates: None,
        };
        let (nodes, known) = (Nodes::new(api), tokio::sync::Mutex::new(known));
        let in_machine = tokio::sync::Mutex::default();
        Self { connection, nodes, giver, done: AtomicU64::new(0), known, in_machine }
    }

    pub(super) fn api(&self) -> &Api {
        self.connection.api()
    }

    /// Who gives access to it here.
    pub(super) fn giver(&self) -> &Giver {
        &self.giver
    }

    /// Notes that something was done: what a watch holds may be from before.
    pub(super) fn note(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// Notes that certificates were renewed: the next look reads them anew.
    pub(super) async fn note_renewed(&self) {
        self.known.lock().await.certificates = None;
        *self.in_machine.lock().await = None;
    }

    /// Everything that a plan needs to know. `gives`: people may be given access to it.
    pub(super) async fn look(&self, wish: &Wish, gives: bool) -> Result<KubernetesSeen, LookError> {
        let done = self.done.load(Ordering::SeqCst);
        // Asked each time: a watch says nothing for minutes when its server is gone.
        let release = self.api().version().await?;
        let mut known = self.known.lock().await;
        let kept = self.kept(&mut known, done).await?;
        let namespaces: Seen = known.engine.look(wish).await?;
        let (certificates, unseen) = self.certificates(&mut known).await;
        let mut view = kept.view;
        view.unread.extend(unseen);
        let access = match self.given(known.done == done).await {
            Ok(access) => access,
            // Whoever gives nobody access needs no rights for it.
            Err(Fault::Forbidden { .. }) if !gives => Vec::new(),
            Err(fault @ Fault::Forbidden { .. }) => {
                view.unread.push(fault.to_string());
                Vec::new()
            }
            Err(fault) => return Err(fault.into()),
        };
        known.done = done;
        Ok(KubernetesSeen {
            release,
            view,
            nodes: kept.by_name,
            namespaces,
            certificates,
            renewable: BTreeSet::new(),
            machines: BTreeMap::new(),
            unwell: BTreeMap::new(),
            access,
            now: now(),
        })
    }

    /// Nodes and pods: from watches where these are current and nothing was done since the last look.
    async fn kept(&self, known: &mut Known, done: u64) -> Result<Kept, Fault> {
        let (nodes_of, pods_of) = (self.of("Node").await?, self.of("Pod").await?);
        let (all, is_current) = (Selector::default(), known.done == done);
        let nodes = self.stock(&nodes_of, &all, &NODES, is_current).await?;
        let pods = self.stock(&pods_of, &all, &PODS, is_current).await?;
        let same =
            |kept: &&Kept| Arc::ptr_eq(&kept.nodes, &nodes) && Arc::ptr_eq(&kept.pods, &pods);
        if let Some(kept) = known.view.as_ref().filter(same) {
            return Ok(kept.clone());
        }
        let view = overview(nodes.values().map(|it| &**it), pods.values().map(|it| &**it));
        let by_name = nodes.iter().map(|(key, node)| (key.name.clone(), Arc::clone(node)));
        let kept = Kept { by_name: by_name.collect(), nodes, pods, view };
        known.view = Some(kept.clone());
        Ok(kept)
    }

    async fn of(&self, kind: &str) -> Result<Resource, Fault> {
        self.api().resource(&Kind::new("", "v1", kind)).await
    }

    /// What gives people access, and is for us to see to.
    pub(super) async fn given(&self, is_current: bool) -> Result<Vec<Found>, Fault> {
        let mut all = Vec::new();
        for kind in [grant::accounts(), grant::bindings()] {
            let of = self.api().resource(&kind).await?;
            let which = self.giver.selector();
            let stock = self.stock(&of, &which, &Lens::WHOLE, is_current).await?;
            all.extend(stock.values().map(Arc::clone));
        }
        Ok(grant::found(&self.giver, Timestamp::now(), all.iter().map(|it| &**it)))
    }

    /// Objects from a watch where that is current, and nothing was done that it may not have heard of yet.
    async fn stock(
        &self,
        of: &Resource,
        which: &Selector,
        lens: &Lens,
        is_current: bool,
    ) -> Result<Arc<Stock>, Fault> {
        let watches = &self.connection.watches;
        watches.follow_by(of, which, lens);
        match watches.stock_by(&of.kind(), which, lens).filter(|_| is_current) {
            Some(stock) => Ok(stock),
            None => self.listed(of, which, lens).await,
        }
    }

    async fn listed(
        &self,
        of: &Resource,
        which: &Selector,
        lens: &Lens,
    ) -> Result<Arc<Stock>, Fault> {
        let all = self.api().list(of, which).await?.into_iter();
        let slimmed = all.map(|mut it| {
            (lens.slim)(&mut it);
            it
        });
        let named = slimmed.filter_map(|it| Some((ObjectKey::of(&it)?, Arc::new(it))));
        Ok(Arc::new(named.collect()))
    }

    /// Every node as the server has it now.
    pub(super) async fn all_nodes(&self) -> Result<BTreeMap<String, Arc<Value>>, Fault> {
        let nodes = self.listed(&self.of("Node").await?, &Selector::default(), &NODES).await?;
        Ok(nodes.iter().map(|(key, node)| (key.name.clone(), Arc::clone(node))).collect())
    }

    /// The certificates by which the cluster is reached, and what of them could not be looked at.
    async fn certificates(&self, known: &mut Known) -> (Vec<Certificate>, Vec<String>) {
        if let Some((since, all, unseen)) = &known.certificates
            && since.elapsed() < CERTIFICATES
        {
            return (all.clone(), unseen.clone());
        }
        let (mut all, mut unseen) = (Vec::new(), Vec::new());
        match cert::of_server(&self.connection.access).await {
            Ok(certificate) => all.push(certificate),
            Err(why) => unseen.push(why),
        }
        match self.connection.access.own_certificates() {
            Ok(own) => all.extend(own),
            Err(why) => unseen.push(why),
        }
        known.certificates = Some((Instant::now(), all.clone(), unseen.clone()));
        (all, unseen)
    }

    /// The nodes of these that take no pods now: gone, not well, or out of service.
    pub(super) async fn away(&self, names: &[String]) -> Result<Vec<String>, Fault> {
        let nodes = self.listed(&self.of("Node").await?, &Selector::default(), &NODES).await?;
        let none: [&Value; 0] = [];
        let view = overview(nodes.values().map(|it| &**it), none);
        let well = view.nodes.iter().filter(|node| node.ready && node.out.is_none());
        let well: BTreeSet<&str> = well.map(|node| node.name.as_str()).collect();
        Ok(names.iter().filter(|name| !well.contains(name.as_str())).cloned().collect())
    }
}

/// Pods as far as a look at a cluster goes: whole, those of a large one would be most of our memory. What
/// they do is no news: nothing is planned by it, and it is told now and then.
const PODS: Lens = Lens { name: "pods", slim: |pod| *pod = slim_pod(pod), is_news: |_, _| false };

/// A pod as far as it counts: where it is, what it asks for, and since when and why it waits.
fn slim_pod(pod: &Value) -> Value {
    let part = |path: &str| pod.pointer(path).cloned().unwrap_or_default();
    let asks = |path: &str| {
        let all = pod.pointer(path).and_then(Value::as_array).into_iter().flatten();
        let asks = all
            .map(|it| json!({"resources": it["resources"], "restartPolicy": it["restartPolicy"]}));
        asks.collect::<Vec<_>>()
    };
    // Most pods wait for nothing, and need not say since when.
    let waits = part("/spec/nodeName").as_str().is_none_or(str::is_empty);
    let since = if waits { part("/metadata/creationTimestamp") } else { Value::Null };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": part("/metadata/namespace"),
            "name": part("/metadata/name"),
            "creationTimestamp": since,
        },
        "spec": {
            "nodeName": part("/spec/nodeName"),
            "overhead": part("/spec/overhead"),
            "containers": asks("/spec/containers"),
            "initContainers": asks("/spec/initContainers"),
        },
        "status": {"phase": part("/status/phase"), "conditions": part("/status/conditions")},
    })
}

/// The time, seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs());
    since.ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_counts_the_same_without_what_is_left_out() {
        let container = json!({"name": "web", "image": "example.org/web:1", "env": [{"name": "A"}],
            "resources": {"requests": {"cpu": "250m"}}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "shop", "name": "web-1", "uid": "u", "managedFields": [{}]},
            "spec": {"nodeName": "n1", "volumes": [{}], "overhead": {"cpu": "10m"},
                "containers": [container], "initContainers": [{"restartPolicy": "Always",
                    "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1"}});
        let waiting = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "shop", "name": "web-2",
                "creationTimestamp": "2026-01-02T03:04:05Z"}, "spec": {},
            "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "message": "no room"}]}});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
            "status": {"images": [{"names": ["x"]}], "allocatable": {"cpu": "8"}}});
        let whole = [pod, waiting, node];
        let mut less = whole.clone();
        less[..2].iter_mut().for_each(PODS.slim);
        (NODES.slim)(&mut less[2]);
        let view = |all: &[Value; 3]| overview([&all[2]], [&all[0], &all[1]]);
        assert_eq!(view(&less), view(&whole));
        assert_eq!(view(&less).waiting[0].since, "2026-01-02T03:04:05Z");
        assert_eq!(view(&less).nodes[0].allocated["cpu"].milli(), 1_260);
        let size = |all: &[Value; 3]| all.iter().map(|it| it.to_string().len()).sum::<usize>();
        assert!(size(&less) < size(&whole), "{less:?}");
        assert_eq!(ObjectKey::of(&less[0]), ObjectKey::of(&whole[0]));
    }
}
