//! Where new vGPUs go, and the steps that make them.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::{Catalogue, number};
use super::{Sorted, VgpuRequest, VgpuWish};
use crate::address::PciAddress;
use crate::condition::Condition;
use crate::holders::Holders;
use crate::observe::{Backend, Function, Host};
use crate::plan::{Claim, Place, Plan, free, refuse};
use crate::refusal::{Refusal, Refused};
use crate::step::Step;

/// The stage that makes what is missing.
pub(super) fn creations(
    host: &Host,
    holders: &Holders,
    request: &VgpuRequest,
    catalogue: &Catalogue,
    sorted: Sorted<'_>,
) -> Result<Plan, Refused> {
    let mut plan = Plan { notes: sorted.notes, ..Plan::default() };
    plan.claims.extend(sorted.keep.iter().map(|claim| (*claim).clone()));
    let mut reasons = Vec::new();
    if !sorted.make.is_empty() && !holders.unread.is_empty() {
        reasons.push(Refusal::Unscanned { pids: holders.unread.clone() });
    }
    let mut room = Room::new(host, holders, request.gpu);
    // Those that had a place get it again, before others can be given it.
    let (back, new): (Vec<_>, Vec<_>) =
        sorted.make.into_iter().partition(|(.., before)| before.is_some());
    for (wish, kind, before) in back.into_iter().chain(new) {
        let chosen = wish.gpu_instance.is_some() || wish.placement.is_some();
        let place = match room.backend {
            Backend::Mdev if chosen => {
                reasons.push(Refusal::NoChoice { id: wish.id });
                continue;
            }
            Backend::Mdev => room.mediated(kind, before),
            _ => room.function(kind, wish, before),
        };
        let Some(place) = place else {
            let kind = catalogue.name(kind);
            reasons.push(Refusal::NoRoom { id: wish.id, kind });
            continue;
        };
        plan.steps.extend(creation(wish, &place));
        plan.claims.push(Claim { id: wish.id, boot: host.boot.clone(), place });
    }
    refuse(request.gpu, reasons)?;
    plan.claims.sort_by_key(|claim| claim.id);
    Ok(plan)
}

/// What is free, and what of it this plan has given away already.
struct Room<'h> {
    host: &'h Host,
    gpu: PciAddress,
    backend: Backend,
    /// Functions that stand empty and are held by nobody.
    functions: Vec<&'h Function>,
    taken: BTreeSet<PciAddress>,
    made: BTreeMap<PciAddress, u32>,
}

impl<'h> Room<'h> {
    fn new(host: &'h Host, holders: &Holders, gpu: PciAddress) -> Self {
        let empty = |it: &&Function| {
            it.vendor.as_ref().is_some_and(|vendor| vendor.current.is_none())
                && it.driver.as_deref() != Some("vfio-pci")
                && holders.of(&[it.address], &[]).is_empty()
        };
        Self {
            host,
            gpu,
            backend: host.backend(gpu),
            functions: host.virtual_functions(gpu).filter(empty).collect(),
            taken: BTreeSet::new(),
            made: BTreeMap::new(),
        }
    }

    /// A parent that still takes the type; the one it had before, where it does.
    fn mediated(&mut self, wanted: u32, before: Option<&Place>) -> Option<Place> {
        let was = match before {
            Some(Place::Mediated { parent, .. }) => Some(*parent),
            _ => None,
        };
        let gpu = self.host.functions.get(&self.gpu);
        let mut parents: Vec<&Function> =
            gpu.into_iter().chain(self.host.virtual_functions(self.gpu)).collect();
        parents.sort_by_key(|it| (Some(it.address) != was, it.address));
        let found = parents.into_iter().find_map(|parent| {
            let kind = parent.mdev_types.iter().find(|it| number(&it.id) == Some(wanted))?;
            let made = self.made.get(&parent.address).copied().unwrap_or(0);
            (kind.available > made).then(|| (parent.address, kind.id.clone()))
        });
        let (parent, kind) = found?;
        *self.made.entry(parent).or_default() += 1;
        Some(Place::Mediated { parent, kind })
    }

    /// An empty virtual function that can become the type; the one it was before, where it can.
    fn function(&mut self, kind: u32, wish: &VgpuWish, before: Option<&Place>) -> Option<Place> {
        let was = match before {
            Some(Place::Function { function, .. }) => Some(*function),
            _ => None,
        };
        let can = |it: &&&Function| {
            let listed = |vendor: &crate::observe::VendorFunction| {
                vendor.creatable.iter().any(|it| it.id == kind)
            };
            !self.taken.contains(&it.address) && it.vendor.as_ref().is_some_and(listed)
        };
        let fitting = self.functions.iter().filter(can);
        let chosen = fitting.min_by_key(|it| (Some(it.address) != was, it.address))?;
        let function = chosen.address;
        self.taken.insert(function);
        let (gpu_instance, placement) = (wish.gpu_instance, wish.placement);
        Some(Place::Function { function, kind, gpu_instance, placement })
    }
}

/// The steps that make a vGPU in its place.
fn creation(wish: &VgpuWish, place: &Place) -> Vec<Step> {
    match place {
        Place::Mediated { parent, kind } => {
            let types = format!("/sys/class/mdev_bus/{parent}/mdev_supported_types/{kind}");
            let folder = format!("/sys/bus/mdev/devices/{}", wish.id);
            let link =
                Condition::Link { path: format!("{folder}/mdev_type"), is: Some(kind.clone()) };
            let what = format!("make vgpu {} of type {kind} on {parent}", wish.id);
            let step = Step::write(what, format!("{types}/create"), wish.id.to_string())
                .needs(Condition::Absent { path: folder })
                .needs(Condition::AtLeast {
                    path: format!("{types}/available_instances"),
                    number: 1,
                })
                .proves(link);
            vec![step]
        }
        Place::Function { function, kind, gpu_instance, placement } => {
            let current = function.file("nvidia/current_vgpu_type");
            let untyped = Condition::Text { path: current.clone(), is: "0".to_owned() };
            let set = |name: &str, value: u32| {
                let path = function.file(&format!("nvidia/{name}"));
                let what = format!("set {name} of {function} to {value}");
                Step::write(what, path.clone(), value.to_string())
                    .needs(untyped.clone())
                    .needs(free(&[*function], &[]))
                    .proves(Condition::Text { path, is: value.to_string() })
            };
            let mut steps = Vec::new();
            steps.extend(gpu_instance.map(|id| set("gpu_instance_id", id)));
            steps.extend(placement.map(|id| set("placement_id", id)));
            let what = format!("make vgpu {} of type {kind} on {function}", wish.id);
            let step = Step::write(what, current.clone(), kind.to_string())
                .needs(untyped.clone())
                .needs(Condition::Lists {
                    path: function.file("nvidia/creatable_vgpu_types"),
                    id: *kind,
                })
                .needs(free(&[*function], &[]))
                .proves(Condition::Text { path: current, is: kind.to_string() });
            steps.push(step);
            steps
        }
    }
}
