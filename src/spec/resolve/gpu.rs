//! `GpuLayout` to its canonical form: one entry an instance, each with its name.
//!
//! What a board can be cut into is not known here: a shape that the GPU does not have shows when it
//! is looked at.

mod vgpus;

use std::collections::{BTreeMap, BTreeSet};

use trueup_gpu_sysfs::PciAddress;
use trueup_mig::{ComputeWish, SLOTS_MAX, Selector};

use super::super::diag::did_you_mean;
use super::super::kinds::gpu::{
    ComputeSpec, GpuClientSpec, GpuLayoutSpec, GpuMatchSpec, GpuModeSpec, PartitionSpec,
    PassthroughSpec,
};
use super::{Cx, Place};
use crate::model::Name;
use crate::model::resource::{GpuClient, GpuGuest, GpuLayout, GpuMatch, GpuMode, Partition};

pub(super) fn resolve(cx: &mut Cx<'_>, spec: &GpuLayoutSpec) -> Option<GpuLayout> {
    let gpu = which(cx, &spec.which);
    let mode = mode(spec.mode);
    if mode == GpuMode::Whole && !spec.partitions.is_empty() {
        cx.err("spec/conflict", "/spec/partitions", "a GPU used as a whole has no partitions")
            .hint("use `mode: mig`, or leave the partitions out");
    }
    if spec.mode == GpuModeSpec::Passthrough && !spec.partitions.is_empty() {
        let message = "a GPU that is given to a guest as a whole has no partitions";
        cx.err("spec/conflict", "/spec/partitions", message)
            .hint("use `mode: mig` or `mode: vgpu`, or leave the partitions out");
    }
    for_guests(cx, spec);
    let guest = spec.passthrough.as_ref().map(|it| guest(cx, it));
    let (partitions, vgpus) = match spec.mode {
        GpuModeSpec::Vgpu => (Vec::new(), vgpus::resolve(cx, &spec.partitions)),
        _ => (partitions(cx, &spec.partitions), Vec::new()),
    };
    let names = names(&spec.partitions);
    let mut clients: Vec<GpuClient> = Vec::new();
    for (n, client) in spec.clients.iter().enumerate() {
        let client = client_of(cx, n, client, &names);
        if clients.iter().any(|other| other.unit == client.unit) {
            let message = format!("unit `{}` is there already", client.unit);
            cx.err("spec/duplicate", format!("/spec/clients/{n}/unit"), message)
                .hint("name all partitions that it uses in one entry");
        }
        clients.push(client);
    }
    clients.sort_by(|a, b| a.unit.cmp(&b.unit));
    Some(GpuLayout {
        gpu: gpu?,
        mode,
        partitions,
        vgpus,
        mixed_sizes: spec.vgpu.as_ref().is_some_and(|it| it.mixed_sizes),
        allow_reset: Some(spec.allow_reset),
        on_busy: Some(spec.on_busy),
        clients,
        takeover: Some(spec.takeover),
        guest,
        memory: None,
        state: None,
        kernel: None,
    })
}

fn which(cx: &mut Cx<'_>, spec: &GpuMatchSpec) -> Option<GpuMatch> {
    let uuid = spec.uuid.as_ref().map(|uuid| GpuMatch::Uuid(canonical_uuid(uuid)));
    let pci = spec.pci_address.as_ref().map(|text| (text, canonical_pci(text)));
    if let Some((text, None)) = &pci {
        let message = format!("`{}` is not a PCI address", text.escape_debug());
        cx.err("spec/wrong-value", "/spec/match/pciAddress", message)
            .hint("write domain, bus, device and function: `0000:07:00.0`");
        return None;
    }
    let pci = pci.and_then(|(_, address)| address).map(GpuMatch::PciAddress);
    let serial = spec.serial.clone().map(GpuMatch::Serial);
    let product = spec.product.as_ref().map(|it| GpuMatch::Product(it.trim().to_owned()));
    let mut given: Vec<GpuMatch> = [uuid, pci, serial, product].into_iter().flatten().collect();
    if given.len() == 1 {
        return given.pop();
    }
    let message = match given.len() {
        0 => "no GPU is named",
        _ => "the GPU is named in more than one way",
    };
    cx.err("spec/wrong-value", "/spec/match", message)
        .hint("give exactly one of `uuid`, `pciAddress`, `serial` and `product`: `nvidia-smi -L` shows UUIDs");
    None
}

