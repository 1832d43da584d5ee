//! The judge's own view of a GPU that guests share: a vGPU goes only if it is ours and nobody runs
//! with it, and comes only if it is asked for and known to the log before.

use trueup_gpu_sysfs::{Action as Does, Condition, PciAddress, Step};

use super::super::Judge;
use crate::model::resource::{GpuKernel, GpuLayout, GpuMode, GpuShare, HostDevice, Vgpu};
use crate::model::{Resource, ResourceId};
use crate::plan::{Action, GpuSide};

/// What a step at the kernel's files does to a vGPU.
enum Part {
    /// Makes it.
    Make(HostDevice),
    /// Removes it.
    Remove(HostDevice),
    /// Turns virtual functions on, or off.
    Functions(bool),
}

impl Judge<'_> {
    /// One step on a GPU that is shared; `false`: it is about no vGPU.
    pub(super) fn share(
        &mut self,
        at: usize,
        id: &ResourceId,
        seen: &GpuLayout,
        kernel: &GpuKernel,
        does: &Step,
    ) -> bool {
        let Some(part) = part(does) else { return false };
        let plan = self.plan;
        let Some((to, _)) = plan.steps[at].action.handover() else { return false };
        let known = plan.steps[at].action.gpu_change().and_then(|it| it.memory.share.as_ref());
        let Some(known) = known else {
            self.blame(at, "changes a vGPU that is not written down before");
            return true;
        };
        let ours = seen.memory.as_ref().and_then(|memory| memory.share.as_ref());
        let wish = self.gpu_wish(id).filter(|wish| wish.mode == GpuMode::Vgpu);
        let wished = wish.map(|wish| wish.vgpus.clone()).unwrap_or_default();
        let shared = wish.is_some();
        match part {
            Part::Make(device) if to == GpuSide::Guests => {
                let claim = known.claims.iter().find(|it| it.device() == device);
                match claim {
                    None => self.blame(at, "makes a vGPU that is not written down before"),
                    Some(claim) if wished.iter().all(|it| it.name != claim.name) => {
                        self.blame(at, "makes a vGPU that nobody asks for");
                    }
                    Some(_) => {}
                }
            }
            Part::Remove(device) if to == GpuSide::Host => {
                self.vgpu_removed(at, &device, does, ours, &wished, kernel);
            }
            Part::Functions(true) if to == GpuSide::Guests && shared => {}
            Part::Functions(false) if to == GpuSide::Host && !shared => {
                if ours.is_some_and(|ours| ours.standing(&kernel.host).next().is_some()) {
                    self.blame(at, "turns off the functions of vGPUs that stand");
                }
                if !does.before.iter().any(|it| matches!(it, Condition::Free { .. })) {
                    self.blame(at, "turns functions off without looking who holds them");
                }
            }
            Part::Make(_) | Part::Remove(_) | Part::Functions(_) => {
                self.blame(at, "changes vGPUs although nobody asks for it");
            }
        }
        true
    }

    /// A vGPU goes only if it is ours and not asked for as it is, and nobody runs with it.
    fn vgpu_removed(
        &mut self,
        at: usize,
        device: &HostDevice,
        does: &Step,
        ours: Option<&GpuShare>,
        wished: &[Vgpu],
        kernel: &GpuKernel,
    ) {
        let claim = ours.and_then(|ours| ours.claims.iter().find(|it| it.device() == *device));
        let taken_over = claim.is_none() && self.taken_over(at, device);
        if claim.is_none() && !taken_over {
            self.blame(at, "removes a vGPU that is not ours");
        }
        if let (Some(ours), Some(claim)) = (ours, claim)
            && let Some(number) = claim.claim.number()
            && wished.iter().any(|it| it.name == claim.name && is_kind(it, number, ours, kernel))
        {
            self.blame(at, "removes a vGPU that is as it is asked for");
        }
        if !does.before.iter().any(|it| looks_at(it, device)) {
            self.blame(at, "removes a vGPU without looking who holds it");
        }
        for (vm, seen) in &self.input.observed.resources {
            let live = seen.live.as_ref().unwrap_or(&seen.config);
            let Resource::VirtualMachine(live) = live else { continue };
            if !seen.active || !live.devices().contains(&device) {
                continue;
            }
            let stops = |it: &Action| matches!(it, Action::VmStop { .. });
            if !self.before(at, vm, stops) {
                self.blame(at, format!("removes a vGPU of {vm}, which runs"));
            }
            if !self.plan.steps[at].interrupts.contains(vm) {
                self.blame(at, format!("interrupts {vm} without saying so"));
            }
        }
    }

    /// Whether a step takes from a domain what it has of a GPU.
    pub(in crate::plan::check) fn gpu_taken(&self, at: usize, vm: &ResourceId) -> bool {
        let Some((GpuSide::Host, does)) = self.plan.steps[at].action.handover() else {
            return false;
        };
        let device = match (part(does), &does.action) {
            (Some(Part::Remove(device)), _) => device,
            (None, Does::Write { path, value }) if path.ends_with("/unbind") => {
                HostDevice::Pci(value.clone())
            }
            _ => return false,
        };
        let seen = self.seen(vm);
        let live = seen.map(|seen| seen.live.as_ref().unwrap_or(&seen.config));
        matches!(live, Some(Resource::VirtualMachine(live)) if live.devices().contains(&&device))
    }

    /// Whether the layout takes over what bears an id of ours, and this is written down as such.
    fn taken_over(&self, at: usize, device: &HostDevice) -> bool {
        let step = &self.plan.steps[at];
        let known = step.action.gpu_change().and_then(|it| it.memory.share.as_ref());
        let takes = self.gpu_wish(&step.resource).is_some_and(|it| it.takeover == Some(true));
        let named = known.is_some_and(|it| it.claims.iter().any(|it| it.device() == *device));
        takes && named && matches!(device, HostDevice::Mdev(_))
    }
}

