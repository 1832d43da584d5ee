//! What every host needs.

use super::size;
use crate::preflight::catalogue::Check;
use crate::preflight::facts::Facts;
use crate::preflight::finding::{Finding, Severity};

/// Least memory to spare: a small guest beside the daemon.
const MEMORY_MIN: u64 = 1 << 30;
/// Least room for the log and the repository before the daemon is in danger, and for a good while.
const STATE_MIN: (u64, u64) = (256 << 20, 2 << 30);
/// Least room for images and disks before none can be made, and for a few.
const POOL_MIN: (u64, u64) = (1 << 30, 10 << 30);
/// What the state's folder is called by who measures it.
const STATE: &str = "state";

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    system(facts, found);
    found.push(memory(facts));
    hugepages(facts, found);
    found.extend(facts.probes.disks.iter().map(|disk| {
        let (error, warning) = if disk.what == STATE { STATE_MIN } else { POOL_MIN };
        let severity = match disk.free {
            free if free < error => Severity::Error,
            free if free < warning => Severity::Warning,
            _ => Severity::Ok,
        };
        let read =
            format!("{} free of {} for the {}", size(disk.free), size(disk.total), disk.what);
        Finding::new(Check::HostDisk, severity, &disk.path, read)
    }));
    found.push(clock(facts));
    groups(facts, found);
    parameters(facts, found);
    for unread in &facts.unread {
        let finding = Finding::note(Check::HostUnread, &unread.path, &unread.why);
        found.push(finding.from(&unread.path));
    }
}

fn system(facts: &Facts, found: &mut Vec<Finding>) {
    let system = &facts.system;
    let mut read = system.name.clone().unwrap_or_else(|| "an unknown system".to_owned());
    if let Some(kernel) = &system.kernel {
        read.push_str(&format!(", Linux {kernel}"));
    }
    if let Some(product) = &system.product {
        read.push_str(&format!(", on {product}"));
    }
    found.push(match facts.has_apt() {
        true => Finding::ok(Check::HostSystem, "host", read),
        false => Finding::note(Check::HostSystem, "host", read),
    });
    found.push(match facts.marks.contains("run/systemd/system") {
        true => Finding::ok(Check::HostSystemd, "host", "systemd runs this host"),
        false => Finding::note(Check::HostSystemd, "host", "systemd does not run this host"),
    });
}

fn memory(facts: &Facts) -> Finding {
    let memory = &facts.memory;
    let (Some(total), Some(available)) = (memory.total, memory.available) else {
        return Finding::note(Check::HostMemory, "host", "the kernel does not tell")
            .remedy("mount /proc, without which little can be told of a host");
    };
    let read = format!("{} available of {}", size(available), size(total));
    match available < MEMORY_MIN {
        true => Finding::warning(Check::HostMemory, "host", read),
        false => Finding::ok(Check::HostMemory, "host", read),
    }
}

fn hugepages(facts: &Facts, found: &mut Vec<Finding>) {
    let memory = &facts.memory;
    let Some(total) = memory.total else { return };
    let transparent = memory.transparent.as_deref().unwrap_or("not known");
    if memory.huge_total == 0 {
        let read = format!("none reserved; transparent ones: {transparent}");
        found.push(match transparent {
            "never" => Finding::note(Check::HostHugepages, "host", read)
                .remedy("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
            _ => Finding::ok(Check::HostHugepages, "host", read),
        });
        return;
    }
    let reserved = memory.huge_total.saturating_mul(memory.huge_size);
    let idle = memory.huge_free.saturating_mul(memory.huge_size);
    let read = format!(
        "{} pages of {} reserved ({}), {} of them unused",
        memory.huge_total,
        size(memory.huge_size),
        size(reserved),
        memory.huge_free
    );
    // Half of all memory lying idle is more than a reserve.
    found.push(match idle > total / 2 {
        true => Finding::warning(Check::HostHugepages, "host", read),
        false => Finding::ok(Check::HostHugepages, "host", read),
    });
}

fn clock(facts: &Facts) -> Finding {
    let mark = |path: &str| facts.marks.contains(path);
    let daemons = ["chronyd", "ntpd", "ntpsec-ntpd", "ptp4l", "phc2sys"];
    if mark("run/systemd/timesync/synchronized") {
        return Finding::ok(Check::HostClock, "host", "systemd-timesyncd synchronised it");
    }
    if let Some(daemon) = daemons.into_iter().find(|name| facts.runs(name)) {
        return Finding::ok(Check::HostClock, "host", format!("{daemon} keeps it"));
    }
    if mark("run/chrony") {
        return Finding::ok(Check::HostClock, "host", "chrony keeps it");
    }
    if mark("run/systemd/timesync") {
        let read = "systemd-timesyncd has not synchronised it yet";
        return Finding::warning(Check::HostClock, "host", read)
            .remedy("timedatectl timesync-status: see that its server is reached (UDP port 123)");
    }
    if facts.units.contains_key("systemd-timesyncd.service") {
        return Finding::warning(Check::HostClock, "host", "nothing keeps it")
            .remedy("timedatectl set-ntp true");
    }
    let remedy = match facts.packages.keys().find(|name| name.starts_with("chrony")) {
        Some(_) => "systemctl enable --now chrony".to_owned(),
        None => format!(
            "{} && timedatectl set-ntp true",
            facts.install("systemd-timesyncd", "chrony or systemd-timesyncd")
        ),
    };
    Finding::warning(Check::HostClock, "host", "nothing keeps it").remedy(remedy)
}

fn groups(facts: &Facts, found: &mut Vec<Finding>) {
    let accounts = &facts.accounts;
    if !accounts.groups.contains_key("trueup") {
        let read = "there is no group trueup";
        found.push(match facts.units.contains_key("trueup.service") {
            true => Finding::warning(Check::HostGroups, "trueup", read).remedy("systemd-sysusers"),
            false => Finding::note(Check::HostGroups, "trueup", format!("{read} yet"))
                .remedy("make install && systemd-sysusers"),
        });
        return;
    }
    let (members, others): (Vec<_>, Vec<_>) =
        accounts.people().partition(|user| accounts.is_in(user, "trueup"));
    let names = |users: &[&crate::preflight::facts::User]| {
        users.iter().map(|user| user.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    found.push(match (members.is_empty(), others.first()) {
        (true, Some(first)) => {
            let read = format!("no person is a member: {} would have to be root", names(&others));
            Finding::note(Check::HostGroups, "trueup", read)
                .remedy(format!("usermod -aG trueup {}", first.name))
        }
        (true, None) => Finding::ok(Check::HostGroups, "trueup", "it is there"),
        (false, _) => Finding::ok(Check::HostGroups, "trueup", names(&members)),
    });
}

fn parameters(facts: &Facts, found: &mut Vec<Finding>) {
    let words = &facts.cmdline;
    if words.is_empty() {
        return;
    }
    found.push(Finding::ok(Check::HostParameters, "host", words.join(" ")));
    let foreign = match facts.cpu.vendor.as_deref() {
        Some("AuthenticAMD") => "intel_iommu=",
        Some("GenuineIntel") => "amd_iommu=",
        _ => return,
    };
    if let Some(word) = words.iter().find(|word| word.starts_with(foreign)) {
        let read = format!("{word} says nothing to this processor");
        found.push(Finding::note(Check::HostParameters, "host", read));
    }
}
