//! Rule files, parsed and looked through: what can be asked, and what cannot and why.
//!
//! A file with a mistake does not take the others with it, and does not vanish either: it stays as
//! trouble that every evaluation reports.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};

use regorus::unstable::{Module, Ref, Rule, RuleHead};
use regorus::{Engine, PolicyLengthConfig};
use serde::Serialize;

use super::scan::{Names, first_trouble};
use super::shipped::{SHIPPED_FOLDER, shipped};
use super::trouble::Trouble;
use crate::spec::{RepoFiles, TextPlace};

/// Most rule files of a repository, tests included: ten times what a large one has.
pub const FILES_MAX: usize = 500;
/// Longest line of a rule file, characters: the engine's own limit is 1024.
const COLUMNS_MAX: u32 = 1_024;
/// Longest rule file, bytes: generated tables belong into parameters.
const FILE_BYTES_MAX: usize = 256 * 1024;
/// Most lines of a rule file.
const LINES_MAX: usize = 10_000;

/// One rule file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFile {
    /// Path in the repository.
    pub path: String,
    /// Its text; `None` where it could not be read.
    pub text: Option<String>,
}

impl RuleFile {
    /// A file with its text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: Some(text.into()) }
    }

    /// Whether it holds tests: its name ends in `_test.rego`.
    pub fn is_test(&self) -> bool {
        self.path.ends_with("_test.rego")
    }
}

/// The rule files of a repository: `policies/**.rego`.
pub fn rule_files(repo: &RepoFiles) -> Vec<RuleFile> {
    let rules = repo.files.iter().filter(|file| {
        let below = file.path.strip_prefix(super::RULE_FOLDER);
        below.is_some_and(|rest| rest.starts_with('/') && rest.ends_with(".rego"))
    });
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let mut files: Vec<_> = rules
        .map(|file| RuleFile {
            path: file.path.clone(),
            text: file.bytes.as_deref().and_then(text),
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// What a rule is called by conftest's conventions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Entrance {
    /// `deny`, `violation`, `deny_…`, `violation_…`.
    Deny,
    /// `warn`, `warn_…`.
    Warn,
    /// `test_…`, in test files.
    Test,
    /// `level`.
    Level,
}

/// A rule to evaluate.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) entrance: Entrance,
    pub(super) name: String,
    /// The package, part by part.
    pub(super) package: Vec<String>,
    pub(super) place: TextPlace,
    pub(super) module: Ref<Module>,
    pub(super) rule: Ref<Rule>,
}

impl Entry {
    /// The package's name: `trueup.labels`.
    pub(super) fn package_name(&self) -> String {
        self.package.join(".")
    }
}

/// Everything that can be asked, ready to be evaluated any number of times.
#[derive(Debug, Clone)]
pub struct Rules {
    pub(super) engine: Engine,
    pub(super) entries: Vec<Entry>,
    pub(super) troubles: Vec<(String, Trouble)>,
    about: BTreeMap<String, String>,
}

/// A rule, for a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleInfo {
    /// The name of its Rego package.
    pub rule: String,
    /// The file it is in.
    pub file: String,
    /// Whether it comes with trueup.
    pub shipped: bool,
    /// Its `deny`, `warn` and `violation` rules.
    pub entrances: Vec<String>,
    /// The first comment of its file.
    pub about: String,
}

impl Rules {
    /// The shipped rules alone.
    pub fn shipped() -> Self {
        Self::new(&[])
    }

    /// The shipped rules and those of a repository; tests are left out.
    pub fn new(files: &[RuleFile]) -> Self {
        let mut all: Vec<_> = shipped().into_iter().filter(|file| !file.is_test()).collect();
        all.extend(files.iter().filter(|file| !file.is_test()).cloned());
        Self::compile(all)
    }

    /// The same with the tests of the repository, and with those of the shipped rules if asked for.
    pub fn with_tests(files: &[RuleFile], shipped_too: bool) -> Self {
        let mut all: Vec<_> =
            shipped().into_iter().filter(|file| shipped_too || !file.is_test()).collect();
        all.extend(files.iter().cloned());
        Self::compile(all)
    }

    /// What rules there are, by package and file.
    pub fn list(&self) -> Vec<RuleInfo> {
        let mut found: BTreeMap<(String, String), RuleInfo> = BTreeMap::new();
        let asked = |e: &&Entry| matches!(e.entrance, Entrance::Deny | Entrance::Warn);
        for entry in self.entries.iter().filter(asked) {
            let (rule, file) = (entry.package_name(), entry.place.path.clone());
            let info = found.entry((rule.clone(), file.clone())).or_insert_with(|| RuleInfo {
                shipped: file.starts_with(SHIPPED_FOLDER),
                about: self.about.get(&file).cloned().unwrap_or_default(),
                entrances: Vec::new(),
                rule,
                file,
            });
            if !info.entrances.contains(&entry.name) {
                info.entrances.push(entry.name.clone());
            }
        }
        found.into_values().collect()
    }

    /// Whether there is a rule of this package.
    pub(super) fn has_package(&self, package: &str) -> bool {
        self.entries.iter().any(|entry| entry.package_name() == package)
    }

    fn compile(mut files: Vec<RuleFile>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut troubles = Vec::new();
        if files.len() > FILES_MAX {
            let message = format!("{} rule files; at most {FILES_MAX} are read", files.len());
            let path = super::RULE_FOLDER.to_owned();
            troubles.push((path, Trouble { place: None, message }));
            files.retain(|file| file.path.starts_with(SHIPPED_FOLDER));
        }
        loop {
            let (engine, bad) = load(&files);
            let bad = if bad.is_empty() { look(&engine, &files) } else { bad };
            if bad.is_empty() {
                let about = files.iter().map(|f| {
                    (f.path.clone(), first_comment(f.text.as_deref().unwrap_or_default()))
                });
                let (entries, about) = (entries(&engine), about.collect());
                return Self { engine, entries, troubles, about };
            }
            // What rests on a file that is gone is found in the next round; each round drops one.
            files.retain(|file| !bad.iter().any(|(path, _)| *path == file.path));
            troubles.extend(bad);
        }
    }
}

