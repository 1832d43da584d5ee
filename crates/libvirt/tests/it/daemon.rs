//! Against a real daemon of the tests' own: `tests/support/private-libvirt` runs one and says where
//! (`TRUEUP_TEST_LIBVIRT_URI`, `TRUEUP_PRIVATE_DIR`). Elsewhere these tests do nothing.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use trueup_libvirt::{
    AddressSource, Client, CloseReason, Code, DomainChange, EventKind, NetworkChange,
    NetworkSection, Options, RunState, Scope, SnapshotKind, UpdateCommand,
};

use crate::{await_event, run};

/// The limit of calls to a daemon that does not answer.
const IMPATIENT: Duration = Duration::from_millis(1500);

struct Daemon {
    uri: String,
    dir: PathBuf,
}

impl Daemon {
    /// The daemon to test against, for one test at a time; `None` where there is none.
    fn own() -> Option<(Daemon, std::sync::MutexGuard<'static, ()>)> {
        static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let uri = std::env::var("TRUEUP_TEST_LIBVIRT_URI").ok()?;
        let dir = PathBuf::from(std::env::var_os("TRUEUP_PRIVATE_DIR")?);
        let guard = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Some((Daemon { uri, dir }, guard))
    }

    fn client(&self) -> Client {
        Client::new(Options::new(&self.uri))
    }

    fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.dir.join("libvirtd.pid")).expect("its pid");
        let status = Command::new("kill").args([signal, pid.trim()]).status();
        assert!(status.expect("kill").success());
    }

    fn script(&self, name: &str) {
        assert!(Command::new(self.dir.join(name)).status().expect(name).success(), "{name}");
    }
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("our open files").count()
}

fn network(name: &str, subnet: u8) -> String {
    format!(
        "<network><name>{name}</name><bridge name='br{name}'/>\
         <ip address='10.77.{subnet}.1' netmask='255.255.255.0'>\
         <dhcp><range start='10.77.{subnet}.2' end='10.77.{subnet}.9'/></dhcp></ip></network>"
    )
}

fn domain(name: &str, devices: &str) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>\
         <vcpu current='1'>2</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>\
         <devices>{devices}<channel type='unix'>\
         <target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices></domain>"
    )
}

#[test]
fn a_silent_daemon_fails_calls_in_time_and_is_found_again() {
    let Some((daemon, _one)) = Daemon::own() else {
        return;
    };
    let client = daemon.client();
    let mut events = client.events();
    run(client.host()).unwrap();

    daemon.signal("-STOP");
    let impatient = client.with_limit(IMPATIENT);
    for _ in 0..3 {
        let start = Instant::now();
        let error = run(impatient.networks()).unwrap_err();
        let took = start.elapsed();
        assert!(matches!(error.code, Code::Timeout | Code::ConnectionLost), "{error:?}");
        assert!(error.is_transient());
        assert!(took < IMPATIENT + Duration::from_secs(1), "{took:?}");
    }
    let closed = EventKind::ConnectionClosed(CloseReason::Timeout);
    await_event(&mut events, |e| e.kind == closed);

    daemon.signal("-CONT");
    run(client.networks()).unwrap();
    await_event(&mut events, |e| e.kind == EventKind::Reopened);
    // The callbacks are registered anew.
    run(client.define_network(&network("stop", 1))).unwrap();
    let defined = EventKind::Network(NetworkChange::Defined);
    assert_eq!(await_event(&mut events, |e| e.kind == defined).name, "stop");
    run(client.undefine_network("stop")).unwrap();
}

#[test]
fn keepalive_notices_a_silent_daemon_without_a_call() {
    let Some((daemon, _one)) = Daemon::own() else {
        return;
    };
    let mut options = Options::new(&daemon.uri);
    (options.keepalive_interval_s, options.keepalive_count) = (1, 2);
    let client = Client::new(options);
    let mut events = client.events();
    run(client.host()).unwrap();
    daemon.signal("-STOP");
    let closed = EventKind::ConnectionClosed(CloseReason::Keepalive);
    await_event(&mut events, |e| e.kind == closed);
    daemon.signal("-CONT");
    await_event(&mut events, |e| e.kind == EventKind::Reopened);
    run(client.networks()).unwrap();
}

#[test]
fn a_restarted_daemon_is_found_again_without_a_call() {
    let Some((daemon, _one)) = Daemon::own() else {
        return;
    };
    let client = daemon.client();
    let mut events = client.events();
    run(client.define_network(&network("again", 2))).unwrap();
    let files = open_files();
    for signal in ["TERM", "KILL"] {
        let stop = Command::new(daemon.dir.join("stop-libvirtd")).arg(signal).status();
        assert!(stop.expect("stop-libvirtd").success());
        await_event(&mut events, |e| matches!(e.kind, EventKind::ConnectionClosed(_)));
        let error = run(client.networks()).unwrap_err();
        assert!(error.connection_lost(), "{error:?}");
        daemon.script("start-libvirtd");
        await_event(&mut events, |e| e.kind == EventKind::Reopened);
        assert_eq!(run(client.network("again")).unwrap().name, "again");
    }
    // The lost connections are closed, on threads of their own.
    let limit = Instant::now() + Duration::from_secs(30);
    while open_files() > files {
        assert!(Instant::now() < limit, "{} files are open, not {files}", open_files());
        std::thread::yield_now();
    }
    run(client.undefine_network("again")).unwrap();
}

