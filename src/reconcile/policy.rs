//! The rules in force, what they say of a plan, and which of it is new, changed or gone.
//!
//! Rules, settings and the wish come from one commit; nothing of a pull request's head is asked.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

use super::pass::{PassError, Reconciler, Round};
use super::saved::saved;

use crate::event::body::{PolicyCleared, PolicyExempted, PolicyViolated};
use crate::event::{Entry, Event};
use crate::model::Observed;
use crate::plan::{Plan, render};
use crate::policy;
use crate::policy::{
    Host, Input, InputParts, RuleFile, Rules, Verdict, Verdicts, evaluate, rule_files,
};
use crate::spec::{Desired, Places, PolicySettings, RepoFiles};
use crate::state::State;

/// Findings noted in the log; the worst ones come first, and the rest is only shown.
const NOTED_MAX: usize = 200;

/// How often rules are asked where there is nothing to do, seconds: exemptions end by the day.
const IDLE_S: i64 = 3_600;

/// The rules of a commit, ready to be asked in every pass.
#[derive(Debug)]
pub struct Rulebook {
    files: Vec<RuleFile>,
    rules: Arc<Rules>,
    settings: PolicySettings,
    // When they were last asked by a pass, in steps of `IDLE_S`; -1: never.
    asked: AtomicI64,
}

impl Default for Rulebook {
    fn default() -> Self {
        Self::new(&RepoFiles::default(), PolicySettings::default())
    }
}

impl Rulebook {
    /// The shipped rules and those in `repo`, whose rule files need their bytes, with the settings
    /// of an environment.
    pub fn new(repo: &RepoFiles, settings: PolicySettings) -> Self {
        let files = rule_files(repo);
        let rules = Arc::new(Rules::new(&files));
        Self { files, rules, settings, asked: AtomicI64::new(-1) }
    }

    /// The same for another commit; rules that did not change are not parsed again.
    pub(super) fn next(&self, repo: &RepoFiles, settings: PolicySettings) -> Self {
        let files = rule_files(repo);
        match files == self.files {
            true => {
                Self { files, rules: Arc::clone(&self.rules), settings, asked: AtomicI64::new(-1) }
            }
            false => Self::new(repo, settings),
        }
    }

    /// How the rules apply.
    pub(super) fn settings(&self) -> &PolicySettings {
        &self.settings
    }

    /// Whether a pass with nothing to do asks them; says so once in `IDLE_S`.
    fn is_due(&self, now: Timestamp) -> bool {
        let step = now.as_second().div_euclid(IDLE_S);
        self.asked.swap(step, Ordering::Relaxed) != step
    }

    /// What the rules say of `plan`, for people by [`Verdicts::hold_reasons`]. It may take seconds:
    /// run it where it blocks nobody. With `repo` each finding is on its line, else on its document.
    pub fn verdicts(
        &self,
        plan: &Plan,
        desired: &Desired,
        observed: &Observed,
        backups: Vec<policy::Backup>,
        now: Timestamp,
        repo: Option<&RepoFiles>,
    ) -> Verdicts {
        let mut shown = render::json(plan);
        let mut input = shown["plan"].take();
        input["digest"] = shown["digest"].take();
        let input = Input::of(InputParts {
            plan: Some(input),
            desired,
            before: None,
            observed: Some(observed),
            now,
            host: Host {
                memory_kib: observed.host.memory_kib,
                cpus: observed.host.cpus,
                ..Host::default()
            },
            backups,
            settings: &self.settings,
        });
        let mut found = evaluate(&self.rules, &self.settings, &input);
        // Finding places is parsing again: only where there is something to find.
        let repo = repo.filter(|_| !found.all.is_empty());
        let mut places = repo.map(|repo| Places::new(repo, &desired.environment));
        found.locate(desired, places.as_mut());
        found
    }
}

impl Reconciler {
    /// What the rules say of a round's plan. Where they cannot be asked, that holds too.
    pub(super) async fn ask_rules(
        &self,
        rulebook: &Arc<Rulebook>,
        round: &Round,
        repo: Option<RepoFiles>,
    ) -> Verdicts {
        let (rulebook, plan) = (Arc::clone(rulebook), round.plan.clone());
        let (desired, observed) = (Arc::clone(&round.scope.desired), round.observed.clone());
        let now = self.clock.now();
        let backups = self.ledger.read(|state| saved(state, &desired, &observed, now));
        let asking = tokio::task::spawn_blocking(move || {
            rulebook.verdicts(&plan, &desired, &observed, backups, now, repo.as_ref())
        });
        asking.await.unwrap_or_else(|error| Verdicts::broken(&error.to_string()))
    }

    /// Asks the rules in a pass and notes what is new: whenever there is something to do, else once
    /// in a while.
    pub(super) async fn heed_rules(
        &self,
        rulebook: &Arc<Rulebook>,
        round: &mut Round,
    ) -> Result<(), PassError> {
        let due = rulebook.is_due(self.clock.now());
        if round.plan.is_empty() && !due {
            return Ok(());
        }
        round.verdicts = self.ask_rules(rulebook, round, None).await;
        let entries = self.ledger.read(|state| events_of_verdicts(state, &round.verdicts));
        self.append_at(&round.commit, entries).await
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Recorded;
    use crate::model::PolicyLevel;
    use crate::policy::Exempted;
    use crate::spec::TextPlace;

    fn verdict(message: &str, level: PolicyLevel) -> Verdict {
        Verdict {
            rule: "house.rule".into(),
            source: TextPlace::default(),
            level,
            broken: false,
            message: message.into(),
            resource: Some("network/dmz".parse().unwrap()),
            field: None,
            place: None,
            exempted: None,
        }
    }

    fn said(state: &mut State, all: Vec<Verdict>) -> Vec<&'static str> {
        let entries = events_of_verdicts(state, &Verdicts { all, omitted: 0 });
        let names = entries.iter().map(|entry| entry.event.type_name()).collect();
        for entry in entries {
            let at = "2026-01-02T03:04:05Z".parse().unwrap();
            let seq = state.seq + 1;
            state.apply(&Recorded { seq, at, entry });
        }
        names
    }

    #[test]
    fn a_finding_is_noted_when_it_comes_changes_and_goes() {
        let mut state = State::default();
        let hard = verdict("no", PolicyLevel::Hard);
        let soft = verdict("no", PolicyLevel::Soft);
        let mut exempt = hard.clone();
        exempt.exempted = Some(Exempted {
            owner: "ann".into(),
            reason: "for now".into(),
            until: "2027-01-01T00:00:00Z".parse().unwrap(),
        });
        assert_eq!(said(&mut state, vec![hard.clone()]), ["policy.violated"]);
        assert_eq!(said(&mut state, vec![hard.clone()]), [""; 0]);
        assert_eq!(said(&mut state, vec![soft]), ["policy.violated"]);
        assert_eq!(said(&mut state, vec![exempt.clone()]), ["policy.exempted"]);
        assert_eq!(said(&mut state, vec![exempt]), [""; 0]);
        assert_eq!(said(&mut state, vec![]), ["policy.cleared"]);
        assert!(state.policy.is_empty() && state.resources.is_empty(), "{state:?}");
        assert_eq!(said(&mut state, vec![]), [""; 0]);
    }
}
