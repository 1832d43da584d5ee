//! The judge's own view of a GPU that goes to guests or comes back: nothing that somebody has is
//! taken, and both ends are what was asked for.

use trueup_gpu_sysfs::{Action as Does, Condition, PciAddress, VFIO};

use super::super::Judge;
use crate::model::resource::{GpuKernel, GpuLayout, GpuMode, HostDevice};
use crate::model::{Resource, ResourceId};
use crate::plan::{Action, GpuSide, Reason};

impl Judge<'_> {
    /// One GPU that changes hands, by its steps in order.
    pub(super) fn handover(&mut self, id: &ResourceId, seen: &GpuLayout, steps: &[usize]) {
        let Some(kernel) = seen.kernel.as_deref() else {
            return self.blame(steps[0], "hands over a GPU whose files were not seen");
        };
        let wish = match self.input.desired.resources.get(id).map(|it| &it.resource) {
            Some(Resource::GpuLayout(wish)) => Some(wish.mode),
            _ => None,
        };
        if wish.is_none() && (!self.input.guards.prune || !self.input.desired.sync.prune) {
            self.blame(steps[0], "removes while pruning is off");
        }
        let plan = self.plan;
        for &at in steps {
            let step = &plan.steps[at];
            let Some((to, does)) = step.action.handover() else {
                if !matches!(step.action, Action::GpuSettle { .. }) {
                    self.blame(at, "does something else to a GPU that changes hands");
                }
                continue;
            };
            let asked = match to {
                GpuSide::Guests => {
                    matches!(wish, Some(GpuMode::Passthrough | GpuMode::Vgpu))
                }
                GpuSide::Host => {
                    wish.is_some_and(|mode| mode != GpuMode::Passthrough)
                        || seen.memory.as_ref().is_some_and(|memory| memory.share.is_some())
                        || (wish.is_none() && step.reason == Reason::Gone)
                }
            };
            if !asked {
                self.blame(at, "hands over a GPU although nobody asks for it");
            }
            if self.share(at, id, seen, kernel, does) {
                continue;
            }
            let Does::Write { path, value } = &does.action else { continue };
            let function = value.parse::<PciAddress>();
            // One that the vendor's tool left without its driver gets it back.
            let gpu = kernel.host.functions.get(&kernel.pci).filter(|it| it.is_adrift());
            let returns = gpu.filter(|it| function.as_ref() == Ok(&it.address));
            if to == GpuSide::Guests && wish == Some(GpuMode::Vgpu) && returns.is_none() {
                self.blame(at, "takes a GPU from the driver that its vGPUs need");
            }
            let Ok(function) = function else { continue };
            if path.ends_with("/unbind") && returns.is_none_or(|it| it.driver.is_none()) {
                self.unbound(at, kernel, function, to);
            }
            let free = |it: &Condition| matches!(it, Condition::Free { functions, .. } if functions.contains(&function));
            if path.ends_with("/unbind") && !does.before.iter().any(free) {
                self.blame(at, "takes a function without looking who holds it");
            }
        }
    }

    /// A function is taken only from whom nobody asks for it, and only if nobody has it.
    fn unbound(&mut self, at: usize, kernel: &GpuKernel, function: PciAddress, to: GpuSide) {
        let found = kernel.host.functions.get(&function);
        let Some(driver) = found.and_then(|it| it.driver.as_deref()) else {
            return self.blame(at, "takes a function that no driver was seen to have");
        };
        if (driver == VFIO) != (to == GpuSide::Host) {
            self.blame(at, format!("takes {function} from {driver}, which is to have it"));
        }
        let device = HostDevice::Pci(function.to_string());
        for (vm, seen) in &self.input.observed.resources {
            let live = seen.live.as_ref().unwrap_or(&seen.config);
            let Resource::VirtualMachine(live) = live else { continue };
            if !seen.active || !live.devices().contains(&&device) {
                continue;
            }
            let stops = |it: &Action| matches!(it, Action::VmStop { .. });
            if !self.before(at, vm, stops) {
                self.blame(at, format!("takes {function} from {vm}, which runs"));
            }
            if !self.plan.steps[at].interrupts.contains(vm) {
                self.blame(at, format!("interrupts {vm} without saying so"));
            }
        }
        let held = kernel.holders.of(&[function], &[]);
        if to == GpuSide::Guests && !held.is_empty() {
            self.blame(at, format!("takes {function}, which {} uses", held[0]));
        }
    }
}
