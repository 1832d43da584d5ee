//! A real Debian, built, booted and looked into.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use trueup::model::resource::VolumeFormat::Qcow2;
use trueup::model::resource::{BuildFile, BuildSpec, BuildUser};
use trueup::provider::image::{
    BootCheck, Package, Targets, boot_check, build, digest_file, inspect,
};
use trueup::provider::seed::{SeedContent, seed_image};

fn spec() -> BuildSpec {
    BuildSpec {
        suite: "bookworm".into(),
        mirror: None,
        components: vec!["main".into()],
        packages: Vec::new(),
        kernel: "linux-image-cloud-amd64".into(),
        files: Default::default(),
        users: Default::default(),
        cloud_init: false,
        boot_check: None,
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What `debugfs` answers about the file system in `raw`.
fn debugfs(raw: &Path, request: &str) -> String {
    let out = Command::new("debugfs").args(["-R", request]).arg(raw).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[tokio::test]
async fn a_debian_is_built_boots_and_holds_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let targets = Targets::beside(&dir.path().join("base.qcow2"));
    let mut spec = spec();
    spec.boot_check = Some("debian login:".into());
    spec.cloud_init = true;
    let motd = BuildFile { content: "kept true\n".into(), mode: 0o640 };
    spec.files.insert("/etc/motd.d/a/trueup".into(), motd);
    let ops = BuildUser {
        ssh_keys: vec!["ssh-ed25519 AAAAC3Nz ops@example".into()],
        groups: vec!["adm".into()],
        sudo: true,
    };
    spec.users.insert("ops".into(), ops);

    let outcome = build(&spec, Qcow2, None, &targets, |_| {}).await;
    let outcome = outcome.unwrap_or_else(|error| panic!("{}", error.chain()));
    eprintln!("built: {outcome:?}");

    assert_eq!(
        names(dir.path()),
        [
            "base.build.console.log",
            "base.build.log",
            "base.initrd",
            "base.packages.json",
            "base.qcow2",
            "base.vmlinuz"
        ]
    );
    assert_eq!(digest_file(&targets.image).await.unwrap(), outcome.image);
    assert_eq!(digest_file(&targets.log).await.unwrap(), outcome.log);
    assert_eq!(inspect(&targets.image).await.unwrap().virtual_size, 2 << 30);
    let boot = outcome.boot.expect("a boot check was asked for");
    assert!(boot.line.contains("debian login:") && boot.seconds > 0.5, "{boot:?}");
    let json = std::fs::read(&targets.packages).unwrap();
    let packages: Vec<Package> = serde_json::from_slice(&json).unwrap();
    assert_eq!(packages.len(), outcome.package_count);
    for name in ["openssh-server", "sudo", "systemd-sysv"] {
        assert!(packages.iter().any(|p| p.name == name && !p.version.is_empty()), "{name}");
    }

    let raw = dir.path().join("raw");
    let status = Command::new("qemu-img")
        .args(["convert", "-O", "raw"])
        .args([&targets.image, &raw])
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(debugfs(&raw, "cat /etc/motd.d/a/trueup"), "kept true\n");
    assert!(debugfs(&raw, "stat /etc/motd.d/a/trueup").contains("Mode:  0640"));
    assert!(
        debugfs(&raw, "cat /home/ops/.ssh/authorized_keys").starts_with("ssh-ed25519 AAAAC3Nz")
    );
    let keys = debugfs(&raw, "stat /home/ops/.ssh/authorized_keys");
    assert!(keys.contains("Mode:  0600") && keys.contains("User:  1000"), "{keys}");
    assert!(debugfs(&raw, "cat /etc/shadow").contains("\nops:!"), "no password");
    assert!(debugfs(&raw, "cat /etc/group").contains("adm:x:4:ops"));
    assert!(debugfs(&raw, "cat /etc/sudoers.d/90-trueup-ops").contains("NOPASSWD"));
    assert_eq!(debugfs(&raw, "cat /etc/machine-id"), "", "each guest makes its own");
    assert!(!debugfs(&raw, "ls -p /etc/ssh").contains("ssh_host_"), "each guest makes its own");
    cloud_init_obeys_our_seed(dir.path(), &targets).await;
}

#[tokio::test]
async fn a_failed_build_keeps_its_log_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let targets = Targets::beside(&dir.path().join("base.qcow2"));
    let mut spec = spec();
    spec.packages = vec!["no-such-package-as-this".into()];
    let error = build(&spec, Qcow2, None, &targets, |_| {}).await.unwrap_err();
    assert!(error.chain().contains("`mmdebstrap` failed"), "{}", error.chain());
    assert_eq!(names(dir.path()), ["base.build.failed.log"]);
    let log = std::fs::read_to_string(targets.failed_log()).unwrap();
    assert!(log.contains("no-such-package-as-this"));
}

/// The whole way of a cloud-init guest: our image, our seed, the real cloud-init.
async fn cloud_init_obeys_our_seed(dir: &Path, targets: &Targets) {
    let run = "echo CLOUD-OK $(hostname) $(id -un dev) $(ls /etc/systemd/network | tr '\\n' ,) > /dev/ttyS0";
    let user = serde_json::json!({ "name": "dev", "groups": ["adm"] });
    let config = serde_json::json!({ "users": [user], "runcmd": [run] });
    let seed = dir.join("seed");
    let content = SeedContent {
        meta_data: "instance-id: trueup-1\nlocal-hostname: web\n".into(),
        user_data: format!("#cloud-config\n{config}\n"),
        network_config: Some("version: 2\nethernets: {}\n".into()),
        vendor_data: None,
    };
    std::fs::write(&seed, seed_image(&content).unwrap()).unwrap();
    let check = BootCheck {
        image: &targets.image,
        format: Qcow2,
        kernel: &targets.kernel,
        initrd: &targets.initrd,
        seed: Some(&seed),
        expect: "CLOUD-OK web dev",
        deadline: Duration::from_secs(600),
    };
    let console = dir.join("console");
    let report = boot_check(&check, &console).await;
    let report = report.unwrap_or_else(|e| {
        let text = std::fs::read_to_string(&console).unwrap_or_default();
        panic!("{e}\n{text}")
    });
    eprintln!("booted: {report:?}");
}
