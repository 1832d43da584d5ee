//! `trueup preflight` on recorded hosts, each with planted problems, and on this very machine.
//!
//! Each recording in `trees` has to give its problems and no other.

use std::path::PathBuf;
use std::process::Command;

use trueup::preflight::{Check, Finding, Root, Severity, gather, judge, unpack};

use crate::cli::{Ended, program};

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn recording(name: &str) -> PathBuf {
    here().join(format!("tests/preflight/trees/{name}.preflight"))
}

fn findings(name: &str) -> Vec<Finding> {
    let text = std::fs::read_to_string(recording(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    unpack(&text, folder.path()).unwrap();
    let root = Root::open(folder.path()).unwrap();
    judge(&gather(&root, None))
}

/// What is found of a severity, as `id subject`, sorted.
fn of(findings: &[Finding], wanted: impl Fn(Severity) -> bool) -> Vec<String> {
    let found = findings.iter().filter(|one| wanted(one.severity));
    let mut found: Vec<_> =
        found.map(|one| format!("{} {}", one.id.about().id, one.subject)).collect();
    found.sort();
    found
}

/// Every recording, with all that is wrong there.
const PLANTED: &[(&str, &[&str])] = &[
    ("ampere-workstation-nouveau", &["gpu.nouveau 0000:65:00.0"]),
    (
        "display-attached",
        &["gpu.display 0000:65:00.0", "gpu.drm nvidia_drm", "passthrough.boot-vga 0000:65:00.0"],
    ),
    (
        "fresh-debian",
        &[
            "host.clock host",
            "host.disk /var/lib/trueup",
            "libvirt.version libvirt",
            "qemu.version qemu",
            "vm.tools dnsmasq",
            "vm.tools qemu-img",
        ],
    ),
    ("hopper-server", &[]),
    (
        "hopper-server-troubles",
        &[
            "gpu.fabric host",
            "gpu.library libnvidia-ml.so.1",
            "gpu.mps nvidia-cuda-mps",
            "gpu.persistence host",
            "host.hugepages host",
        ],
    ),
    ("kubernetes-node", &["gpu.co-owner HAMi", "gpu.co-owner NVIDIA DRA driver"]),
    ("kvm-locked", &["kvm.device /dev/kvm"]),
    ("mig-manager", &["gpu.co-owner mig-manager"]),
    ("missing-iommu", &["iommu.enabled host"]),
    ("no-kvm", &["cpu.virtualisation cpu"]),
    ("passthrough-troubles", &["vfio.ids 10de:20b0", "vfio.orphan 0000:66:00.0"]),
    ("plain-debian", &[]),
    ("shared-iommu-group", &["iommu.group 0000:65:00.0"]),
    ("vgpu-host", &["vgpu.manager host", "vgpu.vfs 0000:61:00.0"]),
];

#[test]
fn each_planted_problem_is_found_and_nothing_else() {
    for (name, planted) in PLANTED {
        let found = of(&findings(name), |severity| severity > Severity::Note);
        assert_eq!(found, *planted, "{name}");
    }
}

#[test]
fn no_recording_is_forgotten() {
    let folder = std::fs::read_dir(here().join("tests/preflight/trees")).unwrap();
    let mut names: Vec<_> = folder
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    let known: Vec<_> = PLANTED.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, known);
}

#[test]
fn notes_tell_who_holds_a_gpu_and_what_is_odd() {
    let note = |severity| severity == Severity::Note;
    assert_eq!(
        of(&findings("hopper-server"), note),
        ["gpu.clients nv-hostengine", "gpu.holders inference@3.service"]
    );
    assert_eq!(of(&findings("passthrough-troubles"), note), ["vfio.reset 0000:67:00.0"]);
    let holder = findings("hopper-server");
    let holder = holder.iter().find(|one| one.id == Check::GpuHolders).unwrap();
    let wanted = "python3 has /dev/nvidia-caps/nvidia-cap30, /dev/nvidia1 (0000:43:00.0) open";
    assert_eq!(holder.read, wanted);
}

#[test]
fn a_host_without_a_gpu_hears_one_line_of_gpus() {
    let found = findings("plain-debian");
    let of_gpus = found.iter().filter(|one| one.area > trueup::preflight::Area::Image);
    let of_gpus: Vec<_> = of_gpus.map(|one| one.id.about().id).collect();
    assert_eq!(of_gpus, ["gpu.present"]);
}

fn preflight(words: &[&str]) -> Ended {
    let mut command: Command = program();
    Ended::of(command.arg("preflight").args(words).output().unwrap())
}

#[test]
fn the_exit_code_follows_the_worst_finding() {
    let run = |name: &str, more: &[&str]| {
        let path = recording(name);
        let words = [&["--root", path.to_str().unwrap()], more].concat();
        preflight(&words)
    };
    let fine = run("plain-debian", &[]).code(0);
    assert!(fine.out.contains("0 error(s), 0 warning(s)"), "{}", fine.out);
    let warned = run("missing-iommu", &[]).code(3);
    assert!(warned.out.contains("intel_iommu=on iommu=pt"), "{}", warned.out);
    let failed = run("ampere-workstation-nouveau", &[]).code(5);
    assert!(failed.out.contains("/sys/bus/pci/devices/0000:65:00.0/driver"), "{}", failed.out);
    assert!(failed.err.contains("1 finding(s) have to be mended"), "{}", failed.err);
    // What is asked for only decides.
    run("ampere-workstation-nouveau", &["--for", "vm"]).code(0);
    run("missing-iommu", &["--for", "passthrough,vm"]).code(3);
    let json = run("mig-manager", &["-o", "json"]).code(5);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["verdict"], "error");
    let worst = &json["findings"][0];
    assert_eq!(worst["id"], "gpu.co-owner");
    assert_eq!(worst["source"], "/lib/systemd/system/nvidia-mig-manager.service");
}

