//! What virtual machines need: a processor, KVM, libvirt, QEMU and a few programs.

use crate::preflight::catalogue::Check;
use crate::preflight::facts::Facts;
use crate::preflight::finding::Finding;

/// The oldest versions trueup is tried with: those of Debian 12.
const LIBVIRT_TRIED: (u32, u32) = (9, 0);
const QEMU_TRIED: (u32, u32) = (7, 2);

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    kvm(facts, found);
    access(facts, found);
    libvirt(facts, found);
    found.push(qemu(facts));
    let tool = |(program, package): &(&str, &str)| match facts.programs.contains_key(program) {
        true => None,
        false => {
            let remedy = facts.install(package, program);
            let read = format!("{program} is not installed");
            Some(Finding::error(Check::VmTools, *program, read).remedy(remedy))
        }
    };
    let needed = [("qemu-img", "qemu-utils"), ("dnsmasq", "dnsmasq-base")];
    let missing: Vec<Finding> = needed.iter().filter_map(tool).collect();
    if missing.is_empty() {
        found.push(Finding::ok(Check::VmTools, "host", "qemu-img and dnsmasq are there"));
    }
    found.extend(missing);
    images(facts, found);
}

/// One finding for one cause: a processor that cannot needs no word about the device.
fn kvm(facts: &Facts, found: &mut Vec<Finding>) {
    let (cpu, device) = (&facts.cpu, facts.marks.contains("dev/kvm"));
    match (cpu.has_flags, cpu.virtualisation) {
        (_, Some(flag)) => {
            found.push(Finding::ok(Check::CpuVirtualisation, "cpu", format!("it has {flag}")));
        }
        (true, None) => {
            let place = if cpu.guest { " (this is a virtual machine)" } else { "" };
            let read = format!("neither vmx nor svm{place}: guests are emulated");
            found.push(Finding::warning(Check::CpuVirtualisation, "cpu", read));
            return;
        }
        // Processors without such flags tell by the device alone.
        (false, None) => {}
    }
    if !device {
        let loaded: Vec<_> =
            facts.modules.keys().filter(|name| name.starts_with("kvm")).cloned().collect();
        let read = match loaded.is_empty() {
            true => "there is no /dev/kvm, and no module of KVM".to_owned(),
            false => format!("there is no /dev/kvm, though {} is loaded", loaded.join(", ")),
        };
        let finding = Finding::error(Check::KvmDevice, "/dev/kvm", read);
        found.push(match cpu.virtualisation {
            Some("vmx") => finding.remedy("modprobe kvm_intel; if it refuses: dmesg | grep -i kvm, and VT-x in the firmware's setup"),
            Some("svm") => finding.remedy("modprobe kvm_amd; if it refuses: dmesg | grep -i kvm, and SVM in the firmware's setup"),
            _ => finding,
        });
        return;
    }
    found.push(Finding::ok(Check::KvmDevice, "/dev/kvm", "it is there"));
    if let Some(probe) = &facts.probes.kvm {
        found.push(match probe.works {
            true => Finding::ok(Check::KvmProbe, "/dev/kvm", &probe.said),
            false => Finding::error(Check::KvmProbe, "/dev/kvm", &probe.said),
        });
    }
}

/// Debian runs QEMU as `libvirt-qemu`, others as `qemu`.
fn access(facts: &Facts, found: &mut Vec<Finding>) {
    let accounts = &facts.accounts;
    let user = ["libvirt-qemu", "qemu"].into_iter().find_map(|name| accounts.user(name));
    let Some(user) = user else { return };
    if !accounts.groups.contains_key("kvm") {
        return;
    }
    let name = &user.name;
    found.push(match accounts.is_in(user, "kvm") {
        true => Finding::ok(Check::KvmAccess, name, "it is in the group kvm"),
        false => Finding::warning(Check::KvmAccess, name, "it is not in the group kvm")
            .remedy(format!("usermod -aG kvm {name} && systemctl restart libvirtd")),
    });
}

