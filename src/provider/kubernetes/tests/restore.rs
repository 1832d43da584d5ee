//! A machine that was made anew becomes its cluster's control plane again, on the data that it left; nothing is
//! begun on other data, nothing is reset, and what was cut off is gone on with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use trueup_kubernetes::kubeadm::again::DataMark;

use super::*;
use crate::port::AgentFault;
use crate::provider::kubernetes::data;

const MARK: &str = "/var/lib/trueup/data/cluster";
const MEMBER: &str = "/var/lib/etcd/member";
const DISK: &str = "/dev/disk/by-label/trueup-data";
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
const EMPTY: &str = r#"{"blockdevices": [
    {"name":"/dev/vda","type":"disk","fstype":"ext4","label":"root","ro":false,"mountpoint":"/"},
    {"name":"/dev/vdb","type":"disk","fstype":null,"label":null,"ro":false,"mountpoint":null}]}"#;

/// The authority that a kubeconfig knows.
fn authority(kubeconfig: &str) -> Vec<u8> {
    let packed = kubeconfig.split("certificate-authority-data: ").nth(1).unwrap();
    BASE64.decode(packed.split('}').next().unwrap()).unwrap()
}

fn mark(cluster: &str, authority: &[u8], release: &str) -> String {
    let (cluster, authority) = (cluster.to_owned(), data::digest(authority));
    DataMark { cluster, authority, release: release.parse().unwrap() }.text()
}

/// A host whose cluster was of 1.32, and whose control plane's machine was started from another disk.
fn made_anew() -> (Host, FakeKube) {
    let (host, kube) = with_cluster();
    let authority = authority(&kube.kubeconfig());
    host.fake.put("/etc/kubernetes/pki/ca.crt", &String::from_utf8(authority.clone()).unwrap());
    host.fake.put(MARK, &mark("cloud", &authority, "v1.32.4"));
    host.fake.put(MEMBER, "");
    host.fake.put(BOOT, "b007\n");
    kube.world().put(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "ctl"},
        "status": {"nodeInfo": {"bootID": "b007"}}}));
    (host, kube)
}

impl Host {
    async fn restore(&self) -> Result<bool, Fault> {
        let site = Site::new(&self.provider, &self.id, &self.progress);
        // Where the API server is that is asked afterwards.
        let mut built = built();
        built.machines.get_mut("ctl").unwrap().address = [127, 0, 0, 1].into();
        site.restore(&built).await.map(|outcome| outcome.already)
    }

    async fn prepare(&self) -> Result<bool, Fault> {
        let machines = BTreeMap::from([("ctl".to_owned(), named("cloud-ctl"))]);
        let site = Site::new(&self.provider, &self.id, &self.progress);
        site.prepare(machines, Some("ctl".to_owned())).await.map(|outcome| outcome.already)
    }

    fn release_on_disk(&self) -> String {
        DataMark::read(&self.fake.file(MARK).unwrap()).unwrap().release.to_string()
    }

