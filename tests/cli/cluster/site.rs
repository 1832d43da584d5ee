//! A host with the controller of a real cluster, an environment repository that asks for it as it is, and
//! the daemon between them.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::cli::{Daemon, Ended, Host, program};
use crate::support::git_repo::GitRepo;
use crate::support::slurm_lab::{Lab, until};

const REPOSITORY: &str = "apiVersion: trueup/v1\nkind: Repository\nmetadata: {name: test}\n\
                          spec: {environments: {lab: {hosts: [node1]}}}\n";

/// A host with the controller of a running cluster, and an environment repository that asks for it as
/// it is.
pub(super) struct Site {
    pub(super) host: Host,
    pub(super) repo: GitRepo,
    pub(super) lab: Lab,
    /// The document's spec.
    pub(super) spec: Value,
    /// What the host's config says of the cluster.
    settings: Value,
    /// What the daemon is started by.
    pub(super) under: Vec<String>,
    /// How often something was published: each time is a commit of its own.
    published: Cell<u32>,
}

impl Site {
    pub(super) fn start() -> Option<Self> {
        Some(Self::of(Lab::start()?))
    }

    /// The same for a lab that is not like the others.
    pub(super) fn of(lab: Lab) -> Self {
        let host = Host::new();
        let repo = GitRepo::new();
        lab.script("restart-node", &restart_node(&lab));
        let settings = json!({
            "folder": lab.live().folder,
            "restartController": lab.among(&[&lab.path("restart")]),
            "restartNode": lab.among(&[&lab.path("restart-node"), "{node}"]),
        });
        repo.write("trueup.yaml", REPOSITORY);
        let spec = spec_of(&lab);
        let (under, published) = (Vec::new(), Cell::new(0));
        let mut site = Self { host, repo, lab, spec, settings, under, published };
        site.publish(&site.spec);
        site.set("allowedPaths", json!([]));
        site
    }

    /// Says something of the cluster in the host's config, which is read by what is started from now on.
    pub(super) fn set(&mut self, key: &str, value: Value) {
        self.settings[key] = value;
        let at = self.host.path().display();
        let config = format!(
            "repository:\n  url: {}\n  poll: {{interval: 1s}}\nhost: node1\nstateDirectory: {at}/state\n\
             socket: {at}/t.sock\naccelerator: tcg\nlibvirt: {{uri: 'test:///default'}}\n\
             limits: {{resync: 2s}}\nclusters: {{hpc: {}}}\n",
            self.repo.bare().display(),
            self.settings,
        );
        fs::write(self.host.path().join("config.yaml"), config).unwrap();
    }

    /// The spec with a change.
    pub(super) fn with(&self, change: impl FnOnce(&mut Value)) -> Value {
        let mut spec = self.spec.clone();
        change(&mut spec);
        spec
    }

    pub(super) fn publish(&self, spec: &Value) {
        self.publish_with(spec, true);
    }

    pub(super) fn publish_with(&self, spec: &Value, adopt: bool) {
        let cluster = format!(
            "---\napiVersion: trueup/v1\nkind: Cluster\nmetadata: {{name: hpc}}\n\
             lifecycle: {{adopt: {adopt}}}\nspec: {spec}\n"
        );
        self.publish_text(&cluster);
    }

    /// An environment that asks for the cluster no more.
    pub(super) fn publish_none(&self) {
        self.publish_text("");
    }

    fn publish_text(&self, documents: &str) {
        let at = self.host.path().display();
        self.published.set(self.published.get() + 1);
        let environment = format!(
            "# {}\napiVersion: trueup/v1\nkind: Environment\nmetadata: {{name: lab}}\nspec:\n  \
             storagePools: [{{name: fast, path: {at}/pool}}]\n{documents}",
            self.published.get()
        );
        self.repo.publish("environments/lab/all.yaml", &environment);
    }

    pub(super) fn run(&self, words: &[&str]) -> Ended {
        self.host.run(words)
    }

    pub(super) fn daemon(&self) -> Daemon {
        let plain = program();
        let mut words = self.under.iter().map(OsStr::new).chain([plain.get_program()]);
        let mut run = Command::new(words.next().unwrap());
        run.args(words);
        for (variable, value) in plain.get_envs() {
            match value {
                Some(value) => run.env(variable, value),
                None => run.env_remove(variable),
            };
        }
        run.arg("--config").arg(self.host.path().join("config.yaml")).arg("run");
        Daemon::start(run, &self.daemon_log())
    }

    fn daemon_log(&self) -> PathBuf {
        self.host.path().join("daemon.log")
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
        shown["resources"]["cluster/hpc"].clone()
    }

    /// Waits until the daemon says that it cannot see the cluster, and gives its words.
    #[track_caller]
    pub(super) fn await_unobservable(&self) -> String {
        until("it cannot be seen", || self.known()["unobservable"].as_str().map(str::to_owned))
    }

    /// Waits until the daemon says of the cluster that something failed, with these words.
    #[track_caller]
    pub(super) fn await_failure(&self, words: &str) -> String {
        until(&format!("it fails with {words}"), || {
            let failure = self.known()["failure"].to_string();
            failure.contains(words).then_some(failure)
        })
    }

