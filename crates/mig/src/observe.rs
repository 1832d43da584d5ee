//! What was found on a GPU: its instances, and who uses them.
//!
//! The observer fills this in; nothing here asks the driver.

use serde::{Deserialize, Serialize};

use crate::id::{ComputeInstanceId, ComputeProfileId, InstanceId};
use crate::layout::Placed;

/// Somebody who uses an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// What it is called towards people: a command, a machine, `unknown`.
    pub who: String,
    /// The process, where one is seen. A leaked handle keeps an instance busy without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The systemd unit it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether it may be stopped for a change: a declared client. Everyone else is never disturbed.
    #[serde(default)]
    pub stoppable: bool,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.who)?;
        match (self.pid, &self.unit) {
            (Some(pid), Some(unit)) => write!(f, " (pid {pid}, {unit})"),
            (Some(pid), None) => write!(f, " (pid {pid})"),
            (None, Some(unit)) => write!(f, " ({unit})"),
            (None, None) => Ok(()),
        }
    }
}

/// A compute instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeInstance {
    /// The driver's number; changes with every creation.
    pub id: ComputeInstanceId,
    /// Its profile.
    pub profile: ComputeProfileId,
    /// First compute slice within the GPU instance.
    pub start: u32,
    /// Compute slices.
    pub slices: u32,
    /// Who uses it.
    #[serde(default)]
    pub holders: Vec<Holder>,
}

/// A GPU instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// The driver's number; changes with every creation.
    pub id: InstanceId,
    /// What and where it is.
    pub placed: Placed,
    /// What other resources call it: the name it was made or last kept under.
    #[serde(default)]
    pub name: Option<String>,
    /// Its compute instances.
    #[serde(default)]
    pub compute: Vec<ComputeInstance>,
    /// Who uses it without it being known through which compute instance.
    #[serde(default)]
    pub holders: Vec<Holder>,
}

impl Instance {
    /// All who use it or one of its compute instances.
    pub fn all_holders(&self) -> impl Iterator<Item = &Holder> {
        self.holders.iter().chain(self.compute.iter().flat_map(|compute| &compute.holders))
    }

    /// Whether somebody uses it who may not be stopped.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.all_holders().any(|holder| !holder.stoppable)
    }

    /// Whether somebody uses it who may be stopped.
    #[must_use]
    pub fn has_clients(&self) -> bool {
        self.all_holders().any(|holder| holder.stoppable)
    }
}

impl ComputeInstance {
    /// Whether somebody uses it who may not be stopped.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.holders.iter().any(|holder| !holder.stoppable)
    }

    /// Whether somebody uses it who may be stopped.
    #[must_use]
    pub fn has_clients(&self) -> bool {
        self.holders.iter().any(|holder| holder.stoppable)
    }
}
