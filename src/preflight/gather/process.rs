//! Processes that matter: those of known names, and whoever has a GPU's device file open.
//!
//! Of all others nothing is remembered, so that a recording does not tell what else runs here.

use std::collections::{BTreeMap, BTreeSet};

use crate::preflight::check::known_processes;
use crate::preflight::facts::Process;
use crate::preflight::root::Root;

pub(super) fn processes(root: &Root, nodes: &BTreeMap<String, String>) -> Vec<Process> {
    let mut found = Vec::new();
    let mut closed = 0_u32;
    for name in root.scan("proc").unwrap_or_default() {
        let Ok(pid) = name.parse::<u32>() else { continue };
        let Some(comm) = root.peek(&format!("proc/{pid}/comm")) else { continue };
        let known = known_processes().any(|name| comm == name.get(..15).unwrap_or(name));
        let holds = match root.scan(&format!("proc/{pid}/fd")) {
            Ok(names) => held(root, pid, &names, nodes),
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
                closed += 1;
                BTreeSet::new()
            }
            // It ended meanwhile, or the tree has no descriptors of it.
            Err(_) => BTreeSet::new(),
        };
        if !known && holds.is_empty() {
            continue;
        }
        let comm = root.text(&format!("proc/{pid}/comm")).unwrap_or(comm);
        found.push(Process { pid, comm, unit: unit(root, pid), holds });
    }
    if closed > 0 && !nodes.is_empty() {
        root.unread("proc/PID/fd", format!("not readable for {closed} processes: run as root"));
    }
    found
}

/// Which of NVIDIA's device files are open: GPUs and MIG's capabilities.
fn held(
    root: &Root,
    pid: u32,
    names: &[String],
    nodes: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let mut holds = BTreeSet::new();
    for name in names {
        let path = format!("proc/{pid}/fd/{name}");
        let Some(target) = root.peek_link(&path) else { continue };
        let digits = target.strip_prefix("/dev/nvidia");
        let gpu = digits.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if (gpu || target.starts_with("/dev/nvidia-caps/")) && root.link(&path).is_some() {
            let address = nodes.get(&target).map(|address| format!("{target} ({address})"));
            holds.insert(address.unwrap_or(target));
        }
    }
    holds
}

/// The last unit or scope in its control group.
fn unit(root: &Root, pid: u32) -> Option<String> {
    let text = root.text(&format!("proc/{pid}/cgroup"))?;
    let last = text.lines().find_map(|line| line.rsplit('/').next().filter(|n| n.contains('.')))?;
    Some(last.to_owned())
}
