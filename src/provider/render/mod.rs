//! Charts and kustomizations rendered by Helm and Kustomize, each of its own digest once.
//!
//! What is rendered may be a stranger's: a pull request from a fork is rendered too. The program sees the
//! commit's files and nothing else of this machine, has no network, no rights and no time to waste
//! (`confine`), and where it cannot be confined it is not started. Which program it is, is the host's
//! config to say. What came of it is kept by the digest of everything that went into it (`store`), the
//! program among that.

mod confine;
mod programs;
mod store;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trueup_kubernetes::chain;
use trueup_kubernetes::release::TEXT_MAX;
use trueup_kubernetes::run::RunError;

use self::confine::{Cell, Refusal, on_files};
use self::programs::{Program, Programs};
use crate::model::Fault;
use crate::port::{BoxFuture, Renderer};
use crate::spec::rendering::{HelmRender, RenderRequest, RenderWhat, Rendering};

/// How long a rendering may take; the largest charts take seconds.
const LIMIT: Duration = Duration::from_secs(60);
/// What asks each program which it is.
const HELM_VERSION: &[&str] = &["version", "--template", "{{.Version}}"];
const KUSTOMIZE_VERSION: &[&str] = &["version"];
const KUBECTL_VERSION: &[&str] = &["version", "--client"];
/// Words of a program that are told, characters.
const WORDS_MAX: usize = 600;

/// What renders on this host.
#[derive(Debug, Clone, Default)]
pub struct RenderSetup {
    /// A folder of our own, for what was rendered and what is being rendered.
    pub folder: PathBuf,
    /// The program `helm`.
    pub helm: Option<PathBuf>,
    /// The program `kustomize`.
    pub kustomize: Option<PathBuf>,
    /// The program `kubectl`, which has Kustomize in it.
    pub kubectl: Option<PathBuf>,
    /// Whether it is asked by a person, on whose `PATH` the programs are, and not by a host's config.
    pub by_hand: bool,
    /// Whether systemd runs this process in a unit, whose rights are too few to confine others.
    pub in_unit: bool,
    /// How long a rendering may take; one of the settings of tests.
    pub limit: Option<Duration>,
}

/// Renders on this host.
#[derive(Clone)]
pub struct HostRenderer {
    setup: Arc<RenderSetup>,
    programs: Arc<Programs>,
}

impl HostRenderer {
    /// A renderer that has not started anything yet.
    #[must_use]
    pub fn new(setup: RenderSetup) -> Self {
        confine::sweep(&setup.folder);
        Self {
            programs: Arc::new(Programs::new(setup.folder.join("programs"))),
            setup: Arc::new(setup),
        }
    }

    async fn one(&self, request: &RenderRequest) -> Result<Rendering, Fault> {
        let program = match self.program(&request.what).await {
            Ok(program) => program,
            Err(why) => return Ok(Rendering::Unable(why)),
        };
        let key = program.key(request.digest);
        let setup = Arc::clone(&self.setup);
        let known = on_files(move || store::get(&setup.folder, key)).await;
        let known = known.map_err(|error| self.broken(&error))?;
        if let Some(text) = known {
            return Ok(Rendering::Rendered { by: program.by, text: text.into() });
        }
        let text = match self.rendered(&program, request).await? {
            Ok(text) => text,
            Err(outcome) => return Ok(outcome),
        };
        // What a program makes of chance or of the time would be another thing with each look.
        let again = match self.rendered(&program, request).await? {
            Ok(text) => text,
            Err(outcome) => return Ok(outcome),
        };
        if text != again {
            return Ok(Rendering::Refused(differing(&text, &again)));
        }
        let text: Arc<str> = text.into();
        let (setup, kept) = (Arc::clone(&self.setup), Arc::clone(&text));
        let put = on_files(move || store::put(&setup.folder, key, &kept)).await;
        put.map_err(|error| self.broken(&error))?;
        Ok(Rendering::Rendered { by: program.by, text })
    }

