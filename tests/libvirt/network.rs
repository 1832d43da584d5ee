//! Networks that change while they run, and the wake-ups that tell of it.

use std::time::Duration;

use trueup::model::resource::DnsRecord;
use trueup::plan::Action;

use super::bench::{Bench, lab, lease, run};

#[test]
fn leases_and_records_change_without_a_restart() {
    super::beside_libvirt(
        "libvirt::network::leases_and_records_change_without_a_restart",
        |uri| async {
            let mut bench = Bench::new(uri);
            let mut network = lab();
            network.dns = Some(Vec::new());
            bench.define_network(&network).await;
            let reconnect = Vec::new();
            bench.act("network/lab", Action::NetworkStart { reconnect }).await;
            let started = pid_of_dnsmasq();

            let dhcp = network.addresses[0].dhcp.as_mut().unwrap();
            dhcp.hosts = vec![lease(6, "db"), lease(7, "cache")];
            network.dns = Some(vec![DnsRecord {
                ip: "10.91.0.6".parse().unwrap(),
                names: vec!["db".to_owned(), "db.lab.test".to_owned()],
            }]);
            bench.define_network(&network).await;
            let action = Action::NetworkUpdateLive { network: network.clone() };
            bench.act("network/lab", action).await;
            bench.assert_converged("network/lab").await;
            assert_eq!(pid_of_dnsmasq(), started, "it was not restarted");
            assert!(run(&["virsh", "net-dumpxml", "lab"]).contains("db.lab.test"));
        },
    );
}

fn pid_of_dnsmasq() -> String {
    std::fs::read_to_string("/run/libvirt/network/lab.pid").unwrap()
}

#[test]
fn what_is_done_by_hand_wakes_within_a_second_and_a_lost_libvirt_comes_back() {
    super::beside_libvirt(
        "libvirt::network::what_is_done_by_hand_wakes_within_a_second_and_a_lost_libvirt_comes_back",
        |uri| async {
            let mut bench = Bench::new(uri);
            bench.define_network(&lab()).await;
            let reconnect = Vec::new();
            bench.act("network/lab", Action::NetworkStart { reconnect }).await;
            let mut wake = bench.provider.events();
            bench.observe().await;
            run(&["virsh", "net-destroy", "lab"]);
            let woken = tokio::time::timeout(Duration::from_secs(1), wake.next()).await;
            assert_eq!(woken, Ok(Some(())));

            run(&[&bench.path("stop-libvirtd")]);
            let lost = trueup::port::Provider::observe(&bench.provider, &bench.scope()).await;
            let fault = lost.unwrap_err();
            assert!(matches!(fault, trueup::model::Fault::Unobservable { .. }), "{fault:?}");
            while let Ok(Some(())) =
                tokio::time::timeout(Duration::from_millis(100), wake.next()).await
            {}
            run(&[&bench.path("start-libvirtd")]);
            let woken = tokio::time::timeout(Duration::from_secs(60), wake.next()).await;
            assert_eq!(woken, Ok(Some(())), "the connection came back");
            bench.seen("network/lab").await;
        },
    );
}
