//! How much planning of GPU partitions saves, and how long it takes: the exact planner, a greedy one
//! and destroying everything, over all pairs of the study, in one run.
//!
//! Prints figures and their targets; judges nothing by an exit code. Run by `make bench`.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark measures and prints"
)]

use std::time::{Duration, Instant};

use trueup_mig::baseline::{greedy_destroys, idle, pairs, target_of};
use trueup_mig::{Board, ProfileId, Target, assign, boards, fit, plan};

/// Runs of which the fastest counts.
const RUNS: usize = 5;
/// GPUs of the group, and layouts it is tried with.
const GPUS: usize = 8;
const GROUPS: usize = 40;

/// Board, profiles, and the means that the exact planner, by what is known, cannot be above.
const STUDIES: [(&str, &[&str], f64); 3] = [
    ("a100-40gb", &["1g", "1g.2m", "2g", "3g", "4g", "7g"], 2.86),
    ("rtx-pro-6000-blackwell-96gb", &["1g", "1g+gfx", "1g-me", "2g", "2g+gfx", "4g"], 2.32),
    ("a30-24gb", &["1g", "2g", "4g"], 2.00),
];

fn main() {
    let samples = boards::samples().unwrap();
    let board = |key: &str| samples.iter().find(|it| it.key == key).unwrap().board();
    println!("GPU instances destroyed, mean over all pairs of the study");
    for (key, shapes, most) in STUDIES {
        study(key, &boards::only(board(key), shapes).unwrap(), most);
    }
    println!("time, boards with all their profiles");
    for (key, ..) in STUDIES {
        times(key, board(key));
    }
    groups(board("a100-40gb"));
}

fn at_most(what: &str, figure: f64, unit: &str, most: f64) {
    let word = if figure <= most { "PASS" } else { "MISS" };
    println!("  {what:<46} {figure:>9.3} {unit:<12} target {most:>5} at most  {word}");
}

fn study(key: &str, board: &Board, most: f64) {
    let pairs = pairs(&fit::maximal(board).unwrap());
    let (mut exact, mut greedy, mut all, mut worse) = (0, 0, 0, 0);
    for (from, to) in &pairs {
        let outcome = plan(board, &idle(board, from), &target_of(board, to)).unwrap();
        let ours = usize::try_from(outcome.ready().unwrap().cost.destroyed).unwrap();
        let theirs = greedy_destroys(board, from, to);
        worse += usize::from(ours > theirs);
        exact += ours;
        greedy += theirs;
        all += from.len();
    }
    let mean = |sum: usize| sum as f64 / pairs.len() as f64;
    println!(" {key}, {} pairs", pairs.len());
    at_most("exact", mean(exact), "instances", most);
    println!("  {:<46} {:>9.3} instances", "greedy", mean(greedy));
    println!("  {:<46} {:>9.3} instances", "destroy all", mean(all));
    at_most("pairs on which exact destroys more than greedy", worse as f64, "pairs", 0.0);
}

/// Every pair of a board with all its profiles: the fastest of several runs of each.
fn times(key: &str, board: &Board) {
    let pairs = pairs(&fit::maximal(board).unwrap());
    // Some thousand of them say as much.
    let step = pairs.len().div_ceil(4000).max(1);
    let mut times: Vec<Duration> = pairs
        .iter()
        .step_by(step)
        .map(|(from, to)| {
            let (observed, target) = (idle(board, from), target_of(board, to));
            let run = |_| {
                let begun = Instant::now();
                std::hint::black_box(plan(board, &observed, &target).unwrap());
                begun.elapsed()
            };
            (0..RUNS).map(run).min().unwrap()
        })
        .collect();
    times.sort_unstable();
    let ms = |at: usize| times[(times.len() * at).div_ceil(1000).max(1) - 1].as_secs_f64() * 1e3;
    println!(" {key}, {} pairs", times.len());
    println!("  {:<46} {:>9.3} ms", "a plan, median", ms(500));
    at_most("a plan, 99th percentile", ms(990), "ms", 5.0);
    println!("  {:<46} {:>9.3} ms", "a plan, longest", ms(1000));
    // The same with one instance in use, where the nearest layout may have to be searched too.
    let mut used: Vec<Duration> = pairs
        .iter()
        .step_by(step * 4)
        .map(|(from, to)| {
            let (mut observed, target) = (idle(board, from), target_of(board, to));
            let middle = observed.len() / 2;
            observed[middle].holders.push(trueup_mig::Holder {
                who: "worker".to_owned(),
                pid: Some(1),
                unit: None,
                stoppable: false,
            });
            let begun = Instant::now();
            std::hint::black_box(plan(board, &observed, &target).unwrap());
            begun.elapsed()
        })
        .collect();
    used.sort_unstable();
    let at = (used.len() * 99).div_ceil(100).max(1) - 1;
    at_most("with one in use, 99th percentile", used[at].as_secs_f64() * 1e3, "ms", 5.0);
}

/// Eight different GPUs, eight different targets.
fn groups(board: &Board) {
    let maximal = fit::maximal(board).unwrap();
    let mut longest = Duration::ZERO;
    for group in 0..GROUPS {
        let pick = |at: usize| &maximal[(group * 97 + at * 41) % maximal.len()];
        let observed: Vec<_> = (0..GPUS).map(|at| idle(board, pick(at))).collect();
        let observed: Vec<_> = observed.iter().map(Vec::as_slice).collect();
        let targets: Vec<Target> = (0..GPUS)
            .map(|at| {
                let profiles: Vec<ProfileId> =
                    pick(at + GPUS + 3).iter().map(|it| it.profile).collect();
                target_of(board, &profiles)
            })
            .collect();
        let run = |_| {
            let begun = Instant::now();
            std::hint::black_box(assign(board, &observed, &targets).unwrap());
            begun.elapsed()
        };
        longest = longest.max((0..RUNS).map(run).min().unwrap());
    }
    println!(" {GPUS} equal GPUs with interchangeable targets, {GROUPS} groups");
    at_most("the assignment and all plans, longest", longest.as_secs_f64() * 1e3, "ms", 50.0);
}