    /// The program for it, as it is on this machine.
    async fn program(&self, what: &RenderWhat) -> Result<Program, String> {
        let setup = &self.setup;
        let (path, word, version) = match what {
            RenderWhat::Helm(_) => match &setup.helm {
                Some(path) => (path, "helm", HELM_VERSION),
                None if setup.by_hand => return Err("there is no `helm` on the PATH".to_owned()),
                None => {
                    return Err("no Helm is known to this host: set `programs.helm` in its config"
                        .to_owned());
                }
            },
            RenderWhat::Kustomize { .. } => match (&setup.kustomize, &setup.kubectl) {
                (Some(path), _) => (path, "kustomize", KUSTOMIZE_VERSION),
                (None, Some(path)) => (path, "kubectl", KUBECTL_VERSION),
                (None, None) if setup.by_hand => {
                    return Err("there is no `kustomize` and no `kubectl` on the PATH".to_owned());
                }
                (None, None) => {
                    return Err("no Kustomize is known to this host: set `programs.kustomize` or \
                                `programs.kubectl` in its config"
                        .to_owned());
                }
            },
        };
        let program = self
            .programs
            .get(path)
            .await
            .map_err(|error| format!("{} cannot be used: {error}", path.display()))?;
        if let Some(known) = self.programs.version(&program) {
            return Ok(Program { by: known, ..program });
        }
        let args: Vec<OsString> = version.iter().map(OsString::from).collect();
        let cell = Cell::new(&setup.folder, &program.file, Vec::new(), setup.in_unit).await;
        let cell = cell.map_err(|error| format!("there is no place to run it in: {error}"))?;
        let said = match cell.run(&args, LIMIT).await {
            Ok(said) => said,
            Err(Refusal::Confinement(why)) => return Err(why),
            Err(Refusal::Program(error)) => return Err(chain(&error)),
        };
        let said = String::from_utf8_lossy(&said);
        let words = said.split_whitespace().filter(|it| it.starts_with('v') || it.contains('.'));
        let version: String = words.collect::<Vec<_>>().join(", ").chars().take(80).collect();
        let by = format!("{word} {version} (sha256:{})", program.digest);
        self.programs.learn(&program, &by);
        Ok(Program { by, ..program })
    }

    /// What the program makes of it.
    async fn rendered(
        &self,
        program: &Program,
        request: &RenderRequest,
    ) -> Result<Result<String, Rendering>, Fault> {
        let set = match &request.what {
            RenderWhat::Helm(HelmRender { set: Some(set), .. }) => set.to_string(),
            _ => String::new(),
        };
        let mut files: Vec<(PathBuf, Arc<[u8]>)> = Vec::new();
        for file in &request.files {
            let place = confine::inside(&file.path).map_err(|error| self.broken(&error))?;
            files.push((place, Arc::clone(&file.bytes)));
        }
        // JSON is YAML. Beside the commit's files, so that it is none of them.
        files.push((PathBuf::from(confine::SET), set.into_bytes().into()));
        let cell = Cell::new(&self.setup.folder, &program.file, files, self.setup.in_unit).await;
        let cell = cell.map_err(|error| self.broken(&error))?;
        let args = args(&request.what, program.is_kubectl);
        let limit = self.setup.limit.unwrap_or(LIMIT);
        let out = match cell.run(&args, limit).await {
            Ok(out) => out,
            Err(Refusal::Confinement(why)) => return Ok(Err(Rendering::Unable(why))),
            Err(Refusal::Program(RunError::Io { source, .. })) => return Err(self.broken(&source)),
            Err(Refusal::Program(error)) => return Ok(Err(Rendering::Refused(words(&error)))),
        };
        if out.len() > TEXT_MAX {
            let why = format!("it comes to {} bytes; at most {TEXT_MAX} are taken", out.len());
            return Ok(Err(Rendering::Refused(why)));
        }
        Ok(String::from_utf8(out).map_err(|_| Rendering::Refused("it comes to no text".to_owned())))
    }

    fn broken(&self, error: &std::io::Error) -> Fault {
        let folder = self.setup.folder.display();
        Fault::transient(format!("nothing can be rendered in {folder}: {error}"))
    }
}

