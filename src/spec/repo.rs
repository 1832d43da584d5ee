//! What a load is given: the files of a repository at one commit, and which environment is wanted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cache::ParseCache;
use super::diag::Diagnostic;
use super::kinds::repository::RepositorySpec;
use super::kinds::{Doc, DocKind, Spec};
use super::manifests::{Apart, apart};
use super::parse::ParsedFile;
use super::yaml::{At, Index};
use crate::model::Name;

/// The file that says what environments there are.
pub const REPOSITORY_FILE: &str = "trueup.yaml";
/// Folder of the environments that name no other.
pub const ENVIRONMENTS_FOLDER: &str = "environments";
/// Folder of the bases.
pub const BASES_FOLDER: &str = "bases";

/// The files of a repository at one commit; others than YAML are ignored.
#[derive(Debug, Clone, Default)]
pub struct RepoFiles {
    /// In any order.
    pub files: Vec<RepoFile>,
}

/// One file of a repository.
#[derive(Debug, Clone)]
pub struct RepoFile {
    /// Path from the root, with `/`.
    pub path: String,
    /// Id of its content: the same id always means the same bytes.
    pub blob: String,
    /// Its bytes; may be left out where [`ParseCache::contains`] the blob.
    pub bytes: Option<Arc<[u8]>>,
    /// Whether Git has it as executable. Nothing of a repository is ever executed here.
    pub executable: bool,
}

impl RepoFile {
    /// A file with its bytes.
    pub fn new(
        path: impl Into<String>,
        blob: impl Into<String>,
        bytes: impl Into<Arc<[u8]>>,
    ) -> Self {
        let bytes = Some(bytes.into());
        Self { path: path.into(), blob: blob.into(), bytes, executable: false }
    }
}

/// Which environment is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// By its name.
    Environment(Name),
    /// The one for this host.
    Host(String),
}

/// A repository being read: parsed files and what was found wrong so far.
pub(crate) struct Session<'a> {
    pub(crate) repo: &'a RepoFiles,
    pub(crate) cache: &'a mut ParseCache,
    /// Places of the YAML files in `repo`, sorted by path.
    pub(crate) order: Vec<usize>,
    pub(crate) found: Vec<Diagnostic>,
    /// Whether what cannot be rendered here is no mistake: then nothing of it is used either.
    pub(crate) without_rendering: bool,
}

/// An environment as `trueup.yaml` names it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) hosts: Vec<String>,
    /// Its folder, without a `/` at the end.
    pub(crate) folder: String,
}

