//! Drills that boot what came back: beside the guest, which goes on, on a network that nobody else is on;
//! and whatever is killed or cancelled when, nothing is left behind.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::bench::{Bench, PATIENCE, sh};
use super::events::{Event, until};
use super::saved::{
    DEVICE, GREETING, UP, backup, boot_sector_saying, host, take, writer, writer_initrd,
};
use super::spec::{disk, environment, network};

/// The copy of the backup `web`, and its network.
const COPY: &str = "trueup-drill-web";

/// Where these drills restore to: the folder in libvirt's images, as this test sees them.
fn scratch() -> Vec<PathBuf> {
    let images = std::fs::read_dir("/var/lib/libvirt/images").unwrap();
    let ours = images.map(|it| it.unwrap().path()).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".trueup-drill-"))
    });
    ours.flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|it| it.unwrap().path())
        .collect()
}

fn names(words: &[&str]) -> String {
    sh(&[&["virsh"][..], words].concat())
}

/// What drills left: machines, networks and files.
fn left() -> Vec<String> {
    let all = names(&["list", "--all", "--name"]) + &names(&["net-list", "--all", "--name"]);
    let named = all.lines().filter(|line| line.contains("drill")).map(str::to_owned);
    named.chain(scratch().iter().map(|path| path.display().to_string())).collect()
}

#[track_caller]
fn nothing_is_left() {
    until("nothing to be left", PATIENCE, || left().is_empty().then_some(()));
}

fn await_copy() {
    until("the copy to run", PATIENCE, || {
        names(&["list", "--name"]).lines().any(|line| line == COPY).then_some(())
    });
}

/// The backup `web`, with how it is booted.
fn drilled(bench: &Bench, source: &str, boot: &str) -> String {
    let drill = format!("  drill: {{ schedule: {{ every: 7d }}, boot: {{ {boot} }} }}\n");
    backup(bench, "web", source, &drill)
}

fn row(bench: &Bench) -> Value {
    let shown = bench.run(&["backup", "-o", "json"]);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    shown["backups"][0].clone()
}

/// Devices whose master is that bridge.
fn plugged(bridge: &str) -> Vec<String> {
    let shown = sh(&["ip", "-o", "link", "show", "master", bridge]);
    shown.lines().filter_map(|line| Some(line.split(": ").nth(1)?.to_owned())).collect()
}

fn bridge(network: &str) -> String {
    let shown = names(&["net-info", network]);
    let line = shown.lines().find_map(|line| line.strip_prefix("Bridge:")).unwrap();
    line.trim().to_owned()
}

