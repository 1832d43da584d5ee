//! GPUs that go to guests, and come back: the steps of `trueup_gpu_sysfs`, journaled one by one.
//!
//! What was done already is seen and not planned again, so that a change which broke off anywhere is
//! taken up from there. A GPU that is cut is made whole first, in a plan of its own.

use std::collections::BTreeSet;

use trueup_gpu_sysfs::plan::{self, Passthrough, Release};
use trueup_gpu_sysfs::{Held, Holders, OnBusy as Busy, PciAddress, Refusal, Refused, Step, VFIO};

use super::super::super::diff::{Diff, segment};
use super::super::super::{
    Action, Disruption, FieldChange, GpuChange, GpuSide, Reason, SkipReason,
};
use super::super::{Case, Draft, Handed, Verdict};
use crate::model::ResourceId;
use crate::model::resource::{GpuHandover, GpuKernel, GpuLayout, GpuMemory, GpuMode, OnBusy};
use crate::plan::facts::Facts;

/// The driver of the host that a GPU goes back to where nobody remembers another.
const HOME: &str = "nvidia";

/// Decides on a GPU that goes to guests or comes back from them; `false`: it does neither, and is
/// decided on by how it is cut.
pub(super) fn decide(
    case: &Case<'_, '_>,
    to: &GpuLayout,
    from: &GpuLayout,
    verdict: &mut Verdict,
) -> bool {
    let memory = from.memory.as_deref().cloned().unwrap_or_default();
    let way = Way { facts: case.facts, id: case.id, reason: case.reason, to: Some(to), memory };
    match (to.mode, from.kernel.as_deref()) {
        (GpuMode::Passthrough, kernel) => {
            let owned = from.state.as_ref().is_some_and(|state| !state.co_owners.is_empty());
            let cut = from.state.as_ref().and_then(|state| state.mig);
            if (owned && to.takeover != Some(true))
                || cut.is_some_and(|mig| mig.current || mig.pending)
            {
                return false;
            }
            let Some(kernel) = kernel else {
                verdict.skip(unseen(), Vec::new());
                return true;
            };
            let drafts = way.give(kernel);
            if drafts.as_ref().is_ok_and(|drafts| !drafts.is_empty()) {
                verdict.handed = Some(Handed { whole: kernel.devices(), ..Handed::default() });
            }
            way.tell(verdict, drafts);
            true
        }
        (_, Some(kernel)) if way.memory.handover.is_some() => {
            let drafts = way.take(kernel);
            let nothing = drafts.as_ref().is_ok_and(Vec::is_empty);
            if !nothing {
                let takes = kernel.devices().into_iter().collect();
                verdict.handed = Some(Handed { takes, ..Handed::default() });
            }
            way.tell(verdict, drafts);
            // It is the host's again: what is left to do is a matter of its cut.
            !nothing
        }
        (_, _) => false,
    }
}

/// The steps that give back the GPU of a layout that the commit no longer asks for; `None`: guests
/// do not have it.
pub(super) fn remove(
    facts: &Facts<'_>,
    id: &ResourceId,
    claimed: Option<&GpuLayout>,
    from: &GpuLayout,
) -> Result<Option<Vec<Draft>>, SkipReason> {
    let memory = claimed.and_then(|it| it.memory.as_deref()).or(from.memory.as_deref());
    let Some(memory) = memory.filter(|it| it.handover.is_some()).cloned() else {
        return Ok(None);
    };
    let Some(kernel) = from.kernel.as_deref() else { return Err(unseen()) };
    let way = Way { facts, id, reason: Reason::Gone, to: claimed, memory };
    way.take(kernel).map(Some).map_err(|(why, _)| why)
}

/// Why nothing is done, with the differences that are left.
pub(super) type Left = (SkipReason, Vec<FieldChange>);

/// One GPU on its way.
struct Way<'a, 'w> {
    facts: &'a Facts<'w>,
    id: &'a ResourceId,
    reason: Reason,
    /// What is asked for, or was.
    to: Option<&'a GpuLayout>,
    memory: GpuMemory,
}

impl Way<'_, '_> {
    fn tell(&self, verdict: &mut Verdict, drafts: Result<Vec<Draft>, Left>) {
        match drafts {
            Ok(drafts) => drafts.into_iter().for_each(|draft| verdict.step(draft)),
            Err((why, changes)) => verdict.skip(why, changes),
        }
    }

