//! Storage pools: defined, started, never moved.

use super::super::diff::Diff;
use super::super::{Action, Disruption, SkipReason};
use super::{Case, Draft, Verdict};
use crate::model::resource::StoragePool;

/// What has to be done for a pool.
pub(in super::super) fn decide(
    case: &Case<'_, '_>,
    to: &StoragePool,
    from: Option<&StoragePool>,
) -> Verdict {
    let mut verdict = Verdict::default();
    let define = || Action::PoolDefine { pool: to.clone(), uuid: case.uuid() };
    let (Some(from), Some(seen)) = (from, case.observation) else {
        verdict.step(Draft::quiet(define(), case.reason, Vec::new()));
        return verdict;
    };
    let mut diff = Diff::default();
    diff.field(format_args!("/path"), &from.path, &to.path, Disruption::Replace);
    if !diff.changes.is_empty() {
        let text = format!(
            "its files are in {}: give the pool another name, or move the files by hand",
            from.path
        );
        verdict.skip(SkipReason::Immutable(text), diff.changes);
        return verdict;
    }
    diff.field(format_args!("/autostart"), &from.autostart, &to.autostart, Disruption::None);
    if case.adopting() || !diff.changes.is_empty() {
        verdict.step(Draft::quiet(define(), case.reason, diff.changes));
    } else if !seen.active {
        verdict.step(Draft::quiet(Action::PoolStart, case.reason, Vec::new()));
    }
    verdict
}
