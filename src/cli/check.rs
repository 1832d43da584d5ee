//! `trueup check`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::context::Context;
use super::exit::{CliError, CliResult, Done, ErrorKind};
use super::wire;
use crate::model::Digest;
use crate::policy;
use crate::provider::render::{HostRenderer, RenderSetup};
use crate::reconcile::rendered;
use crate::source::{FOLDERS, TreeLimits};
use crate::spec::rendering::RenderRequest;
use crate::spec::{
    self, Diagnostic, FILES_FOLDER, MANIFESTS_FOLDER, ParseCache, RepoFile, RepoFiles, Severity,
    render,
};

/// Look for mistakes in a repository
///
/// Reads every environment and every base below a folder and reports everything that is wrong, at
/// once, each with its place and what to write instead: mistakes, and what breaks a rule of `policies/` or
/// a shipped one. It needs neither libvirt nor a config. Charts and kustomizations are rendered where `helm`,
/// `kustomize` or `kubectl` are on the PATH; where not, that is a warning.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup check .\n  \
    trueup check --format github .    # annotations in a workflow\n  \
    trueup check --format sarif . > trueup.sarif")]
pub(super) struct Check {
    /// The folder of the repository
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The form of the output
    #[arg(short, long, visible_alias = "format", value_enum, default_value_t, value_name = "FORM")]
    output: CheckFormat,
}

/// The form of diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum CheckFormat {
    /// For people, with snippets.
    #[default]
    Text,
    /// An array of diagnostics.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// Workflow commands that become annotations.
    Github,
}

impl Check {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let (files, mut found) = read(&self.folder)?;
        let mut cache = ParseCache::default();
        let mut checked = spec::check_all(&files, &mut cache);
        let wanted = cache.wanted();
        if !wanted.is_empty() {
            render_by_hand(wanted, &mut cache)?;
            checked = spec::check_all(&files, &mut cache);
        }
        found.extend(checked.diagnostics);
        // A rule is asked about an environment that can be read whole.
        let mut broken = Vec::new();
        for loaded in checked.environments.values().flatten() {
            broken.extend(policy::diagnostics(&super::policy::verdicts(&files, loaded)));
        }
        // Environments that share a base share its findings.
        broken.sort_by(|a, b| {
            (&a.path, a.line, &a.code, &a.message).cmp(&(&b.path, b.line, &b.code, &b.message))
        });
        broken.dedup();
        found.extend(broken);
        let ui = context.ui;
        match self.output {
            CheckFormat::Text => ui.raw(&render::text(&found, &files, ui.color()))?,
            CheckFormat::Json => ui.data(&render::json(&found))?,
            CheckFormat::Sarif => ui.data(&render::sarif(&found))?,
            CheckFormat::Github => ui.raw(&render::github(&found))?,
        }
        if found.iter().any(Diagnostic::is_error) {
            let summary = render::summary(&found);
            return Err(CliError::new(ErrorKind::Input, summary));
        }
        Ok(Done::Fine)
    }
}

/// Renders charts and kustomizations by the programs of whoever checks: what is on their `PATH`. It is
/// confined as on a host.
fn render_by_hand(wanted: Vec<RenderRequest>, cache: &mut ParseCache) -> Result<(), CliError> {
    let folder = tempfile::tempdir().map_err(CliError::machine)?;
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let find = |name: &str| {
        let all = std::env::split_paths(&paths).map(|folder| folder.join(name));
        all.filter(|path| path.is_absolute()).find(|path| path.is_file())
    };
    let renderer = HostRenderer::new(RenderSetup {
        folder: folder.path().to_owned(),
        helm: find("helm"),
        kustomize: find("kustomize"),
        kubectl: find("kubectl"),
        by_hand: true,
        in_unit: false,
        limit: None,
    });
    let done = wire::block_on(rendered(&renderer, wanted))?;
    for (request, outcome) in done.map_err(CliError::machine)? {
        cache.rendered(&request, &outcome);
    }
    Ok(())
}

/// A folder still to be read.
struct Todo {
    folder: PathBuf,
    /// Its path from the root, with a `/` at the end; empty for the root.
    prefix: String,
    depth: usize,
}

