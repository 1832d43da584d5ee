//! Hands that answer as the kernel and the driver would, with faults. Stricter than the real ones:
//! what they do not know is refused.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;

use crate::error::Error;
use crate::hands::Hands;
use crate::root::Root;
use crate::wait::Patience;

/// Memory of a vGPU type by number, in GB; the simulated GPU has 48.
pub(super) const TYPES: [(u32, &str, u32); 2] =
    [(558, "NVIDIA A40-24Q", 24), (556, "NVIDIA A40-8Q", 8)];
const MEMORY: u32 = 48;

/// What goes wrong.
#[derive(Default)]
pub(super) struct Faults {
    /// So many probes bind nothing.
    pub(super) probe_nothing: u32,
    /// So many writes are answered with `EBUSY`.
    pub(super) busy: u32,
    /// After so many actions the power goes, with the last one done.
    pub(super) die_after: Option<u32>,
    /// Where the vendor's tool is ended, once: with the GPU taken from its driver.
    pub(super) tool_ends: Option<Ends>,
}

/// How far the vendor's tool comes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ends {
    /// The GPU is taken from its driver, and nothing else was done.
    Early,
    /// The GPU is with the kernel's stand-in.
    Stub,
    /// The functions are switched, and the GPU has no driver.
    Late,
}

/// What was done, shared with the test.
pub(super) type Log = Rc<RefCell<Vec<String>>>;

/// The hands.
pub(super) struct Kernel {
    dir: PathBuf,
    pub(super) faults: Faults,
    pub(super) log: Log,
    actions: u32,
}

/// Short enough for tests; nothing waits for the real passing of time but for failures.
pub(super) fn patience() -> Patience {
    Patience {
        settle: Duration::from_millis(20),
        busy: Duration::from_millis(200),
        write: Duration::from_millis(500),
        run: Duration::from_millis(500),
        first: Duration::from_millis(1),
        longest: Duration::from_millis(4),
    }
}

impl Kernel {
    /// Ends the vendor's tool half-way, where the fault says so.
    fn ended(&mut self, gpu: &str, argv: &[String]) -> Result<Option<Ends>, Error> {
        let Some(ends) = self.faults.tool_ends.take() else { return Ok(None) };
        fs::remove_file(self.path(&format!("/sys/bus/pci/devices/{gpu}/driver"))).unwrap();
        let error = || Error::Run { argv: argv.to_vec(), why: "ended by signal 9".to_owned() };
        match ends {
            Ends::Early => Err(error()),
            Ends::Stub => {
                self.set("/sys/bus/pci/drivers/pci-pf-stub/unbind", "");
                self.bind(gpu, "pci-pf-stub");
                Err(error())
            }
            Ends::Late => Ok(Some(ends)),
        }
    }

    pub(super) fn new(dir: &Path) -> Self {
        let log = Log::default();
        Self { dir: dir.to_owned(), faults: Faults::default(), log, actions: 0 }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.join(path.trim_start_matches('/'))
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default().trim().to_owned()
    }

