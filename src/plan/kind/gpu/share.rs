//! GPUs that guests share: vGPUs made and removed by the steps of `trueup_gpu_sysfs`, journaled one by
//! one.
//!
//! One plan is one stage: virtual functions on, then what is too much removed, then what is missing
//! made. What there is room for only shows once the stage before is done, so the next plan goes on
//! from there. What was done already is seen and not planned again.

use std::collections::{BTreeMap, BTreeSet};

use trueup_gpu_sysfs::plan::{self, VgpuRequest, VgpuWish};
use trueup_gpu_sysfs::{
    Backend, Claim, Held, Holders, OnBusy as Busy, PciAddress, Place, Plan, Step, VgpuKind,
};
use uuid::Uuid;

use super::super::super::diff::{Diff, segment};
use super::super::super::{Disruption, FieldChange, GpuSide, Reason, SkipReason};
use super::super::{Case, Draft, Handed, Verdict};
use super::handover::{self, Left};
use crate::model::resource::{
    GpuKernel, GpuLayout, GpuMemory, GpuMode, GpuShare, HostDevice, Vgpu, VgpuClaim,
};
use crate::model::{ResourceId, uuid_for_part};
use crate::plan::facts::Facts;

/// Decides on a GPU that guests share, or are to share no more; `false`: neither, or nothing is left
/// to do for that.
pub(super) fn decide(
    case: &Case<'_, '_>,
    to: &GpuLayout,
    from: &GpuLayout,
    verdict: &mut Verdict,
) -> bool {
    let memory = from.memory.as_deref();
    let wanted = to.mode == GpuMode::Vgpu;
    let before = memory.and_then(|memory| memory.share.clone());
    if !wanted && before.is_none() {
        return false;
    }
    let given = memory.is_some_and(|memory| memory.handover.is_some());
    let state = from.state.as_ref();
    let owned = state.is_some_and(|it| !it.co_owners.is_empty()) && to.takeover != Some(true);
    let cut = state.and_then(|state| state.mig).is_some_and(|mig| mig.current || mig.pending);
    if wanted && (given || owned || cut) {
        // It comes back, or is made whole, first.
        return false;
    }
    let Some(kernel) = from.kernel.as_deref() else {
        verdict.skip(handover::unseen(), Vec::new());
        return true;
    };
    let share = Share { facts: case.facts, id: case.id, reason: case.reason, to: Some(to), kernel };
    match share.stage(before.as_ref(), wanted) {
        Ok(stage) => {
            let nothing = stage.drafts.is_empty();
            stage.drafts.into_iter().for_each(|draft| verdict.step(draft));
            verdict.handed = Some(stage.handed);
            wanted || !nothing
        }
        Err((why, changes)) => {
            verdict.skip(why, changes);
            true
        }
    }
}

/// The steps that take ours off the GPU of a layout that the commit no longer asks for; `None`: nobody
/// shares it.
pub(super) fn remove(
    facts: &Facts<'_>,
    id: &ResourceId,
    claimed: Option<&GpuLayout>,
    from: &GpuLayout,
) -> Result<Option<Vec<Draft>>, SkipReason> {
    let memory = claimed.and_then(|it| it.memory.as_deref()).or(from.memory.as_deref());
    let Some(before) = memory.and_then(|memory| memory.share.as_ref()) else { return Ok(None) };
    let Some(kernel) = from.kernel.as_deref() else { return Err(handover::unseen()) };
    let share = Share { facts, id, reason: Reason::Gone, to: claimed, kernel };
    share.stage(Some(before), false).map(|stage| Some(stage.drafts)).map_err(|(why, _)| why)
}

/// One GPU that is shared.
struct Share<'a, 'w> {
    facts: &'a Facts<'w>,
    id: &'a ResourceId,
    reason: Reason,
    /// What is asked for, or was.
    to: Option<&'a GpuLayout>,
    kernel: &'a GpuKernel,
}

/// What is done next.
struct Stage {
    drafts: Vec<Draft>,
    handed: Handed,
}