/// Every YAML file and every rule file that would be read of a commit: those of the root, and those
/// below [`FOLDERS`]; and what would be refused in it. The rest of a repository is its owner's.
pub(super) fn read(root: &Path) -> Result<(RepoFiles, Vec<Diagnostic>), CliError> {
    let limits = TreeLimits::default();
    let mut files = RepoFiles::default();
    let mut found = Vec::new();
    let mut todo = vec![Todo { folder: root.to_owned(), prefix: String::new(), depth: 1 }];
    while let Some(next) = todo.pop() {
        let unreadable = |error: std::io::Error| {
            CliError::input(error).hint(format!("{} could not be read", next.folder.display()))
        };
        for entry in std::fs::read_dir(&next.folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                if next.prefix.is_empty() {
                    continue;
                }
                let path = format!("{}{}", next.prefix, name.to_string_lossy());
                found.push(refused(path, "its name is not UTF-8"));
                continue;
            };
            let at_root = next.prefix.is_empty();
            let folder = FOLDERS.contains(&name);
            if at_root && !folder && !is_yaml(name) {
                continue;
            }
            let path = format!("{}{name}", next.prefix);
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_symlink() {
                found.push(refused(path, "symbolic links are not followed"));
            } else if at_root && folder && !kind.is_dir() {
                found.push(refused(path, "it has to be a folder"));
            } else if at_root && !folder && kind.is_dir() {
                found.push(refused(path, "it has to be a file"));
            } else if kind.is_dir() && next.depth >= limits.depth_max {
                found.push(refused(path, "the folders are nested too deep"));
            } else if kind.is_dir() {
                let prefix = format!("{path}/");
                todo.push(Todo { folder: entry.path(), prefix, depth: next.depth + 1 });
            } else if kind.is_file() && (is_yaml(name) || is_rule(&path) || is_apart(&path)) {
                let metadata = entry.metadata().map_err(unreadable)?;
                let size = metadata.len();
                if size > limits.file_bytes_max {
                    let why = format!("{size} bytes, the limit is {}", limits.file_bytes_max);
                    found.push(refused(path, &why));
                    continue;
                }
                let bytes = std::fs::read(entry.path()).map_err(unreadable)?;
                let mut file = RepoFile::new(path, Digest::of(&bytes).to_string(), bytes);
                file.executable = metadata.permissions().mode() & 0o100 != 0;
                files.files.push(file);
            }
        }
    }
    files.files.sort_by(|a, b| a.path.cmp(&b.path));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((files, found))
}

fn is_yaml(name: &str) -> bool {
    name.ends_with(".yaml") || name.ends_with(".yml")
}

/// Whether a file is rendered or handed on, whatever it is called.
fn is_apart(path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(folder, _)| {
        folder.split('/').any(|part| part == MANIFESTS_FOLDER || part == FILES_FOLDER)
    })
}

/// Whether the path is one of a rule: `policies/….rego`.
fn is_rule(path: &str) -> bool {
    path.starts_with("policies/") && path.ends_with(".rego")
}

fn refused(path: String, why: &str) -> Diagnostic {
    Diagnostic {
        code: "source/refused".into(),
        severity: Severity::Error,
        path,
        line: 0,
        column: 0,
        end_column: None,
        message: why.to_owned(),
        hint: None,
        related: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_as_a_commit_would_be() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("environments/lab")).unwrap();
        std::fs::create_dir_all(root.join(".git")).unwrap();
        std::fs::write(root.join(".git/x.yaml"), "a: 1").unwrap();
        std::fs::write(root.join("environments/lab/a.yaml"), "a: 1").unwrap();
        std::fs::write(root.join("README.md"), "hello").unwrap();
        std::fs::create_dir_all(root.join("docs")).unwrap();
        std::fs::write(root.join("docs/mkdocs.yaml"), "a: [").unwrap();
        std::os::unix::fs::symlink("../x", root.join("docs/latest")).unwrap();
        std::os::unix::fs::symlink("x", root.join("environments/lab/link.txt")).unwrap();
        std::fs::write(root.join("bases"), "").unwrap();
        std::fs::create_dir_all(root.join("folder.yaml")).unwrap();
        std::fs::write(root.join("big.yaml"), vec![b'#'; 2 << 20]).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link.yaml")).unwrap();
        let (files, found) = read(root).unwrap();
        let paths: Vec<_> = files.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["environments/lab/a.yaml"]);
        let refused: Vec<_> = found.iter().map(|d| d.path.as_str()).collect();
        let expected =
            ["bases", "big.yaml", "environments/lab/link.txt", "folder.yaml", "link.yaml"];
        assert_eq!(refused, expected);
    }
}
