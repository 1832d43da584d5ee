//! The planners to compare with, and what a comparison needs. Nothing that runs is planned here.
//!
//! - *Destroy all*, as mig-parted does: every instance goes, then the target is made.
//! - *Greedy*: what the target has a use for stays where it is, from the lowest start on; the rest
//!   is put first-fit into what is free, the largest first; if that fails, everything goes.

use std::cmp::Reverse;

use crate::board::Board;
use crate::fit::Room;
use crate::id::{ComputeInstanceId, InstanceId, ProfileId};
use crate::layout::Placed;
use crate::observe::{ComputeInstance, Instance};
use crate::target::{Slot, Target};

/// Instances that greedy planning destroys on the way from these to those profiles.
#[must_use]
pub fn greedy_destroys(board: &Board, from: &[Placed], to: &[ProfileId]) -> usize {
    let mut rest: Vec<ProfileId> = to.to_vec();
    let mut room = Room::new(board);
    let mut kept = 0;
    let mut ordered = from.to_vec();
    ordered.sort_unstable();
    for placed in ordered {
        let wanted = rest.iter().position(|id| *id == placed.profile);
        let Some((wanted, index)) = wanted.zip(board.index(placed.profile)) else { continue };
        if let Some(place) = board.profiles()[index].place(placed.start)
            && room.add(index, place)
        {
            rest.remove(wanted);
            kept += 1;
        }
    }
    let mut rest: Vec<usize> = rest.iter().filter_map(|id| board.index(*id)).collect();
    rest.sort_by_key(|index| (Reverse(board.profiles()[*index].units()), *index));
    let placed = rest.iter().all(|&index| {
        let places = 0..board.profiles()[index].placements.len();
        places.into_iter().any(|place| room.add(index, place))
    });
    if placed { from.len() - kept } else { from.len() }
}

/// A target of these profiles, anywhere, each with one compute instance that takes all of it.
#[must_use]
pub fn target_of(board: &Board, profiles: &[ProfileId]) -> Target {
    let slot = |(wish, profile): (usize, &ProfileId)| {
        let whole = board.profile(*profile).and_then(|it| it.whole_compute());
        let compute = whole.map(|it| crate::ComputePart { profile: it.id, start: None });
        let compute = compute.into_iter().collect();
        Slot { wish, profile: *profile, start: None, compute, name: None }
    };
    Target { slots: profiles.iter().enumerate().map(slot).collect() }
}

/// Idle instances at these places, each with one compute instance that takes all of it.
#[must_use]
pub fn idle(board: &Board, placed: &[Placed]) -> Vec<Instance> {
    let instance = |(id, placed): (u32, &Placed)| {
        let whole = board.profile(placed.profile).and_then(|it| it.whole_compute());
        let compute = whole.map(|it| ComputeInstance {
            id: ComputeInstanceId(0),
            profile: it.id,
            start: 0,
            slices: it.slices,
            holders: Vec::new(),
        });
        Instance {
            id: InstanceId(id),
            placed: *placed,
            name: None,
            compute: compute.into_iter().collect(),
            holders: Vec::new(),
        }
    };
    (1..).zip(placed).map(instance).collect()
}

/// A study: from every layout to which nothing can be added, to every such combination of profiles
/// that is not its own.
#[must_use]
pub fn pairs(maximal: &[Vec<Placed>]) -> Vec<(Vec<Placed>, Vec<ProfileId>)> {
    let profiles = |layout: &[Placed]| {
        let mut profiles: Vec<ProfileId> = layout.iter().map(|placed| placed.profile).collect();
        profiles.sort_unstable();
        profiles
    };
    let mut combinations: Vec<Vec<ProfileId>> =
        maximal.iter().map(|layout| profiles(layout)).collect();
    combinations.sort();
    combinations.dedup();
    let mut pairs = Vec::new();
    for layout in maximal {
        let own = profiles(layout);
        let others = combinations.iter().filter(|combination| **combination != own);
        pairs.extend(others.map(|combination| (layout.clone(), combination.clone())));
    }
    pairs
}
