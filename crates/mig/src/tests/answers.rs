//! Several GPUs, and the capacity calculator.

use super::*;
use crate::fits::Fits;

#[test]
fn each_gpu_gets_the_target_that_it_is_nearest_to() {
    let board = a100();
    let gpus = [found(&board, "7g@0"), found(&board, "3g@0 3g@4"), found(&board, "1g@0*")];
    let gpus: Vec<&[Instance]> = gpus.iter().map(Vec::as_slice).collect();
    let targets = [wanted(&board, "1g 1g"), wanted(&board, "7g"), wanted(&board, "3g 3g")];
    let given = assign(&board, &gpus, &targets).unwrap();
    let order: Vec<usize> = given.iter().map(|it| it.as_ref().unwrap().target).collect();
    assert_eq!(order, [1, 2, 0]);
    let destroyed = given.iter().map(|it| it.as_ref().unwrap().outcome.ready().unwrap());
    assert_eq!(destroyed.map(|plan| plan.cost.destroyed).sum::<u32>(), 0);
}

#[test]
fn one_assignment_gives_way_for_the_sum() {
    // The first would take either for nothing; the second only the 7g.
    let board = a100();
    let gpus = [found(&board, ""), found(&board, "7g@0*")];
    let gpus: Vec<&[Instance]> = gpus.iter().map(Vec::as_slice).collect();
    let targets = [wanted(&board, "7g"), wanted(&board, "1g")];
    let given = assign(&board, &gpus, &targets).unwrap();
    assert_eq!(given[0].as_ref().unwrap().target, 1);
    assert!(given.iter().flatten().all(|it| it.outcome.ready().is_some()));
}

#[test]
fn gpus_without_a_target_are_those_that_would_lose_most() {
    let board = a100();
    let gpus = [found(&board, "3g@0 3g@4"), found(&board, "1g@0*"), found(&board, "")];
    let gpus: Vec<&[Instance]> = gpus.iter().map(Vec::as_slice).collect();
    let given = assign(&board, &gpus, &[wanted(&board, "7g")]).unwrap();
    assert_eq!(given.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true]);
    let error = assign(&board, &gpus[..1], &[Target::default(), Target::default()]).unwrap_err();
    assert_eq!(error.to_string(), "2 layouts for 1 GPUs");
}

/// Brute force over all permutations agrees.
#[test]
fn the_assignment_is_the_cheapest() {
    let board = board("a100-40gb", A100);
    let maximal = fit::maximal(&board).unwrap();
    for seed in 0..20_usize {
        let pick = |at: usize| &maximal[(seed * 31 + at * 17) % maximal.len()];
        let gpus: Vec<Vec<Instance>> = (0..4).map(|at| baseline::idle(&board, pick(at))).collect();
        let gpus: Vec<&[Instance]> = gpus.iter().map(Vec::as_slice).collect();
        let targets: Vec<Target> = (0..4)
            .map(|at| {
                let profiles: Vec<ProfileId> = pick(at + 9).iter().map(|it| it.profile).collect();
                baseline::target_of(&board, &profiles)
            })
            .collect();
        let given = assign(&board, &gpus, &targets).unwrap();
        let cost = |gpu: usize, target: usize| ready(&board, gpus[gpu], &targets[target]).cost;
        let sum = |order: &[usize]| {
            order
                .iter()
                .enumerate()
                .fold(Cost::default(), |sum, (gpu, at)| sum.plus(cost(gpu, *at)))
        };
        let ours: Vec<usize> = given.iter().map(|it| it.as_ref().unwrap().target).collect();
        let mut least = Cost { busy: 99, ..Cost::default() };
        for code in 0..256_usize {
            let order: Vec<usize> = (0..4).map(|at| code >> (2 * at) & 3).collect();
            if (0..4).all(|target| order.contains(&target)) {
                least = least.min(sum(&order));
            }
        }
        assert_eq!(sum(&ours), least);
    }
}

#[track_caller]
fn fits_as(from: &str, add: &str, expected: &str) {
    let board = a100();
    let answer = match fits(&board, &found(&board, from), &wanted(&board, add)).unwrap() {
        Fits::Now { at, .. } => format!("now {}", labels(&board, &at)),
        Fits::Never { why } => format!("never: {why}"),
        Fits::After { displaced, after } => {
            let each = displaced.iter().map(|it| {
                let to = it.to.map_or("away".to_owned(), |to| board.label(to));
                let star = if it.holders.is_empty() { "" } else { "*" };
                format!("{}{star} {to}", board.label(it.instance))
            });
            let each: Vec<String> = each.collect();
            format!("after {}: {}", each.join(", "), labels(&board, &after.placed()))
        }
    };
    assert_eq!(answer, expected);
}

#[test]
fn it_says_what_fits_and_what_has_to_move() {
    fits_as("3g@0", "3g", "now 3g@4");
    fits_as("3g@0", "4g", "after 3g@0 3g@4: 4g@0 3g@4");
    fits_as("3g@0*", "4g", "after 3g@0* 3g@4: 4g@0 3g@4");
    fits_as("1g@0* 1g@4", "3g", "after 1g@4 1g@1: 1g@0 1g@1 3g@4");
    fits_as("3g@0* 3g@4", "4g", "after 3g@0* away: 4g@0 3g@4");
    fits_as("1g@0", "7g", "after 1g@0 away: 7g@0");
    fits_as("", "4g 4g", "never: 2 times 4g, of which the GPU holds 1");
}

#[test]
fn capacity_grows_with_what_may_be_disturbed() {
    let board = a100();
    let all = capacity(&board, &found(&board, "1g@0* 1g@4")).unwrap();
    let of = |shape: &str| {
        let it = all.iter().find(|it| board.shape(it.profile) == shape).unwrap();
        (it.now, it.after_moves, it.after_clearing)
    };
    assert_eq!(of("1g"), (5, 5, 6));
    assert_eq!(of("3g"), (0, 1, 1));
    assert_eq!(of("4g"), (0, 0, 0));
    assert_eq!(of("7g"), (0, 0, 0));
}
