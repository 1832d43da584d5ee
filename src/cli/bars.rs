//! Progress of long steps: bars on a terminal, nothing elsewhere.
//!
//! Drawn on stderr only, and gone when the work is done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::paint::clean;
use crate::model::ResourceId;
use crate::reconcile::StepProgress;

/// The bars of one command.
pub(super) fn progress(shown: bool) -> Option<StepProgress> {
    if !shown {
        return None;
    }
    let whole = MultiProgress::new();
    let bars: Mutex<HashMap<ResourceId, ProgressBar>> = Mutex::default();
    Some(Arc::new(move |resource, update| {
        let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(resource.clone()).or_insert_with(|| {
            let bar = whole.add(ProgressBar::no_length());
            bar.set_style(style(false));
            bar.set_prefix(resource.to_string());
            bar
        });
        if let Some(total) = update.total {
            if bar.length() != Some(total) {
                bar.set_style(style(true));
                bar.set_length(total);
            }
            bar.set_position(update.done);
            if update.done >= total {
                bar.finish_and_clear();
            }
        }
        bar.set_message(clean(&update.what));
        bar.tick();
    }))
}

fn style(with_length: bool) -> ProgressStyle {
    let template = if with_length {
        "{prefix:<20} {bar:30} {binary_bytes:>10}/{binary_total_bytes:<10} {msg}"
    } else {
        "{prefix:<20} {spinner} {msg}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
