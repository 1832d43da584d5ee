//! What machines say of programs around jobs, and what becomes of it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use trueup_slurm::Here;
use trueup_slurm::Shape;

use super::super::{ClusterHost, ClusterSetup};
use super::*;
use crate::model::Digest;
use crate::model::resource::{Cluster, NodeStep, SlurmBuilt, SlurmPlace};
use crate::plan::{Action, Disruption, Reason, Step};
use crate::port::{AgentFault, Provider as _};
use crate::provider::files::tests::scope;
use crate::provider::guest::fake::Fake;
use crate::spec::{DesiredResource, Lifecycle, Origin};

const PROLOG: &str = "/etc/slurm/prolog";
const EPILOG: &str = "/etc/slurm/epilog";
const ASSIGN: &str = "/etc/slurm/assign";

fn id() -> ResourceId {
    "cluster/hpc".parse().unwrap()
}

fn cluster(hooks: serde_json::Value) -> SlurmCluster {
    let wish = serde_json::from_value(serde_json::json!({
        "name": "hpc",
        "controllers": [{"name": "ctl"}],
        "pools": [{"name": "cpu", "nodes": [{"name": "n1"}, {"name": "n2"}], "cpus": 1, "memoryMib": 500}],
        "partitions": [],
        "hooks": hooks,
    }));
    let machines = ["ctl", "n1", "n2"]
        .map(|host| (host.to_owned(), Name::new(format!("hpc-{host}")).unwrap()));
    SlurmCluster {
        place: SlurmPlace { guest: Some(Name::new("hpc-ctl").unwrap()) },
        wish: wish.unwrap(),
        built: Some(SlurmBuilt {
            machines: machines.into(),
            key: 1,
            server: "10.7.0.10:6817".into(),
            release: Shape::V22_05,
            firewall: None,
        }),
        drain_timeout_s: 60,
        max_unavailable: 1,
        seen: None,
    }
}

/// What is asked for and known where that cluster is built.
fn built(slurm: SlurmCluster) -> Scope {
    let mut scope = scope(BTreeMap::new());
    let wish = DesiredResource {
        resource: Resource::Cluster(Box::new(Cluster::Slurm(slurm))),
        depends_on: BTreeSet::new(),
        owner: None,
        lifecycle: Lifecycle::default(),
        labels: BTreeMap::new(),
        origin: Origin { path: "lab/all.yaml".into(), line: 1 },
        digest: Digest::of("x"),
    };
    let mut desired = (*scope.desired).clone();
    desired.resources.insert(id(), Arc::new(wish));
    scope.desired = Arc::new(desired);
    let machines = ["vm/hpc-ctl", "vm/hpc-n1", "vm/hpc-n2"];
    scope.known = Arc::new(machines.map(|id| id.parse().unwrap()).into());
    scope
}

