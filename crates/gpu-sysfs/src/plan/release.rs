//! The way back: from vfio-pci, or from no driver at all, to the host's driver.
//!
//! The GPU's function goes last: as long as it is not back, a crash is seen, and the board's other
//! functions that stand without a driver are looked after.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::bind::{functions, notes};
use super::{OnBusy, Plan, VFIO, busy, driver_is, fix, gpu, probe, refuse, unbind, unread};
use crate::address::PciAddress;
use crate::condition::Condition;
use crate::holders::Holders;
use crate::observe::{Function, Host};
use crate::refusal::{Refusal, Refused};
use crate::step::Step;

/// What is to be given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The GPU.
    pub gpu: PciAddress,
    /// The driver that gets it: `nvidia`.
    pub driver: String,
    /// Functions of other boards in its group that went with it.
    pub with: BTreeSet<PciAddress>,
    /// What to do where a virtual machine holds it.
    pub on_busy: OnBusy,
}

impl Release {
    /// The GPU alone, to `nvidia`, refused where it is held.
    #[must_use]
    pub fn of(gpu: PciAddress) -> Self {
        let driver = "nvidia".to_owned();
        Self { gpu, driver, with: BTreeSet::new(), on_busy: OnBusy::Refuse }
    }
}

/// The steps that give a GPU back to the host's driver; from an orphan too.
///
/// # Errors
/// Every reason that speaks against it.
pub fn release(host: &Host, holders: &Holders, wish: &Release) -> Result<Plan, Refused> {
    let gpu = gpu(host, wish.gpu)?;
    let functions = functions(host, gpu, &wish.with);
    let mut reasons: Vec<Refusal> = unread(host, &functions).collect();
    let home = gpu.driver.as_deref() == Some(wish.driver.as_str());
    let mut plan = Plan { notes: notes(host, &functions), ..Plan::default() };
    let mut steps = Vec::new();
    let ours: Vec<PciAddress> =
        functions.iter().filter(|it| is_ours(it)).map(|it| it.address).collect();
    for function in functions.iter().skip(1) {
        let forgotten = function.driver.is_none() && !home;
        if is_ours(function) || is_fixed(function) || forgotten {
            let not = VFIO.to_owned();
            let after = Condition::LinkIsNot { path: function.address.file("driver"), not };
            steps.extend(back(function, &ours, after, false));
        }
    }
    if !home {
        check(host, gpu, wish, &mut reasons);
    }
    if !home || is_fixed(gpu) {
        let after = driver_is(gpu.address, Some(&wish.driver));
        steps.extend(back(gpu, &ours, after, true));
    }
    if !steps.is_empty() {
        match busy(holders, &ours, &[], wish.on_busy) {
            Ok(wait) => plan.steps.extend(wait),
            Err(reason) => reasons.push(reason),
        }
    }
    refuse(wish.gpu, reasons)?;
    plan.steps.extend(steps);
    Ok(plan)
}

fn is_ours(function: &Function) -> bool {
    function.driver.as_deref() == Some(VFIO)
}

fn is_fixed(function: &Function) -> bool {
    function.driver_override.as_deref() == Some(VFIO)
}

/// Whether the probe would lead where it is to lead.
fn check(host: &Host, gpu: &Function, wish: &Release, reasons: &mut Vec<Refusal>) {
    if !host.drivers.contains(&wish.driver) {
        reasons.push(Refusal::DriverMissing { driver: wish.driver.clone() });
    }
    let model = gpu.model();
    if host.vfio_ids.contains(&model) {
        reasons.push(Refusal::IdsClaim { model });
    }
    if let Some(driver) = gpu.driver.clone().filter(|driver| driver != VFIO) {
        reasons.push(Refusal::OtherDriver { function: gpu.address, driver });
    }
    let foreign = |to: &String| to != VFIO && *to != wish.driver;
    if let Some(to) = gpu.driver_override.clone().filter(foreign) {
        reasons.push(Refusal::OtherOverride { function: gpu.address, to });
    }
}

/// The steps for one function. A part that no driver of the host wants stays without one, so that
/// its probe proves only that vfio-pci has let go of it.
fn back(function: &Function, ours: &[PciAddress], after: Condition, must_bind: bool) -> Vec<Step> {
    let at = function.address;
    let mut steps = Vec::new();
    if is_ours(function) {
        steps.push(unbind(function, VFIO, ours));
    }
    let kept = function.driver_override.as_deref().filter(|to| *to != VFIO);
    if is_fixed(function) {
        steps.push(fix(at, None));
    }
    if is_ours(function) || function.driver.is_none() {
        let step = probe(at, kept, after);
        // The proof holds before the probe already, where no driver has to come of it.
        steps.push(if must_bind { step } else { always(step) });
    }
    steps
}

/// A step that is performed also where nothing is left to prove.
fn always(mut step: Step) -> Step {
    step.always = true;
    step.tries = 1;
    step
}
