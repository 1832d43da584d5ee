//! All certificates of a control plane are seen where they are, seldom, and what of them can be renewed.

use tokio::time::Instant;

use super::*;
use crate::port::AgentFault;

const FOLDER: &str = "/etc/kubernetes/pki";
const NAMES: [&str; 9] = [
    "apiserver.crt",
    "apiserver-etcd-client.crt",
    "apiserver-kubelet-client.crt",
    "etcd/healthcheck-client.crt",
    "etcd/peer.crt",
    "etcd/server.crt",
    "front-proxy-client.crt",
    "etcd/ca.crt",
    "front-proxy-ca.crt",
];

impl Host {
    /// Puts a certificate into the guest.
    fn holds(&self, name: &str, certificate: &Certificate) {
        let pem = String::from_utf8(certificate.pem()).unwrap();
        self.fake.put(&format!("{FOLDER}/{name}"), &pem);
    }

    async fn seen(&self, ours: &[&str]) -> KubernetesSeen {
        let cluster = KubernetesCluster { built: Some(built()), ..KubernetesCluster::default() };
        let ours = ours.iter().map(|name| named(name)).collect();
        let known = Known { claimed: true, ours: &ours };
        self.provider.one(&self.id, &cluster, false, known).await.unwrap().seen()
    }

    /// How often certificates were read in the guest.
    fn reads(&self) -> usize {
        self.fake.ran().iter().filter(|it| it.starts_with("head ")).count()
    }
}

fn until(seen: &KubernetesSeen, what: &str) -> Option<String> {
    let found = seen.certificates.iter().find(|it| it.what == what);
    found.map(|it| it.until.to_string()[..4].to_owned())
}

const CTL: [&str; 1] = ["cloud-ctl"];

#[tokio::test(flavor = "multi_thread")]
async fn all_certificates_of_a_control_plane_are_seen_and_seldom_read() {
    let (host, kube) = with_cluster();
    kube.show(&Certificate::valid());
    NAMES.iter().for_each(|name| host.holds(name, &Certificate::valid()));
    host.holds("etcd/server.crt", &Certificate::between("20200101000000Z", "20310101000000Z"));
    host.fake.drop_file(&format!("{FOLDER}/etcd/peer.crt"));
    host.fake.put(&format!("{FOLDER}/front-proxy-client.crt"), "somebody's");
    // A machine of that name that is not ours is asked nothing.
    let none = host.seen(&[]).await;
    assert!(host.reads() == 0 && until(&none, "etcd/server.crt in cloud-ctl").is_none());
    for _ in 0..2 {
        let seen = host.seen(&CTL).await;
        assert_eq!(until(&seen, "etcd/server.crt in cloud-ctl").unwrap(), "2031");
        assert_eq!(until(&seen, "apiserver-etcd-client.crt in cloud-ctl").unwrap(), "2099");
        assert_eq!(until(&seen, "authority etcd/ca.crt in cloud-ctl").unwrap(), "2099");
        let unread = seen.view.unread.join("\n");
        assert!(unread.contains("etcd/peer.crt in cloud-ctl: it is not there"), "{unread}");
        assert!(unread.contains("front-proxy-client.crt in cloud-ctl: there is no"), "{unread}");
        assert!(seen.certificates.iter().all(|it| seen.renewable.contains(&it.what)));
    }
    assert_eq!(host.reads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_says_nothing_of_certificates_hides_none_that_are_known() {
    let (host, kube) = with_cluster();
    kube.show(&Certificate::valid());
    NAMES.iter().for_each(|name| host.holds(name, &Certificate::valid()));
    let is_known = |seen: &KubernetesSeen| {
        assert_eq!(until(seen, "etcd/server.crt in cloud-ctl").unwrap(), "2099");
        seen.view.unread.join("\n")
    };
    assert_eq!(is_known(&host.seen(&CTL).await), "");
    // An hour later.
    let link = host.provider.link(&host.id.name).await.unwrap();
    link.in_machine.lock().await.as_mut().unwrap().0 = Instant::now();
    host.fake.is(Some(AgentFault::Silent("cloud-ctl".into())));
    assert_eq!(is_known(&host.seen(&CTL).await), "", "that it is away is told of itself");
    host.fake.is(None);
    host.fake.says("head", Some(json!({"exited": true})));
    let unread = is_known(&host.seen(&CTL).await);
    assert!(unread.contains("certificates in cloud-ctl: "), "{unread}");
    // That was no answer, so the next look asks again.
    host.fake.says("head", ended(0, &"x".repeat(1 << 20), ""));
    let unread = is_known(&host.seen(&CTL).await);
    assert!(unread.contains("it says 1048576 bytes, and was asked for"), "{unread}");
    assert_eq!(host.reads(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_the_hosts_own_kubeconfig_are_not_renewed_and_renewed_ones_are_read_anew() {
    let (mut host, kube) = with_cluster();
    let path = kube.write_kubeconfig(host.folder.path());
    let said = KubeconfigRef { path, context: None, programs: false };
    let agents = Arc::clone(&host.fake) as Arc<dyn Agents>;
    let ways = BTreeMap::from([("cloud".to_owned(), said)]);
    host.provider = provider(ways, host.folder.path()).with_agents(agents);
    let soon = Certificate::between("20200101000000Z", "20300101000000Z");
    kube.show(&soon);
    NAMES.iter().for_each(|name| host.holds(name, &soon));
    let seen = host.seen(&CTL).await;
    let server = seen.certificates.iter().find(|it| it.what.starts_with("server ")).unwrap();
    assert!(!seen.renewable.contains(&server.what), "{:?}", seen.renewable);
    assert!(seen.renewable.contains("apiserver.crt in cloud-ctl"), "{:?}", seen.renewable);
    // The way there stays the same, and what is known of it is not for an hour.
    host.fake.says("ctr", ended(0, "0a1b\n", ""));
    host.fake.put(ADMIN, &(kube.kubeconfig() + "# renewed\n"));
    let (job, guest) = (host.job().await, named("cloud-ctl"));
    let shows = async {
        while !host.fake.ran().iter().any(|it| it.contains("tasks kill")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        NAMES.iter().for_each(|name| host.holds(name, &Certificate::valid()));
        kube.show(&Certificate::valid());
    };
    let (done, ()) = tokio::join!(job.renew(&guest), shows);
    done.unwrap();
    let seen = host.seen(&CTL).await;
    assert_eq!(until(&seen, "etcd/server.crt in cloud-ctl").unwrap(), "2099");
    assert_eq!(until(&seen, &server.what).unwrap(), "2099");
    assert_eq!(host.reads(), 2);
}
