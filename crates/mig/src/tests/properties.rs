//! What holds for every change: exhaustively over the pairs of the study, and by chance with
//! compute instances, names and users.

use proptest::prelude::*;

use super::*;
use crate::baseline::{greedy_destroys, idle, pairs, target_of};
use crate::fit::{layouts, maximal};

/// Replays a plan prefix by prefix; each leaves a valid layout, from which the way back is known.
#[track_caller]
fn holds(board: &Board, from: &[Instance], plan: &Plan) {
    let before = Layout::of(from);
    let mut layout = before.clone();
    for at in 0..=plan.steps.len() {
        fit::check(board, &layout.placed()).unwrap();
        let found = observed(board, &layout, from);
        let back = ready(board, &found, &Target::exactly(&before));
        let restored = step::replay(board, &layout, &back.steps).unwrap();
        assert_eq!(restored.placed(), before.placed());
        assert!(before.is_met_by(&observed(board, &restored, from)));
        // And forward, as after a crash: the same end from wherever it was left.
        let on = ready(board, &found, &Target::exactly(&plan.after));
        let arrived = step::replay(board, &layout, &on.steps).unwrap();
        assert!(plan.after.is_met_by(&observed(board, &arrived, from)));
        if let Some(step) = plan.steps.get(at) {
            step::apply(board, &mut layout, step).unwrap();
        }
    }
    assert!(plan.after.is_met_by(&observed(board, &layout, from)));
    assert_eq!(layout.placed(), plan.after.placed());
}

/// Destroyed in sum: exact, greedy, all.
fn study(board: &Board) -> (usize, [usize; 3]) {
    let pairs = pairs(&maximal(board).unwrap());
    let mut sums = [0; 3];
    for (from, to) in &pairs {
        let plan = ready(board, &idle(board, from), &target_of(board, to));
        let exact = usize::try_from(plan.cost.destroyed).unwrap();
        let greedy = greedy_destroys(board, from, to);
        assert!(exact <= greedy && greedy <= from.len());
        let layout = step::replay(board, &plan.before, &plan.steps).unwrap();
        let mut reached: Vec<ProfileId> = layout.parts.iter().map(|it| it.placed.profile).collect();
        reached.sort();
        assert_eq!(&reached, to);
        for (sum, more) in sums.iter_mut().zip([exact, greedy, from.len()]) {
            *sum += more;
        }
    }
    (pairs.len(), sums)
}

/// The numbers of the study; the greedy ones were found by another program.
#[test]
fn exact_is_never_worse_than_greedy() {
    let mean = |(count, sums): (usize, [usize; 3])| {
        let means = sums.map(|sum| format!("{:.3}", sum as f64 / count as f64));
        (count, means.join(" "))
    };
    let a100 = study(&board("a100-40gb", A100));
    assert_eq!(mean(a100), (2886, "2.856 3.380 4.462".to_owned()));
    let a30 = study(&board("a30-24gb", A30));
    assert_eq!(mean(a30), (15, "2.000 2.000 2.600".to_owned()));
    let rtx = study(&board("rtx-pro-6000-blackwell-96gb", RTX));
    assert_eq!(mean(rtx), (3660, "2.318 2.426 3.615".to_owned()));
}

/// The search agrees with looking at every layout there is.
#[test]
fn exact_is_what_exhaustion_finds() {
    let board = board("a100-40gb", A100);
    let all = layouts(&board).unwrap();
    let profiles = |layout: &[Placed]| {
        let mut profiles: Vec<ProfileId> = layout.iter().map(|it| it.profile).collect();
        profiles.sort();
        profiles
    };
    let pairs = pairs(&maximal(&board).unwrap());
    for (from, to) in pairs.iter().step_by(7) {
        let lost = |layout: &&Vec<Placed>| from.iter().filter(|it| !layout.contains(it)).count();
        let least = all.iter().filter(|layout| profiles(layout) == *to).map(|it| lost(&it)).min();
        let plan = ready(&board, &idle(&board, from), &target_of(&board, to));
        assert_eq!(usize::try_from(plan.cost.destroyed).ok(), least);
    }
}

#[test]
fn every_layout_is_left_alone_by_its_own_target() {
    for key in ["a100-40gb", "a30-24gb", "rtx-pro-6000-blackwell-96gb"] {
        let board = whole(key);
        for layout in layouts(&board).unwrap() {
            let profiles: Vec<ProfileId> = layout.iter().map(|it| it.profile).collect();
            let plan = ready(&board, &idle(&board, &layout), &target_of(&board, &profiles));
            assert!(plan.steps.is_empty(), "{}", labels(&board, &layout));
        }
    }
}

#[derive(Debug, Clone)]
struct Case {
    board: usize,
    from: prop::sample::Index,
    to: prop::sample::Index,
    users: Vec<(bool, bool)>,
    split: Vec<u8>,
    names: Vec<u8>,
    pinned: Vec<bool>,
    order: Vec<u8>,
}

fn cases() -> impl Strategy<Value = Case> {
    let parts = (
        0..3_usize,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        prop::collection::vec((prop::bool::weighted(0.2), any::<bool>()), 8),
        prop::collection::vec(0..4_u8, 8),
        prop::collection::vec(0..4_u8, 16),
        prop::collection::vec(prop::bool::weighted(0.15), 8),
        prop::collection::vec(any::<u8>(), 8),
    );
    parts.prop_map(|(board, from, to, users, split, names, pinned, order)| Case {
        board,
        from,
        to,
        users,
        split,
        names,
        pinned,
        order,
    })
}

