//! What files of the machine tell about who uses a GPU, all below a root.
//!
//! It only reads. A process that ends meanwhile is told with what is left of it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use trueup_mig::Holder;

/// Bytes read of a file below `/proc`: names and control groups are far shorter.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Processes named in one message.
const NAMED_MAX: usize = 8;

/// Units of programs that cut GPUs themselves, as their packages enable them.
const CO_OWNERS: [&str; 1] = ["nvidia-mig-manager.service"];

/// Folders and files that show such a program, with its name.
const CO_OWNER_MARKS: [(&str, &str); 1] =
    [("var/lib/kubelet/plugins/gpu.nvidia.com", "the NVIDIA DRA driver")];

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
        units.chain(marks).collect()
    }

    /// Processes that have a device of NVIDIA's open, whether NVML lists them or not; a hint for
    /// people, because not all of them hold the instance in question.
    pub(super) fn openers(&self) -> Vec<String> {
        let Ok(processes) = std::fs::read_dir(self.root.join("proc")) else { return Vec::new() };
        let mut pids: Vec<u32> = processes
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        let opens = |pid: &u32| {
            let Ok(files) = std::fs::read_dir(self.root.join(format!("proc/{pid}/fd"))) else {
                return false;
            };
            let links = files.filter_map(Result::ok).map(|file| std::fs::read_link(file.path()));
            links.filter_map(Result::ok).any(|target| is_device(&target))
        };
        let own = std::process::id();
        let others = pids.into_iter().filter(|pid| *pid != own).filter(opens);
        others.take(NAMED_MAX).map(|pid| self.holder(pid).to_string()).collect()
    }

    fn text(&self, path: &str) -> Option<String> {
        let file = std::fs::File::open(self.root.join(path)).ok()?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

/// Whether a path is a device that gives access to a GPU or a part of it.
fn is_device(path: &Path) -> bool {
    let Some(rest) = path.to_str().and_then(|path| path.strip_prefix("/dev/nvidia")) else {
        return false;
    };
    rest.starts_with("-caps/") || rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
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
    fn openers_of_devices_are_found_and_others_are_not() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "proc/7/comm", "dcgm\n");
        put(root.path(), "proc/8/comm", "sh\n");
        for (pid, target) in [(7, "/dev/nvidia-caps/nvidia-cap3"), (8, "/dev/nvidiactl")] {
            std::fs::create_dir_all(root.path().join(format!("proc/{pid}/fd"))).unwrap();
            let link = root.path().join(format!("proc/{pid}/fd/3"));
            std::os::unix::fs::symlink(target, link).unwrap();
        }
        assert_eq!(Host::at(root.path().to_owned()).openers(), ["dcgm (pid 7)"]);
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
    }
}
