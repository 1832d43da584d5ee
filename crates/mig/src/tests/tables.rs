//! Numbers of layouts that NVIDIA's guide and exhaustive counting give, and the board itself.

use super::*;
use crate::fit::{check, layouts, maximal};

#[track_caller]
fn count(key: &str, shapes: &[&str], all: usize, combinations: usize, most: usize) {
    let board = if shapes.is_empty() { whole(key) } else { board(key, shapes) };
    let found = layouts(&board).unwrap();
    let mut profiles: Vec<Vec<ProfileId>> = found
        .iter()
        .map(|layout| {
            let mut profiles: Vec<_> = layout.iter().map(|it| it.profile).collect();
            profiles.sort();
            profiles
        })
        .collect();
    profiles.sort();
    profiles.dedup();
    // Without the empty one, as they are counted elsewhere.
    assert_eq!(
        (found.len() - 1, profiles.len() - 1, maximal(&board).unwrap().len()),
        (all, combinations, most),
        "{key}: layouts, combinations, maximal"
    );
}

#[test]
fn layouts_are_as_many_as_known() {
    count("a100-40gb", &["1g", "2g", "3g", "4g", "7g"], 297, 37, 19);
    count("a100-40gb", A100, 722, 77, 78);
    count("a100-40gb", &[], 2318, 127, 239);
    count("a30-24gb", A30, 25, 9, 5);
    count("a30-24gb", &[], 75, 19, 17);
    count("rtx-pro-6000-blackwell-96gb", A30, 25, 9, 5);
    count("rtx-pro-6000-blackwell-96gb", &[], 716, 114, 302);
}

#[test]
fn shapes_come_from_slices_and_names() {
    let shapes = |key: &str| whole(key).shapes().join(" ");
    assert_eq!(shapes("a100-80gb"), "1g 1g+me 1g.2m 2g 3g 4g 7g");
    assert_eq!(shapes("a30-24gb"), "1g 1g+me 2g 2g+me 4g");
    assert_eq!(
        shapes("rtx-pro-6000-blackwell-96gb"),
        "1g 1g+me 1g+gfx 1g+me.all 1g-me 2g 2g+gfx 2g+me.all 2g-me 4g 4g+gfx"
    );
}

#[test]
fn a_driver_without_names_gives_the_same_shapes() {
    let full = whole("a100-40gb");
    let mut profiles = full.profiles().to_vec();
    for profile in &mut profiles {
        profile.name.clear();
    }
    let nameless = Board::new(profiles).unwrap();
    assert_eq!(nameless.shapes(), full.shapes());
    let names: Vec<&str> = nameless.profiles().iter().map(|it| it.name.as_str()).collect();
    assert_eq!(
        names,
        ["1g.5gb", "1g.5gb+me", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.39gb"]
    );
}

#[test]
fn compute_profiles_are_filled_in_where_the_driver_tells_none() {
    let mut profile = a100().profiles()[4].clone();
    profile.compute.clear();
    let board = Board::new(vec![profile]).unwrap();
    let compute = &board.profiles()[0].compute;
    let ids: Vec<(u32, u32)> = compute.iter().map(|it| (it.slices, it.id.0)).collect();
    assert_eq!(ids, [(1, 0), (2, 1), (3, 2)]);
    assert!(compute.iter().all(|it| it.starts.is_empty()));
}

#[test]
fn a_board_survives_being_stored() {
    for sample in boards::samples().unwrap() {
        let text = serde_json::to_string(&sample.profiles).unwrap();
        assert_eq!(serde_json::from_str::<Board>(&text).unwrap(), sample.profiles);
    }
}

#[test]
fn a_board_that_contradicts_itself_is_refused() {
    let profile = a100().profiles()[0].clone();
    let twice = Board::new(vec![profile.clone(), profile.clone()]);
    assert_eq!(twice, Err(BoardError::DuplicateProfile { id: ProfileId(19) }));
    let mut long = profile.clone();
    long.placements.push(Placement { start: 60, size: 5 });
    let error = Board::new(vec![long]).unwrap_err();
    assert_eq!(error, BoardError::Placement { id: ProfileId(19), start: 60, size: 5 });
    let mut endless = profile.clone();
    endless.placements = vec![Placement { start: u32::MAX, size: 1 }];
    assert!(matches!(Board::new(vec![endless]), Err(BoardError::Placement { .. })));
    let mut double = profile.clone();
    double.placements.push(Placement { start: 3, size: 2 });
    let error = Board::new(vec![double]).unwrap_err();
    assert_eq!(error, BoardError::DuplicateStart { id: ProfileId(19), start: 3 });
    // The whole word is a placement like any other.
    let mut full = profile;
    full.placements = vec![Placement { start: 0, size: 64 }];
    assert_eq!(Board::new(vec![full]).unwrap().units(), 64);
}

#[test]
fn the_rule_says_what_it_is_broken_by() {
    let board = a100();
    let misfit = |words: &str| {
        let placed: Vec<Placed> = words.split(' ').map(|word| at(&board, word)).collect();
        check(&board, &placed).unwrap_err().to_string()
    };
    assert_eq!(misfit("4g@0 2g@2"), "4g@0 and 2g@2 overlap");
    assert_eq!(misfit("2g@1"), "2g cannot start at slice 1, only at 0, 2, 4");
    assert_eq!(misfit("1g+me@0 1g+me@1"), "2 times 1g+me, of which the GPU holds 1");
    let rtx = whole("rtx-pro-6000-blackwell-96gb");
    let placed = [at(&rtx, "1g+me.all@0"), at(&rtx, "1g@3")];
    let error = check(&rtx, &placed).unwrap_err().to_string();
    assert_eq!(error, "5 DEC engines, of which the GPU has 4");
    let stranger = Placed { profile: ProfileId(99), start: 0 };
    assert_eq!(check(&board, &[stranger]), Err(Misfit::UnknownProfile { profile: ProfileId(99) }));
}
