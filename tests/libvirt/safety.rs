//! What is not ours, or not where it should be, is left alone.

use std::sync::Arc;

use std::fmt::Write as _;

use trueup::model::resource::StopPolicy;
use trueup::model::{Fault, Ownership, Resource};
use trueup::plan::Action;

use super::bench::{Bench, id, lab, name, run};

#[test]
fn what_is_foreign_misplaced_or_another_thing_is_left_alone() {
    super::beside_libvirt(
        "libvirt::safety::what_is_foreign_misplaced_or_another_thing_is_left_alone",
        |uri| async {
            let mut bench = Bench::new(uri);
            let pool = bench.pool();
            let uuid = Bench::uuid("pool/fast");
            bench.act("pool/fast", Action::PoolDefine { pool, uuid }).await;
            domains(&mut bench).await;
            networks(&mut bench).await;
            disks(&mut bench).await;
        },
    );
}

#[track_caller]
fn asks_a_person(fault: &Fault) {
    assert!(matches!(fault, Fault::NeedsHuman { .. }), "{fault:?}");
}

/// A domain called `web` that somebody else made, by hand and running.
async fn domains(bench: &mut Bench) {
    let path = bench.path("theirs.xml");
    let mut xml = String::new();
    write!(
        xml,
        "<domain type='qemu'><name>web</name><uuid>{}</uuid><memory unit='MiB'>32</memory>\
         <os><type machine='q35'>hvm</type></os></domain>",
        Bench::uuid("vm/web")
    )
    .unwrap();
    std::fs::write(&path, xml).unwrap();
    run(&["virsh", "define", &path]);
    run(&["virsh", "start", "web"]);
    let before = run(&["virsh", "dumpxml", "web"]);
    let vm = Box::new(bench.vm());
    let define = |uuid| Action::VmDefine { vm: vm.clone(), uuid };
    let ours = Bench::uuid("vm/web");
    let policy = StopPolicy { timeout_s: 0, force: true };
    for action in [define(ours), Action::VmStop { policy }, Action::VmPause, Action::VmUndefine] {
        asks_a_person(&bench.try_act("vm/web", action).await.unwrap_err());
    }
    assert_eq!(run(&["virsh", "dumpxml", "web"]), before);

    // Adopted, it keeps running and its UUID.
    bench.want(&id("vm/web"), Resource::VirtualMachine(vm.clone()));
    let wanted = bench.resources.get_mut(&id("vm/web")).unwrap();
    Arc::make_mut(wanted).lifecycle.adopt = true;
    let other = Bench::uuid("vm/other");
    asks_a_person(&bench.try_act("vm/web", define(other)).await.unwrap_err());
    bench.act("vm/web", define(ours)).await;
    let seen = bench.seen("vm/web").await;
    assert!(seen.active, "adopting interrupts nothing");
    assert_ne!(seen.live, Some(seen.config), "the difference is shown until it restarts");

    // Of an environment that got another name it is only once that says what it was called.
    bench.environment = name("prod");
    let seen = bench.seen("vm/web").await;
    assert_eq!(seen.ownership, Ownership::Other { environment: name("lab") });
    let fault = bench.try_act("vm/web", define(ours)).await.unwrap_err();
    asks_a_person(&fault);
    assert!(fault.to_string().contains("formerly"), "{fault}");
    bench.formerly = vec![name("lab")];
    bench.act("vm/web", define(ours)).await;
    let seen = bench.seen("vm/web").await;
    assert_eq!(seen.ownership, Ownership::Ours { environment: name("prod") });
    assert!(seen.active, "a new name interrupts nothing");

    // No operating system is there to hear it: it is not ended unless that is allowed.
    let stop = |force| Action::VmStop { policy: StopPolicy { timeout_s: 1, force } };
    asks_a_person(&bench.try_act("vm/web", stop(false)).await.unwrap_err());
    assert!(bench.seen("vm/web").await.active);
    let outcome = bench.act("vm/web", stop(true)).await;
    assert_eq!(outcome.facts["stopped"], "forced");
    bench.act("vm/web", Action::VmUndefine).await;
}

async fn networks(bench: &mut Bench) {
    let path = bench.path("net.xml");
    std::fs::write(&path, "<network><name>lab</name></network>").unwrap();
    run(&["virsh", "net-define", &path]);
    run(&["virsh", "net-start", "lab"]);
    let uuid = run(&["virsh", "net-uuid", "lab"]).trim().parse().unwrap();
    let network = lab();
    let define = Action::NetworkDefine { network, uuid };
    let reconnect = Vec::new();
    for action in
        [define, Action::NetworkStart { reconnect }, Action::NetworkStop, Action::NetworkUndefine]
    {
        asks_a_person(&bench.try_act("network/lab", action).await.unwrap_err());
    }
    run(&["virsh", "net-destroy", "lab"]);
    run(&["virsh", "net-undefine", "lab"]);
}

async fn disks(bench: &mut Bench) {
    let outside = bench.path("outside.qcow2");
    std::fs::write(&outside, "precious").unwrap();
    for path in [outside.clone(), bench.path("pool/../outside.qcow2")] {
        let pool = name("fast");
        let fault = bench.try_act("disk/outside", Action::DiskDelete { pool, path }).await;
        assert!(matches!(fault, Err(Fault::Permanent { .. })), "{fault:?}");
    }
    assert!(std::path::Path::new(&outside).exists());

    // A file of another content stands where the disk should be made.
    let disk = bench.disk("web", None);
    std::fs::write(&disk.path, "precious").unwrap();
    let create = Action::DiskCreate { disk: disk.clone() };
    asks_a_person(&bench.try_act("disk/web", create).await.unwrap_err());
    assert_eq!(std::fs::read_to_string(&disk.path).unwrap(), "precious");

    // A file that would fit is somebody else's all the same.
    std::fs::remove_file(&disk.path).unwrap();
    run(&["qemu-img", "create", "-q", "-f", "qcow2", &disk.path, &disk.size.to_string()]);
    let create = Action::DiskCreate { disk: disk.clone() };
    asks_a_person(&bench.try_act("disk/web", create.clone()).await.unwrap_err());
    // Unless the log says that it was on the way to make it.
    bench.want(&id("disk/web"), Resource::Disk(disk.clone()));
    assert!(bench.try_act("disk/web", create).await.unwrap().already);
    bench.resources.remove(&id("disk/web"));

    // What lies on it keeps an image's file.
    std::fs::remove_file(&disk.path).unwrap();
    let create = Action::DiskCreate { disk: disk.clone() };
    bench.act("disk/web", create).await;
    let top = bench.disk(
        "top",
        Some(trueup::model::resource::Backing { path: disk.path.clone(), format: disk.format }),
    );
    bench.act("disk/top", Action::DiskCreate { disk: top }).await;
    let (pool, path) = (name("fast"), disk.path);
    let delete = Action::DiskDelete { pool, path };
    asks_a_person(&bench.try_act("disk/web", delete).await.unwrap_err());

    // A pool that is not started hides its disks; hidden is not absent.
    bench.want(&id("disk/web"), Resource::Disk(bench.disk("web", None)));
    run(&["virsh", "pool-destroy", "fast"]);
    let seen = bench.observe().await;
    assert!(seen.unreadable.contains_key(&id("disk/web")), "{seen:?}");
    bench.act("pool/fast", Action::PoolStart).await;
    assert!(bench.observe().await.unreadable.is_empty());
}
