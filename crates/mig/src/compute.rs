//! Compute instances within one GPU instance: what fits, and the least change from what is there to
//! what is wanted.

use crate::board::Profile;
use crate::id::ComputeProfileId;
use crate::layout::ComputePart;
use crate::observe::{ComputeInstance, Instance};

/// Compute instances of one GPU instance whose subsets are searched; NVML's largest holds 8.
const SUBSETS_MAX: usize = 10;

/// What has to happen within a GPU instance that stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Positions, in the observation, of those that go.
    pub(crate) destroy: Vec<usize>,
    /// Those that are made.
    pub(crate) create: Vec<ComputePart>,
    /// How many of those that go are in use by somebody who may not be stopped.
    pub(crate) busy: u32,
    /// How many of those that go are in use by clients that may.
    pub(crate) stops: u32,
}

/// Gives each observed instance a different wish that it meets; none if one of them meets none.
/// Wishes with a start come first: only one instance can meet such a wish.
pub(crate) fn matched(wishes: &[ComputePart], observed: &[ComputeInstance]) -> Option<Vec<usize>> {
    let all: Vec<&ComputeInstance> = observed.iter().collect();
    matched_to(wishes, &all)
}

fn matched_to(wishes: &[ComputePart], observed: &[&ComputeInstance]) -> Option<Vec<usize>> {
    let mut used: Vec<usize> = Vec::with_capacity(observed.len());
    for instance in observed {
        let meets = |exact: bool| {
            wishes.iter().enumerate().position(|(at, wish)| {
                let start = if exact { Some(instance.start) } else { None };
                !used.contains(&at) && wish.profile == instance.profile && wish.start == start
            })
        };
        used.push(meets(true).or_else(|| meets(false))?);
    }
    Some(used)
}

/// A compute instance that is there: its profile, first slice where it is known, and slices.
pub(crate) type Standing = (ComputeProfileId, Option<u32>, u32);

/// Places wishes beside what stands: the wishes with starts wherever starts are known, or none if
/// they do not fit.
///
/// A profile that the board does not know is left to the driver's judgement.
pub(crate) fn arrange(
    profile: &Profile,
    standing: &[Standing],
    wishes: &[ComputePart],
) -> Option<Vec<ComputePart>> {
    let known = |id: ComputeProfileId| profile.compute.iter().find(|compute| compute.id == id);
    let slices = |id: ComputeProfileId| known(id).map_or(0, |compute| compute.slices);
    let taken: u32 = standing.iter().map(|(_, _, slices)| slices).sum();
    let wanted: u32 = wishes.iter().map(|wish| slices(wish.profile)).sum();
    let few_enough = profile.compute.iter().all(|compute| {
        let there = standing.iter().filter(|(id, ..)| *id == compute.id).count();
        let more = wishes.iter().filter(|wish| wish.profile == compute.id).count();
        u32::try_from(there + more).is_ok_and(|count| count <= compute.max)
    });
    if !few_enough || taken + wanted > profile.compute_slices {
        return None;
    }
    let placeable = standing.iter().all(|(_, start, _)| start.is_some())
        && wishes.iter().all(|wish| known(wish.profile).is_some_and(|it| !it.starts.is_empty()));
    if !placeable {
        return Some(wishes.to_vec());
    }
    let mask = |start: u32, slices: u32| {
        u64::MAX.checked_shr(64 - slices.min(64)).unwrap_or(0).checked_shl(start).unwrap_or(0)
    };
    let mut taken = 0;
    for (_, start, slices) in standing {
        taken |= mask(start.unwrap_or(0), *slices);
    }
    // The largest first, those with a start before all: far fewer dead ends.
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by_key(|&at| {
        (wishes[at].start.is_none(), std::cmp::Reverse(slices(wishes[at].profile)), at)
    });
    let mut placed = wishes.to_vec();
    let starts = |wish: ComputePart| -> Vec<(u32, u64)> {
        let it = known(wish.profile);
        let all = it.map(|it| (it.starts.as_slice(), it.slices)).unwrap_or_default();
        let allowed = all.0.iter().filter(|start| wish.start.is_none_or(|want| want == **start));
        allowed.map(|start| (*start, mask(*start, all.1))).collect()
    };
    let possible: Vec<Vec<(u32, u64)>> = wishes.iter().map(|wish| starts(*wish)).collect();
    place(&possible, &order, taken, &mut placed).then_some(placed)
}

fn place(
    possible: &[Vec<(u32, u64)>],
    order: &[usize],
    taken: u64,
    placed: &mut [ComputePart],
) -> bool {
    let Some((&first, rest)) = order.split_first() else { return true };
    possible[first].iter().any(|&(start, mask)| {
        placed[first].start = Some(start);
        taken & mask == 0 && place(possible, rest, taken | mask, placed)
    })
}

/// The least change that leads from what is there to the wishes: none in use destroyed if that is
/// possible, then none with clients, then as few as possible. None if the wishes fit in no way.
pub(crate) fn change(
    profile: &Profile,
    instance: &Instance,
    wishes: &[ComputePart],
) -> Option<Change> {
    let observed = &instance.compute;
    let count = observed.len().min(SUBSETS_MAX);
    let mut best: Option<((u32, u32, usize), Change)> = None;
    // From "keep all" down, so that of equal ones the first keeps the lowest.
    for kept in (0..1_u32 << count).rev() {
        let keeps = |at: usize| at < count && kept >> (count - 1 - at) & 1 == 1;
        let (stay, go): (Vec<usize>, Vec<usize>) = (0..observed.len()).partition(|at| keeps(*at));
        let busy = number(go.iter().filter(|at| observed[**at].is_busy()).count());
        let stops = number(go.iter().filter(|at| observed[**at].has_clients()).count());
        let cost = (busy, stops, go.len());
        if best.as_ref().is_some_and(|(least, _)| *least <= cost) {
            continue;
        }
        let staying: Vec<&ComputeInstance> = stay.iter().map(|at| &observed[*at]).collect();
        let Some(met) = matched_to(wishes, &staying) else { continue };
        let rest = wishes.iter().enumerate().filter(|(at, _)| !met.contains(at));
        let rest: Vec<ComputePart> = rest.map(|(_, wish)| *wish).collect();
        let standing: Vec<Standing> =
            staying.iter().map(|it| (it.profile, Some(it.start), it.slices)).collect();
        if let Some(create) = arrange(profile, &standing, &rest) {
            let all_kept = cost == (0, 0, 0);
            best = Some((cost, Change { destroy: go, create, busy, stops }));
            if all_kept {
                break;
            }
        }
    }
    best.map(|(_, change)| change)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