#[test]
fn a_machine_runs_and_is_changed() {
    let Some((daemon, _one)) = Daemon::own() else {
        return;
    };
    let client = daemon.client();
    let mut events = client.events();
    let files = TempDir::new().expect("a directory");
    let pool = format!(
        "<pool type='dir'><name>p</name><target><path>{}/p</path></target></pool>",
        files.path().display()
    );
    run(async {
        client.define_network(&network("lan", 3)).await.unwrap();
        client.start_network("lan").await.unwrap();
        let host = "<host mac='52:54:00:00:00:01' name='a' ip='10.77.3.5'/>";
        let (add, hosts) = (UpdateCommand::AddLast, NetworkSection::IpDhcpHost);
        client.update_network("lan", add, hosts, -1, host, Scope::Both).await.unwrap();
        let lan = client.network("lan").await.unwrap();
        assert!(lan.inactive_xml.contains("10.77.3.5") && lan.active);
        assert!(lan.live_xml.unwrap().contains("10.77.3.5"));
        assert_eq!(client.leases("lan").await.unwrap(), []);

        client.define_pool(&pool).await.unwrap();
        client.build_pool("p").await.unwrap();
        client.start_pool("p").await.unwrap();
        let xml = "<volume><name>d.qcow2</name><capacity unit='MiB'>8</capacity>\
                   <target><format type='qcow2'/></target></volume>";
        let volume = client.create_volume("p", xml).await.unwrap();
        assert!(volume.xml.contains("<capacity unit='bytes'>8388608<"), "{}", volume.xml);
        client.resize_volume("p", "d.qcow2", 16 << 20).await.unwrap();
        let resized = client.volume("p", "d.qcow2").await.unwrap().xml;
        assert!(resized.contains("<capacity unit='bytes'>16777216<"), "{resized}");

        let disk = format!(
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
             <source file='{}'/><target dev='vda' bus='virtio'/></disk>\
             <interface type='network'><source network='lan'/><model type='virtio'/></interface>",
            volume.key
        );
        client.define_domain(&domain("m", &disk)).await.unwrap();
        client.start_paused("m").await.unwrap();
        assert_eq!(client.domain("m").await.unwrap().state, RunState::Paused);
        client.resume("m").await.unwrap();
        let listing = client.domains().await.unwrap();
        assert!(listing.failed.is_empty());
        assert_eq!(listing.items[0], client.domain("m").await.unwrap());
        let record = &listing.items[0];
        assert!(record.live_xml.as_deref().unwrap().contains("<alias name="));
        assert!(!record.inactive_xml.contains("<alias name="));

        client.block_resize("m", "vda", 32 << 20).await.unwrap();
        client.refresh_pool("p").await.unwrap();
        let resized = client.volume("p", "d.qcow2").await.unwrap().xml;
        assert!(resized.contains("<capacity unit='bytes'>33554432<"), "{resized}");
        let snapshot = "<domainsnapshot><name>s</name></domainsnapshot>";
        let kind = SnapshotKind::DiskOnly;
        assert_eq!(client.create_snapshot("m", snapshot, kind).await.unwrap(), "s");
        let interface = "<interface type='network'><mac address='52:54:00:00:00:09'/>\
                         <source network='lan'/><model type='virtio'/></interface>";
        client.attach_device("m", interface, Scope::Config).await.unwrap();
        let changed = client.domain("m").await.unwrap();
        assert!(changed.inactive_xml.contains("52:54:00:00:00:09"));
        assert!(!changed.live_xml.unwrap().contains("52:54:00:00:00:09"));
        let nonsense = client.attach_device("m", "<nonsense/>", Scope::Config).await;
        assert!(nonsense.is_err());
        assert_eq!(client.interface_addresses("m", AddressSource::Lease).await.unwrap(), []);
        let limit = Duration::from_secs(2);
        let asked = client.agent_command("m", r#"{"execute":"guest-ping"}"#, limit).await;
        assert_eq!(asked.unwrap_err().code, Code::AgentUnresponsive);

        client.destroy("m", true).await.unwrap();
        client.undefine_domain("m", false).await.unwrap();
        client.destroy_pool("p").await.unwrap();
        client.undefine_pool("p").await.unwrap();
        client.destroy_network("lan").await.unwrap();
        client.undefine_network("lan").await.unwrap();
    });
    await_event(&mut events, |e| {
        matches!(e.kind, EventKind::Domain { change: DomainChange::Stopped, .. }) && e.name == "m"
    });
}

/// How soon a machine that is killed from outside is noticed; users are promised one second.
#[test]
fn a_killed_machine_is_noticed_at_once() {
    let Some((daemon, _one)) = Daemon::own() else {
        return;
    };
    let client = daemon.client();
    run(async {
        client.define_domain(&domain("k", "")).await.unwrap();
        client.start("k").await.unwrap();
    });
    let mut events = client.events();
    let start = Instant::now();
    let killed = Command::new("virsh").args(["-q", "destroy", "k"]).status();
    assert!(killed.expect("virsh").success());
    await_event(&mut events, |e| {
        matches!(e.kind, EventKind::Domain { change: DomainChange::Stopped, .. })
    });
    let delivered = start.elapsed();
    assert!(delivered < Duration::from_secs(5), "{delivered:?}");
    run(client.undefine_domain("k", true)).unwrap();
}
