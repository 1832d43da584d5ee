//! From a resource and a field to the line that says it: for findings made after loading.
//!
//! It reads the documents anew, so it is asked only where there is something to point at.

use std::collections::HashMap;

use super::desired::Origin;
use super::kinds::Spec;
use super::manifests::{Apart, apart};
use super::parse::{ParsedFile, parse_file};
use super::policy::TextPlace;
use super::repo::{ENVIRONMENTS_FOLDER, REPOSITORY_FILE, RepoFiles};
use super::text::split;
use super::yaml::{At, Index};
use crate::model::{Name, ResourceId};

/// Looks up lines in the files of one environment.
#[derive(Debug)]
pub struct Places<'a> {
    files: HashMap<&'a str, &'a [u8]>,
    parsed: HashMap<String, ParsedFile>,
    /// Path and document of the `Environment`, with the targets of its patches.
    head: Option<(String, usize, Vec<Patch>)>,
}

#[derive(Debug)]
struct Patch {
    target: String,
    patch: serde_json::Value,
}

impl<'a> Places<'a> {
    /// The files of `repo`, those without bytes left out.
    pub fn new(repo: &'a RepoFiles, environment: &Name) -> Self {
        let bytes = |file: &'a super::RepoFile| Some((file.path.as_str(), file.bytes.as_deref()?));
        let files: HashMap<_, _> = repo.files.iter().filter_map(bytes).collect();
        let mut places = Self { files, parsed: HashMap::new(), head: None };
        let folder = places.folder(environment);
        let mut below: Vec<&str> =
            places.files.keys().copied().filter(|path| is_yaml_below(path, &folder)).collect();
        below.sort_unstable();
        for path in below {
            places.parse(path);
            let Some(file) = places.parsed.get(path) else { continue };
            let head = file.docs.iter().find_map(|doc| match &doc.doc.spec {
                Spec::Environment(spec) => Some((doc.index, spec)),
                _ => None,
            });
            if let Some((index, spec)) = head {
                let patches = spec.patches.iter();
                let patches = patches
                    .map(|p| Patch { target: p.target.clone(), patch: p.patch.clone() })
                    .collect();
                places.head = Some((path.to_owned(), index, patches));
                break;
            }
        }
        places
    }

    fn folder(&mut self, environment: &Name) -> String {
        self.parse(REPOSITORY_FILE);
        let named = self.parsed.get(REPOSITORY_FILE).and_then(|file| {
            let doc = file.docs.first()?;
            let Spec::Repository(spec) = &doc.doc.spec else { return None };
            spec.environments.get(environment.as_str())?.path.clone()
        });
        named.unwrap_or_else(|| format!("{ENVIRONMENTS_FOLDER}/{environment}"))
    }

    fn parse(&mut self, path: &str) {
        if !self.parsed.contains_key(path)
            && let Some(bytes) = self.files.get(path)
        {
            self.parsed.insert(path.to_owned(), parse_file(bytes));
        }
    }

    /// The `Environment` document: its file, and the line its first key stands on.
    pub(crate) fn head(&self) -> Option<(&str, u32)> {
        let (path, index, _) = self.head.as_ref()?;
        let file = self.parsed.get(path)?;
        split(&file.text).get(*index).map(|part| (path.as_str(), part.first))
    }

    /// The last patch of the environment that says `field` of a resource, by its place in the list.
    pub(crate) fn patch_of(&self, id: &ResourceId, field: &str) -> Option<usize> {
        let (_, _, patches) = self.head.as_ref()?;
        let id = id.to_string();
        patches.iter().rposition(|it| it.target == id && it.patch.pointer(field).is_some())
    }

    /// Where `field` (a JSON pointer into the document: `/spec/memory`) of the resource written at
    /// `origin` stands: in a patch of the environment, in its document, or the nearest line above.
    pub fn of(&mut self, id: &ResourceId, origin: &Origin, field: Option<&str>) -> TextPlace {
        let field = field.unwrap_or_default();
        if !field.is_empty()
            && let Some((path, index, patches)) = &self.head
            && let Some(n) = patches.iter().rposition(|patch| {
                patch.target == id.to_string() && patch.patch.pointer(field).is_some()
            })
        {
            let pointer = format!("/spec/patches/{n}/patch{field}");
            let text = self.parsed.get(path).map(|file| &file.text);
            let part = text.and_then(|text| super::parse::part_of(text, *index));
            if let Some(spot) = part.and_then(|part| Index::of(part).spot(&pointer, At::Key)) {
                return TextPlace { path: path.clone(), line: spot.line, column: spot.column };
            }
        }
        self.parse(&origin.path);
        let start = TextPlace { path: origin.path.clone(), line: origin.line, column: 1 };
        let Some(file) = self.parsed.get(&origin.path) else { return start };
        let part = split(&file.text).into_iter().find(|part| part.first == origin.line);
        let pointer = if field.is_empty() { "/metadata/name" } else { field };
        match part.and_then(|part| Index::of(part).spot(pointer, At::Key)) {
            Some(spot) if spot.line > 0 => {
                TextPlace { line: spot.line, column: spot.column, ..start }
            }
            _ => start,
        }
    }
}

fn is_yaml_below(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
    rest.is_some_and(|rest| apart(rest) == Apart::No)
        && (path.ends_with(".yaml") || path.ends_with(".yml"))
}
