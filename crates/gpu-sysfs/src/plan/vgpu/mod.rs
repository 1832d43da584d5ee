//! vGPUs made and removed, by both of the driver's ways.
//!
//! In stages, each planned from a new observation: the GPU with its driver again, where the vendor's
//! tool was ended half-way; virtual functions on; what is too much removed; what is missing made. What
//! can be made depends on what is left, so that creations are never decided before the removals have
//! happened.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::claim::{Claim, Place, Standing};
use super::{Note, OnBusy, Plan, busy, free, gpu, refuse, unread, vfs};
use crate::address::PciAddress;
use crate::condition::Condition;
use crate::holders::Holders;
use crate::observe::{Backend, Function, Host, Sriov};
use crate::refusal::{Refusal, Refused};
use crate::step::Step;

mod kinds;
mod place;

use kinds::Catalogue;
pub use kinds::is_on_instance;
pub(super) use kinds::number;

/// One vGPU that is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VgpuWish {
    /// Its id, and the UUID of a mediated device.
    pub id: Uuid,
    /// Its type: the whole name (`NVIDIA A40-8Q`), the name without the maker, or the number.
    pub kind: String,
    /// The GPU instance it is to be on, for a GPU that is cut; only with the vendor's VFIO driver.
    pub gpu_instance: Option<u32>,
    /// Its placement id; only with the vendor's VFIO driver.
    pub placement: Option<u32>,
}

/// All vGPUs that are to be on one GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VgpuRequest {
    /// The GPU.
    pub gpu: PciAddress,
    /// All that are to be; a claim without a wish is removed.
    pub wishes: Vec<VgpuWish>,
    /// The claims on this GPU, as kept of earlier plans.
    pub claims: Vec<Claim>,
    /// Types that the GPU can have at all, by number, as NVML tells. With the vendor's VFIO driver the
    /// files list only what there is room for now: without this, the name of a type that fills the
    /// GPU is refused as unknown.
    pub kinds: BTreeMap<u32, String>,
    /// Whether the GPU is set to take vGPUs of different sizes, as NVML tells.
    pub heterogeneous: bool,
    /// What to do where one that is to be removed is held.
    pub on_busy: OnBusy,
}

/// The steps that bring about what is wished, or the next stage of them.
///
/// # Errors
/// Every reason that speaks against it.
pub fn vgpus(host: &Host, holders: &Holders, request: &VgpuRequest) -> Result<Plan, Refused> {
    let gpu = gpu(host, request.gpu)?;
    let mut functions = vec![gpu];
    functions.extend(host.virtual_functions(gpu.address));
    let mut reasons: Vec<Refusal> = unread(host, &functions).collect();
    twice(request, &mut reasons);
    let backend = host.backend(gpu.address);
    let standing = |claim: &Claim| claim.standing(host) != Standing::Empty;
    let nothing = request.wishes.is_empty() && !request.claims.iter().any(standing);
    if !nothing && reasons.is_empty() && gpu.sriov.is_some() {
        let steps = vfs::home(host, holders, gpu, request.on_busy)?;
        if !steps.is_empty() {
            // Which way the driver goes shows only once it has the GPU again.
            let claims = request.claims.clone();
            return Ok(Plan { steps, claims, again: true, ..Plan::default() });
        }
    }
    match backend {
        Backend::None if !nothing => reasons.push(none(host, gpu)),
        Backend::Down if !request.wishes.is_empty() => {
            return down(gpu, holders, request, reasons);
        }
        Backend::None | Backend::Down => {
            // Nothing can stand there, and so there is nothing to be removed.
            refuse(gpu.address, reasons)?;
            return Ok(Plan::default());
        }
        Backend::Mdev | Backend::Vendor => {}
    }
    refuse(gpu.address, reasons)?;
    let catalogue = Catalogue::new(host, gpu, &request.kinds);
    let sorted = sort(host, request, &catalogue)?;
    if !sorted.remove.is_empty() {
        return removals(host, holders, request, sorted);
    }
    place::creations(host, holders, request, &catalogue, sorted)
}

/// The types that a GPU can have, by number, as far as its files and `told` have names for them.
#[must_use]
pub fn kinds(host: &Host, gpu: PciAddress, told: &BTreeMap<u32, String>) -> BTreeMap<u32, String> {
    match host.functions.get(&gpu) {
        Some(function) => Catalogue::new(host, function, told).named(),
        None => told.clone(),
    }
}

