//! The source's part of a pass: what the repository says, as events.
//!
//! Pure: it is handed what was polled and what is known, and gives the events to append. It never
//! lets a commit through that does not follow from the one in force.

use crate::event::body::{
    CommitObserved, Reachable, RefusalEnded, Rekeyed, RewriteRefused, SignatureRejected,
    Unreachable,
};
use crate::event::{Entry, Event};
use crate::model::{CommitId, Fault};
use crate::port::{Head, Relation};
use crate::state::SourceState;

/// The events that follow from one poll; each only once, at the edge.
pub(super) fn events_of_poll(known: &SourceState, polled: &Result<Head, Fault>) -> Vec<Entry> {
    match polled {
        Err(_) if known.unreachable.is_some() => Vec::new(),
        Err(fault) => {
            vec![Entry::new(Event::SourceUnreachable(Unreachable { error: fault.to_string() }))]
        }
        Ok(head) => {
            let mut entries = Vec::new();
            if known.unreachable.is_some() {
                entries.push(Entry::new(Event::SourceReachable(Reachable {})));
            }
            let rekeyed = known.repository.as_ref().filter(|before| **before != head.repository);
            if let Some(previous) = rekeyed {
                let (previous, repository) = (previous.clone(), head.repository.clone());
                entries.push(Entry::new(Event::SourceRekeyed(Rekeyed { previous, repository })));
                // What was refused or let through there says nothing about this one.
                let fresh = SourceState { refused: None, allowed: None, ..known.clone() };
                entries.extend(event_of_head(&fresh, head));
            } else {
                entries.extend(event_of_head(known, head));
            }
            entries
        }
    }
}

fn event_of_head(known: &SourceState, head: &Head) -> Option<Entry> {
    let refused_already =
        known.refused.as_ref().is_some_and(|refused| refused.commit == head.commit);
    let allowed = known.allowed.as_ref() == Some(&head.commit);
    if head.relation == Relation::Same {
        // Signatures may be required since it was taken in, or its key is no longer allowed.
        if let Err(why) = &head.signer {
            let said = known.refused.as_ref().is_some_and(|refused| {
                refused.commit == head.commit && refused.signature && refused.why == *why
            });
            let event = Event::SignatureRejected(SignatureRejected { why: why.clone() });
            return (!said).then(|| Entry::new(event).at_commit(&head.commit));
        }
        // The branch is back at the commit in force: whatever was refused is gone.
        return known.refused.as_ref().map(|_| Entry::new(Event::RefusalEnded(RefusalEnded {})));
    }
    // A signature is looked at anew: its signer may be allowed by now.
    let for_signature = known.refused.as_ref().is_some_and(|refused| refused.signature);
    if refused_already && !allowed && !for_signature {
        return None;
    }
    let signer = match &head.signer {
        Ok(signer) => signer.clone(),
        // An operator may let a rewrite through, never a missing signature.
        Err(_) if refused_already => return None,
        Err(why) => {
            let rejected = SignatureRejected { why: why.clone() };
            let event = Event::SignatureRejected(rejected);
            return Some(Entry::new(event).at_commit(&head.commit));
        }
    };
    if !allowed && let Some(event) = refusal(known.head.as_ref(), head) {
        return Some(Entry::new(event));
    }
    let observed = CommitObserved {
        author: head.author.clone(),
        time: head.time.clone(),
        subject: head.subject.clone(),
        signer,
        repository: Some(head.repository.clone()),
    };
    Some(Entry::new(Event::CommitObserved(observed)).at_commit(&head.commit))
}

