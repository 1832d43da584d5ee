//! A host whose config leads to a fake API server, an environment repository that asks for a cluster of
//! it, and the daemon between them.

use std::cell::Cell;
use std::fs;

use serde_json::{Value, json};
use trueup_fake_kube::FakeKube;

use crate::cli::{Daemon, Ended, Host, program};
use crate::support::git_repo::GitRepo;
use crate::support::slurm_lab::until;

const REPOSITORY: &str = "apiVersion: trueup/v1\nkind: Repository\nmetadata: {name: test}\n\
                          spec: {environments: {lab: {hosts: [node1]}}}\n";

/// All of it.
pub(super) struct Site {
    pub(super) host: Host,
    pub(super) repo: GitRepo,
    pub(super) kube: FakeKube,
    /// How often something was published: each time is a commit of its own.
    published: Cell<u32>,
}

impl Site {
    /// With these nodes, which are well and empty.
    pub(super) fn start(nodes: &[&str]) -> Self {
        Self::start_resting(nodes, "2s")
    }

    /// The same, looked at no more often than this while nothing is heard of it.
    pub(super) fn start_resting(nodes: &[&str], resync: &str) -> Self {
        let kube = FakeKube::start();
        kube.world().put(&namespace("kube-system"));
        for name in nodes {
            kube.world().put(&node(name));
        }
        let (host, repo) = (Host::new(), GitRepo::new());
        let at = host.path().display().to_string();
        let kubeconfig = kube.write_kubeconfig(host.path());
        let config = format!(
            "repository:\n  url: {}\n  poll: {{interval: 1s}}\nhost: node1\nstateDirectory: {at}/state\n\
             socket: {at}/t.sock\naccelerator: tcg\nlibvirt: {{uri: 'test:///default'}}\n\
             limits: {{resync: {resync}}}\nclusters: {{cloud: {{kubeconfig: {}}}}}\n",
            repo.bare().display(),
            kubeconfig.display(),
        );
        fs::write(host.path().join("config.yaml"), config).unwrap();
        repo.write("trueup.yaml", REPOSITORY);
        Self { host, repo, kube, published: Cell::new(0) }
    }

    pub(super) fn publish(&self, spec: &Value) {
        self.publish_with(spec, true);
    }

    pub(super) fn publish_with(&self, spec: &Value, adopt: bool) {
        let mut spec = spec.clone();
        spec["type"] = json!("kubernetes");
        self.publish_document(&format!(
            "---\napiVersion: trueup/v1\nkind: Cluster\nmetadata: {{name: cloud}}\nlifecycle: \
             {{adopt: {adopt}}}\nspec: {spec}\n"
        ));
    }

    /// Asks for no cluster any more, and for something else: an empty environment takes nothing away.
    pub(super) fn publish_none(&self) {
        self.publish_document(
            "---\napiVersion: trueup/v1\nkind: Network\nmetadata: {name: side}\nspec: {mode: isolated, \
             cidr: 10.77.0.1/24}\n",
        );
    }

    fn publish_document(&self, document: &str) {
        let at = self.host.path().display();
        self.published.set(self.published.get() + 1);
        let environment = format!(
            "# {}\napiVersion: trueup/v1\nkind: Environment\nmetadata: {{name: lab}}\nspec:\n  \
             storagePools: [{{name: fast, path: {at}/pool}}]\n{document}",
            self.published.get()
        );
        self.repo.publish("environments/lab/all.yaml", &environment);
    }

    pub(super) fn run(&self, words: &[&str]) -> Ended {
        self.host.run(words)
    }

    pub(super) fn daemon(&self) -> Daemon {
        let mut run = program();
        run.arg("--config").arg(self.host.path().join("config.yaml")).arg("run");
        Daemon::start(run, &self.host.path().join("daemon.log"))
    }

    /// The cluster as `trueup cluster` tells it.
    pub(super) fn row(&self) -> Value {
        let shown = self.run(&["cluster", "-o", "json"]).code(0).out;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["clusters"][0].clone()
    }