/// The number of a type by its name, the name without the maker, its folder's name or its number.
#[must_use]
pub fn kind_number(
    host: &Host,
    gpu: PciAddress,
    told: &BTreeMap<u32, String>,
    kind: &str,
) -> Option<u32> {
    Catalogue::new(host, host.functions.get(&gpu)?, told).find(kind)
}

/// The first stage, where it is not known yet which way the driver goes.
fn down(
    gpu: &Function,
    holders: &Holders,
    request: &VgpuRequest,
    mut reasons: Vec<Refusal>,
) -> Result<Plan, Refused> {
    let mut plan = Plan { claims: request.claims.clone(), again: true, ..Plan::default() };
    if gpu.driver.as_deref() != Some(vfs::HOME) {
        reasons.push(Refusal::NoVgpuHost);
    }
    match busy(holders, &[gpu.address], &[], request.on_busy) {
        Ok(wait) => plan.steps.extend(wait),
        Err(reason) => reasons.push(reason),
    }
    refuse(gpu.address, reasons)?;
    plan.steps.push(vfs::up(gpu));
    Ok(plan)
}

/// Why no vGPU can be made. Virtual functions without the driver's files are left alone: whether it was
/// the tool that was ended half-way, or a driver that takes no vGPUs, nobody can tell from them, and
/// turning them off and on again with each look would never end.
fn none(host: &Host, gpu: &Function) -> Refusal {
    match gpu.sriov {
        Some(Sriov { enabled: enabled @ 1.., .. }) if host.sriov_manage => {
            Refusal::HalfUp { gpu: gpu.address, enabled }
        }
        _ => Refusal::NoVgpuHost,
    }
}

fn twice(request: &VgpuRequest, reasons: &mut Vec<Refusal>) {
    let wishes = request.wishes.iter().map(|it| it.id);
    let claims = request.claims.iter().map(|it| it.id);
    for ids in [wishes.collect::<Vec<_>>(), claims.collect()] {
        let mut seen = BTreeSet::new();
        reasons
            .extend(ids.into_iter().filter(|id| !seen.insert(*id)).map(|id| Refusal::Twice { id }));
    }
}

/// Wishes and claims, sorted by what has to be done about them.
#[derive(Debug, Default)]
struct Sorted<'r> {
    /// Claims that stand as wished.
    keep: Vec<&'r Claim>,
    /// Claims that stand and are to go.
    remove: Vec<&'r Claim>,
    /// Wishes to be made, each with the number of its type, and its earlier place where that is empty.
    make: Vec<(&'r VgpuWish, u32, Option<&'r Place>)>,
    /// Places that somebody else has now.
    notes: Vec<Note>,
}

fn sort<'r>(
    host: &Host,
    request: &'r VgpuRequest,
    catalogue: &Catalogue,
) -> Result<Sorted<'r>, Refused> {
    let mut sorted = Sorted::default();
    let mut reasons = Vec::new();
    let claims: BTreeMap<Uuid, &Claim> = request.claims.iter().map(|it| (it.id, it)).collect();
    for wish in &request.wishes {
        let Some(kind) = catalogue.find(&wish.kind) else {
            let (kind, found) = (wish.kind.clone(), catalogue.names());
            reasons.push(Refusal::UnknownType { kind, found });
            continue;
        };
        let name = catalogue.name(kind);
        if is_on_instance(&name) && wish.gpu_instance.is_none() {
            reasons.push(Refusal::NeedsInstance { kind: name });
            continue;
        }
        let claim = claims.get(&wish.id).copied();
        match claim.map(|claim| (claim, claim.standing(host))) {
            Some((claim, Standing::There)) if fits(&claim.place, wish, kind) => {
                sorted.keep.push(claim);
            }
            Some((claim, Standing::There)) => sorted.remove.push(claim),
            Some((claim, Standing::Empty)) => sorted.make.push((wish, kind, Some(&claim.place))),
            Some((claim, Standing::Lost)) => {
                sorted.notes.push(Note::PlaceLost { id: claim.id, place: claim.place.clone() });
                sorted.make.push((wish, kind, None));
            }
            None => sorted.make.push((wish, kind, None)),
        }
        let foreign = host.mediated.contains_key(&wish.id);
        if foreign && claim.is_none_or(|claim| claim.standing(host) != Standing::There) {
            reasons.push(Refusal::Unclaimed { id: wish.id });
        }
    }
    for claim in &request.claims {
        if request.wishes.iter().any(|wish| wish.id == claim.id) {
            continue;
        }
        match claim.standing(host) {
            Standing::There => sorted.remove.push(claim),
            Standing::Empty => {}
            Standing::Lost => {
                let place = claim.place.clone();
                sorted.notes.push(Note::PlaceLost { id: claim.id, place });
            }
        }
    }
    refuse(request.gpu, reasons)?;
    let mixed = mixed(host, request, catalogue, &sorted);
    refuse(request.gpu, mixed.into_iter().collect())?;
    Ok(sorted)
}

