//! The pipeline: files of a repository to the desired state of an environment, or to everything that
//! is wrong with it.

use std::collections::BTreeMap;

use super::Desired;
use super::cache::ParseCache;
use super::diag::{Diagnostic, Severity, did_you_mean, tidy};
use super::environment::load_environment;
use super::kinds::Spec;
use super::policy::PolicySettings;
use super::repo::{
    BASES_FOLDER, ENVIRONMENTS_FOLDER, Entry, REPOSITORY_FILE, RepoFiles, Repository, Select,
    Session,
};
use crate::model::Name;

/// A loaded environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What is asked for.
    pub desired: Desired,
    /// How the rules apply to it.
    pub policy: PolicySettings,
    /// What somebody should look at; no reason to refuse the commit.
    pub warnings: Vec<Diagnostic>,
    /// The environment asks for no resource at all: never a reason to remove any.
    pub empty: bool,
}

/// Every environment of a repository, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The environments; `None` for those with errors.
    pub environments: BTreeMap<Name, Option<Loaded>>,
    /// Everything found, errors and warnings, sorted by place.
    pub diagnostics: Vec<Diagnostic>,
}

impl Checked {
    /// Whether the commit would be refused.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Loads one environment.
///
/// # Errors
/// Everything that is wrong with it, sorted by place; nothing of a commit with an error is used.
pub fn load(
    repo: &RepoFiles,
    select: &Select,
    cache: &mut ParseCache,
) -> Result<Loaded, Vec<Diagnostic>> {
    load_in(Session::new(repo, cache), select)
}

/// The same without the releases that would have to be rendered first: for whoever looks at other things.
/// It is never what is applied, as these releases would be removed.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_without_rendering(
    repo: &RepoFiles,
    select: &Select,
    cache: &mut ParseCache,
) -> Result<Loaded, Vec<Diagnostic>> {
    let mut session = Session::new(repo, cache);
    session.without_rendering = true;
    load_in(session, select)
}

fn load_in(mut session: Session<'_>, select: &Select) -> Result<Loaded, Vec<Diagnostic>> {
    let Some(repository) = session.repository() else {
        return Err(tidy(session.found));
    };
    let chosen = match select {
        Select::Environment(name) => by_name(&repository, name),
        Select::Host(host) => by_host(&mut session, &repository, host),
    };
    let loaded = match chosen {
        Ok((name, entry)) => load_environment(&mut session, &repository, name, entry),
        Err(diagnostic) => {
            session.found.push(*diagnostic);
            None
        }
    };
    let found = tidy(session.found);
    match loaded {
        Some(mut loaded) if !found.iter().any(Diagnostic::is_error) => {
            loaded.warnings = found;
            Ok(loaded)
        }
        _ => Err(found),
    }
}

/// Loads every environment of a repository, and reads every YAML file that may belong to one.
pub fn check_all(repo: &RepoFiles, cache: &mut ParseCache) -> Checked {
    let mut session = Session::new(repo, cache);
    session.without_rendering = true;
    let mut environments = BTreeMap::new();
    let repository = session.repository();
    if let Some(repository) = &repository {
        for (name, entry) in &repository.entries {
            let before = session.found.len();
            let loaded = load_environment(&mut session, repository, name, entry);
            let clean = !session.found[before..].iter().any(Diagnostic::is_error);
            let loaded = loaded.filter(|_| clean).map(|mut loaded| {
                loaded.warnings = tidy(session.found[before..].to_vec());
                loaded
            });
            environments.insert(name.clone(), loaded);
        }
    }
    strays(&mut session, repository.as_ref());
    Checked { environments, diagnostics: tidy(session.found) }
}

/// Reads files that no environment has read: they hold mistakes like the others.
fn strays(session: &mut Session<'_>, repository: Option<&Repository>) {
    for file in session.below(BASES_FOLDER) {
        session.file(file);
    }
    let mut unnamed = BTreeMap::new();
    for file in session.below(ENVIRONMENTS_FOLDER) {
        let path = session.path(file);
        let folder = path.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
        let known = repository.is_none_or(|r| {
            r.entries
                .values()
                .any(|e| e.folder == folder || path.starts_with(&format!("{}/", e.folder)))
        });
        if !known {
            unnamed.entry(folder).or_insert(path);
        }
        session.file(file);
    }
    for (folder, path) in unnamed {
        let mut found = Diagnostic::nowhere(
            "spec/unknown-environment",
            path,
            format!("no environment of `{REPOSITORY_FILE}` is in `{folder}`"),
        )
        .with_hint(format!("name it under `environments:` in `{REPOSITORY_FILE}`"));
        found.severity = Severity::Warning;
        session.found.push(found);
    }
}

type Chosen<'r> = Result<(&'r Name, &'r Entry), Box<Diagnostic>>;

fn by_name<'r>(repository: &'r Repository, name: &Name) -> Chosen<'r> {
    repository.entries.get_key_value(name).ok_or_else(|| {
        let known: Vec<&str> = repository.entries.keys().map(Name::as_str).collect();
        let message = format!("`{REPOSITORY_FILE}` names no environment `{name}`");
        let hint = did_you_mean(name.as_str(), known.iter().copied())
            .unwrap_or_else(|| format!("it names {}", known.join(", ")));
        Box::new(
            Diagnostic::nowhere("spec/unknown-environment", REPOSITORY_FILE, message)
                .with_hint(hint),
        )
    })
}

fn by_host<'r>(session: &mut Session<'_>, repository: &'r Repository, host: &str) -> Chosen<'r> {
    let names = |entry: &Entry, word: &str| entry.hosts.iter().any(|h| h == word);
    let mut fitting: Vec<_> =
        repository.entries.iter().filter(|(_, entry)| names(entry, host)).collect();
    if fitting.is_empty() {
        fitting = repository
            .entries
            .iter()
            .filter(|(_, entry)| environment_names(session, entry, host))
            .collect();
    }
    if fitting.is_empty() {
        fitting = repository.entries.iter().filter(|(_, entry)| names(entry, "*")).collect();
    }
    match fitting.as_slice() {
        [one] => Ok(*one),
        [] => Err(Box::new(
            Diagnostic::nowhere(
                "spec/no-environment",
                REPOSITORY_FILE,
                format!("no environment is for host `{host}`"),
            )
            .with_hint("add the host to `hosts` of an environment"),
        )),
        several => {
            let all: Vec<_> = several.iter().map(|(name, _)| name.as_str()).collect();
            let message =
                format!("host `{host}` belongs to several environments: {}", all.join(", "));
            let found = Diagnostic::nowhere("spec/duplicate-host", REPOSITORY_FILE, message);
            Err(Box::new(found.with_hint("a host follows one environment")))
        }
    }
}

/// Whether the `Environment` document of `entry` names `host`.
fn environment_names(session: &mut Session<'_>, entry: &Entry, host: &str) -> bool {
    session.below(&entry.folder).into_iter().any(|file| {
        let given = &session.repo.files[file];
        let parsed = session.cache.file(&given.blob, given.bytes.as_deref());
        parsed.is_some_and(|p| {
            p.docs.iter().any(|d| match &d.doc.spec {
                Spec::Environment(spec) => spec.hosts.iter().any(|h| h == host),
                _ => false,
            })
        })
    })
}
