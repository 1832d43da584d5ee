//! Compute instances: changed within a GPU instance that stays, and packed exactly.

use expect_test::{Expect, expect};

use super::*;

/// `1c@0* 2c@1`: the compute instances of a 7g.
fn seven(board: &Board, words: &str) -> Vec<Instance> {
    let mut all = found(board, "7g@0");
    let profile = board.profile(all[0].placed.profile).unwrap();
    all[0].compute = words
        .split_whitespace()
        .map(|word| {
            let plain = word.trim_end_matches('*');
            let (slices, start) = plain.split_once("c@").unwrap();
            let slices: u32 = slices.parse().unwrap();
            let known = profile.compute.iter().find(|it| it.slices == slices).unwrap();
            ComputeInstance {
                id: ComputeInstanceId(0),
                profile: known.id,
                start: start.parse().unwrap(),
                slices,
                holders: if plain == word { Vec::new() } else { vec![holder(false)] },
            }
        })
        .collect();
    all
}

/// `1c 2c@4`: a 7g with these.
fn target(board: &Board, words: &str) -> Target {
    let compute = words.split_whitespace().map(|word| {
        let (shape, start) = word.split_once('@').map_or((word, None), |(a, b)| (a, Some(b)));
        let start = start.map(|start| start.parse().unwrap());
        ComputeWish { shape: shape.to_owned(), count: 1, start }
    });
    let wish = Wish { compute: Some(compute.collect()), ..Wish::shape("7g", 1) };
    resolve(board, &[wish]).unwrap()
}

#[track_caller]
fn check(from: &str, to: &str, expected: Expect) {
    let board = a100();
    let plan = ready(&board, &seven(&board, from), &target(&board, to));
    expected.assert_eq(&steps(&board, &plan.steps));
    assert_eq!(plan.cost.destroyed, 0);
}

#[test]
fn the_gpu_instance_stays_when_only_its_compute_instances_change() {
    check(
        "3c@0 3c@4",
        "3c 2c",
        expect![[r#"
        destroy compute instance 3c@4 in 7g@0
        create compute instance 2c@4 in 7g@0
    "#]],
    );
    check("1c@0 2c@2", "2c 1c", expect![""]);
    check(
        "1c@0",
        "",
        expect![[r#"
        destroy compute instance 1c@0 in 7g@0
    "#]],
    );
    check(
        "",
        "7c",
        expect![[r#"
        create compute instance 7c@0 in 7g@0
    "#]],
    );
}

#[test]
fn one_in_use_stays_and_an_idle_one_makes_room() {
    // The 4c starts at 0 only, so the idle 1c at 0 moves; the one in use does not have to.
    check(
        "1c@0 1c@5*",
        "4c 1c 1c",
        expect![[r#"
        destroy compute instance 1c@0 in 7g@0
        create compute instance 4c@0 in 7g@0
        create compute instance 1c@4 in 7g@0
    "#]],
    );
}

#[test]
fn one_in_use_in_the_way_blocks() {
    let board = a100();
    let observed = seven(&board, "1c@0*");
    match plan(&board, &observed, &target(&board, "4c 1c")).unwrap() {
        Outcome::Blocked { needs, nearest, .. } => {
            assert_eq!(needs[0].obstacle, Obstacle::Compute);
            let nearest = nearest.unwrap();
            assert!(nearest.plan.steps.is_empty(), "{:?}", nearest.plan.steps);
            assert_eq!(nearest.missing, [0]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_busy_compute_instance_protects_its_gpu_instance() {
    let board = a100();
    let outcome = plan(&board, &seven(&board, "1c@3*"), &wanted(&board, "3g")).unwrap();
    assert!(matches!(outcome, Outcome::Blocked { .. }), "{outcome:?}");
}

#[test]
fn a_missing_compute_instance_is_drift() {
    let board = a100();
    let observed = seven(&board, "");
    let wish = wanted(&board, "7g");
    let plan = ready(&board, &observed, &wish);
    assert!(!plan.after.is_met_by(&observed));
    assert_eq!(plan.steps.len(), 1);
}

#[test]
fn unknown_starts_are_left_to_the_driver() {
    let mut profiles = a100().profiles().to_vec();
    for profile in &mut profiles {
        profile.compute.clear();
    }
    let board = Board::new(profiles).unwrap();
    let plan = ready(&board, &[], &target(&board, "4c 3c"));
    let starts: Vec<Option<u32>> = plan.after.parts[0].compute.iter().map(|it| it.start).collect();
    assert_eq!(starts, [None, None]);
    // What the driver made of it is what was wanted.
    assert!(plan.after.is_met_by(&seven(&a100(), "4c@0 3c@4")));
    assert!(!plan.after.is_met_by(&seven(&a100(), "3c@0 3c@4")));
}