/// Whether a place is as wished.
fn fits(place: &Place, wish: &VgpuWish, number: u32) -> bool {
    match place {
        Place::Mediated { kind, .. } => kinds::number(kind) == Some(number),
        Place::Function { kind, gpu_instance, placement, .. } => {
            *kind == number
                && (wish.gpu_instance.is_none() || wish.gpu_instance == *gpu_instance)
                && (wish.placement.is_none() || wish.placement == *placement)
        }
    }
}

/// vGPUs that share a GPU in time have one size, unless the GPU is set for more. Those on GPU
/// instances are not held to it.
fn mixed(
    host: &Host,
    request: &VgpuRequest,
    catalogue: &Catalogue,
    sorted: &Sorted<'_>,
) -> Option<Refusal> {
    if request.heterogeneous {
        return None;
    }
    let gone: Vec<&Place> = sorted.remove.iter().map(|claim| &claim.place).collect();
    let is_gone = |function: PciAddress| {
        let at = |place: &&Place| matches!(place, Place::Function { function: it, .. } if *it == function);
        gone.iter().any(at)
    };
    let mut standing: Vec<u32> = host
        .virtual_functions(request.gpu)
        .filter(|it| !is_gone(it.address))
        .filter_map(|it| it.vendor.as_ref()?.current)
        .collect();
    let removed = |id: &Uuid| sorted.remove.iter().any(|claim| claim.id == *id);
    let mediated = host.mediated_of(request.gpu).filter(|it| !removed(&it.uuid));
    standing.extend(mediated.filter_map(|it| kinds::number(&it.kind)));
    let count = standing.len();
    // A wish whose vGPU of another type goes first is made in the next stage, and counts now.
    let wished = request.wishes.iter().filter_map(|wish| catalogue.find(&wish.kind));
    let all: BTreeSet<String> =
        standing.into_iter().chain(wished).map(|number| catalogue.name(number)).collect();
    let sizes: BTreeSet<String> = all.iter().filter_map(|name| kinds::size(name)).collect();
    let kinds = all.into_iter().collect();
    (sizes.len() > 1).then_some(Refusal::Mixed { kinds, standing: count })
}

/// The stage that removes.
fn removals(
    host: &Host,
    holders: &Holders,
    request: &VgpuRequest,
    sorted: Sorted<'_>,
) -> Result<Plan, Refused> {
    let mut plan = Plan {
        // Nothing is forgotten before it is seen to be gone.
        claims: request.claims.clone(),
        again: true,
        notes: sorted.notes,
        ..Plan::default()
    };
    let (mut functions, mut mediated) = (Vec::new(), Vec::new());
    for claim in &sorted.remove {
        let (of, uuids) = claim.handles();
        functions.extend(of);
        mediated.extend(uuids);
    }
    match busy(holders, &functions, &mediated, request.on_busy) {
        Ok(wait) => plan.steps.extend(wait),
        Err(reason) => refuse(request.gpu, vec![reason])?,
    }
    // A claim of an earlier boot whose device stands was made again by somebody who knows its UUID.
    plan.steps.extend(sorted.remove.iter().map(|claim| removal(claim)));
    let lost = |claim: &Claim| claim.standing(host) == Standing::Lost;
    plan.claims.retain(|claim| !lost(claim));
    Ok(plan)
}

fn removal(claim: &Claim) -> Step {
    let (functions, mediated) = claim.handles();
    let unheld = free(&functions, &mediated);
    match &claim.place {
        Place::Mediated { kind, .. } => {
            let folder = format!("/sys/bus/mdev/devices/{}", claim.id);
            let is = Some(kind.clone());
            Step::write(format!("remove vgpu {}", claim.id), format!("{folder}/remove"), "1")
                .needs(Condition::Link { path: format!("{folder}/mdev_type"), is })
                .needs(unheld)
                .proves(Condition::Absent { path: folder })
        }
        Place::Function { function, kind, .. } => {
            let path = function.file("nvidia/current_vgpu_type");
            Step::write(format!("remove vgpu {} from {function}", claim.id), path.clone(), "0")
                .needs(Condition::Text { path: path.clone(), is: kind.to_string() })
                .needs(unheld)
                .proves(Condition::Text { path, is: "0".to_owned() })
        }
    }
}
