//! A PCI address, in the spellings that the kernel and NVML have for it.
//!
//! sysfs writes the domain with 4 hexadecimal digits (`0000:07:00.0`), NVML with 8, in capitals
//! (`00000000:07:00.0`). Compared as text they never match; this type is what both are turned into.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a PCI function sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// A text is no PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no pci address like 0000:07:00.0", text.escape_debug())]
pub struct AddressError {
    /// The text.
    pub text: String,
}

impl PciAddress {
    /// The address from its numbers; none where the device is over 31 or the function over 7.
    #[must_use]
    pub fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        (device < 32 && function < 8).then_some(Self { domain, bus, device, function })
    }

    /// As NVML prints it: 8 digits of domain, capitals.
    #[must_use]
    pub fn nvml(self) -> String {
        let Self { domain, bus, device, function } = self;
        format!("{domain:08X}:{bus:02X}:{device:02X}.{function}")
    }

    /// Whether both are functions of one board: the same slot.
    #[must_use]
    pub fn same_slot(self, other: Self) -> bool {
        (self.domain, self.bus, self.device) == (other.domain, other.bus, other.device)
    }

    /// Its folder in sysfs.
    #[must_use]
    pub fn folder(self) -> String {
        format!("/sys/bus/pci/devices/{self}")
    }

    /// A file in its folder.
    pub(crate) fn file(self, name: &str) -> String {
        format!("/sys/bus/pci/devices/{self}/{name}")
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl FromStr for PciAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| AddressError { text: text.to_owned() })
    }
}

/// `07:00.0`, `0000:07:00.0` or `00000000:07:00.0`, in either case.
fn parse(text: &str) -> Option<PciAddress> {
    let (place, function) = text.rsplit_once('.')?;
    let mut parts = place.rsplit(':');
    let device = hex(parts.next()?, 2)?;
    let bus = hex(parts.next()?, 2)?;
    let domain = parts.next().map_or(Some(0), |domain| hex(domain, 8))?;
    if parts.next().is_some() {
        return None;
    }
    let byte = |number: u32| u8::try_from(number).ok();
    PciAddress::new(domain, byte(bus)?, byte(device)?, byte(hex(function, 1)?)?)
}

fn hex(text: &str, digits_max: usize) -> Option<u32> {
    let plain = !text.is_empty()
        && text.len() <= digits_max
        && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

impl TryFrom<String> for PciAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}
