//! What a plan is, by example: one machine, one change, one transcript.

mod backup;
mod cluster;
mod first;
mod folder;
mod gpu;
mod guests;
mod kubernetes;
mod limits;
mod random;
mod release;
mod shared;

use expect_test::{Expect, expect};

use super::fixture::*;
use super::{Action, Remark, SkipReason, hold_reasons};
use crate::model::resource::*;
use crate::model::{Kind, Ownership, Resource};
use crate::spec::{SelfHeal, SyncMode, SyncWindow};

#[track_caller]
fn shows(machine: &Machine, expected: Expect) {
    expected.assert_eq(&machine.shown());
}

#[test]
fn everything_is_made_in_order_from_nothing() {
    shows(
        &web(),
        expect![[r#"
           1  define    pool/main     [missing]
           2  define    network/lan   [missing]
           3  start     network/lan   [missing] after 2
           4  create    image/debian  [missing] after 1
           5  create    disk/web      10 GiB on /vm/debian-3bfc269594ef.qcow2 [missing] after 4
           6  define    vm/web        [missing] after 3, 5
           7  start     vm/web        [missing] after 6
        Plan: 5 to create, 0 to change, 0 to destroy
    "#]],
    );
}

#[test]
fn nothing_is_done_twice() {
    shows(
        &converged(),
        expect![[r#"
        Nothing to do: the machine is as the commit asks.
    "#]],
    );
}

#[test]
fn memory_within_the_maximum_changes_live() {
    let mut machine = converged();
    machine.edit_vm("vm/web", |vm| vm.memory.current = 2 * GIB);
    shows(
        &machine,
        expect![[r#"
               1  define    vm/web  [changed]
                            memory.current: 1 GiB → 2 GiB (live)
               2  update    vm/web  memory 2 GiB [changed] live after 1
            Plan: 0 to create, 1 to change, 0 to destroy
        "#]],
    );
}

#[test]
fn more_memory_than_the_maximum_restarts_and_destroys_nothing() {
    let mut machine = converged();
    machine.edit_vm("vm/web", |vm| vm.memory.max = 4 * GIB);
    shows(
        &machine,
        expect![[r#"
               1  define    vm/web  [changed]
                            memory.max: 2 GiB → 4 GiB (restart)
               2  stop      vm/web  within 60 s, never by force [changed] RESTART after 1
               3  start     vm/web  [changed] after 2
            Plan: 0 to create, 1 to change (1 restart), 0 to destroy
        "#]],
    );
}

#[test]
fn an_emulated_guest_is_told_of_and_restarted_only_where_its_spec_says_so() {
    let mut machine = converged();
    let says =
        |machine: &Machine| machine.plan().notes.iter().map(|it| it.what).collect::<Vec<_>>();
    assert!(says(&machine).is_empty(), "nothing is known of the host yet");
    machine.observed.host.accelerator = Some(Accelerator::Tcg);
    assert_eq!(says(&machine), [Remark::EmulatedWithoutKvm]);
    let before = machine.plan();
    machine.observed.host.accelerator = Some(Accelerator::Kvm);
    let plan = machine.plan();
    assert_eq!(plan.digest(), before.digest(), "a remark is no other plan");
    shows(
        &machine,
        expect![[r#"
            Note: vm/web runs emulated: KVM was not usable when it was made, and is now; `accelerator: kvm` in its spec moves it there with a restart
            Nothing to do: the machine is as the commit asks.
        "#]],
    );
    let shown = super::render::markdown(&plan, 10_000);
    assert!(shown.contains("Notes (1)") && shown.contains("`vm/web`"), "{shown}");
    machine.edit_vm("vm/web", |vm| vm.accelerator = Some(Accelerator::Kvm));
    shows(
        &machine,
        expect![[r#"
               1  define    vm/web  [changed]
                            accelerator: tcg → kvm (restart)
               2  stop      vm/web  within 60 s, never by force [changed] RESTART after 1
               3  start     vm/web  [changed] after 2
            Plan: 0 to create, 1 to change (1 restart), 0 to destroy
        "#]],
    );
    machine.converge();
    machine.edit_vm("vm/web", |vm| vm.accelerator = None);
    assert!(machine.plan().is_empty() && says(&machine).is_empty(), "it runs under KVM");
    // Asked for, emulation is nothing to wonder about.
    machine.edit_vm("vm/web", |vm| vm.accelerator = Some(Accelerator::Tcg));
    machine.converge();
    assert!(says(&machine).is_empty());
}

#[test]
fn outside_the_window_the_restart_waits_but_the_configuration_is_there() {
    let mut machine = converged();
    machine.edit_vm("vm/web", |vm| vm.memory.max = 4 * GIB);
    let window = SyncWindow { days: vec![1], start_minute: 0, minutes: 60 };
    machine.desired.sync.windows = vec![window];
    machine.minute = Some(61);
    shows(
        &machine,
        expect![[r#"
           1  define    vm/web  [changed]
                        memory.max: 2 GiB → 4 GiB (restart)
        Left alone:
              vm/web: takes effect at the next restart or window
                        memory.max: 2 GiB → 4 GiB (restart)
        Plan: 0 to create, 1 to change, 0 to destroy, 1 left alone
    "#]],
    );
    machine.converge();
    machine.minute = Some(30);
    shows(
        &machine,
        expect![[r#"
           1  stop      vm/web  within 60 s, never by force [changed] RESTART
                        memory.max: 2 GiB → 4 GiB (restart)
           2  start     vm/web  [changed] after 1
        Plan: 0 to create, 1 to change (1 restart), 0 to destroy
    "#]],
    );
}

#[test]
fn disks_and_interfaces_come_and_go_while_the_guest_runs() {
    let mut machine = converged();
    machine.want("disk/data", disk("data", 5, None));
    machine.want("network/dmz", network("10.8.0.1/24"));
    machine.edit_vm("vm/web", |vm| {
        vm.disks.push(attachment("vdb", "data"));
        vm.nics = vec![Nic { mac: "52:54:00:00:00:01".into(), ..nic("web", "dmz") }];
    });
    shows(
        &machine,
        expect![[r#"
               1  define    network/dmz  [missing]
               2  start     network/dmz  [missing] after 1
               3  create    disk/data    5 GiB [missing]
               4  define    vm/web       [changed] after 2, 3
                            disks.vdb: nothing → {"target":"vdb","bus":"virtio","device":"disk","path":"/vm/d… (62 more) (live)
                            nics.52:54:00:00:00:01: nothing → {"mac":"52:54:00:00:00:01","source":{"type":"network","value… (43 more) (live)
                            nics.52:54:00:62:e8:3b: {"mac":"52:54:00:62:e8:3b","source":{"type":"network","value… (43 more) → nothing (live)
               5  update    vm/web       plug in disk vdb, plug in interface 52:54:00:00:00:01, unplug interface 52:54:00:62:e8:3b [changed] live after 4
            Plan: 2 to create, 1 to change, 0 to destroy
        "#]],
    );
    machine.converge();
    machine.drop("disk/data");
    machine.edit_vm("vm/web", |vm| vm.disks.truncate(1));
    shows(
        &machine,
        expect![[r#"
               1  define    vm/web     [changed]
                            disks.vdb: {"target":"vdb","bus":"virtio","device":"disk","path":"/vm/d… (62 more) → nothing (live)
               2  update    vm/web     unplug disk vdb [changed] live after 1
               3  delete    disk/data  /vm/data.qcow2 [gone from the commit] DESTROY after 2
            Plan: 0 to create, 1 to change, 1 to destroy
        "#]],
    );
    assert!(machine.converge().is_empty());
}

#[test]
fn a_changed_seed_restarts_and_the_old_file_goes_last() {
    let mut machine = converged();
    machine.want("seed/web", seed("web", "password: one"));
    machine.edit_vm("vm/web", |vm| vm.disks.push(seed_attachment("web", "password: one")));
    machine.converge();
    machine.want("seed/web", seed("web", "password: two"));
    machine.edit_vm("vm/web", |vm| {
        vm.disks.truncate(1);
        vm.disks.push(seed_attachment("web", "password: two"));
    });
    let shown = machine.shown();
    assert!(!shown.contains("password"), "{shown}");
    shows(
        &machine,
        expect![[r#"
               1  create    seed/web  [changed]
                            path: /vm/web-1cf2cf1a7d9e.img → /vm/web-bd192cea7a9c.img
                            content: 1cf2cf1a7d9ee7dbeee882e70dbdea19a5567658216023ac446476305057… (4 more) → bd192cea7a9c1fd5f18136fc72acabf5929e47ed6375d0edeba8ef29fcc7… (4 more)
               2  define    vm/web    [changed] after 1
                            disks.vdz.path: /vm/web-1cf2cf1a7d9e.img → /vm/web-bd192cea7a9c.img (restart)
               3  stop      vm/web    within 60 s, never by force [changed] RESTART after 2
               4  start     vm/web    [changed] after 3
            Plan: 0 to create, 2 to change (1 restart), 0 to destroy
        "#]],
    );
    for step in machine.plan().steps.clone() {
        machine.perform(&step);
    }
    shows(
        &machine,
        expect![[r#"
           1  delete    seed/web  /vm/web-1cf2cf1a7d9e.img [gone from the commit]
        Plan: 0 to create, 0 to change, 0 to destroy, 1 to tidy
    "#]],
    );
}

#[test]
fn what_is_broken_by_hand_is_healed_and_called_drift() {
    let mut machine = converged();
    let stop = Action::VmStop { policy: StopPolicy { timeout_s: 0, force: true } };
    machine.by_hand("vm/web", stop);
    shows(
        &machine,
        expect![[r#"
           1  start     vm/web  [drifted]
                        power: off → running
        Plan: 0 to create, 1 to change, 0 to destroy
    "#]],
    );
    let mut machine = converged();
    machine.by_hand("network/lan", Action::NetworkStop);
    shows(
        &machine,
        expect![[r#"
           1  start     network/lan  and plug in web [drifted]
        Plan: 0 to create, 1 to change, 0 to destroy
    "#]],
    );
    let mut machine = converged();
    machine.by_hand("vm/web", Action::VmPause);
    shows(
        &machine,
        expect![[r#"
           1  start     vm/web  [drifted]
                        power: paused → running
        Plan: 0 to create, 1 to change, 0 to destroy
    "#]],
    );
    let mut machine = converged();
    machine.seen("vm/web").unplugged = vec![nic("web", "lan").mac];
    shows(
        &machine,
        expect![[r#"
           1  update    vm/web  plug interface 52:54:00:62:e8:3b in again [drifted] live
        Plan: 0 to create, 1 to change, 0 to destroy
    "#]],
    );
    let mut machine = converged();
    machine.observed.resources.remove(&id("vm/web"));
    machine.observed.resources.remove(&id("network/lan"));
    shows(
        &machine,
        expect![[r#"
           1  define    network/lan  [drifted]
           2  start     network/lan  [drifted] after 1
           3  define    vm/web       [drifted] after 2
           4  start     vm/web       [drifted] after 3
        Plan: 2 to create, 0 to change, 0 to destroy
    "#]],
    );
}

#[test]
fn drift_is_only_reported_where_the_policy_says_so() {
    let mut machine = web();
    machine.edit("vm/web", |wish| wish.lifecycle.self_heal = SelfHeal::Report);
    machine.converge();
    machine.by_hand("vm/web", Action::VmPause);
    shows(
        &machine,
        expect![[r#"
        Left alone:
              vm/web: drifted; selfHeal: report leaves it so
                        power: paused → running
        Nothing to do; 1 left alone.
    "#]],
    );
    machine.edit_vm("vm/web", |vm| vm.autostart = true);
    shows(
        &machine,
        expect![[r#"
           1  define    vm/web  [changed]
                        autostart: false → true
           2  start     vm/web  [changed] after 1
                        power: paused → running
        Plan: 0 to create, 1 to change, 0 to destroy
    "#]],
    );
}

#[test]
fn ignored_fields_are_neither_compared_nor_overwritten() {
    let mut machine = converged();
    machine.edit("vm/web", |wish| {
        wish.lifecycle.ignore_differences = vec!["/memory/current".into(), "/power".into()];
    });
    let Resource::VirtualMachine(vm) = &mut machine.seen("vm/web").config else { panic!() };
    vm.memory.current = 7;
    machine.by_hand("vm/web", Action::VmPause);
    assert!(machine.plan().is_empty(), "{}", machine.shown());
    machine.edit_vm("vm/web", |vm| vm.autostart = true);
    let plan = machine.plan();
    let Action::VmDefine { vm, .. } = &plan.steps[0].action else { panic!() };
    assert_eq!(vm.memory.current, 7);
}

#[test]
fn leases_and_records_change_without_dropping_guests() {
    let mut machine = converged();
    machine.edit_network("network/lan", |network| {
        let host = DhcpHost {
            mac: "52:54:00:00:00:02".into(),
            ip: "10.7.0.9".parse().unwrap(),
            name: None,
        };
        network.addresses[0].dhcp.as_mut().unwrap().hosts.push(host);
        network.dns =
            Some(vec![DnsRecord { ip: "10.7.0.9".parse().unwrap(), names: vec!["db".into()] }]);
    });
    shows(
        &machine,
        expect![[r#"
               1  define    network/lan  [changed]
                            addresses.10.7.0.1/24.dhcp.hosts.52:54:00:00:00:02: nothing → {"mac":"52:54:00:00:00:02","ip":"10.7.0.9","name":null} (live)
                            dns.10.7.0.9: nothing → {"ip":"10.7.0.9","names":["db"]} (live)
               2  update    network/lan  [changed] live after 1
            Plan: 0 to create, 1 to change, 0 to destroy
        "#]],
    );
}

#[test]
fn a_network_restart_names_everyone_it_interrupts() {
    let mut machine = converged();
    machine.want("vm/app", vm("app", &[], &[])).depends_on = [id("vm/web")].into();
    machine.converge();
    machine.foreign("vm/stranger", vm("stranger", &[], &["lan"]), true);
    machine.edit_network("network/lan", |network| network.mtu = Some(9000));
    shows(
        &machine,
        expect![[r#"
               1  define    network/lan  [changed]
                            mtu: nothing → 9000 (restart)
               2  stop      network/lan  [changed] RESTART interrupts vm/app, vm/stranger, vm/web after 1
               3  start     network/lan  and plug in stranger, web [changed] after 2
            Plan: 0 to create, 1 to change (1 restart), 0 to destroy
        "#]],
    );
}

#[test]
fn a_grown_disk_grows_live_and_a_shrunk_one_is_refused() {
    let mut machine = converged();
    machine.edit_disk("disk/web", |disk| disk.size = 20 << 30);
    shows(
        &machine,
        expect![[r#"
           1  grow      disk/web  to 20 GiB [changed] live
                        size: 10 GiB → 20 GiB (live)
        Plan: 0 to create, 1 to change, 0 to destroy
    "#]],
    );
    machine.edit_disk("disk/web", |disk| disk.size = 5 << 30);
    shows(
        &machine,
        expect![[r#"
            Left alone:
                  disk/web: a disk is never shrunk
                            size: 10 GiB → 5 GiB
            Nothing to do; 1 left alone.
        "#]],
    );
}

#[test]
fn a_new_image_leaves_the_disk_alone_unless_told_otherwise() {
    let mut machine = converged();
    machine.want("image/debian", image("v2"));
    machine.edit_disk("disk/web", |disk| disk.backing.as_mut().unwrap().path = image_path("v2"));
    shows(
        &machine,
        expect![[r#"
           1  create    image/debian  [changed]
                        path: /vm/debian-3bfc269594ef.qcow2 → /vm/debian-fb04dcb6970e.qcow2
        Left alone:
              disk/web: keeps the image it was made from (onImageChange: keep)
                        backing: {"path":"/vm/debian-3bfc269594ef.qcow2","format":"qcow2"} → {"path":"/vm/debian-fb04dcb6970e.qcow2","format":"qcow2"} (replace)
        Plan: 0 to create, 1 to change, 0 to destroy, 1 left alone
    "#]],
    );
    let last = machine.converge();
    assert!(last.is_empty());
    shows(
        &machine,
        expect![[r#"
        Left alone:
              image/debian: still used by disk/web
              disk/web: keeps the image it was made from (onImageChange: keep)
                        backing: {"path":"/vm/debian-3bfc269594ef.qcow2","format":"qcow2"} → {"path":"/vm/debian-fb04dcb6970e.qcow2","format":"qcow2"} (replace)
        Nothing to do; 2 left alone.
    "#]],
    );
    machine.edit_disk("disk/web", |disk| disk.on_image_change = Some(OnImageChange::Replace));
    shows(
        &machine,
        expect![[r#"
               1  stop      vm/web        within 60 s, never by force [needed] RESTART
               2  delete    disk/web      /vm/web.qcow2 [changed] REPLACE interrupts vm/web after 1
                            backing: {"path":"/vm/debian-3bfc269594ef.qcow2","format":"qcow2"} → {"path":"/vm/debian-fb04dcb6970e.qcow2","format":"qcow2"} (replace)
               3  delete    image/debian  /vm/debian-3bfc269594ef.qcow2 [gone from the commit] after 2
               4  create    disk/web      10 GiB on /vm/debian-fb04dcb6970e.qcow2 [changed] after 2
               5  start     vm/web        [needed] after 4
            Plan: 0 to create, 1 to change (1 restart), 1 to replace, 0 to destroy, 1 to tidy
        "#]],
    );
    machine.edit("disk/web", |wish| wish.lifecycle.prevent_destroy = true);
    shows(
        &machine,
        expect![[r#"
        Left alone:
              image/debian: still used by disk/web
              disk/web: protected by lifecycle.preventDestroy
                        backing: {"path":"/vm/debian-3bfc269594ef.qcow2","format":"qcow2"} → {"path":"/vm/debian-fb04dcb6970e.qcow2","format":"qcow2"} (replace)
        Nothing to do; 2 left alone.
    "#]],
    );
    machine.edit("disk/web", |wish| wish.lifecycle.prevent_destroy = false);
    assert!(machine.converge().skipped.is_empty());
}

#[test]
fn a_disk_is_never_replaced_under_a_foreign_guest() {
    let mut machine = converged();
    machine.foreign("vm/stranger", vm("stranger", &["web"], &[]), true);
    machine.want("image/debian", image("v2"));
    machine.edit_disk("disk/web", |disk| {
        disk.backing.as_mut().unwrap().path = image_path("v2");
        disk.on_image_change = Some(OnImageChange::Replace);
    });
    shows(
        &machine,
        expect![[r#"
               1  create    image/debian  [changed]
                            path: /vm/debian-3bfc269594ef.qcow2 → /vm/debian-fb04dcb6970e.qcow2
            Left alone:
                  disk/web: still used by vm/stranger
                            backing: {"path":"/vm/debian-3bfc269594ef.qcow2","format":"qcow2"} → {"path":"/vm/debian-fb04dcb6970e.qcow2","format":"qcow2"} (replace)
            Plan: 0 to create, 1 to change, 0 to destroy, 1 left alone
        "#]],
    );
}

#[test]
fn formats_and_places_of_disks_are_not_changed() {
    let mut machine = converged();
    machine.edit_disk("disk/web", |disk| disk.format = VolumeFormat::Raw);
    shows(
        &machine,
        expect![[r#"
        Left alone:
              disk/web: cannot be changed in place: a disk keeps its file and format: give it another name to get a new one
                        format: qcow2 → raw (replace)
        Nothing to do; 1 left alone.
    "#]],
    );
    let mut machine = converged();
    machine.edit_disk("disk/web", |disk| disk.path = "/other/web.qcow2".into());
    machine.edit_vm("vm/web", |vm| vm.disks[0].path = Some("/other/web.qcow2".into()));
    machine.observed.resources.remove(&id("disk/web"));
    shows(
        &machine,
        expect![[r#"
            Left alone:
                  disk/web: cannot be changed in place: its data is in /vm/web.qcow2: if the disk was renamed, say so under `moved` in the environment; give it another name to start empty, or move the file to /other/web.qcow2 by hand and set lifecycle.adopt
                  vm/web: waits for disk/web
                            disks.vda.path: /vm/web.qcow2 → /other/web.qcow2 (restart)
            Nothing to do; 2 left alone.
        "#]],
    );
}