/// What a step does to a vGPU; `None`: nothing.
fn part(does: &Step) -> Option<Part> {
    let (path, value) = match &does.action {
        Does::Write { path, value } => (path, value),
        Does::Run { argv } => {
            return match argv.get(1).map(String::as_str) {
                Some("-e") => Some(Part::Functions(true)),
                Some("-d") => Some(Part::Functions(false)),
                _ => None,
            };
        }
        Does::Wait { .. } => return None,
    };
    let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match words.as_slice() {
        ["sys", "class", "mdev_bus", _, _, _, "create"] => {
            Some(Part::Make(HostDevice::Mdev(value.clone())))
        }
        ["sys", "bus", "mdev", "devices", uuid, "remove"] => {
            Some(Part::Remove(HostDevice::Mdev((*uuid).to_owned())))
        }
        [.., function, "nvidia", "current_vgpu_type"] => {
            let device = HostDevice::Pci((*function).to_owned());
            Some(if value == "0" { Part::Remove(device) } else { Part::Make(device) })
        }
        _ => None,
    }
}

/// Whether a condition asks who holds this device.
fn looks_at(condition: &Condition, device: &HostDevice) -> bool {
    let Condition::Free { functions, mediated } = condition else { return false };
    match device {
        HostDevice::Pci(at) => functions.iter().any(|it: &PciAddress| it.to_string() == *at),
        HostDevice::Mdev(uuid) => mediated.iter().any(|it| it.to_string() == *uuid),
    }
}

/// Whether a type that is asked for is the one with this number, as far as it has a name.
fn is_kind(wish: &Vgpu, number: u32, ours: &GpuShare, kernel: &GpuKernel) -> bool {
    let folder = format!("nvidia-{number}");
    if wish.kind == folder || wish.kind == number.to_string() {
        return true;
    }
    let functions = kernel.host.functions.values();
    let mediated = functions.clone().flat_map(|it| &it.mdev_types);
    let mediated = mediated.filter(|it| it.id == folder).map(|it| &it.name);
    let typed = functions.filter_map(|it| it.vendor.as_ref()).flat_map(|it| &it.creatable);
    let typed = typed.filter(|it| it.id == number).map(|it| &it.name);
    let told = ours.kinds.iter().filter(|it| it.id == number).map(|it| &it.name);
    let mut names = mediated.chain(typed).chain(told);
    names.any(|name| *name == wish.kind || name.ends_with(&format!(" {}", wish.kind)))
}
