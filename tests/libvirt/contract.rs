//! From nothing to a running guest, through changes and a broken link, and back to nothing.

use trueup::model::resource::{Probe, Readiness, StopPolicy};
use trueup::model::{Kind, Ownership, Resource};
use trueup::plan::{Action, LiveChange};
use trueup::provider::libvirt::xml::{Mark, domain};

use super::bench::{Bench, GRACEFUL, WEB_MAC, id, lab, name, nic, run};

#[test]
fn a_guest_is_made_changed_healed_and_removed() {
    super::beside_libvirt(
        "libvirt::contract::a_guest_is_made_changed_healed_and_removed",
        |uri| async {
            let mut bench = Bench::new(uri);
            let foreign = define_foreign(&bench);
            build(&mut bench).await;
            redefining_changes_no_byte(&bench).await;
            change_live(&mut bench).await;
            reconnect(&bench).await;
            keeps_a_snapshot(&bench).await;
            grows(&mut bench).await;
            remove(&mut bench).await;
            assert_eq!(dump("theirs"), foreign, "a foreign domain was touched");
        },
    );
}

fn dump(domain: &str) -> String {
    run(&["virsh", "dumpxml", "--inactive", "--security-info", domain])
}

/// A domain made by somebody else, on no network.
fn define_foreign(bench: &Bench) -> String {
    let path = bench.path("theirs.xml");
    let xml = "<domain type='qemu'><name>theirs</name><memory unit='MiB'>32</memory>\
        <os><type machine='q35'>hvm</type></os></domain>";
    std::fs::write(&path, xml).unwrap();
    run(&["virsh", "define", &path]);
    dump("theirs")
}

async fn build(bench: &mut Bench) {
    let pool = bench.pool();
    bench.want(&id("pool/fast"), Resource::StoragePool(pool.clone()));
    let uuid = Bench::uuid("pool/fast");
    bench.act("pool/fast", Action::PoolDefine { pool, uuid }).await;
    bench.define_network(&lab()).await;
    let reconnect = Vec::new();
    bench.act("network/lab", Action::NetworkStart { reconnect }).await;
    let disk = bench.disk("web", Some(bench.place_image()));
    bench.want(&id("disk/web"), Resource::Disk(disk.clone()));
    bench.act("disk/web", Action::DiskCreate { disk }).await;
    bench.define_vm(&bench.vm()).await;
    assert!(!bench.seen("vm/web").await.active, "defining starts nothing");
    bench.act("vm/web", Action::VmStart).await;
    bench.await_console("TINY-READY").await;
    bench.await_console("TINY-NET mac=52:54:00:91:00:05 ip=10.91.0.5").await;
    for resource in ["pool/fast", "network/lab", "disk/web", "vm/web"] {
        bench.assert_converged(resource).await;
    }
    let seen = bench.observe().await;
    assert!(seen.unobservable.is_empty() && seen.unreadable.is_empty(), "{seen:?}");
    assert!(seen.host.addresses.is_empty(), "libvirt's own: {:?}", seen.host.addresses);
    let files: Vec<_> = seen.resources.keys().filter(|id| id.kind == Kind::Disk).collect();
    assert_eq!(files, [&id("disk/web")], "an image is no disk");
    assert_eq!(seen.resources[&id("vm/theirs")].ownership, Ownership::Foreign);
    let web = &seen.resources[&id("vm/web")];
    assert!(matches!(web.ownership, Ownership::Ours { .. }));
    assert!(web.active && web.unplugged.is_empty());
}

/// Not only does a second definition do nothing: made all the same, it changes nothing.
async fn redefining_changes_no_byte(bench: &Bench) {
    let before = dump("web");
    let mark = Mark {
        environment: name("lab"),
        id: id("vm/web"),
        digest: Some(bench.resources[&id("vm/web")].digest),
        memory: Some(bench.vm().memory.current),
    };
    let defaults = domain::Defaults { accelerator: trueup::model::resource::Accelerator::Tcg };
    let uuid = Bench::uuid("vm/web");
    let merged = domain::merge(Some(&before), &bench.vm(), "web", uuid, &mark, defaults);
    bench.client.define_domain(&merged.unwrap()).await.unwrap();
    assert_eq!(dump("web"), before);
}