#[test]
fn this_machine_gets_a_page_and_its_recording_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("host.preflight");
    let state = folder.path().to_str().unwrap();
    let words = ["-o", "json", "--state-dir", state, "--record", file.to_str().unwrap()];
    let live = preflight(&words);
    assert!([0, 3, 5].contains(&live.code), "{live:?}");
    let again = preflight(&["-o", "json", "--root", file.to_str().unwrap()]).code(live.code);
    let ids = |text: &str| {
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        let all = json["findings"].as_array().unwrap().clone();
        // Files that may not be read are not in a recording.
        let all = all.iter().filter(|one| one["id"] != "host.unread");
        let all: Vec<_> =
            all.map(|one| format!("{} {} {}", one["severity"], one["id"], one["read"])).collect();
        all
    };
    assert_eq!(ids(&live.out), ids(&again.out));
    assert!(live.out.contains("host.system"), "{}", live.out);
    // A recording is never written over.
    preflight(&words).code(5);
}

#[test]
fn what_is_no_recording_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    let refused = preflight(&["--root", file.to_str().unwrap()]).code(1);
    assert!(refused.err.contains("no recording"), "{}", refused.err);
    preflight(&["--root", folder.path().join("nowhere").to_str().unwrap()]).code(1);
    preflight(&["--root", "/dev/null"]).code(1);
}

#[test]
fn the_manual_is_the_table_in_the_code() {
    let path = here().join("docs/preflight.md");
    let manual = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = manual.split_once("<!-- checks -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /checks -->\n").unwrap();
    let cell = |text: &str| text.replace('|', "\\|").replace('*', "\\*");
    let mut table =
        "| check | for | reads | why | what helps |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for check in Check::ALL {
        let about = check.about();
        let remedy = if about.remedy.is_empty() { "–" } else { about.remedy };
        let cells = [about.id, about.area.word(), about.reads, about.why, remedy].map(cell);
        table.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    let wanted = format!("{before}<!-- checks -->\n{table}<!-- /checks -->\n{after}");
    expect_test::expect_file![path].assert_eq(&wanted);
}
