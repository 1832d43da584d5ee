//! What a host of vGPUs needs: NVIDIA's manager, and a way to make them.

use crate::preflight::catalogue::Check;
use crate::preflight::facts::{Facts, Gpu, Pci};
use crate::preflight::finding::Finding;

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    // On other hosts vGPUs are nobody's wish.
    if !facts.is_vgpu_host() {
        return;
    }
    found.push(match facts.runs("nvidia-vgpu-mgr") {
        true => Finding::ok(Check::VgpuManager, "host", "nvidia-vgpu-mgr runs"),
        false => Finding::error(Check::VgpuManager, "host", "nvidia-vgpu-mgr does not run"),
    });
    for (pci, gpu) in facts.driven() {
        found.push(backend(facts, pci, gpu));
    }
}

fn backend(facts: &Facts, pci: &Pci, gpu: &Gpu) -> Finding {
    let (vfs, total) = (gpu.vfs, gpu.vfs_total);
    if gpu.typed_vfs > 0 {
        let read =
            format!("{} virtual functions take a vGPU type (vendor-specific VFIO)", gpu.typed_vfs);
        return Finding::ok(Check::VgpuBackend, &pci.address, read);
    }
    if gpu.mdev {
        return Finding::ok(Check::VgpuBackend, &pci.address, "it takes mediated devices");
    }
    if total > 0 && vfs == 0 {
        let read = format!("none of {total} virtual functions is up");
        let finding = Finding::warning(Check::VgpuVfs, &pci.address, read);
        return match facts.marks.contains("usr/lib/nvidia/sriov-manage") {
            true => finding,
            false => finding
                .remedy("install NVIDIA's vGPU manager, which brings /usr/lib/nvidia/sriov-manage"),
        };
    }
    let read = format!("{vfs} virtual functions are up, and nothing takes a vGPU");
    Finding::error(Check::VgpuBackend, &pci.address, read)
}