#[test]
fn a_copy_boots_beside_the_guest_which_goes_on_undisturbed() {
    let name = "e2e::booted::a_copy_boots_beside_the_guest_which_goes_on_undisturbed";
    super::beside_libvirt(name, || {
        let mut bench = host();
        let initrd = writer_initrd(&bench);
        let nic = format!("  nics: [{{ network: lab, address: 10.7.0.10 }}]\n{UP}");
        let commands = "network: isolated, commands: [{ argv: [/bin/busybox, test, -b, /dev/vda] }, \
                        { argv: [/bin/busybox, sleep, \"4\"], timeout: 1m }]";
        let wish = [
            environment(&bench.dir, ""),
            network("lab", 7, ""),
            disk("data", 64),
            writer(&initrd, "{ disk: data }", &nic),
            drilled(&bench, "virtualMachine: web", commands),
        ];
        let commit = bench.push(&wish).0;
        bench.start();
        bench.converged(&commit);
        let number = names(&["domid", "web"]);
        let tap = names(&["domiflist", "web"]);

        let before = bench.seq();
        let taken = take(&bench, "web");
        await_copy();
        // Its network has one guest, and neither the host nor anybody else is on it.
        let isolated = bridge(COPY);
        assert_ne!(isolated, bridge("lab"));
        assert!(!names(&["net-dumpxml", COPY]).contains("<ip"));
        assert_eq!(
            sh(&["ip", "-o", "addr", "show", "dev", &isolated]),
            "",
            "an address of the host"
        );
        let inside = until("its interface", PATIENCE, || {
            Some(plugged(&isolated)).filter(|devices| !devices.is_empty())
        });
        assert_eq!(inside.len(), 1, "{inside:?}");
        let theirs = names(&["domiflist", COPY]);
        let mac = |shown: &str| shown.split_whitespace().last().map(str::to_owned);
        assert_eq!(mac(&theirs), mac(&tap), "the copy has the guest's address");
        // Its files are its own.
        let files = names(&["domblklist", COPY]);
        assert!(files.contains("vda.raw") && !files.contains("/pool/"), "{files}");
        assert_ne!(names(&["domuuid", COPY]), names(&["domuuid", "web"]));

        let done = bench.event(before, "backup.drilled", "backup/web");
        assert_eq!(done.data["snapshot"], taken.data["snapshot"]);
        let boot = &done.data["boot"];
        assert_eq!(boot["commands"], 2, "{done:?}");
        assert_eq!(boot["ready"], "`TINY-UP` on the console");
        let row = row(&bench);
        assert_eq!(row["health"], "good", "{row}");
        let (restore, boot) = (&row["measuredRestoreS"], &row["measuredBootS"]);
        let (restore, boot) = (restore.as_u64().unwrap(), boot.as_u64().unwrap());
        assert!(boot >= 1 && row["measuredRtoS"].as_u64().unwrap() >= restore.max(boot), "{row}");
        let shown = bench.run(&["backup"]).code(0).out;
        assert!(shown.contains("and booted it in"), "{shown}");
        nothing_is_left();
        assert_eq!((names(&["domid", "web"]), names(&["domiflist", "web"])), (number, tap));
        assert_eq!(plugged(&bridge("lab")).len(), 1);

        // A command that does not succeed is told, without its arguments.
        let fails = "commands: [{ argv: [/bin/busybox, test, -f, /srv/secret] }]";
        let mut wish = wish.to_vec();
        wish[4] = drilled(&bench, "virtualMachine: web", fails);
        let commit = bench.push(&wish).0;
        bench.converged(&commit);
        let before = bench.seq();
        bench.run(&["backup", "drill", "web"]).code(0);
        let failed = bench.event(before, "backup.failed", "backup/web");
        let why = failed.data["why"].as_str().unwrap();
        assert!(why.contains("`/bin/busybox`") && why.contains("status 1"), "{why}");
        assert!(!why.contains("secret"), "{why}");
        nothing_is_left();
        bench.stop();
        bench.assert_log_is_whole();
    });
}

/// A machine that boots from one of its disks, which are on different buses, and a backup of that one.
fn small(bench: &Bench, boot: &str) -> [String; 4] {
    let machine = "---\napiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: { name: web }\n\
                   spec:\n  cpus: 1\n  memory: 64MiB\n  accelerator: tcg\n  snapshot: never\n  \
                   stop: { timeout: 1s, force: true }\n  disks: [{ disk: data }, { disk: more, bus: \
                   sata }]\n";
    [
        environment(&bench.dir, ""),
        disk("data", 64) + &disk("more", 8),
        machine.to_owned(),
        drilled(bench, "disk: data", boot),
    ]
}

/// Writes the first sector of the guest's disk, through its emulator.
fn write_sector(bench: &Bench, sector: &[u8]) {
    let path = bench.dir.join("sector");
    std::fs::write(&path, sector).unwrap();
    let hmp = format!("qemu-io -d {DEVICE} \"write -s {} 0 512\"", path.display());
    let said = names(&["qemu-monitor-command", "web", "--hmp", &hmp]);
    assert!(!said.contains("error") && !said.contains("failed"), "{said}");
}