async fn change_live(bench: &mut Bench) {
    let data = bench.disk("data", None);
    bench.want(&id("disk/data"), Resource::Disk(data.clone()));
    bench.act("disk/data", Action::DiskCreate { disk: data }).await;
    let mut vm = bench.vm();
    vm.memory.current = 256 << 10;
    vm.cpus.count = 2;
    let disk = bench.attachment("vdb", "data");
    let more = nic("52:54:00:91:00:06", "lab");
    vm.disks.push(disk.clone());
    vm.nics.push(more.clone());
    bench.define_vm(&vm).await;
    let changes = vec![
        LiveChange::Memory(vm.memory.current),
        LiveChange::Vcpus(2),
        LiveChange::AttachDisk(disk),
        LiveChange::AttachNic(more),
    ];
    bench.act("vm/web", Action::VmUpdateLive { changes }).await;
    bench.assert_converged("vm/web").await;
    let vm = bench.vm();
    bench.define_vm(&vm).await;
    let changes = vec![
        LiveChange::Memory(vm.memory.current),
        LiveChange::DetachDisk("vdb".to_owned()),
        LiveChange::DetachNic("52:54:00:91:00:06".to_owned()),
    ];
    bench.act("vm/web", Action::VmUpdateLive { changes }).await;
    let mut vm = bench.vm();
    vm.cpus.count = 2;
    bench.define_vm(&vm).await;
    bench.assert_converged("vm/web").await;
    let (pool, path) = (name("fast"), bench.path("pool/data.qcow2"));
    bench.resources.remove(&id("disk/data"));
    bench.act("disk/data", Action::DiskDelete { pool, path }).await;
}

async fn is_up(bench: &Bench) {
    let probe = Probe::Tcp { address: "10.91.0.5".parse().unwrap(), port: 80 };
    let readiness = Readiness { probe, timeout_s: 60 };
    let action = Action::VmAwaitReady { readiness, console_log: None };
    bench.try_act("vm/web", action).await.unwrap();
}

/// A network stopped and started by hand leaves its guests without a link.
async fn reconnect(bench: &Bench) {
    is_up(bench).await;
    run(&["virsh", "net-destroy", "lab"]);
    let seen = bench.observe().await;
    assert!(!seen.resources[&id("network/lab")].active);
    assert_eq!(seen.resources[&id("vm/web")].unplugged, [WEB_MAC]);
    let reconnect = vec![name("web"), name("theirs"), name("nobody")];
    let outcome = bench.act("network/lab", Action::NetworkStart { reconnect }).await;
    assert_eq!(outcome.facts["reconnected.web"], "1");
    assert!(bench.seen("vm/web").await.unplugged.is_empty());
    is_up(bench).await;
}

async fn keeps_a_snapshot(bench: &Bench) {
    for _ in 0..2 {
        let name = "trueup-before".to_owned();
        let action = Action::VmSnapshot { name };
        bench.try_act("vm/web", action).await.unwrap();
    }
    assert_eq!(bench.client.snapshots("web").await.unwrap(), ["trueup-before"]);
    is_up(bench).await;
    bench.client.delete_snapshot("web", "trueup-before").await.unwrap();
}

async fn grows(bench: &mut Bench) {
    let grow = |size, live| Action::DiskGrow {
        path: bench.path("pool/web.qcow2"),
        pool: name("fast"),
        size,
        live,
    };
    let live = Some((name("web"), "vda".to_owned()));
    bench.act("disk/web", grow(80 << 20, live.clone())).await;
    bench.act("vm/web", Action::VmPause).await;
    bench.act("vm/web", Action::VmStart).await;
    let outcome = bench.act("vm/web", Action::VmStop { policy: GRACEFUL }).await;
    assert_eq!(outcome.facts["stopped"], "gracefully");
    let console = std::fs::read_to_string(bench.path("console/web.log")).unwrap();
    assert!(console.contains("TINY-POWERBTN"), "it was asked: {console}");
    // Planned while it ran, performed when it does not.
    bench.act("disk/web", grow(96 << 20, live)).await;
    bench.act("vm/web", Action::VmStart).await;
    let console = std::fs::read_to_string(bench.path("console/web.log")).unwrap();
    assert!(!console.contains("TINY"), "a console is that of this start: {console}");
    let policy = StopPolicy { timeout_s: 0, force: true };
    bench.act("vm/web", Action::VmStop { policy }).await;
}

async fn remove(bench: &mut Bench) {
    // One that is made anew would go while its domain, which is off, names it.
    bench.resources.remove(&id("disk/web"));
    let (pool, path) = (name("fast"), bench.path("pool/web.qcow2"));
    let delete = Action::DiskDelete { pool, path };
    let refused = bench.try_act("disk/web", delete.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("vm/web uses"), "{refused}");
    bench.act("vm/web", Action::VmUndefine).await;
    bench.act("disk/web", delete).await;
    bench.act("network/lab", Action::NetworkStop).await;
    bench.act("network/lab", Action::NetworkUndefine).await;
    bench.act("pool/fast", Action::PoolUndefine).await;
    let image = bench.path("pool/image-tiny-0123.qcow2");
    assert!(std::path::Path::new(&image).exists(), "a pool's files stay");
}
