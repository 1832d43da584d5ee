//! From a place in a document to the spot in a file: the environment's patch, where that is what
//! says it, else the document.

use std::collections::HashMap;

use super::diag::{Diagnostic, Related, Spot};
use super::environment::Gathered;
use super::kinds::environment::EnvironmentSpec;
use super::parse::part_of;
use super::repo::Session;
use super::resolve::{Draft, Place};
use super::yaml::Index;

/// Looks up spots, indexing every document at most once.
pub(crate) struct Locator<'a> {
    paths: HashMap<usize, &'a str>,
    all: &'a Gathered,
    spec: &'a EnvironmentSpec,
    indexes: HashMap<usize, Index>,
}

impl<'a> Locator<'a> {
    pub(crate) fn new(session: &Session<'a>, all: &'a Gathered, spec: &'a EnvironmentSpec) -> Self {
        let paths = match all.drafts.is_empty() {
            true => HashMap::new(),
            false => all.members.iter().map(|m| (m.file, session.path(m.file))).collect(),
        };
        Self { paths, all, spec, indexes: HashMap::new() }
    }

    /// The diagnostic of a draft.
    pub(crate) fn locate(&mut self, draft: &Draft) -> Diagnostic {
        let (path, spot) = match &draft.elsewhere {
            Some((path, line)) => (path.as_str(), Spot { line: *line, column: 1, len: 0 }),
            None => self.spot(&draft.place),
        };
        let mut found =
            Diagnostic::located(draft.code, draft.severity, path, spot, draft.message.clone());
        found.hint.clone_from(&draft.hint);
        for (place, message) in &draft.related {
            let (path, spot) = self.spot(place);
            found.related.push(Related {
                path: path.to_owned(),
                line: spot.line,
                column: spot.column,
                message: message.clone(),
            });
        }
        // What several resources have in common is one place.
        found.related.dedup();
        found
    }

    fn spot(&mut self, place: &Place) -> (&'a str, Spot) {
        let Some(member) = self.all.members.get(place.member) else {
            return ("", Spot::default());
        };
        let made;
        let place = match &member.from {
            Some(from) => {
                made = Place { pointer: from.pointer(&place.pointer), ..place.clone() };
                &made
            }
            None => place,
        };
        let patched = member.patches.iter().rev().find(|&&n| {
            !place.pointer.is_empty()
                && self.spec.patches[n].patch.pointer(&place.pointer).is_some()
        });
        if let (Some(n), Some(head)) = (patched, self.all.head) {
            let pointer = format!("/spec/patches/{n}/patch{}", place.pointer);
            return self.look_up(head, &pointer, place);
        }
        self.look_up(place.member, &place.pointer, place)
    }

    fn look_up(&mut self, member: usize, pointer: &str, place: &Place) -> (&'a str, Spot) {
        let this = &self.all.members[member];
        let path = self.paths.get(&this.file).copied().unwrap_or_default();
        let all = self.all;
        let index = self.indexes.entry(member).or_insert_with(|| {
            all.files
                .get(this.file)
                .and_then(Option::as_ref)
                .and_then(|parsed| part_of(&parsed.text, this.index))
                .map(Index::of)
                .unwrap_or_default()
        });
        let start = Spot { line: this.line, column: 1, len: 0 };
        (path, index.spot(pointer, place.at).unwrap_or(start))
    }
}
