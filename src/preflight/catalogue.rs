//! Every check there is: its name, what it reads, why it matters and what helps. `docs/preflight.md`
//! is this table.

use clap::ValueEnum;
use serde::{Serialize, Serializer};

/// The part of trueup's work that a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// Any host.
    Host,
    /// Virtual machines.
    Vm,
    /// Building images.
    Image,
    /// GPUs of NVIDIA.
    Gpu,
    /// Cutting them by MIG.
    Mig,
    /// Giving whole ones to guests.
    Passthrough,
    /// Giving virtual ones to guests.
    Vgpu,
}

impl Area {
    /// As it is printed.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Vm => "vm",
            Self::Image => "image",
            Self::Gpu => "gpu",
            Self::Mig => "mig",
            Self::Passthrough => "passthrough",
            Self::Vgpu => "vgpu",
        }
    }
}

/// What there is to say of a check without a host at hand.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Its name, for ever the same.
    pub id: &'static str,
    /// What it is about.
    pub area: Area,
    /// The files it reads; `BDF` stands for a PCI address.
    pub reads: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// What helps in general; a finding may know better. Empty where nothing has to be done.
    pub remedy: &'static str,
}

macro_rules! checks {
    ($($name:ident $id:literal $area:ident
        reads $reads:literal
        why $why:literal
        remedy $remedy:literal;)*) => {
        /// A check.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check {
            $(#[doc = $why] $name,)*
        }

        impl Check {
            /// All of them, in the order of the manual.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What there is to say of it.
            #[must_use]
            pub fn about(self) -> About {
                match self {
                    $(Self::$name => About {
                        id: $id, area: Area::$area, reads: $reads, why: $why, remedy: $remedy,
                    },)*
                }
            }
        }
    };
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.about().id)
    }
}

