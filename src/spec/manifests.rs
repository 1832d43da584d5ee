//! Files of manifests: YAML of a cluster's, not of trueup's, in folders called `manifests`; and files that
//! are handed on as they are, in folders called `files`.
//!
//! A folder of manifests with a `Chart.yaml` or a `kustomization.yaml` is rendered as a whole by another
//! program, so nothing in it is read here; nor are files of values.
//!
//! The content of a file is read once, whatever its path: what is found in it is kept by blob id. A
//! document of trueup in such a folder would be lost without a word, so it is a mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trueup_kubernetes::release::{DigestKey, Manifest, ManifestError, read};

use super::diag::{Diagnostic, Severity, Spot};
use super::environment::Gathered;
use super::kinds::API_VERSION;
use super::repo::Session;
use super::text::decode;

/// The folder whose files are manifests.
pub const MANIFESTS_FOLDER: &str = "manifests";
/// The folder whose files are handed on as they are.
pub const FILES_FOLDER: &str = "files";
/// Files by which a folder is known to be a chart.
pub(crate) const CHART: &str = "Chart.yaml";
/// Files by which a folder is known to be a kustomization (`konfig.RecognizedKustomizationFileNames`).
pub(crate) const KUSTOMIZATIONS: [&str; 3] =
    ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// A file of manifests.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    /// Its bytes: the same content may be a document elsewhere.
    pub(crate) bytes: Arc<[u8]>,
    /// Its objects, each with its line; the file itself has no name here.
    pub(crate) objects: Vec<Manifest>,
    /// What is wrong with it, and where.
    pub(crate) mistakes: Vec<(Spot, String)>,
}

/// A file of manifests at its path.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    /// Id of its content.
    pub(crate) blob: String,
    /// What is in it.
    pub(crate) file: Arc<ManifestFile>,
}

/// The files of manifests of an environment and its bases, by path.
pub(crate) type ManifestFiles = BTreeMap<String, Placed>;

/// A file that is handed on or rendered, of an environment or its bases.
#[derive(Debug, Clone)]
pub(crate) struct RawFile {
    /// Id of its content.
    pub(crate) blob: String,
    /// Its content; `None`: it is missing.
    pub(crate) bytes: Option<Arc<[u8]>>,
    /// Whether Git has it as executable.
    pub(crate) executable: bool,
}

/// Such files, by path.
pub(crate) type RawFiles = BTreeMap<String, RawFile>;

/// Whose a file below a folder of documents is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Apart {
    /// It may be a document.
    No,
    /// It is one of manifests.
    Manifests,
    /// It is handed on as it is.
    Files,
}

/// Whose a file is; `rest` is its path from the folder of documents. The outermost folder says it.
pub(crate) fn apart(rest: &str) -> Apart {
    let mut folders = rest.split('/');
    folders.next_back();
    let mut all = folders.map(|folder| match folder {
        MANIFESTS_FOLDER => Apart::Manifests,
        FILES_FOLDER => Apart::Files,
        _ => Apart::No,
    });
    all.find(|it| *it != Apart::No).unwrap_or(Apart::No)
}

/// Whether a file of manifests holds values for a chart, by its name.
fn is_values(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml"));
    stem.is_some_and(|stem| {
        stem == "values" || stem.starts_with("values-") || stem.ends_with(".values")
    })
}

/// The folders among these files that another program renders.
fn rendered_folders<'a>(paths: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let known = |name: &str| name == CHART || KUSTOMIZATIONS.contains(&name);
    let folders = paths.filter_map(|path| path.rsplit_once('/'));
    folders.filter(|(_, name)| known(name)).map(|(folder, _)| folder).collect()
}

/// Whether a file lies in one of these folders, or below it.
fn lies_in(path: &str, folders: &BTreeSet<&str>) -> bool {
    path.match_indices('/').any(|(at, _)| folders.contains(&path[..at]))
}