fn provider(folder: &Path, fake: &Arc<Fake>) -> ClusterProvider {
    let setup = ClusterSetup {
        folder: folder.to_owned(),
        hosts: BTreeMap::new(),
        usual: ClusterHost::default(),
    };
    ClusterProvider::new(setup).with_agents(Arc::clone(fake) as Arc<dyn crate::port::Agents>)
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

#[test]
fn programs_are_asked_for_where_they_run() {
    let hooks = serde_json::json!({"prolog": PROLOG, "epilog": EPILOG, "controllerProlog": ASSIGN});
    let all = Hooks::of(&built(cluster(hooks.clone())), &id());
    let shown: Vec<_> = all
        .0
        .iter()
        .map(|(name, (machine, own))| (name.as_str(), machine.as_str(), own.clone()))
        .collect();
    assert_eq!(
        shown,
        [
            ("ctl", "hpc-ctl", set(&[ASSIGN])),
            ("n1", "hpc-n1", set(&[EPILOG, PROLOG])),
            ("n2", "hpc-n2", set(&[EPILOG, PROLOG])),
        ]
    );
    assert_eq!(all.on("n2").0.keys().collect::<Vec<_>>(), ["n2"]);
    // A machine of its name that is not trueup's is asked nothing.
    let mut foreign = built(cluster(hooks.clone()));
    foreign.known = Arc::new(["vm/hpc-n1".parse().unwrap()].into());
    assert_eq!(Hooks::of(&foreign, &id()).0.keys().collect::<Vec<_>>(), ["n1"]);
    // Slurm takes it for several, of which nobody says how many there are.
    let several = serde_json::json!({"prolog": "/etc/slurm/prolog.d/*"});
    assert_eq!(Hooks::of(&built(cluster(several)), &id()), Hooks::default());
    let there = SlurmCluster { built: None, ..cluster(hooks) };
    assert_eq!(Hooks::of(&built(there), &id()), Hooks::default(), "its own look is another one");
}

/// The question itself, answered by this machine's own find(1).
#[test]
fn programs_are_told_from_files_folders_and_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let make = |name: &str, mode| {
        std::fs::write(at(name), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    make("program", 0o755);
    make("file", 0o644);
    std::fs::create_dir(at("folder")).unwrap();
    std::os::unix::fs::symlink(at("program"), at("link")).unwrap();
    let asked: BTreeSet<String> = ["program", "file", "folder", "link", "none"].map(at).into();
    let said = Here.run(&question(&asked), GUEST_QUESTION).unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    let wrong = |name: &str, why| Wrong { path: at(name), why };
    assert_eq!(
        Answer::read(&asked, &text).wrong,
        [
            wrong("file", "cannot be executed"),
            wrong("folder", "is no file"),
            wrong("none", "is no file")
        ]
    );
    let program: BTreeSet<String> = [at("program")].into();
    let begun = format!("{text}file {BEGUN}\n");
    assert!(!Answer::read(&program, &text).starts && Answer::read(&program, &begun).starts);
    assert!(!Answer::read(&program, &format!("{begun}file {THROUGH}\n")).starts);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_names_a_program_is_put_into_force_before_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Arc::new(Fake::new(&[]));
    let provider = provider(folder.path(), &fake);
    let scope = built(cluster(serde_json::json!({"prolog": PROLOG})));
    let place = SlurmPlace { guest: Some(Name::new("hpc-ctl").unwrap()) };
    let files = BTreeMap::from([("slurm.conf".to_owned(), "ClusterName=hpc\n".to_owned())]);
    let wish = Digest::of("x");
    let step = |action| Step {
        resource: id(),
        action,
        disruption: Disruption::None,
        reason: Reason::Missing,
        changes: Vec::new(),
        after: BTreeSet::new(),
        interrupts: BTreeSet::new(),
    };
    let join =
        NodeStep::Join { guest: Name::new("hpc-n1").unwrap(), server: "10.7.0.10:6817".into() };
    let token = trueup_slurm::plan::roll::Token::new("hpc", "cpu", "0a1b");
    let steps = [
        Action::ClusterProve { place: place.clone(), files: files.clone(), wish },
        Action::ClusterConfigure {
            place: place.clone(),
            files,
            controller: trueup_slurm::plan::config::Action::Restart,
            nodes: Vec::new(),
            wish,
        },
        Action::ClusterNode { place, node: "n1".into(), step: join, token },
    ]
    .map(step);
    for step in &steps {
        let before = fake.ran().len();
        let done = provider.perform(step, &scope, Arc::new(|_| ())).await;
        let why = done.unwrap_err();
        assert!(matches!(why, Fault::NeedsHuman { .. }), "{why}");
        let shown = why.to_string();
        assert!(shown.contains("/etc/slurm/prolog is no file in hpc-n1"), "{shown}");
        assert!(shown.contains("cloudInit"), "{shown}");
        let of_n1_alone = matches!(step.action, Action::ClusterNode { .. });
        assert_eq!(shown.contains("hpc-n2"), !of_n1_alone, "{shown}");
        let ran = fake.ran().split_off(before);
        assert!(ran.iter().all(|call| call.starts_with("find -L /etc/slurm/prolog ")), "{ran:?}");
    }
    fake.put(PROLOG, "echo");
    let why = provider.perform(&steps[0], &scope, Arc::new(|_| ())).await.unwrap_err().to_string();
    assert!(why.contains("/etc/slurm/prolog cannot be executed in hpc-n1"), "{why}");
    // What cloud-init has yet to write is waited for.
    fake.put(BEGUN, "{}");
    let why = provider.perform(&steps[0], &scope, Arc::new(|_| ())).await.unwrap_err();
    assert!(why.is_transient(), "{why}");
    fake.put(THROUGH, "{}");
    fake.put(PROLOG, "#!/bin/sh");
    provider.perform(&steps[2], &scope, Arc::new(|_| ())).await.unwrap();
    assert!(fake.ran().iter().any(|call| call.contains("restart --no-block slurmd")));
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_do_not_answer_hold_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Arc::new(Fake::new(&[]));
    let provider = provider(folder.path(), &fake);
    let hooks = || Hooks::of(&built(cluster(serde_json::json!({"prolog": PROLOG}))), &id());
    let have = |hooks| {
        let provider = provider.clone();
        tokio::task::spawn_blocking(move || provider.have(&id(), hooks))
    };
    assert!(have(hooks()).await.unwrap().is_err());
    fake.is_unwell(Some("hpc-n1"));
    let why = have(hooks()).await.unwrap().unwrap_err().to_string();
    assert!(why.contains("hpc-n2") && !why.contains("hpc-n1"), "{why}");
    fake.is(Some(AgentFault::Silent("hpc-n2".into())));
    have(hooks()).await.unwrap().unwrap();
}
