//! Partitions of a GPU that virtual machines share: vGPUs, each with its type.
//!
//! Which types a GPU has is not known here: one that it does not have shows when it is looked at.

use std::collections::BTreeMap;

use super::super::super::kinds::gpu::PartitionSpec;
use super::super::Cx;
use super::names_of;
use crate::model::resource::Vgpu;

/// Most vGPUs of one GPU: the boards with the most virtual functions have 48 of them.
const VGPUS_MAX: usize = 64;

pub(super) fn resolve(cx: &mut Cx<'_>, specs: &[PartitionSpec]) -> Vec<Vgpu> {
    let mut all: Vec<Vgpu> = Vec::new();
    let mut seen = BTreeMap::new();
    for (n, spec) in specs.iter().enumerate() {
        let others = [
            ("shape", spec.shape.is_some()),
            ("profile", spec.profile.is_some()),
            ("start", spec.start.is_some()),
            ("compute", spec.compute.is_some()),
        ];
        for (field, _) in others.into_iter().filter(|(_, given)| *given) {
            let message = format!("`{field}` is for `mode: mig`, and the GPU is of mode `vgpu`");
            cx.err("spec/conflict", format!("/spec/partitions/{n}/{field}"), message)
                .hint("a vGPU has a `type`");
        }
        let kind = spec.kind.as_deref().map(str::trim).filter(|kind| !kind.is_empty());
        if kind.is_none() {
            cx.err("spec/wrong-value", format!("/spec/partitions/{n}"), "a vGPU needs a type")
                .hint(
                    "give one: `type: NVIDIA A40-8Q`, or as the kernel has it, `type: nvidia-556`",
                );
        }
        if kind.is_some_and(trueup_gpu_sysfs::is_on_instance) {
            let message = "this type is for a GPU that is cut (MIG) and shared at once, which is not \
                           supported";
            cx.err("spec/wrong-value", format!("/spec/partitions/{n}/type"), message).hint(
                "use a type that shares the GPU in time, such as `NVIDIA A100-10C`, or `mode: mig` \
                 without virtual machines",
            );
        }
        let names = names_of(cx, n, spec, &mut seen);
        let one = |name| Some(Vgpu { name, kind: kind?.to_owned() });
        all.extend(names.into_iter().filter_map(one));
    }
    if all.len() > VGPUS_MAX {
        let message = format!("{} vGPUs; a GPU has at most {VGPUS_MAX}", all.len());
        cx.err("spec/too-large", "/spec/partitions", message);
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}