/// The compute instances of an instance: as a whole, none, one slice, or slices all over.
fn parts(board: &Board, placed: Placed, how: u8) -> Vec<ComputePart> {
    let profile = board.profile(placed.profile).unwrap();
    let part = |id, start| ComputePart { profile: id, start: Some(start) };
    match how {
        0 => profile.whole_compute().map(|it| part(it.id, 0)).into_iter().collect(),
        1 => Vec::new(),
        2 => vec![part(ComputeProfileId(0), profile.compute_slices - 1)],
        _ => (0..profile.compute_slices).map(|at| part(ComputeProfileId(0), at)).collect(),
    }
}

fn scene(case: &Case) -> (Board, Vec<Instance>, Target, Vec<Slot>) {
    let board = whole(["a100-40gb", "a30-24gb", "rtx-pro-6000-blackwell-96gb"][case.board]);
    let all = layouts(&board).unwrap();
    let name = |at: usize| match case.names[at] {
        0 => Some(format!("n{at}")),
        1 => Some(format!("n{}", at % 8)),
        _ => None,
    };
    let part = |(at, placed): (usize, &Placed)| Part {
        placed: *placed,
        name: name(at).filter(|_| at < 8),
        compute: parts(&board, *placed, case.split[at % 8]),
    };
    let layout =
        Layout::new(all[case.from.index(all.len())].iter().enumerate().map(part).collect());
    let mut instances = observed(&board, &layout, &[]);
    for (instance, (used, stoppable)) in instances.iter_mut().zip(&case.users) {
        if *used {
            let holders = match instance.compute.first_mut() {
                Some(compute) => &mut compute.holders,
                None => &mut instance.holders,
            };
            holders.push(holder(*stoppable));
        }
    }
    let to = &all[case.to.index(all.len())];
    let mut slots: Vec<Slot> = to
        .iter()
        .enumerate()
        .map(|(at, placed)| {
            let mut compute = parts(&board, *placed, case.split[(at + 3) % 8]);
            if at % 2 == 0 {
                compute.iter_mut().for_each(|it| it.start = None);
            }
            let start = case.pinned[at % 8].then_some(placed.start);
            Slot { wish: at, profile: placed.profile, start, compute, name: Some(format!("n{at}")) }
        })
        .collect();
    let target = Target { slots: slots.clone() };
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.sort_by_key(|at| case.order[at % 8]);
    slots = order.iter().map(|at| slots[*at].clone()).collect();
    (board, instances, target, slots)
}

/// Nothing in use is destroyed by these steps, and nothing in use gets the name of something else.
fn spares(board: &Board, from: &[Instance], plan: &Plan) {
    for instance in from.iter().filter(|it| it.is_busy() && it.name.is_some()) {
        let part = plan.after.part(instance.placed).expect("it is in use");
        assert_eq!(part.name, instance.name, "{}", board.label(instance.placed));
    }
    for step in &plan.steps {
        let instance = from.iter().find(|it| it.placed == step.instance());
        match step {
            Step::DestroyInstance { .. } => {
                assert!(!instance.unwrap().is_busy(), "{}", step.describe(board));
            }
            Step::DestroyCompute { start, .. } => {
                let mut compute = instance.unwrap().compute.iter();
                let compute = compute.find(|it| Some(it.start) == *start).unwrap();
                assert!(!compute.is_busy(), "{}", step.describe(board));
            }
            Step::CreateInstance { .. } | Step::CreateCompute { .. } => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_change_arrives_and_every_prefix_leads_back(case in cases()) {
        let (board, from, target, reordered) = scene(&case);
        let outcome = plan(&board, &from, &target).unwrap();
        // The order of the wishes does not matter.
        let other = plan(&board, &from, &Target { slots: reordered }).unwrap();
        match outcome {
            Outcome::Ready(plan) => {
                spares(&board, &from, &plan);
                holds(&board, &from, &plan);
                let other = other.ready().expect("ready in another order");
                prop_assert_eq!(other.cost, plan.cost);
                let there = observed(&board, &plan.after, &from);
                let again = ready(&board, &there, &target);
                prop_assert!(again.steps.is_empty(), "{}", steps(&board, &again.steps));
                prop_assert_eq!(again.after, plan.after);
            }
            Outcome::Blocked { needs, nearest, .. } => {
                prop_assert!(!needs.is_empty());
                prop_assert!(needs.iter().all(|need| !need.holders.is_empty()));
                prop_assert!(other.ready().is_none());
                let nearest = nearest.expect("leaving all as it is can always be planned");
                prop_assert!(nearest.missing.len() + nearest.extra.len() > 0);
                spares(&board, &from, &nearest.plan);
                holds(&board, &from, &nearest.plan);
                for seat in &nearest.plan.seats {
                    prop_assert!(!nearest.missing.contains(&seat.slot));
                    prop_assert_eq!(target.slots[seat.slot].profile, seat.placed.profile);
                }
            }
            Outcome::Unplaceable { why, .. } => prop_assert!(false, "a layout is placeable: {}", why),
        }
    }

    #[test]
    fn whatever_was_added_never_loses_what_is_there(case in cases()) {
        let (board, from, target, _) = scene(&case);
        match fits(&board, &from, &target).unwrap() {
            fits::Fits::Now { at, after } => {
                prop_assert_eq!(at.len(), target.slots.len());
                prop_assert_eq!(after.parts.len(), from.len() + at.len());
                prop_assert!(from.iter().all(|it| after.part(it.placed).is_some()));
            }
            fits::Fits::After { displaced, after } => {
                prop_assert!(!displaced.is_empty());
                fit::check(&board, &after.placed()).unwrap();
                let gone = displaced.iter().filter(|it| it.to.is_none()).count();
                prop_assert_eq!(after.parts.len(), from.len() - gone + target.slots.len());
            }
            fits::Fits::Never { why } => prop_assert!(false, "alone it fits: {}", why),
        }
    }
}
