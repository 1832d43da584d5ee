//! What a resource names: the networks it is plugged into, the files it reads, the pool it lives in.

use crate::model::resource::{Boot, NicSource, VirtualMachine};
use crate::model::{Kind, Name, Resource, ResourceId};

/// The files that are the resource itself, by absolute path.
pub(super) fn own_files(resource: &Resource) -> Vec<&str> {
    match resource {
        Resource::Disk(disk) => vec![&disk.path],
        Resource::Seed(seed) => vec![&seed.path],
        Resource::Image(image) => {
            let boot = image.boot_files.as_ref();
            let boot = boot.into_iter().flat_map(|files| [&*files.kernel, &*files.initrd]);
            std::iter::once(image.path.as_str()).chain(boot).collect()
        }
        Resource::StoragePool(_)
        | Resource::Network(_)
        | Resource::GpuLayout(_)
        | Resource::Backup(_)
        | Resource::Cluster(_)
        | Resource::Release(_)
        | Resource::VirtualMachine(_) => Vec::new(),
    }
}

/// The files of other resources that it needs, by absolute path.
pub(super) fn used_files(resource: &Resource) -> Vec<&str> {
    match resource {
        Resource::Disk(disk) => disk.backing.iter().map(|below| below.path.as_str()).collect(),
        Resource::VirtualMachine(vm) => vm_files(vm),
        Resource::StoragePool(_)
        | Resource::Network(_)
        | Resource::Image(_)
        | Resource::GpuLayout(_)
        | Resource::Backup(_)
        | Resource::Cluster(_)
        | Resource::Release(_)
        | Resource::Seed(_) => Vec::new(),
    }
}

/// The files a domain needs.
pub(super) fn vm_files(vm: &VirtualMachine) -> Vec<&str> {
    let mut files: Vec<&str> = vm.disks.iter().filter_map(|disk| disk.path.as_deref()).collect();
    if let Boot::Kernel { kernel, initrd, .. } = &vm.boot {
        files.push(kernel);
        files.extend(initrd.as_deref());
    }
    files
}

/// Whether a domain is plugged into the libvirt network `name`.
pub(super) fn vm_uses_network(vm: &VirtualMachine, name: &str) -> bool {
    vm.nics.iter().any(|nic| matches!(&nic.source, NicSource::Network(network) if network == name))
}

/// The libvirt networks and pools that it needs.
pub(super) fn named(resource: &Resource) -> Vec<ResourceId> {
    let pool = |name: &Name| vec![ResourceId::new(Kind::StoragePool, name.clone())];
    match resource {
        Resource::Image(image) => pool(&image.pool),
        Resource::Disk(disk) => pool(&disk.pool),
        Resource::Seed(seed) => pool(&seed.pool),
        Resource::VirtualMachine(vm) => {
            vm.networks().map(|name| ResourceId::new(Kind::Network, name)).collect()
        }
        Resource::StoragePool(_)
        | Resource::Network(_)
        | Resource::Backup(_)
        | Resource::Cluster(_)
        | Resource::Release(_)
        | Resource::GpuLayout(_) => Vec::new(),
    }
}
