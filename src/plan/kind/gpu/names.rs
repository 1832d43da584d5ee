//! Profiles that the driver calls otherwise than the commit does: a newer driver gives some of them
//! other names, and what stands is not destroyed for that.
//!
//! A name is only ever taken for what it stood for when the GPU was cut by it; a new name is never
//! guessed from an old one.

use std::collections::BTreeMap;

use trueup_mig::{Board, Selector, Wish};

use crate::model::resource::Partition;

/// Asks by its shape for what the driver no longer knows by its name; whether there was any.
pub(super) fn recognise(
    wishes: &mut [Wish],
    board: &Board,
    called: &BTreeMap<String, String>,
) -> bool {
    let mut any = false;
    for wish in wishes {
        let Selector::Profile(name) = &wish.select else { continue };
        if shape(board, name).is_some() {
            continue;
        }
        let has = |shape: &&String| {
            board.profiles().iter().any(|profile| board.shape(profile.id) == **shape)
        };
        if let Some(shape) = called.get(name).filter(has) {
            wish.select = Selector::Shape(shape.clone());
            any = true;
        }
    }
    any
}

/// What the driver's names in a commit stand for, as the board tells, or as is remembered.
pub(super) fn called(
    partitions: &[Partition],
    board: Option<&Board>,
    remembered: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let one = |partition: &Partition| {
        let Selector::Profile(name) = &partition.select else { return None };
        let told = board.and_then(|board| shape(board, name));
        Some((name.clone(), told.or_else(|| remembered.get(name).cloned())?))
    };
    partitions.iter().filter_map(one).collect()
}

/// The shape of the profile that the driver calls so.
fn shape(board: &Board, name: &str) -> Option<String> {
    let profile = board.profiles().iter().find(|profile| profile.name == name)?;
    Some(board.shape(profile.id))
}
