//! Virtual functions on and off, by the vendor's tool.
//!
//! The number is never written to `sriov_numvfs` by us: the tool also takes the GPU from its driver
//! and gives it back, which the driver needs. Where it was ended in between, [`home`] gives it back.

use super::{OnBusy, Plan, busy, driver_is, free, gpu, probe, refuse, unbind, unread};
use crate::address::PciAddress;
use crate::condition::Condition;
use crate::holders::Holders;
use crate::observe::{Function, Host, SRIOV_MANAGE};
use crate::refusal::{Refusal, Refused};
use crate::step::{Action, Step};

/// The driver of a vGPU host.
pub(super) const HOME: &str = "nvidia";
/// The kernel's stand-in, which has a GPU while the tool turns its virtual functions on.
const STUB: &str = "pci-pf-stub";

impl Function {
    /// Whether no driver has it but, at most, the kernel's stand-in: the vendor's tool took it from
    /// its driver and was ended before it gave it back.
    #[must_use]
    pub fn is_adrift(&self) -> bool {
        self.driver.as_deref().is_none_or(|driver| driver == STUB)
    }
}

/// The steps that give a GPU without a driver back to the one of vGPU hosts; none: a driver has it.
///
/// # Errors
/// Every reason for which the probe would not lead there.
pub(super) fn home(
    host: &Host,
    holders: &Holders,
    gpu: &Function,
    on_busy: OnBusy,
) -> Result<Vec<Step>, Refused> {
    let at = gpu.address;
    if !gpu.is_adrift() {
        return Ok(Vec::new());
    }
    let mut reasons = Vec::new();
    if !host.drivers.contains(HOME) {
        reasons.push(Refusal::DriverMissing { driver: HOME.to_owned() });
    }
    let fixed = gpu.driver_override.as_deref();
    if let Some(to) = fixed.filter(|to| *to != HOME) {
        reasons.push(Refusal::OtherOverride { function: at, to: to.to_owned() });
    }
    let model = gpu.model();
    if host.vfio_ids.contains(&model) && fixed.is_none() {
        reasons.push(Refusal::IdsClaim { model });
    }
    let mut steps = Vec::new();
    if gpu.driver.is_some() {
        match busy(holders, &[at], &[], on_busy) {
            Ok(wait) => steps.extend(wait),
            Err(reason) => reasons.push(reason),
        }
        steps.push(unbind(gpu, STUB, &[at]));
    }
    refuse(at, reasons)?;
    steps.push(probe(at, fixed, driver_is(at, Some(HOME))));
    Ok(steps)
}

/// Turns all virtual functions of a GPU on.
pub(super) fn up(gpu: &Function) -> Step {
    let at = gpu.address;
    let path = at.file("sriov_numvfs");
    let argv = vec![SRIOV_MANAGE.to_owned(), "-e".to_owned(), at.to_string()];
    Step::new(format!("turn the virtual functions of {at} on"), Action::Run { argv })
        .needs(Condition::Text { path: path.clone(), is: "0".to_owned() })
        .needs(free(&[at], &[]))
        .proves(Condition::AtLeast { path, number: 1 })
        .proves(Condition::There { path: at.file("virtfn0") })
}

/// The steps that turn all virtual functions of a GPU off, as passthrough and a change of MIG mode
/// need it. One that has no driver, because the tool was ended half-way, gets its driver back.
///
/// # Errors
/// Where there are vGPUs, or somebody holds the GPU or one of the functions.
pub fn functions_down(
    host: &Host,
    holders: &Holders,
    address: PciAddress,
    on_busy: OnBusy,
) -> Result<Plan, Refused> {
    let gpu = gpu(host, address)?;
    let Some(sriov) = gpu.sriov else { return Ok(Plan::default()) };
    let off = sriov.enabled == 0;
    if off && !(gpu.is_adrift() && host.drivers.contains(HOME)) {
        return Ok(Plan::default());
    }
    let mut functions = vec![gpu];
    functions.extend(host.virtual_functions(address));
    let all: Vec<PciAddress> = functions.iter().map(|it| it.address).collect();
    let mut reasons: Vec<Refusal> = unread(host, &functions).collect();
    if off {
        refuse(address, reasons)?;
        return Ok(Plan { steps: home(host, holders, gpu, on_busy)?, ..Plan::default() });
    }
    let mut which: Vec<String> = host.mediated_of(address).map(|it| it.uuid.to_string()).collect();
    let typed = |it: &&Function| it.vendor.as_ref().is_some_and(|vendor| vendor.current.is_some());
    which.extend(host.virtual_functions(address).filter(typed).map(|it| it.address.to_string()));
    if !which.is_empty() {
        reasons.push(Refusal::Vgpus { which });
    }
    let mut plan = Plan::default();
    match busy(holders, &all, &[], on_busy) {
        Ok(wait) => plan.steps.extend(wait),
        Err(reason) => reasons.push(reason),
    }
    refuse(address, reasons)?;
    plan.steps.extend(home(host, holders, gpu, on_busy)?);
    let argv = vec![SRIOV_MANAGE.to_owned(), "-d".to_owned(), address.to_string()];
    let what = format!("turn the virtual functions of {address} off");
    let mut step = Step::new(what, Action::Run { argv });
    for function in host.virtual_functions(address).filter(|it| it.vendor.is_some()) {
        let path = function.address.file("nvidia/current_vgpu_type");
        step = step.needs(Condition::Text { path, is: "0".to_owned() });
    }
    let path = address.file("sriov_numvfs");
    let off = Condition::Text { path, is: "0".to_owned() };
    plan.steps.push(step.needs(free(&all, &[])).proves(off));
    Ok(plan)
}
