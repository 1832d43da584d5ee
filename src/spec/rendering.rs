//! Charts and kustomizations: what is to be rendered, from which files, and what came of it.
//!
//! Nothing is rendered here. A load says what it lacks ([`super::ParseCache::wanted`]); whoever may start
//! programs renders it and hands the outcome back, by the digest of everything that went into it. The same
//! files are thus rendered once, and what was judged is what is applied.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use trueup_kubernetes::ObjectKey;
use trueup_kubernetes::release::{DigestKey, Manifest, ManifestError, Place, read};

use crate::model::{Digest, digest_of};

/// The mark of what Helm runs around an install or an upgrade.
const HOOK: &str = "/metadata/annotations/helm.sh~1hook";

/// What is to be rendered. Equal digests mean equal inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderRequest {
    /// Of what is rendered, how, and from which files.
    pub digest: Digest,
    /// What, and how.
    pub what: RenderWhat,
    /// The files, by their paths in the repository; no others may be seen.
    pub files: Vec<RenderFile>,
}

/// What is rendered, by paths in the repository.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RenderWhat {
    /// A chart, by Helm.
    Helm(HelmRender),
    /// A folder, by Kustomize.
    Kustomize {
        /// The folder.
        folder: String,
    },
}

/// How a chart is rendered.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HelmRender {
    /// The folder of the chart.
    pub chart: String,
    /// Files of values; later ones win.
    pub values: Vec<String>,
    /// Values that win over all files.
    pub set: Option<Value>,
    /// The name that the chart is told.
    pub release: String,
    /// The namespace that the chart is told.
    pub namespace: String,
    /// Whether definitions of its folder `crds` are part of it.
    pub crds: bool,
    /// The version of Kubernetes that the chart is told.
    pub kube_version: Option<String>,
    /// Versions of APIs that the chart is told to be there.
    pub api_versions: Vec<String>,
}

impl RenderWhat {
    /// The folder that is rendered.
    #[must_use]
    pub fn folder(&self) -> &str {
        match self {
            Self::Helm(helm) => &helm.chart,
            Self::Kustomize { folder } => folder,
        }
    }
}

/// One file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderFile {
    /// Its path in the repository.
    pub path: String,
    /// Id of its content.
    pub blob: String,
    /// Its content.
    pub bytes: Arc<[u8]>,
}

/// What came of a request.
#[derive(Clone, PartialEq, Eq)]
pub enum Rendering {
    /// Manifests.
    Rendered {
        /// What rendered them: the program with its version and its digest.
        by: String,
        /// The manifests. Secrets may be among them.
        text: Arc<str>,
    },
    /// It cannot be rendered as it is: why, in words that hold no value.
    Refused(String),
    /// It cannot be rendered on this machine: why, and what to do.
    Unable(String),
}

impl std::fmt::Debug for Rendering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rendered { by, text } => write!(f, "Rendered({by}, {} bytes)", text.len()),
            Self::Refused(why) => write!(f, "Refused({why})"),
            Self::Unable(why) => write!(f, "Unable({why})"),
        }
    }
}

/// What is in a rendering.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// What rendered it.
    pub(crate) by: String,
    /// Its objects, each with the file that it came from, as far as that is told.
    pub(crate) objects: Vec<Manifest>,
    /// Objects that Helm would run at other times: each with when.
    pub(crate) hooks: Vec<(Manifest, String)>,
    /// Mistakes: file, line, message.
    pub(crate) mistakes: Vec<(String, u32, String)>,
    /// Bytes of it.
    pub(crate) bytes: usize,
    /// Why it cannot be had on this machine.
    pub(crate) unable: Option<String>,
}

/// The renderings that are known, by the digest of their request.
pub(crate) type Renderings = BTreeMap<Digest, Arc<Rendered>>;

/// A request without the bytes: what its digest is of.
#[derive(Serialize)]
struct Inputs<'a> {
    what: &'a RenderWhat,
    files: Vec<(&'a str, &'a str)>,
}

