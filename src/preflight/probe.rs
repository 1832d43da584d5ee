//! What files cannot tell: asked of the running machine alone, each within a time limit.
//!
//! It starts programs only to ask their version, and makes a virtual machine only to see that KVM
//! can; both are gone at once.

use std::process::Stdio;
use std::time::Duration;

use rustix::fs::fstatvfs;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::gather::program;
use super::root::Root;

/// Where a recording keeps the answers.
pub(super) const PROBES_PATH: &str = "trueup-preflight.json";
/// Longest a program is asked, far above the milliseconds it takes.
const ASK_MAX: Duration = Duration::from_secs(5);
/// Most of an answer that is read, in bytes: a version is one line.
const ANSWER_BYTES_MAX: u64 = 4096;
/// The version of KVM's interface, the same since Linux 2.6.22 (Documentation/virt/kvm/api.rst).
const KVM_API: i32 = 12;

/// What the running machine answered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Probes {
    /// Whether KVM makes a virtual machine.
    pub kvm: Option<KvmProbe>,
    /// What QEMU says its version is.
    pub qemu: Option<String>,
    /// What libvirt's daemon says its version is.
    pub libvirt: Option<String>,
    /// Room on the disks that trueup fills.
    pub disks: Vec<DiskSpace>,
}

/// What became of making a virtual machine without memory or processors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KvmProbe {
    /// Whether it worked.
    pub works: bool,
    /// In words.
    pub said: String,
}

/// Room on the filesystem of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiskSpace {
    /// What lies there.
    pub what: String,
    /// The folder.
    pub path: String,
    /// Its size, in bytes.
    pub total: u64,
    /// What an ordinary user may still write, in bytes.
    pub free: u64,
}

impl Probes {
    /// The answers in a recorded tree; none where there are none.
    pub(super) fn recorded(root: &Root) -> Self {
        let Some(text) = root.text(PROBES_PATH) else { return Self::default() };
        serde_json::from_str(&text).unwrap_or_else(|error| {
            root.unread(PROBES_PATH, error.to_string());
            Self::default()
        })
    }
}

/// Asks the running machine. `folders`: what lies where, to measure the room there.
pub async fn probe(root: &Root, folders: &[(&str, &str)]) -> Probes {
    let find = |names: &[&str]| names.iter().find_map(|name| program(root, name));
    let qemu = find(&["qemu-system-x86_64", "qemu-system-aarch64", "qemu-kvm"]);
    let libvirt = find(&["libvirtd", "virtqemud"]);
    let space = |(what, path): &(&str, &str)| space(root, what, path);
    Probes {
        kvm: if root.exists("dev/kvm") { kvm(root) } else { None },
        qemu: version(root, qemu).await,
        libvirt: version(root, libvirt).await,
        disks: folders.iter().filter_map(space).collect(),
    }
}

fn kvm(root: &Root) -> Option<KvmProbe> {
    let made = kvm_ioctls::Kvm::new().and_then(|kvm| {
        let version = kvm.get_api_version();
        kvm.create_vm().map(|_| version)
    });
    let failed = |said: String| Some(KvmProbe { works: false, said });
    match made {
        Ok(KVM_API) => {
            Some(KvmProbe { works: true, said: "it makes a virtual machine".to_owned() })
        }
        Ok(other) => failed(format!("its interface is {other}, not {KVM_API}")),
        Err(error) => match Errno::from_raw_os_error(error.errno()) {
            // Who may not open it learns nothing of KVM.
            denied @ (Errno::ACCESS | Errno::PERM) => {
                root.unread("dev/kvm", std::io::Error::from(denied).to_string());
                None
            }
            _ => failed(error.to_string()),
        },
    }
}

fn space(root: &Root, what: &str, path: &str) -> Option<DiskSpace> {
    let stat = fstatvfs(root.nearest(path)?);
    let stat = match stat {
        Ok(stat) => stat,
        Err(error) => {
            root.unread(path, std::io::Error::from(error).to_string());
            return None;
        }
    };
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(DiskSpace {
        what: what.to_owned(),
        path: path.to_owned(),
        total: bytes(stat.f_blocks),
        free: bytes(stat.f_bavail),
    })
}

/// The first line a program says of its version.
async fn version(root: &Root, path: Option<String>) -> Option<String> {
    let path = path?;
    match ask(&path).await {
        Ok(line) => Some(line),
        Err(error) => {
            root.unread(&path, format!("it did not tell its version: {error}"));
            None
        }
    }
}

async fn ask(program: &str) -> std::io::Result<String> {
    let mut child = Command::new(program)
        .arg("--version")
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own, so that nothing it starts is left behind.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let out = child.stdout.take().ok_or_else(|| std::io::Error::other("no output"))?;
    let mut answer = String::new();
    let work = async {
        out.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
        child.wait().await
    };
    let ended = timeout(ASK_MAX, work).await;
    let Ok(ended) = ended else {
        if let Some(group) = group {
            kill_process_group(group, Signal::KILL)?;
        }
        return Err(std::io::Error::other(format!("no answer in {} s", ASK_MAX.as_secs())));
    };
    if !ended?.success() {
        return Err(std::io::Error::other("it failed"));
    }
    let line = answer.lines().next().map(|line| line.trim().to_owned());
    line.filter(|line| !line.is_empty()).ok_or_else(|| std::io::Error::other("it said nothing"))
}
