//! Why a plan has to wait for a person or a better time, as data.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use trueup_kubernetes::release::Step as ReleaseStep;

use super::input::window_open;
use super::{Action, Disruption, Plan, Reason, Step, StepIndex};
use crate::model::ResourceId;
use crate::spec::{SyncMode, SyncSettings};

/// Why a plan is held rather than run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum HoldReason {
    /// The environment is paused (`sync.pause`).
    Paused,
    /// The environment is synchronised by hand (`sync.mode: manual`): it waits for an approval.
    Manual,
    /// It destroys more than `sync.maxDestroy` allows.
    MaxDestroy {
        /// What it would destroy or make anew.
        would: BTreeSet<Destroyed>,
        /// How many it may.
        allowed: u32,
    },
    /// It disturbs something outside of every window of `sync.windows`.
    OutsideWindow {
        /// What it would interrupt or destroy.
        would: BTreeSet<ResourceId>,
    },
}

/// Something that a plan destroys or makes anew.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Destroyed {
    /// The resource.
    pub resource: ResourceId,
    /// The object of it in a cluster; `None`: the resource is one thing.
    pub part: Option<String>,
}

impl fmt::Display for Destroyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Some(part) => write!(f, "{part} of {}", self.resource),
            None => write!(f, "{}", self.resource),
        }
    }
}

impl fmt::Debug for Destroyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a plan destroys or makes anew. A network that is stopped to be removed counts once, and of a
/// release each object; cloud-init media and outdated files do not count: they can be made again from the
/// commit.
pub fn destroys(plan: &Plan) -> BTreeSet<Destroyed> {
    let lossy = plan.steps.iter().filter(|step| step.disruption >= Disruption::Replace);
    let destroyed = |step: &Step| {
        let part = match &step.action {
            Action::Release { step, .. } => match &**step {
                ReleaseStep::Delete { key, .. } => Some(key.to_string()),
                _ => None,
            },
            _ => None,
        };
        Destroyed { resource: step.resource.clone(), part }
    };
    lossy.map(destroyed).collect()
}

/// Every reason to hold a plan now; `minute` of the week as in [`super::Input`].
pub fn hold_reasons(plan: &Plan, sync: &SyncSettings, minute: Option<u16>) -> Vec<HoldReason> {
    if plan.is_empty() {
        return Vec::new();
    }
    let mut reasons = Vec::new();
    if sync.pause {
        reasons.push(HoldReason::Paused);
    }
    if sync.mode == SyncMode::Manual {
        reasons.push(HoldReason::Manual);
    }
    let would = destroys(plan);
    if would.len() > sync.max_destroy as usize {
        reasons.push(HoldReason::MaxDestroy { would, allowed: sync.max_destroy });
    }
    let disturbing = plan.steps.iter().filter(|step| step.disruption >= Disruption::Restart);
    let would: BTreeSet<ResourceId> = disturbing.map(|step| step.resource.clone()).collect();
    if !would.is_empty() && !window_open(&sync.windows, minute) {
        reasons.push(HoldReason::OutsideWindow { would });
    }
    reasons
}

/// The steps that `reasons` are about: without them, and without what hangs on them, the plan need
/// not wait. `None`: all of it has to.
///
/// Manual mode and windows are about commits: outside of them only what drifted from a wish that
/// was fulfilled before is put right, which is for `selfHeal` to say.
pub fn causes(plan: &Plan, reasons: &[HoldReason]) -> Option<BTreeSet<StepIndex>> {
    let mut causes = BTreeSet::new();
    for reason in reasons {
        let is_cause: fn(&Step) -> bool = match reason {
            HoldReason::Paused => return None,
            HoldReason::Manual => |step| !heals(step),
            HoldReason::MaxDestroy { .. } => |step| step.disruption >= Disruption::Replace,
            HoldReason::OutsideWindow { .. } => {
                |step| !heals(step) || step.disruption >= Disruption::Restart
            }
        };
        let found = plan.steps.iter().enumerate().filter(|(_, step)| is_cause(step));
        causes.extend(found.map(|(at, _)| at));
    }
    Some(causes)
}

/// The steps that the commit asks for: all but those that put right what drifted from a wish that was
/// fulfilled before.
pub fn asked(plan: &Plan) -> BTreeSet<StepIndex> {
    let found = plan.steps.iter().enumerate().filter(|(_, step)| !heals(step));
    found.map(|(at, _)| at).collect()
}

/// Whether a step puts drift right, serves another one, which then decides, or is done by a schedule
/// that was accepted before.
pub fn heals(step: &Step) -> bool {
    matches!(step.reason, Reason::Drifted | Reason::Needed | Reason::Due)
}
