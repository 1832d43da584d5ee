//! Pure planning: from what was observed and what is wished to steps, or to reasons why not.
//!
//! No I/O, no clock, no randomness. What was done already is seen and not planned again, so that the
//! plan of a later observation is the rest of an earlier plan: nothing else is needed after a crash.

mod bind;
mod claim;
mod release;
mod vfs;
mod vgpu;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use bind::{Passthrough, bind};
pub use claim::{Claim, Place};
pub use release::{Release, release};
pub use vfs::functions_down;
pub use vgpu::{VgpuRequest, VgpuWish, is_on_instance, kind_number, kinds, vgpus};

use crate::address::PciAddress;
use crate::condition::Condition;
use crate::holders::Holders;
use crate::observe::{Function, Host};
use crate::refusal::{Refusal, Refused};
use crate::step::{Action, Step};

/// The driver that gives a function to a virtual machine.
pub const VFIO: &str = "vfio-pci";
/// How often a driver's probe is tried before the function is called an orphan.
const PROBE_TRIES: u32 = 3;

/// What to do where somebody holds the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBusy {
    /// Say who, and do nothing.
    #[default]
    Refuse,
    /// Wait for them to go, at most so many seconds; nobody is ever stopped.
    Wait {
        /// How long.
        seconds: u32,
    },
}

/// Something worth saying beside the steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// A function had no driver: a transition broke off, or a probe had no effect.
    Orphan {
        /// The function.
        function: PciAddress,
    },
    /// The kernel knows no way to reset the function: a virtual machine's restart may not clear it.
    NoReset {
        /// The function.
        function: PciAddress,
    },
    /// `vfio-pci.ids=` takes all boards of this model at boot, and not this one only.
    IdsMatch {
        /// Vendor and model.
        model: String,
    },
    /// Nouveau is loaded and may take the GPU where nvidia does not.
    NouveauLoaded,
    /// A claimed place was found used by somebody else, and was left to them.
    PlaceLost {
        /// The claim.
        id: Uuid,
        /// The place.
        place: Place,
    },
}

/// Steps, in order, and what goes with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What to do, one after the other; empty: all is as wished, as far as this stage goes.
    pub steps: Vec<Step>,
    /// Claims to be kept durably before the first step, instead of those of the same GPU before.
    pub claims: Vec<Claim>,
    /// Whether to observe and plan again after the steps, since more is to be done that could not be
    /// decided before them.
    pub again: bool,
    /// What else to say.
    pub notes: Vec<Note>,
}

/// A GPU by its address, with what speaks against touching it at all.
fn gpu(host: &Host, address: PciAddress) -> Result<&Function, Refused> {
    let refused = |reason| Refused { gpu: address, reasons: vec![reason] };
    let Some(function) = host.functions.get(&address) else {
        let found = host.gpus().map(|it| it.address).collect();
        return Err(refused(Refusal::NotFound { found }));
    };
    if let Some(physical) = function.physical {
        return Err(refused(Refusal::Virtual { physical }));
    }
    if !function.is_gpu() {
        let (vendor, class) = (function.vendor_id, function.class);
        return Err(refused(Refusal::NotAGpu { vendor, class }));
    }
    Ok(function)
}

/// What could not be read about these functions.
fn unread<'h>(host: &'h Host, functions: &'h [&Function]) -> impl Iterator<Item = Refusal> + 'h {
    let about = |path: &str| {
        functions.iter().any(|it| path.split('/').any(|part| part == it.address.to_string()))
    };
    let hit = host.unread.iter().filter(move |it| about(&it.path));
    hit.map(|it| Refusal::Unread { path: it.path.clone(), why: it.why.clone() })
}

/// Who stands in the way: refusals, or a step that waits for them.
fn busy(
    holders: &Holders,
    functions: &[PciAddress],
    mediated: &[Uuid],
    on_busy: OnBusy,
) -> Result<Option<Step>, Refusal> {
    if !holders.unread.is_empty() {
        return Err(Refusal::Unscanned { pids: holders.unread.clone() });
    }
    let held = holders.of(functions, mediated);
    match on_busy {
        _ if held.is_empty() => Ok(None),
        OnBusy::Refuse => Err(Refusal::Held { holders: held.into_iter().cloned().collect() }),
        OnBusy::Wait { seconds } => {
            let what = "wait until nobody holds it".to_owned();
            let free = free(functions, mediated);
            Ok(Some(Step::new(what, Action::Wait { seconds }).proves(free)))
        }
    }
}

fn free(functions: &[PciAddress], mediated: &[Uuid]) -> Condition {
    Condition::Free { functions: functions.to_vec(), mediated: mediated.to_vec() }
}

/// The refusals as an error, where there are any.
fn refuse(gpu: PciAddress, reasons: Vec<Refusal>) -> Result<(), Refused> {
    if reasons.is_empty() { Ok(()) } else { Err(Refused { gpu, reasons }) }
}

/// The driver link of a function.
fn driver_is(function: PciAddress, driver: Option<&str>) -> Condition {
    Condition::Link { path: function.file("driver"), is: driver.map(ToOwned::to_owned) }
}

/// The model of a function, so that another board in the same slot is not taken for it.
fn same_model(function: &Function) -> Condition {
    let is = format!("{:#06x}", function.device_id);
    Condition::Text { path: function.address.file("device"), is }
}

/// Takes a function from its driver; `whole` is what must not be held.
fn unbind(function: &Function, driver: &str, whole: &[PciAddress]) -> Step {
    let at = function.address;
    let path = format!("/sys/bus/pci/drivers/{driver}/unbind");
    Step::write(format!("unbind {at} from {driver}"), path, at.to_string())
        .needs(same_model(function))
        .needs(driver_is(at, Some(driver)))
        .needs(free(whole, &[]))
        .proves(driver_is(at, None))
}

/// Fixes the driver of a function that has none now, or frees the choice.
fn fix(at: PciAddress, driver: Option<&str>) -> Step {
    let what = match driver {
        Some(driver) => format!("let only {driver} take {at}"),
        None => format!("let any driver take {at}"),
    };
    let (path, value) = (at.file("driver_override"), driver.unwrap_or_default());
    Step::write(what, path.clone(), value)
        .needs(Condition::There { path: path.clone() })
        .proves(Condition::Text { path, is: value.to_owned() })
}

/// Has the kernel look for a driver.
fn probe(at: PciAddress, fixed: Option<&str>, after: Condition) -> Step {
    let path = "/sys/bus/pci/drivers_probe".to_owned();
    let mut step = Step::write(format!("probe drivers for {at}"), path, at.to_string())
        .needs(driver_is(at, None))
        .needs(Condition::Text {
            path: at.file("driver_override"),
            is: fixed.unwrap_or_default().to_owned(),
        })
        .proves(after);
    step.tries = PROBE_TRIES;
    step
}