type Bad = Vec<(String, Trouble)>;

/// Parses every file and has the engine look at them together.
fn load(files: &[RuleFile]) -> (Engine, Bad) {
    let mut engine = Engine::new();
    engine.set_policy_length_config(PolicyLengthConfig {
        max_col: NonZeroU32::new(COLUMNS_MAX).unwrap_or(NonZeroU32::MIN),
        max_file_bytes: NonZeroUsize::new(FILE_BYTES_MAX).unwrap_or(NonZeroUsize::MIN),
        max_lines: NonZeroUsize::new(LINES_MAX).unwrap_or(NonZeroUsize::MIN),
    });
    engine.set_strict_builtin_errors(true);
    engine.set_gather_prints(true);
    let mut bad = Vec::new();
    for file in files {
        let path = file.path.clone();
        let Some(text) = file.text.clone() else {
            let message = "its content is missing or is no UTF-8 text".to_owned();
            bad.push((path, Trouble { place: None, message }));
            continue;
        };
        if let Err(error) = engine.add_policy(path.clone(), text) {
            bad.push((path, Trouble::of(&error.to_string())));
        }
    }
    if bad.is_empty()
        && let Err(error) = engine.eval_query("true".to_owned(), false)
    {
        let trouble = Trouble::of(&error.to_string());
        let named = trouble.place.as_ref().map(|place| place.path.clone());
        match named.filter(|path| files.iter().any(|file| file.path == *path)) {
            Some(path) => bad.push((path, trouble)),
            // It cannot be told which: none of the repository's is asked.
            None => bad.extend(
                files
                    .iter()
                    .filter(|file| !file.path.starts_with(SHIPPED_FOLDER))
                    .map(|file| (file.path.clone(), trouble.clone())),
            ),
        }
    }
    (engine, bad)
}

/// What the engine does not look for: calls, packages that are not the repository's, and `level`.
fn look(engine: &Engine, files: &[RuleFile]) -> Bad {
    let modules = modules(engine);
    let mut names = Names::new();
    for (module, package) in &modules {
        for rule in &module.policy {
            names.insert((package.join("."), name_of(rule)));
        }
    }
    let mut bad = Vec::new();
    for (module, package) in &modules {
        let path = module.package.span.source.get_path().clone();
        let file = files.iter().find(|file| file.path == path);
        let own = package.first().is_some_and(|first| first == "trueup");
        let foreign = !path.starts_with(SHIPPED_FOLDER) && !file.is_some_and(RuleFile::is_test);
        if own && foreign {
            let place = place_of(&module.package.span);
            let message = "packages below `trueup` are for the shipped rules: choose another name";
            bad.push((path, Trouble::at(place, message)));
        } else if let Some(trouble) = first_trouble(module, &package.join("."), &names) {
            bad.push((path, trouble));
        }
    }
    bad
}

/// The parsed files with their packages.
fn modules(engine: &Engine) -> Vec<(Ref<Module>, Vec<String>)> {
    // The engine shares its parsed files; a copy of it is a few counted references.
    let mut engine = engine.clone();
    let packages = engine.get_policy_package_components().unwrap_or_default();
    let packages = packages.into_iter().map(|package| package.components);
    engine.get_modules().iter().cloned().zip(packages).collect()
}

fn entries(engine: &Engine) -> Vec<Entry> {
    let mut found = Vec::new();
    for (module, package) in modules(engine) {
        let test = module.package.span.source.get_path().ends_with("_test.rego");
        for rule in &module.policy {
            let name = name_of(rule);
            let Some(entrance) = entrance(rule, &name, test) else { continue };
            found.push(Entry {
                entrance,
                name,
                package: package.clone(),
                place: place_of(rule.span()),
                module: module.clone(),
                rule: rule.clone(),
            });
        }
    }
    found.sort_by(|a, b| (&a.place, &a.name).cmp(&(&b.place, &b.name)));
    found
}

fn entrance(rule: &Rule, name: &str, test: bool) -> Option<Entrance> {
    let function = matches!(rule, Rule::Spec { head: RuleHead::Func { .. }, .. });
    if function || matches!(rule, Rule::Default { .. }) {
        return None;
    }
    let is = |word: &str| {
        name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    match test {
        true => name.starts_with("test_").then_some(Entrance::Test),
        false if is("deny") || is("violation") => Some(Entrance::Deny),
        false if is("warn") => Some(Entrance::Warn),
        false if name == "level" => Some(Entrance::Level),
        false => None,
    }
}

/// The name of a rule within its package: `deny`.
fn name_of(rule: &Rule) -> String {
    let refr = match rule {
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. }
            | RuleHead::Set { refr, .. }
            | RuleHead::Func { refr, .. } => refr,
        },
        Rule::Default { refr, .. } => refr,
    };
    let text = refr.span().text();
    text.split(['[', '.', '(', ' ']).next().unwrap_or_default().to_owned()
}

fn place_of(span: &regorus::unstable::Span) -> TextPlace {
    TextPlace { path: span.source.get_path().clone(), line: span.line, column: span.col }
}

fn first_comment(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| line.starts_with('#'));
    let words = lines.map(|line| line.trim_start_matches('#').trim());
    words.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