    fn set(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn driver(&self, function: &str) -> Option<String> {
        let link =
            fs::read_link(self.path(&format!("/sys/bus/pci/devices/{function}/driver"))).ok()?;
        Some(link.file_name()?.to_str()?.to_owned())
    }

    fn bind(&self, function: &str, driver: &str) {
        let link = self.path(&format!("/sys/bus/pci/devices/{function}/driver"));
        if self.path(&format!("/sys/bus/pci/drivers/{driver}")).exists() {
            let target = format!("../../../bus/pci/drivers/{driver}");
            std::os::unix::fs::symlink(target, link).unwrap();
        }
    }

    fn react(&mut self, path: &str, value: &str) -> Result<(), Errno> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["sys", "bus", "pci", "drivers", driver, "unbind"] => {
                if self.driver(value).as_deref() != Some(driver) {
                    return Err(Errno::NODEV);
                }
                let link = format!("/sys/bus/pci/devices/{value}/driver");
                fs::remove_file(self.path(&link)).unwrap();
            }
            ["sys", "bus", "pci", "drivers_probe"] => self.probe(value)?,
            [.., "driver_override"] => {
                self.set(path, if value.is_empty() { "(null)" } else { value });
            }
            [.., function, "nvidia", "current_vgpu_type"] => self.retype(function, value)?,
            [.., "nvidia", "gpu_instance_id" | "placement_id"] => self.set(path, value),
            ["sys", "class", "mdev_bus", parent, _, kind, "create"] => {
                self.create(path, parent, kind, value)?;
            }
            ["sys", "bus", "mdev", "devices", uuid, "remove"] => self.remove(uuid),
            _ => panic!("nobody writes {path}"),
        }
        Ok(())
    }

    fn probe(&mut self, function: &str) -> Result<(), Errno> {
        let folder = format!("/sys/bus/pci/devices/{function}");
        if self.driver(function).is_some() {
            return Ok(());
        }
        if !self.path(&folder).exists() {
            return Err(Errno::NODEV);
        }
        if self.faults.probe_nothing > 0 {
            self.faults.probe_nothing -= 1;
            return Ok(());
        }
        let fixed = self.text(&format!("{folder}/driver_override"));
        if fixed != "(null)" {
            self.bind(function, &fixed);
        } else if self.text(&format!("{folder}/class")).starts_with("0x03") {
            self.bind(function, "nvidia");
        } else {
            self.bind(function, "snd_hda_intel");
        }
        Ok(())
    }

    /// A virtual function becomes a vGPU or ceases to be one; the room left changes for all.
    fn retype(&self, function: &str, value: &str) -> Result<(), Errno> {
        let folder = format!("/sys/bus/pci/devices/{function}/nvidia");
        let listed = self.text(&format!("{folder}/creatable_vgpu_types"));
        let current = self.text(&format!("{folder}/current_vgpu_type"));
        if value != "0" && current != "0" {
            return Err(Errno::BUSY);
        }
        if value != "0" && !listed.lines().any(|line| line.starts_with(&format!("{value} "))) {
            return Err(Errno::INVAL);
        }
        self.set(&format!("{folder}/current_vgpu_type"), value);
        let size =
            |id: &str| TYPES.iter().find(|it| it.0.to_string() == id).map_or(0, |(.., size)| *size);
        let functions = fs::read_dir(self.path("/sys/bus/pci/devices")).unwrap();
        let names = functions.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let folders = names.map(|name| format!("/sys/bus/pci/devices/{name}/nvidia"));
        let folders: Vec<String> = folders.filter(|it| self.path(it).exists()).collect();
        let types: Vec<String> =
            folders.iter().map(|it| self.text(&format!("{it}/current_vgpu_type"))).collect();
        let used: u32 = types.iter().map(|it| size(it)).sum();
        let listed = creatable(MEMORY - used);
        for (folder, current) in folders.iter().zip(types) {
            let listed = if current == "0" { listed.as_str() } else { "" };
            self.set(&format!("{folder}/creatable_vgpu_types"), listed);
        }
        Ok(())
    }

    fn create(&self, path: &str, parent: &str, kind: &str, uuid: &str) -> Result<(), Errno> {
        let count = path.replace("/create", "/available_instances");
        let left: u32 = self.text(&count).parse().unwrap();
        let device = format!("/sys/devices/pci0000:00/{parent}/{uuid}");
        if self.path(&device).exists() {
            return Err(Errno::EXIST);
        }
        let left = left.checked_sub(1).ok_or(Errno::NOSPC)?;
        self.set(&count, &left.to_string());
        self.set(&format!("{device}/remove"), "");
        let link = self.path(&format!("/sys/bus/mdev/devices/{uuid}"));
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let kind = format!("../mdev_supported_types/{kind}");
        std::os::unix::fs::symlink(kind, self.path(&format!("{device}/mdev_type"))).unwrap();
        let target = format!("../../../devices/pci0000:00/{parent}/{uuid}");
        std::os::unix::fs::symlink(target, link).unwrap();
        Ok(())
    }

    fn remove(&self, uuid: &str) {
        let link = self.path(&format!("/sys/bus/mdev/devices/{uuid}"));
        let device = fs::canonicalize(&link).unwrap();
        let parent = device.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let kind = fs::read_link(device.join("mdev_type")).unwrap();
        let kind = kind.file_name().unwrap().to_str().unwrap().to_owned();
        let types = format!("/sys/class/mdev_bus/{parent}/mdev_supported_types/{kind}");
        let count = format!("{types}/available_instances");
        let left: u32 = self.text(&count).parse().unwrap();
        self.set(&count, &(left + 1).to_string());
        fs::remove_file(link).unwrap();
        fs::remove_dir_all(device).unwrap();
    }

    /// Every action may be the last.
    fn lives(&mut self, what: &str) -> Result<(), Error> {
        self.actions += 1;
        if self.faults.die_after == Some(self.actions) {
            return Err(Error::Run { argv: vec![what.to_owned()], why: "power lost".to_owned() });
        }
        Ok(())
    }
}

