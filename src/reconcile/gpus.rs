//! How GPUs are cut, into the log: each time that a look finds another cut than the log has.
//!
//! Pure. It says what was seen, also where that is not what anybody asked for.

use std::collections::BTreeSet;

use crate::event::body::GpuObserved;
use crate::event::{Entry, Event};
use crate::model::resource::GpuSeen;
use crate::model::{Observed, Resource, ResourceId};
use crate::state::State;

/// The events for GPUs that are cut in another way than the log says. Of what is `busy`, being worked
/// on, nothing is said: it was seen half-done.
pub(super) fn events_of_gpus(
    state: &State,
    observed: &Observed,
    busy: &BTreeSet<ResourceId>,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (id, seen) in &observed.resources {
        let Resource::GpuLayout(layout) = &seen.config else { continue };
        let (Some(found), Some(known)) = (&layout.state, state.resources.get(id)) else { continue };
        let seen = GpuSeen::of(found);
        let news = known.gpu.as_ref().is_none_or(|last| last.seen != seen);
        if news && !busy.contains(id) {
            let event = Event::GpuObserved(GpuObserved { gpu: seen });
            entries.push(Entry::new(event).about(id));
        }
    }
    entries
}