fn libvirt(facts: &Facts, found: &mut Vec<Finding>) {
    let daemon = ["libvirtd", "virtqemud"].into_iter().find_map(|name| facts.programs.get(name));
    let Some(daemon) = daemon else {
        let remedy = facts.install("libvirt-daemon-system", "libvirt's daemon");
        let finding = Finding::error(Check::LibvirtVersion, "libvirt", "it is not installed");
        found.push(finding.remedy(remedy));
        return;
    };
    let packages = ["libvirt-daemon", "libvirt-daemon-system"];
    let version = known(facts, facts.probes.libvirt.as_deref(), &packages);
    found.push(tried(Check::LibvirtVersion, "libvirt", daemon, version, LIBVIRT_TRIED));
    let sockets = ["run/libvirt/libvirt-sock", "run/libvirt/virtqemud-sock"];
    found.push(match sockets.into_iter().find(|path| facts.marks.contains(path)) {
        Some(path) => Finding::ok(Check::LibvirtSocket, "libvirt", format!("/{path} is there")),
        None => {
            let unit = if daemon.ends_with("virtqemud") { "virtqemud" } else { "libvirtd" };
            let finding = Finding::error(Check::LibvirtSocket, "libvirt", "nobody listens");
            match facts.marks.contains("run/systemd/system") {
                true => finding.remedy(format!("systemctl enable --now {unit}.socket")),
                false => finding.remedy(format!("start {unit} -d")),
            }
        }
    });
}

fn qemu(facts: &Facts) -> Finding {
    let names = ["qemu-system-x86_64", "qemu-system-aarch64", "qemu-kvm"];
    let Some(program) = names.into_iter().find_map(|name| facts.programs.get(name)) else {
        let remedy = facts.install("qemu-system-x86", "QEMU");
        return Finding::error(Check::QemuVersion, "qemu", "it is not installed").remedy(remedy);
    };
    let packages = ["qemu-system-x86", "qemu-system-arm"];
    let version = known(facts, facts.probes.qemu.as_deref(), &packages);
    tried(Check::QemuVersion, "qemu", program, version, QEMU_TRIED)
}

/// What the program said, or the package has.
fn known(facts: &Facts, said: Option<&str>, packages: &[&str]) -> Option<String> {
    let packaged = || packages.iter().find_map(|name| facts.packages.get(*name)).cloned();
    said.map(str::to_owned).or_else(packaged)
}

fn tried(
    check: Check,
    subject: &str,
    program: &str,
    version: Option<String>,
    least: (u32, u32),
) -> Finding {
    let Some(version) = version else {
        return Finding::ok(check, subject, format!("{program}; its version is not known"));
    };
    match number(&version) {
        Some(have) if have < least => {
            let read = format!("{version}; trueup is tried with {}.{} and later", least.0, least.1);
            Finding::warning(check, subject, read).remedy(format!("update {subject}"))
        }
        _ => Finding::ok(check, subject, version),
    }
}

/// Major and minor of the first version in a text: of `QEMU emulator version 7.2.22 (Debian …)`, and
/// of `1:7.2+dfsg-7`, where an epoch stands before.
fn number(text: &str) -> Option<(u32, u32)> {
    let text = match text.split_once(':') {
        Some((epoch, version)) if epoch.bytes().all(|b| b.is_ascii_digit()) => version,
        _ => text,
    };
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let digits = text[start..].split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = digits.split('.').map_while(|part| part.parse().ok());
    Some((parts.next()?, parts.next().unwrap_or_default()))
}

fn images(facts: &Facts, found: &mut Vec<Finding>) {
    let tools = [("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs"), ("busctl", "systemd dbus")];
    let missing: Vec<_> =
        tools.iter().filter(|(program, _)| !facts.programs.contains_key(program)).collect();
    if missing.is_empty() {
        let read = "mmdebstrap, mke2fs and busctl are there";
        found.push(Finding::ok(Check::ImageTools, "host", read));
        return;
    }
    let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    let read = format!("{} not installed", names.join(", "));
    let remedy = facts.install(&packages.join(" "), &names.join(", "));
    found.push(Finding::note(Check::ImageTools, "host", read).remedy(remedy));
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn versions_are_found_in_what_programs_and_packages_say() {
        for (text, wanted) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", Some((7, 2))),
            ("1:7.2+dfsg-7+deb12u16", Some((7, 2))),
            ("libvirtd (libvirt) 9.0.0", Some((9, 0))),
            ("9.0.0-4+deb12u2", Some((9, 0))),
            ("10", Some((10, 0))),
            ("none", None),
        ] {
            assert_eq!(number(text), wanted, "{text}");
        }
    }
}