impl RenderRequest {
    pub(crate) fn new(what: RenderWhat, files: Vec<RenderFile>) -> Self {
        let of = files.iter().map(|file| (file.path.as_str(), file.blob.as_str())).collect();
        let digest = digest_of(&Inputs { what: &what, files: of });
        Self { digest, what, files }
    }
}

/// Reads what came of a request.
pub(crate) fn parse(
    request: &RenderRequest,
    outcome: &Rendering,
    key: Option<&DigestKey>,
) -> Rendered {
    let mut found = Rendered {
        by: String::new(),
        objects: Vec::new(),
        hooks: Vec::new(),
        mistakes: Vec::new(),
        bytes: 0,
        unable: None,
    };
    let sources = Sources::new(request);
    let text = match outcome {
        Rendering::Rendered { by, text } => {
            found.by.clone_from(by);
            text
        }
        Rendering::Refused(why) => {
            let (file, line) = sources.named_in(why);
            found.mistakes.push((file, line, format!("cannot be rendered: {why}")));
            return found;
        }
        Rendering::Unable(why) => {
            found.unable = Some(why.clone());
            return found;
        }
    };
    found.bytes = text.len();
    let lines: Vec<&str> = text.lines().collect();
    match read("", text) {
        Ok(all) => {
            for mut object in all {
                if let Some(key) = key {
                    object.seal(key);
                }
                let file = sources.of_line(&lines, object.place.line);
                object.place = Place { file, document: object.place.document, line: 1 };
                match object.object.pointer(HOOK).and_then(Value::as_str) {
                    Some(when) => {
                        let when = when.to_owned();
                        found.hooks.push((object, when));
                    }
                    None => found.objects.push(object),
                }
            }
        }
        Err(errors) => {
            let told = |ManifestError { place, fault }| {
                let file = sources.of_line(&lines, place.line);
                let fault = format!(
                    "renders to a manifest that cannot be used (its line {}): {fault}",
                    place.line
                );
                (file, 1, fault)
            };
            found.mistakes.extend(errors.into_iter().map(told));
        }
    }
    found
}

/// Whether a hook is a test, which is run by hand alone.
pub(crate) fn is_test(when: &str) -> bool {
    when.split(',').map(str::trim).all(|it| matches!(it, "test" | "test-success" | "test-failure"))
}

/// One digest of all objects: those of Secrets are made with a key, so that this one tells nothing either.
pub(crate) fn digest(objects: &[Manifest]) -> Digest {
    let all: BTreeSet<(&ObjectKey, &str)> =
        objects.iter().map(|it| (&it.key, it.digest.as_str())).collect();
    digest_of(&all)
}

/// From what programs say of a file to its path in the repository.
struct Sources<'a> {
    folder: &'a str,
    paths: BTreeSet<&'a str>,
}

impl<'a> Sources<'a> {
    fn new(request: &'a RenderRequest) -> Self {
        let paths = request.files.iter().map(|file| file.path.as_str()).collect();
        Self { folder: request.what.folder(), paths }
    }

    /// The file that the document at a line of the rendering came from: Helm says so above it.
    fn of_line(&self, lines: &[&str], line: u32) -> String {
        let end = usize::try_from(line).unwrap_or(usize::MAX).min(lines.len());
        let above = lines[..end].iter().rev().find_map(|line| line.strip_prefix("# Source: "));
        above.and_then(|named| self.file(named.trim())).unwrap_or_else(|| self.main())
    }

    /// `web/templates/a.yaml`, where the first word is the name of the chart.
    fn file(&self, named: &str) -> Option<String> {
        let (_, rest) = named.split_once('/')?;
        let path = format!("{}/{rest}", self.folder);
        self.paths.contains(path.as_str()).then_some(path)
    }

    /// The file by which a folder is known for what it is.
    fn main(&self) -> String {
        let names = ["Chart.yaml", "kustomization.yaml", "kustomization.yml", "Kustomization"];
        let paths = names.iter().map(|name| format!("{}/{name}", self.folder));
        let mut there = paths.filter(|path| self.paths.contains(path.as_str()));
        there.next().unwrap_or_else(|| self.folder.to_owned())
    }

