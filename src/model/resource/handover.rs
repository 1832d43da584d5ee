//! The canonical form of a GPU that is given to guests.
//!
//! While a guest has a GPU, NVML does not see it: it is found by its PCI address, which is therefore
//! remembered from before the first step on it. Never part of a wish: addresses are facts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use trueup_gpu_sysfs::{Holders, Host, PciAddress, VFIO};

use super::HostDevice;

/// How a GPU is given to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuGuest {
    /// Functions of other boards in its IOMMU group that may go to `vfio-pci` with it.
    #[schemars(with = "Vec<String>")]
    pub with: BTreeSet<PciAddress>,
    /// Whether the host may lose its console and monitors.
    pub headless: bool,
}

/// What is remembered of a GPU that guests have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuHandover {
    /// Where it sits.
    #[schemars(with = "String")]
    pub pci: PciAddress,
    /// Vendor and model, `10de:20b0`: another board in the same slot is another GPU.
    pub model: String,
    /// Its UUID, where NVML told it.
    pub uuid: Option<String>,
    /// The driver that had it before and gets it back; `None`: none had it.
    pub driver: Option<String>,
    /// Functions of other boards that went with it.
    #[schemars(with = "Vec<String>")]
    pub with: BTreeSet<PciAddress>,
}

/// What the kernel's files say of one GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GpuKernel {
    /// Where it sits.
    #[schemars(with = "String")]
    pub pci: PciAddress,
    /// Its functions, those of its IOMMU group, and what of the host matters to them.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub host: Host,
    /// Its UUID; `None`: NVML does not see it.
    pub uuid: Option<String>,
    /// Who holds one of these functions open.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub holders: Holders,
    /// Whether MIG is on; `None`: NVML does not see it.
    pub mig: Option<bool>,
    /// Whether persistence mode is on; `None`: NVML does not see it.
    pub persistence: Option<bool>,
}

impl GpuKernel {
    /// Whether the driver that gives it to guests has it.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.driver() == Some(VFIO)
    }

    /// The driver that has the GPU itself.
    #[must_use]
    pub fn driver(&self) -> Option<&str> {
        self.host.functions.get(&self.pci)?.driver.as_deref()
    }

    /// Vendor and model.
    #[must_use]
    pub fn model(&self) -> Option<String> {
        Some(self.host.functions.get(&self.pci)?.model())
    }

    /// What a guest gets: every function of the board, because a reset is one of all of them.
    #[must_use]
    pub fn devices(&self) -> Vec<HostDevice> {
        self.host.board(self.pci).map(|it| HostDevice::Pci(it.address.to_string())).collect()
    }
}