/// What belongs to a mode that the GPU is not of, and what a GPU that guests have cannot have.
fn for_guests(cx: &mut Cx<'_>, spec: &GpuLayoutSpec) {
    let given = matches!(spec.mode, GpuModeSpec::Passthrough | GpuModeSpec::Vgpu);
    if given && !spec.clients.is_empty() {
        let message = "a GPU that guests have serves no services of the host";
        cx.err("spec/conflict", "/spec/clients", message)
            .hint("stop them by hand before the GPU is given away, and leave `clients` out");
    }
    if spec.mode != GpuModeSpec::Passthrough && spec.passthrough.is_some() {
        cx.err("spec/conflict", "/spec/passthrough", "the GPU is not of mode `passthrough`");
    }
    if spec.mode != GpuModeSpec::Vgpu && spec.vgpu.is_some() {
        cx.err("spec/conflict", "/spec/vgpu", "the GPU is not of mode `vgpu`");
    }
}

fn guest(cx: &mut Cx<'_>, spec: &PassthroughSpec) -> GpuGuest {
    let mut with = BTreeSet::new();
    for (n, text) in spec.with.iter().enumerate() {
        let read: Option<PciAddress> = canonical_pci(text).and_then(|it| it.parse().ok());
        let read = read.ok_or_else(|| format!("`{}` is not a PCI address", text.escape_debug()));
        with.extend(cx.check(format!("/spec/passthrough/with/{n}"), read));
    }
    GpuGuest { with, headless: spec.headless }
}

/// The prefix as NVML writes it, the digits in lower case.
fn canonical_uuid(text: &str) -> String {
    match text.split_once('-') {
        Some((prefix, rest)) => format!("{prefix}-{}", rest.to_ascii_lowercase()),
        None => text.to_owned(),
    }
}

