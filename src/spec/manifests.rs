//! Files of manifests: YAML of a cluster's, not of trueup's, in folders called `manifests`.
//!
//! The content of a file is read once, whatever its path: what is found in it is kept by blob id. A
//! document of trueup in such a folder would be lost without a word, so it is a mistake.

use std::collections::BTreeMap;
use std::sync::Arc;

use trueup_kubernetes::release::{Manifest, ManifestError, read};

use super::diag::{Diagnostic, Severity, Spot};
use super::environment::Gathered;
use super::kinds::API_VERSION;
use super::repo::Session;
use super::text::decode;

/// The folder whose files are manifests.
pub const MANIFESTS_FOLDER: &str = "manifests";

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

/// Whether a file below a folder of documents is one of manifests; `rest` is its path from there.
pub(crate) fn is_manifest(rest: &str) -> bool {
    let mut folders = rest.split('/');
    folders.next_back();
    folders.any(|folder| folder == MANIFESTS_FOLDER)
}

/// Reads one file.
pub(crate) fn parse(bytes: &Arc<[u8]>) -> ManifestFile {
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
        Ok(objects) => file.objects = objects,
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
    for file in session.manifests_below(folder) {
        let given = &session.repo.files[file];
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
        ] {
            assert_eq!(is_manifest(rest), expected, "{rest}");
        }
    }
}
