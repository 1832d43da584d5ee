//! A cut: which profiles stand where, with their compute instances and names.
//!
//! It holds nothing that the driver chooses (ids, UUIDs, minor numbers), so two layouts are equal
//! when the GPU is cut alike; as JSON it is what drift is measured by and rolled back to.

use serde::{Deserialize, Serialize};

use crate::id::{ComputeProfileId, ProfileId};
use crate::observe::Instance;

/// A GPU instance by what it is: its profile and the memory slice it starts at. Together with the
/// GPU's UUID this is its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// The profile.
    pub profile: ProfileId,
    /// First memory slice.
    pub start: u32,
}

impl Ord for Placed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.start, self.profile).cmp(&(other.start, other.profile))
    }
}

impl PartialOrd for Placed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A compute instance by what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputePart {
    /// The profile.
    pub profile: ComputeProfileId,
    /// First compute slice within its GPU instance; none where the driver chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<u32>,
}

/// One GPU instance of a layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What and where it is.
    pub placed: Placed,
    /// What other resources call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its compute instances, in order.
    #[serde(default)]
    pub compute: Vec<ComputePart>,
}

/// A whole GPU's cut, by start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Layout {
    /// The instances, by start.
    pub parts: Vec<Part>,
}

impl Layout {
    /// A layout of these parts, brought into order.
    #[must_use]
    pub fn new(mut parts: Vec<Part>) -> Self {
        parts.sort_by_key(|part| part.placed);
        for part in &mut parts {
            part.compute.sort_by_key(|compute| (compute.start, compute.profile));
        }
        Self { parts }
    }

    /// What was observed, without what the driver chose.
    #[must_use]
    pub fn of(observed: &[Instance]) -> Self {
        let part = |instance: &Instance| Part {
            placed: instance.placed,
            name: instance.name.clone(),
            compute: instance
                .compute
                .iter()
                .map(|compute| ComputePart { profile: compute.profile, start: Some(compute.start) })
                .collect(),
        };
        Self::new(observed.iter().map(part).collect())
    }

    /// The instances, without names and compute instances.
    #[must_use]
    pub fn placed(&self) -> Vec<Placed> {
        self.parts.iter().map(|part| part.placed).collect()
    }

    /// The part that stands there.
    #[must_use]
    pub fn part(&self, placed: Placed) -> Option<&Part> {
        self.parts.iter().find(|part| part.placed == placed)
    }

    /// Whether the GPU is cut like this. Names do not count, and a compute instance without a start
    /// is satisfied by one of its profile anywhere.
    #[must_use]
    pub fn is_met_by(&self, observed: &[Instance]) -> bool {
        self.parts.len() == observed.len()
            && self.parts.iter().all(|part| {
                let found = observed.iter().find(|instance| instance.placed == part.placed);
                found.is_some_and(|instance| {
                    crate::compute::matched(&part.compute, &instance.compute)
                        .is_some_and(|matched| matched.len() == part.compute.len())
                })
            })
    }
}
