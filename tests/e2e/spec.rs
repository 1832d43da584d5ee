//! Small environments as the tests commit them.

use std::fmt::Write as _;
use std::path::Path;

use trueup::model::Digest;

/// The repository's own document: one environment, for this bench.
pub(super) const REPOSITORY: &str = "apiVersion: trueup/v1\nkind: Repository\n\
    metadata: { name: bench }\nspec:\n  environments:\n    lab: { hosts: [bench] }\n";

/// The environment's own document, with its storage in `dir`.
pub(super) fn environment(dir: &Path, sync: &str) -> String {
    format!(
        "apiVersion: trueup/v1\nkind: Environment\nmetadata: {{ name: lab }}\nspec:\n  \
         sync: {{ maxDestroy: 50{sync} }}\n  \
         storagePools: [{{ name: fast, path: {}/pool }}]\n",
        dir.display()
    )
}

/// An isolated network 10.`n`.0.0/24 with addresses for guests.
pub(super) fn network(name: &str, n: u8, more: &str) -> String {
    format!(
        "---\napiVersion: trueup/v1\nkind: Network\nmetadata: {{ name: {name} }}\nspec:\n  \
         mode: isolated\n  cidr: 10.{n}.0.0/24\n  \
         dhcp: {{ start: 10.{n}.0.100, end: 10.{n}.0.199 }}\n{more}"
    )
}

/// An empty disk of so many MiB.
pub(super) fn disk(name: &str, mib: u32) -> String {
    format!(
        "---\napiVersion: trueup/v1\nkind: Disk\nmetadata: {{ name: {name} }}\n\
         spec: {{ size: {mib}MiB }}\n"
    )
}

/// The tiny guest's disk as an image.
pub(super) fn tiny_image(tiny: &Path) -> String {
    let disk = tiny.join("disk.qcow2");
    let sha256 = Digest::of(std::fs::read(&disk).unwrap());
    format!(
        "---\napiVersion: trueup/v1\nkind: Image\nmetadata: {{ name: tiny }}\n\
         spec:\n  source: {}\n  sha256: {sha256}\n",
        disk.display()
    )
}

/// A disk on the tiny guest's image.
pub(super) fn tiny_disk(name: &str) -> String {
    format!(
        "---\napiVersion: trueup/v1\nkind: Disk\nmetadata: {{ name: {name} }}\n\
         spec: {{ image: tiny, size: 32MiB }}\n"
    )
}

/// A virtual machine.
pub(super) struct Vm<'a> {
    pub(super) name: &'a str,
    pub(super) memory_mib: u32,
    pub(super) disks: &'a [&'a str],
    /// Network and address.
    pub(super) nic: Option<(&'a str, &'a str)>,
    /// Boots the tiny guest in this folder and waits until it is up; none: it has no system, so
    /// that it never answers its power button.
    pub(super) tiny: Option<&'a Path>,
    /// Time it has to shut down, seconds.
    pub(super) stop_s: u32,
}

impl Vm<'_> {
    pub(super) fn yaml(&self) -> String {
        let (name, memory, stop) = (self.name, self.memory_mib, self.stop_s);
        let mut text = format!(
            "---\napiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {{ name: {name} }}\n\
             spec:\n  cpus: 1\n  memory: {memory}MiB\n  accelerator: tcg\n  \
             stop: {{ timeout: {stop}s, force: true }}\n"
        );
        let disks: Vec<_> = self.disks.iter().map(|disk| format!("{{ disk: {disk} }}")).collect();
        writeln!(text, "  disks: [{}]", disks.join(", ")).unwrap();
        if let Some((network, address)) = self.nic {
            writeln!(text, "  nics: [{{ network: {network}, address: {address} }}]").unwrap();
        }
        if let Some(tiny) = self.tiny {
            let at = tiny.display();
            write!(
                text,
                "  boot:\n    kernel: {at}/vmlinuz\n    initrd: {at}/initrd.gz\n    \
                 cmdline: console=ttyS0 quiet\n  consoleLog: true\n  \
                 readiness: {{ console: TINY-UP, timeout: 3m }}\n"
            )
            .unwrap();
        }
        text
    }
}