/// What `trueup.yaml` says.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) entries: BTreeMap<Name, Entry>,
    pub(crate) resources_max: Option<u32>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(repo: &'a RepoFiles, cache: &'a mut ParseCache) -> Self {
        cache.begin();
        let mut order: Vec<usize> =
            (0..repo.files.len()).filter(|&n| is_yaml(&repo.files[n].path)).collect();
        order.sort_by(|&a, &b| repo.files[a].path.cmp(&repo.files[b].path));
        Self { repo, cache, order, found: Vec::new(), without_rendering: false }
    }

    pub(crate) fn path(&self, file: usize) -> &'a str {
        &self.repo.files[file].path
    }

    /// The files of documents below `folder`, sorted by path.
    pub(crate) fn below(&self, folder: &str) -> Vec<usize> {
        self.yaml_below(folder, Apart::No)
    }

    /// The files of manifests below `folder`, sorted by path.
    pub(crate) fn manifests_below(&self, folder: &str) -> Vec<usize> {
        self.yaml_below(folder, Apart::Manifests)
    }

    fn yaml_below(&self, folder: &str, whose: Apart) -> Vec<usize> {
        let prefix = format!("{folder}/");
        let start = self.order.partition_point(|&n| self.path(n) < prefix.as_str());
        let rest = &self.order[start..];
        let below = &rest[..rest.partition_point(|&n| self.path(n).starts_with(&prefix))];
        let wanted = |n: &&usize| apart(&self.path(**n)[prefix.len()..]) == whose;
        below.iter().filter(wanted).copied().collect()
    }

    /// The parsed content of a file, its mistakes reported.
    pub(crate) fn file(&mut self, file: usize) -> Option<Arc<ParsedFile>> {
        let given = &self.repo.files[file];
        let Some(parsed) = self.cache.file(&given.blob, given.bytes.as_deref()) else {
            self.found.push(
                Diagnostic::nowhere(
                    "spec/unread",
                    &given.path,
                    "the content of this file is missing",
                )
                .with_hint("the repository's mirror is damaged: fetch it anew"),
            );
            return None;
        };
        self.found.extend(parsed.errors.iter().map(|e| e.at(&given.path)));
        Some(parsed)
    }

    /// Reads `trueup.yaml`; `None` where it is missing or wrong.
    pub(crate) fn repository(&mut self) -> Option<Repository> {
        let at = self.order.iter().copied().find(|&n| self.path(n) == REPOSITORY_FILE);
        let Some(at) = at else {
            self.found.push(
                Diagnostic::nowhere(
                    "spec/no-repository",
                    REPOSITORY_FILE,
                    "the repository has no `trueup.yaml`",
                )
                .with_hint("add one with `kind: Repository` that names the environments"),
            );
            return None;
        };
        let parsed = self.file(at)?;
        let broken = !parsed.errors.is_empty();
        let mut docs = parsed.docs.iter();
        let Some(first) = docs.next() else {
            if !broken {
                let message = "`trueup.yaml` holds no document";
                self.found.push(
                    Diagnostic::nowhere("spec/no-repository", REPOSITORY_FILE, message)
                        .with_hint("add one with `kind: Repository` that names the environments"),
                );
            }
            return None;
        };
        for other in docs {
            self.misplaced(
                at,
                &parsed,
                other.index,
                "only one document belongs into `trueup.yaml`",
            );
        }
        let doc: &Doc = &first.doc;
        let Spec::Repository(spec) = &doc.spec else {
            let message = format!("`trueup.yaml` holds a {}", doc.kind().word());
            self.misplaced(at, &parsed, first.index, &message);
            return None;
        };
        let index = super::parse::part_of(&parsed.text, first.index).map(Index::of);
        let repository = self.entries(spec, &index.unwrap_or_default());
        (!broken).then_some(repository)
    }

    /// Reports a document that does not belong where it is.
    pub(crate) fn misplaced(&mut self, file: usize, parsed: &ParsedFile, index: usize, why: &str) {
        let spot = super::parse::part_of(&parsed.text, index)
            .and_then(|part| Index::of(part).spot("/kind", At::Value))
            .unwrap_or_default();
        let found = Diagnostic::located(
            "spec/misplaced",
            super::diag::Severity::Error,
            self.path(file),
            spot,
            why,
        );
        let home = match parsed.docs.iter().find(|d| d.index == index).map(|d| d.doc.kind()) {
            Some(DocKind::Repository) => "a `Repository` stands in `trueup.yaml`, and nowhere else",
            Some(DocKind::Environment) => "an `Environment` stands in its own folder, once",
            _ => "resources stand in `environments/<name>/` and `bases/<name>/`",
        };
        self.found.push(found.with_hint(home));
    }

    fn entries(&mut self, spec: &RepositorySpec, index: &Index) -> Repository {
        let mut entries = BTreeMap::new();
        let mut hosts: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, entry) in &spec.environments {
            let pointer =
                format!("/spec/environments/{}", name.replace('~', "~0").replace('/', "~1"));
            let mut report = |code, pointer: &str, at, message: String| {
                let spot = index.spot(pointer, at).unwrap_or_default();
                let severity = super::diag::Severity::Error;
                let found = Diagnostic::located(code, severity, REPOSITORY_FILE, spot, message);
                self.found.push(found);
            };
            for (n, host) in entry.hosts.iter().enumerate() {
                if let Some(other) = hosts.insert(host, name) {
                    let message = format!("host `{host}` belongs to environment `{other}` already");
                    report(
                        "spec/duplicate-host",
                        &format!("{pointer}/hosts/{n}"),
                        At::Value,
                        message,
                    );
                }
            }
            let folder = match &entry.path {
                None => format!("{ENVIRONMENTS_FOLDER}/{name}"),
                Some(path) => path.trim_end_matches('/').to_owned(),
            };
            // Of a commit only this folder is read, besides `bases`, `policies` and the root's files.
            let below = folder.strip_prefix(ENVIRONMENTS_FOLDER).and_then(|p| p.strip_prefix('/'));
            let plain = below.is_some_and(|p| p.split('/').all(|p| !matches!(p, "" | "." | "..")));
            if !plain {
                let folder = folder.escape_debug();
                let message = format!("`{folder}` is not a folder below `{ENVIRONMENTS_FOLDER}/`");
                report("spec/wrong-value", &format!("{pointer}/path"), At::Value, message);
            }
            match Name::new(name.as_str()) {
                Ok(name) if plain => {
                    let hosts = entry.hosts.clone();
                    entries.insert(name, Entry { hosts, folder });
                }
                Ok(_) => {}
                Err(error) => report("spec/wrong-value", &pointer, At::Key, error.to_string()),
            }
        }
        Repository { entries, resources_max: spec.limits.resources }
    }
}

fn is_yaml(path: &str) -> bool {
    path.ends_with(".yaml") || path.ends_with(".yml")
}