impl Share<'_, '_> {
    /// The next stage; `wanted`: towards what is asked for, else towards nothing.
    fn stage(&self, before: Option<&GpuShare>, wanted: bool) -> Result<Stage, Left> {
        let asked = self.to.filter(|_| wanted).map(|to| to.vgpus.as_slice()).unwrap_or_default();
        let wishes: Vec<(&Vgpu, Uuid)> =
            asked.iter().map(|vgpu| (vgpu, self.vgpu_id(before, vgpu))).collect();
        let claims = self.claims(before, &wishes);
        let removed = self.removed(before, &wishes, &claims);
        let guests = self.facts.running_with_devices(&removed);
        let holders = self.without_guests(&removed);
        let told = before.map(GpuShare::names).unwrap_or_default();
        let request = VgpuRequest {
            gpu: self.kernel.pci,
            wishes: wishes.iter().map(|(vgpu, id)| wish(vgpu, *id)).collect(),
            claims,
            kinds: told.clone(),
            heterogeneous: self.to.is_some_and(|to| to.mixed_sizes),
            on_busy: Busy::Refuse,
        };
        let planned = plan::vgpus(&self.kernel.host, &holders, &request);
        let planned = planned.map_err(|why| (handover::refusal(self.to, &why), Vec::new()))?;
        let name = |id: Uuid| {
            let wished = wishes.iter().find(|(_, it)| *it == id).map(|(vgpu, _)| &vgpu.name);
            wished.cloned().or_else(|| before?.name(id).map(str::to_owned))
        };
        let turns_on = |step: &Step| matches!(step.action, trueup_gpu_sysfs::Action::Run { .. });
        let up = planned.steps.iter().any(turns_on);
        let memory = GpuShare {
            pci: self.kernel.pci,
            claims: named(&planned.claims, name),
            kinds: self.kinds(&told, &planned.claims),
            functions: up || before.is_some_and(|before| before.functions),
            open: planned.again,
        };
        if !wanted && planned.steps.is_empty() {
            return self.end(before, memory);
        }
        let gone = |claim: &VgpuClaim| planned.steps.iter().any(|it| claim.claim.is_removed_by(it));
        let mut end = memory.clone();
        let is_wished = |id: Uuid| wishes.iter().any(|(_, it)| *it == id);
        end.claims.retain(|claim| !gone(claim) && is_wished(claim.claim.id));
        let handed = self.handed(&planned, &end, &memory);
        end.open = planned.again && handed.gives.len() < wishes.len();
        if planned.steps.is_empty() && before == Some(&end) && self.is_recorded() {
            return Ok(Stage { drafts: Vec::new(), handed });
        }
        let mut disturbed = BTreeSet::from([self.id.clone()]);
        for guest in guests {
            disturbed.extend(self.facts.interrupted_with(guest));
        }
        // Once nothing of ours stands, and no function has to go, nobody shares it any more.
        let over = !wanted && !end.functions && handed.gives.is_empty();
        let drafts = self.drafts(planned, memory, (!over).then_some(end), before, &disturbed);
        Ok(Stage { drafts, handed })
    }

    /// Nothing of ours stands any more: the virtual functions that were turned on for it go too.
    fn end(&self, before: Option<&GpuShare>, memory: GpuShare) -> Result<Stage, Left> {
        let (host, holders) = (&self.kernel.host, &self.kernel.holders);
        let off = match memory.functions {
            true => plan::functions_down(host, holders, self.kernel.pci, Busy::Refuse)
                .map_err(|why| (handover::refusal(self.to, &why), Vec::new()))?,
            false => Plan::default(),
        };
        if off.steps.is_empty() && self.reason == Reason::Gone {
            return Ok(Stage { drafts: Vec::new(), handed: Handed::default() });
        }
        let alone = BTreeSet::from([self.id.clone()]);
        let drafts = self.drafts(off, memory, None, before, &alone);
        Ok(Stage { drafts, handed: Handed::default() })
    }

    /// The id of a vGPU: the one it has, else the same for the same environment, GPU and name.
    fn vgpu_id(&self, before: Option<&GpuShare>, vgpu: &Vgpu) -> Uuid {
        let known = before.into_iter().flat_map(|before| &before.claims);
        let known = known.filter(|claim| claim.name == vgpu.name).map(|it| it.claim.id).next();
        known.unwrap_or_else(|| {
            let part = format!("{}/{}", self.kernel.pci, vgpu.name);
            uuid_for_part(self.facts.environment(), self.id, &part)
        })
    }

