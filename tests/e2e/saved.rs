//! Guests that write while they are saved: what is restored is of one moment, only what changed is
//! read, and whatever is killed when, nothing is left behind.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::bench::{Bench, PATIENCE, sh};
use super::events::{Event, until};
use super::spec::{disk, environment};

mod unwatched;

const KEY: &str = "the key of a test";
/// Blocks that the writing guest goes round in, and their size.
const BLOCKS: u64 = 256;
const BLOCK: usize = 4096;

/// Lays the writing guest's user land over the tiny guest's: the kernel unpacks both, in order.
pub(super) fn writer_initrd(bench: &Bench) -> PathBuf {
    let layer = bench.dir.join("writer");
    std::fs::create_dir_all(&layer).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/writer_guest_init");
    std::fs::copy(script, layer.join("init")).unwrap();
    std::fs::set_permissions(layer.join("init"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let archive = bench.dir.join("writer.cpio");
    let mut cpio = Command::new("cpio");
    cpio.args(["--quiet", "-o", "-H", "newc", "-R", "0:0", "-F"]).arg(&archive);
    let mut child = cpio.current_dir(&layer).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"init\n").unwrap();
    assert!(child.wait().unwrap().success());
    let mut initrd = std::fs::read(Bench::tiny().join("initrd.gz")).unwrap();
    // A newc archive begins at a multiple of four (the kernel's driver-api/early-userspace).
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    initrd.extend(std::fs::read(archive).unwrap());
    let path = bench.dir.join("writer-initrd.gz");
    std::fs::write(&path, initrd).unwrap();
    path
}

/// A host that can take backups.
pub(super) fn host() -> Bench {
    let bench = Bench::new();
    let secrets = bench.dir.join("secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("vault"), format!("{KEY}\n")).unwrap();
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(secrets.join("vault"), mode).unwrap();
    bench
}

pub(super) fn raw_disk(name: &str, mib: u32) -> String {
    disk(name, mib).replace("MiB }", "MiB, format: raw }")
}

/// The writing guest, with these disks.
pub(super) fn writer(initrd: &Path, disks: &str, more: &str) -> String {
    format!(
        "---\napiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {{ name: web }}\nspec:\n  \
         cpus: 1\n  memory: 128MiB\n  accelerator: tcg\n  stop: {{ timeout: 60s, force: true }}\n  \
         snapshot: never\n  disks: [{disks}]\n  boot:\n    kernel: {}/vmlinuz\n    initrd: {}\n    \
         cmdline: console=ttyS0 quiet writer.fill=8\n  consoleLog: true\n  guestAgent: true\n{more}",
        Bench::tiny().display(),
        initrd.display()
    )
}

pub(super) const UP: &str = "  readiness: { console: TINY-UP, timeout: 3m }\n";

pub(super) fn backup(bench: &Bench, name: &str, source: &str, more: &str) -> String {
    format!(
        "---\napiVersion: trueup/v1\nkind: Backup\nmetadata: {{ name: {name} }}\nspec:\n  source: \
         {{ {source} }}\n  repository: {{ local: {}/vault }}\n  key: vault\n{more}",
        bench.dir.display()
    )
}

fn restic(bench: &Bench, words: &[&str]) -> String {
    let mut restic = Command::new("restic");
    restic.arg("--no-cache").arg("-r").arg(bench.dir.join("vault"));
    let output = restic.env("RESTIC_PASSWORD", KEY).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Asks for a snapshot and waits for it.
pub(super) fn take(bench: &Bench, name: &str) -> Event {
    let before = bench.seq();
    bench.run(&["backup", "run", name]).code(0);
    bench.event(before, "backup.taken", &format!("backup/{name}"))
}

/// Restores a snapshot with the program and with Debian's restic, which have to agree; where to.
fn restored(bench: &Bench, name: &str, taken: &Event) -> PathBuf {
    let snapshot = taken.data["snapshot"].as_str().unwrap();
    let (ours, theirs) = (format!("ours-{snapshot}"), format!("theirs-{snapshot}"));
    let (ours, theirs) = (bench.dir.join(ours), bench.dir.join(theirs));
    let words = ["backup", "restore", name, "--snapshot", snapshot, "--to"];
    bench.run(&[&words[..], &[ours.to_str().unwrap()]].concat()).code(0);
    restic(bench, &["restore", snapshot, "--target", theirs.to_str().unwrap()]);
    sh(&["diff", "-r", ours.to_str().unwrap(), theirs.to_str().unwrap()]);
    ours
}

/// After which write an image was looked at: it has all writes up to that one, and none after it.
#[track_caller]
pub(super) fn moment(image: &Path) -> u64 {
    let content = std::fs::read(image).unwrap();
    let block = |n: u64| -> u64 {
        let at = usize::try_from(n).unwrap() * BLOCK;
        let text = String::from_utf8_lossy(&content[at..at + 16]).into_owned();
        text.trim_matches('\0').parse().unwrap_or(0)
    };
    let last = (0..BLOCKS).map(block).max().unwrap();
    for n in 0..BLOCKS {
        // The newest write up to the last one that goes there.
        let back = (last + BLOCKS - n) % BLOCKS;
        let expected = last.saturating_sub(back);
        assert_eq!(block(n), expected, "block {n} after write {last} of {}", image.display());
    }
    last
}

/// What backups have in the guest `web`, or left beside its disks.
pub(super) fn left(bench: &Bench) -> BTreeMap<&'static str, String> {
    let mut left = BTreeMap::new();
    let job = Command::new("virsh").args(["backup-dumpxml", "web"]).output().unwrap();
    if job.status.success() {
        left.insert("job", String::from_utf8(job.stdout).unwrap());
    }
    left.insert("checkpoints", sh(&["virsh", "checkpoint-list", "--name", "web"]));
    let files = std::fs::read_dir(bench.dir.join("pool")).unwrap();
    let files = files.map(|it| it.unwrap().file_name().to_string_lossy().into_owned());
    let scratch: Vec<_> = files.filter(|name| name.starts_with(".trueup")).collect();
    if !scratch.is_empty() {
        left.insert("scratch", scratch.join(" "));
    }
    left
}

/// The checkpoints that are ours, where nothing else of ours is left.
#[track_caller]
pub(super) fn only_marks(bench: &Bench) -> Vec<String> {
    let left = left(bench);
    assert!(!left.contains_key("job") && !left.contains_key("scratch"), "{left:?}");
    let marks = left["checkpoints"].split_whitespace().filter(|name| name.starts_with("trueup-"));
    marks.map(ToOwned::to_owned).collect()
}

fn bytes_read(taken: &Event) -> u64 {
    taken.data["read"].as_u64().unwrap()
}

fn console(bench: &Bench) -> String {
    let folder = bench.dir.join("pool");
    let logs = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let mut logs = logs.filter(|path| path.extension().is_some_and(|it| it == "log"));
    let bytes = std::fs::read(logs.next().expect("a console's log")).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_guest_that_writes_is_saved_at_one_moment_and_then_only_what_changed() {
    let name = "e2e::saved::a_guest_that_writes_is_saved_at_one_moment_and_then_only_what_changed";
    super::beside_libvirt(name, || {
        let mut bench = host();
        let initrd = writer_initrd(&bench);
        let disks = "{ disk: data }, { disk: log }";
        let source = "virtualMachine: web, quiesce: true";
        let wish = |power: &str| {
            vec![
                environment(&bench.dir, ""),
                disk("data", 64),
                raw_disk("log", 16),
                writer(&initrd, disks, power),
                backup(&bench, "web", source, ""),
                backup(&bench, "one", "disk: data", ""),
            ]
        };
        let (on, off) = (wish(UP), wish("  power: off\n"));
        let commit = bench.push(&on).0;
        bench.start();
        bench.converged(&commit);
        let theirs = bench.dir.join("theirs.xml");
        let checkpoint = "<domaincheckpoint><name>theirs</name><disks><disk name='vda' \
                          checkpoint='bitmap'/><disk name='vdb' checkpoint='no'/></disks>\
                          </domaincheckpoint>";
        std::fs::write(&theirs, checkpoint).unwrap();
        sh(&["virsh", "checkpoint-create", "web", theirs.to_str().unwrap()]);
        let number = sh(&["virsh", "domid", "web"]);

        let first = take(&bench, "web");
        assert_eq!(first.data["missing"], 0, "{first:?}");
        assert_eq!(only_marks(&bench).len(), 1);
        let second = take(&bench, "web");
        assert_eq!(only_marks(&bench).len(), 1);
        // The first one read the noise, the second one only what was written meanwhile, and the raw
        // disk, which cannot note its changes.
        assert!(bytes_read(&first) >= 8 << 20, "{}", bytes_read(&first));
        assert!(bytes_read(&second) <= 4 << 20, "{}", bytes_read(&second));
        let mut moments = Vec::new();
        for taken in [&first, &second] {
            let folder = restored(&bench, "web", taken);
            let (data, log) = (moment(&folder.join("vda.raw")), moment(&folder.join("vdb.raw")));
            // Both disks are of one moment, between two writes: it was frozen.
            assert_eq!(data, log);
            moments.push(data);
            let definition = std::fs::read_to_string(folder.join("domain.xml")).unwrap();
            assert!(definition.contains("<name>web</name>"), "{definition}");
        }
        assert!(moments[0] > 0 && moments[1] > moments[0], "{moments:?}");
        assert!(restic(&bench, &["check", "--read-data"]).contains("no errors were found"));
        let console = console(&bench);
        let count = |word: &str| console.matches(word).count();
        assert_eq!(count("TINY-FROZEN"), 2, "{console}");
        assert!(count("TINY-THAWED") >= 2, "{console}");
        assert_eq!(sh(&["virsh", "domid", "web"]), number, "it never stopped");

        // The disk by itself, beside the marks of the other backup and of somebody else.
        let one = take(&bench, "one");
        moment(&restored(&bench, "one", &one).join("data.raw"));
        assert_eq!(only_marks(&bench).len(), 2);

        // Off: read from its files, from the mark on, to the byte.
        let commit = bench.push(&off).0;
        bench.converged(&commit);
        let third = take(&bench, "web");
        assert!(bytes_read(&third) <= 4 << 20, "{}", bytes_read(&third));
        let folder = restored(&bench, "web", &third);
        for (disk, file, format) in
            [("data.qcow2", "vda.raw", "qcow2"), ("log.raw", "vdb.raw", "raw")]
        {
            let (disk, file) = (bench.dir.join("pool").join(disk), folder.join(file));
            let words = ["qemu-img", "compare", "-f", format, "-F", "raw"];
            sh(&[&words[..], &[disk.to_str().unwrap(), file.to_str().unwrap()]].concat());
        }

        // It goes on, and the backup from where it was.
        let commit = bench.push(&on).0;
        bench.converged(&commit);
        let fourth = take(&bench, "web");
        assert!(fourth.data["notices"].is_null(), "{fourth:?}");
        moment(&restored(&bench, "web", &fourth).join("vda.raw"));
        assert_eq!(only_marks(&bench).len(), 2);

        // Without its backups nothing of theirs is left, and what is somebody else's is.
        let mut bare = on.clone();
        bare.truncate(4);
        let commit = bench.push(&bare).0;
        bench.converged(&commit);
        until("the marks to go", PATIENCE, || only_marks(&bench).is_empty().then_some(()));
        let checkpoints = sh(&["virsh", "checkpoint-list", "--name", "web"]);
        assert_eq!(checkpoints.split_whitespace().collect::<Vec<_>>(), ["theirs"]);
        bench.stop();
        bench.assert_log_is_whole();
    });
}

#[test]
fn killed_in_the_middle_of_a_backup_nothing_is_left_in_the_guest() {
    let name = "e2e::saved::killed_in_the_middle_of_a_backup_nothing_is_left_in_the_guest";
    super::beside_libvirt(name, || {
        let mut bench = host();
        let initrd = writer_initrd(&bench);
        // Time to be killed in.
        let slow = "  limits: { read: 256KiB }\n";
        let saved = backup(&bench, "web", "virtualMachine: web, quiesce: true", slow);
        let mut wish = vec![
            environment(&bench.dir, ""),
            disk("data", 64),
            writer(&initrd, "{ disk: data }", UP),
            saved,
        ];
        let commit = bench.push(&wish).0;
        bench.start();
        bench.converged(&commit);
        let number = sh(&["virsh", "domid", "web"]);
        for point in ["step", "scratch", "job"] {
            let before = bench.seq();
            bench.run(&["backup", "run", "web"]).code(0);
            until(point, PATIENCE, || {
                let events = || bench.events_after(before);
                let reached = match point {
                    "step" => events().iter().any(|it| it.is("step.started", "backup/web")),
                    _ => left(&bench).contains_key(point),
                };
                reached.then_some(())
            });
            bench.kill();
            let events = bench.events_after(before);
            let ended = events.iter().any(|it| it.is("backup.taken", "backup/web"));
            assert!(!ended, "it was not killed in the middle");
            bench.start();
            let taken = bench.event(before, "backup.taken", "backup/web");
            moment(&restored(&bench, "web", &taken).join("vda.raw"));
            assert_eq!(only_marks(&bench).len(), 1, "killed at its {point}");
        }
        let console = console(&bench);
        let thawed = console.rfind("TINY-THAWED");
        assert!(thawed > console.rfind("TINY-FROZEN"), "it is frozen:\n{console}");

        // Killed, and no longer asked for: it goes all the same.
        let before = bench.seq();
        bench.run(&["backup", "run", "web"]).code(0);
        until("a job in the guest", PATIENCE, || left(&bench).contains_key("job").then_some(()));
        bench.kill();
        assert!(left(&bench).contains_key("job"));
        wish.pop();
        bench.push(&wish);
        bench.start();
        until("nothing to be left", PATIENCE, || {
            let left = left(&bench);
            let marks = left["checkpoints"].contains("trueup-");
            (!left.contains_key("job") && !left.contains_key("scratch") && !marks).then_some(())
        });
        let cleared = bench.events_after(before);
        let cleared = cleared.iter().filter(|it| it.is("step.started", "backup/web"));
        let verbs: Vec<&Value> = cleared.map(|it| &it.data["verb"]).collect();
        assert!(verbs.contains(&&Value::from("clear")), "{verbs:?}");
        assert_eq!(sh(&["virsh", "domid", "web"]), number, "it never stopped");
        bench.stop();
        bench.assert_log_is_whole();
    });
}

#[test]
fn of_a_large_disk_with_one_percent_changed_one_percent_is_read() {
    let name = "e2e::saved::of_a_large_disk_with_one_percent_changed_one_percent_is_read";
    super::beside_libvirt(name, || {
        const MIB: u64 = 1 << 20;
        let mut bench = host();
        let machine = "---\napiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: { name: web }\n\
                       spec:\n  cpus: 1\n  memory: 64MiB\n  accelerator: tcg\n  snapshot: never\n  \
                       stop: { timeout: 1s, force: true }\n  disks: [{ disk: data }]\n";
        let wish = [
            environment(&bench.dir, ""),
            disk("data", 4096),
            machine.to_owned(),
            backup(&bench, "one", "disk: data", ""),
        ];
        let commit = bench.push(&wish).0;
        bench.start();
        bench.converged(&commit);
        // The guest has no system: its disk is written to through its emulator.
        let path = bench.dir.join("pool/data.qcow2");
        let write = |from: &str, at: u64, length: u64| {
            let write = format!("write {from} {at} {length}");
            let hmp = format!("qemu-io -d {DEVICE} \"{write}\"");
            let said = sh(&["virsh", "qemu-monitor-command", "web", "--hmp", &hmp]);
            assert!(!said.contains("error") && !said.contains("failed"), "{said}");
        };
        for at in 0..16 {
            write(&format!("-P {}", at + 1), at * 256 * MIB, 16 * MIB);
        }
        let sector = bench.dir.join("boot-sector");
        std::fs::write(&sector, boot_sector()).unwrap();
        write(&format!("-s {}", sector.display()), 0, 512);
        let first = take(&bench, "one");
        assert_eq!(bytes_read(&first), 256 * MIB, "only what is no zeros is read");
        // A hundredth, in sixteen places.
        let changed = 4096 * MIB / 100 / 16 / 65536 * 65536;
        for at in 0..16 {
            write(&format!("-P {}", at + 101), at * 256 * MIB + 13 * MIB, changed);
        }
        let second = take(&bench, "one");
        let percent = bytes_read(&second) as f64 * 100.0 / (4096.0 * MIB as f64);
        println!(
            "1 % of 4 GiB changed: read {:.2} % of the disk, {} ms; everything: {} ms",
            percent, second.data["elapsedMs"], first.data["elapsedMs"]
        );
        assert!(percent <= 5.0, "{percent} %");
        // Not by restic too, which would write all four GiB of it: it keeps no holes.
        let folder = bench.dir.join("as-raw");
        bench.run(&["backup", "restore", "one", "--to", folder.to_str().unwrap()]).code(0);
        boots(&bench, &folder.join("data.raw"), "raw");
        let to = bench.dir.join("as-qcow2");
        let words = ["backup", "restore", "one", "--format", "qcow2", "--to", to.to_str().unwrap()];
        bench.run(&words).code(0);
        assert!(!to.join("data.raw").exists());
        boots(&bench, &to.join("data.qcow2"), "qcow2");

        // A guest with snapshots keeps its way back: nothing is noted in its disks.
        sh(&["virsh", "snapshot-create-as", "web", "before"]);
        let third = take(&bench, "one");
        assert!(third.data["notices"].to_string().contains("has snapshots"), "{third:?}");
        assert_eq!(bytes_read(&third), 256 * MIB);
        assert!(only_marks(&bench).is_empty());
        sh(&["virsh", "snapshot-revert", "web", "before"]);
        sh(&["virsh", "snapshot-delete", "web", "before"]);
        bench.stop();
        sh(&["virsh", "destroy", "web"]);
        let file = folder.join("data.raw");
        let words = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw"];
        sh(&[&words[..], &[path.to_str().unwrap(), file.to_str().unwrap()]].concat());
    });
}

pub(super) const GREETING: &str = "RESTORED AND BOOTED";

/// A boot sector that says [`GREETING`] on the first serial port and halts.
fn boot_sector() -> Vec<u8> {
    boot_sector_saying(GREETING)
}

/// A boot sector that says something on the first serial port and halts.
pub(super) fn boot_sector_saying(text: &str) -> Vec<u8> {
    let mut sector = vec![
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xbe, 0x15, 0x7c, // mov si, 0x7c15
        0xac, // lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x03, // jz to hlt
        0xee, // out dx, al
        0xeb, 0xf8, // jmp to lodsb
        0xf4, // hlt
        0xeb, 0xfd, // jmp to hlt
    ];
    sector.extend(text.bytes());
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

/// A machine boots from the disk.
fn boots(bench: &Bench, disk: &Path, format: &str) {
    let said = bench.dir.join(format!("booted-{format}"));
    let mut machine = Command::new("qemu-system-x86_64");
    machine.args(["-machine", "pc,accel=tcg", "-m", "32", "-display", "none", "-nodefaults"]);
    machine.args(["-snapshot", "-serial", &format!("file:{}", said.display()), "-drive"]);
    machine.arg(format!("file={},format={format},if=virtio", disk.display()));
    let mut machine = machine.spawn().unwrap();
    until("the restored disk to boot", PATIENCE, || {
        let said = std::fs::read(&said).unwrap_or_default();
        String::from_utf8_lossy(&said).contains(GREETING).then_some(())
    });
    machine.kill().unwrap();
    machine.wait().unwrap();
}

/// The guest's first disk, as its emulator calls it.
pub(super) const DEVICE: &str = "/machine/peripheral/virtio-disk0/virtio-backend";
