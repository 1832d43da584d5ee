//! Booting an image once, to see that it boots, and probing whether KVM really works.
//!
//! The image is not changed: the guest writes to a throw-away overlay. The guest has no network and
//! no device beyond its disk and its console.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::child::{Child, Ended, tail};
use super::error::ImageError;
use super::workdir::WorkDir;
use crate::model::resource::VolumeFormat;

/// Texts on a console after which the one waited for will not come.
const HOPELESS: [&str; 4] = [
    "Kernel panic - not syncing",
    // initramfs-tools, when there is no root file system
    "Dropping to a shell!",
    // systemd, when a required mount failed
    "You are in emergency mode",
    "No bootable device",
];

/// How long the KVM probe waits for the kernel's first line: real KVM needs well under a second, and
/// is given a second chance, because a guest that is made emulated stays so.
const PROBE_TIMES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(20)];

/// What a kernel prints first of all (`linux_banner` in Linux' `init/version.c`).
const BANNER: &str = "Linux version ";

/// Guest memory in MiB: what a small Debian with cloud-init needs, with room.
const MEMORY_MIB: u32 = 768;

/// What is booted, and what proves that it did.
#[derive(Debug, Clone)]
pub struct BootCheck<'a> {
    /// The image's file.
    pub image: &'a Path,
    /// Its format.
    pub format: VolumeFormat,
    /// Kernel for direct boot.
    pub kernel: &'a Path,
    /// Initial RAM disk for direct boot.
    pub initrd: &'a Path,
    /// cloud-init media, attached as a second disk.
    pub seed: Option<&'a Path>,
    /// The text on the console that is waited for.
    pub expect: &'a str,
    /// How long it is waited for.
    pub deadline: Duration,
}

/// A boot that went well.
#[derive(Debug, Clone, PartialEq)]
pub struct BootReport {
    /// From power-on to the line, in seconds.
    pub seconds: f64,
    /// The console's line with the expected text.
    pub line: String,
    /// Whether KVM was used; without it everything takes ten times as long.
    pub kvm: bool,
}

/// Boots an image and waits for a text on its console, which is kept in the file `console`.
///
/// # Errors
/// [`ImageError::Boot`] when the text does not come: at once where the console shows why, else after
/// the deadline.
pub async fn boot_check(check: &BootCheck<'_>, console: &Path) -> Result<BootReport, ImageError> {
    let kvm = kvm_works(check.kernel).await;
    let parent = console.parent().unwrap_or(Path::new("/"));
    let work = WorkDir::new(parent)?;
    let stop_at = std::iter::once(check.expect).chain(HOPELESS);
    let mut child = qemu(kvm, check.kernel, check.deadline, work.path())
        .arg("-initrd")
        .arg(check.initrd)
        .args(["-append", "console=ttyS0 root=LABEL=root ro panic=-1"])
        .args(["-m", &MEMORY_MIB.to_string(), "-smp", "2"])
        .arg("-drive")
        .arg(drive(check.image, check.format, "snapshot=on"))
        .log(console)
        .stop_at(stop_at);
    if let Some(seed) = check.seed {
        child = child.arg("-drive").arg(drive(seed, VolumeFormat::Raw, "readonly=on"));
    }
    let failed = |why, said| ImageError::Boot { why, said, console: console.to_owned() };
    let ended = match child.run().await {
        Ok(ended) => ended,
        Err(super::ChildError::Deadline { seconds, tail, .. }) => {
            let expect = check.expect;
            return Err(failed(format!("`{expect}` did not come within {seconds} s"), tail));
        }
        Err(other) => return Err(ImageError::child("cannot boot the image")(other)),
    };
    let seconds = ended.ran.as_secs_f64();
    match ended.stopped_at {
        Some((0, line)) => Ok(BootReport { seconds, line, kvm }),
        Some((at, line)) => {
            let hopeless = HOPELESS.get(at - 1).copied().unwrap_or_default();
            Err(failed(format!("the console shows `{hopeless}`"), line))
        }
        None => Err(failed("the machine stopped".to_owned(), tail(&ended.output))),
    }
}

/// Whether a machine under KVM gets anywhere on this host, found once for each process.
///
/// `/dev/kvm` opens and answers on hosts where a kernel then makes no progress, so only a boot is
/// believed: `kernel` must print its first line within 10 s, or 20 s at a second try. Any doubt is a no.
pub async fn kvm_works(kernel: &Path) -> bool {
    static WORKS: OnceCell<bool> = OnceCell::const_new();
    *WORKS.get_or_init(|| probe(kernel)).await
}

/// Whether this host's processor has what KVM stands on; without it no boot has to be tried.
pub async fn cpu_has_virtualisation() -> bool {
    let cpu = tokio::fs::read_to_string("/proc/cpuinfo").await;
    cpu.is_ok_and(|text| has_virtualisation(&text))
}

async fn probe(kernel: &Path) -> bool {
    if !cpu_has_virtualisation().await {
        tracing::info!("no KVM: the CPU shows no svm or vmx flag; guests are emulated");
        return false;
    }
    for limit in PROBE_TIMES {
        let child = qemu(true, kernel, limit, &std::env::temp_dir())
            .args(["-append", "console=ttyS0 panic=-1", "-m", "256"])
            .stop_at([BANNER]);
        if matches!(child.run().await, Ok(Ended { stopped_at: Some(_), .. })) {
            return true;
        }
        tracing::warn!(limit_s = limit.as_secs(), "a kernel under KVM printed nothing");
    }
    tracing::warn!("no KVM: guests with `accelerator: auto` that are made now are emulated");
    false
}

/// Whether the first CPU in `/proc/cpuinfo` has AMD's or Intel's virtualisation.
fn has_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_whitespace().any(|f| f == "svm" || f == "vmx"))
}

fn qemu(kvm: bool, kernel: &Path, deadline: Duration, temp: &Path) -> Child {
    let machine = if kvm { "q35,accel=kvm" } else { "q35,accel=tcg" };
    Child::new("qemu-system-x86_64", deadline)
        .args(["-machine", machine, "-cpu", if kvm { "host" } else { "max" }])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        // The overlay of `snapshot=on` is made here and is gone with the process.
        .env("TMPDIR", temp)
        .within(temp)
}

/// A `-drive` argument; a comma in a path is doubled, as QEMU's option parser wants it.
fn drive(path: &Path, format: VolumeFormat, more: &str) -> OsString {
    let mut arg = OsString::from(format!("if=virtio,format={},{more},file=", format.as_str()));
    arg.push(escaped(path));
    arg
}

fn escaped(path: &Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut bytes = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_read_whole() {
        assert!(has_virtualisation("processor\t: 0\nflags\t\t: fpu vme svm nx\n"));
        assert!(has_virtualisation("flags\t\t: fpu vmx\n"));
        assert!(!has_virtualisation("flags\t\t: fpu vmx_sub svm_lock\nvmx flags\t: vnmi\n"));
    }

    #[test]
    fn a_comma_in_a_path_is_not_an_option() {
        let arg = drive(Path::new("/a,readonly=on"), VolumeFormat::Qcow2, "snapshot=on");
        assert_eq!(arg, "if=virtio,format=qcow2,snapshot=on,file=/a,,readonly=on");
    }
}
