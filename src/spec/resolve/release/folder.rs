//! The folder of a release for Slurm: which files it has, and where it is seen.
//!
//! Whether the host allows that place is for its config to say; nothing here knows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::super::kinds::release::{FolderReaders, FolderSpec, ReleaseSpec};
use super::super::super::manifests::{Apart, FILES_FOLDER, apart, raw_below};
use super::super::super::scalar;
use super::super::Cx;
use super::{joined, own_folder, raw_at};
use crate::model::Digest;
use crate::model::resource::{SharedContent, SharedFile, SharedFolder};

/// Most versions of a folder that are kept.
const KEEP_MAX: u32 = 50;

pub(super) fn resolve(
    cx: &mut Cx<'_>,
    spec: &ReleaseSpec,
    given: &FolderSpec,
) -> Option<SharedFolder> {
    if !spec.manifests.is_empty() || spec.helm.is_some() || spec.kustomize.is_some() {
        let message = "a release is a folder or objects, not both";
        cx.err("spec/conflict", "/spec/folder", message).hint("make two releases of it");
    }
    for (is_said, field) in [
        (spec.namespace.is_some(), "namespace"),
        (!spec.takes_from.is_empty(), "takesFrom"),
        (spec.timeout.is_some(), "timeout"),
    ] {
        if is_said {
            let message = format!("a folder has no `{field}`");
            cx.err("spec/conflict", format!("/spec/{field}"), message);
        }
    }
    let to = cx.check("/spec/folder/to", place(&given.to));
    if !(1..=KEEP_MAX).contains(&given.keep) {
        let message = format!("{} versions; between 1 and {KEEP_MAX} can be kept", given.keep);
        cx.err("spec/wrong-value", "/spec/folder/keep", message);
    }
    if let Some(group) = &given.group
        && !is_group(group)
    {
        let message = format!("`{}` is no name of a group", group.escape_debug());
        cx.err("spec/wrong-value", "/spec/folder/group", message);
    }
    if given.readers == FolderReaders::Group && given.group.is_none() {
        cx.err("spec/conflict", "/spec/folder/readers", "nothing says which group may read it")
            .hint("add `group`");
    }
    let (files, content) = files(cx, &given.from)?;
    Some(SharedFolder {
        to: to?,
        keep: given.keep,
        group: given.group.clone(),
        everybody: given.readers == FolderReaders::All,
        files,
        content: SharedContent(Arc::new(content)),
        seen: None,
    })
}

/// The path of the folder, whose last word names a link that is ours.
fn place(text: &str) -> Result<String, String> {
    let path = scalar::absolute_path(text)?;
    let last = path.rsplit('/').next().unwrap_or_default();
    match last {
        _ if path.matches('/').count() < 2 => {
            Err("it has to lie in a folder that the host's config allows".to_owned())
        }
        last if last.starts_with('.') => {
            Err(format!("`{last}` would be hidden: name it otherwise"))
        }
        _ => Ok(path),
    }
}

/// Names that groupadd(8) takes.
fn is_group(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    !name.is_empty() && name.len() <= 32 && !name.starts_with('-') && name.chars().all(fits)
}

type Files = (Vec<SharedFile>, BTreeMap<String, Arc<[u8]>>);

fn files(cx: &mut Cx<'_>, from: &str) -> Option<Files> {
    let at = "/spec/folder/from";
    let hint = format!("name a folder in one called `{FILES_FOLDER}` of this environment or base");
    let Some(folder) = joined(own_folder(cx), from) else {
        let message = format!("`{}` is not a plain path from this document", from.escape_debug());
        cx.err("spec/wrong-value", at, message);
        return None;
    };
    let world = cx.world;
    cx.from_raw.push((folder.clone(), raw_at(world, &folder)));
    let is_apart = |path: &str| apart(path) == Apart::Files;
    let (mut files, mut content) = (Vec::new(), BTreeMap::new());
    for (path, raw) in raw_below(world.raw, &folder).filter(|(path, _)| is_apart(path)) {
        let Some(bytes) = &raw.bytes else {
            let message = format!("the content of `{}` is missing", path.escape_debug());
            cx.err("spec/unread", at, message)
                .hint("the repository's mirror is damaged: fetch it anew");
            return None;
        };
        let name = path[folder.len() + 1..].to_owned();
        files.push(SharedFile {
            path: name.clone(),
            digest: Digest::of(bytes),
            bytes: bytes.len() as u64,
            executable: raw.executable,
        });
        content.insert(name, Arc::clone(bytes));
    }
    if files.is_empty() {
        let message = format!("there are no files at `{}`", folder.escape_debug());
        cx.err("spec/dangling-reference", at, message).hint(hint);
        return None;
    }
    Some((files, content))
}
