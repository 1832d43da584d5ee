//! Profiles that the driver calls otherwise than the commit does: a newer driver gives some of them
//! other names, and what stands is not destroyed for that.
//!
//! A name is taken for what it stood for when the GPU was cut by it, also where another profile has
//! that name by now; a new name is never guessed from an old one.

use std::collections::BTreeMap;

use trueup_mig::{Board, Selector, Wish};

use crate::model::resource::{GpuProfile, Partition};

/// What names stood for.
type Called = BTreeMap<String, GpuProfile>;

/// Asks by its shape for what the driver calls otherwise by now; whether there was any.
pub(super) fn recognise(wishes: &mut [Wish], board: &Board, called: &Called) -> bool {
    let mut any = false;
    for wish in wishes {
        let Selector::Profile(name) = &wish.select else { continue };
        if let Some(known) = otherwise(board, name, called) {
            wish.select = Selector::Shape(known.shape.clone());
            any = true;
        }
    }
    any
}

/// What the driver's names in a commit stand for.
pub(super) fn called(
    partitions: &[Partition],
    board: Option<&Board>,
    remembered: &Called,
) -> Called {
    let one = |partition: &Partition| {
        let Selector::Profile(name) = &partition.select else { return None };
        let known = || remembered.get(name).cloned();
        let meant = match board {
            None => known(),
            Some(board) => otherwise(board, name, remembered)
                .cloned()
                .or_else(|| now(board, name))
                .or_else(known),
        };
        Some((name.clone(), meant?))
    };
    partitions.iter().filter_map(one).collect()
}

/// What a name stood for, where the driver calls that otherwise by now.
fn otherwise<'c>(board: &Board, name: &str, called: &'c Called) -> Option<&'c GpuProfile> {
    let known = called.get(name)?;
    let same = |now: GpuProfile| now.profile == known.profile || now.shape == known.shape;
    let here = board.profiles().iter().any(|profile| board.shape(profile.id) == known.shape);
    (here && !now(board, name).is_some_and(same)).then_some(known)
}

/// What the driver calls so now.
fn now(board: &Board, name: &str) -> Option<GpuProfile> {
    let found = board.profiles().iter().find(|profile| profile.name == name)?;
    Some(GpuProfile { profile: found.id, shape: board.shape(found.id) })
}
