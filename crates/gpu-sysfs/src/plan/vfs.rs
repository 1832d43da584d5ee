//! Virtual functions on and off, by the vendor's tool.
//!
//! The number is never written to `sriov_numvfs` by us: the tool also takes the GPU from its driver
//! and gives it back, which the driver needs.

use super::{OnBusy, Plan, busy, free, gpu, refuse, unread};
use crate::address::PciAddress;
use crate::condition::Condition;
use crate::holders::Holders;
use crate::observe::{Function, Host, SRIOV_MANAGE};
use crate::refusal::{Refusal, Refused};
use crate::step::{Action, Step};

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
/// need it.
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
    if gpu.sriov.is_none_or(|sriov| sriov.enabled == 0) {
        return Ok(Plan::default());
    }
    let mut functions = vec![gpu];
    functions.extend(host.virtual_functions(address));
    let all: Vec<PciAddress> = functions.iter().map(|it| it.address).collect();
    let mut reasons: Vec<Refusal> = unread(host, &functions).collect();
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
