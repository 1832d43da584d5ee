//! Releases by the real program against an API server that keeps state: applied in order, healed, changed,
//! pruned, never guessed at, and finished after a kill.

mod folder;
mod holder;
mod rendered;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use trueup_fake_kube::FakeKube;

use super::{Daemon, Ended, Host, program};
use crate::support::git_repo::GitRepo;
use crate::support::slurm_lab::until;

const REPOSITORY: &str = "apiVersion: trueup/v1\nkind: Repository\nmetadata: {name: test}\n\
                          spec: {environments: {lab: {hosts: [node1]}}}\n";

const RELEASE: &str = "apiVersion: trueup/v1\nkind: Release\nmetadata: {name: web}\n\
                       spec: {cluster: apps, namespace: shop, manifests: [manifests/web], timeout: 30s}\n";

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
const COLORS: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: colors}\ndata: {sky: blue, sea: green}\n";
const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n  \
                   selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    \
                   spec: {containers: [{name: web, image: 'example.org/web:1'}]}\n";
/// The value of a Secret.
const PASSWORD: &str = "canary-release-3b9d";
/// What the server makes of it.
const PASSWORD_BASE64: &str = "Y2FuYXJ5LXJlbGVhc2UtM2I5ZA==";

/// A host with the kubeconfig of a cluster, and a repository that asks for a release in it.
struct Site {
    host: Host,
    repo: GitRepo,
    kube: Arc<FakeKube>,
    controller: Controller,
}

/// What stands for the controller of Deployments: it takes up every change of one, unless it is held.
struct Controller {
    held: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Controller {
    fn of(kube: &Arc<FakeKube>) -> Self {
        let (held, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (is_held, is_over, kube) = (Arc::clone(&held), Arc::clone(&over), Arc::clone(kube));
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                if !is_held.load(Ordering::Relaxed) {
                    take_up(&kube);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { held, over, thread: Some(thread) }
    }

    fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn take_up(kube: &FakeKube) {
    let mut world = kube.world();
    let behind: Vec<(String, String, Value)> = world
        .objects()
        .filter(|(spot, _)| spot.plural == "deployments")
        .filter(|(_, it)| it["status"]["observedGeneration"] != it["metadata"]["generation"])
        .map(|(spot, it)| {
            (spot.namespace.clone(), spot.name.clone(), it["metadata"]["generation"].clone())
        })
        .collect();
    for (namespace, name, generation) in behind {
        let status = json!({"status": {"observedGeneration": generation, "replicas": 1,
            "updatedReplicas": 1, "availableReplicas": 1}});
        world.edit("Deployment", &namespace, &name, &status);
    }
}

impl Site {
    fn start() -> Self {
        let (host, repo, kube) = (Host::new(), GitRepo::new(), Arc::new(FakeKube::start()));
        let kubeconfig = kube.write_kubeconfig(host.path());
        let at = host.path().display();
        // What changes in the cluster has to wake it: a look of its own comes too late for a test.
        let config = format!(
            "repository:\n  url: {}\n  poll: {{interval: 1s}}\nhost: node1\nstateDirectory: {at}/state\n\
             socket: {at}/t.sock\naccelerator: tcg\nlibvirt: {{uri: 'test:///default'}}\n\
             limits: {{resync: 1h}}\nclusters: {{apps: {{kubeconfig: {}}}}}\n",
            repo.bare().display(),
            kubeconfig.display(),
        );
        fs::write(host.path().join("config.yaml"), config).unwrap();
        repo.write("trueup.yaml", REPOSITORY);
        let environment = format!(
            "apiVersion: trueup/v1\nkind: Environment\nmetadata: {{name: lab}}\nspec:\n  \
             storagePools: [{{name: fast, path: {at}/pool}}]\n---\napiVersion: trueup/v1\nkind: Policy\n\
             metadata: {{name: secrets}}\nspec: {{rules: {{trueup.secrets: {{level: advisory}}}}}}\n"
        );
        repo.write("environments/lab/lab.yaml", environment);
        repo.write("environments/lab/web.yaml", RELEASE);
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\nstringData: {{password: {PASSWORD}}}\n"
        );
        repo.write("environments/lab/manifests/web/login.yaml", secret);
        let controller = Controller::of(&kube);
        let site = Self { host, repo, kube, controller };
        let all = format!("{NAMESPACE}---\n{COLORS}---\n{WEB}");
        site.publish(&all);
        site
    }

    /// Publishes the objects beside the Secret.
    fn publish(&self, manifests: &str) {
        self.repo.publish("environments/lab/manifests/web/all.yaml", manifests);
    }

    fn run(&self, words: &[&str]) -> Ended {
        self.host.run(words)
    }

    fn daemon(&self) -> Daemon {
        let mut run = program();
        run.arg("--config").arg(self.host.path().join("config.yaml")).args(["-vv", "run"]);
        Daemon::start(run, &self.host.path().join("daemon.log"))
    }

    /// An object of the cluster.
    fn object(&self, kind: &str, namespace: &str, name: &str) -> Value {
        self.kube.world().get(kind, namespace, name).cloned().unwrap_or_default()
    }

    /// The steps of the log, each with what it was about.
    fn steps(&self) -> Vec<String> {
        let log = self.run(&["log", "--type", "step.started", "-o", "json"]).code(0).out;
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let own = events.filter(|event| event["subject"] == "release/web");
        own.map(|event| {
            let about = event["data"]["changes"][0]["path"].as_str().unwrap_or_default();
            format!("{} {about}", event["data"]["verb"].as_str().unwrap()).trim_end().to_owned()
        })
        .collect()
    }

    fn row(&self) -> Value {
        let shown = self.run(&["releases", "-o", "json"]).code(0).out;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["releases"][0].clone()
    }

    /// What is known of the release.
    fn known(&self) -> Value {
        let shown = self.run(&["state", "-o", "json"]);
        let shown: Value = serde_json::from_str(&shown.out).unwrap_or_default();
        shown["resources"]["release/web"].clone()
    }

    /// Waits until the daemon has the release as the newest commit asks.
    #[track_caller]
    fn await_synced(&self) {
        let head = self.repo.head().to_string();
        until("it is as asked", || {
            let shown: Value =
                serde_json::from_str(&self.run(&["state", "-o", "json"]).out).ok()?;
            let known = &shown["resources"]["release/web"];
            let so = known["applied"]["wish"] == known["wish"]
                && shown["spec"]["commit"] == head.as_str()
                && known["inFlight"].is_null()
                && known["drift"].is_null();
            so.then_some(())
        });
    }
}

/// Every file below `folder` that holds `needle`.
fn holding(folder: &Path, needle: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                let bytes = fs::read(&path).unwrap();
                if String::from_utf8_lossy(&bytes).contains(needle) {
                    found.push(path);
                }
            }
        }
    }
    found
}

