//! Trees made to harm: links out of the root, loops, FIFOs, files without end.

use std::os::unix::fs::symlink;

use super::*;

fn tree() -> (tempfile::TempDir, Root) {
    let outer = tempfile::tempdir().unwrap();
    std::fs::write(outer.path().join("secret"), "outside").unwrap();
    let inner = outer.path().join("root");
    std::fs::create_dir_all(inner.join("sys/devices")).unwrap();
    std::fs::write(inner.join("sys/devices/class"), "0x030000\n").unwrap();
    let root = Root::open(&inner).unwrap();
    (outer, root)
}

#[test]
fn links_lead_no_further_than_the_root() {
    let (outer, root) = tree();
    let inner = outer.path().join("root");
    symlink("../secret", inner.join("up")).unwrap();
    symlink("../../../../../../secret", inner.join("sys/up")).unwrap();
    symlink(outer.path().join("secret"), inner.join("absolute")).unwrap();
    symlink("../..", inner.join("sys/devices/top")).unwrap();
    for path in ["up", "sys/up", "absolute", "../secret", "sys/../../secret"] {
        assert_eq!(root.text(path), None, "{path}");
    }
    // Above the root is the root, as after a chroot.
    assert_eq!(root.text("sys/devices/top/sys/devices/class").as_deref(), Some("0x030000"));
    assert_eq!(root.link_name("up").as_deref(), Some("secret"), "a link itself may be read");
}

#[test]
fn links_within_the_root_are_followed() {
    let (outer, root) = tree();
    let inner = outer.path().join("root");
    symlink("/sys/devices", inner.join("absolute")).unwrap();
    symlink("devices", inner.join("sys/relative")).unwrap();
    assert_eq!(root.text("absolute/class").as_deref(), Some("0x030000"));
    assert_eq!(root.text("sys/relative/class").as_deref(), Some("0x030000"));
    assert_eq!(root.names("absolute"), ["class"]);
}

#[test]
fn loops_fifos_and_endless_files_end() {
    let (outer, root) = tree();
    let inner = outer.path().join("root");
    symlink("loop", inner.join("loop")).unwrap();
    symlink("/sys/wide/x", inner.join("sys/wide")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(inner.join("fifo")).status().unwrap();
    assert!(fifo.success());
    let big = std::fs::File::create(inner.join("big")).unwrap();
    big.set_len(1 << 40).unwrap();
    symlink("/proc/kmsg", inner.join("kmsg")).unwrap();
    for path in ["loop", "sys/wide", "fifo", "kmsg"] {
        assert_eq!(root.text(path), None, "{path}");
    }
    assert!(root.bytes("big").is_some_and(|bytes| bytes.len() == FILE_BYTES_MAX));
    let unread: Vec<_> = root.take_unread().into_iter().map(|one| one.path).collect();
    assert_eq!(unread, ["/loop", "/sys/wide", "/fifo"], "missing files are not told of");
}

#[test]
fn a_missing_file_is_no_complaint() {
    let (_outer, root) = tree();
    assert_eq!(root.text("proc/cpuinfo"), None);
    assert!(root.names("sys/class/drm").is_empty());
    assert!(!root.exists("dev/kvm"));
    assert!(root.take_unread().is_empty());
}

#[test]
fn only_what_was_used_is_remembered() {
    let (_outer, root) = tree();
    assert_eq!(root.peek("sys/devices/class").as_deref(), Some("0x030000"));
    assert!(root.seen().is_empty());
    root.lines("/sys/devices/class", |_| false);
    assert_eq!(root.seen()["sys/devices/class"], Seen::File(Vec::new()));
}