/// A boot sector that turns its machine off (QEMU's ACPI power management at 0x600).
fn turns_off() -> Vec<u8> {
    let mut sector = vec![
        0xba, 0x04, 0x06, // mov dx, 0x604
        0xb8, 0x00, 0x20, // mov ax, 0x2000
        0xef, // out dx, ax
        0xf4, // hlt
        0xeb, 0xfd, // jmp to hlt
    ];
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

fn boot_from_disk(limit_s: u32) -> String {
    format!(
        "virtualMachine: web, readiness: {{ console: \"{GREETING}\" }}, timeout: {limit_s}s, memory: \
         32MiB"
    )
}

impl Bench {
    /// Takes a snapshot and has it drilled; what came of it. The first one is due by itself.
    fn drill(&self, first: bool) -> Event {
        take(self, "web");
        let before = self.seq();
        if !first {
            self.run(&["backup", "drill", "web"]).code(0);
        }
        until("the drill to end", PATIENCE, || {
            let events = self.events_after(before);
            let of = |it: &Event| {
                it.is("backup.drilled", "backup/web") || it.is("backup.failed", "backup/web")
            };
            events.into_iter().find(of)
        })
    }
}

#[test]
fn a_copy_that_does_not_come_up_makes_the_backup_failed_and_says_what_it_said() {
    let name =
        "e2e::booted::a_copy_that_does_not_come_up_makes_the_backup_failed_and_says_what_it_said";
    super::beside_libvirt(name, || {
        let mut bench = host();
        let commit = bench.push(&small(&bench, &boot_from_disk(40))).0;
        bench.start();
        bench.converged(&commit);
        write_sector(&bench, &boot_sector_saying(GREETING));
        let done = bench.drill(true);
        assert!(done.is("backup.drilled", "backup/web"), "{done:?}");
        assert_eq!(row(&bench)["health"], "good");

        // What is on the disk is no system any more: every byte comes back, and that is not enough.
        write_sector(
            &bench,
            &boot_sector_saying("error: no such device: root.\r\nroot:hunter2\r\ngrub rescue>\r\n"),
        );
        let failed = bench.drill(false);
        let why = failed.data["why"].as_str().unwrap();
        assert!(why.contains("was not up within 40 s") && why.contains(GREETING), "{why}");
        let console = failed.data["console"].to_string();
        assert!(console.contains("no such device") && console.contains("rescue"), "{console}");
        assert!(!console.contains("hunter2"), "{console}");
        assert_eq!(row(&bench)["health"], "failed");
        assert!(bench.run(&["backup"]).code(3).out.contains("was not up within"));
        nothing_is_left();

        write_sector(&bench, &turns_off());
        let failed = bench.drill(false);
        let why = failed.data["why"].as_str().unwrap();
        assert!(why.contains("shut itself down"), "{why}");
        nothing_is_left();

        // Only a drill that brings it up mends it.
        write_sector(&bench, &boot_sector_saying(GREETING));
        let done = bench.drill(false);
        assert!(done.is("backup.drilled", "backup/web"), "{done:?}");
        assert_eq!(row(&bench)["health"], "good");

        // Somebody else's machine of that name is in the way, and is not touched.
        let theirs = bench.dir.join("theirs.xml");
        let xml = format!(
            "<domain type='qemu'><name>{COPY}</name><memory unit='MiB'>32</memory><os><type>hvm</type>\
             </os></domain>"
        );
        std::fs::write(&theirs, xml).unwrap();
        names(&["define", theirs.to_str().unwrap()]);
        names(&["start", COPY]);
        let (number, before) = (names(&["domid", COPY]), bench.seq());
        bench.run(&["backup", "drill", "web"]).code(0);
        bench.event(before, "step.failed", "backup/web");
        let events = bench.events_after(before);
        assert!(!events.iter().any(|it| it.is("backup.failed", "backup/web")), "no verdict");
        assert_eq!(names(&["domid", COPY]), number);
        bench.stop();
        bench.assert_log_is_whole();
    });
}

#[test]
fn killed_or_cancelled_in_the_middle_of_a_boot_nothing_is_left() {
    let name = "e2e::booted::killed_or_cancelled_in_the_middle_of_a_boot_nothing_is_left";
    super::beside_libvirt(name, || {
        let mut bench = host();
        // It never comes up.
        let boot = boot_from_disk(600) + ", network: isolated";
        let mut wish = small(&bench, &boot);
        wish[2] += "  nics: [{ network: lab, address: 10.7.0.10 }]\n";
        let mut wish = wish.to_vec();
        wish.push(network("lab", 7, ""));
        let commit = bench.push(&wish).0;
        bench.start();
        bench.converged(&commit);
        take(&bench, "web");
        await_copy();
        let number = names(&["domid", "web"]);

        // Killed: libvirt ends the machine with the connection, the next process removes the rest.
        let xml = names(&["dumpxml", COPY]);
        bench.kill();
        until("the copy to end", PATIENCE, || {
            (!names(&["list", "--name"]).contains(COPY)).then_some(())
        });
        assert!(!left().is_empty(), "its network and its files");
        // As where libvirt itself was not there to end it.
        let again = bench.dir.join("again.xml");
        std::fs::write(&again, xml).unwrap();
        names(&["create", again.to_str().unwrap()]);
        // It is found also where nobody asks for the backup any more.
        let bare: Vec<String> = wish.iter().filter(|it| !it.contains("Backup")).cloned().collect();
        bench.push(&bare);
        bench.start();
        nothing_is_left();

        // Cancelled. Its repository was left where it is, and has to be taken over again; nothing is known
        // of what is in it.
        for document in wish.iter_mut().filter(|it| it.contains("kind: Backup")) {
            document.push_str("lifecycle: { adopt: true }\n");
        }
        bench.push(&wish);
        let before = bench.seq();
        until("the backup to be asked for", PATIENCE, || {
            (bench.run(&["backup", "run", "web"]).code == 0).then_some(())
        });
        await_copy();
        bench.run(&["backup", "cancel", "web"]).code(0);
        nothing_is_left();
        let events = bench.events_after(before);
        assert!(!events.iter().any(|it| it.is("backup.failed", "backup/web")), "no verdict");

        // Stopped in an orderly way.
        bench.run(&["backup", "drill", "web"]).code(0);
        await_copy();
        bench.stop();
        until("the copy to end", PATIENCE, || {
            (!names(&["list", "--name"]).contains(COPY)).then_some(())
        });
        assert_eq!(names(&["domid", "web"]), number, "the guest never stopped");
        bench.start();
        until("the rest to be removed", PATIENCE, || {
            let files: Vec<_> = left();
            // Its drill is asked for still, and may be on its way again.
            (files.is_empty() || names(&["list", "--name"]).contains(COPY)).then_some(())
        });
        bench.run(&["backup", "cancel", "web"]);
        bench.kill();
    });
}

/// Debian's own way: QEMU runs as a user of its own, whom libvirt gives what it needs.
#[test]
fn a_copy_boots_where_qemu_is_a_user_of_its_own() {
    let name = "e2e::booted::a_copy_boots_where_qemu_is_a_user_of_its_own";
    super::beside_libvirt(name, || {
        let mut bench = host();
        let dir = bench.dir.clone();
        let private = |what: &str| dir.join(what);
        let conf = std::fs::read_to_string("/etc/libvirt/qemu.conf").unwrap();
        let conf = conf
            .replace("user = \"root\"", "user = \"libvirt-qemu\"")
            .replace("group = \"root\"", "group = \"kvm\"")
            .replace("dynamic_ownership = 0", "dynamic_ownership = 1");
        std::fs::write("/etc/libvirt/qemu.conf", conf).unwrap();
        sh(&[private("stop-libvirtd").to_str().unwrap()]);
        for folder in [dir.clone(), private("lib")] {
            mode(&folder, 0o711);
        }
        mode(&private("lib/images"), 0o711);
        sh(&["chown", "-R", "libvirt-qemu:kvm", private("lib/qemu").to_str().unwrap()]);
        sh(&[private("start-libvirtd").to_str().unwrap()]);

        let commit = bench.push(&small(&bench, &boot_from_disk(120))).0;
        bench.start();
        bench.converged(&commit);
        write_sector(&bench, &boot_sector_saying(GREETING));
        let done = bench.drill(true);
        assert!(done.is("backup.drilled", "backup/web"), "{done:?}");
        nothing_is_left();

        // Where it is not let through, that is said before anything is restored.
        bench.stop();
        let barred = private("barred");
        std::fs::create_dir(&barred).unwrap();
        mode(&barred, 0o700);
        let config = std::fs::read_to_string(bench.config()).unwrap();
        let scratch = format!("backup: {{ scratch: {}/scratch, ", barred.display());
        std::fs::write(bench.config(), config.replace("backup: { ", &scratch)).unwrap();
        bench.start();
        bench.await_socket();
        let before = bench.seq();
        bench.run(&["backup", "drill", "web"]).code(0);
        let failed = bench.event(before, "step.failed", "backup/web");
        assert!(failed.data.to_string().contains("is not let through"), "{failed:?}");
        bench.stop();
    });
}

fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
