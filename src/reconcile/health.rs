//! What a look means for how GPUs are: found, lost, degraded, well again — each only at the edge.
//!
//! Pure: state and observation in, events out. A GPU that was not looked at keeps what is known of
//! it; readings that change with every look never come this far.

use std::collections::BTreeSet;

use crate::event::body::{
    GpuDegraded, GpuFound, GpuGone, GpuLost, GpuRecovered, GpuReturned, GpuXid,
};
use crate::event::{ACTOR_MACHINE, Entry, Event};
use crate::model::{GpuCondition, GpuProblem, GpuProblemKind, GpuReport, Kind, Observed, Resource};
use crate::state::{GpuHealth, State};

/// The events that follow from what was seen of GPUs.
pub(super) fn events_of_health(state: &State, observed: &Observed) -> Vec<Entry> {
    let mut seen = observed.resources.keys().chain(observed.unreadable.keys());
    let needed = seen.any(|id| id.kind == Kind::GpuLayout);
    // A driver that does not answer says nothing about GPUs.
    if observed.unobservable.contains_key(&Kind::GpuLayout) || (observed.gpus.is_none() && needed) {
        return Vec::new();
    }
    let mut entries = Vec::new();
    for (gpu, known) in &state.gpus {
        let why = match (&observed.gpus, observed.nameless_gpus.first()) {
            (Some(seen), _) if seen.contains_key(gpu) => continue,
            (Some(_), Some(error)) if !with_guests(gpu, observed) => {
                entries.extend(may_be_lost(gpu, known, error));
                continue;
            }
            (Some(_), _) => "the driver does not list it any more",
            (None, _) => "no layout needs a look at GPUs any more",
        };
        let gone = GpuGone { gpu: gpu.clone(), why: why.to_owned() };
        entries.push(Entry::new(Event::GpuGone(gone)).by(ACTOR_MACHINE));
    }
    let unknown = GpuHealth::default();
    for (gpu, seen) in observed.gpus.iter().flatten() {
        let known = state.gpus.get(gpu).unwrap_or(&unknown);
        let events = events_of_gpu(gpu, known, seen).into_iter();
        entries.extend(events.map(|event| {
            let entry = Entry::new(event).by(ACTOR_MACHINE);
            match &seen.layout {
                Some(layout) => entry.about(layout),
                None => entry,
            }
        }));
    }
    entries
}

/// Whether guests have it, so that the driver of the host is not expected to list it.
fn with_guests(gpu: &str, observed: &Observed) -> bool {
    observed.resources.values().any(|seen| {
        let Resource::GpuLayout(layout) = &seen.config else { return false };
        let handover = layout.memory.as_ref().and_then(|memory| memory.handover.as_ref());
        let given = layout.kernel.as_ref().is_some_and(|kernel| kernel.is_given());
        given && handover.and_then(|it| it.uuid.as_deref()) == Some(gpu)
    })
}

/// A GPU that is not listed, while one that is listed cannot tell which it is: it may be that one, and
/// is not gone before every other can be told from it.
fn may_be_lost(gpu: &str, known: &GpuHealth, error: &str) -> Option<Entry> {
    let (gpu, pci) = (gpu.to_owned(), known.pci.clone());
    let why = format!("a GPU that cannot tell which it is does not answer: {error}");
    let lost = Event::GpuLost(GpuLost { gpu, pci, why });
    known.lost.is_none().then(|| Entry::new(lost).by(ACTOR_MACHINE))
}

fn events_of_gpu(gpu: &str, known: &GpuHealth, seen: &GpuCondition) -> Vec<Event> {
    let mut events = Vec::new();
    let (gpu, pci) = (gpu.to_owned(), seen.pci.clone());
    if let Some(identity) = seen.identity.as_ref().filter(|it| known.identity.as_ref() != Some(it))
    {
        let found = GpuFound { gpu: gpu.clone(), identity: identity.clone() };
        events.push(Event::GpuFound(found));
    }
    let told = |report: &GpuReport| known.xids.iter().any(|told| report.is_told_by(told));
    let news: Vec<&GpuReport> = seen.reports.iter().filter(|it| !told(it)).collect();
    events.extend(news.iter().map(|report| {
        let (gpu, pci, report) = (gpu.clone(), pci.clone(), (*report).clone());
        Event::GpuXid(GpuXid { gpu, pci, report })
    }));
    if let Some(why) = &seen.lost {
        if known.lost.is_none() {
            events.push(Event::GpuLost(GpuLost { gpu, pci, why: why.clone() }));
        }
        // What else is wrong with it cannot be seen.
        return events;
    }
    if known.lost.is_some() {
        events.push(Event::GpuReturned(GpuReturned { gpu: gpu.clone() }));
    }
    let problems = problems(known, seen, &news);
    if kinds(&problems) == kinds(&known.problems) {
        return events;
    }
    events.push(match problems.is_empty() {
        true => Event::GpuRecovered(GpuRecovered { gpu }),
        false => Event::GpuDegraded(GpuDegraded { gpu, pci, problems, boot: seen.boot.clone() }),
    });
    events
}

/// All that is wrong with a GPU that answers, by kind.
fn problems(known: &GpuHealth, seen: &GpuCondition, news: &[&GpuReport]) -> Vec<GpuProblem> {
    let mut problems = seen.problems.clone();
    // A GPU that came back, a driver that was loaded anew and a reboot leave nothing of an error, and
    // newer drivers say themselves when nothing is to be done any more.
    let over = seen.cleared || known.lost.is_some() || known.boot != seen.boot;
    let stands = |problem: &&GpuProblem| match problem.kind {
        GpuProblemKind::Xid(_) => !over,
        kind => seen.suspected.contains(&kind),
    };
    problems.extend(known.problems.iter().filter(stands).cloned());
    // One that was just reported stands at least until the next look: what the driver advises may
    // come after the report.
    problems.extend(news.iter().filter(|report| report.class.degrades()).map(|report| {
        let GpuReport { xid, meaning, class, .. } = report;
        GpuProblem {
            kind: GpuProblemKind::Xid(*xid),
            detail: format!("Xid {xid}, {meaning}: {}", class.advice()),
        }
    }));
    problems.sort_by_key(|problem| problem.kind);
    problems.dedup_by_key(|problem| problem.kind);
    problems
}

fn kinds(problems: &[GpuProblem]) -> BTreeSet<GpuProblemKind> {
    problems.iter().map(|problem| problem.kind).collect()
}

#[cfg(test)]
mod tests;