    /// What is ours: as remembered, and a mediated device that bears an id of ours, where the layout
    /// says that such is to be taken over.
    fn claims(&self, before: Option<&GpuShare>, wishes: &[(&Vgpu, Uuid)]) -> Vec<Claim> {
        let known = before.into_iter().flat_map(|before| &before.claims);
        let mut claims: Vec<Claim> = known.map(|it| it.claim.clone()).collect();
        if self.to.is_some_and(|to| to.takeover == Some(true)) {
            for (_, id) in wishes {
                let mut all = self.kernel.host.mediated_of(self.kernel.pci);
                let Some(found) = all.find(|it| it.uuid == *id) else { continue };
                if claims.iter().all(|claim| claim.id != *id) {
                    let (parent, kind) = (found.parent, found.kind.clone());
                    let place = Place::Mediated { parent, kind };
                    let boot = self.kernel.host.boot.clone();
                    claims.push(Claim { id: *id, boot, place });
                }
            }
        }
        claims
    }

    /// What guests lose: what stands, is ours, and is asked for no more, or as another type.
    fn removed(
        &self,
        before: Option<&GpuShare>,
        wishes: &[(&Vgpu, Uuid)],
        claims: &[Claim],
    ) -> Vec<HostDevice> {
        let told = before.map(GpuShare::names).unwrap_or_default();
        let (host, gpu) = (&self.kernel.host, self.kernel.pci);
        let stays = |claim: &Claim| {
            let wish = wishes.iter().find(|(_, id)| *id == claim.id);
            wish.is_some_and(|(vgpu, _)| {
                plan::kind_number(host, gpu, &told, &vgpu.kind) == claim.number()
            })
        };
        let goes = claims.iter().filter(|claim| claim.stands(host) && !stays(claim));
        goes.map(|claim| VgpuClaim { name: String::new(), claim: claim.clone() }.device()).collect()
    }

    /// Types by number, as far as they were ever told. Of mediated devices those in use are enough:
    /// their files always tell all of them.
    fn kinds(&self, told: &BTreeMap<u32, String>, claims: &[Claim]) -> Vec<VgpuKind> {
        let (host, gpu) = (&self.kernel.host, self.kernel.pci);
        let all = host.backend(gpu) != Backend::Mdev;
        let used = |id: &u32| claims.iter().any(|claim| claim.number() == Some(*id));
        let known = plan::kinds(host, gpu, told).into_iter().filter(|(id, _)| all || used(id));
        known.map(|(id, name)| VgpuKind { id, name }).collect()
    }

    /// What guests have after this stage, and what they had before it and lose.
    fn handed(&self, planned: &Plan, end: &GpuShare, memory: &GpuShare) -> Handed {
        let there = |claim: &&VgpuClaim| {
            let made = planned.steps.iter().any(|step| claim.claim.is_made_by(step));
            made || claim.claim.stands(&self.kernel.host)
        };
        let gives = end.claims.iter().filter(there).map(|it| (it.name.clone(), it.device()));
        let gone = memory.claims.iter().filter(|it| !end.claims.contains(it));
        let takes = gone.filter(|it| it.claim.stands(&self.kernel.host)).map(VgpuClaim::device);
        Handed { gives: gives.collect(), takes: takes.collect(), ..Handed::default() }
    }

    /// Whether the log has, under this very name, that guests share the GPU.
    fn is_recorded(&self) -> bool {
        self.facts.remembered(self.id).is_some_and(|memory| memory.share.is_some())
    }

