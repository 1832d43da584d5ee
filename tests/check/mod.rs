//! `trueup check` as a library call: whole repositories in, findings out.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use trueup::model::{Digest, Name, Resource, ResourceId};
use trueup::spec::{
    Checked, Diagnostic, Loaded, ParseCache, RepoFile, RepoFiles, Select, Severity, check_all,
    load, schemas,
};

fn file(path: &str, text: &[u8]) -> RepoFile {
    RepoFile::new(path, Digest::of(text).to_string(), text)
}

fn repo(files: &[(&str, &str)]) -> RepoFiles {
    RepoFiles { files: files.iter().map(|(p, t)| file(p, t.as_bytes())).collect() }
}

fn read_folder(root: &Path) -> RepoFiles {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.push(file(&name, &fs::read(&path).unwrap()));
            }
        }
    }
    RepoFiles { files }
}

fn here(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn lines(found: &[Diagnostic]) -> String {
    let mut shown = String::new();
    for d in found {
        let hint = d.hint.as_deref().map(|h| format!(" ({h})")).unwrap_or_default();
        shown.push_str(&format!(
            "{}:{}:{} {}: {}{hint}\n",
            d.path, d.line, d.column, d.code, d.message
        ));
        for r in &d.related {
            shown.push_str(&format!("    {}:{}:{} {}\n", r.path, r.line, r.column, r.message));
        }
    }
    shown
}

const REPOSITORY: &str = "\
apiVersion: trueup/v1
kind: Repository
metadata: { name: test }
spec: { environments: { lab: { hosts: [here] } } }
";

const ENVIRONMENT: &str = "\
apiVersion: trueup/v1
kind: Environment
metadata: { name: lab }
spec: {}
";

/// Checks one file of an environment, beside what every repository has.
#[track_caller]
fn check(given: &str, expected: Expect) {
    let checked = check_text(given.as_bytes());
    expected.assert_eq(&lines(&checked.diagnostics));
}

fn check_text(given: &[u8]) -> Checked {
    let mut files = repo(&[("trueup.yaml", REPOSITORY), ("environments/lab/e.yaml", ENVIRONMENT)]);
    files.files.push(file("environments/lab/x.yaml", given));
    check_all(&files, &mut ParseCache::new())
}

#[track_caller]
fn loaded(files: &RepoFiles) -> Loaded {
    let select = Select::Host("here".to_owned());
    match load(files, &select, &mut ParseCache::new()) {
        Ok(loaded) => loaded,
        Err(found) => panic!("{}", lines(&found)),
    }
}

#[track_caller]
fn loaded_text(given: &str) -> Loaded {
    loaded(&repo(&[("trueup.yaml", REPOSITORY), ("environments/lab/x.yaml", given)]))
}

fn id(text: &str) -> ResourceId {
    text.parse().unwrap()
}

mod backup;
mod cluster;
mod cluster_built;
mod examples;
mod gpu;
mod kubernetes_gpus;
mod load;
mod mistakes;
mod policy;
mod properties;
mod release;
mod slurm_gpus;