    fn ran(&self, words: &str) -> bool {
        self.fake.ran().iter().any(|it| it.contains(words))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_is_upgraded_on_its_own_data_and_gone_on_with_where_it_was_cut_off() {
    let (host, kube) = made_anew();
    // What it needs is not there: the image of the release before may take its place still.
    host.fake.fails(Some("kubeadm init phase preflight"));
    let fault = host.restore().await.unwrap_err().to_string();
    assert!(fault.contains("what it needs first in cloud-ctl"), "{fault}");
    assert_eq!(host.release_on_disk(), "v1.32.4");
    // It had come some way, and nobody knows how far.
    host.fake.fails(Some("kubeadm init --config"));
    host.restore().await.unwrap_err();
    assert_eq!(host.release_on_disk(), "v1.33.1");
    host.fake.put(ADMIN, &kube.kubeconfig());
    host.fake.fails(Some("mv -f -T /var/lib/trueup/.joined"));
    host.restore().await.unwrap_err();
    host.fake.fails(None);
    assert!(!host.restore().await.unwrap());
    assert!(host.restore().await.unwrap(), "it is the control plane");
    let all = host.fake.ran();
    let kubeadm = |words: &str| {
        let mut calls = all.iter().filter_map(|it| it.split_once("lock kubeadm "));
        calls.find(|(_, call)| call.starts_with(words)).map(|(_, call)| call.to_owned()).unwrap()
    };
    assert_eq!(
        kubeadm("init phase"),
        "init phase preflight --config /run/trueup/kubeadm.yaml \
         --ignore-preflight-errors=DirAvailable--var-lib-etcd,ImagePull"
    );
    assert_eq!(
        kubeadm("init --config"),
        "init --config /run/trueup/kubeadm.yaml --skip-token-print \
         --skip-phases=preflight,addon/coredns"
    );
    assert!(host.ran("DirAvailable--var-lib-etcd,FileAvailable--etc-kubernetes-manifests-"));
    assert!(!host.ran("kubeadm reset") && !host.ran("-delete"), "{all:?}");
    assert_eq!(std::fs::read_to_string(host.kept()).unwrap(), kube.kubeconfig());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_begun_on_data_that_are_not_these() {
    let refused = async |change: &dyn Fn(&Host, &[u8])| {
        let (host, kube) = made_anew();
        change(&host, &authority(&kube.kubeconfig()));
        host.fake.put(ADMIN, &admin("half"));
        let mut told = Vec::new();
        // Also where the plan takes it for one that never was.
        for fault in [host.restore().await.unwrap_err(), host.init().await.unwrap_err()] {
            assert!(matches!(fault, Fault::NeedsHuman { .. }), "{fault}");
            told.push(fault.to_string());
        }
        assert_eq!(host.kubeadm(), [""; 0], "{told:?}");
        assert!(!host.ran("-delete") && !host.ran("mkfs"));
        told
    };
    let words = |told: &[String], what: &str| told.iter().all(|it| it.contains(what));
    let none = refused(&|host, _| host.fake.drop_file(MARK)).await;
    assert!(none[0].contains("cloud-ctl has no data of the cluster"), "{none:?}");
    assert!(none[1].contains("it was there, and cloud-ctl has nothing of it"), "{none:?}");
    let other = refused(&|host, own| host.fake.put(MARK, &mark("hpc", own, "v1.33.1"))).await;
    assert!(words(&other, "they are of the cluster hpc"), "{other:?}");
    let old = refused(&|host, own| host.fake.put(MARK, &mark("cloud", own, "v1.31.0"))).await;
    assert!(words(&old, "upgrade to 1.32 first"), "{old:?}");
    let newer = refused(&|host, own| host.fake.put(MARK, &mark("cloud", own, "v1.34.0"))).await;
    assert!(words(&newer, "a control plane cannot go back"), "{newer:?}");
    let another = mark("cloud", b"another", "v1.33.1");
    let swapped = refused(&|host, _| host.fake.put(MARK, &another)).await;
    assert!(words(&swapped, "the authority beside them is not the one"), "{swapped:?}");
    let empty = refused(&|host, _| host.fake.drop_file(MEMBER)).await;
    assert!(words(&empty, "etcd has nothing there"), "{empty:?}");
    // The disk of another cluster of the same name, whole.
    let (host, _kube) = made_anew();
    host.fake.put("/etc/kubernetes/pki/ca.crt", "another");
    host.fake.put(MARK, &mark("cloud", b"another", "v1.33.1"));
    let fault = host.restore().await.unwrap_err().to_string();
    assert!(fault.contains("kept on this host are of another authority"), "{fault}");
    assert_eq!(host.kubeadm(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_set_up_once_and_its_file_system_is_never_made_again() {
    let host = Host::new();
    host.fake.made_anew(&["/usr/lib/cni"]);
    for (program, answer) in [
        ("lsblk", ended(0, EMPTY, "")),
        ("blkid", ended(2, "", "")),
        ("mkfs.ext4", ended(0, "", "")),
        ("udevadm", ended(0, "", "")),
    ] {
        host.fake.says(program, answer);
    }
    for cut_off in
        ["daemon-reload", "start var-lib-trueup-data.mount", "start etc-kubernetes-pki.mount"]
    {
        host.fake.fails(Some(cut_off));
        host.prepare().await.unwrap_err();
        // From its first time on the disk shows what it is.
        if host.ran("mkfs.ext4") {
            host.fake.says(
                "lsblk",
                ended(0, &EMPTY.replace("\"label\":null", "\"label\":\"trueup-data\""), ""),
            );
        }
    }
    host.fake.fails(None);
    assert!(!host.prepare().await.unwrap());
    assert!(host.prepare().await.unwrap());
    let made = host.fake.ran().iter().filter(|it| it.starts_with("mkfs")).count();
    assert_eq!(made, 1);
    let needs = host.fake.file("/etc/systemd/system/kubelet.service.d/trueup.conf").unwrap();
    assert!(
        String::from_utf8(needs)
            .unwrap()
            .contains("RequiresMountsFor=/etc/kubernetes/pki /var/lib/etcd")
    );
    // A cluster is made there, and its first disk is exchanged.
    host.fake.put("/etc/kubernetes/pki/ca.crt", "authority");
    host.fake.put(ADMIN, &admin("credentials"));
    assert!(!host.init().await.unwrap());
    assert_eq!(host.release_on_disk(), "v1.33.1");
    host.fake.made_anew(&["/usr/lib/cni", "/var/lib/trueup/data"]);
    assert!(!host.prepare().await.unwrap());
    assert_eq!(host.fake.ran().iter().filter(|it| it.starts_with("mkfs")).count(), 1);
    // One that was moved there by hand gets its mark.
    host.fake.drop_file(MARK);
    host.fake.put("/etc/kubernetes/pki/ca.crt", "authority");
    host.fake.put("/var/lib/trueup/joined", "control plane");
    assert!(!host.prepare().await.unwrap());
    assert_eq!(host.release_on_disk(), "v1.33.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_was_made_anew_is_told_from_one_that_is_away() {
    let (host, kube) = made_anew();
    kube.down();
    host.fake.put(DISK, "");
    let cluster = KubernetesCluster { built: Some(built()), ..KubernetesCluster::default() };
    let is_lost = async |claimed: bool, ours: &[&str]| {
        let ours = ours.iter().map(|name| named(name)).collect();
        let known = Known { claimed, ours: &ours };
        host.provider.is_lost(&host.id, &cluster, known).await
    };
    assert!(is_lost(true, &["cloud-ctl"]).await);
    assert!(!is_lost(false, &["cloud-ctl"]).await, "nobody knows of it");
    assert!(!is_lost(true, &[]).await, "it is somebody's");
    host.fake.put("/var/lib/trueup/joined", "control plane");
    assert!(!is_lost(true, &["cloud-ctl"]).await, "it is away");
    host.fake.drop_file("/var/lib/trueup/joined");
    host.fake.drop_file(DISK);
    assert!(!is_lost(true, &["cloud-ctl"]).await, "it has nothing to be made again from");
    host.fake.put(DISK, "");
    host.fake.is(Some(AgentFault::Silent("cloud-ctl".into())));
    assert!(!is_lost(true, &["cloud-ctl"]).await, "nobody knows");
}
