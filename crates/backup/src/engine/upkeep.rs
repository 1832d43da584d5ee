//! Looks after a repository: check, forget, prune.

use jiff::Span;
use rustic_core::{CheckOptions, LimitOption, PruneOptions, ReadSubsetOption};

use super::{Job, Open, told};
use crate::protocol::{
    Checked, Done, FINDINGS_MAX, Fault, Filter, Finding, Kept, Pruned, ReadData,
};
use crate::retention::{self, Keep};

impl Job {
    pub(super) fn check(&self, open: &Open, read: ReadData) -> Result<Checked, Fault> {
        let options = CheckOptions::default();
        let options = match read {
            ReadData::None => options,
            ReadData::All => options.read_data(true),
            ReadData::Part { part, of } => {
                if of == 0 || !(1..=of).contains(&part) {
                    return Err(Fault::Invalid {
                        what: format!("there is no part {part} of {of}"),
                    });
                }
                options.read_data(true).read_data_subset(ReadSubsetOption::IdSubSet((part, of)))
            }
            ReadData::Bytes { bytes } => {
                options.read_data(true).read_data_subset(ReadSubsetOption::Size(bytes))
            }
        };
        let snapshots = self.snapshots(open, &Filter::default())?.len() as u64;
        let (before, _) = self.bridge.traffic();
        self.bridge.read_anew();
        let results = open.check(options).map_err(|error| self.fault(&error))?;
        let (after, _) = self.bridge.traffic();
        let mut findings: Vec<Finding> = results
            .0
            .iter()
            // The type of a level and of a finding have no names outside of the library.
            .map(|(level, error)| finding(format!("{level:?}") == "Error", error))
            .collect();
        findings.sort_by_key(|finding| !finding.error);
        let error_count = findings.iter().filter(|finding| finding.error).count() as u64;
        // A server that went away in the middle is no damage; the library takes it for some.
        if error_count > 0
            && let Some(fault) = self.bridge.unreached()
        {
            return Err(fault);
        }
        findings.truncate(FINDINGS_MAX);
        let read = if read == ReadData::None { 0 } else { after - before };
        Ok(Checked { snapshots, read, error_count, findings })
    }

    pub(super) fn forget(
        &self,
        open: &Open,
        filter: &Filter,
        keep: &Keep,
        dry_run: bool,
    ) -> Result<Done, Fault> {
        let invalid = |what: &str| Fault::Invalid { what: what.to_owned() };
        if keep.is_empty() {
            return Err(invalid("a policy that keeps nothing removes every backup"));
        }
        let stored = self.snapshots(open, filter)?;
        let all: Vec<_> = stored.iter().map(told).collect();
        let fates = retention::apply(keep, &all);
        let (keep, remove): (Vec<_>, Vec<_>) =
            fates.into_iter().partition(|fate| !fate.reasons.is_empty());
        if keep.is_empty() && !remove.is_empty() {
            return Err(invalid("the policy keeps none of the snapshots it is about"));
        }
        let keep: Vec<Kept> = keep
            .into_iter()
            .map(|fate| Kept { snapshot: fate.snapshot.clone(), reasons: fate.reasons })
            .collect();
        let remove: Vec<_> = remove.into_iter().map(|fate| fate.snapshot.clone()).collect();
        if !dry_run && !remove.is_empty() {
            let gone = |id: &String| remove.iter().any(|snapshot| snapshot.id == *id);
            let ids: Vec<_> = stored
                .iter()
                .map(|snapshot| snapshot.id)
                .filter(|id| gone(&id.to_hex().as_str().to_owned()))
                .collect();
            open.delete_snapshots(&ids).map_err(|error| self.fault(&error))?;
        }
        Ok(Done::Forget { keep, remove, dry_run })
    }

    pub(super) fn prune(
        &self,
        open: &Open,
        dry_run: bool,
        max_unused_percent: Option<u8>,
    ) -> Result<Pruned, Fault> {
        /// restic's default, and the library's.
        const UNUSED_PERCENT: u8 = 5;
        let percent = max_unused_percent.unwrap_or(UNUSED_PERCENT);
        if percent > 99 {
            return Err(Fault::Invalid { what: format!("{percent} % may not all be unused") });
        }
        // Nobody else is there: the lock says so. Marking packs and removing them a day later, the
        // library's other way, is for those who cannot know.
        let options = PruneOptions::default()
            .instant_delete(true)
            .keep_delete(Span::new())
            .max_unused(LimitOption::Percentage(u64::from(percent)))
            .max_repack(LimitOption::Unlimited);
        let plan = open.prune_plan(&options).map_err(|error| self.fault(&error))?;
        let size = plan.stats.size_sum();
        let pruned = Pruned {
            packs_unused: plan.stats.packs.unused + plan.stats.packs_unref,
            packs_repacked: plan.stats.packs.repack,
            bytes_removed: size.remove + size.repackrm + plan.stats.size_unref,
            bytes_unused: size.unused_after_prune(),
            dry_run,
        };
        if !dry_run {
            open.prune(&options, plan).map_err(|error| self.fault(&error))?;
            if let Some(fault) = self.bridge.barred() {
                return Err(fault);
            }
            let swept = self.bridge.store.sweep();
            swept.map_err(|fault| fault.explain(&self.bridge.at))?;
        }
        Ok(pruned)
    }
}

/// A finding in our words. The library's type of it has no name outside: its texts are read.
fn finding(error: bool, found: &(impl std::fmt::Debug + std::fmt::Display)) -> Finding {
    /// A chain of causes can be long.
    const TEXT_MAX: usize = 500;
    let debug = format!("{found:?}");
    let kind: String = debug.chars().take_while(char::is_ascii_alphanumeric).collect();
    let text = found.to_string();
    let about_pack = kind.contains("Pack");
    let pack = about_pack.then(|| first_id(&debug).or_else(|| first_id(&text))).flatten();
    Finding { error, kind, pack, what: text.chars().take(TEXT_MAX).collect() }
}

/// The first 64 hex digits in a row.
fn first_id(text: &str) -> Option<String> {
    let ids = text.split(|c: char| !c.is_ascii_hexdigit());
    ids.filter(|part| part.len() == 64).map(str::to_owned).next()
}
