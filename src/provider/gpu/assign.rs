//! Which of several equal GPUs a layout means that names only their product.
//!
//! A layout keeps the GPU that it has: it is the one that others refer to. Those that have none get
//! theirs so that the least is destroyed, by the exact assignment of `trueup_mig`. It decides nothing
//! else, and the same look gives the same answer.

use std::collections::BTreeSet;

use trueup_mig::assign::{GPUS_MAX, assign as cheapest};
use trueup_mig::{Board, Instance, Target, Wish};
use trueup_nvml::{Gpu, GpuInstance, GpuRecord, Observation};

use super::hidden::Users;
use super::look::{self, Wanted};
use crate::model::Resource;
use crate::model::resource::{GpuLayout, GpuMatch, GpuMode, Partition};
use crate::port::Scope;

/// Gives each layout that names a product a GPU of its own.
pub(super) fn assign(
    wanted: &mut [Wanted],
    scope: &Scope,
    nvml: Result<&Observation, &String>,
    users: Users<'_>,
) {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for it in wanted.iter_mut() {
        let GpuMatch::Product(product) = &it.gpu else {
            let found = nvml.ok().and_then(|seen| look::found(&it.gpu, &seen.gpus).ok());
            taken.extend(found.filter(|_| it.desired).map(|record| record.identity.uuid.clone()));
            continue;
        };
        let has = it.memory.as_ref().and_then(|memory| memory.gpu.clone());
        let Some(uuid) = has.filter(|uuid| may_be(uuid, product, nvml)) else {
            let why = nvml.err().cloned();
            it.meant = Err(why.unwrap_or_else(|| format!("no GPU is of product {product}")));
            continue;
        };
        taken.extend(Some(&uuid).filter(|_| it.desired).cloned());
        it.meant = Ok(GpuMatch::Uuid(uuid));
    }
    let Ok(seen) = nvml else { return };
    let products: BTreeSet<String> = wanted.iter().filter_map(open).cloned().collect();
    for product in products {
        let free = free(&product, wanted, &taken, seen, users);
        let mut layouts: Vec<usize> =
            (0..wanted.len()).filter(|&at| open(&wanted[at]) == Some(&product)).collect();
        // Those that are cut come first, on both sides: equal costs then keep modes.
        layouts
            .sort_by_key(|&at| layout(&wanted[at], scope).map(|it| it.mode) != Some(GpuMode::Mig));
        let asked: Vec<Option<&GpuLayout>> =
            layouts.iter().map(|&at| layout(&wanted[at], scope)).collect();
        let given = pairs(&free, &asked, users);
        for (&at, gpu) in layouts.iter().zip(given) {
            wanted[at].meant = match gpu {
                Some(gpu) => Ok(GpuMatch::Uuid(free[gpu].identity.uuid.clone())),
                None => Err(format!(
                    "there are more layouts of product {product} than GPUs that no other layout \
                     has: remove one, or add a GPU"
                )),
            };
        }
    }
}

/// Whether the GPU that a layout had is of the product that it names now; one that a guest has, NVML
/// does not see.
fn may_be(uuid: &str, product: &str, nvml: Result<&Observation, &String>) -> bool {
    let of = |gpu: &Gpu| match gpu {
        Gpu::Present(record) => record.identity.uuid == uuid && record.name != product,
        Gpu::Failed(_) => false,
    };
    !nvml.is_ok_and(|seen| seen.gpus.iter().any(of))
}

/// The product of a layout that has no GPU yet.
fn open(it: &Wanted) -> Option<&String> {
    match &it.gpu {
        GpuMatch::Product(product) if it.desired && it.meant.is_err() => Some(product),
        _ => None,
    }
}

fn layout<'s>(it: &Wanted, scope: &'s Scope) -> Option<&'s GpuLayout> {
    match &scope.desired.resources.get(&it.id)?.resource {
        Resource::GpuLayout(layout) => Some(layout),
        _ => None,
    }
}

/// The GPUs of a product that nobody else has: those of layouts that are gone first, so that a new
/// name keeps what the old one had; then those that are cut, and those that nobody uses.
fn free<'s>(
    product: &str,
    wanted: &[Wanted],
    taken: &BTreeSet<String>,
    seen: &'s Observation,
    users: Users<'_>,
) -> Vec<&'s GpuRecord> {
    let of = |gpu: &'s Gpu| match gpu {
        Gpu::Present(record) => Some(&**record),
        Gpu::Failed(_) => None,
    };
    let free = |it: &&GpuRecord| it.name == product && !taken.contains(&it.identity.uuid);
    let mut all: Vec<&GpuRecord> = seen.gpus.iter().filter_map(of).filter(free).collect();
    let left = |record: &GpuRecord| {
        let is = |it: &&Wanted| match &it.meant {
            Ok(meant) => look::found(meant, &seen.gpus)
                .is_ok_and(|found| found.identity.uuid == record.identity.uuid),
            Err(_) => false,
        };
        wanted.iter().any(|it| !it.desired && is(&it))
    };
    all.sort_by_key(|&record| {
        let cut = record.mig.is_some_and(|mig| mig.current);
        let used = !look::whole_holders(record, users.host, users.hidden).is_empty();
        (!left(record), !cut, used, record.index)
    });
    all
}

/// By layout, the place of its GPU among the free ones.
fn pairs(
    free: &[&GpuRecord],
    asked: &[Option<&GpuLayout>],
    users: Users<'_>,
) -> Vec<Option<usize>> {
    let in_order = || (0..asked.len()).map(|at| (at < free.len()).then_some(at)).collect();
    if asked.len() > free.len() || free.len() > GPUS_MAX {
        return in_order();
    }
    let Some(board) = common(free) else { return in_order() };
    let of = |record: &&GpuRecord| look::instances(record, None, users.host, users.hidden);
    let instances: Vec<Vec<Instance>> = free.iter().map(of).collect();
    let instances: Vec<&[Instance]> = instances.iter().map(Vec::as_slice).collect();
    let target = |layout: &Option<&GpuLayout>| {
        let wishes = layout.iter().flat_map(|layout| &layout.partitions).map(Partition::wish);
        // A profile that the board does not have is told once its GPU is looked at.
        trueup_mig::resolve(&board, &wishes.collect::<Vec<Wish>>()).unwrap_or_default()
    };
    let targets: Vec<Target> = asked.iter().map(target).collect();
    let Ok(given) = cheapest(&board, &instances, &targets) else { return in_order() };
    let of = |layout: usize| {
        given.iter().position(|it| it.as_ref().is_some_and(|it| it.target == layout))
    };
    (0..asked.len()).map(of).collect()
}

/// The board that all of these are; `None`: they differ, or the driver does not tell.
fn common(records: &[&GpuRecord]) -> Option<Board> {
    let first = records.first()?;
    if records.iter().any(|record| record.profiles != first.profiles) {
        return None;
    }
    // Compute instances are told only of what stands: on one of them may stand what is on no other.
    let all: Vec<GpuInstance> = records.iter().flat_map(|it| it.instances.clone()).collect();
    let profiles = first.profiles.iter().map(|it| look::profile(it, &all)).collect();
    Board::new(profiles).ok().filter(|_| !first.profiles.is_empty())
}
