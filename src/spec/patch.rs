//! Patches of an environment, laid over documents of its bases and its own.

use super::cache::{PatchKey, patches_digest};
use super::diag::did_you_mean;
use super::environment::Gathered;
use super::kinds::environment::EnvironmentSpec;
use super::kinds::{Doc, DocKind};
use super::parse::part_of;
use super::repo::Session;
use super::resolve::{Draft, Place, reference};
use super::schema::mismatches;
use super::yaml::parse;

/// Most patches of one environment: each costs a parse of what it changes.
pub(crate) const PATCHES_MAX: usize = 10_000;

/// Applies every patch, in order, or says which one cannot be.
pub(crate) fn apply(session: &mut Session<'_>, all: &mut Gathered, spec: &EnvironmentSpec) {
    let Some(head) = all.head else { return };
    if spec.patches.len() > PATCHES_MAX {
        let message = format!("{} patches; at most {PATCHES_MAX} are applied", spec.patches.len());
        let place = Place::value(head, "/spec/patches");
        all.drafts.push(Draft::new("spec/too-many", place, message));
        return;
    }
    let mut touched = Vec::new();
    for n in 0..spec.patches.len() {
        if let Some(member) = target(all, head, spec, n) {
            if all.members[member].patches.is_empty() {
                touched.push(member);
            }
            all.members[member].patches.push(n);
        }
    }
    for member in touched {
        if let Err(drafts) = lay_over(session, all, member, spec) {
            all.drafts.extend(drafts);
        }
    }
}

/// The member that patch `n` is for.
fn target(all: &mut Gathered, head: usize, spec: &EnvironmentSpec, n: usize) -> Option<usize> {
    let patch = &spec.patches[n];
    let place = Place::value(head, format!("/spec/patches/{n}/target"));
    let id = match reference(&patch.target) {
        Ok(id) => id,
        Err(message) => {
            all.drafts.push(Draft::new("spec/wrong-value", place, message));
            return None;
        }
    };
    for fixed in ["/kind", "/apiVersion", "/metadata/name"] {
        if patch.patch.pointer(fixed).is_some() {
            let place = Place::value(head, format!("/spec/patches/{n}/patch{fixed}"));
            let message = format!("a patch cannot change `{}`", fixed.trim_start_matches('/'));
            all.drafts.push(Draft::new("spec/conflict", place, message));
            return None;
        }
    }
    let found = all.by_id.get(&id).copied();
    if found.is_none() && !all.mentions.contains(id.name.as_str()) {
        let known: Vec<String> = all.by_id.keys().map(ToString::to_string).collect();
        let mut draft =
            Draft::new("spec/dangling-reference", place, format!("there is no `{id}` to patch"));
        draft.hint = did_you_mean(&patch.target, known.iter().map(String::as_str));
        all.drafts.push(draft);
    }
    found
}

fn lay_over(
    session: &mut Session<'_>,
    all: &mut Gathered,
    member: usize,
    spec: &EnvironmentSpec,
) -> Result<(), Vec<Draft>> {
    let this = &all.members[member];
    let patches: Vec<_> = this.patches.iter().map(|&n| &spec.patches[n].patch).collect();
    let Some(parsed) = all.files.get(this.file).and_then(Option::as_ref) else {
        return Ok(());
    };
    let key = PatchKey {
        blob: session.repo.files[this.file].blob.clone(),
        index: this.index,
        patches: patches_digest(&patches),
    };
    let (kind, index) = (this.doc.kind(), this.index);
    let doc = session.cache.patched(key, || {
        let broken =
            |message: String| vec![Draft::new("spec/patch", Place::value(member, ""), message)];
        let part =
            part_of(&parsed.text, index).ok_or_else(|| broken("the document is gone".into()))?;
        let mut value =
            parse(part).map_err(|_| broken("the document cannot be read again".into()))?;
        for patch in &patches {
            json_patch::merge(&mut value, patch);
        }
        typed(kind, value, member)
    })?;
    all.members[member].doc = doc;
    Ok(())
}

fn typed(kind: DocKind, value: serde_json::Value, member: usize) -> Result<Doc, Vec<Draft>> {
    // A copy is kept for the explanation only; patched documents are few.
    let copy = value.clone();
    Doc::typed(kind, value).map_err(|error| {
        let mut drafts: Vec<Draft> = mismatches(kind, &copy)
            .into_iter()
            .map(|m| {
                let place = Place { member, pointer: m.pointer, at: m.at };
                let mut draft = Draft::new(m.code, place, m.message);
                draft.hint = m.hint;
                draft
            })
            .collect();
        if drafts.is_empty() {
            let place = Place::value(member, "");
            drafts.push(Draft::new("spec/wrong-value", place, error.to_string()));
        }
        drafts
    })
}
