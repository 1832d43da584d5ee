//! `Release` to its canonical form: its files found, read and checked against each other. What is rendered,
//! and folders of files, have a file each beside this one.
//!
//! Kinds that only the cluster knows are left as they are; the hand asks the cluster about them.

mod folder;
mod rendering;
mod strategy;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use trueup_kubernetes::release::{
    Manifest, ManifestError, OBJECTS_MAX, ReleaseName, TEXT_MAX, settle,
};
use trueup_kubernetes::{ObjectKey, Scopes};

use super::super::kinds::Spec;
use super::super::kinds::release::{ReleaseConflicts, ReleaseSpec};
use super::super::manifests::{MANIFESTS_FOLDER, raw_below};
use super::super::scalar;
use super::{Cx, World};
use crate::model::resource::{Release, ReleaseManifests, ReleaseObject, ReleasePlace};
use crate::model::{Digest, Kind, Name, ResourceId, digest_of};

/// How long an object may take to become ready when nothing is said, seconds: after this time a
/// Deployment says itself that it failed (`progressDeadlineSeconds`).
const READY_S: u64 = 600;
/// Longest such time, seconds.
const READY_S_MAX: u64 = 24 * 3600;
/// The namespace when nothing is said.
const NAMESPACE: &str = "default";

pub(super) fn resolve(cx: &mut Cx<'_>, spec: &ReleaseSpec) -> Option<Release> {
    if !cx.world.members[cx.member].doc.lifecycle.ignore_differences.is_empty() {
        let message = "a Release has no fields to ignore";
        cx.err("spec/conflict", "/lifecycle/ignoreDifferences", message)
            .hint("leave a field to others by not saying it in the manifest");
    }
    let cluster = cluster(cx, &spec.cluster, spec.folder.is_some());
    let namespace = spec.namespace.as_deref().unwrap_or(NAMESPACE);
    let name = cx.id.name.to_string();
    let release = match ReleaseName::new(namespace, &name) {
        Ok(release) => Some(release),
        // A folder is known by its path.
        Err(_) if spec.folder.is_some() => None,
        Err(error) => {
            // Which of the two it is.
            let ok = ReleaseName::new(NAMESPACE, &name).is_ok();
            let at = if ok { "/spec/namespace" } else { "/metadata/name" };
            cx.err("spec/wrong-value", at, error.to_string());
            None
        }
    };
    let timeout_s = match &spec.timeout {
        None => Some(READY_S),
        Some(text) => {
            let read = scalar::seconds_up_to(text, READY_S_MAX, "a day");
            cx.check("/spec/timeout", read)
        }
    };
    let takes_from = takes_from(cx, &spec.takes_from);
    let holder = match &spec.takes_over_from {
        Some(host) if host.is_empty() || host.chars().any(char::is_control) => {
            let message = format!("`{}` is no name of a host", host.escape_debug());
            cx.err("spec/wrong-value", "/spec/takesOverFrom", message);
            None
        }
        given => Some(given.clone()),
    };
    if let Some(folder) = &spec.folder {
        let folder = folder::resolve(cx, spec, folder);
        let (folder, cluster) = (folder?, cluster?);
        let (at, last) = folder.to.rsplit_once('/')?;
        return Some(Release {
            place: ReleasePlace { cluster, namespace: at.to_owned(), name: last.to_owned() },
            prune: true,
            takes_fields: false,
            takes_from: BTreeSet::new(),
            takes_over_from: holder?,
            timeout_s: timeout_s?,
            objects: Vec::new(),
            rendered: Vec::new(),
            folder: Some(Box::new(folder)),
            manifests: ReleaseManifests::default(),
            seen: None,
        });
    }
    if spec.manifests.is_empty() && spec.helm.is_none() && spec.kustomize.is_none() {
        cx.err("spec/wrong-value", "/spec", "nothing says what the release is made of")
            .hint("name `manifests`, `helm`, `kustomize`, or a `folder` for a Slurm cluster");
        return None;
    }
    let plain = manifests(cx, &spec.manifests);
    let rendered = rendering::resolve(cx, spec, release.as_ref()?);
    let (mut manifests, (more, rendered), release) = (plain?, rendered?, release?);
    let bytes: usize = more.iter().map(|it| it.1).sum();
    manifests.extend(more.into_iter().flat_map(|it| it.0));
    if manifests.len() > OBJECTS_MAX || bytes > TEXT_MAX {
        let message = format!("{} objects; at most {OBJECTS_MAX} are taken", manifests.len());
        cx.err("spec/too-large", "/spec", message).hint("make several releases of it");
        return None;
    }
    if manifests.is_empty() {
        cx.err("spec/wrong-value", "/spec", "there is no object in the release")
            .hint("a release that is no longer wanted goes with its document");
        return None;
    }
    let manifests = settled(cx, manifests, &release)?;
    let fits = cluster.as_ref().is_none_or(|it| strategy::check(cx, it, &manifests));
    let manifests = Some(manifests).filter(|_| fits)?;
    let objects = manifests.iter().map(object).collect();
    Some(Release {
        place: ReleasePlace { cluster: cluster?, namespace: namespace.to_owned(), name },
        prune: spec.prune,
        takes_fields: spec.conflicts == ReleaseConflicts::Take,
        takes_from: takes_from?,
        takes_over_from: holder?,
        timeout_s: timeout_s?,
        objects,
        rendered,
        folder: None,
        manifests: ReleaseManifests(Arc::new(manifests)),
        seen: None,
    })
}

