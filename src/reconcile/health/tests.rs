//! Edges, and what is no edge, folded as the log would be.

use jiff::Timestamp;

use super::*;
use crate::event::Recorded;
use crate::model::xid::{self, XidClass};
use crate::model::{Fault, GpuIdentity};

const GPU: &str = "GPU-1";

fn identity(driver: &str) -> GpuIdentity {
    GpuIdentity {
        pci: "0000:07:00.0".into(),
        serial: None,
        product: "H100".into(),
        architecture: "Hopper".into(),
        driver: driver.into(),
        vbios: Some("96.00".into()),
    }
}

fn seen() -> GpuCondition {
    GpuCondition {
        pci: "0000:07:00.0".into(),
        identity: Some(identity("580")),
        lost: None,
        problems: Vec::new(),
        suspected: Vec::new(),
        cleared: false,
        reports: Vec::new(),
        boot: Some("first".into()),
        layout: Some("gpu/big".parse().unwrap()),
    }
}

fn lost() -> GpuCondition {
    GpuCondition { identity: None, lost: Some("gpu is lost".into()), ..seen() }
}

fn problem(kind: GpuProblemKind) -> GpuProblem {
    GpuProblem { kind, detail: format!("{kind:?}") }
}

fn report(seq: u64, xid: u64) -> GpuReport {
    let (meaning, class) = xid::meaning(xid);
    let at = Timestamp::from_second(1000 + i64::try_from(seq).unwrap()).unwrap();
    let (run, meaning) = ("one".to_owned(), meaning.to_owned());
    GpuReport { run, seq, at, xid, meaning, class, count: 1, instance: None, partition: None }
}

/// Takes in what was seen; the types of the events that came of it.
fn take(state: &mut State, seen: GpuCondition) -> Vec<&'static str> {
    let gpus = Some([(GPU.to_owned(), seen)].into());
    fold(state, &Observed { gpus, ..Observed::default() })
}

fn fold(state: &mut State, observed: &Observed) -> Vec<&'static str> {
    let entries = events_of_health(state, observed);
    let mut types = Vec::new();
    for entry in entries {
        assert_eq!(entry.actor, ACTOR_MACHINE);
        types.push(entry.event.type_name());
        let seq = state.seq + 1;
        state.apply(&Recorded { seq, at: Timestamp::UNIX_EPOCH, entry });
    }
    types
}

#[test]
fn a_gpu_is_found_once_and_again_with_another_driver() {
    let mut state = State::default();
    assert_eq!(take(&mut state, seen()), ["gpu.found"]);
    assert_eq!(take(&mut state, seen()), [""; 0]);
    let other = GpuCondition { identity: Some(identity("590")), ..seen() };
    assert_eq!(take(&mut state, other), ["gpu.found"]);
    assert!(state.gpus[GPU].is_well());
    assert!(state.resources.is_empty(), "a GPU is no resource");
}

#[test]
fn only_another_kind_of_problem_is_news() {
    let mut state = State::default();
    take(&mut state, seen());
    let memory = GpuProblem { kind: GpuProblemKind::UncorrectedMemory, detail: "3".into() };
    let more = GpuProblem { detail: "4".into(), ..memory.clone() };
    let with = |problems: &[&GpuProblem]| GpuCondition {
        problems: problems.iter().map(|it| (*it).clone()).collect(),
        ..seen()
    };
    assert_eq!(take(&mut state, with(&[&memory])), ["gpu.degraded"]);
    assert_eq!(take(&mut state, with(&[&more])), [""; 0]);
    let remap = problem(GpuProblemKind::RemapPending);
    assert_eq!(take(&mut state, with(&[&more, &remap])), ["gpu.degraded"]);
    assert_eq!(state.gpus[GPU].problems.len(), 2);
    assert_eq!(take(&mut state, seen()), ["gpu.recovered"]);
    assert_eq!(state.gpus[GPU].degraded, None);
}

#[test]
fn what_is_only_suspected_neither_begins_nor_ends_a_problem() {
    let mut state = State::default();
    take(&mut state, seen());
    let hot = GpuProblemKind::ThermalSlowdown;
    let suspected = GpuCondition { suspected: vec![hot], ..seen() };
    assert_eq!(take(&mut state, suspected.clone()), [""; 0]);
    assert_eq!(
        take(&mut state, GpuCondition { problems: vec![problem(hot)], ..seen() }),
        ["gpu.degraded"]
    );
    // As after a start of the program, which has not seen it for long.
    assert_eq!(take(&mut state, suspected), [""; 0]);
    assert_eq!(take(&mut state, seen()), ["gpu.recovered"]);
}