/// Reads one file.
pub(crate) fn parse(bytes: &Arc<[u8]>, key: Option<&DigestKey>) -> ManifestFile {
    let mut file =
        ManifestFile { bytes: Arc::clone(bytes), objects: Vec::new(), mistakes: Vec::new() };
    let text = match decode(bytes) {
        Ok(text) => text,
        Err(error) => {
            file.mistakes.push((error.spot, error.message));
            return file;
        }
    };
    let at = |line: u32| Spot { line, column: 1, len: 0 };
    match read("", text) {
        Ok(mut objects) => {
            if let Some(key) = key {
                objects.iter_mut().for_each(|object| object.seal(key));
            }
            file.objects = objects;
        }
        Err(errors) => {
            let told = |it: ManifestError| (at(it.place.line), it.fault);
            file.mistakes.extend(errors.into_iter().map(told));
        }
    }
    for object in &file.objects {
        if object.kind.api_version() == API_VERSION {
            let message = format!(
                "a document of trueup ({}) stands in a folder called `{MANIFESTS_FOLDER}`, where \
                 nobody reads it",
                object.kind.kind
            );
            file.mistakes.push((at(object.place.line), message));
        }
    }
    file
}

/// Adds the files of manifests below a folder of documents, their mistakes reported.
pub(crate) fn gather(session: &mut Session<'_>, all: &mut Gathered, folder: &str) {
    gather_raw(session, all, folder);
    let files = session.manifests_below(folder);
    let rendered = rendered_folders(all.raw.keys().map(String::as_str));
    for file in files {
        let given = &session.repo.files[file];
        if is_values(&given.path) || lies_in(&given.path, &rendered) {
            continue;
        }
        let (path, blob) = (given.path.clone(), given.blob.clone());
        let Some(parsed) = session.cache.manifests(&blob, given.bytes.as_ref()) else {
            let message = "the content of this file is missing";
            let found = Diagnostic::nowhere("spec/unread", &path, message);
            session
                .found
                .push(found.with_hint("the repository's mirror is damaged: fetch it anew"));
            continue;
        };
        let told = parsed.mistakes.iter().map(|(spot, message)| {
            let code = "spec/bad-manifest";
            Diagnostic::located(code, Severity::Error, &path, *spot, message.clone())
        });
        session.found.extend(told);
        all.manifests.insert(path, Placed { blob, file: parsed });
    }
}

/// Adds every file that stands apart, whatever it is.
fn gather_raw(session: &Session<'_>, all: &mut Gathered, folder: &str) {
    for given in &session.repo.files {
        let rest = given.path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
        if rest.is_none_or(|rest| apart(rest) == Apart::No) {
            continue;
        }
        let known = || session.cache.bytes_of(&given.blob);
        let raw = RawFile {
            blob: given.blob.clone(),
            bytes: given.bytes.clone().or_else(known),
            executable: given.executable,
        };
        all.raw.insert(given.path.clone(), raw);
    }
}

/// The files below a folder, with their paths.
pub(crate) fn raw_below<'a>(
    raw: &'a RawFiles,
    folder: &str,
) -> impl Iterator<Item = (&'a str, &'a RawFile)> {
    let prefix = format!("{folder}/");
    let from = raw.range(prefix.clone()..);
    from.take_while(move |(path, _)| path.starts_with(&prefix))
        .map(|(path, file)| (path.as_str(), file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_in_a_folder_of_that_name_is_no_document() {
        for (rest, expected) in [
            ("a.yaml", false),
            ("manifests/a.yaml", true),
            ("web/manifests/x/a.yaml", true),
            ("manifests.yaml", false),
            ("manifests", false),
            ("my-manifests/a.yaml", false),
            ("files/manifests/a.yaml", false),
            ("manifests/files/a.yaml", true),
        ] {
            assert_eq!(apart(rest) == Apart::Manifests, expected, "{rest}");
        }
        assert_eq!(apart("hpc/files/jobs/train.sh"), Apart::Files);
        assert_eq!(apart("files"), Apart::No);
    }

    #[test]
    fn what_another_program_renders_is_not_read() {
        let paths = [
            "e/manifests/web/Chart.yaml",
            "e/manifests/web/templates/a.yaml",
            "e/manifests/web-b/a.yaml",
            "e/manifests/over/Kustomization",
        ];
        let folders = rendered_folders(paths.into_iter());
        assert!(lies_in("e/manifests/web/templates/a.yaml", &folders));
        assert!(lies_in("e/manifests/over/patch.yaml", &folders));
        assert!(!lies_in("e/manifests/web-b/a.yaml", &folders));
        assert!(is_values("m/values-lab.yaml") && is_values("m/lab.values.yml"));
        assert!(!is_values("m/valuesets.yaml") && !is_values("values/a.yaml"));
    }
}
