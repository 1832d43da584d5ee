//! A kernel of plain files: functions, groups and drivers below a root, and hands that do to them
//! what the kernel would. Stricter than the real one: what it does not know is refused.

mod vgpu;

pub(super) use vgpu::function;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trueup_gpu_sysfs::{Error, Hands, Patience, Root};

/// The GPU, as the simulated NVML has it at index 0, and the audio of its board.
pub(super) const GPU: &str = "0000:07:00.0";
pub(super) const AUDIO: &str = "0000:07:00.1";
/// A function of another board, where a test has one.
pub(super) const NEIGHBOUR: &str = "0000:08:00.1";

/// What goes wrong from now on.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Probes of this function bind nothing to vfio-pci.
    pub(super) no_vfio: Option<String>,
    /// Nor to any driver of the host.
    pub(super) no_host: bool,
    /// The vendor's tool is ended, once, when it has taken the GPU from its driver.
    pub(super) tool_ends: bool,
}

/// The files, shared by a test and the hands.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    root: PathBuf,
    pub(super) trouble: Arc<Mutex<Trouble>>,
    log: Arc<Mutex<Vec<String>>>,
}

/// Short enough for tests: only failures wait it out.
pub(super) fn patience() -> Patience {
    Patience {
        settle: Duration::from_millis(20),
        busy: Duration::from_millis(50),
        write: Duration::from_secs(2),
        run: Duration::from_secs(2),
        first: Duration::from_millis(1),
        longest: Duration::from_millis(4),
    }
}

impl Kernel {
    /// A host with an IOMMU, the drivers, and one board in group 5.
    pub(super) fn new(root: &Path) -> Self {
        let kernel = Self { root: root.to_owned(), trouble: Arc::default(), log: Arc::default() };
        kernel.file("/proc/cmdline", "root=/dev/sda1 intel_iommu=on");
        kernel.file("/proc/sys/kernel/random/boot_id", "boot-one");
        kernel.file("/sys/bus/pci/drivers_probe", "");
        for driver in ["nvidia", "vfio-pci", "snd_hda_intel"] {
            kernel.file(&format!("/sys/bus/pci/drivers/{driver}/unbind"), "");
        }
        kernel.function(GPU, "0x20b0", "0x030200", "nvidia");
        kernel.function(AUDIO, "0x1aef", "0x040300", "snd_hda_intel");
        let information = format!("/proc/driver/nvidia/gpus/{GPU}/information");
        kernel.file(&information, "Model: \t\t Simulated\nDevice Minor: \t 0");
        kernel
    }

    fn function(&self, name: &str, device: &str, class: &str, driver: &str) {
        self.function_in(name, device, class, driver, 5);
    }

    fn function_in(&self, name: &str, device: &str, class: &str, driver: &str, group: u32) {
        let folder = format!("/sys/bus/pci/devices/{name}");
        for (file, text) in [
            ("vendor", "0x10de"),
            ("device", device),
            ("class", class),
            ("driver_override", "(null)"),
            ("reset_method", "flr bus"),
        ] {
            self.file(&format!("{folder}/{file}"), text);
        }
        let target = format!("../../../../kernel/iommu_groups/{group}");
        self.link(&format!("{folder}/iommu_group"), &target);
        let member = format!("/sys/kernel/iommu_groups/{group}/devices/{name}");
        self.link(&member, &format!("../../../../bus/pci/devices/{name}"));
        self.bind(name, Some(driver));
    }

    /// The drivers of the board's two functions.
    pub(super) fn drivers(&self) -> [Option<String>; 2] {
        [self.driver(GPU), self.driver(AUDIO)]
    }

    /// A function of another board, in the GPU's IOMMU group.
    pub(super) fn neighbour(&self) {
        self.function(NEIGHBOUR, "0x10f0", "0x040300", "snd_hda_intel");
    }

    pub(super) fn driver(&self, name: &str) -> Option<String> {
        let link = self.path(&format!("/sys/bus/pci/devices/{name}/driver"));
        Some(fs::read_link(link).ok()?.file_name()?.to_str()?.to_owned())
    }

