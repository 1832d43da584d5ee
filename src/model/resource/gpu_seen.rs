//! What the log keeps of a look at a GPU: how it is cut, so that its past can be shown when neither
//! the GPU nor its driver is there any more.
//!
//! Who uses what is not in it: that changes with every process, and is asked of the machine.

use serde::{Deserialize, Serialize};
use trueup_mig::{Board, Instance};

use super::{GpuMigState, GpuState};

/// A GPU as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuSeen {
    /// Its UUID.
    pub uuid: String,
    /// Its PCI address.
    pub pci: String,
    /// Its serial number, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The product.
    pub product: String,
    /// Its architecture, as one word.
    pub architecture: String,
    /// The driver's version.
    pub driver: String,
    /// Whether it is cut, and whether it will be after a reset; `None`: it cannot be cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig: Option<GpuMigState>,
    /// Its memory slices; 0: the driver does not tell.
    pub units: u32,
    /// What stands on it, by start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<SeenPart>,
}

/// An instance as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenPart {
    /// Slices and suffix: `3g`.
    pub shape: String,
    /// The driver's name of its profile on this board: `3g.40gb`.
    pub profile: String,
    /// Its first memory slice.
    pub start: u32,
    /// Its memory slices.
    pub size: u32,
    /// What other resources call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its compute instances, by start: `1c`. Empty where there are none, and where one takes all
    /// of it (`whole`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compute: Vec<String>,
    /// Whether one compute instance takes all of it, which is the rule.
    pub whole: bool,
}

impl GpuSeen {
    /// What is kept of `state`.
    #[must_use]
    pub fn of(state: &GpuState) -> Self {
        let board = state.board.as_ref();
        let mut parts: Vec<SeenPart> = match board {
            Some(board) => state.instances.iter().map(|it| SeenPart::of(board, it)).collect(),
            None => Vec::new(),
        };
        parts.sort_by_key(|part| part.start);
        Self {
            uuid: state.uuid.clone(),
            pci: state.pci.clone(),
            serial: state.serial.clone(),
            product: state.product.clone(),
            architecture: state.architecture.clone(),
            driver: state.driver.clone(),
            mig: state.mig,
            units: board.map_or(0, Board::units),
            parts,
        }
    }
}

impl SeenPart {
    fn of(board: &Board, instance: &Instance) -> Self {
        let placed = instance.placed;
        let profile = board.profile(placed.profile);
        let all = profile.and_then(|it| it.whole_compute());
        let mut compute: Vec<_> = instance.compute.iter().collect();
        compute.sort_by_key(|it| it.start);
        let whole =
            matches!(compute.as_slice(), [one] if all.is_some_and(|all| all.id == one.profile));
        let words = compute.iter().filter(|_| !whole).map(|it| format!("{}c", it.slices));
        Self {
            shape: board.shape(placed.profile),
            profile: profile.map_or_else(|| format!("#{}", placed.profile), |it| it.name.clone()),
            start: placed.start,
            size: board.placement(placed).map_or(0, |place| place.size),
            name: instance.name.clone(),
            compute: words.collect(),
            whole,
        }
    }

    /// What people call it: its name, or `3g@4`.
    #[must_use]
    pub fn called(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.label())
    }

    /// `3g@4`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}@{}", self.shape, self.start)
    }
}