#[test]
fn a_fatal_xid_stands_until_something_shows_that_it_is_over() {
    let ends: [(&str, GpuCondition); 2] = [
        ("the driver", GpuCondition { cleared: true, ..seen() }),
        ("a reboot", GpuCondition { boot: Some("second".into()), ..seen() }),
    ];
    for (what, end) in ends {
        let mut state = State::default();
        take(&mut state, seen());
        let reports = vec![report(5, 13), report(6, 119)];
        // The driver has not changed its advice yet.
        let struck = GpuCondition { reports: reports.clone(), cleared: true, ..seen() };
        assert_eq!(take(&mut state, struck), ["gpu.xid", "gpu.xid", "gpu.degraded"], "{what}");
        let kind = GpuProblemKind::Xid(119);
        assert_eq!(kinds(&state.gpus[GPU].problems), [kind].into());
        let same = GpuCondition { reports: reports.clone(), ..seen() };
        assert_eq!(take(&mut state, same), [""; 0], "{what}: told twice");
        assert_eq!(take(&mut state, GpuCondition { reports, ..end }), ["gpu.recovered"], "{what}");
        assert_eq!(state.gpus[GPU].xids.len(), 2);
        assert_eq!(state.gpus[GPU].xids[1].class, XidClass::Reset);
    }
}

#[test]
fn a_gpu_that_comes_back_is_well_again() {
    let mut state = State::default();
    take(&mut state, seen());
    let fell = GpuCondition { reports: vec![report(7, 79)], ..lost() };
    assert_eq!(take(&mut state, fell), ["gpu.xid", "gpu.lost"]);
    assert_eq!(take(&mut state, lost()), [""; 0]);
    assert!(!state.gpus[GPU].is_well());
    let back = GpuCondition { reports: vec![report(7, 79)], ..seen() };
    assert_eq!(take(&mut state, back), ["gpu.returned"]);
    assert!(state.gpus[GPU].is_well());
}

#[test]
fn a_degraded_gpu_that_falls_and_comes_back_is_looked_at_anew() {
    let mut state = State::default();
    take(&mut state, GpuCondition { reports: vec![report(7, 119)], ..seen() });
    assert_eq!(take(&mut state, lost()), ["gpu.lost"]);
    assert_eq!(take(&mut state, seen()), ["gpu.returned", "gpu.recovered"]);
}

#[test]
fn what_cannot_be_seen_says_nothing_and_what_is_not_looked_at_is_forgotten() {
    let mut state = State::default();
    take(&mut state, seen());
    let mut blind = Observed::default();
    let why = Fault::unobservable("no driver").to_string();
    blind.unobservable.insert(Kind::GpuLayout, why);
    assert_eq!(fold(&mut state, &blind), [""; 0]);
    let other =
        Observed { gpus: Some([("GPU-2".to_owned(), seen())].into()), ..Observed::default() };
    assert_eq!(fold(&mut state, &other), ["gpu.gone", "gpu.found"]);
    assert_eq!(fold(&mut state, &Observed::default()), ["gpu.gone"]);
    assert!(state.gpus.is_empty());
}

/// After a start of the program, a GPU off the bus cannot tell which it is.
#[test]
fn a_gpu_is_not_gone_while_one_cannot_tell_which_it_is() {
    let mut state = State::default();
    let other = || ("GPU-2".to_owned(), seen());
    let both = Some([(GPU.to_owned(), seen()), other()].into());
    fold(&mut state, &Observed { gpus: both, ..Observed::default() });
    let nameless_gpus = vec!["gpu is lost".to_owned()];
    let blind = Observed { gpus: Some([other()].into()), nameless_gpus, ..Observed::default() };
    assert_eq!(fold(&mut state, &blind), ["gpu.lost"]);
    assert_eq!(fold(&mut state, &blind), [""; 0], "told twice");
    assert!(!state.gpus[GPU].is_well() && state.gpus["GPU-2"].is_well());
    let back = Some([(GPU.to_owned(), seen()), other()].into());
    let back = Observed { gpus: back, ..Observed::default() };
    assert_eq!(fold(&mut state, &back), ["gpu.returned"]);
    // All that are listed can be told apart: what is missing is gone.
    let gone = Observed { gpus: Some([other()].into()), ..Observed::default() };
    assert_eq!(fold(&mut state, &gone), ["gpu.gone"]);
}

/// What is news is told by the reports' numbers and runs, never by a clock.
#[test]
fn a_clock_that_is_set_back_hides_no_report() {
    let mut state = State::default();
    let with = |reports: &[GpuReport]| GpuCondition { reports: reports.to_vec(), ..seen() };
    let first = report(1, 13);
    assert_eq!(take(&mut state, with(std::slice::from_ref(&first))), ["gpu.found", "gpu.xid"]);
    let back = |run: &str, seq| {
        let at = Timestamp::from_second(1).unwrap();
        GpuReport { run: run.to_owned(), at, ..report(seq, 31) }
    };
    let second = back("one", 2);
    assert_eq!(take(&mut state, with(&[first.clone(), second.clone()])), ["gpu.xid"]);
    assert_eq!(take(&mut state, with(&[first, second])), [""; 0], "told twice");
    // The program is started anew, and counts from 1 again.
    assert_eq!(take(&mut state, with(&[back("two", 1)])), ["gpu.xid"]);
    assert_eq!(take(&mut state, with(&[back("two", 1)])), [""; 0], "told twice");
    // A log of an older version has neither runs nor numbers.
    let mut old = State::default();
    take(&mut old, with(&[GpuReport { run: String::new(), seq: 0, ..report(0, 13) }]));
    assert_eq!(take(&mut old, with(&[back("three", 1)])), ["gpu.xid"]);
}
