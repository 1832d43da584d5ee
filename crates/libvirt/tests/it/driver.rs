//! Against libvirt's test driver, each test with a private copy of its state (`test:///FILE`).

use std::io::Write;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use trueup_libvirt::{
    Client, Code, DomainChange, Error, EventKind, NetworkChange, NetworkSection, Options,
    PoolChange, RunState, Scope, ShutdownMode, SnapshotKind, UpdateCommand,
};

use crate::{await_event, run};

const NODE: &str = "<node><cpu><mhz>2000</mhz><model>x86_64</model><active>4</active>\
<nodes>1</nodes><sockets>1</sockets><cores>4</cores><threads>1</threads></cpu>\
<memory>8192000</memory></node>";

struct Node {
    client: Client,
    _file: NamedTempFile,
}

fn node() -> Node {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(NODE.as_bytes()).expect("its content");
    let client = Client::new(Options::new(format!("test://{}", file.path().display())));
    Node { client, _file: file }
}

fn domain(name: &str) -> String {
    format!(
        "<domain type='test'><name>{name}</name><memory unit='MiB'>64</memory>\
         <vcpu current='1'>4</vcpu><os><type arch='x86_64'>hvm</type></os></domain>"
    )
}

fn network(name: &str, subnet: u8) -> String {
    format!(
        "<network><name>{name}</name><forward mode='nat'/>\
         <ip address='10.9.{subnet}.1' netmask='255.255.255.0'>\
         <dhcp><range start='10.9.{subnet}.2' end='10.9.{subnet}.9'/></dhcp></ip></network>"
    )
}

fn pool(name: &str) -> String {
    format!(
        "<pool type='dir'><name>{name}</name><target><path>/pools/{name}</path></target></pool>"
    )
}

fn volume(name: &str) -> String {
    format!("<volume><name>{name}</name><capacity unit='MiB'>8</capacity></volume>")
}

#[track_caller]
fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    result.expect_err("a failure").code
}

#[test]
fn a_domain_lives_and_dies() {
    run(async {
        let Node { client, _file } = node();
        assert!(client.domains().await.unwrap().items.is_empty());
        assert_eq!(client.define_domain(&domain("web")).await.unwrap(), "web");
        let record = client.domain("web").await.unwrap();
        assert_eq!((record.state, record.active), (RunState::ShutOff, false));
        assert!(record.persistent && !record.autostart && !record.has_managed_save);
        assert!(record.inactive_xml.contains("<name>web</name>") && record.live_xml.is_none());

        client.start("web").await.unwrap();
        client.set_autostart("web", true).await.unwrap();
        client.set_vcpus("web", 2, Scope::Live).await.unwrap();
        client.set_memory("web", 32 * 1024, Scope::Live).await.unwrap();
        let listing = client.domains().await.unwrap();
        assert!(listing.failed.is_empty());
        let [record] = &listing.items[..] else { panic!("{listing:?}") };
        assert_eq!((record.state, record.active), (RunState::Running, true));
        assert!(record.persistent && record.autostart);
        let live = record.live_xml.as_deref().unwrap();
        assert!(live.contains("<currentMemory unit='KiB'>32768</currentMemory>"), "{live}");
        assert!(!record.inactive_xml.contains("32768"));
        assert_eq!(*record, client.domain("web").await.unwrap());

        client.suspend("web").await.unwrap();
        assert_eq!(client.domain("web").await.unwrap().state, RunState::Paused);
        client.resume("web").await.unwrap();
        client.reboot("web").await.unwrap();
        client.shutdown("web", ShutdownMode::Default).await.unwrap();
        assert_eq!(client.domain("web").await.unwrap().state, RunState::ShutOff);
        client.start("web").await.unwrap();
        client.destroy("web", false).await.unwrap();
        // The driver knows none of the flags about UEFI, so this takes the plain way.
        client.undefine_domain("web", true).await.unwrap();
        assert_eq!(code(client.domain("web").await), Code::NoDomain);
    });
}

#[test]
fn definitions_that_come_at_once_are_all_taken() {
    // The first ones of a process would miss what libxml2 makes for all of them, one run in a hundred.
    run(async {
        let Node { client, _file } = node();
        let (network, pool, domain) = (network("n", 1), pool("p"), domain("d"));
        let (first, second, third) = (client.clone(), client.clone(), client);
        let all = [
            tokio::spawn(async move { first.define_network(&network).await }),
            tokio::spawn(async move { second.define_pool(&pool).await }),
            tokio::spawn(async move { third.define_domain(&domain).await.map(drop) }),
        ];
        for one in all {
            one.await.unwrap().unwrap();
        }
    });
}