    /// The place that an error of Helm names: `(web/templates/a.yaml:12:5)`.
    fn named_in(&self, words: &str) -> (String, u32) {
        for word in words.split(|c: char| c.is_whitespace() || "(),".contains(c)) {
            let mut parts = word.trim_end_matches(':').split(':');
            let (Some(path), Some(line)) = (parts.next(), parts.next()) else { continue };
            if let (Some(file), Ok(line)) = (self.file(path), line.parse()) {
                return (file, line);
            }
        }
        (self.main(), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> RenderRequest {
        let file = |path: &str| RenderFile {
            path: path.to_owned(),
            blob: format!("blob of {path}"),
            bytes: Arc::from(&b""[..]),
        };
        let what = RenderWhat::Helm(HelmRender {
            chart: "environments/lab/manifests/web".into(),
            values: Vec::new(),
            set: None,
            release: "web".into(),
            namespace: "shop".into(),
            crds: true,
            kube_version: None,
            api_versions: Vec::new(),
        });
        let files = ["Chart.yaml", "templates/a.yaml", "templates/b.yaml"];
        let files = files.map(|name| file(&format!("environments/lab/manifests/web/{name}")));
        RenderRequest::new(what, files.into())
    }

    fn rendered(text: &str) -> Rendered {
        let outcome = Rendering::Rendered { by: "helm v9".into(), text: text.into() };
        parse(&request(), &outcome, None)
    }

    #[test]
    fn each_object_and_mistake_has_the_file_of_the_chart() {
        let text = "---\n# Source: web/templates/a.yaml\napiVersion: v1\nkind: ConfigMap\n\
                    metadata: {name: a}\n---\n# Source: web/templates/b.yaml\napiVersion: v1\n\
                    kind: ConfigMap\nmetadata: {name: b}\n";
        let files: Vec<_> = rendered(text).objects.into_iter().map(|it| it.place.file).collect();
        assert_eq!(
            files,
            [
                "environments/lab/manifests/web/templates/a.yaml",
                "environments/lab/manifests/web/templates/b.yaml"
            ]
        );
        let broken = text.replace("kind: ConfigMap\nmetadata: {name: b}", "kind: ConfigMap");
        let mistakes = rendered(&broken).mistakes;
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].0.ends_with("templates/b.yaml"), "{mistakes:?}");
        assert!(mistakes[0].2.contains("metadata.name"), "{mistakes:?}");
    }

    #[test]
    fn an_error_of_helm_is_at_its_line_of_the_chart() {
        let why = "execution error at (web/templates/b.yaml:12:5): a password is needed";
        let found = parse(&request(), &Rendering::Refused(why.into()), None);
        let (file, line, words) = &found.mistakes[0];
        assert_eq!((file.as_str(), *line), ("environments/lab/manifests/web/templates/b.yaml", 12));
        assert!(words.contains("a password is needed"), "{words}");
        let found = parse(&request(), &Rendering::Refused("no (etc/passwd:1:2)".into()), None);
        assert!(found.mistakes[0].0.ends_with("web/Chart.yaml"), "{:?}", found.mistakes);
    }

    #[test]
    fn hooks_are_no_objects_and_tests_are_told_apart() {
        let text =
            "apiVersion: v1\nkind: Pod\nmetadata: {name: t, annotations: {helm.sh/hook: test}}\n";
        let found = rendered(text);
        assert!(found.objects.is_empty());
        assert!(is_test(&found.hooks[0].1));
        assert!(!is_test("pre-install,test") && !is_test("post-upgrade"));
    }

    #[test]
    fn any_other_input_is_another_request() {
        let (one, mut other) = (request(), request());
        assert_eq!(one.digest, other.digest);
        other.files[1].blob = "other".into();
        assert_ne!(one.digest, RenderRequest::new(other.what.clone(), other.files).digest);
        let RenderWhat::Helm(mut helm) = one.what.clone() else { panic!() };
        helm.set = Some(serde_json::json!({"replicas": 2}));
        assert_ne!(one.digest, RenderRequest::new(RenderWhat::Helm(helm), one.files).digest);
    }
}
