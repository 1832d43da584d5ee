//! Passthrough: the GPU, with all of its board, goes to vfio-pci.
//!
//! The GPU's function goes first: where somebody holds it after all, the rest is still untouched.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Note, OnBusy, Plan, VFIO, busy, driver_is, fix, gpu, probe, refuse, unbind, unread};
use crate::address::PciAddress;
use crate::condition::Condition;
use crate::holders::Holders;
use crate::observe::{Function, Host};
use crate::refusal::{Refusal, Refused};
use crate::step::{Action, Step};

/// What is to be passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passthrough {
    /// The GPU.
    pub gpu: PciAddress,
    /// Functions of other boards in its group that may go with it.
    pub with: BTreeSet<PciAddress>,
    /// Whether the host may lose its console and monitors.
    pub headless: bool,
    /// What to do where it is held.
    pub on_busy: OnBusy,
    /// Whether MIG is on, as NVML tells; none: not known.
    pub mig: Option<bool>,
    /// Whether persistence mode is on, as NVML tells; none: not known.
    pub persistence: Option<bool>,
}

impl Passthrough {
    /// The GPU alone, refused where anything speaks against it.
    #[must_use]
    pub fn of(gpu: PciAddress) -> Self {
        Self {
            gpu,
            with: BTreeSet::new(),
            headless: false,
            on_busy: OnBusy::Refuse,
            mig: None,
            persistence: None,
        }
    }
}

/// The GPU's functions: its own first, then the rest by address.
pub(super) fn functions<'h>(
    host: &'h Host,
    gpu: &'h Function,
    with: &BTreeSet<PciAddress>,
) -> Vec<&'h Function> {
    let mut all: BTreeSet<PciAddress> = host.board(gpu.address).map(|it| it.address).collect();
    all.extend(with.iter().filter(|at| gpu.group_members.contains(at)));
    all.remove(&gpu.address);
    let rest = all.iter().filter_map(|at| host.functions.get(at)).filter(|it| !it.is_bridge());
    [gpu].into_iter().chain(rest).collect()
}

/// The steps that give a GPU to vfio-pci. A GPU without a driver, left over from a transition that
/// broke off, is taken up from there; to give it back instead, use [`release`](super::release()).
///
/// # Errors
/// Every reason that speaks against it.
pub fn bind(host: &Host, holders: &Holders, wish: &Passthrough) -> Result<Plan, Refused> {
    let gpu = gpu(host, wish.gpu)?;
    let functions = functions(host, gpu, &wish.with);
    let addresses: Vec<PciAddress> = functions.iter().map(|it| it.address).collect();
    let pending = |it: &&&Function| it.driver.as_deref() != Some(VFIO);
    let mut reasons: Vec<Refusal> = unread(host, &functions).collect();
    if functions.iter().filter(pending).count() == 0 && reasons.is_empty() {
        return Ok(Plan { notes: notes(host, &functions), ..Plan::default() });
    }
    group(host, &functions, &mut reasons);
    in_use(host, gpu, &functions, wish, &mut reasons);
    for function in functions.iter().filter(pending) {
        if let Some(to) = function.driver_override.as_deref().filter(|to| *to != VFIO) {
            let (function, to) = (function.address, to.to_owned());
            reasons.push(Refusal::OtherOverride { function, to });
        }
    }
    let mut plan = Plan { notes: notes(host, &functions), ..Plan::default() };
    match busy(holders, &addresses, &[], wish.on_busy) {
        Ok(wait) => plan.steps.extend(wait),
        Err(reason) => reasons.push(reason),
    }
    refuse(wish.gpu, reasons)?;
    if !host.drivers.contains(VFIO) {
        plan.steps.push(load());
    }
    for function in functions.iter().filter(pending) {
        plan.steps.extend(one(function, &addresses));
    }
    Ok(plan)
}