    /// Sets the driver, as somebody else would.
    pub(super) fn bind(&self, name: &str, driver: Option<&str>) {
        let link = format!("/sys/bus/pci/devices/{name}/driver");
        if fs::symlink_metadata(self.path(&link)).is_ok() {
            fs::remove_file(self.path(&link)).unwrap();
        }
        if let Some(driver) = driver {
            self.link(&link, &format!("../../../../bus/pci/drivers/{driver}"));
        }
    }

    /// As after a reboot: every function is with its own driver, and nothing is fixed.
    pub(super) fn reboot(&self) {
        self.file("/proc/sys/kernel/random/boot_id", "boot-two");
        self.forget_vgpus();
        for (name, driver) in [(GPU, "nvidia"), (AUDIO, "snd_hda_intel")] {
            self.bind(name, Some(driver));
            self.file(&format!("/sys/bus/pci/devices/{name}/driver_override"), "(null)");
        }
    }

    /// A process that has a device node open.
    pub(super) fn process(&self, pid: u32, comm: &str, unit: &str, node: &str) {
        let folder = format!("/proc/{pid}");
        self.file(&format!("{folder}/comm"), comm);
        self.file(&format!("{folder}/cgroup"), &format!("0::/system.slice/{unit}"));
        self.link(&format!("{folder}/fd/3"), node);
    }

    pub(super) fn remove(&self, path: &str) {
        fs::remove_dir_all(self.path(path)).unwrap();
    }

    /// What was written since the last time.
    pub(super) fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    pub(super) fn file(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn probe(&self, name: &str) {
        let fixed = self.path(&format!("/sys/bus/pci/devices/{name}/driver_override"));
        let fixed = fs::read_to_string(fixed).unwrap().trim().to_owned();
        let trouble = self.trouble.lock().unwrap();
        let driver = match (fixed.as_str(), name) {
            ("vfio-pci", name) if trouble.no_vfio.as_deref() == Some(name) => return,
            ("vfio-pci", _) => "vfio-pci",
            _ if trouble.no_host => return,
            (_, GPU) => "nvidia",
            _ => "snd_hda_intel",
        };
        if self.driver(name).is_none() {
            self.bind(name, Some(driver));
        }
    }
}

impl Hands for Kernel {
    fn write(&mut self, _: &Root, path: &str, value: &str, _: &Patience) -> Result<(), Error> {
        self.log.lock().unwrap().push(format!("{value} > {path}"));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["sys", "bus", "pci", "drivers", driver, "unbind"] => {
                assert_eq!(self.driver(value).as_deref(), Some(*driver), "{value} at {path}");
                self.bind(value, None);
            }
            ["sys", "bus", "pci", "drivers_probe"] => self.probe(value),
            [.., "driver_override"] => {
                self.file(path, if value.is_empty() { "(null)" } else { value });
            }
            [.., function, "nvidia", "current_vgpu_type"] => {
                let done = self.retype(function, value);
                done.map_err(|errno| vgpu::refused(path, value, errno))?;
            }
            ["sys", "class", "mdev_bus", GPU, _, kind, "create"] => {
                let done = self.create(kind, value);
                done.map_err(|errno| vgpu::refused(path, value, errno))?;
            }
            ["sys", "bus", "mdev", "devices", uuid, "remove"] => self.remove_mediated(uuid),
            _ => panic!("nobody writes {path}"),
        }
        Ok(())
    }

    fn run(&mut self, _: &Root, argv: &[String], _: &Patience) -> Result<(), Error> {
        self.log.lock().unwrap().push(argv.join(" "));
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        if words[0].ends_with("sriov-manage")
            && std::mem::take(&mut self.trouble.lock().unwrap().tool_ends)
        {
            self.bind(GPU, None);
            return Err(Error::Run { argv: argv.to_vec(), why: "ended by signal 9".to_owned() });
        }
        match words.as_slice() {
            ["/sbin/modprobe", "vfio-pci"] => self.file("/sys/bus/pci/drivers/vfio-pci/unbind", ""),
            ["/usr/lib/nvidia/sriov-manage", "-e", GPU] => self.functions_on(),
            ["/usr/lib/nvidia/sriov-manage", "-d", GPU] => self.functions_off(),
            other => panic!("nobody runs {other:?}"),
        }
        Ok(())
    }
}