/// The cluster: one that the environment has comes first, any other is for the host's config to know.
fn cluster(cx: &mut Cx<'_>, name: &str, is_slurm: bool) -> Option<Name> {
    let read = Name::new(name).map_err(|error| error.to_string());
    let name = cx.check("/spec/cluster", read)?;
    let id = ResourceId::new(Kind::Cluster, name.clone());
    if !cx.world.by_id.contains_key(&id) {
        cx.without.push(id);
        return Some(name);
    }
    let doc = cx.look_up("/spec/cluster", Kind::Cluster, name.as_str())?;
    if let Spec::Cluster(spec) = &doc.spec
        && spec.slurm().is_some() != is_slurm
    {
        let (message, hint) = match is_slurm {
            false => (
                format!("`{id}` is a Slurm cluster, which has no manifests"),
                "name a cluster of type `kubernetes`, or say `folder`",
            ),
            true => (
                format!("`{id}` is a Kubernetes cluster, which has no shared folder"),
                "name a cluster of type `slurm`, or say `manifests`",
            ),
        };
        cx.err("spec/wrong-kind-of-reference", "/spec/cluster", message).hint(hint);
        return None;
    }
    cx.need(id);
    Some(name)
}

/// Releases of which objects may be taken over.
fn takes_from(cx: &mut Cx<'_>, names: &[String]) -> Option<BTreeSet<String>> {
    let read = names.iter().enumerate().map(|(nth, text)| {
        let parts = text.split_once('/').unwrap_or((NAMESPACE, text));
        let read = ReleaseName::new(parts.0, parts.1).map_err(|error| error.to_string());
        cx.check(format!("/spec/takesFrom/{nth}"), read).map(|name| name.to_string())
    });
    let read: Vec<Option<String>> = read.collect();
    read.into_iter().collect()
}

/// The folder of the document.
fn own_folder<'a>(cx: &Cx<'a>) -> &'a str {
    let world = cx.world;
    let own = world.repo.files[world.members[cx.member].file].path.as_str();
    own.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// What the files hold, in the order of their paths.
