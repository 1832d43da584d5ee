//! The GPUs of a virtual machine: `gpu/<layout>` or `gpu/<layout>/<partition>`, looked up.
//!
//! What a GPU is on the host is no matter of the spec: addresses are found on the machine.

use super::super::diag::did_you_mean;
use super::{Cx, Place};
use crate::model::resource::{GpuLayout, GpuMode, GpuUse};
use crate::model::{Kind, Name, Resource, ResourceId};

/// Most GPUs of one machine: what the boards with the most of them have.
const GPUS_MAX: usize = 16;

/// How a GPU is written.
const FORM: &str = "write `gpu/<layout>`, or `gpu/<layout>/<partition>`";

pub(super) fn resolve(cx: &mut Cx<'_>, texts: &[String]) -> Vec<GpuUse> {
    if texts.len() > GPUS_MAX {
        let message = format!("{} GPUs; at most {GPUS_MAX} are possible", texts.len());
        cx.err("spec/too-many", "/spec/gpus", message);
        return Vec::new();
    }
    let mut found: Vec<GpuUse> = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        let Some(gpu) = one(cx, &format!("/spec/gpus/{n}"), text) else { continue };
        if found.contains(&gpu) {
            let message = format!("`{gpu}` is in the list already");
            cx.err("spec/duplicate-device", format!("/spec/gpus/{n}"), message);
            continue;
        }
        cx.gpus.push((gpu.clone(), n));
        found.push(gpu);
    }
    found.sort();
    found
}

fn one(cx: &mut Cx<'_>, pointer: &str, text: &str) -> Option<GpuUse> {
    let parts: Vec<&str> = text.split('/').collect();
    let (layout, partition) = match parts.as_slice() {
        ["gpu", layout] => (*layout, None),
        ["gpu", layout, partition] => (*layout, Some(*partition)),
        _ => {
            let message = format!("`{}` names no GPU", text.escape_debug());
            cx.err("spec/wrong-value", pointer, message).hint(FORM);
            return None;
        }
    };
    if let Some(hint) = as_partition(cx, layout).filter(|_| partition.is_none()) {
        let message = format!("`gpu/{layout}` is no layout, but there is a partition of that name");
        cx.err("spec/dangling-reference", pointer, message).hint(hint);
        return None;
    }
    let resolved = cx.use_resolved(pointer, Kind::GpuLayout, layout)?;
    let Some(Resource::GpuLayout(found)) = resolved.own() else { return None };
    let layout = Name::new(layout).ok()?;
    fits(cx, pointer, &layout, found, partition).then(|| GpuUse {
        layout,
        partition: partition.map(str::to_owned),
        devices: Vec::new(),
    })
}

/// Where no layout is called so, but a partition is: how that is written.
fn as_partition(cx: &Cx<'_>, name: &str) -> Option<String> {
    let id = ResourceId::new(Kind::GpuLayout, Name::new(name).ok()?);
    if cx.world.by_id.contains_key(&id) {
        return None;
    }
    let mut layouts: Vec<&ResourceId> =
        cx.world.by_id.keys().filter(|id| id.kind == Kind::GpuLayout).collect();
    layouts.sort();
    let has = |id: &&ResourceId| match cx.world.resolved_at(id).and_then(|it| it.own()) {
        Some(Resource::GpuLayout(layout)) => names(layout).any(|it| it == name),
        _ => false,
    };
    let found: Vec<String> =
        layouts.into_iter().filter(has).map(|id| format!("`{id}/{name}`")).collect();
    (!found.is_empty()).then(|| format!("write {}", found.join(" or ")))
}

/// What a layout calls the parts of its GPU.
fn names(layout: &GpuLayout) -> impl Iterator<Item = &str> {
    let parts = layout.partitions.iter().map(|it| it.name.as_str());
    parts.chain(layout.vgpus.iter().map(|it| it.name.as_str()))
}

/// Whether a guest can be given this of the layout; both places are told where it cannot.
fn fits(
    cx: &mut Cx<'_>,
    pointer: &str,
    layout: &Name,
    found: &GpuLayout,
    partition: Option<&str>,
) -> bool {
    let id = ResourceId::new(Kind::GpuLayout, layout.clone());
    let member = cx.world.by_id.get(&id).copied().unwrap_or_default();
    let names: Vec<&str> = names(found).collect();
    let unknown = partition.filter(|name| !names.contains(name));
    let (code, message, hint) = match (found.mode, partition) {
        (GpuMode::Passthrough, None) => return true,
        (GpuMode::Vgpu, Some(name)) if names.contains(&name) => return true,
        (_, Some(name)) if unknown.is_some() => {
            let known = did_you_mean(name, names.iter().copied());
            let hint = known.unwrap_or_else(|| match names.as_slice() {
                [] => format!("`{id}` has no partitions"),
                names => format!("its partitions are {}", names.join(", ")),
            });
            let message = format!("`{id}` has no partition `{}`", name.escape_debug());
            ("spec/dangling-reference", message, hint)
        }
        (GpuMode::Vgpu, None) => {
            let hint = match names.as_slice() {
                [] => format!("give `{id}` partitions, and ask for one of them"),
                [name, ..] => {
                    let all = names.join(", ");
                    format!("ask for one of its partitions, {all}: `{id}/{name}`")
                }
            };
            ("spec/conflict", format!("`{id}` is shared among virtual machines"), hint)
        }
        (GpuMode::Passthrough | GpuMode::Whole | GpuMode::Mig | GpuMode::Vgpu, _) => {
            let (what, hint) = match found.mode {
                GpuMode::Mig => (
                    "is cut into MIG partitions, which only processes of the host can use",
                    "`mode: vgpu` gives parts of a GPU to virtual machines, and `mode: passthrough` \
                     all of it",
                ),
                _ => (
                    "is used by the host itself",
                    "give that layout `mode: passthrough`: the host then has no use of the GPU",
                ),
            };
            ("spec/conflict", format!("`{id}` {what}"), hint.to_owned())
        }
    };
    let place = if code == "spec/conflict" { "/spec/mode" } else { "/spec/partitions" };
    let draft = cx.err(code, pointer, message);
    draft.hint(hint);
    if code == "spec/conflict" {
        draft.see(Place::value(member, place), "its mode is here");
    }
    false
}
