//! `backupBefore` and `keepFor` to their canonical form, and whether the backup named is one that helps.

use super::super::kinds::{DiskSpec, machine::MachineSpec};
use super::super::scalar;
use super::Cx;
use crate::model::resource::{SnapshotPolicy, WayBack};
use crate::model::{Kind, Name};

/// Longest time that a way back is kept, seconds: two years; longer is a mistake of units.
const KEEP_S_MAX: u64 = 2 * 366 * 24 * 3600;

/// What is kept of a disk; the inner `None`: nothing. The outer: what is asked for makes no sense.
pub(super) fn of_disk(cx: &mut Cx<'_>, spec: &DiskSpec) -> Option<Option<WayBack>> {
    if spec.keep_for.is_some() && spec.backup_before.is_none() {
        let message = "nothing is taken that could be kept";
        cx.err("spec/conflict", "/spec/keepFor", message)
            .hint("name a `Backup` of this disk as `backupBefore`");
    }
    resolve(cx, spec.backup_before.as_deref(), spec.keep_for.as_deref())
}

/// What is kept of a machine, as of a disk.
pub(super) fn of_machine(cx: &mut Cx<'_>, spec: &MachineSpec) -> Option<Option<WayBack>> {
    let nothing = spec.backup_before.is_none() && spec.snapshot == SnapshotPolicy::Never;
    if spec.keep_for.is_some() && nothing {
        let message = "nothing is taken that could be kept";
        cx.err("spec/conflict", "/spec/keepFor", message).hint(
            "say `snapshot: beforeDisruption`, or name a `Backup` of this machine as `backupBefore`",
        );
    }
    resolve(cx, spec.backup_before.as_deref(), spec.keep_for.as_deref())
}

fn resolve(
    cx: &mut Cx<'_>,
    backup: Option<&str>,
    keep_for: Option<&str>,
) -> Option<Option<WayBack>> {
    if backup.is_none() && keep_for.is_none() {
        return Some(None);
    }
    let keep_s = match keep_for {
        None => Some(WayBack::KEEP_S),
        Some(text) => {
            let read = scalar::seconds_up_to(text, KEEP_S_MAX, "two years");
            cx.check("/spec/keepFor", read)
        }
    };
    let backup = match backup {
        None => None,
        Some(name) => {
            cx.look_up("/spec/backupBefore", Kind::Backup, name)?;
            Some(Name::new(name).ok()?)
        }
    };
    Some(Some(WayBack { backup, keep_s: keep_s? }))
}