fn manifests(cx: &mut Cx<'_>, paths: &[String]) -> Option<Vec<Manifest>> {
    let world = cx.world;
    let folder = own_folder(cx);
    let mut files = BTreeSet::new();
    let mut is_good = true;
    for (nth, text) in paths.iter().enumerate() {
        let pointer = format!("/spec/manifests/{nth}");
        let Some(path) = joined(folder, text) else {
            let text = text.escape_debug();
            let message = format!("`{text}` is not a plain path from this document");
            cx.err("spec/wrong-value", pointer, message);
            is_good = false;
            continue;
        };
        let found = blobs_at(world, &path);
        if found.is_empty() {
            let message = format!("there are no manifests at `{}`", path.escape_debug());
            cx.err("spec/dangling-reference", pointer, message).hint(format!(
                "name a YAML file, or a folder of them, in a folder called `{MANIFESTS_FOLDER}` of \
                 this environment or base; a chart is named by `helm`, a kustomization by `kustomize`"
            ));
            is_good = false;
        }
        files.extend(found.iter().map(|(path, _)| path.clone()));
        cx.from_manifests.push((path, found));
    }
    let mut all = Vec::new();
    let mut bytes = 0;
    for path in &files {
        let Some(placed) = world.manifests.get(path) else { continue };
        // What is wrong with it was told with the file.
        is_good &= placed.file.mistakes.is_empty();
        bytes += placed.file.bytes.len();
        all.extend(placed.file.objects.iter().map(|object| {
            let mut object = object.clone();
            object.place.file.clone_from(path);
            object
        }));
    }
    if all.len() > OBJECTS_MAX || bytes > TEXT_MAX {
        let message = format!(
            "{} objects in {bytes} bytes; at most {OBJECTS_MAX} in {TEXT_MAX} are taken",
            all.len()
        );
        cx.err("spec/too-large", "/spec/manifests", message).hint("make several releases of it");
        is_good = false;
    } else if all.is_empty() && is_good && !paths.is_empty() {
        let message = "there is no object in the manifests";
        cx.err("spec/wrong-value", "/spec/manifests", message)
            .hint("a release that is no longer wanted goes with its document");
        is_good = false;
    }
    is_good.then_some(all)
}

/// The objects with their namespaces, in the order of their keys.
fn settled(
    cx: &mut Cx<'_>,
    manifests: Vec<Manifest>,
    release: &ReleaseName,
) -> Option<Vec<Manifest>> {
    let mut told = |errors: Vec<ManifestError>| {
        for ManifestError { place, fault } in errors {
            let draft = cx.err("spec/bad-manifest", "/spec/manifests", fault);
            draft.elsewhere = Some((place.file, place.line));
        }
    };
    let (all, _) = match settle(manifests, release.namespace(), &Scopes::default()) {
        Ok(settled) => settled,
        Err(errors) => {
            told(errors);
            return None;
        }
    };
    let own = ObjectKey::new("", "ConfigMap", Some(release.namespace()), &release.inventory());
    if let Some(taken) = all.iter().find(|manifest| manifest.key == own) {
        let fault = format!("{own} is the list of what this release has made: call it otherwise");
        told(vec![ManifestError { place: taken.place.clone(), fault }]);
        return None;
    }
    Some(all)
}

fn object(manifest: &Manifest) -> ReleaseObject {
    ReleaseObject {
        version: manifest.kind.api_version(),
        kind: manifest.key.kind.clone(),
        namespace: manifest.key.namespace.clone(),
        name: manifest.key.name.clone(),
        digest: manifest.digest.clone(),
    }
}

/// The digest of all files below a folder that are rendered or handed on.
pub(super) fn raw_at(world: &World<'_>, folder: &str) -> Digest {
    let own = world.raw.get_key_value(folder).map(|(path, file)| (path.as_str(), file));
    let all = own.into_iter().chain(raw_below(world.raw, folder));
    let all: Vec<_> = all.map(|(path, file)| (path, &file.blob, file.executable)).collect();
    digest_of(&all)
}

/// The files of manifests at a path, or below it, with the ids of their content.
pub(super) fn blobs_at(world: &World<'_>, path: &str) -> Vec<(String, String)> {
    if let Some(placed) = world.manifests.get(path) {
        return vec![(path.to_owned(), placed.blob.clone())];
    }
    let prefix = format!("{path}/");
    let below =
        world.manifests.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
    below
        .take_while(|(path, _)| path.starts_with(&prefix))
        .map(|(path, placed)| (path.clone(), placed.blob.clone()))
        .collect()
}

/// A path from a folder of the repository; `None` where it is none, or leads out of it.
fn joined(folder: &str, text: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    let text = text.strip_suffix('/').unwrap_or(text);
    for part in text.split('/') {
        match part {
            "" => return None,
            "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_from_the_document_and_stay_in_the_repository() {
        let joined = |text: &str| joined("environments/lab", text);
        assert_eq!(joined("manifests/web/").as_deref(), Some("environments/lab/manifests/web"));
        assert_eq!(joined("./manifests").as_deref(), Some("environments/lab/manifests"));
        assert_eq!(joined("../prod/manifests").as_deref(), Some("environments/prod/manifests"));
        for text in ["", "/etc", "a//b", "../../../x", "../.."] {
            assert_eq!(joined(text), None, "{text}");
        }
    }
}
