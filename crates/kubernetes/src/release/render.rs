//! Manifests rendered by Helm or Kustomize, where these programs are. What they give is taken as text
//! and known by its digest; they reach no cluster, start nothing, and see nothing of our environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::inventory::ReleaseName;
use super::manifest::TEXT_MAX;
use crate::run::{RunError, ask};

/// How long a rendering may take; the largest charts take seconds.
pub const RENDER_LIMIT: Duration = Duration::from_secs(120);

/// A chart to be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelmChart {
    /// The program `helm`.
    pub program: PathBuf,
    /// The chart: a folder or an archive on this machine.
    pub chart: PathBuf,
    /// Files of values; later ones win.
    pub values: Vec<PathBuf>,
    /// The version of Kubernetes that it is rendered for.
    pub kubernetes: Option<String>,
}

/// A folder for Kustomize.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kustomization {
    /// The program `kustomize`.
    pub program: PathBuf,
    /// The folder.
    pub folder: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The manifests.
    pub text: String,
    /// SHA-256 of the text, hex.
    pub digest: String,
    /// The program, as it names itself.
    pub by: String,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// What was to be rendered is not on this machine.
    #[error("cannot render {}: it is not on this machine (charts from elsewhere are not fetched)", .0.display())]
    Absent(PathBuf),
    /// No place for the program to write into.
    #[error("cannot make a folder for the rendering")]
    Folder(#[source] std::io::Error),
    /// The program failed.
    #[error("cannot render {}", .0.display())]
    Run(PathBuf, #[source] RunError),
    /// It gave what nobody can use.
    #[error("cannot use what {} rendered: {}", .0.display(), .1)]
    Unusable(PathBuf, String),
}

/// Renders a chart, hooks and definitions included; see [`super::without_hooks`].
///
/// # Errors
/// [`RenderError`].
pub async fn helm(chart: &HelmChart, release: &ReleaseName) -> Result<Rendered, RenderError> {
    let place = place(&chart.chart)?;
    let args = helm_args(chart, &place, release);
    let version: [OsString; 3] =
        ["version".into(), "--template".into(), "helm {{.Version}}".into()];
    render(&chart.program, &place, &args, &version).await
}

/// Renders a folder.
///
/// # Errors
/// [`RenderError`].
pub async fn kustomize(which: &Kustomization) -> Result<Rendered, RenderError> {
    let place = place(&which.folder)?;
    let args = ["build".into(), place.clone().into_os_string()];
    render(&which.program, &place, &args, &["version".into()]).await
}

/// The whole path of what is on this machine: never taken for an option or an address.
fn place(what: &Path) -> Result<PathBuf, RenderError> {
    what.canonicalize().map_err(|_| RenderError::Absent(what.to_owned()))
}

fn helm_args(chart: &HelmChart, place: &Path, release: &ReleaseName) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["template", release.name()].map(OsString::from).into();
    args.push(place.to_owned().into_os_string());
    args.extend(["--namespace", release.namespace(), "--include-crds"].map(OsString::from));
    if let Some(version) = &chart.kubernetes {
        args.extend(["--kube-version", version].map(OsString::from));
    }
    for values in &chart.values {
        args.push("--values".into());
        args.push(values.clone().into_os_string());
    }
    args
}

async fn render(
    program: &Path,
    what: &Path,
    args: &[OsString],
    version: &[OsString],
) -> Result<Rendered, RenderError> {
    // Helm keeps caches, and finds plugins, below its home: an empty one has none.
    let home = tempfile::tempdir().map_err(RenderError::Folder)?;
    let env = [("HOME", home.path())];
    let failed = |error| RenderError::Run(what.to_owned(), error);
    let text = ask(program, args, &env, RENDER_LIMIT).await.map_err(failed)?;
    let by = ask(program, version, &env, RENDER_LIMIT).await.map_err(failed)?;
    let unusable = |words: String| RenderError::Unusable(what.to_owned(), words);
    if text.len() > TEXT_MAX {
        return Err(unusable(format!("it has {} bytes, at most {TEXT_MAX}", text.len())));
    }
    let digest = hex::encode(Sha256::digest(&text));
    let text = String::from_utf8(text).map_err(|_| unusable("it is no text".to_owned()))?;
    let by = String::from_utf8_lossy(&by).trim().to_owned();
    Ok(Rendered { text, digest, by })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "writes the programs that it runs")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn program(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("renderer");
        std::fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn what_a_program_gives_is_known_by_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[ \"$1\" = version ] && echo v9 && exit\necho \"# $*\"\n";
        let release = ReleaseName::new("shop", "web").unwrap();
        let chart = HelmChart {
            program: program(dir.path(), text),
            chart: dir.path().to_owned(),
            values: vec!["a b.yaml".into()],
            kubernetes: Some("v1.33.0".to_owned()),
        };
        let one = helm(&chart, &release).await.unwrap();
        assert_eq!(
            one.text,
            format!(
                "# template web {} --namespace shop --include-crds --kube-version v1.33.0 --values a b.yaml\n",
                dir.path().display()
            )
        );
        assert_eq!(one.by, "v9");
        assert_eq!(helm(&chart, &release).await.unwrap(), one);
        assert_eq!(one.digest, hex::encode(Sha256::digest(&one.text)));
        let elsewhere = HelmChart { chart: "oci://example.org/chart".into(), ..chart };
        let error = helm(&elsewhere, &release).await.unwrap_err();
        assert!(error.to_string().contains("not on this machine"), "{error}");
    }

    #[tokio::test]
    async fn failures_are_in_the_programs_words() {
        let dir = tempfile::tempdir().unwrap();
        let which = Kustomization {
            program: program(dir.path(), "echo 'no kustomization.yaml' >&2; exit 1"),
            folder: dir.path().to_owned(),
        };
        let error = kustomize(&which).await.unwrap_err();
        assert!(crate::fault::chain(&error).contains("no kustomization.yaml"), "{error:?}");
    }
}