    /// The nodes whose daemons were started anew, in their order.
    pub(super) fn restarted(&self) -> Vec<String> {
        let log = fs::read_to_string(self.lab.at().join("log/daemons")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// The files in force and how often the controller was started: what a refusal must not change.
    pub(super) fn in_force(&self) -> (String, usize) {
        (self.lab.live_text(), self.lab.starts())
    }

    /// Puts programs of Slurm's into a folder that do what files in the lab say, and looks through them:
    /// `foreign-now` makes them those of a machine with another key, `release` is the release they tell.
    pub(super) fn look_through_programs(&mut self) {
        let folder = self.lab.at().join("bin");
        fs::create_dir(&folder).unwrap();
        for name in ["scontrol", "sinfo", "squeue", "sacctmgr"] {
            let text = format!(
                "#!/bin/sh\n[ \"$1\" != -i ] || echo \"$*\" >>{lab}/log/written\n\
                 [ ! -e {lab}/foreign-now ] || export SLURM_CONF={lab}/foreign/slurm.conf\n\
                 [ \"$1\" != --version ] || [ ! -e {lab}/release ] || exec cat {lab}/release\n\
                 exec /usr/bin/{name} \"$@\"\n",
                lab = self.lab.at().display()
            );
            self.lab.script(&format!("bin/{name}"), &text);
        }
        self.set("programs", json!(folder));
    }

    /// The verbs of steps that were begun on the cluster, in their order.
    pub(super) fn steps(&self) -> Vec<String> {
        let log = self.run(&["log", "--type", "step.started", "-o", "json"]).code(0).out;
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let own = events.filter(|event| event["subject"] == "cluster/hpc");
        own.map(|event| event["data"]["verb"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn status(&self) -> String {
        self.run(&["status"]).out
    }

    /// Waits until the daemon knows the newest commit.
    #[track_caller]
    pub(super) fn await_seen(&self) {
        let head = self.repo.head().to_string();
        until("the commit is seen", || {
            let shown: Value =
                serde_json::from_str(&self.run(&["state", "-o", "json"]).out).ok()?;
            (shown["spec"]["commit"] == head.as_str()).then_some(())
        });
    }

    /// Waits until the daemon has the cluster as the newest commit asks.
    #[track_caller]
    pub(super) fn await_synced(&self) {
        let head = self.repo.head().to_string();
        let last =
            || format!("{}\n{}", self.status(), fs::read_to_string(self.daemon_log()).unwrap());
        until(&format!("it is as asked: {}", last()), || {
            let shown: Value =
                serde_json::from_str(&self.run(&["state", "-o", "json"]).out).ok()?;
            let known = &shown["resources"]["cluster/hpc"];
            let applied = &known["applied"];
            let so = applied["wish"] == known["wish"]
                && shown["spec"]["commit"] == head.as_str()
                && known["inFlight"].is_null()
                && known["drift"].is_null();
            so.then_some(())
        });
    }
}

/// What stands for a service's restart on a node. `hold-NODE` makes it die in the middle, once that file is
/// gone (`held-NODE` says that it got there), and `start-NODE` is started in place of the usual daemon.
fn restart_node(lab: &Lab) -> String {
    format!(
        "#!/bin/sh\nif pid=$(cat {lab}/run/$1.pid 2>/dev/null) && kill \"$pid\" 2>/dev/null; then\n\
         \twhile kill -0 \"$pid\" 2>/dev/null; do sleep 0.02; done\nfi\n\
         if [ -e {lab}/hold-$1 ]; then\n\t: >{lab}/held-$1\n\twhile [ -e {lab}/hold-$1 ]; do sleep 0.02; done\n\texit 1\nfi\n\
         echo $1 >>{lab}/log/daemons\nmkdir -p {lab}/spool/$1\n\
         [ ! -x {lab}/start-$1 ] || exec {lab}/start-$1 >/dev/null 2>&1\n\
         exec slurmd -N $1 -f {lab}/etc/slurm.conf >/dev/null 2>&1\n",
        lab = lab.at().display()
    )
}

/// The document that asks for a lab as it is.
fn spec_of(lab: &Lab) -> Value {
    let mut wish = serde_json::to_value(&lab.wish).unwrap();
    let object = wish.as_object_mut().unwrap();
    object.remove("hooks");
    if let Some(accounting) = object["accounting"].as_object_mut() {
        accounting.remove("database");
    }
    for pool in object["pools"].as_array_mut().unwrap() {
        let memory = pool.as_object_mut().unwrap().remove("memoryMib").unwrap();
        pool["memory"] = json!(format!("{memory}MiB"));
    }
    for partition in object["partitions"].as_array_mut().unwrap() {
        let partition = partition.as_object_mut().unwrap();
        partition.remove("defaultMinutes");
        if let Some(minutes) = partition.remove("maxMinutes").and_then(|it| it.as_u64()) {
            partition.insert("maxTime".into(), json!(format!("{minutes}m")));
        }
    }
    object.insert("type".into(), json!("slurm"));
    object.insert("drainTimeout".into(), json!("1h"));
    without_nulls(&mut wish);
    wish
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}
