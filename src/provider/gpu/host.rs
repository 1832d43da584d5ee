//! What files of the machine tell about who uses a GPU, all below a root.
//!
//! It only reads. A process that ends meanwhile is told with what is left of it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use trueup_mig::Holder;

/// Bytes read of a file below `/proc`: names and control groups are far shorter.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Units of programs that cut GPUs themselves, as their packages enable them.
const CO_OWNERS: [&str; 1] = ["nvidia-mig-manager.service"];

/// Folders and files that show such a program, with its name.
const CO_OWNER_MARKS: [(&str, &str); 1] =
    [("var/lib/kubelet/plugins/gpu.nvidia.com", "the NVIDIA DRA driver")];

/// Processes of such programs, in containers as well, with the program's name: what they are called
/// is what their packages and images run.
const CO_OWNER_PROCESSES: [(&str, &str); 6] = [
    ("nvidia-mig-manager", "mig-manager"),
    ("nvidia-mig-parted", "mig-parted"),
    ("gpu-kubelet-plugin", "the NVIDIA DRA driver"),
    ("nvidia-vgpu-dm", "the vGPU device manager"),
    ("nvidia-k8s-vgpu-dm", "the vGPU device manager"),
    // It cuts GPUs by itself where its mode is `mig`.
    ("vGPUmonitor", "HAMi"),
];

/// Characters that the kernel keeps of a process's name (`TASK_COMM_LEN`, without its end).
const COMM_MAX: usize = 15;

/// Where systemd keeps the control groups of services: the unified hierarchy, and the two others.
const SLICES: [&str; 3] = [
    "sys/fs/cgroup/system.slice",
    "sys/fs/cgroup/systemd/system.slice",
    "sys/fs/cgroup/unified/system.slice",
];

/// A machine, by its files.
#[derive(Debug, Clone)]
pub(super) struct Host {
    root: PathBuf,
}

impl Host {
    /// The machine whose files are below `root`.
    pub(super) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Who a process is.
    pub(super) fn holder(&self, pid: u32) -> Holder {
        let comm = self.text(&format!("proc/{pid}/comm"));
        let who = comm.map(|comm| comm.trim().to_owned()).filter(|comm| !comm.is_empty());
        Holder {
            who: who.unwrap_or_else(|| "a process".to_owned()),
            pid: Some(pid),
            unit: self.unit(pid),
            stoppable: false,
        }
    }

    /// The systemd unit that a process belongs to.
    fn unit(&self, pid: u32) -> Option<String> {
        let groups = self.text(&format!("proc/{pid}/cgroup"))?;
        let unit = |line: &str| {
            let path = line.splitn(3, ':').nth(2)?;
            let named = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
            path.split('/').rfind(named).map(str::to_owned)
        };
        groups.lines().find_map(unit)
    }

    /// The run of the machine: another one after each boot (`random(4)`).
    pub(super) fn boot(&self) -> Option<String> {
        let id = self.text("proc/sys/kernel/random/boot_id")?;
        Some(id.trim().to_owned()).filter(|id| !id.is_empty())
    }

    /// Whether systemd runs this machine (`sd_booted(3)`).
    pub(super) fn has_systemd(&self) -> bool {
        self.root.join("run/systemd/system").is_dir()
    }

    /// Whether a unit runs: systemd gives each that does a control group.
    pub(super) fn runs(&self, unit: &str) -> bool {
        SLICES.iter().any(|slice| self.root.join(slice).join(unit).is_dir())
    }

    /// Programs that cut GPUs too, with the file that shows it.
    pub(super) fn co_owners(&self) -> Vec<String> {
        let units = CO_OWNERS.iter().filter_map(|unit| {
            let link = format!("etc/systemd/system/multi-user.target.wants/{unit}");
            // A link that leads nowhere below another root still says that it is enabled.
            let enabled = self.root.join(&link).symlink_metadata().is_ok();
            enabled.then(|| format!("{unit} (/{link})"))
        });
        let marks = CO_OWNER_MARKS.iter().filter(|(mark, _)| self.root.join(mark).exists());
        let marks = marks.map(|(mark, name)| format!("{name} (/{mark})"));
        units.chain(marks).chain(self.co_owners_that_run()).collect()
    }

    /// The same, by their processes: in a cluster nothing else of them may be on the machine.
    fn co_owners_that_run(&self) -> Vec<String> {
        let Ok(entries) = self.root.join("proc").read_dir() else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut pids: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
        pids.sort_unstable();
        let one = |pid: u32| {
            let comm = self.text(&format!("proc/{pid}/comm"))?;
            let is = |process: &str| process.get(..COMM_MAX).unwrap_or(process) == comm.trim();
            let (_, name) = CO_OWNER_PROCESSES.iter().find(|(process, _)| is(process))?;
            Some(format!("{name} (pid {pid})"))
        };
        pids.into_iter().filter_map(one).collect()
    }

    /// Below what its files are.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn text(&self, path: &str) -> Option<String> {
        let file = std::fs::File::open(self.root.join(path)).ok()?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_process_is_told_with_its_unit() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "proc/7/comm", "python\n");
        put(root.path(), "proc/7/cgroup", "0::/system.slice/inference.service/child\n");
        put(root.path(), "proc/8/cgroup", "3:cpu:/x\n1:name=systemd:/user.slice/run-9.scope\n");
        let host = Host::at(root.path().to_owned());
        assert_eq!(host.holder(7).to_string(), "python (pid 7, inference.service)");
        assert_eq!(host.holder(8).unit.as_deref(), Some("run-9.scope"));
        assert_eq!(host.holder(9).to_string(), "a process (pid 9)");
    }

    #[test]
    fn units_and_co_owners_are_seen_by_their_files() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path().to_owned());
        assert!(!host.has_systemd() && !host.runs("a.service") && host.co_owners().is_empty());
        put(root.path(), "run/systemd/system/x", "");
        put(root.path(), "sys/fs/cgroup/system.slice/a.service/cgroup.procs", "");
        let link = "etc/systemd/system/multi-user.target.wants/nvidia-mig-manager.service";
        put(root.path(), link, "");
        assert!(host.has_systemd() && host.runs("a.service"));
        assert_eq!(host.co_owners().len(), 1);
        put(root.path(), "proc/70/comm", "nvidia-mig-mana\n");
        put(root.path(), "proc/71/comm", "vGPUmonitor\n");
        put(root.path(), "proc/72/comm", "nvidia-persiste\n");
        assert_eq!(host.co_owners()[1..], ["mig-manager (pid 70)", "HAMi (pid 71)"]);
    }
}
