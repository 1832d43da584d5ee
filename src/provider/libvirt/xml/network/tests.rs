//! Networks round-trip: through our own writing, and through what a real libvirt 9.0 made of it.
//!
//! The fixtures are recorded by `tests/libvirt/record-fixtures`.

use expect_test::expect_file;

use super::*;
use crate::model::{Digest, Name};

const UUID: Uuid = Uuid::from_u128(0x9d1c_6a64_31f7_5a8e_9a6b_2d0c_4f1e_7a22);

fn mark() -> Mark {
    Mark {
        environment: Name::new("lab").unwrap(),
        id: "network/lab".parse().unwrap(),
        digest: Some(Digest::of("lab")),
        memory: None,
    }
}

fn merged(current: Option<&str>, network: &Network) -> String {
    merge(current, network, "lab", UUID, &mark()).unwrap()
}

fn lease(last: u8, name: Option<&str>) -> DhcpHost {
    DhcpHost {
        mac: format!("52:54:00:00:00:{last:02x}"),
        ip: format!("10.77.0.{last}").parse().unwrap(),
        name: name.map(str::to_owned),
    }
}

fn record(last: u8, names: &[&str]) -> DnsRecord {
    DnsRecord {
        ip: format!("10.77.0.{last}").parse().unwrap(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn nat() -> Network {
    Network {
        mode: NetworkMode::Nat,
        bridge: None,
        addresses: vec![
            NetworkAddress {
                address: "10.77.0.1/24".parse().unwrap(),
                dhcp: Some(Dhcp {
                    ranges: vec![AddressRange {
                        start: "10.77.0.100".parse().unwrap(),
                        end: "10.77.0.200".parse().unwrap(),
                    }],
                    hosts: vec![lease(5, Some("web")), lease(6, None)],
                }),
            },
            NetworkAddress { address: "fd00:77::1/64".parse().unwrap(), dhcp: None },
        ],
        dns: Some(vec![record(5, &["web", "www"]), record(6, &["db"])]),
        domain: Some(NetworkDomain { name: "lab.test".to_owned(), local_only: true }),
        mtu: Some(1400),
        autostart: false,
    }
}

fn isolated() -> Network {
    Network {
        mode: NetworkMode::Isolated,
        bridge: Some("trueup9".to_owned()),
        addresses: Vec::new(),
        dns: None,
        domain: None,
        mtu: None,
        autostart: false,
    }
}

fn bridge() -> Network {
    Network { mode: NetworkMode::Bridge, bridge: Some("br0".to_owned()), ..isolated() }
}

fn recorded() -> [(&'static str, Network, &'static str); 3] {
    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/libvirt/fixtures/network-",
                $name,
                ".inactive.xml"
            ))
        };
    }
    [
        ("nat", nat(), fixture!("nat")),
        ("isolated", isolated(), fixture!("isolated")),
        ("bridge", bridge(), fixture!("bridge")),
    ]
}

#[track_caller]
fn assert_same(desired: &Network, xml: &str) {
    let seen = parse(xml).unwrap();
    assert_eq!(owned(desired, &seen.network), *desired, "{xml}");
    assert_eq!(seen.mark, Some(mark()));
    assert_eq!((seen.name.as_str(), seen.uuid), ("lab", UUID));
}

#[test]
fn what_is_defined_is_reviewed() {
    for (name, network, _) in recorded() {
        let xml = merged(None, &network);
        assert_same(&network, &xml);
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/libvirt/fixtures");
        expect_file![format!("{fixtures}/network-{name}.define.xml")].assert_eq(&xml);
    }
}

#[test]
fn libvirt_reads_it_as_it_was_meant_and_merging_it_again_changes_nothing() {
    for (_, network, xml) in recorded() {
        assert_same(&network, xml);
        let root = tree::parse(xml, "network").unwrap();
        let written = tree::write(&root, "network").unwrap();
        assert_eq!(merged(Some(xml), &network), written);
    }
}

#[test]
fn changes_reach_every_part() {
    for (_, _, xml) in recorded() {
        for (_, network, _) in recorded() {
            assert_same(&network, &merged(Some(xml), &network));
        }
    }
}

#[test]
fn what_runs_is_no_different_from_its_configuration() {
    let live = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/libvirt/fixtures/network-nat.live.xml"
    ));
    let config = parse(recorded()[0].2).unwrap();
    assert_eq!(parse(live).unwrap(), config);
}

#[test]
fn leases_and_records_are_edited_one_by_one() {
    let (_, mut network, xml) = recorded()[0].clone();
    assert_eq!(live_edits(xml, &network).unwrap(), []);
    let dhcp = network.addresses[0].dhcp.as_mut().unwrap();
    dhcp.hosts = vec![lease(6, None), lease(7, Some("new"))];
    network.dns = Some(vec![record(6, &["db"]), record(7, &["new"])]);
    let edits = live_edits(xml, &network).unwrap();
    let words: Vec<_> = edits
        .iter()
        .map(|edit| match edit {
            LiveEdit::RemoveHost { parent, xml } => format!("-host {parent} {xml}"),
            LiveEdit::AddHost { parent, xml } => format!("+host {parent} {xml}"),
            LiveEdit::RemoveRecord { xml } => format!("-record {xml}"),
            LiveEdit::AddRecord { xml } => format!("+record {xml}"),
        })
        .collect();
    assert_eq!(words.len(), 4);
    assert!(words[0].starts_with("-host 0 <host mac=\"52:54:00:00:00:05\""), "{words:?}");
    assert!(words[1].starts_with("-record <host ip=\"10.77.0.5\""), "{words:?}");
    assert!(words[2].starts_with("+host 0 <host mac=\"52:54:00:00:00:07\""), "{words:?}");
    assert!(words[3].starts_with("+record <host ip=\"10.77.0.7\""), "{words:?}");
}

#[test]
fn leases_on_an_address_that_does_not_run_take_a_restart() {
    let (_, mut network, xml) = recorded()[0].clone();
    network.addresses[0].address = "10.78.0.1/24".parse().unwrap();
    assert!(live_edits(xml, &network).is_err());
}