#[test]
fn metadata_and_snapshots_are_kept() {
    run(async {
        let Node { client, _file } = node();
        client.define_domain(&domain("web")).await.unwrap();
        client.start("web").await.unwrap();
        let uri = "urn:example:owner";
        assert_eq!(client.metadata("web", uri, Scope::Config).await.unwrap(), None);
        let owner = "<owner generation='1'/>";
        client.set_metadata("web", "x", uri, Some(owner), Scope::Both).await.unwrap();
        for scope in [Scope::Config, Scope::Live] {
            let found = client.metadata("web", uri, scope).await.unwrap().unwrap();
            assert!(found.contains("<owner generation="), "{found}");
        }
        assert!(client.domain("web").await.unwrap().inactive_xml.contains(uri));
        client.set_metadata("web", "x", uri, None, Scope::Both).await.unwrap();
        assert_eq!(client.metadata("web", uri, Scope::Config).await.unwrap(), None);

        let xml = "<domainsnapshot><name>before</name></domainsnapshot>";
        let name = client.create_snapshot("web", xml, SnapshotKind::AsDescribed).await.unwrap();
        assert_eq!(name, "before");
        assert_eq!(client.snapshots("web").await.unwrap(), ["before"]);
        client.delete_snapshot("web", "before").await.unwrap();
        assert_eq!(code(client.delete_snapshot("web", "before").await), Code::NoSnapshot);

        assert!(client.checkpoints("web").await.unwrap().is_empty());
        let gone = client.delete_checkpoint("web", "before", false).await;
        assert_eq!(code(gone), Code::NoCheckpoint);
        let begun = client.backup_begin("web", "<domainbackup/>", None).await;
        assert_eq!(code(begun), Code::NoSupport);
    });
}

#[test]
fn a_network_lives_and_dies() {
    run(async {
        let Node { client, _file } = node();
        client.define_network(&network("lan", 1)).await.unwrap();
        client.set_network_autostart("lan", true).await.unwrap();
        let stored = client.network("lan").await.unwrap();
        assert!(!stored.active && stored.persistent && stored.autostart);
        assert_eq!(stored.live_xml, None);
        client.start_network("lan").await.unwrap();
        let host = "<host mac='52:54:00:00:00:01' name='a' ip='10.9.1.5'/>";
        let (add, hosts) = (UpdateCommand::AddLast, NetworkSection::IpDhcpHost);
        client.update_network("lan", add, hosts, -1, host, Scope::Both).await.unwrap();
        let listing = client.networks().await.unwrap();
        let [record] = &listing.items[..] else { panic!("{listing:?}") };
        assert!(record.active && record.live_xml.as_deref().unwrap().contains("10.9.1.5"));
        assert!(record.inactive_xml.contains("10.9.1.5"));
        assert_eq!(*record, client.network("lan").await.unwrap());
        client.destroy_network("lan").await.unwrap();
        client.undefine_network("lan").await.unwrap();
        assert!(client.networks().await.unwrap().items.is_empty());
    });
}

#[test]
fn a_pool_and_its_volumes_live_and_die() {
    run(async {
        let Node { client, _file } = node();
        client.define_pool(&pool("disks")).await.unwrap();
        client.build_pool("disks").await.unwrap();
        assert_eq!(code(client.volumes("disks").await), Code::OperationInvalid);
        client.start_pool("disks").await.unwrap();
        client.set_pool_autostart("disks", true).await.unwrap();
        client.refresh_pool("disks").await.unwrap();
        let listing = client.pools().await.unwrap();
        let [record] = &listing.items[..] else { panic!("{listing:?}") };
        assert!(record.active && record.persistent && record.autostart && record.capacity > 0);
        assert_eq!(*record, client.pool("disks").await.unwrap());

        let created = client.create_volume("disks", &volume("a.img")).await.unwrap();
        assert_eq!((created.name.as_str(), created.key.as_str()), ("a.img", "/pools/disks/a.img"));
        assert!(created.xml.contains("<capacity unit='bytes'>8388608<"), "{}", created.xml);
        let listing = client.volumes("disks").await.unwrap();
        assert_eq!(listing.items, std::slice::from_ref(&created));
        assert_eq!(client.volume("disks", "a.img").await.unwrap(), created);
        assert_eq!(code(client.create_volume("disks", &volume("a.img")).await), Code::Exists);
        client.delete_volume("disks", "a.img").await.unwrap();
        assert_eq!(code(client.delete_volume("disks", "a.img").await), Code::NoVolume);
        client.destroy_pool("disks").await.unwrap();
        client.undefine_pool("disks").await.unwrap();
        assert_eq!(code(client.pool("disks").await), Code::NoPool);
    });
}

#[test]
fn events_arrive() {
    let Node { client, _file } = node();
    let mut events = client.events();
    run(async {
        client.define_domain(&domain("web")).await.unwrap();
        client.start("web").await.unwrap();
        client.define_network(&network("lan", 1)).await.unwrap();
        client.start_network("lan").await.unwrap();
        client.define_pool(&pool("disks")).await.unwrap();
        client.start_pool("disks").await.unwrap();
    });
    let started = await_event(&mut events, |e| {
        matches!(e.kind, EventKind::Domain { change: DomainChange::Started, .. })
    });
    assert_eq!(started.name, "web");
    assert_eq!(started.uuid, run(client.domain("web")).unwrap().uuid);
    let network = EventKind::Network(NetworkChange::Started);
    assert_eq!(await_event(&mut events, |e| e.kind == network).name, "lan");
    let pool = EventKind::Pool(PoolChange::Started);
    assert_eq!(await_event(&mut events, |e| e.kind == pool).name, "disks");
    drop(client);
    run(async { while events.next().await.is_some() {} });
}

