//! Tests over the boards of the table, and what they share.

mod answers;
mod compute;
mod parted;
mod pictures;
mod plans;
mod properties;
mod tables;

use crate::*;

/// The six profiles of studies of the A100: without the one with media engines.
pub(super) const A100: &[&str] = &["1g", "1g.2m", "2g", "3g", "4g", "7g"];
/// Six of the RTX PRO 6000's eleven.
pub(super) const RTX: &[&str] = &["1g", "1g+gfx", "1g-me", "2g", "2g+gfx", "4g"];
/// Three of the A30's five.
pub(super) const A30: &[&str] = &["1g", "2g", "4g"];

pub(super) fn whole(key: &str) -> Board {
    let samples = boards::samples().unwrap();
    samples.into_iter().find(|sample| sample.key == key).unwrap().profiles
}

pub(super) fn board(key: &str, shapes: &[&str]) -> Board {
    boards::only(&whole(key), shapes).unwrap()
}

pub(super) fn a100() -> Board {
    whole("a100-40gb")
}

/// `3g@4`.
pub(super) fn at(board: &Board, label: &str) -> Placed {
    let (shape, start) = label.split_once('@').unwrap();
    let target = resolve(board, &[Wish::shape(shape, 1)]).unwrap();
    Placed { profile: target.slots[0].profile, start: start.parse().unwrap() }
}

/// `3g@0* 1g@4`: instances with one compute instance each; a star is in use, a plus by a client
/// that may be stopped, `=name` names it.
pub(super) fn found(board: &Board, words: &str) -> Vec<Instance> {
    words
        .split_whitespace()
        .map(|word| {
            let (word, name) = word.split_once('=').map_or((word, None), |(a, b)| (a, Some(b)));
            let plain = word.trim_end_matches(['*', '+']);
            let mut instance = baseline::idle(board, &[at(board, plain)]).remove(0);
            instance.name = name.map(str::to_owned);
            if plain != word {
                instance.compute[0].holders.push(holder(word.ends_with('+')));
            }
            instance
        })
        .collect()
}

pub(super) fn holder(stoppable: bool) -> Holder {
    let unit = stoppable.then(|| "inference.service".to_owned());
    Holder { who: "python3".to_owned(), pid: Some(4711), unit, stoppable }
}

/// `3g 1g@6 7g=all`: a target.
pub(super) fn wanted(board: &Board, words: &str) -> Target {
    let wish = |word: &str| {
        let (word, name) = word.split_once('=').map_or((word, None), |(a, b)| (a, Some(b)));
        let (shape, start) = word.split_once('@').map_or((word, None), |(a, b)| (a, Some(b)));
        Wish {
            start: start.map(|start| start.parse().unwrap()),
            name: name.map(str::to_owned),
            ..Wish::shape(shape, 1)
        }
    };
    let wishes: Vec<Wish> = words.split_whitespace().map(wish).collect();
    resolve(board, &wishes).unwrap()
}

pub(super) fn labels(board: &Board, placed: &[Placed]) -> String {
    placed.iter().map(|it| board.label(*it)).collect::<Vec<_>>().join(" ")
}

pub(super) fn steps(board: &Board, steps: &[Step]) -> String {
    steps.iter().map(|step| step.describe(board) + "\n").collect()
}

/// A plan that must be there.
#[track_caller]
pub(super) fn ready(board: &Board, observed: &[Instance], target: &Target) -> Plan {
    match plan(board, observed, target).unwrap() {
        Outcome::Ready(plan) => plan,
        other => panic!("no plan: {other:?}"),
    }
}

/// What an observer would find if the GPU were cut like this; who used what stays keeps using it.
pub(super) fn observed(board: &Board, layout: &Layout, before: &[Instance]) -> Vec<Instance> {
    let instance = |(id, part): (u32, &Part)| {
        let old = before.iter().find(|it| it.placed == part.placed);
        let profile = board.profile(part.placed.profile).unwrap();
        let compute = part.compute.iter().map(|it| {
            let known = profile.compute.iter().find(|other| other.id == it.profile).unwrap();
            let start = it.start.unwrap_or(known.starts[0]);
            let same = old.and_then(|old| {
                old.compute.iter().find(|old| old.profile == it.profile && old.start == start)
            });
            ComputeInstance {
                id: ComputeInstanceId(start),
                profile: it.profile,
                start,
                slices: known.slices,
                holders: same.map(|same| same.holders.clone()).unwrap_or_default(),
            }
        });
        Instance {
            id: InstanceId(id),
            placed: part.placed,
            name: part.name.clone(),
            compute: compute.collect(),
            holders: old.map(|old| old.holders.clone()).unwrap_or_default(),
        }
    };
    (1..).zip(&layout.parts).map(instance).collect()
}
