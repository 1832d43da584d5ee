//! Machines that become a cluster, through agents and a server that keep state: what is cut off is done anew,
//! and neither a token nor a credential is where somebody might read it.

mod certificates;
mod lost;
mod restore;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use trueup_fake_kube::{Certificate, FakeKube};
use trueup_kubernetes::kubeadm::MACHINE;
use trueup_kubernetes::node::CordonMark;
use trueup_kubernetes::{KubeconfigRef, Limits};

use super::act::Job;
use super::build::Site;
use super::look::{Found, Known};
use super::*;
use crate::model::resource::{
    KubernetesBuilt, KubernetesCluster, KubernetesMachine, KubernetesNodeStep, KubernetesSeen,
};
use crate::model::{Fault, Kind, ResourceId};
use crate::plan::{Action, Disruption, Reason, Step};
use crate::port::{Progress, ProgressUpdate, Provider as _};
use crate::provider::files::tests::scope;
use crate::provider::guest::fake::{Fake, ended};
use crate::provider::paths::kept_kubeconfig;

const RELEASE: &str = "v1.33.1\n";
const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// The authority in [`admin`], packed.
const AUTHORITY: &str = "YXV0aG9yaXR5";

/// What kubeadm leaves for administrators, with that token.
fn admin(token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: cloud, \
         user: a}}}}]\nclusters: [{{name: cloud, cluster: {{server: 'https://10.9.0.10:6443', \
         certificate-authority-data: {AUTHORITY}}}}}]\nusers: [{{name: a, user: {{token: {token}}}}}]\n"
    )
}