    /// To vfio-pci.
    fn give(&self, kernel: &GpuKernel) -> Result<Vec<Draft>, Left> {
        let guest = self.to.and_then(|to| to.guest.clone()).unwrap_or_default();
        let wish = Passthrough {
            gpu: kernel.pci,
            with: guest.with.clone(),
            headless: guest.headless,
            on_busy: Busy::Refuse,
            mig: kernel.mig,
            persistence: kernel.persistence,
        };
        let planned = plan::bind(&kernel.host, &kernel.holders, &wish);
        let planned = planned.map_err(|why| (refusal(self.to, &why), mode(kernel, true)))?;
        let before = self.memory.handover.as_ref();
        let driver = kernel.driver().filter(|driver| *driver != VFIO).map(str::to_owned);
        // What went along with it is given back with it, also where the commit names it no more: in
        // one IOMMU group with what a guest has, it cannot be given back before.
        let ours = |at: &PciAddress| {
            let word = Some(VFIO);
            let function = kernel.host.functions.get(at);
            function.is_some_and(|it| {
                it.driver.as_deref() == word || it.driver_override.as_deref() == word
            })
        };
        let went = before.into_iter().flat_map(|before| before.with.iter().copied());
        let still: Vec<PciAddress> = went.filter(ours).collect();
        let handover = GpuHandover {
            pci: kernel.pci,
            model: kernel.model().unwrap_or_default(),
            uuid: kernel.uuid.clone().or_else(|| before?.uuid.clone()),
            driver: driver.or_else(|| before?.driver.clone()),
            with: guest.with.into_iter().chain(still).collect(),
        };
        let gpu = handover.uuid.clone();
        let memory = GpuMemory { gpu, handover: Some(handover), ..GpuMemory::default() };
        let mut changes = mode(kernel, true);
        changes.extend(drivers(kernel, &planned.steps));
        let disturbed = BTreeSet::from([self.id.clone()]);
        if planned.steps.is_empty() && (before.is_none() || self.is_recorded()) {
            return Ok(Vec::new());
        }
        let end = memory.clone();
        Ok(self.drafts(GpuSide::Guests, planned.steps, memory, end, changes, &disturbed))
    }

    /// Back to the driver that had it.
    fn take(&self, kernel: &GpuKernel) -> Result<Vec<Draft>, Left> {
        let Some(handover) = &self.memory.handover else { return Ok(Vec::new()) };
        let driver = match &handover.driver {
            Some(driver) => driver.clone(),
            // Nobody asks the host's driver for anything, and it did not have the GPU before.
            None if self.reason == Reason::Gone => return Ok(Vec::new()),
            None => HOME.to_owned(),
        };
        let wish =
            Release { gpu: kernel.pci, driver, with: handover.with.clone(), on_busy: Busy::Refuse };
        let devices = kernel.devices();
        let guests = self.facts.running_with_devices(&devices);
        let holders = without_guests(&kernel.holders, !guests.is_empty());
        let planned = plan::release(&kernel.host, &holders, &wish);
        let planned = planned.map_err(|why| (refusal(self.to, &why), mode(kernel, false)))?;
        let mut disturbed = BTreeSet::from([self.id.clone()]);
        for guest in guests {
            disturbed.extend(self.facts.interrupted_with(guest));
        }
        if planned.steps.is_empty() && (self.reason == Reason::Gone || !self.is_recorded()) {
            return Ok(Vec::new());
        }
        let mut changes = mode(kernel, false);
        changes.extend(drivers(kernel, &planned.steps));
        let memory = self.memory.clone();
        let end = GpuMemory { handover: None, ..memory.clone() };
        Ok(self.drafts(GpuSide::Host, planned.steps, memory, end, changes, &disturbed))
    }

    /// Whether the log has, under this very name, that guests have the GPU.
    fn is_recorded(&self) -> bool {
        self.facts.remembered(self.id).is_some_and(|memory| memory.handover.is_some())
    }

    /// The steps, and the proof that comes after them; `end` is what is remembered from there on.
    fn drafts(
        &self,
        to: GpuSide,
        steps: Vec<Step>,
        memory: GpuMemory,
        end: GpuMemory,
        changes: Vec<FieldChange>,
        disturbed: &BTreeSet<ResourceId>,
    ) -> Vec<Draft> {
        let known = memory.handover.as_ref();
        let gpu = known.and_then(|it| it.uuid.clone());
        let gpu = gpu.or_else(|| known.map(|it| it.pci.to_string())).unwrap_or_default();
        let on_busy = self.to.and_then(|to| to.on_busy).unwrap_or_default();
        let side = |step| {
            let disruption = if takes(&step) { Disruption::Restart } else { Disruption::None };
            (to, step, disruption)
        };
        let steps = steps.into_iter().map(side).collect();
        Change { gpu, on_busy, reason: self.reason, memory, end }.drafts(steps, changes, disturbed)
    }
}