/// The form of sysfs: lower case, a domain of four digits. NVML prints eight, tools print either.
fn canonical_pci(text: &str) -> Option<String> {
    let (rest, function) = text.split_once('.')?;
    let parts: Vec<u32> = rest
        .split(':')
        .map(|digits| u32::from_str_radix(digits, 16).ok())
        .collect::<Option<_>>()?;
    let [domain, bus, device] = parts.as_slice() else { return None };
    let function = u32::from_str_radix(function, 16).ok().filter(|function| *function < 8)?;
    let fits = *bus < 256 && *device < 32;
    fits.then(|| format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

fn mode(mode: GpuModeSpec) -> GpuMode {
    match mode {
        GpuModeSpec::Whole => GpuMode::Whole,
        GpuModeSpec::Mig => GpuMode::Mig,
        GpuModeSpec::Passthrough => GpuMode::Passthrough,
        GpuModeSpec::Vgpu => GpuMode::Vgpu,
    }
}

/// Names that a client may use: those of partitions, and those that stand for several alike. Also of
/// partitions with a mistake, which is told once.
fn names(specs: &[PartitionSpec]) -> BTreeSet<String> {
    let numbered = specs
        .iter()
        .flat_map(|spec| (0..spec.count.unwrap_or(0)).map(|at| format!("{}-{at}", spec.name)));
    numbered.chain(specs.iter().map(|spec| spec.name.clone())).collect()
}

fn partitions(cx: &mut Cx<'_>, specs: &[PartitionSpec]) -> Vec<Partition> {
    let mut all: Vec<Partition> = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (n, spec) in specs.iter().enumerate() {
        let select = selector(cx, n, spec);
        if spec.start.is_some() && spec.count.is_some_and(|count| count > 1) {
            let message = "a start is for one partition, and here are several";
            cx.err("spec/conflict", format!("/spec/partitions/{n}/start"), message)
                .hint("write one entry for each, or leave `start` out");
        }
        if spec.kind.is_some() {
            let message = "a type is that of a vGPU, and the GPU is not of mode `vgpu`";
            cx.err("spec/conflict", format!("/spec/partitions/{n}/type"), message)
                .hint("give a `shape` or a `profile`, or use `mode: vgpu`");
        }
        let compute = spec.compute.as_ref().map(|all| all.iter().map(compute_of).collect());
        for name in names_of(cx, n, spec, &mut seen) {
            let Some(select) = select.clone() else { continue };
            all.push(Partition {
                name,
                select,
                start: spec.start,
                compute: Clone::clone(&compute),
            });
        }
    }
    if all.len() > SLOTS_MAX {
        let message = format!("{} partitions; a GPU has at most {SLOTS_MAX}", all.len());
        cx.err("spec/too-large", "/spec/partitions", message);
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The names of what an entry stands for, each told where it is no name, or not the first.
fn names_of(
    cx: &mut Cx<'_>,
    n: usize,
    spec: &PartitionSpec,
    seen: &mut BTreeMap<String, usize>,
) -> Vec<String> {
    let names: Vec<String> = match spec.count {
        None => vec![spec.name.clone()],
        Some(count) => (0..count).map(|at| format!("{}-{at}", spec.name)).collect(),
    };
    for name in &names {
        let place = format!("/spec/partitions/{n}/name");
        if let Err(error) = Name::new(name) {
            cx.err("spec/wrong-value", place.clone(), error.to_string());
        }
        if let Some(first) = seen.insert(name.clone(), n) {
            let other = Place::value(cx.member, format!("/spec/partitions/{first}/name"));
            let message = format!("there is a partition `{name}` already");
            cx.err("spec/duplicate-partition", place, message).see(other, "the first is here");
        }
    }
    names
}

fn selector(cx: &mut Cx<'_>, n: usize, spec: &PartitionSpec) -> Option<Selector> {
    match (&spec.shape, &spec.profile) {
        (Some(shape), None) => Some(Selector::Shape(shape.clone())),
        (None, Some(profile)) => Some(Selector::Profile(profile.clone())),
        (given, _) => {
            let message = match given {
                Some(_) => "a shape and a profile are given",
                None => "neither a shape nor a profile is given",
            };
            cx.err("spec/wrong-value", format!("/spec/partitions/{n}"), message)
                .hint("give one of them: `shape: 3g`, or `profile: 3g.40gb`");
            None
        }
    }
}

fn compute_of(spec: &ComputeSpec) -> ComputeWish {
    ComputeWish { shape: spec.shape.clone(), count: spec.count.unwrap_or(1), start: spec.start }
}

fn client_of(
    cx: &mut Cx<'_>,
    n: usize,
    spec: &GpuClientSpec,
    names: &BTreeSet<String>,
) -> GpuClient {
    for (m, name) in spec.uses.iter().enumerate().filter(|(_, name)| !names.contains(*name)) {
        let hint = did_you_mean(name, names.iter().map(String::as_str));
        let message = format!("there is no partition `{}` here", name.escape_debug());
        let place = format!("/spec/clients/{n}/uses/{m}");
        cx.err("spec/dangling-reference", place, message).hint = hint;
    }
    let uses: BTreeSet<String> = spec.uses.iter().cloned().collect();
    GpuClient { unit: spec.unit.clone(), uses: uses.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_uuids_have_one_form() {
        assert_eq!(canonical_pci("00000000:07:00.0").as_deref(), Some("0000:07:00.0"));
        assert_eq!(canonical_pci("0000:C1:00.1").as_deref(), Some("0000:c1:00.1"));
        for bad in ["07:00.0", "0000:07:00", "0000:07:20.0", "0000:07:00.8", "0000:777:00.0"] {
            assert_eq!(canonical_pci(bad), None, "{bad}");
        }
        assert_eq!(canonical_uuid("GPU-0A"), "GPU-0a");
    }
}