impl Renderer for HostRenderer {
    fn render<'a>(&'a self, request: &'a RenderRequest) -> BoxFuture<'a, Result<Rendering, Fault>> {
        Box::pin(self.one(request))
    }
}

/// The arguments; no word of a commit begins one.
fn args(what: &RenderWhat, is_kubectl: bool) -> Vec<OsString> {
    let inside = |path: &str| Path::new(confine::FILES).join(path).into_os_string();
    match what {
        RenderWhat::Kustomize { folder } => {
            let verb = if is_kubectl { "kustomize" } else { "build" };
            vec![verb.into(), inside(folder)]
        }
        RenderWhat::Helm(helm) => {
            let mut args: Vec<OsString> =
                vec!["template".into(), helm.release.clone().into(), inside(&helm.chart)];
            args.extend(["--namespace".into(), helm.namespace.clone().into()]);
            if helm.crds {
                args.push("--include-crds".into());
            }
            if let Some(version) = &helm.kube_version {
                args.extend(["--kube-version".into(), version.clone().into()]);
            }
            for version in &helm.api_versions {
                args.extend(["--api-versions".into(), version.clone().into()]);
            }
            for file in &helm.values {
                args.extend(["--values".into(), inside(file)]);
            }
            if helm.set.is_some() {
                args.extend(["--values".into(), Path::new("/").join(confine::SET).into()]);
            }
            args
        }
    }
}

/// Why a program failed, in its own words, on one line; folders of ours are nobody's business.
fn words(error: &RunError) -> String {
    let said = match error {
        RunError::TimedOut { seconds, .. } => {
            return format!(
                "it did not end within {seconds} s; make it smaller, or start trueup anew to try again"
            );
        }
        RunError::Failed { words, status, .. } if words.trim().is_empty() => {
            return format!("its program ended with {status} and said nothing");
        }
        RunError::Failed { words, .. } => words.clone(),
        other => chain(other),
    };
    let said = said.replace(&format!("{}/", confine::FILES), "");
    let said = said.replace("Use --debug flag to render out invalid YAML", "");
    let mut line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    line.retain(|c| !c.is_control());
    let line = line.strip_prefix("Error: ").or(line.strip_prefix("error: ")).unwrap_or(&line);
    match line.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// That two renderings differ, and where; never in what, which may be a secret.
fn differing(one: &str, other: &str) -> String {
    let at = one.lines().zip(other.lines()).position(|(a, b)| a != b);
    let at = at.unwrap_or_else(|| one.lines().count().min(other.lines().count()));
    let above: Vec<&str> = one.lines().take(at + 1).collect();
    let source = above.iter().rev().find_map(|line| line.strip_prefix("# Source: "));
    let place = source.map(|file| format!(" ({file}:1)")).unwrap_or_default();
    format!(
        "it comes to something else each time, first in line {} of what is rendered{place}: charts that \
         make passwords or certificates, or ask for the time, have a value that sets it",
        at + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_two_renderings_differ_is_told_and_not_in_what() {
        let one = "---\n# Source: web/templates/a.yaml\ndata: hunter2\n";
        let words = differing(one, &one.replace("hunter2", "hunter3"));
        assert!(words.contains("line 3") && words.contains("(web/templates/a.yaml:1)"), "{words}");
        assert!(!words.contains("hunter"), "{words}");
    }

    #[test]
    fn no_word_of_a_commit_is_an_option() {
        let helm = HelmRender {
            chart: "e/manifests/web".into(),
            values: vec!["e/manifests/values.yaml".into()],
            set: Some(serde_json::json!({"a": 1})),
            release: "web".into(),
            namespace: "shop".into(),
            crds: true,
            kube_version: Some("1.33".into()),
            api_versions: vec!["example.org/v1".into()],
        };
        let args = args(&RenderWhat::Helm(helm), false);
        let args: Vec<_> = args.iter().map(|it| it.to_string_lossy()).collect();
        assert_eq!(
            args.join(" "),
            "template web /commit/e/manifests/web --namespace shop --include-crds --kube-version 1.33 \
             --api-versions example.org/v1 --values /commit/e/manifests/values.yaml --values /set.json"
        );
    }
}