#[test]
fn a_release_comes_changes_and_goes_and_no_value_of_a_secret_is_written() {
    let site = Site::start();
    let plan = site.run(&["plan"]);
    assert_eq!(plan.code, 3, "{plan:?}");
    assert!(plan.out.contains("Deployment shop/web"), "{plan:?}");
    site.run(&["apply", "-vvv"]).code(0);
    let all =
        ["Namespace/shop", "ConfigMap/shop/colors", "Secret/shop/login", "Deployment/shop/web"];
    let applied: Vec<String> = all.iter().map(|it| format!("apply /{it}")).collect();
    let mut expected = vec![applied[0].as_str(), "record"];
    expected.extend(applied[1..].iter().map(String::as_str));
    expected.extend(["wait /Deployment/shop/web/ready", "record"]);
    assert_eq!(site.steps(), expected);
    assert_eq!(site.object("ConfigMap", "shop", "colors")["data"]["sky"], "blue");
    let row = site.row();
    assert_eq!(
        (&row["status"]["is"], &row["cluster"]),
        (&json!("synced"), &json!("apps")),
        "{row}"
    );
    assert_eq!(
        (&row["look"]["ready"], &row["look"]["kinds"]["Deployment"]),
        (&json!(4), &json!(1))
    );
    let plan = site.run(&["plan"]).out;
    assert!(!plan.contains("release/web"), "{plan}");

    // By hand: what the files say is put back, and what they do not say is told and left.
    let by_hand = json!({"data": {"sky": "grey", "grass": "red"}});
    site.kube.world().edit("ConfigMap", "shop", "colors", &by_hand);
    let plan = site.run(&["plan"]).code(3).out;
    assert!(plan.contains("grey") && plan.contains("drifted"), "{plan}");
    site.run(&["apply"]).code(0);
    let colors = site.object("ConfigMap", "shop", "colors");
    assert_eq!((&colors["data"]["sky"], &colors["data"]["grass"]), (&json!("blue"), &json!("red")));
    let added = &site.row()["look"]["added"][0];
    assert_eq!(
        (&added["path"], &added["object"]),
        (&json!(".data.grass"), &json!("ConfigMap shop/colors"))
    );
    let shown = site.run(&["releases", "web"]).code(0).out;
    assert!(shown.contains(".data.grass") && shown.contains("4 of 4 objects ready"), "{shown}");

    // A commit changes one and drops another, which goes last.
    let before = site.steps().len();
    site.publish(&format!("{NAMESPACE}---\n{}", WEB.replace("web:1", "web:2")));
    let plan = site.run(&["plan"]).code(3).out;
    assert!(plan.contains("RESTART") && plan.contains("DESTROY"), "{plan}");
    site.run(&["apply"]).code(0);
    assert_eq!(
        site.steps()[before..],
        [
            "record",
            "apply /Deployment/shop/web/spec/template/spec/containers/web/image",
            "wait /Deployment/shop/web/ready",
            "delete /ConfigMap/shop/colors",
            "wait /ConfigMap/shop/colors/gone",
            "record",
        ]
    );
    assert_eq!(site.object("ConfigMap", "shop", "colors"), Value::Null);

    // Another Secret: that it differs is said, and not how.
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\nstringData: {{password: {PASSWORD}, more: {PASSWORD}}}\n"
    );
    site.repo.publish("environments/lab/manifests/web/login.yaml", &secret);
    let plan = site.run(&["plan"]).code(3).out;
    assert!(plan.contains("Secret shop/login") && plan.contains("(hidden)"), "{plan}");
    site.run(&["apply"]).code(0);

    // Somebody's object of that name is not taken.
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "theirs"},
        "metadata": {"name": "theirs", "namespace": "shop"}});
    site.kube.world().put(&theirs);
    let ours = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: theirs}\ndata: {a: ours}\n";
    site.publish(&format!("{NAMESPACE}---\n{ours}---\n{}", WEB.replace("web:1", "web:3")));
    let plan = site.run(&["plan"]).out;
    assert!(plan.contains("no release made it"), "{plan}");
    site.run(&["apply"]);
    assert_eq!(site.object("ConfigMap", "shop", "theirs")["data"]["a"], "theirs");
    let image = "/spec/template/spec/containers/0/image";
    let web = site.object("Deployment", "shop", "web");
    assert_eq!(web.pointer(image), Some(&json!("example.org/web:2")), "nothing of it is done");

    // Out of the repository, all of it goes; more at once than is allowed waits.
    site.repo.write(
        "environments/lab/other.yaml",
        RELEASE
            .replace("name: web}", "name: other}")
            .replace("namespace: shop", "namespace: default")
            .replace("/web]", "/other]"),
    );
    site.repo.write(
        "environments/lab/manifests/other/a.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n",
    );
    fs::remove_file(site.repo.work().join("environments/lab/web.yaml")).unwrap();
    let environment =
        fs::read_to_string(site.repo.work().join("environments/lab/lab.yaml")).unwrap();
    let strict = environment
        .replace("spec:\n  storagePools", "spec:\n  sync: {maxDestroy: 2}\n  storagePools");
    assert_ne!(strict, environment);
    site.repo.publish("environments/lab/lab.yaml", &strict);
    let held = site.run(&["apply"]).code(4);
    assert!(format!("{held:?}").contains("maxDestroy allows 2"), "{held:?}");
    assert_ne!(site.object("Deployment", "shop", "web"), Value::Null);
    site.repo.publish("environments/lab/lab.yaml", &environment);
    site.run(&["apply"]).code(0);
    assert_eq!(site.object("Deployment", "shop", "web"), Value::Null);
    assert_eq!(site.object("Secret", "shop", "login"), Value::Null);
    assert!(site.known().is_null(), "{}", site.known());

    for words in
        [&["log"][..], &["log", "-o", "json"], &["state", "-o", "json"], &["why", "release/web"]]
    {
        let said = format!("{:?}", site.run(words));
        assert!(!said.contains(PASSWORD) && !said.contains(PASSWORD_BASE64), "{words:?}");
    }
    assert!(!holding(site.host.path(), "release/web").is_empty(), "the search finds what is there");
    for secret in [PASSWORD, PASSWORD_BASE64] {
        assert_eq!(holding(site.host.path(), secret), [""; 0].map(PathBuf::from));
    }
    site.run(&["log", "verify"]).code(0);
    site.run(&["replay"]).code(0);
}

