//! Claims: which vGPU is ours, kept by the caller.
//!
//! A mediated device bears the UUID it was made with. A virtual function bears no mark at all, and its
//! path is used again by whoever comes next: that it is ours is known only from a claim that was
//! written down before the function was touched, in the same boot, with the same type.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::vgpu::number;
use crate::address::PciAddress;
use crate::observe::Host;
use crate::step::{Action, Step};

/// The file of a virtual function that says which vGPU it is.
const CURRENT_TYPE: &str = "nvidia/current_vgpu_type";

/// Where a vGPU is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// As a mediated device, whose UUID is the claim's.
    Mediated {
        /// The GPU or virtual function it is made on.
        parent: PciAddress,
        /// The type's folder name, as `nvidia-558`.
        kind: String,
    },
    /// As a virtual function with a type.
    Function {
        /// The function.
        function: PciAddress,
        /// The type's number.
        kind: u32,
        /// The GPU instance it is on.
        gpu_instance: Option<u32>,
        /// Its placement id.
        placement: Option<u32>,
    },
}

/// One vGPU of ours. To be kept durably before the first step of the plan that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Its id, chosen by the caller; for a mediated device also its UUID.
    pub id: Uuid,
    /// The boot it was made in.
    pub boot: String,
    /// Where.
    pub place: Place,
}

/// What has become of a claim. Somebody who gave the same type to the same function in the same boot
/// cannot be told from us; their open handle still keeps it from being removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It stands as claimed.
    There,
    /// Its place is empty: not made yet, removed, or lost in a restart.
    Empty,
    /// Somebody else has its place.
    Lost,
}

impl Claim {
    /// Whether it stands as claimed.
    #[must_use]
    pub fn stands(&self, host: &Host) -> bool {
        self.standing(host) == Standing::There
    }

    /// The number of its type; none where the folder's name has none.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        match &self.place {
            Place::Mediated { kind, .. } => number(kind),
            Place::Function { kind, .. } => Some(*kind),
        }
    }

    /// Whether a step makes it.
    #[must_use]
    pub fn is_made_by(&self, step: &Step) -> bool {
        let Action::Write { path, value } = &step.action else { return false };
        match &self.place {
            Place::Mediated { .. } => path.ends_with("/create") && *value == self.id.to_string(),
            Place::Function { function, kind, .. } => {
                *path == function.file(CURRENT_TYPE) && *value == kind.to_string()
            }
        }
    }

    /// Whether a step removes it.
    #[must_use]
    pub fn is_removed_by(&self, step: &Step) -> bool {
        let Action::Write { path, value } = &step.action else { return false };
        match &self.place {
            Place::Mediated { .. } => *path == format!("/sys/bus/mdev/devices/{}/remove", self.id),
            Place::Function { function, .. } => {
                *path == function.file(CURRENT_TYPE) && value == "0"
            }
        }
    }

    /// What has become of it.
    pub(super) fn standing(&self, host: &Host) -> Standing {
        match &self.place {
            Place::Mediated { parent, kind } => match host.mediated.get(&self.id) {
                None => Standing::Empty,
                Some(it) if it.parent == *parent && it.kind == *kind => Standing::There,
                Some(_) => Standing::Lost,
            },
            Place::Function { function, kind, .. } => {
                let vendor = host.functions.get(function).and_then(|it| it.vendor.as_ref());
                match vendor.and_then(|it| it.current) {
                    None => Standing::Empty,
                    Some(current) if current == *kind && self.boot == host.boot => Standing::There,
                    Some(_) => Standing::Lost,
                }
            }
        }
    }

    /// What must be free for it to be removed.
    pub(super) fn handles(&self) -> (Vec<PciAddress>, Vec<Uuid>) {
        match &self.place {
            Place::Mediated { .. } => (Vec::new(), vec![self.id]),
            Place::Function { function, .. } => (vec![*function], Vec::new()),
        }
    }
}