checks! {
    HostSystem "host.system" Host
        reads "/etc/os-release, /proc/sys/kernel/osrelease, /sys/class/dmi/id/product_name"
        why "trueup is built and tried on Debian 12; elsewhere packages and paths have other names"
        remedy "";
    HostSystemd "host.systemd" Host
        reads "/run/systemd/system"
        why "the daemon is a unit of systemd, which restarts it and fences it in"
        remedy "start `trueup run` by whatever starts services here";
    HostMemory "host.memory" Host
        reads "/proc/meminfo"
        why "guests and image builds take memory; a host that swaps kills them"
        remedy "stop what is not needed, or give the guests less: `spec.memory.current`";
    HostHugepages "host.hugepages" Host
        reads "/proc/meminfo, /sys/kernel/mm/transparent_hugepage/enabled"
        why "large guests run faster on huge pages; reserved ones are lost to everything else"
        remedy "sysctl -w vm.nr_hugepages=0";
    HostDisk "host.disk" Host
        reads "statvfs(3) of the folder"
        why "a log that cannot be written stops the daemon, and a full pool stops guests"
        remedy "make room, or put the folder on a larger filesystem";
    HostClock "host.clock" Host
        reads "/run/systemd/timesync, /run/chrony, /proc/PID/comm"
        why "windows, certificates and the times in the log need a true clock"
        remedy "apt-get install systemd-timesyncd && timedatectl set-ntp true";
    HostGroups "host.groups" Host
        reads "/etc/group, /etc/passwd"
        why "members of the group trueup may talk to the daemon; without one only root can"
        remedy "systemd-sysusers && usermod -aG trueup USER";
    HostParameters "host.parameters" Host
        reads "/proc/cmdline"
        why "the kernel's parameters decide on the IOMMU, on huge pages and on who gets a GPU"
        remedy "take the parameter out of GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub, and reboot";
    HostUnread "host.unread" Host
        reads "the file itself"
        why "what could not be read was not checked"
        remedy "run as root";
    CpuVirtualisation "cpu.virtualisation" Vm
        reads "/proc/cpuinfo (flags vmx or svm)"
        why "without it guests are emulated, which is ten times slower and more"
        remedy "switch on VT-x or AMD-V (SVM) in the firmware's setup; in a virtual machine: nested virtualisation on its host";
    KvmDevice "kvm.device" Vm
        reads "/dev/kvm, /proc/modules"
        why "the processor could run guests at full speed, but the kernel does not offer it"
        remedy "modprobe kvm_intel (or kvm_amd), and see `dmesg | grep -i kvm` for why not; the firmware may have locked it";
    KvmProbe "kvm.probe" Vm
        reads "/dev/kvm (KVM_CREATE_VM)"
        why "a device that opens and makes no machine lets every guest fail at its start"
        remedy "dmesg | grep -i kvm; another hypervisor may hold the processor: rmmod vboxdrv";
    KvmAccess "kvm.access" Vm
        reads "/etc/passwd, /etc/group"
        why "QEMU runs as libvirt's user, who must be let at /dev/kvm"
        remedy "usermod -aG kvm libvirt-qemu && systemctl restart libvirtd";
    LibvirtVersion "libvirt.version" Vm
        reads "/usr/sbin/libvirtd, /usr/sbin/virtqemud, /var/lib/dpkg/status"
        why "trueup makes networks, disks and machines through libvirt"
        remedy "apt-get install libvirt-daemon-system";
    LibvirtSocket "libvirt.socket" Vm
        reads "/run/libvirt/libvirt-sock, /run/libvirt/virtqemud-sock"
        why "libvirt is installed, but nobody listens: everything of it is unobservable"
        remedy "systemctl enable --now libvirtd.socket (or virtqemud.socket)";
    QemuVersion "qemu.version" Vm
        reads "/usr/bin/qemu-system-x86_64, /var/lib/dpkg/status"
        why "QEMU runs the guests"
        remedy "apt-get install qemu-system-x86";
    VmTools "vm.tools" Vm
        reads "/usr/bin, /usr/sbin"
        why "libvirt and trueup start these programs for disks and networks"
        remedy "apt-get install qemu-utils dnsmasq-base";
    ImageTools "image.tools" Image
        reads "/usr/bin, /usr/sbin"
        why "`Image.spec.build` makes images with these programs; fetched images need none of them"
        remedy "apt-get install mmdebstrap e2fsprogs dbus";
    GpuPresent "gpu.present" Gpu
        reads "/sys/bus/pci/devices/*/{class,vendor,device,driver}, /proc/driver/nvidia/gpus/*/information"
        why "which GPUs there are, and who has them"
        remedy "";
    GpuNouveau "gpu.nouveau" Gpu
        reads "/sys/bus/pci/devices/BDF/driver"
        why "nouveau holds the GPU: NVIDIA's driver cannot take it, and there is no NVML, no MIG and no vGPU"
        remedy "printf 'blacklist nouveau\\noptions nouveau modeset=0\\n' > /etc/modprobe.d/blacklist-nouveau.conf && update-initramfs -u, then reboot";
    GpuNouveauBlacklist "gpu.nouveau-blacklist" Gpu
        reads "/etc/modprobe.d, /usr/lib/modprobe.d, /proc/cmdline"
        why "nothing keeps nouveau from taking the GPU first at the next boot"
        remedy "printf 'blacklist nouveau\\n' > /etc/modprobe.d/blacklist-nouveau.conf && update-initramfs -u";
    GpuDriver "gpu.driver" Gpu
        reads "/sys/bus/pci/devices/BDF/driver, /sys/module/nvidia/version"
        why "without a driver nothing can be known of the GPU, and nothing be done with it"
        remedy "apt-get install nvidia-driver (Debian: from non-free), or NVIDIA's own packages; then modprobe nvidia";
    GpuSecureBoot "gpu.secure-boot" Gpu
        reads "/sys/firmware/efi/efivars/SecureBoot-*, /lib/modules"
        why "NVIDIA's module is installed and not loaded, and Secure Boot refuses modules without a trusted signature"
        remedy "mokutil --import /var/lib/dkms/mok.pub, reboot and enroll the key; or switch Secure Boot off";
    GpuLibrary "gpu.library" Gpu
        reads "libnvidia-ml.so.1 in /usr/lib, /sys/module/nvidia/version"
        why "trueup sees GPUs through NVML, whose version has to be the loaded module's"
        remedy "reboot, or unload and load the nvidia modules, after an update of the driver";
    GpuPersistence "gpu.persistence" Gpu
        reads "/run/nvidia-persistenced/socket, /proc/PID/comm"
        why "without a client the driver lets go of a GPU: settings are lost, and each look takes seconds"
        remedy "systemctl enable --now nvidia-persistenced";
    GpuFabric "gpu.fabric" Gpu
        reads "/sys/bus/pci/devices (NVSwitch), /proc/PID/comm"
        why "on boards with NVSwitch no CUDA program starts before the fabric manager set the links up"
        remedy "systemctl enable --now nvidia-fabricmanager (its version has to be the driver's)";
    GpuCoOwner "gpu.co-owner" Gpu
        reads "systemd's units, /var/lib/kubelet, /usr/local/vgpu, /proc/PID/comm"
        why "two who lay out the same GPU undo each other's work and kill each other's jobs"
        remedy "take the GPU from it, or set `takeover: true` in the GpuLayout and switch it off";
    GpuClients "gpu.clients" Mig
        reads "/proc/PID/comm, /proc/PID/cgroup"
        why "it keeps instances busy without a process that NVML lists, so that they cannot be destroyed"
        remedy "name its unit in `clients` of the GpuLayout: it is stopped and started around a change";
    GpuHolders "gpu.holders" Mig
        reads "/proc/PID/fd"
        why "a change of what it uses waits for it, or is refused; trueup never kills it"
        remedy "";
    GpuMps "gpu.mps" Mig
        reads "/proc/PID/comm"
        why "the MPS control daemon holds every GPU it sees, and stands in the way of MIG"
        remedy "echo quit | nvidia-cuda-mps-control";
    GpuDisplay "gpu.display" Mig
        reads "/sys/class/drm/card*-*/{status,enabled}, /sys/class/drm/card*/device"
        why "a GPU that drives a screen can neither change its MIG mode nor go to a guest"
        remedy "plug the screen into another GPU, and stop the display manager: systemctl set-default multi-user.target";
    GpuDrm "gpu.drm" Mig
        reads "/proc/modules"
        why "nvidia_drm is in use: a compositor or a console holds the GPU, and its mode cannot change"
        remedy "systemctl isolate multi-user.target, or set nvidia-drm.modeset=0";
    GpuSriov "gpu.sriov" Mig
        reads "/sys/bus/pci/devices/BDF/sriov_numvfs"
        why "while virtual functions are up, neither the MIG mode changes nor can the GPU go to a guest"
        remedy "echo 0 > /sys/bus/pci/devices/BDF/sriov_numvfs";
    MigCapabilities "mig.capabilities" Mig
        reads "/proc/driver/nvidia/capabilities/mig/config"
        why "the right to change MIG is given by this file; a driver before R450, or a container, has none"
        remedy "install a driver of R450 or later, and run trueup on the host itself";
    MigGuest "mig.guest" Mig
        reads "/proc/cpuinfo (flag hypervisor), /sys/class/dmi/id/product_name"
        why "a GPU that was given to a virtual machine often cannot be reset: MIG's mode then needs a reboot of it"
        remedy "switch MIG's mode before trueup takes over: nvidia-smi -mig 1, then reboot";
    IommuEnabled "iommu.enabled" Passthrough
        reads "/sys/kernel/iommu_groups, /proc/cmdline, /sys/firmware/acpi/tables"
        why "without an IOMMU no GPU, whole or virtual, can be given to a guest"
        remedy "add intel_iommu=on iommu=pt (AMD: iommu=pt) to GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub, and reboot";
    IommuGroup "iommu.group" Passthrough
        reads "/sys/bus/pci/devices/BDF/iommu_group, /sys/kernel/iommu_groups/*/devices"
        why "a group goes to a guest as a whole: what else is in it is lost to the host"
        remedy "put the GPU into another slot, switch on ACS in the firmware's setup, or give the others up too (vfio-pci)";
    IommuFunctions "iommu.functions" Passthrough
        reads "/sys/bus/pci/devices (the same slot)"
        why "the GPU's own audio and USB functions have to go with it"
        remedy "";
    BootVga "passthrough.boot-vga" Passthrough
        reads "/sys/bus/pci/devices/BDF/boot_vga"
        why "the firmware and the kernel put the console on this GPU, so that taking it away blinds the host"
        remedy "choose another primary display in the firmware's setup, or do without a console";
    VfioModules "vfio.modules" Passthrough
        reads "/sys/module/vfio_pci, /lib/modules/*/modules.dep, /dev/vfio/vfio, /dev/iommu"
        why "vfio-pci hands devices to guests"
        remedy "install the kernel package that has vfio-pci (Debian: linux-image-amd64, not -cloud)";
    VfioIds "vfio.ids" Passthrough
        reads "/proc/cmdline, /etc/modprobe.d"
        why "ids name a model: every equal board goes to vfio-pci, also those meant for the host"
        remedy "take `vfio-pci.ids` away; trueup binds single boards by their address (driver_override)";
    VfioOrphan "vfio.orphan" Passthrough
        reads "/sys/bus/pci/devices/BDF/{driver,driver_override}"
        why "a driver was asked for and none has it: neither host nor guest can use it"
        remedy "echo > /sys/bus/pci/devices/BDF/driver_override && echo BDF > /sys/bus/pci/drivers_probe";
    VfioReset "vfio.reset" Passthrough
        reads "/sys/bus/pci/devices/BDF/reset_method"
        why "a GPU that cannot be reset keeps the last guest's state, and often works once only"
        remedy "";
    VgpuVfs "vgpu.vfs" Vgpu
        reads "/sys/bus/pci/devices/BDF/{sriov_totalvfs,sriov_numvfs}"
        why "vGPUs of this board live on virtual functions, which are gone after each boot"
        remedy "/usr/lib/nvidia/sriov-manage -e BDF";
    VgpuBackend "vgpu.backend" Vgpu
        reads "/sys/class/mdev_bus, /sys/bus/pci/devices/*/nvidia/current_vgpu_type"
        why "neither mediated devices nor typed virtual functions are there, so no vGPU can be made"
        remedy "see `journalctl -u nvidia-vgpu-mgr` and the board's display mode (displaymodeselector)";
    VgpuManager "vgpu.manager" Vgpu
        reads "/proc/PID/comm"
        why "no vGPU starts without NVIDIA's manager"
        remedy "systemctl enable --now nvidia-vgpu-mgr";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_single_and_well_formed() {
        let mut seen = BTreeSet::new();
        for check in Check::ALL {
            let About { id, reads, why, .. } = check.about();
            assert!(seen.insert(id), "{id} twice");
            let plain = |c: char| c.is_ascii_lowercase() || c == '.' || c == '-';
            assert!(id.contains('.') && id.chars().all(plain), "{id}");
            assert!(!reads.is_empty() && !why.ends_with('.'), "{id}");
        }
    }
}