fn refusal(have: Option<&CommitId>, head: &Head) -> Option<Event> {
    let relation = match head.relation {
        Relation::First | Relation::Same | Relation::Ahead => return None,
        Relation::Behind => "behind",
        Relation::Diverged => "diverged",
    };
    let offered = head.commit.clone();
    let have = have.cloned().unwrap_or_else(|| offered.clone());
    Some(Event::RewriteRefused(RewriteRefused { have, offered, relation: relation.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Refused;

    fn commit(digit: char) -> CommitId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    fn head(digit: char, relation: Relation, signer: Result<Option<String>, String>) -> Head {
        Head {
            commit: commit(digit),
            repository: "https://example.org/lab.git".into(),
            relation,
            author: "ann <ann@example.org>".into(),
            time: "2026-01-01T00:00:00Z".into(),
            subject: "change".into(),
            signer,
        }
    }

    fn names(known: &SourceState, polled: Result<Head, Fault>) -> Vec<&'static str> {
        events_of_poll(known, &polled).iter().map(|entry| entry.event.type_name()).collect()
    }

    #[test]
    fn a_fast_forward_is_taken_and_the_same_commit_says_nothing() {
        let known = SourceState { head: Some(commit('a')), ..SourceState::default() };
        let ahead = head('b', Relation::Ahead, Ok(None));
        assert_eq!(names(&known, Ok(ahead)), ["source.commit_observed"]);
        assert!(names(&known, Ok(head('a', Relation::Same, Ok(None)))).is_empty());
    }

    #[test]
    fn a_rewrite_is_refused_once_and_passes_when_allowed() {
        let mut known = SourceState { head: Some(commit('a')), ..SourceState::default() };
        let rewrite = head('b', Relation::Diverged, Ok(None));
        assert_eq!(names(&known, Ok(rewrite.clone())), ["source.rewrite_refused"]);
        let since = jiff::Timestamp::UNIX_EPOCH;
        known.refused =
            Some(Refused { commit: commit('b'), why: String::new(), signature: false, since });
        assert!(names(&known, Ok(rewrite.clone())).is_empty(), "said once");
        known.allowed = Some(commit('b'));
        assert_eq!(names(&known, Ok(rewrite)), ["source.commit_observed"]);
    }

    #[test]
    fn another_repository_goes_on_only_where_it_holds_the_commit_in_force() {
        let since = jiff::Timestamp::UNIX_EPOCH;
        let known = SourceState {
            head: Some(commit('a')),
            repository: Some("https://example.org/old.git".into()),
            // An approval that was given for the old repository.
            allowed: Some(commit('b')),
            refused: Some(Refused {
                commit: commit('b'),
                why: String::new(),
                signature: false,
                since,
            }),
            ..SourceState::default()
        };
        let of = |relation| names(&known, Ok(head('b', relation, Ok(None))));
        assert_eq!(of(Relation::Ahead), ["source.rekeyed", "source.commit_observed"]);
        assert_eq!(of(Relation::Diverged), ["source.rekeyed", "source.rewrite_refused"]);
        let same = head('a', Relation::Same, Ok(None));
        assert_eq!(names(&known, Ok(same)), ["source.rekeyed"]);
    }

    #[test]
    fn an_operator_cannot_let_a_bad_signature_through() {
        let since = jiff::Timestamp::UNIX_EPOCH;
        let known = SourceState {
            head: Some(commit('a')),
            refused: Some(Refused {
                commit: commit('b'),
                why: String::new(),
                signature: false,
                since,
            }),
            allowed: Some(commit('b')),
            ..SourceState::default()
        };
        let bad = head('b', Relation::Diverged, Err("unsigned".into()));
        assert!(names(&known, Ok(bad)).is_empty());
        let mut known = known;
        known.refused.as_mut().unwrap().signature = true;
        known.allowed = None;
        let mended = head('b', Relation::Ahead, Ok(Some("ann".into())));
        assert_eq!(
            names(&known, Ok(mended)),
            ["source.commit_observed"],
            "its signer is allowed now"
        );
        let back = head('a', Relation::Same, Ok(None));
        assert_eq!(names(&known, Ok(back)), ["source.refusal_ended"]);
        let fresh = SourceState { head: Some(commit('a')), ..SourceState::default() };
        let bad = head('b', Relation::Ahead, Err("unsigned".into()));
        assert_eq!(names(&fresh, Ok(bad)), ["source.signature_rejected"]);
    }

    #[test]
    fn the_commit_in_force_loses_its_place_with_its_signature_and_gets_it_back() {
        let mut known = SourceState { head: Some(commit('a')), ..SourceState::default() };
        let unsigned = || head('a', Relation::Same, Err("unsigned".into()));
        assert_eq!(names(&known, Ok(unsigned())), ["source.signature_rejected"]);
        let since = jiff::Timestamp::UNIX_EPOCH;
        known.refused =
            Some(Refused { commit: commit('a'), why: "unsigned".into(), signature: true, since });
        assert!(names(&known, Ok(unsigned())).is_empty(), "said once");
        let mended = head('a', Relation::Same, Ok(Some("ann".into())));
        assert_eq!(names(&known, Ok(mended)), ["source.refusal_ended"]);
    }

    #[test]
    fn unreachable_and_back_are_edges() {
        let known = SourceState::default();
        let down = || Err(Fault::unobservable("no route"));
        assert_eq!(names(&known, down()), ["source.unreachable"]);
        let since = jiff::Timestamp::UNIX_EPOCH;
        let known =
            SourceState { unreachable: Some((since, "no route".into())), ..SourceState::default() };
        assert!(names(&known, down()).is_empty());
        let first = head('a', Relation::First, Ok(None));
        assert_eq!(names(&known, Ok(first)), ["source.reachable", "source.commit_observed"]);
    }
}