#[test]
fn a_daemon_heals_when_it_is_told_of_a_change_and_takes_no_silence_for_emptiness() {
    let site = Site::start();
    let daemon = site.daemon();
    site.await_synced();
    // It looks by itself once in an hour: the watch wakes it.
    site.kube.world().edit("ConfigMap", "shop", "colors", &json!({"data": {"sky": "grey"}}));
    until("it is put back", || {
        (site.object("ConfigMap", "shop", "colors")["data"]["sky"] == "blue").then_some(())
    });
    site.await_synced();
    // How objects do is told too, without anything to be done.
    let broken = json!({"status": {"availableReplicas": 0, "conditions": [{"type": "Progressing",
        "status": "False", "reason": "ProgressDeadlineExceeded", "message": "no room"}]}});
    site.kube.world().edit("Deployment", "shop", "web", &broken);
    let unready = until("it is told", || {
        let unready = site.row()["look"]["unready"][0].clone();
        (!unready.is_null()).then_some(unready)
    });
    assert_eq!(
        (&unready["object"], &unready["health"]),
        (&json!("Deployment shop/web"), &json!("failed"))
    );
    let whole = json!({"status": {"availableReplicas": 1, "conditions": null}});
    site.kube.world().edit("Deployment", "shop", "web", &whole);
    until("it is well again", || (site.row()["look"]["ready"] == 4).then_some(()));

    let before = site.steps().len();
    site.kube.down();
    let why =
        until("it cannot be seen", || site.known()["unobservable"].as_str().map(str::to_owned));
    assert!(why.contains("cannot reach the API server"), "{why}");
    let plan = site.run(&["plan"]).out;
    assert!(!plan.contains("create") && plan.contains("cannot reach"), "{plan}");
    site.kube.up();
    until("it is seen again", || site.known()["unobservable"].is_null().then_some(()));
    site.await_synced();
    assert_eq!(site.steps().len(), before, "nothing was done meanwhile");
    daemon.kill();
}