#[test]
fn failures_are_typed_and_named() {
    run(async {
        let Node { client, _file } = node();
        assert_eq!(code(client.start("web").await), Code::NoDomain);
        assert_eq!(code(client.network("lan").await), Code::NoNetwork);
        assert_eq!(code(client.refresh_pool("disks").await), Code::NoPool);
        assert_eq!(code(client.define_domain("<domain").await), Code::InvalidXml);
        let typo = domain("web").replace("memory", "memmory");
        assert_eq!(code(client.define_domain(&typo).await), Code::InvalidXml);
        let typo = network("lan", 1).replace("forward", "foreward");
        client.define_network_unvalidated(&typo).await.unwrap();
        assert_eq!(code(client.define_network(&typo).await), Code::InvalidXml);

        client.define_domain(&domain("web")).await.unwrap();
        let other = domain("web")
            .replace("<name>", "<uuid>8f3f0f1e-0000-4000-8000-000000000001</uuid><name>");
        assert_eq!(code(client.define_domain(&other).await), Code::Exists);
        let error = client.destroy("web", false).await.unwrap_err();
        assert_eq!(error.code, Code::OperationInvalid);
        assert_eq!((error.call, error.object.as_str(), error.number), ("destroy", "web", 55));
        assert!(error.to_string().starts_with("destroy of web: "), "{error}");
        assert!(!error.is_transient() && !error.connection_lost());
        client.start("web").await.unwrap();
        let agent = client.agent_command("web", "{}", Duration::from_secs(1)).await;
        assert_eq!(code(agent), Code::NoSupport);
        // Only of a domain that is meant is anything asked: here that there is no agent is the answer.
        let asked = async |id: &'static str| {
            let is_meant = move |element: &str| element.contains(id);
            client.agent_command_if("web", "urn:mine", is_meant, "{}", Duration::from_secs(1)).await
        };
        assert_eq!(asked("").await, Ok(None));
        let mine = Some("<mine id='a'/>");
        client.set_metadata("web", "m", "urn:mine", mine, Scope::Config).await.unwrap();
        assert_eq!(asked("\"b\"").await, Ok(None));
        assert_eq!(code(asked("\"a\"").await), Code::NoSupport);
        assert!(client.attach_device("web", "<nonsense/>", Scope::Live).await.is_err());
        assert!(client.set_memory("web", 1 << 40, Scope::Live).await.is_err());
    });
}

#[test]
fn a_nul_byte_is_refused_and_not_a_panic() {
    run(async {
        let Node { client, _file } = node();
        assert_eq!(code(client.start("a\0b").await), Code::InvalidArgument);
        assert_eq!(code(client.define_domain("<domain/>\0").await), Code::InvalidArgument);
        assert_eq!(code(client.define_network("\0").await), Code::InvalidArgument);
        assert_eq!(code(client.delete_volume("p", "\0").await), Code::InvalidArgument);
        let mark = client.set_metadata("a", "p", "u\0", None, Scope::Config).await;
        assert_eq!(code(mark), Code::InvalidArgument);
        let asked = client.domain_capabilities(Some("x\0"), None, None).await;
        assert_eq!(code(asked), Code::InvalidArgument);
        let elsewhere = Client::new(Options::new("test:///\0"));
        assert_eq!(code(elsewhere.domains().await), Code::InvalidArgument);
        // The client still works.
        assert!(client.domains().await.unwrap().items.is_empty());
    });
}

#[test]
fn a_host_that_is_not_there_is_a_lost_connection() {
    run(async {
        let client = Client::new(Options::new("qemu+unix:///system?socket=/nowhere/libvirt-sock"));
        let error = client.host().await.unwrap_err();
        assert!(error.connection_lost() && error.is_transient(), "{error:?}");
        let client = Client::new(Options::new("nonsense:///"));
        assert!(client.host().await.is_err());
    });
}

#[test]
fn the_host_is_described() {
    run(async {
        let Node { client, _file } = node();
        let host = client.host().await.unwrap();
        assert!(host.libvirt.0 >= 6_000_000, "{host:?}");
        assert!(host.libvirt.to_string().split('.').count() == 3);
        assert!(host.capabilities_xml.contains("<capabilities>") && host.uri.starts_with("test:"));
    });
}

#[test]
fn many_callers_share_few_threads() {
    let Node { client, _file } = node();
    run(async {
        let calls: Vec<_> = (0..200)
            .map(|n| {
                let client = client.clone();
                async move {
                    client
                        .define_network_unvalidated(&network(&format!("n{n}"), n))
                        .await
                }
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        let start = Instant::now();
        let listing = client.networks().await.unwrap();
        assert_eq!((listing.items.len(), listing.failed.len()), (200, 0));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    });
}
