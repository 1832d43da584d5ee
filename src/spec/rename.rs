//! `moved` and `formerly` of an environment: what had another name before.
//!
//! It never lets a name stand for two things: a mistake here could make one object be taken for
//! another.

use std::collections::{BTreeMap, BTreeSet};

use super::Renames;
use super::diag::did_you_mean;
use super::environment::Gathered;
use super::kinds::environment::EnvironmentSpec;
use super::resolve::{Draft, Place};
use crate::model::{Kind, Name, ResourceId};

/// Most entries of `moved` and `formerly`: far more than anybody keeps in mind, and each is walked.
const RENAMES_MAX: usize = 1_000;

/// Reads what was renamed; mistakes become drafts.
pub(super) fn read(all: &mut Gathered, name: &Name, spec: &EnvironmentSpec) -> Renames {
    let Some(head) = all.head else {
        return Renames::default();
    };
    let mut found = Vec::new();
    let mut names = Reader { head, all, found: &mut found };
    let formerly = names.formerly(name, spec);
    let moved = names.moved(spec);
    all.drafts.extend(found);
    Renames { formerly, moved }
}

struct Reader<'a> {
    head: usize,
    all: &'a Gathered,
    found: &'a mut Vec<Draft>,
}

impl Reader<'_> {
    fn err(&mut self, code: &'static str, pointer: String, message: String, hint: Option<String>) {
        let mut draft = Draft::new(code, Place::value(self.head, pointer), message);
        draft.hint = hint;
        self.found.push(draft);
    }

    fn formerly(&mut self, now: &Name, spec: &EnvironmentSpec) -> Vec<Name> {
        let mut names: Vec<Name> = Vec::new();
        for (n, text) in spec.formerly.iter().take(RENAMES_MAX).enumerate() {
            let at = format!("/spec/formerly/{n}");
            match Name::new(text.as_str()) {
                Err(error) => self.err("spec/wrong-value", at, error.to_string(), None),
                Ok(name) if name == *now || names.contains(&name) => {
                    let message = format!("`{name}` is its name now, or is in the list already");
                    self.err("spec/conflict", at, message, None);
                }
                Ok(name) => names.push(name),
            }
        }
        names
    }

    /// The entries of `moved`, each checked alone, from what it is now to its place and its origin.
    fn entries(&mut self, spec: &EnvironmentSpec) -> BTreeMap<ResourceId, (usize, ResourceId)> {
        let mut entries = BTreeMap::new();
        let mut origins = BTreeSet::new();
        if spec.moved.len() > RENAMES_MAX {
            let message = format!("{} entries; at most {RENAMES_MAX} fit", spec.moved.len());
            self.err("spec/too-many", "/spec/moved".to_owned(), message, None);
        }
        for (n, entry) in spec.moved.iter().take(RENAMES_MAX).enumerate() {
            let at = |field| format!("/spec/moved/{n}/{field}");
            let from = self.id(&entry.from, at("from"));
            let to = self.id(&entry.to, at("to"));
            let (Some(from), Some(to)) = (from, to) else { continue };
            if let Some((message, hint)) = cannot_move(&from, &to) {
                self.err("spec/cannot-move", at("from"), message, Some(hint));
            } else if self.all.by_id.contains_key(&from) {
                let message = format!("`{from}` is still here: it cannot have become `{to}`");
                let hint = "give one of the two another name".to_owned();
                self.err("spec/conflict", at("from"), message, Some(hint));
            } else if !origins.insert(from.clone()) || entries.contains_key(&to) {
                let message = format!("`{from}` or `{to}` is in the list already");
                self.err("spec/conflict", at("to"), message, None);
            } else {
                entries.insert(to, (n, from));
            }
        }
        entries
    }

    /// Every resource with all its earlier names, one rename after the other.
    fn moved(&mut self, spec: &EnvironmentSpec) -> BTreeMap<ResourceId, Vec<ResourceId>> {
        let mut entries = self.entries(spec);
        let mut moved = BTreeMap::new();
        let now: Vec<ResourceId> =
            entries.keys().filter(|to| self.all.by_id.contains_key(to)).cloned().collect();
        for to in now {
            let mut names: Vec<ResourceId> = Vec::new();
            let mut at = to.clone();
            // Each entry is taken once, so this ends.
            while let Some((_, from)) = entries.remove(&at) {
                names.push(from.clone());
                at = from;
            }
            moved.insert(to, names);
        }
        for (to, (n, _)) in entries {
            let known: Vec<String> = self.all.by_id.keys().map(ToString::to_string).collect();
            let hint = did_you_mean(&to.to_string(), known.iter().map(String::as_str))
                .unwrap_or_else(|| "remove the entry once what it names is gone".to_owned());
            let message = format!("there is no `{to}` in this environment");
            self.err("spec/dangling-reference", format!("/spec/moved/{n}/to"), message, Some(hint));
        }
        moved
    }

    fn id(&mut self, text: &str, at: String) -> Option<ResourceId> {
        match text.parse::<ResourceId>() {
            Ok(id) => Some(id),
            Err(error) => {
                self.err("spec/wrong-value", at, error.to_string(), None);
                None
            }
        }
    }
}

/// Why `from` cannot become `to`, and what can be done.
fn cannot_move(from: &ResourceId, to: &ResourceId) -> Option<(String, String)> {
    if from.kind != to.kind || from == to {
        let message = format!("`{from}` cannot become `{to}`");
        return Some((message, "only the name can change, never the kind".to_owned()));
    }
    let (why, hint) = match from.kind {
        Kind::Disk | Kind::Image => return None,
        Kind::VirtualMachine => (
            "libvirt cannot rename a running domain, and its MAC addresses and cloud-init id follow \
             its name",
            "keep its name; or write it under the new one with the same disks, without this entry: it is \
             stopped and made anew, and its disks stay, but cloud-init runs again in it, and MAC \
             addresses that are not fixed change",
        ),
        Kind::Network => (
            "libvirt cannot rename a network while guests are plugged into it",
            "keep its name; or add a second network beside it, plug the guests into that, and take the \
             old one out once nobody is on it",
        ),
        Kind::StoragePool => (
            "libvirt cannot rename a storage pool",
            "keep its name: a pool is a folder, and its files would stay behind in the old one",
        ),
        Kind::GpuLayout => (
            "the log knows the GPU's partitions by its name",
            "keep its name; the names of its partitions are free",
        ),
        Kind::Backup => (
            "snapshots are filed under its name in the repository",
            "keep its name; under a new one it begins a new series in the same repository",
        ),
        Kind::Cluster => (
            "reasons on its nodes carry its name",
            "keep its name; what it calls itself is `spec.name`",
        ),
        Kind::Release => (
            "its objects in the cluster bear its name",
            "keep its name; under a new one its objects are removed and made anew",
        ),
        Kind::Seed => ("cloud-init media belong to their machine", "take the entry out"),
    };
    let hint = hint.to_owned();
    Some((format!("`{from}` cannot move: {why}"), hint))
}