#[test]
fn a_release_that_is_half_done_when_trueup_is_killed_is_finished() {
    let site = Site::start();
    let first = site.daemon();
    site.await_synced();
    site.controller.hold(true);
    let before = site.steps().len();
    site.publish(&format!("{NAMESPACE}---\n{}", WEB.replace("web:1", "web:2")));
    until("the Deployment is waited for", || {
        let steps = site.steps();
        let last = steps[before..].last()?;
        last.starts_with("wait /Deployment").then_some(())
    });
    first.kill();
    // What is to go has not gone: what runs comes first.
    assert_eq!(site.object("ConfigMap", "shop", "colors")["data"]["sky"], "blue");
    site.controller.hold(false);
    let second = site.daemon();
    site.await_synced();
    assert_eq!(site.object("ConfigMap", "shop", "colors"), Value::Null);
    let inventory = site.object("ConfigMap", "shop", "trueup-web");
    let inventory: Value =
        serde_json::from_str(inventory["data"]["inventory"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&inventory["complete"], inventory["members"].as_array().unwrap().len()),
        (&json!(true), 3)
    );
    second.kill();
    site.run(&["log", "verify"]).code(0);
    site.run(&["replay"]).code(0);
}

#[test]
fn a_cluster_that_nobody_knows_the_way_to_is_told_with_what_to_do() {
    let site = Site::start();
    site.repo.publish("environments/lab/web.yaml", &RELEASE.replace("apps", "elsewhere"));
    let plan = site.run(&["plan"]).out;
    assert!(plan.contains("clusters.elsewhere.kubeconfig"), "{plan}");
    assert_eq!(site.steps(), [""; 0]);
}
