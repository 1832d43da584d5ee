//! The tests' tiny guest: made once by `make-tiny-guest`, which says what it prints on its console.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The files of the tiny guest. They are read-only and shared: put an overlay on the disk.
#[derive(Debug)]
pub(crate) struct TinyGuest {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    /// 16 MiB, empty, qcow2.
    pub disk: PathBuf,
}

/// Makes the guest, or finds it made: a few seconds once, then nothing.
pub(crate) fn tiny_guest() -> &'static TinyGuest {
    static GUEST: OnceLock<TinyGuest> = OnceLock::new();
    GUEST.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tiny-guest");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/make-tiny-guest");
        let out = Command::new(script).arg(&dir).output().expect("bash is there");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "make-tiny-guest failed: {said}");
        TinyGuest {
            kernel: dir.join("vmlinuz"),
            initrd: dir.join("initrd.gz"),
            disk: dir.join("disk.qcow2"),
        }
    })
}
