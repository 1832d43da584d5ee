//! Clusters whose credentials are lost on this host: told from those that never were, and read anew, with nothing
//! made.

use std::fs;

use trueup_kubernetes::kubeadm::again::DataMark;

use super::*;
use crate::model::resource::{Cluster, KubernetesLost};
use crate::model::{Resource, digest_of};
use crate::port::AgentFault;
use crate::provider::kubernetes::data;
use crate::spec::{DesiredResource, Lifecycle, Origin};

const JOINED: &str = "/var/lib/trueup/joined";
const MARK: &str = "/var/lib/trueup/data/cluster";
const DISK: &str = "/dev/disk/by-label/trueup-data";
const CERTIFICATE: &str = "/etc/kubernetes/pki/ca.crt";

/// A host that has no credentials, with a machine in which this was done.
fn with(how: impl FnOnce(&Fake)) -> Host {
    let host = Host::new();
    how(&host.fake);
    host
}

/// How the cluster is seen that the log knows, or does not; `None`: it is to be made.
async fn look(host: &Host, claimed: bool) -> Result<Option<KubernetesLost>, String> {
    let cluster = KubernetesCluster { built: Some(built()), ..KubernetesCluster::default() };
    let resource = Resource::Cluster(Box::new(Cluster::Kubernetes(cluster)));
    let wish = DesiredResource {
        digest: digest_of(&resource),
        resource: resource.clone(),
        depends_on: BTreeSet::new(),
        owner: None,
        lifecycle: Lifecycle::default(),
        labels: BTreeMap::new(),
        origin: Origin { path: "lab/all.yaml".into(), line: 1 },
    };
    let claims = BTreeMap::from([(host.id.clone(), resource)]);
    let mut scope = scope(if claimed { claims } else { BTreeMap::new() });
    let desired = Arc::make_mut(&mut scope.desired);
    desired.resources.insert(host.id.clone(), Arc::new(wish));
    let machine = ResourceId::new(Kind::VirtualMachine, named("cloud-ctl"));
    Arc::make_mut(&mut scope.known).insert(machine);
    let mut observed = host.provider.look(&scope).await;
    if let Some(why) = observed.unreadable.remove(&host.id) {
        return Err(why);
    }
    let Some(seen) = observed.resources.remove(&host.id) else { return Ok(None) };
    let Resource::Cluster(seen) = seen.config else { panic!() };
    let seen = seen.kubernetes().unwrap();
    assert!(seen.seen.is_none() && seen.lost.is_some(), "{seen:?}");
    Ok(seen.lost)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_credentials_is_one_that_never_was_only_where_nothing_is_left_of_it() {
    let of_data = || {
        let (cluster, authority) = ("cloud".to_owned(), data::digest(b"authority"));
        DataMark { cluster, authority, release: "v1.33.1".parse().unwrap() }.text()
    };
    // Its machine was only begun with, and has its disk.
    let begun = with(|_| ());
    assert_eq!(look(&begun, true).await, Ok(None));
    let marked = with(|fake| fake.put(JOINED, "control plane"));
    assert_eq!(look(&marked, true).await, Ok(Some(KubernetesLost::Credentials)));
    assert_eq!(look(&marked, false).await, Ok(None), "nobody knows of it");
    // Before there was such a disk.
    let on_root = with(|fake| {
        fake.made_anew(&[]);
        fake.put(CERTIFICATE, "authority");
        fake.put(JOINED, "control plane");
    });
    assert_eq!(look(&on_root, true).await, Ok(Some(KubernetesLost::Credentials)));
    // With the credentials its first disk was lost, too.
    let anew = with(|fake| fake.put(MARK, &of_data()));
    assert_eq!(look(&anew, true).await, Ok(Some(KubernetesLost::ControlPlane)));
    let unmounted = with(|fake| {
        fake.made_anew(&[]);
        fake.put(DISK, "");
    });
    assert_eq!(look(&unmounted, true).await, Ok(Some(KubernetesLost::Unknown)));
    let empty = with(|fake| fake.made_anew(&[]));
    assert_eq!(look(&empty, true).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_does_not_say_what_is_left_is_not_taken_for_an_empty_one() {
    let why = async |how: &dyn Fn(&Fake)| look(&with(how), true).await.unwrap_err();
    let silent = why(&|fake| fake.is(Some(AgentFault::Silent("cloud-ctl".into())))).await;
    assert!(silent.contains("the agent in cloud-ctl does not answer"), "{silent}");
    let unwell = why(&|fake| fake.is_unwell(Some("cloud-ctl"))).await;
    assert!(unwell.contains("its control plane: ") && unwell.contains("findmnt"), "{unwell}");
    let other = why(&|fake| fake.put(MARK, "of somebody")).await;
    assert!(other.contains("it is no mark of trueup"), "{other}");
    let on_root = |fake: &Fake| {
        fake.made_anew(&[]);
        fake.put(CERTIFICATE, "authority");
    };
    let unmarked = why(&on_root).await;
    assert!(unmarked.contains("on its first disk") && unmarked.contains("kubeadm reset"));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_read_anew_whatever_is_asked_for_and_nothing_is_made_for_them() {
    let host = with(|fake| {
        fake.put(JOINED, "control plane");
        fake.put(ADMIN, &admin("kept"));
        // Of another release than the document asks for by now.
        fake.says("kubeadm", ended(0, "v1.31.2\n", ""));
    });
    let read = Action::KubernetesInit { cluster: Box::new(built()), again: true };
    performed(&host, &read, &["cloud-ctl"]).await.unwrap();
    assert_eq!(fs::read_to_string(host.kept()).unwrap(), admin("kept"));
    // Where it is none by now, it stays that.
    fs::remove_file(host.kept()).unwrap();
    host.fake.drop_file(JOINED);
    let why = performed(&host, &read, &["cloud-ctl"]).await.unwrap_err();
    assert!(why.contains("cloud-ctl is no control plane any more"), "{why}");
    assert!(!host.kept().exists());
    assert_eq!(host.kubeadm(), [""; 0]);
    let touched = ["systemctl", "mkfs", "find"];
    let ran = host.fake.ran();
    assert!(!ran.iter().any(|it| touched.iter().any(|words| it.starts_with(words))), "{ran:?}");
}
