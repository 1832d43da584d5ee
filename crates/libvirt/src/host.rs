//! Calls about the host and the connection.

use std::fmt;

use crate::client::Client;
use crate::error::{Code, Error};

/// A version as libvirt packs it: `major * 1_000_000 + minor * 1_000 + release`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 / 1_000_000, self.0 / 1_000 % 1_000, self.0 % 1_000)
    }
}

/// The machine and the daemon at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Of libvirtd.
    pub libvirt: Version,
    /// Of the hypervisor; `None` where the driver does not say.
    pub hypervisor: Option<Version>,
    /// The host's name.
    pub hostname: String,
    /// The URI in use, as libvirt completed it.
    pub uri: String,
    /// `<capabilities>`.
    pub capabilities_xml: String,
}

impl Client {
    /// What is at the other end.
    ///
    /// # Errors
    ///
    /// When libvirt does not answer.
    pub async fn host(&self) -> Result<Host, Error> {
        self.call("host", "", &[], |conn| {
            let hypervisor = match conn.get_hyp_version().map_err(Error::from) {
                Ok(packed) => Some(Version(packed)),
                Err(e) if e.code == Code::NoSupport => None,
                Err(e) => return Err(e),
            };
            Ok(Host {
                libvirt: Version(conn.get_lib_version()?),
                hypervisor,
                hostname: conn.get_hostname()?,
                uri: conn.get_uri()?,
                capabilities_xml: conn.get_capabilities()?,
            })
        })
        .await
    }

    /// `<domainCapabilities>` for an architecture, machine type and virtualisation type (`qemu`,
    /// `kvm`); the driver chooses what is `None`.
    ///
    /// # Errors
    ///
    /// When the driver has no such emulator.
    pub async fn domain_capabilities(
        &self,
        arch: Option<&str>,
        machine: Option<&str>,
        virt_type: Option<&str>,
    ) -> Result<String, Error> {
        let given: Vec<&str> = [arch, machine, virt_type].into_iter().flatten().collect();
        let (arch, machine, virt_type) =
            (arch.map(str::to_owned), machine.map(str::to_owned), virt_type.map(str::to_owned));
        self.call("domain_capabilities", "", &given, move |conn| {
            let (arch, machine, virt_type) =
                (arch.as_deref(), machine.as_deref(), virt_type.as_deref());
            Ok(conn.get_domain_capabilities(None, arch, machine, virt_type, 0)?)
        })
        .await
    }
}
