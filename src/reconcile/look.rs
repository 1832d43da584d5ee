//! The observation of a pass: every provider, side by side, each with a time limit.
//!
//! What does not answer is unobservable, never absent.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::event::body::{Observable, Unobservable};
use crate::event::{Entry, Event};
use crate::model::{Fault, Observed};
use crate::port::{Clock, Provider, Scope};
use crate::state::State;

/// Looks at everything. Never fails: what could not be seen is said in the result.
pub(super) async fn observe(
    providers: &[Arc<dyn Provider>],
    clock: &Arc<dyn Clock>,
    scope: &Scope,
    limit: Duration,
) -> Observed {
    let mut looks = JoinSet::new();
    for (index, provider) in providers.iter().enumerate() {
        let (provider, clock, scope) = (Arc::clone(provider), Arc::clone(clock), scope.clone());
        looks.spawn(async move {
            let seen = tokio::select! {
                seen = provider.observe(&scope) => seen,
                () = clock.sleep(limit) => Err(Fault::unobservable(format!(
                    "{} did not answer within {} s", provider.name(), limit.as_secs()
                ))),
            };
            (index, seen)
        });
    }
    let mut seen: Vec<Option<Result<Observed, Fault>>> = Vec::new();
    seen.resize_with(providers.len(), || None);
    while let Some(look) = looks.join_next().await {
        // A look that panicked leaves its place empty: unobservable, below.
        if let Ok((index, result)) = look {
            seen[index] = Some(result);
        }
    }
    let mut whole = Observed::default();
    for (provider, result) in providers.iter().zip(seen) {
        match result {
            Some(Ok(part)) => whole.merge(part),
            Some(Err(fault)) => {
                mark_unobservable(&mut whole, provider.as_ref(), &fault.to_string())
            }
            None => {
                let why =
                    format!("{} ended without an answer: a bug, see the log", provider.name());
                mark_unobservable(&mut whole, provider.as_ref(), &why);
            }
        }
    }
    whole
}

fn mark_unobservable(observed: &mut Observed, provider: &dyn Provider, why: &str) {
    for kind in provider.kinds() {
        observed.unobservable.insert(*kind, why.to_owned());
    }
}

/// The events for resources that went out of sight, or came back; each only at the edge.
pub(super) fn sight_events(state: &State, observed: &Observed) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (id, known) in &state.resources {
        match (observed.why_unobservable(id), &known.unobservable) {
            (Some(why), None) => {
                let event = Event::Unobservable(Unobservable { why: why.to_owned() });
                entries.push(Entry::new(event).about(id));
            }
            (None, Some(_)) => {
                entries.push(Entry::new(Event::Observable(Observable {})).about(id));
            }
            // What is left of something that nobody asks for any more is another matter than how it was.
            (Some(why), Some(before)) if known.wish.is_none() && matter(why) != matter(before) => {
                let event = Event::Unobservable(Unobservable { why: why.to_owned() });
                entries.push(Entry::new(event).about(id));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    entries
}

/// What words are about: those before the details, which may be others each time.
fn matter(why: &str) -> &str {
    why.split_once(": ").map_or(why, |(matter, _)| matter)
}
