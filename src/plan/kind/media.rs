//! Content-addressed files, images and cloud-init media: another content is another file.

use super::super::diff::Diff;
use super::super::{Action, Disruption};
use super::{Case, Draft, Verdict};
use crate::model::resource::{Image, Seed};

/// What has to be done for an image.
pub(in super::super) fn decide_image(
    case: &Case<'_, '_>,
    to: &Image,
    from: Option<&Image>,
) -> Verdict {
    let mut diff = Diff::default();
    if let Some(from) = from {
        diff.field(format_args!("/path"), &from.path, &to.path, Disruption::None);
        diff.optional(
            format_args!("/bootFiles"),
            &from.boot_files,
            &to.boot_files,
            Disruption::None,
        );
    }
    let image = || to.clone();
    create(case, from.is_some(), diff, || Action::ImageCreate { image: image() })
}

/// What has to be done for cloud-init media. Their texts never enter a field change: they may hold
/// credentials, and their digest says enough.
pub(in super::super) fn decide_seed(
    case: &Case<'_, '_>,
    to: &Seed,
    from: Option<&Seed>,
) -> Verdict {
    let mut diff = Diff::default();
    if let Some(from) = from {
        diff.field(format_args!("/path"), &from.path, &to.path, Disruption::None);
        if !diff.changes.is_empty() {
            diff.field(format_args!("/content"), &from.content, &to.content, Disruption::None);
        }
    }
    create(case, from.is_some(), diff, || Action::SeedCreate { seed: to.clone() })
}

/// One step where the file is absent, another, or to be taken over.
fn create(
    case: &Case<'_, '_>,
    there: bool,
    diff: Diff,
    action: impl FnOnce() -> Action,
) -> Verdict {
    let mut verdict = Verdict::default();
    if !there || case.adopting() || !diff.changes.is_empty() {
        verdict.step(Draft::quiet(action(), case.reason, diff.changes));
    }
    verdict
}