    /// What the daemon knows of the cluster.
    pub(super) fn known(&self) -> Value {
        let shown = self.run(&["state", "-o", "json"]);
        let shown: Value = serde_json::from_str(&shown.out).unwrap_or_default();
        shown["resources"]["cluster/cloud"].clone()
    }

    /// Waits until the daemon says that it cannot see the cluster, and gives its words.
    #[track_caller]
    pub(super) fn await_unobservable(&self, words: &str) -> String {
        until(&format!("it cannot be seen: {words}"), || {
            let known = self.known();
            known["unobservable"].as_str().filter(|why| why.contains(words)).map(str::to_owned)
        })
    }

    /// Waits until the daemon sees the cluster.
    #[track_caller]
    pub(super) fn await_seen(&self) {
        until("it can be seen", || {
            let known = self.known();
            (known.is_object() && known["unobservable"].is_null()).then_some(())
        });
    }

    /// The verbs of steps that were begun on the cluster, in their order.
    pub(super) fn steps(&self) -> Vec<String> {
        let log = self.run(&["log", "--type", "step.started", "-o", "json"]).code(0).out;
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let own = events.filter(|event| event["subject"] == "cluster/cloud");
        own.map(|event| event["data"]["verb"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn status(&self) -> String {
        self.run(&["status"]).out
    }

    /// Waits until the daemon has the cluster as the newest commit asks.
    #[track_caller]
    pub(super) fn await_synced(&self) {
        let head = self.repo.head().to_string();
        until("it is as asked", || {
            let shown: Value =
                serde_json::from_str(&self.run(&["state", "-o", "json"]).out).ok()?;
            let known = &shown["resources"]["cluster/cloud"];
            let so = known["applied"]["wish"] == known["wish"]
                && shown["spec"]["commit"] == head.as_str()
                && known["inFlight"].is_null()
                && known["drift"].is_null();
            so.then_some(())
        });
    }

    /// A node as the server has it.
    pub(super) fn node(&self, name: &str) -> Value {
        self.kube.world().get("Node", "", name).unwrap().clone()
    }

    pub(super) fn is_out(&self, name: &str) -> bool {
        self.node(name)["spec"]["unschedulable"] == true
    }

    /// The mark on a node that is in our hands.
    pub(super) fn mark(&self, name: &str) -> Option<Value> {
        let node = self.node(name);
        let mark = node["metadata"]["annotations"]["trueup.io/cordon"].as_str()?;
        Some(serde_json::from_str(mark).unwrap())
    }

    /// The keys of a node's taints that are not the cluster's own.
    pub(super) fn taints(&self, name: &str) -> Vec<String> {
        let node = self.node(name);
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let keys = taints.iter().map(|taint| taint["key"].as_str().unwrap().to_owned());
        keys.filter(|key| !key.starts_with("node.kubernetes.io/")).collect()
    }

    /// A pod of a workload on a node, in a namespace that is there.
    pub(super) fn pod(&self, name: &str, node: &str) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": "web"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web",
                    "uid": "r1", "controller": true}]},
            "spec": {"nodeName": node, "containers": [{"name": "web", "image": "example.org/web:1",
                "resources": {"requests": {"cpu": "250m", "nvidia.com/gpu": "1"}}}]},
            "status": {"phase": "Running"}});
        self.kube.world().put(&pod);
    }

    /// How many of those pods the budget lets go.
    pub(super) fn budget(&self, allowed: u32) {
        let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
            "status": {"observedGeneration": 1, "disruptionsAllowed": allowed,
                "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
        self.kube.world().put(&budget);
    }

    pub(super) fn is_running(&self, pod: &str) -> bool {
        self.kube.world().get("Pod", "shop", pod).is_some()
    }

    pub(super) fn namespace(&self, name: &str) {
        self.kube.world().put(&namespace(name));
    }
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {},
        "status": {"nodeInfo": {"kubeletVersion": "v1.33.1"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "capacity": {"cpu": "8", "nvidia.com/gpu": "2"},
            "allocatable": {"cpu": "7500m", "nvidia.com/gpu": "2"}}})
}
