//! What other programs render for a release: which files each is given, and the objects that came of it.
//!
//! Nothing is started. What is not rendered yet is said with the mistake, so that whoever may start
//! programs renders it and loads again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use trueup_kubernetes::release::{Manifest, ReleaseName};

use super::super::super::environment::NOT_RENDERED;
use super::super::super::kinds::release::{HelmHooks, HelmSpec, ReleaseSpec};
use super::super::super::manifests::{CHART, KUSTOMIZATIONS, MANIFESTS_FOLDER, raw_below};
use super::super::super::rendering::{
    self, HelmRender, RenderFile, RenderRequest, RenderWhat, Rendered,
};
use super::super::Cx;
use super::{joined, own_folder, raw_at};
use crate::model::resource::ReleaseRendering;

/// Most folders that one kustomization is made of.
const FOLDERS_MAX: usize = 200;
/// Most bytes that a rendering is made from.
const INPUT_MAX: usize = 32 << 20;
/// Lists of a kustomization that may name folders.
const NAMES_FOLDERS: [&str; 6] =
    ["resources", "bases", "components", "generators", "transformers", "validators"];

/// Objects of a rendering, and its bytes.
type Objects = (Vec<Manifest>, usize);

/// The objects that are rendered for a release, each rendering with what is said of it.
pub(super) fn resolve(
    cx: &mut Cx<'_>,
    spec: &ReleaseSpec,
    release: &ReleaseName,
) -> Option<(Vec<Objects>, Vec<ReleaseRendering>)> {
    let mut asked = Vec::new();
    if let Some(helm) = &spec.helm {
        asked.push(("/spec/helm/chart", chart(cx, helm, release), helm.hooks));
    }
    if let Some(folder) = &spec.kustomize {
        asked.push(("/spec/kustomize", kustomization(cx, folder), HelmHooks::LeaveOut));
    }
    let (mut objects, mut told) = (Vec::new(), Vec::new());
    let mut is_good = true;
    for (at, request, hooks) in asked {
        match request.and_then(|request| rendered(cx, at, request, hooks)) {
            Some((all, what)) => {
                objects.push(all);
                told.push(what);
            }
            None => is_good = false,
        }
    }
    is_good.then_some((objects, told))
}

/// What came of a request; where nothing did yet, that is said.
fn rendered(
    cx: &mut Cx<'_>,
    at: &str,
    request: RenderRequest,
    hooks: HelmHooks,
) -> Option<(Objects, ReleaseRendering)> {
    let of = request.what.folder().to_owned();
    let renderings = Arc::clone(&cx.world.renderings);
    let known: Option<&Rendered> = renderings.get(&request.digest).map(|known| &**known);
    let unable = known.map(|known| known.unable.as_deref());
    if let Some(Some(_)) | None = unable {
        let why = unable.flatten().unwrap_or("nothing renders it here");
        let message = format!("`{of}` is not rendered: {why}");
        let draft = cx.err(NOT_RENDERED, at, message);
        if unable.is_none() {
            draft.wants = Some(request);
        }
        return None;
    }
    let known = known?;
    for (file, line, message) in &known.mistakes {
        let draft = cx.err("spec/bad-rendering", at, message.clone());
        draft.elsewhere = Some((file.clone(), *line));
    }
    let mut left_out = Vec::new();
    for (hook, when) in &known.hooks {
        if hooks == HelmHooks::LeaveOut || rendering::is_test(when) {
            left_out.push(hook.key.to_string());
            continue;
        }
        let message = format!(
            "{} is run by Helm at `{}`, and no hook is run here",
            hook.key,
            when.escape_debug()
        );
        let draft = cx.err("spec/bad-rendering", at, message);
        draft.elsewhere = Some((hook.place.file.clone(), hook.place.line));
        draft.hint(
            "turn it off by the chart's values, or leave all hooks out with `helm.hooks: leaveOut`",
        );
    }
    if !cx.drafts.is_empty() {
        return None;
    }
    left_out.sort();
    let digest = rendering::digest(&known.objects);
    let told = ReleaseRendering { of, by: known.by.clone(), digest, left_out };
    Some(((known.objects.clone(), known.bytes), told))
}

/// A path from the document into a folder of manifests; told where it is none.
fn path(cx: &mut Cx<'_>, at: &str, text: &str) -> Option<String> {
    let path = joined(own_folder(cx), text);
    let fits = path.filter(|path| path.split('/').any(|part| part == MANIFESTS_FOLDER));
    if fits.is_none() {
        let message = format!(
            "`{}` is not a plain path from this document into a folder called `{MANIFESTS_FOLDER}`",
            text.escape_debug()
        );
        cx.err("spec/wrong-value", at, message)
            .hint("what is rendered lies in the repository; nothing is fetched from elsewhere");
    }
    fits
}

