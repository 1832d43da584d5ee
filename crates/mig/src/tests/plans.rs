//! Plans by example: what is kept, in which order it is done, and what is said when it cannot be.

use expect_test::{Expect, expect};

use super::*;

#[track_caller]
fn check(from: &str, to: &str, expected: Expect) {
    let board = a100();
    let plan = ready(&board, &found(&board, from), &wanted(&board, to));
    expected.assert_eq(&steps(&board, &plan.steps));
}

#[test]
fn what_stands_right_stays() {
    check("3g@0 3g@4", "3g 3g", expect![""]);
    check("", "", expect![""]);
}

#[test]
fn destroying_comes_first_and_compute_instances_before_their_gpu_instance() {
    check(
        "3g@0 3g@4",
        "3g 2g 1g",
        expect![[r#"
            destroy compute instance 3c@0 in 3g@0
            destroy 3g@0
            create 2g@0
            create 1g@2
            create compute instance 2c@0 in 2g@0
            create compute instance 1c@0 in 1g@2
        "#]],
    );
}

#[test]
fn the_instance_that_leaves_room_is_the_one_that_goes() {
    // 4g goes to 0 only: the 3g at 0 has to go, not the one that greed would take.
    check(
        "3g@0 3g@4",
        "4g 3g",
        expect![[r#"
            destroy compute instance 3c@0 in 3g@0
            destroy 3g@0
            create 4g@0
            create compute instance 4c@0 in 4g@0
        "#]],
    );
}

#[test]
fn a_fixed_start_is_kept_to() {
    check(
        "1g@0",
        "1g@6",
        expect![[r#"
            destroy compute instance 1c@0 in 1g@0
            destroy 1g@0
            create 1g@6
            create compute instance 1c@0 in 1g@6
        "#]],
    );
}

#[test]
fn a_name_stays_where_it_is() {
    let board = a100();
    let from = found(&board, "3g@0=train 3g@4=infer");
    let plan = ready(&board, &from, &wanted(&board, "3g=infer"));
    assert_eq!(labels(&board, &plan.after.placed()), "3g@4");
    let plan = ready(&board, &from, &wanted(&board, "3g=infer 3g=train"));
    assert!(plan.steps.is_empty());
    assert_eq!(plan.seats[0].placed.start, 4);
    assert_eq!(plan.after.parts[0].name.as_deref(), Some("train"));
}

/// A name is a promise to whoever refers to it.
#[test]
fn what_is_in_use_under_one_name_does_not_become_another() {
    // `infer` goes, and its instance would do for `train`: it is in use, so it does not.
    blocked(
        "3g@0*=infer",
        "3g=train",
        expect![[r#"
            wanted 3g@0
            3g@0 as train: python3 (pid 4711)
            nearest 3g@0 3g@4, without [], with [3g@0]
        "#]],
    );
    let board = a100();
    // Of two that are alike the one that is called so stays, though the other one is in use too.
    let from = found(&board, "1g@0=a 1g@1+=b");
    let plan = ready(&board, &from, &wanted(&board, "1g=a"));
    assert_eq!((labels(&board, &plan.after.placed()), plan.stops.len()), ("1g@0".to_owned(), 1));
    // A client is told of another name as of any other change: it is stopped and started around it.
    let plan = ready(&board, &found(&board, "3g@0+=infer"), &wanted(&board, "3g=train"));
    assert_eq!((plan.steps.len(), plan.stops.len()), (0, 1));
    // What nobody uses goes by the new name.
    let plan = ready(&board, &found(&board, "3g@0=infer"), &wanted(&board, "3g=train"));
    assert_eq!((plan.steps.len(), plan.cost.stopped), (0, 0));
    // Who asks for no name takes whatever there is.
    let plan = ready(&board, &found(&board, "3g@0*=infer"), &wanted(&board, "3g"));
    assert!(plan.steps.is_empty());
}

#[test]
fn a_client_that_may_be_stopped_is_spared_if_possible_and_named_if_not() {
    let board = a100();
    let plan = ready(&board, &found(&board, "1g@0+ 1g@1"), &wanted(&board, "1g"));
    assert_eq!((labels(&board, &plan.after.placed()), plan.stops.len()), ("1g@0".to_owned(), 0));
    let plan = ready(&board, &found(&board, "1g@0+"), &wanted(&board, "7g"));
    assert_eq!(plan.stops, [holder(true)]);
    assert_eq!((plan.cost.busy, plan.cost.stopped), (0, 1));
}

#[track_caller]
fn blocked(from: &str, to: &str, expected: Expect) {
    let board = a100();
    let observed = found(&board, from);
    let (head, nearest) = match plan(&board, &observed, &wanted(&board, to)).unwrap() {
        Outcome::Ready(plan) => panic!("ready: {}", steps(&board, &plan.steps)),
        Outcome::Blocked { needs, wanted, nearest } => {
            let mut head = format!("wanted {}\n", labels(&board, &wanted.placed()));
            for need in needs {
                let obstacle = match need.obstacle {
                    Obstacle::Move { to } => format!("to {}", board.label(to)),
                    Obstacle::Surplus => "surplus".to_owned(),
                    Obstacle::Compute => "compute".to_owned(),
                    Obstacle::Rename { to } => format!("as {to}"),
                };
                let holders: Vec<String> = need.holders.iter().map(Holder::to_string).collect();
                let label = board.label(need.instance);
                head.push_str(&format!("{label} {obstacle}: {}\n", holders.join(", ")));
            }
            (head, nearest)
        }
        Outcome::Unplaceable { why, nearest } => (format!("{why}\n"), nearest),
    };
    let tail = nearest.map_or("nothing near\n".to_owned(), |nearest| {
        let after = labels(&board, &nearest.plan.after.placed());
        let extra = labels(&board, &nearest.extra);
        format!("nearest {after}, without {:?}, with [{extra}]\n", nearest.missing)
    });
    expected.assert_eq(&(head + &tail));
}

#[test]
fn what_is_in_use_is_not_destroyed_but_named() {
    // The 4g goes to 0 only, where somebody works.
    blocked(
        "3g@0*",
        "4g 3g",
        expect![[r#"
            wanted 4g@0 3g@4
            3g@0 to 3g@4: python3 (pid 4711)
            nearest 3g@0, without [0], with []
        "#]],
    );
    blocked(
        "1g@0* 1g@1",
        "7g",
        expect![[r#"
            wanted 7g@0
            1g@0 surplus: python3 (pid 4711)
            nearest 1g@0, without [0], with [1g@0]
        "#]],
    );
}

#[test]
fn what_never_fits_says_why() {
    blocked(
        "",
        "7g 1g",
        expect![[r#"
            9 memory slices, of which the GPU has 8
            nearest 7g@0, without [1], with []
        "#]],
    );
    blocked(
        "",
        "4g 4g",
        expect![[r#"
            2 times 4g, of which the GPU holds 1
            nearest 4g@0, without [1], with []
        "#]],
    );
    blocked(
        "",
        "3g@0 1g@2",
        expect![[r#"
            3g@0 and 1g@2 overlap
            nearest 3g@0, without [1], with []
        "#]],
    );
    blocked(
        "",
        "3g 3g 1g",
        expect![[r#"
            9 memory slices, of which the GPU has 8
            nearest 3g@0 3g@4, without [2], with []
        "#]],
    );
    blocked(
        "1g@6*",
        "2g 2g 2g 1g.2m",
        expect![[r#"
            wanted 2g@0 2g@2 2g@4 1g.2m@6
            1g@6 surplus: python3 (pid 4711)
            nearest 2g@0 2g@2 2g@4 1g@6, without [3], with [1g@6]
        "#]],
    );
}

#[test]
fn an_observation_that_the_board_does_not_allow_is_an_error() {
    let board = a100();
    let mut observed = found(&board, "1g@0");
    observed[0].placed.profile = ProfileId(77);
    let error = plan(&board, &observed, &Target::default()).unwrap_err();
    let why = Misfit::UnknownProfile { profile: ProfileId(77) };
    assert_eq!(error, PlanError::Observation { why });
}

#[test]
fn a_wish_that_means_nothing_lists_what_would() {
    let board = a100();
    let error = |wish: Wish| resolve(&board, &[wish]).unwrap_err().to_string();
    assert_eq!(
        error(Wish::shape("5g", 1)),
        "no profile `5g` on this GPU; it has 1g (1g.5gb), 1g+me (1g.5gb+me), 1g.2m (1g.10gb), \
         2g (2g.10gb), 3g (3g.20gb), 4g (4g.20gb), 7g (7g.40gb)"
    );
    assert_eq!(error(Wish::shape("1g", 0)), "count 0 of 1g is not between 1 and 64");
    let start = |start, count| Wish { start: Some(start), ..Wish::shape("2g", count) };
    assert_eq!(error(start(1, 1)), "2g cannot start at slice 1; it can at [0, 2, 4]");
    assert_eq!(error(start(2, 2)), "start of 2g is for one instance, and its count is 2");
    let compute = |shape: &str, count| {
        let compute = ComputeWish { shape: shape.to_owned(), count, start: None };
        Wish { compute: Some(vec![compute]), ..Wish::profile("3g.20gb", 1) }
    };
    assert_eq!(
        error(compute("4c", 1)),
        "no compute instance `4c` within 3g.20gb; there is 1c, 2c, 3c"
    );
    assert_eq!(
        error(compute("2c", 2)),
        "the compute instances of 3g.20gb do not fit into its 3 compute slices"
    );
    let named = |name: &str| Wish { name: Some(name.to_owned()), ..Wish::shape("1g", 1) };
    let twice = resolve(&board, &[named("a"), named("a")]).unwrap_err();
    assert_eq!(twice.to_string(), "two instances are called `a`");
}
