//! Accepting drift: the change to the repository's YAML that asks for what the machine has.
//!
//! A field is written where it is said: in the resource's document, in a patch of the environment, or,
//! where only a base that others share says it, in a new patch. Only what one field says is written, and every edit is proven: the edited
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

use super::load::load_without_rendering;
use super::parse::part_of;
use super::place::Places;
use super::repo::BASES_FOLDER;
use super::text::{decode, split};
use super::yaml::Index;
use super::{Desired, DesiredResource, Diagnostic, ParseCache, RepoFile, RepoFiles, Select};
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
    /// What it accepts, and where it says so.
    pub accepted: Vec<Written>,
    /// What it does not accept: resource, field, and why.
    pub refused: Vec<(ResourceId, String, &'static str)>,
}

/// A field that the patch writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The resource.
    pub resource: ResourceId,
    /// Path into the canonical resource.
    pub field: String,
    /// The file.
    pub path: String,
    /// The line of it, from 1, once the changes before this one are made.
    pub line: u32,
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
    let desired = load_without_rendering(repo, select, &mut cache)?.desired;
    let places = Places::new(repo, &desired.environment);
    let (repo, edited) = (repo.clone(), BTreeMap::new());
    let mut work = Work { repo, select, cache, desired, edited, places, patches: 0 };
    let mut acceptance = Acceptance::default();
    for (at, field) in differing.iter().enumerate() {
        let result = match at < ACCEPTED_MAX {
            true => work.accept(field),
            false => Err("too many at once; accept these first"),
        };
        match result {
            Ok(written) => acceptance.accepted.push(written),
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
    places: Places<'a>,
    /// Patches put in front of those that `places` knows.
    patches: usize,
}

/// Where an edit is made.
struct Target {
    path: String,
    /// The line of the document's first key, as it was.
    origin: u32,
    /// The patch that says the field, by its place in the list as it was.
    patch: Option<usize>,
    /// The field is said by a patch that is not there yet.
    new: bool,
}

impl Work<'_> {
    fn accept(&mut self, field: &Differing) -> Result<Written, &'static str> {
        let wish = self.desired.resources.get(&field.resource).map(Arc::clone);
        let wish = wish.ok_or("it is not in the commit any more")?;
        if wish.owner.is_some() {
            return Err("it follows from another resource's document");
        }
        let nothing = Value::Null;
        let has = match (&field.has, field.path.starts_with("/dns/")) {
            (Some(has), _) => has,
            (None, true) => &nothing,
            (None, false) => return Err("the machine has no value to write down"),
        };
        let goal = replaced(&wish.resource, &field.path, has)
            .ok_or("it is part of a list whose items the document says in other words")?;
        let candidates = edit::candidates(&wish.resource, &field.path, has);
        if candidates.is_empty() {
            return Err("the spec does not say it in one field");
        }
        let base = wish.origin.path.starts_with(&format!("{BASES_FOLDER}/"));
        for edit in &candidates {
            let target = self.target(&field.resource, &wish, edit);
            let Some((path, trial, line)) = self.tried(&field.resource, &target, edit) else {
                continue;
            };
            if self.proves(&path, &wish, &field.resource, &trial, &goal) {
                self.patches += usize::from(target.new);
                self.edited.insert(path.clone(), trial);
                let (resource, field) = (field.resource.clone(), field.path.clone());
                return Ok(Written { resource, field, path, line });
            }
        }
        Err(match base {
            true => "it is in a base, which others share, and no patch could be put in by itself",
            false => {
                "its place in the document could not be changed without changing something else"
            }
        })
    }

    /// Where the field is said, or has to be: in a patch of the environment, in the resource's own
    /// document, or, where that is a base's, in a new patch.
    fn target(&self, id: &ResourceId, wish: &DesiredResource, edit: &edit::Edit) -> Target {
        let own = Target {
            path: wish.origin.path.clone(),
            origin: wish.origin.line,
            patch: None,
            new: false,
        };
        let Some((path, origin)) = self.places.head() else { return own };
        let path = path.to_owned();
        if let Some(patch) = self.places.patch_of(id, &edit.pointer) {
            return Target { path, origin, patch: Some(patch), new: false };
        }
        match own.path.starts_with(&format!("{BASES_FOLDER}/")) {
            true => Target { path, origin, patch: None, new: true },
            false => own,
        }
    }

    /// The file with the edit in it, and the line of the edit.
    fn tried(
        &self,
        id: &ResourceId,
        target: &Target,
        edit: &edit::Edit,
    ) -> Option<(String, Lines, u32)> {
        let mut lines = match self.edited.get(&target.path) {
            Some(lines) => lines.clone(),
            None => Lines::of(self.text(&target.path).ok()?),
        };
        let index = index_of(&lines.text(), lines.line_now(target.origin))?;
        let line = match (target.new, target.patch) {
            (true, _) => edit::insert_patch(&mut lines, &index, &edit::as_patch(id, edit))?,
            (false, None) => edit::apply(&mut lines, &index, edit)?,
            (false, Some(patch)) => {
                let patch = patch + self.patches;
                let pointer = format!("/spec/patches/{patch}/patch{}", edit.pointer);
                let text = edit.text.clone();
                edit::apply(&mut lines, &index, &edit::Edit { pointer, text })?
            }
        };
        Some((target.path.clone(), lines, line))
    }

    fn text(&self, path: &str) -> Result<&str, &'static str> {
        let file = self.repo.files.iter().find(|file| file.path == path);
        let bytes = file.and_then(|file| file.bytes.as_deref()).ok_or("its file was not found")?;
        decode(bytes).map_err(|_| "its file is no text")
    }

    /// Whether `trial` makes the resource `goal` and leaves every other as it is; keeps it then.
    fn proves(
        &mut self,
        path: &str,
        wish: &DesiredResource,
        id: &ResourceId,
        trial: &Lines,
        goal: &Resource,
    ) -> bool {
        let bytes = trial.text().into_bytes();
        let mut repo = self.repo.clone();
        let Some(file) = repo.files.iter_mut().find(|file| file.path == path) else {
            return false;
        };
        *file = RepoFile::new(path, format!("edited {}", Digest::of(&bytes)), bytes);
        let Ok(loaded) = load_without_rendering(&repo, self.select, &mut self.cache) else {
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

/// The resource with the value at `path` replaced; `None` where the path leads into a list that has
/// no names for its items, or the result would be no resource.
fn replaced(resource: &Resource, path: &str, value: &Value) -> Option<Resource> {
    if let (Resource::Network(network), Some(ip)) = (resource, path.strip_prefix("/dns/")) {
        let mut network = network.clone();
        let records = network.dns.get_or_insert_default();
        records.retain(|record| record.ip.to_string() != ip);
        if !value.is_null() {
            records.push(serde_json::from_value(value.clone()).ok()?);
        }
        // As the spec reads them.
        records.sort();
        return Some(Resource::Network(network));
    }
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