    /// The steps, and the proof that comes after them; `end` is what is remembered from there on.
    fn drafts(
        &self,
        planned: Plan,
        memory: GpuShare,
        end: Option<GpuShare>,
        before: Option<&GpuShare>,
        disturbed: &BTreeSet<ResourceId>,
    ) -> Vec<Draft> {
        let changes = self.changes(&planned, before, end.as_ref());
        let side = |step: Step| {
            let gone = memory.claims.iter().any(|it| it.claim.is_removed_by(&step));
            let side = if gone || end.is_none() { GpuSide::Host } else { GpuSide::Guests };
            (side, step, if gone { Disruption::Restart } else { Disruption::None })
        };
        let steps = planned.steps.into_iter().map(side).collect();
        let gpu = &self.kernel.uuid;
        let share = |share| GpuMemory { gpu: gpu.clone(), share, ..GpuMemory::default() };
        let change = handover::Change {
            gpu: self.kernel.uuid.clone().unwrap_or_else(|| self.kernel.pci.to_string()),
            on_busy: self.to.and_then(|to| to.on_busy).unwrap_or_default(),
            reason: self.reason,
            memory: share(Some(memory)),
            end: share(end),
        };
        change.drafts(steps, changes, disturbed)
    }

    /// The mode, and every vGPU that comes or goes, by its type's number.
    fn changes(
        &self,
        planned: &Plan,
        before: Option<&GpuShare>,
        end: Option<&GpuShare>,
    ) -> Vec<FieldChange> {
        let mut diff = Diff::default();
        let word = |share: Option<&GpuShare>| if share.is_some() { "vgpu" } else { "whole" };
        diff.field(format_args!("/mode"), &word(before), &word(end), Disruption::None);
        let all = before.into_iter().chain(end).flat_map(|share| &share.claims);
        let names: BTreeMap<&String, &Claim> = all.map(|it| (&it.name, &it.claim)).collect();
        for (name, claim) in names {
            let kind = claim.number().map(|number| format!("nvidia-{number}"));
            let made = planned.steps.iter().any(|step| claim.is_made_by(step));
            let gone = planned.steps.iter().any(|step| claim.is_removed_by(step));
            let (from, to) = match (made, gone) {
                (true, _) => (None, kind),
                (false, true) => (kind, None),
                (false, false) => continue,
            };
            let disruption = if to.is_none() { Disruption::Restart } else { Disruption::None };
            let path = format_args!("/vgpus/{}", segment(name)).to_string();
            diff.optional(format_args!("{path}"), &from, &to, disruption);
        }
        diff.changes
    }

    /// Holders but for guests that are seen to have what is to go: those are asked to stop first, and
    /// who holds it is looked up again right before each step.
    fn without_guests(&self, removed: &[HostDevice]) -> Holders {
        let has_guest = |device: &&HostDevice| {
            !self.facts.running_with_devices(std::slice::from_ref(*device)).is_empty()
        };
        let asked: Vec<&HostDevice> = removed.iter().filter(has_guest).collect();
        let mut holders = self.kernel.holders.clone();
        holders.all.retain(|holder| !asked.iter().any(|device| holds(&holder.holds, device)));
        holders
    }
}

/// Whether a handle is one of this device.
fn holds(held: &Held, device: &HostDevice) -> bool {
    let pci = |at: &PciAddress| matches!(device, HostDevice::Pci(it) if *it == at.to_string());
    let mdev = |uuid: &Uuid| matches!(device, HostDevice::Mdev(it) if *it == uuid.to_string());
    match held {
        Held::Function(at) => pci(at),
        Held::Mediated(uuid) => mdev(uuid),
        Held::Group { functions, mediated, .. } => {
            functions.iter().any(pci) || mediated.iter().any(mdev)
        }
        Held::Gpu(_) | Held::Instance { .. } | Held::Unresolved => false,
    }
}

fn wish(vgpu: &Vgpu, id: Uuid) -> VgpuWish {
    VgpuWish { id, kind: vgpu.kind.clone(), gpu_instance: None, placement: None }
}

/// Claims by the names they stand for, in their order.
fn named(claims: &[Claim], name: impl Fn(Uuid) -> Option<String>) -> Vec<VgpuClaim> {
    let one = |claim: &Claim| VgpuClaim {
        name: name(claim.id).unwrap_or_else(|| claim.id.to_string()),
        claim: claim.clone(),
    };
    let mut all: Vec<VgpuClaim> = claims.iter().map(one).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}
