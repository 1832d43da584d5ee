//! Accepting drift: the change to the repository's YAML that asks for what the machine has.
//!
//! Only fields that the spec says in one place are written, and every edit is proven: the edited
//! repository is loaded again, and the edit stays only where it makes that one field of that one
//! resource what the machine has, and nothing else. What cannot be said so is told with its reason.
//! It edits text in memory and writes nothing.

mod edit;
mod lines;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::parse::part_of;
use super::text::{decode, split};
use super::yaml::Index;
use super::{Desired, DesiredResource, Diagnostic, ParseCache, RepoFile, RepoFiles, Select, load};
use crate::model::{Digest, Resource, ResourceId};
use lines::Lines;

/// Fields accepted at once: each costs a load of what changed.
pub const ACCEPTED_MAX: usize = 200;

/// One field that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Differing {
    /// The resource.
    pub resource: ResourceId,
    /// Path into the canonical resource.
    pub path: String,
    /// What the machine has; `None`: nothing.
    pub has: Option<Value>,
}

/// The change that accepts drift.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acceptance {
    /// A unified diff over the repository, fit for `git apply`; empty where nothing can be said.
    pub patch: String,
    /// How many fields it accepts.
    pub accepted: usize,
    /// What it does not accept: resource, field, and why.
    pub refused: Vec<(ResourceId, String, &'static str)>,
}

/// The change to `repo` that accepts `differing`.
///
/// # Errors
/// The mistakes of the repository as it is.
pub fn accept(
    repo: &RepoFiles,
    select: &Select,
    differing: &[Differing],
) -> Result<Acceptance, Vec<Diagnostic>> {
    let mut cache = ParseCache::default();
    let desired = load(repo, select, &mut cache)?.desired;
    let mut work = Work { repo: repo.clone(), select, cache, desired, edited: BTreeMap::new() };
    let mut acceptance = Acceptance::default();
    for (at, field) in differing.iter().enumerate() {
        let result = match at < ACCEPTED_MAX {
            true => work.accept(field),
            false => Err("too many at once; accept these first"),
        };
        match result {
            Ok(()) => acceptance.accepted += 1,
            Err(why) => {
                acceptance.refused.push((field.resource.clone(), field.path.clone(), why));
            }
        }
    }
    for (path, lines) in &work.edited {
        acceptance.patch += &lines.patch(path);
    }
    Ok(acceptance)
}

struct Work<'a> {
    repo: RepoFiles,
    select: &'a Select,
    cache: ParseCache,
    desired: Desired,
    edited: BTreeMap<String, Lines>,
}

impl Work<'_> {
    fn accept(&mut self, field: &Differing) -> Result<(), &'static str> {
        let wish = self.desired.resources.get(&field.resource).map(Arc::clone);
        let wish = wish.ok_or("it is not in the commit any more")?;
        if wish.owner.is_some() {
            return Err("it follows from another resource's document");
        }
        let has = field.has.as_ref().ok_or("the machine has no value to write down")?;
        let goal = replaced(&wish.resource, &field.path, has)
            .ok_or("it is more than one field of the document")?;
        let candidates = edit::candidates(&wish.resource, &field.path, has);
        if candidates.is_empty() {
            return Err("the spec does not say it in one field");
        }
        let lines = match self.edited.get(&wish.origin.path) {
            Some(lines) => lines.clone(),
            None => Lines::of(self.text(&wish.origin.path)?),
        };
        let (text, origin) = (lines.text(), wish.origin.line);
        let index = index_of(&text, lines.line_now(origin)).ok_or("its document was not found")?;
        for edit in candidates {
            let mut trial = lines.clone();
            if edit::apply(&mut trial, &index, &edit).is_none() {
                continue;
            }
            if self.proves(&wish, &field.resource, &trial, &goal) {
                self.edited.insert(wish.origin.path.clone(), trial);
                return Ok(());
            }
        }
        Err("its place in the document could not be changed without changing something else")
    }

    fn text(&self, path: &str) -> Result<&str, &'static str> {
        let file = self.repo.files.iter().find(|file| file.path == path);
        let bytes = file.and_then(|file| file.bytes.as_deref()).ok_or("its file was not found")?;
        decode(bytes).map_err(|_| "its file is no text")
    }

    /// Whether `trial` makes the resource `goal` and leaves every other as it is; keeps it then.
    fn proves(
        &mut self,
        wish: &DesiredResource,
        id: &ResourceId,
        trial: &Lines,
        goal: &Resource,
    ) -> bool {
        let bytes = trial.text().into_bytes();
        let mut repo = self.repo.clone();
        let path = &wish.origin.path;
        let Some(file) = repo.files.iter_mut().find(|file| file.path == *path) else {
            return false;
        };
        *file = RepoFile::new(path.clone(), format!("edited {}", Digest::of(&bytes)), bytes);
        let Ok(loaded) = load(&repo, self.select, &mut self.cache) else {
            return false;
        };
        let (old, new) = (&self.desired.resources, &loaded.desired.resources);
        let ids: BTreeSet<&ResourceId> = old.keys().chain(new.keys()).collect();
        let others = ids.into_iter().filter(|other| *other != id).all(|other| {
            let digest = |of: &BTreeMap<ResourceId, Arc<DesiredResource>>| {
                of.get(other).map(|wish| wish.digest)
            };
            digest(old) == digest(new)
        });
        let made = new
            .get(id)
            .is_some_and(|made| made.resource == *goal && made.lifecycle == wish.lifecycle);
        let proven = others && made && loaded.desired.sync == self.desired.sync;
        if proven {
            self.repo = repo;
            // Lines of documents move with the edits: origins are looked up in the original.
            let mut desired = loaded.desired;
            for (id, wish) in &mut desired.resources {
                if let Some(before) = self.desired.resources.get(id) {
                    Arc::make_mut(wish).origin = before.origin.clone();
                }
            }
            self.desired = desired;
        }
        proven
    }
}

/// The resource with the value at `path` replaced; `None` where the path leads into a list, or the
/// result would be no resource.
fn replaced(resource: &Resource, path: &str, value: &Value) -> Option<Resource> {
    let mut all = serde_json::to_value(resource).ok()?;
    let (parent, key) = path.rsplit_once('/')?;
    let parent = all.pointer_mut(&format!("/spec{parent}"))?.as_object_mut()?;
    *parent.get_mut(key)? = value.clone();
    serde_json::from_value(all).ok()
}

/// The index of the document whose first key stands on `line`.
fn index_of(text: &str, line: u32) -> Option<Index> {
    let at = split(text).iter().position(|part| part.first == line)?;
    part_of(text, at).map(Index::of)
}

/// Where a pointer's value stands: line and column from 1, length in characters.
fn value_at(index: &Index, pointer: &str) -> Option<(u32, u32, u32)> {
    index.value(pointer).map(|spot| (spot.line, spot.column, spot.len))
}