fn chart(cx: &mut Cx<'_>, helm: &HelmSpec, release: &ReleaseName) -> Option<RenderRequest> {
    let folder = path(cx, "/spec/helm/chart", &helm.chart)?;
    if !cx.world.raw.contains_key(&format!("{folder}/{CHART}")) {
        let message = format!("there is no chart at `{}`", folder.escape_debug());
        cx.err("spec/dangling-reference", "/spec/helm/chart", message).hint(format!(
            "name the folder that has a `{CHART}`; charts from elsewhere are put into the repository \
             (`helm pull --untar`)"
        ));
        return None;
    }
    let mut taken = BTreeSet::from([folder.clone()]);
    let mut values = Vec::new();
    for (nth, text) in helm.values.iter().enumerate() {
        let at = format!("/spec/helm/values/{nth}");
        let file = path(cx, &at, text)?;
        if !cx.world.raw.contains_key(&file) {
            let message = format!("there is no file `{}`", file.escape_debug());
            cx.err("spec/dangling-reference", at, message);
            return None;
        }
        taken.insert(file.clone());
        values.push(file);
    }
    let name = helm.release_name.as_deref().unwrap_or(release.name());
    let named = cx.check("/spec/helm/releaseName", plain("name of a release", name))?;
    if let Some(version) = &helm.kube_version {
        cx.check("/spec/helm/kubeVersion", plain("version of Kubernetes", version))?;
    }
    for (nth, version) in helm.api_versions.iter().enumerate() {
        cx.check(format!("/spec/helm/apiVersions/{nth}"), plain("version of an API", version))?;
    }
    let set = (!helm.set.is_empty()).then(|| Value::from_iter(helm.set.clone()));
    let what = RenderWhat::Helm(HelmRender {
        chart: folder,
        values,
        set,
        release: named,
        namespace: release.namespace().to_owned(),
        crds: helm.include_crds,
        kube_version: helm.kube_version.clone(),
        api_versions: helm.api_versions.clone(),
    });
    request(cx, "/spec/helm/chart", what, &taken)
}

/// A word that no program takes for an option.
fn plain(what: &str, text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._/+".contains(c);
    let good = text.chars().all(fits) && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    match good && text.len() <= 253 {
        true => Ok(text.to_owned()),
        false => Err(format!("`{}` is no {what}", text.escape_debug())),
    }
}

fn kustomization(cx: &mut Cx<'_>, text: &str) -> Option<RenderRequest> {
    let at = "/spec/kustomize";
    let folder = path(cx, at, text)?;
    if main_of(cx, &folder).is_none() {
        let message = format!("there is no kustomization at `{}`", folder.escape_debug());
        cx.err("spec/dangling-reference", at, message)
            .hint(format!("name a folder that has a `{}`", KUSTOMIZATIONS[0]));
        return None;
    }
    let mut taken = BTreeSet::new();
    let mut open = vec![folder.clone()];
    while let Some(next) = open.pop() {
        let Some((_, bytes)) = main_of(cx, &next) else { continue };
        if !taken.insert(next.clone()) {
            continue;
        }
        if taken.len() > FOLDERS_MAX {
            let message = format!("it is made of more than {FOLDERS_MAX} folders");
            cx.err("spec/too-large", at, message);
            return None;
        }
        open.extend(named_folders(&next, &bytes));
    }
    let what = RenderWhat::Kustomize { folder };
    request(cx, at, what, &taken)
}

/// The file that makes a folder a kustomization.
fn main_of(cx: &Cx<'_>, folder: &str) -> Option<(String, Arc<[u8]>)> {
    KUSTOMIZATIONS.iter().find_map(|name| {
        let path = format!("{folder}/{name}");
        let bytes = cx.world.raw.get(&path)?.bytes.clone()?;
        Some((path, bytes))
    })
}

/// The paths in the repository that a kustomization may mean by its lists. What it cannot be read for is
/// told by the program that renders it.
fn named_folders(folder: &str, bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let Ok(read) = serde_saphyr::from_str::<BTreeMap<String, Value>>(text) else {
        return Vec::new();
    };
    let lists = NAMES_FOLDERS.iter().filter_map(|list| read.get(*list)?.as_array());
    let names = lists.flatten().filter_map(Value::as_str);
    names.filter_map(|name| joined(folder, name)).collect()
}

/// The request for these folders and files.
fn request(
    cx: &mut Cx<'_>,
    at: &str,
    what: RenderWhat,
    taken: &BTreeSet<String>,
) -> Option<RenderRequest> {
    let world = cx.world;
    let mut files = BTreeMap::new();
    for place in taken {
        cx.from_raw.push((place.clone(), raw_at(world, place)));
        let own = world.raw.get_key_value(place).map(|(path, file)| (path.as_str(), file));
        files.extend(own.into_iter().chain(raw_below(world.raw, place)));
    }
    let (mut all, mut size) = (Vec::new(), 0);
    for (path, file) in files {
        let Some(bytes) = &file.bytes else {
            let message = format!("the content of `{}` is missing", path.escape_debug());
            cx.err("spec/unread", at, message)
                .hint("the repository's mirror is damaged: fetch it anew");
            return None;
        };
        size += bytes.len();
        let (path, blob) = (path.to_owned(), file.blob.clone());
        all.push(RenderFile { path, blob, bytes: Arc::clone(bytes) });
    }
    if size > INPUT_MAX {
        let message = format!("it is made of {size} bytes; at most {INPUT_MAX} are taken");
        cx.err("spec/too-large", at, message);
        return None;
    }
    Some(RenderRequest::new(what, all))
}