fn named(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn machine(last: u8, guest: &str) -> KubernetesMachine {
    KubernetesMachine { guest: named(guest), address: [10, 9, 0, last].into() }
}

fn built() -> KubernetesBuilt {
    KubernetesBuilt {
        machines: BTreeMap::from([
            ("ctl".to_owned(), machine(10, "cloud-ctl")),
            ("n1".to_owned(), machine(11, "cloud-n1")),
        ]),
        control_plane: "ctl".into(),
        version: "1.33".into(),
        pods: "10.244.0.0/16".into(),
        services: "10.96.0.0/12".into(),
        bridge: true,
        dns: false,
        images: None,
        renew_before_s: None,
        data: Some(named("cloud-ctl-data")),
    }
}

fn provider(ways: BTreeMap<String, KubeconfigRef>, folder: &Path) -> KubernetesProvider {
    let (kept, idle) = (kept_kubeconfigs(folder.to_owned()), Duration::from_secs(600));
    let connections = Connections::or_kept(ways, kept, Limits::LOOKS, idle);
    KubernetesProvider::new(connections, folder.to_owned(), "0a1b")
}

impl Found {
    /// What was seen of a cluster that answers.
    fn seen(self) -> KubernetesSeen {
        match self {
            Self::Seen(seen) => *seen,
            other => panic!("{other:?}"),
        }
    }
}

/// A host with one guest that all names lead to.
struct Host {
    folder: tempfile::TempDir,
    fake: Arc<Fake>,
    provider: KubernetesProvider,
    id: ResourceId,
    progress: Progress,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake = Arc::new(Fake::new(&[("kubeadm", ended(0, RELEASE, ""))]));
        ["/etc/kubernetes/pki", "/var/lib/etcd"].into_iter().for_each(|at| fake.mounts(at));
        fake.put("/etc/kubernetes/pki/ca.crt", "authority");
        fake.put("/usr/lib/cni/loopback", "");
        let agents = Arc::clone(&fake) as Arc<dyn Agents>;
        let provider = provider(BTreeMap::new(), folder.path()).with_agents(agents);
        let id = "cluster/cloud".parse().unwrap();
        Self { folder, fake, provider, id, progress: Arc::new(|_: ProgressUpdate| ()) }
    }

    async fn init(&self) -> Result<bool, Fault> {
        let site = Site::new(&self.provider, &self.id, &self.progress);
        site.init(&built()).await.map(|outcome| outcome.already)
    }

    async fn job(&self) -> Job<'_> {
        Job::open(&self.provider, &self.id, &self.progress).await.unwrap()
    }

    /// The calls of kubeadm so far, without those that only wait for others.
    fn kubeadm(&self) -> Vec<String> {
        let ran = self.fake.ran().into_iter();
        let ran = ran.filter_map(|it| {
            it.strip_prefix("flock /run/trueup-kubeadm.lock kubeadm ").map(str::to_owned)
        });
        ran.filter(|it| it != "version")
            .map(|it| it.split(' ').next().unwrap().to_owned())
            .collect()
    }

    fn kept(&self) -> std::path::PathBuf {
        kept_kubeconfig(self.folder.path(), &self.id.name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_was_cut_off_is_begun_anew_and_one_that_is_there_is_not() {
    let host = Host::new();
    host.fake.fails(Some("kubeadm init"));
    let fault = host.init().await.unwrap_err().to_string();
    assert!(fault.contains("kubeadm init failed") && fault.contains("cloud-ctl"), "{fault}");
    assert!(!host.kept().exists(), "nobody has credentials for what is not there");
    assert_eq!(host.kubeadm(), ["init"]);
    // It had come some way.
    host.fake.put(ADMIN, &admin("half"));
    host.fake.fails(None);
    assert!(!host.init().await.unwrap());
    assert_eq!(host.kubeadm(), ["init", "reset", "init"]);
    assert_eq!(std::fs::read_to_string(host.kept()).unwrap(), admin("half"));
    let mode = std::fs::metadata(host.kept()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // What the log of this host lost is read anew; the cluster is not touched.
    std::fs::remove_file(host.kept()).unwrap();
    host.fake.put(ADMIN, &admin("whole"));
    assert!(host.init().await.unwrap());
    assert_eq!(host.kubeadm().len(), 3);
    assert_eq!(std::fs::read_to_string(host.kept()).unwrap(), admin("whole"));
    // Not by any that lead elsewhere, or believe another.
    for (from, to) in [
        ("10.9.0.10", "10.9.0.66"),
        ("token: whole", "tokenFile: /etc/passwd"),
        (AUTHORITY, "YQ=="),
    ] {
        host.fake.put(ADMIN, &admin("whole").replace(from, to));
        let fault = host.init().await.unwrap_err().to_string();
        assert!(fault.contains("admin.conf of cloud-ctl is not used"), "{fault}");
        assert_eq!(std::fs::read_to_string(host.kept()).unwrap(), admin("whole"));
    }
    // What kubeadm was told nobody but root reads there.
    let made = "install -m 0400 -o root -g root /dev/null /run/trueup/.kubeadm.yaml.trueup-new";
    assert!(host.fake.ran().contains(&made.to_owned()), "{:?}", host.fake.ran());
    let told = String::from_utf8(host.fake.file("/run/trueup/kubeadm.yaml").unwrap()).unwrap();
    assert!(told.contains("\"advertiseAddress\":\"10.9.0.10\""), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_another_release_is_told_before_anything_is_done() {
    let host = Host::new();
    host.fake.says("kubeadm", ended(0, "v1.32.4\n", ""));
    let fault = host.init().await.unwrap_err();
    let words = "kubeadm in cloud-ctl is v1.32.4, and 1.33 is asked for";
    assert!(fault.to_string().contains(words), "{fault}");
    assert_eq!(host.kubeadm(), [""; 0]);
}

/// A host with a cluster that is there, and a node that is to join.
fn with_cluster() -> (Host, FakeKube) {
    let (host, kube) = (Host::new(), FakeKube::start());
    kube.world().put(&json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "kube-system"}}));
    kept::keep(host.folder.path(), &host.id.name, kube.kubeconfig().as_bytes()).unwrap();
    (host, kube)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_joins_by_a_token_that_nobody_sees_and_that_is_taken_back() {
    let (host, kube) = with_cluster();
    let (job, n1) = (host.job().await, machine(11, "cloud-n1"));
    // Whatever kubeadm says, and it may say all that it was told.
    host.fake.quotes("/run/trueup/kubeadm.yaml");
    host.fake.fails(Some("kubeadm join"));
    let fault = job.join("n1", &n1, None).await.unwrap_err().to_string();
    assert!(fault.contains("tlsBootstrapToken") && fault.contains("(not shown)"), "{fault}");
    let secret = |text: &str| {
        let token = text.split("\"tlsBootstrapToken\":\"").nth(1)?.split('"').next()?;
        Some(token.split_once('.')?.1.to_owned())
    };
    assert_eq!(secret(&fault).unwrap(), "(not shown)");
    let all = |kube: &FakeKube| {
        kube.requests()
            .iter()
            .filter(|it| it.contains("bootstrap-token-"))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert!(all(&kube).last().unwrap().starts_with("DELETE "), "{:?}", all(&kube));
    assert!(host.fake.file("/run/trueup/kubeadm.yaml").is_none(), "it is gone there");
    // And once more, after what it left was cleared away.
    host.fake.fails(None);
    host.fake.put("/etc/kubernetes/kubelet.conf", "half");
    assert!(!job.join("n1", &n1, None).await.unwrap().already);
    assert_eq!(host.kubeadm(), ["join", "reset", "join"]);
    assert!(all(&kube).last().unwrap().starts_with("DELETE "));
    let found = String::from_utf8(host.fake.file("/run/trueup/discovery.yaml").unwrap()).unwrap();
    assert!(found.contains(&kube.url()) && !found.contains("token"), "{found}");
    // One that has joined is left alone.
    assert!(job.join("n1", &n1, None).await.unwrap().already);
    // Also where its kubeadm could not join any more, as of a pool that stays behind its control plane.
    assert!(job.join("n1", &n1, Some("1.35")).await.unwrap().already);
    assert_eq!(host.kubeadm().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_waited_for_whose_machine_was_started_anew() {
    let (host, kube) = with_cluster();
    let (job, n1) = (host.job().await, machine(11, "cloud-n1"));
    assert!(!job.join("n1", &n1, None).await.unwrap().already);
    // The cluster takes it for well, as it has not missed its kubelet yet.
    let node = |boot: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "status": {
            "conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"bootID": boot}}})
    };
    kube.world().put(&node("before"));
    host.fake.put("/proc/sys/kernel/random/boot_id", "now\n");
    let mut joining = std::pin::pin!(job.join("n1", &n1, None));
    let early = tokio::time::timeout(Duration::from_millis(500), &mut joining).await;
    assert!(early.is_err(), "{early:?}");
    kube.world().put(&node("now"));
    assert!(joining.await.unwrap().already);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_is_newer_than_its_cluster_does_not_join() {
    let (host, kube) = (Host::new(), FakeKube::of_release("v1.32.0"));
    kept::keep(host.folder.path(), &host.id.name, kube.kubeconfig().as_bytes()).unwrap();
    let fault = host.job().await.join("n1", &machine(11, "cloud-n1"), None).await.unwrap_err();
    assert!(fault.to_string().contains("upgrade the control plane first"), "{fault}");
    assert_eq!(host.kubeadm(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_connected_and_a_node_goes_only_by_our_mark() {
    let (host, kube) = with_cluster();
    let node = |name: &str, pods: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name,
            "labels": {MACHINE: format!("cloud-{name}")}}, "spec": {"podCIDR": pods}})
    };
    kube.world().put(&node("ctl", "10.244.0.0/24"));
    kube.world().put(&node("n1", "10.244.1.0/24"));
    let at = |mut node: Value, address: &str| {
        node["status"] = json!({"addresses": [{"type": "Hostname", "address": "n"},
            {"type": "InternalIP", "address": address}]});
        node
    };
    // One that goes, and one that somebody joined by hand.
    kube.world().put(&at(node("n9", "10.244.9.0/24"), "10.9.0.19"));
    let mut foreign = at(node("foreign", "10.244.8.0/24"), "10.9.0.18");
    foreign["metadata"]["labels"] = json!({});
    kube.world().put(&foreign);
    let job = host.job().await;
    let nodes = std::collections::BTreeSet::from(["n1".to_owned()]);
    host.fake.says("networkctl", ended(0, "", ""));
    assert!(!job.connect(&built(), &nodes).await.unwrap().already);
    assert!(job.connect(&built(), &nodes).await.unwrap().already);
    // systemd-networkd must hear of what is not its business before there is a link of a pod.
    let ran = host.fake.ran();
    let at = |words: &str| ran.iter().position(|it| it.starts_with(words));
    let placed = |path: &str| ran.iter().position(|it| it.starts_with("mv ") && it.ends_with(path));
    let reload = at("networkctl reload").unwrap();
    assert!(placed("/05-trueup-pods.network").unwrap() < reload, "{ran:?}");
    assert!(reload < placed("/10-trueup.conflist").unwrap(), "{ran:?}");
    let file = |path| String::from_utf8(host.fake.file(path).unwrap()).unwrap();
    let routes = file("/etc/systemd/system/trueup-pods.service");
    assert!(routes.contains("ip route replace 10.244.0.0/24 via 10.9.0.10"), "{routes}");
    assert!(routes.contains("ip route replace 10.244.9.0/24 via 10.9.0.19"), "{routes}");
    assert!(!routes.contains("10.244.8.0"), "{routes}");
    assert!(file("/etc/cni/net.d/10-trueup.conflist").contains("10.244.1.0/24"));
    let mark = CordonMark::of_pool("cloud", "-going");
    let fault = job.remove("n1", &mark).await.unwrap_err().to_string();
    assert!(fault.contains("somebody gave n1 back"), "{fault}");
    assert!(kube.world().get("Node", "", "n1").is_some());
    job.link.nodes.cordon("n1", &mark).await.unwrap();
    assert!(!job.remove("n1", &mark).await.unwrap().already);
    assert!(kube.world().get("Node", "", "n1").is_none());
    assert!(job.remove("n1", &mark).await.unwrap().already);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_set_up_once_and_what_was_cut_off_is_done_anew() {
    let host = Host::new();
    let prepare = || async {
        let machines = BTreeMap::from([("ctl".to_owned(), named("cloud-ctl"))]);
        let site = Site::new(&host.provider, &host.id, &host.progress);
        site.prepare(machines, None).await.map(|outcome| outcome.already)
    };
    for cut_off in ["restart containerd", "mv -f -T /var/lib/trueup/.prepared"] {
        host.fake.fails(Some(cut_off));
        prepare().await.unwrap_err();
    }
    host.fake.fails(None);
    assert!(!prepare().await.unwrap());
    assert!(prepare().await.unwrap());
    let told = String::from_utf8(host.fake.file("/etc/containerd/config.toml").unwrap()).unwrap();
    assert!(told.contains("/usr/lib/cni") && told.contains("SystemdCgroup = true"), "{told}");
    // A kubelet that nobody told what to do waits for kubeadm; one that was is at work, and pods with it.
    let stops = || host.fake.ran().iter().filter(|it| it.contains("stop kubelet")).count();
    let before = stops();
    assert!(before > 0, "{:?}", host.fake.ran());
    host.fake.put("/var/lib/kubelet/config.yaml", "{}");
    // Somebody else's settings are not ours.
    host.fake.put("/etc/containerd/config.toml", "version = 2\n");
    assert!(!prepare().await.unwrap());
    assert_eq!(stops(), before);
    // An image without plugins is told.
    let bare = Host::new();
    bare.fake.drop_file("/usr/lib/cni/loopback");
    let machines = BTreeMap::from([("ctl".to_owned(), named("cloud-ctl"))]);
    let site = Site::new(&bare.provider, &bare.id, &bare.progress);
    let fault = site.prepare(machines, None).await.unwrap_err().to_string();
    assert!(fault.contains("containernetworking-plugins"), "{fault}");
}

/// What a host says to a step while the log knows these machines.
async fn performed(host: &Host, action: &Action, known: &[&str]) -> Result<bool, String> {
    let step = Step {
        resource: host.id.clone(),
        action: action.clone(),
        disruption: Disruption::None,
        reason: Reason::Missing,
        changes: Vec::new(),
        after: Default::default(),
        interrupts: Default::default(),
    };
    let machine = |name: &&str| ResourceId::new(Kind::VirtualMachine, named(name));
    let known = known.iter().map(machine).collect();
    let scope = Scope { known: Arc::new(known), ..scope(BTreeMap::new()) };
    let done = host.provider.perform(&step, &scope, Arc::clone(&host.progress)).await;
    done.map(|outcome| outcome.already).map_err(|fault| fault.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_nobody_waits_for_any_more_asks_no_machine() {
    let host = Host::new();
    // Whoever began is at it for ever.
    host.fake.says("flock", None);
    let until = async |is: &dyn Fn() -> bool| {
        while !is() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let before = Arc::strong_count(&host.fake);
    let init = Action::KubernetesInit { cluster: Box::new(built()), again: false };
    let at_work = || host.fake.asked() > 3;
    tokio::select! {
        done = performed(&host, &init, &["cloud-ctl"]) => panic!("{done:?}"),
        () = until(&at_work) => {}
    }
    // Its thread goes on by itself, until it asks again.
    until(&|| Arc::strong_count(&host.fake) == before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_in_a_machine_of_its_name_that_is_not_ours() {
    let (host, kube) = with_cluster();
    let given = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "spec": {"podCIDR": "10.244.1.0/24"}});
    kube.world().put(&given);
    kube.show(&Certificate::valid());
    let guests = built().guests();
    let join =
        KubernetesNodeStep::Join { machine: machine(11, "cloud-n1"), version: Some("1.33".into()) };
    let cluster = Box::new(built());
    let steps = [
        (Action::KubernetesPrepare { machines: guests, data: None }, "cloud-n1"),
        (Action::KubernetesInit { cluster: cluster.clone(), again: false }, "cloud-ctl"),
        (Action::KubernetesInit { cluster: cluster.clone(), again: true }, "cloud-ctl"),
        (Action::KubernetesRestore { cluster: cluster.clone(), from: None }, "cloud-ctl"),
        (Action::KubernetesRenew { guest: named("cloud-ctl") }, "cloud-ctl"),
        (
            Action::KubernetesConnect { cluster, nodes: BTreeSet::from(["n1".to_owned()]) },
            "cloud-n1",
        ),
        (
            Action::KubernetesNode {
                node: "n1".into(),
                step: join,
                mark: CordonMark::of_pool("cloud", "web"),
            },
            "cloud-n1",
        ),
    ];
    for (action, foreign) in &steps {
        // All others of the cluster are ours.
        let ours: Vec<&str> =
            ["cloud-ctl", "cloud-n1", "other"].into_iter().filter(|it| it != foreign).collect();
        let why = performed(&host, action, &ours).await.unwrap_err();
        assert!(why.contains(&format!("{foreign} was not made by trueup")), "{action:?}: {why}");
        let wrote = host.fake.ran().iter().any(|it| it.contains("kubeadm"));
        assert!(!wrote, "{:?}", host.fake.ran());
    }
    let token = |it: &String| it.contains("bootstrap-token-");
    assert!(!kube.requests().iter().any(token), "nobody was let in");
    assert!(host.fake.file("/etc/cni/net.d/10-trueup.conflist").is_none());
    let all = ["cloud-ctl", "cloud-n1"];
    performed(&host, &steps[0].0, &all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_of_its_name_that_is_not_ours_is_asked_nothing() {
    let cluster = KubernetesCluster { built: Some(built()), ..KubernetesCluster::default() };
    let look = async |host: &Host, claimed: bool, ours: &[&str]| {
        let ours = ours.iter().map(|name| named(name)).collect();
        let known = Known { claimed, ours: &ours };
        host.provider.one(&host.id, &cluster, false, known).await
    };
    let host = Host::new();
    let found = look(&host, false, &[]).await.unwrap();
    assert!(matches!(found, Found::Unmade), "it is to be made: {found:?}");
    let why = look(&host, true, &[]).await.err().unwrap();
    assert!(why.starts_with("its control plane: ") && why.contains("cloud-ctl"), "{why}");
    assert_eq!(host.fake.asked(), 0);
    let found = look(&host, false, &["cloud-ctl"]).await.unwrap();
    assert!(matches!(found, Found::Unmade) && host.fake.asked() == 1, "{found:?}");

    let (host, _kube) = with_cluster();
    let seen = async |ours: &[&str]| {
        let seen = look(&host, true, ours).await.unwrap().seen();
        seen.machines.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(seen(&[]).await, [""; 0]);
    assert_eq!(host.fake.asked(), 0);
    assert_eq!(seen(&["cloud-n1"]).await, ["n1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_machine_whose_programs_fail_hides_no_other() {
    let cluster = KubernetesCluster { built: Some(built()), ..KubernetesCluster::default() };
    let ours = BTreeSet::from(["cloud-ctl", "cloud-n1"].map(named));
    let (host, _kube) = with_cluster();
    let look = async || {
        let known = Known { claimed: true, ours: &ours };
        let seen = host.provider.one(&host.id, &cluster, false, known).await.unwrap().seen();
        (seen.machines, seen.unwell)
    };
    for (machine, node, other) in [("cloud-n1", "n1", "ctl"), ("cloud-ctl", "ctl", "n1")] {
        host.fake.is_unwell(Some(machine));
        let (seen, unwell) = look().await;
        assert_eq!(seen.into_keys().collect::<Vec<_>>(), [other]);
        let why = &unwell[node];
        assert!(why.contains("cannot start sha256sum") && why.contains(machine), "{why}");
    }
    host.fake.is_unwell(None);
    let (seen, unwell) = look().await;
    assert_eq!((seen.len(), unwell.len()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_credentials_lead_to_a_cluster_once_there_are_any_and_the_config_of_the_host_counts_more()
 {
    let (folder, kube, other) =
        (tempfile::tempdir().unwrap(), FakeKube::start(), FakeKube::start());
    let said = KubeconfigRef {
        path: other.write_kubeconfig(folder.path()),
        context: None,
        programs: false,
    };
    let ways = BTreeMap::from([("own".to_owned(), said)]);
    let provider = provider(ways, folder.path());
    let why = provider.link(&named("cloud")).await.err().unwrap();
    assert!(why.contains("clusters.cloud.kubeconfig"), "{why}");
    for name in ["cloud", "own"] {
        kept::keep(folder.path(), &named(name), kube.kubeconfig().as_bytes()).unwrap();
    }
    let first = provider.link(&named("cloud")).await.unwrap();
    assert_eq!(first.connection.access.api.server(), kube.url());
    let own = provider.link(&named("own")).await.unwrap();
    assert_eq!(own.connection.access.api.server(), other.url());
    assert!(Arc::ptr_eq(&first, &provider.link(&named("cloud")).await.unwrap()));
    // Renewed ones are used with the next look.
    kept::keep(folder.path(), &named("cloud"), kube.kubeconfig().as_bytes()).unwrap();
    let second = provider.link(&named("cloud")).await.unwrap();
    assert!(first.connection.is_over() && !second.connection.is_over());
    assert_eq!(provider.connections.count(), 2);
    // Whoever let others read them is told, and nothing is done with them.
    let path = kept_kubeconfig(folder.path(), &named("cloud"));
    let readable = std::fs::Permissions::from_mode(0o644);
    kept::keep(folder.path(), &named("cloud"), kube.kubeconfig().as_bytes()).unwrap();
    std::fs::set_permissions(&path, readable).unwrap();
    let why = provider.link(&named("cloud")).await.err().unwrap();
    assert!(why.contains("mode 0644") && why.contains("chmod 600"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_and_only_then_are_the_new_credentials_kept() {
    let (host, kube) = with_cluster();
    kube.show(&Certificate::between("20200101000000Z", "20300101000000Z"));
    host.fake.says("ctr", ended(0, "0a1b\n", ""));
    let renewed = kube.kubeconfig() + "# renewed\n";
    host.fake.put(ADMIN, &renewed);
    let (job, guest) = (host.job().await, named("cloud-ctl"));
    let is_kept = || std::fs::read_to_string(host.kept()).unwrap() == renewed;
    let shows = async {
        let ended = "ctr -n k8s.io tasks kill -s SIGTERM 0a1b".to_owned();
        while !host.fake.ran().contains(&ended) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(!is_kept(), "the server has not been started with the new ones yet");
        kube.show(&Certificate::valid());
    };
    let (done, ()) = tokio::join!(job.renew(&guest), shows);
    done.unwrap();
    assert!(is_kept());
    assert_eq!(host.kubeadm(), ["certs"]);
}