/// One change at the kernel's files, as drafts.
pub(super) struct Change {
    /// UUID of the GPU; its PCI address where NVML never told one.
    pub(super) gpu: String,
    pub(super) on_busy: OnBusy,
    pub(super) reason: Reason,
    /// What is remembered from the first step on.
    pub(super) memory: GpuMemory,
    /// What is remembered once all is proved.
    pub(super) end: GpuMemory,
}

impl Change {
    /// The steps, each with who it is for and how much it disturbs, and the proof after them.
    pub(super) fn drafts(
        self,
        steps: Vec<(GpuSide, Step, Disruption)>,
        mut changes: Vec<FieldChange>,
        disturbed: &BTreeSet<ResourceId>,
    ) -> Vec<Draft> {
        let (gpu, on_busy) = (&self.gpu, self.on_busy);
        let change = |memory| Box::new(GpuChange { gpu: gpu.clone(), on_busy, memory });
        let mut drafts = Vec::new();
        for (to, step, disruption) in steps {
            let (step, change) = (Box::new(step), change(self.memory.clone()));
            let action = Action::GpuHandover { to, step, change };
            let draft = Draft::quiet(action, self.reason, std::mem::take(&mut changes));
            drafts.push(match disruption {
                Disruption::None => draft,
                some => draft.disturbing(some, disturbed.clone()),
            });
        }
        let settle = Action::GpuSettle { start: Vec::new(), change: change(self.end) };
        drafts.push(Draft::quiet(settle, self.reason, changes));
        for draft in drafts.iter_mut().skip(1).filter(|_| self.reason == Reason::Adopted) {
            // What is taken over is ours from its first step on.
            draft.reason = Reason::Changed;
        }
        drafts
    }
}

/// Nothing is decided from what was not seen.
pub(super) fn unseen() -> SkipReason {
    SkipReason::Unobservable("its files below /sys were not looked at".to_owned())
}

/// Why it cannot be, in the words of a plan.
pub(super) fn refusal(to: Option<&GpuLayout>, why: &Refused) -> SkipReason {
    let busy = |it: &Refusal| matches!(it, Refusal::Held { .. });
    let unread = |it: &Refusal| matches!(it, Refusal::Unread { .. } | Refusal::Unscanned { .. });
    let room = |it: &Refusal| matches!(it, Refusal::NoRoom { .. } | Refusal::UnknownType { .. });
    let text = why.to_string();
    let waits = to.and_then(|to| to.on_busy) == Some(OnBusy::Wait);
    match () {
        () if why.reasons.iter().any(unread) => SkipReason::Unobservable(text),
        () if why.reasons.iter().all(room) => SkipReason::Unplaceable(text),
        () if !why.reasons.iter().all(busy) => SkipReason::Conflict(text),
        () if waits => SkipReason::BusyWaits(text),
        () => SkipReason::Busy(text),
    }
}

/// Whether a step takes a function from whoever has it.
fn takes(step: &Step) -> bool {
    matches!(&step.action, trueup_gpu_sysfs::Action::Write { path, .. } if path.ends_with("/unbind"))
}

/// Holders but for guests that are seen to have the GPU: those are asked to stop first, and who holds
/// it is looked up again right before each step.
fn without_guests(holders: &Holders, guests: bool) -> Holders {
    let by_guest = |held: &Held| guests && matches!(held, Held::Group { .. } | Held::Function(_));
    let all = holders.all.iter().filter(|holder| !by_guest(&holder.holds)).cloned().collect();
    Holders { all, unread: holders.unread.clone() }
}

/// The mode, where it changes.
fn mode(kernel: &GpuKernel, given: bool) -> Vec<FieldChange> {
    let word = |given: bool| if given { "passthrough" } else { "whole" };
    let mut diff = Diff::default();
    let (from, to) = (word(kernel.is_given()), word(given));
    diff.field(format_args!("/mode"), &from, &to, Disruption::Restart);
    diff.changes
}

/// The driver of every function that is taken from one.
fn drivers(kernel: &GpuKernel, steps: &[Step]) -> Vec<FieldChange> {
    let mut diff = Diff::default();
    for (address, function) in &kernel.host.functions {
        let address = address.to_string();
        let goes = |step: &&Step| takes(step) && writes(step) == Some(&address);
        if let (Some(driver), Some(_)) = (&function.driver, steps.iter().find(goes)) {
            let path = format_args!("/drivers/{}", segment(&address)).to_string();
            diff.push(format_args!("{path}"), Some(driver), None, Disruption::Restart);
        }
    }
    diff.changes
}

/// What a step writes.
fn writes(step: &Step) -> Option<&String> {
    match &step.action {
        trueup_gpu_sysfs::Action::Write { value, .. } => Some(value),
        _ => None,
    }
}
