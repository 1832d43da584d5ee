//! Reading a host: files below a [`Root`] to [`Facts`]. It reads and never judges.

mod host;
mod nvidia;
mod pci;
mod process;

use super::facts::Facts;
use super::probe::Probes;
use super::root::Root;

#[cfg(test)]
pub(super) use host::MARKS;
pub(super) use host::program;

/// Reads what there is. `asked` is what the running machine answered; of a recorded tree its own
/// answers are taken.
#[must_use]
pub fn gather(root: &Root, asked: Option<Probes>) -> Facts {
    let probes = asked.unwrap_or_else(|| Probes::recorded(root));
    let kernel = root.text("proc/sys/kernel/osrelease");
    let pci = pci::functions(root);
    let nodes = nvidia::nodes(&pci);
    let facts = Facts {
        system: host::system(root, kernel.clone()),
        cpu: host::cpu(root),
        memory: host::memory(root),
        cmdline: host::cmdline(root),
        modules: host::modules(root),
        module_files: host::module_files(root, kernel.as_deref()),
        modprobe: host::modprobe(root),
        iommu: pci::iommu_groups(root),
        acpi_iommu: pci::acpi_iommu(root),
        outputs: pci::outputs(root),
        nvidia: nvidia::driver(root),
        processes: process::processes(root, &nodes),
        units: host::units(root),
        marks: host::marks(root),
        packages: host::packages(root),
        programs: host::programs(root),
        accounts: host::accounts(root),
        pci,
        probes,
        unread: Vec::new(),
    };
    Facts { unread: root.take_unread(), ..facts }
}
