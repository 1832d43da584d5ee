//! How a drill boots what came back of a guest.
//!
//! What would have to be asked over the network is refused here: on the network the guest itself
//! answers, and not its copy.

use super::super::kinds::backup::{BackupBootSpec, BackupReadySpec, BootNetworkSpec};
use super::super::scalar;
use super::Cx;
use super::backup::{hooks, span};
use super::machine::CONSOLE_TEXT_MAX;
use crate::model::resource::{
    BackupBoot, BackupSource, BootNetwork, GuestPart, Probe, VirtualMachine,
};
use crate::model::{Kind, Name, Resource};

/// Where it is written.
const AT: &str = "/spec/drill/boot";
/// How long a boot may take where neither it nor the machine says, seconds.
const BOOT_S: u64 = 300;

pub(super) fn resolve(
    cx: &mut Cx<'_>,
    spec: &BackupBootSpec,
    source: Option<&BackupSource>,
) -> Option<BackupBoot> {
    // What is wrong with the source is told already.
    let BackupSource::Guest(guest) = source? else {
        cx.err("spec/conflict", AT, "only what is saved of a guest can be booted")
            .hint("leave it out, or save a `virtualMachine` or a `disk`");
        return None;
    };
    let (at, name) = machine(cx, spec, &guest.part)?;
    let found = cx.use_resolved(&at, Kind::VirtualMachine, &name)?;
    let Some(Resource::VirtualMachine(vm)) = found.own() else { return None };
    let machine = Name::new(&name).ok()?;
    if let GuestPart::Disk { name: disk, path, .. } = &guest.part
        && !vm.disks.iter().any(|it| it.path.as_ref() == Some(path) && !it.read_only)
    {
        let message = format!("vm/{machine} does not write to disk/{disk}");
        cx.err("spec/conflict", at, message).hint("name the one that does");
    }
    let ready = ready(cx, spec, &machine, vm);
    let timeout_s = match (spec.timeout.as_deref(), &vm.readiness) {
        (Some(text), _) => span(cx, &format!("{AT}/timeout"), Some(text)),
        (None, Some(readiness)) => Some(readiness.timeout_s),
        (None, None) => Some(BOOT_S),
    };
    let memory = spec.memory.as_ref().map(|it| {
        let bytes = cx.check(format!("{AT}/memory"), scalar::size(&it.0));
        bytes.map(|bytes| bytes.div_ceil(1024))
    });
    let commands = hooks(cx, &format!("{AT}/commands"), &spec.commands);
    if !spec.commands.is_empty() && !vm.guest_agent {
        no_agent(cx, &format!("{AT}/commands"), &machine);
    }
    Some(BackupBoot {
        machine,
        ready: ready?,
        timeout_s: timeout_s?,
        network: match spec.network {
            BootNetworkSpec::None => BootNetwork::None,
            BootNetworkSpec::Isolated => BootNetwork::Isolated,
        },
        memory_kib: memory.map_or(Some(None), |given| given.map(Some))?,
        commands: commands?,
    })
}

/// The machine that it is booted as, and where it is named.
fn machine(cx: &mut Cx<'_>, spec: &BackupBootSpec, part: &GuestPart) -> Option<(String, String)> {
    let here = format!("{AT}/virtualMachine");
    match (part, &spec.virtual_machine) {
        (GuestPart::Machine { name }, None) => {
            Some(("/spec/source/virtualMachine".to_owned(), name.to_string()))
        }
        (GuestPart::Machine { .. }, Some(_)) => {
            let message = "it is booted as the machine that is saved";
            cx.err("spec/conflict", here, message).hint("leave it out");
            None
        }
        (GuestPart::Disk { .. }, Some(name)) => Some((here, name.clone())),
        (GuestPart::Disk { .. }, None) => {
            let message = "nothing says as which machine the disk is booted";
            cx.err("spec/missing-field", AT, message)
                .hint("name the one that boots from it: `virtualMachine: web`");
            None
        }
    }
}

fn ready(
    cx: &mut Cx<'_>,
    spec: &BackupBootSpec,
    machine: &Name,
    vm: &VirtualMachine,
) -> Option<Probe> {
    let at = format!("{AT}/readiness");
    let probe = match &spec.readiness {
        Some(given) => asked(cx, &at, given)?,
        None => match &vm.readiness {
            Some(readiness) => match &readiness.probe {
                Probe::Tcp { .. } => {
                    let message = format!(
                        "the readiness of vm/{machine} is asked over the network, on which the \
                         guest answers and not its copy"
                    );
                    cx.err("spec/conflict", AT, message).hint(
                        "say what proves that the copy is up: `readiness: {guestAgent: true}` or \
                         `readiness: {console: \"login:\"}`",
                    );
                    return None;
                }
                probe => probe.clone(),
            },
            None if vm.guest_agent => Probe::GuestAgent,
            None => {
                let message = format!("nothing says when a copy of vm/{machine} is up");
                cx.err("spec/missing-field", AT, message).hint(
                    "give it, or the machine, a `readiness`: `readiness: {console: \"login:\"}`",
                );
                return None;
            }
        },
    };
    if probe == Probe::GuestAgent && !vm.guest_agent {
        no_agent(cx, &at, machine);
    }
    Some(probe)
}

fn asked(cx: &mut Cx<'_>, at: &str, given: &BackupReadySpec) -> Option<Probe> {
    match (given.guest_agent, &given.console) {
        (true, None) => Some(Probe::GuestAgent),
        (false, Some(line)) if !line.trim().is_empty() => {
            let line = scalar::line(line, CONSOLE_TEXT_MAX);
            let line = cx.check(format!("{at}/console"), line)?;
            Some(Probe::Console { line })
        }
        (false, Some(_)) => {
            cx.err("spec/wrong-value", format!("{at}/console"), "an empty text proves nothing");
            None
        }
        _ => {
            let message = "`readiness` needs one of `guestAgent: true` and `console`";
            cx.err("spec/conflict", at, message);
            None
        }
    }
}

fn no_agent(cx: &mut Cx<'_>, at: &str, machine: &Name) {
    let message = format!("vm/{machine} has no guest agent");
    cx.err("spec/conflict", at, message)
        .hint("give it `guestAgent: true`, and the guest the package `qemu-guest-agent`");
}