/// The steps for one function that is not with vfio-pci.
fn one(function: &Function, whole: &[PciAddress]) -> impl Iterator<Item = Step> {
    let at = function.address;
    let taken = function.driver.as_deref().map(|driver| unbind(function, driver, whole));
    let set = function.driver_override.as_deref() == Some(VFIO);
    let fixed = (!set).then(|| fix(at, Some(VFIO)).needs(driver_is(at, None)));
    let probed = probe(at, Some(VFIO), driver_is(at, Some(VFIO)));
    taken.into_iter().chain(fixed).chain([probed])
}

/// Loads vfio-pci. The program's path is the one that all distributions with a merged `/usr` have.
fn load() -> Step {
    let argv = ["/sbin/modprobe", VFIO].map(ToOwned::to_owned).to_vec();
    let path = format!("/sys/bus/pci/drivers/{VFIO}");
    Step::new(format!("load {VFIO}"), Action::Run { argv }).proves(Condition::There { path })
}

/// Whether the whole group can go.
fn group(host: &Host, functions: &[&Function], reasons: &mut Vec<Refusal>) {
    if host.groups == 0 {
        reasons.push(Refusal::NoIommu);
        return;
    }
    for function in functions {
        let Some(group) = function.group else {
            reasons.push(Refusal::NoGroup { function: function.address });
            continue;
        };
        for at in &function.group_members {
            let Some(member) = host.functions.get(at) else { continue };
            let goes = functions.iter().any(|it| it.address == *at) || member.is_bridge();
            let Some(driver) = member.driver.clone().filter(|_| !goes) else { continue };
            // These leave a group whole for a virtual machine.
            let harmless = [VFIO, "pci-stub"].contains(&driver.as_str());
            let refusal = Refusal::GroupShared { group, member: *at, driver };
            if !harmless && !reasons.contains(&refusal) {
                reasons.push(refusal);
            }
        }
    }
}

/// Whether the host or its guests use the GPU, or one that goes with it, as far as files and NVML
/// tell.
fn in_use(
    host: &Host,
    gpu: &Function,
    functions: &[&Function],
    wish: &Passthrough,
    reasons: &mut Vec<Refusal>,
) {
    if gpu.boot_vga == Some(true) && !wish.headless {
        reasons.push(Refusal::BootVga);
    }
    if !gpu.connected.is_empty() && !wish.headless {
        reasons.push(Refusal::Display { outputs: gpu.connected.clone() });
    }
    if gpu.driver.as_deref() == Some("nouveau") {
        reasons.push(Refusal::Nouveau);
    }
    for function in functions.iter().filter(|it| it.is_gpu()) {
        divided(host, function, reasons);
    }
    if wish.mig == Some(true) {
        reasons.push(Refusal::MigOn);
    }
    if wish.persistence == Some(true) {
        reasons.push(Refusal::Persistence);
    }
}

/// Whether parts of a GPU that goes, the one meant or one beside it, are with guests or cut out.
fn divided(host: &Host, gpu: &Function, reasons: &mut Vec<Refusal>) {
    if let Some(sriov) = gpu.sriov.filter(|sriov| sriov.enabled > 0) {
        reasons.push(Refusal::VirtualFunctions { enabled: sriov.enabled });
    }
    let which: Vec<String> = host.mediated_of(gpu.address).map(|it| it.uuid.to_string()).collect();
    if !which.is_empty() {
        reasons.push(Refusal::Vgpus { which });
    }
    if let Some(ids) = host.instances.get(&gpu.address) {
        reasons.push(Refusal::Instances { ids: ids.iter().copied().collect() });
    }
}

/// What to say beside the steps.
pub(super) fn notes(host: &Host, functions: &[&Function]) -> Vec<Note> {
    let mut notes = Vec::new();
    for function in functions.iter().filter(|it| it.is_gpu()) {
        if function.driver.is_none() {
            notes.push(Note::Orphan { function: function.address });
        }
        if function.reset_methods.as_ref().is_some_and(Vec::is_empty) {
            notes.push(Note::NoReset { function: function.address });
        }
        let model = function.model();
        if host.vfio_ids.contains(&model) {
            notes.push(Note::IdsMatch { model });
        }
    }
    if host.drivers.contains("nouveau") {
        notes.push(Note::NouveauLoaded);
    }
    notes
}
