//! Which findings of rules are new, changed or gone: the events of one evaluation.

use std::collections::BTreeSet;

use crate::event::body::{PolicyCleared, PolicyExempted, PolicyViolated};
use crate::event::{Entry, Event};
use crate::policy::{Verdict, Verdicts};
use crate::state::State;

/// Findings noted in the log; the worst ones come first, and the rest is only shown.
const NOTED_MAX: usize = 200;

/// What has to be noted, so that the log says of each finding once when it came and when it went.
pub fn events_of_verdicts(state: &State, verdicts: &Verdicts) -> Vec<Entry> {
    let noted: Vec<&Verdict> = verdicts.all.iter().take(NOTED_MAX).collect();
    let current: BTreeSet<_> = noted.iter().map(|verdict| verdict.key()).collect();
    let gone = state.policy.iter().filter(|(key, _)| !current.contains(*key));
    let mut entries: Vec<Entry> = gone
        .map(|(key, found)| {
            let cleared = PolicyCleared { key: *key, rule: found.rule.clone() };
            let entry = Entry::new(Event::PolicyCleared(cleared));
            match &found.resource {
                Some(id) => entry.about(id),
                None => entry,
            }
        })
        .collect();
    entries.extend(noted.into_iter().filter_map(|verdict| noted_now(state, verdict)));
    entries
}

fn noted_now(state: &State, verdict: &Verdict) -> Option<Entry> {
    let key = verdict.key();
    let (level, owner) = match &verdict.exempted {
        Some(exempted) => (None, Some(&exempted.owner)),
        None => (Some(verdict.level), None),
    };
    let known = state.policy.get(&key);
    if known.is_some_and(|known| known.level == level && known.owner.as_ref() == owner) {
        return None;
    }
    let (rule, message) = (verdict.rule.clone(), verdict.message.clone());
    let resource = verdict.resource.clone();
    let event = match &verdict.exempted {
        Some(exempted) => Event::PolicyExempted(PolicyExempted {
            key,
            rule,
            message,
            resource,
            owner: exempted.owner.clone(),
            reason: exempted.reason.clone(),
            until: exempted.until,
        }),
        None => Event::PolicyViolated(PolicyViolated {
            key,
            rule,
            level: verdict.level,
            message,
            resource,
            field: verdict.field.clone(),
            place: verdict.place.as_ref().map(|at| format!("{}:{}", at.path, at.line)),
        }),
    };
    let entry = Entry::new(event);
    Some(match &verdict.resource {
        Some(id) => entry.about(id),
        None => entry,
    })
}