/// The list of types that fit into so much memory.
pub(super) fn creatable(left: u32) -> String {
    let fitting = TYPES.iter().filter(|(.., size)| *size <= left);
    let lines: Vec<String> = fitting.map(|(id, name, _)| format!("{id} : {name}")).collect();
    format!("ID    : vGPU Name\n{}", lines.join("\n"))
}

impl Hands for Kernel {
    fn write(&mut self, root: &Root, path: &str, value: &str, _: &Patience) -> Result<(), Error> {
        if let Err(errno) = root.exists(path).and_then(|it| it.then_some(()).ok_or(Errno::NOENT)) {
            return Err(Error::write(path, value, errno));
        }
        if self.faults.busy > 0 {
            self.faults.busy -= 1;
            return Err(Error::write(path, value, Errno::BUSY));
        }
        self.log.borrow_mut().push(format!("{value} > {path}"));
        self.react(path, value).map_err(|errno| Error::write(path, value, errno))?;
        self.lives(path)
    }

    fn run(&mut self, _: &Root, argv: &[String], _: &Patience) -> Result<(), Error> {
        self.log.borrow_mut().push(argv.join(" "));
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["/sbin/modprobe", driver] => {
                self.set(&format!("/sys/bus/pci/drivers/{driver}/unbind"), "")
            }
            ["/usr/lib/nvidia/sriov-manage", "-e", gpu] => {
                let ended = self.ended(gpu, argv)?;
                let tree = super::tree::Tree::standing(&self.dir);
                for index in 0..4 {
                    let name = format!("0000:07:00.{}", index + 4);
                    tree.vendor_function(gpu, index, &name, &creatable(MEMORY));
                }
                tree.file(&format!("/sys/bus/pci/devices/{gpu}/sriov_numvfs"), "4");
                if ended.is_some() {
                    return Err(Error::Run { argv: argv.to_vec(), why: "ended".to_owned() });
                }
            }
            ["/usr/lib/nvidia/sriov-manage", "-d", gpu] => {
                let ended = self.ended(gpu, argv)?;
                for index in 0..4 {
                    let name = format!("0000:07:00.{}", index + 4);
                    fs::remove_file(self.path(&format!("/sys/bus/pci/devices/{name}"))).unwrap();
                }
                self.set(&format!("/sys/bus/pci/devices/{gpu}/sriov_numvfs"), "0");
                if ended.is_some() {
                    return Err(Error::Run { argv: argv.to_vec(), why: "ended".to_owned() });
                }
            }
            other => panic!("nobody runs {other:?}"),
        }
        self.lives(&argv.join(" "))
    }
}
