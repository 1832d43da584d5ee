//! Calls that change a domain that is there, or speak with its guest.

use std::time::Duration;

use virt::domain::Domain;
use virt_sys as sys;

use crate::client::{Client, Scope};
use crate::error::{Code, Error};

/// How much longer than libvirt itself a call waits whose time limit libvirt keeps, so that its
/// own answer comes first.
const AGENT_MARGIN: Duration = Duration::from_secs(5);

/// The kind of metadata that is an element of a namespace.
const METADATA_ELEMENT: i32 = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();

/// Changes to a domain that is there.
impl Client {
    /// Sets the memory in KiB, by the balloon where the domain runs.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidArgument`] above the domain's maximum.
    pub async fn set_memory(&self, name: &str, kib: u64, scope: Scope) -> Result<(), Error> {
        self.on_domain("set_memory", name, &[], move |d| {
            Ok(d.set_memory_flags(kib, scope.flags()).map(drop)?)
        })
        .await
    }

    /// Sets the number of virtual CPUs.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidArgument`] above the domain's maximum.
    pub async fn set_vcpus(&self, name: &str, count: u32, scope: Scope) -> Result<(), Error> {
        self.on_domain("set_vcpus", name, &[], move |d| {
            Ok(d.set_vcpus_flags(count, scope.flags()).map(drop)?)
        })
        .await
    }

    /// Adds a device.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`], [`Code::NoSupport`] for what cannot be added.
    pub async fn attach_device(&self, name: &str, xml: &str, scope: Scope) -> Result<(), Error> {
        let device = xml.to_owned();
        self.on_domain("attach_device", name, &[xml], move |d| {
            Ok(d.attach_device_flags(&device, scope.flags()).map(drop)?)
        })
        .await
    }

    /// Takes a device away. From a running guest it is gone only once the guest lets it go: look
    /// again.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`], [`Code::NoSupport`] for what cannot be taken away.
    pub async fn detach_device(&self, name: &str, xml: &str, scope: Scope) -> Result<(), Error> {
        let device = xml.to_owned();
        self.on_domain("detach_device", name, &[xml], move |d| {
            Ok(d.detach_device_flags(&device, scope.flags()).map(drop)?)
        })
        .await
    }

    /// Changes a device.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`], [`Code::NoSupport`] for what cannot be changed.
    pub async fn update_device(&self, name: &str, xml: &str, scope: Scope) -> Result<(), Error> {
        let device = xml.to_owned();
        self.on_domain("update_device", name, &[xml], move |d| {
            Ok(d.update_device_flags(&device, scope.flags()).map(drop)?)
        })
        .await
    }

    /// Grows the disk of a running domain, given by its target (`vda`) or path, to so many bytes.
    ///
    /// # Errors
    ///
    /// [`Code::OperationInvalid`] where the domain does not run.
    pub async fn block_resize(&self, name: &str, disk: &str, bytes: u64) -> Result<(), Error> {
        let target = disk.to_owned();
        self.on_domain("block_resize", name, &[disk], move |d| {
            // Without this flag the number is in KiB.
            let in_bytes = sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES;
            Ok(d.block_resize(&target, bytes, in_bytes).map(drop)?)
        })
        .await
    }

    /// Gives the guest agent a command as JSON and returns its answer as JSON. The time limit is
    /// libvirt's to keep (it knows whole seconds), so the connection outlives a silent agent.
    ///
    /// # Errors
    ///
    /// [`Code::AgentUnresponsive`]; [`Code::NoSupport`] where the driver has no agents.
    pub async fn agent_command(
        &self,
        name: &str,
        command: &str,
        limit: Duration,
    ) -> Result<String, Error> {
        let (owned, json) = (name.to_owned(), command.to_owned());
        let seconds = i32::try_from(limit.as_secs().max(1)).unwrap_or(i32::MAX);
        let patience = self.limit().max(limit.saturating_add(AGENT_MARGIN));
        self.call_within(patience, "agent_command", name, &[command], move |conn| {
            Ok(Domain::lookup_by_name(conn, &owned)?.qemu_agent_command(&json, seconds, 0)?)
        })
        .await
    }

    /// The same for a domain that has a metadata element of the namespace `uri`, in force or stored, which
    /// `is_meant` takes; `None`: it has none, and nothing was asked. Looked at and asked is one domain, whatever
    /// takes its name meanwhile.
    ///
    /// # Errors
    ///
    /// [`Code::NoDomain`] where there is none of that name; as [`Client::agent_command`].
    pub async fn agent_command_if(
        &self,
        name: &str,
        uri: &str,
        is_meant: impl Fn(&str) -> bool + Send + 'static,
        command: &str,
        limit: Duration,
    ) -> Result<Option<String>, Error> {
        let (owned, namespace, json) = (name.to_owned(), uri.to_owned(), command.to_owned());
        let seconds = i32::try_from(limit.as_secs().max(1)).unwrap_or(i32::MAX);
        let patience = self.limit().max(limit.saturating_add(AGENT_MARGIN));
        self.call_within(patience, "agent_command", name, &[uri, command], move |conn| {
            let domain = Domain::lookup_by_name(conn, &owned)?;
            for scope in [Scope::Current, Scope::Config] {
                let element = element_of(&domain, &namespace, scope)?;
                if element.is_some_and(|element| is_meant(&element)) {
                    return Ok(Some(domain.qemu_agent_command(&json, seconds, 0)?));
                }
            }
            Ok(None)
        })
        .await
    }

    /// Sets the domain's metadata element of the namespace `uri`, to be written with `prefix`;
    /// `None` removes it.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidXml`]; [`Code::OperationInvalid`] for a live scope where it does not run.
    pub async fn set_metadata(
        &self,
        name: &str,
        prefix: &str,
        uri: &str,
        xml: Option<&str>,
        scope: Scope,
    ) -> Result<(), Error> {
        let (key, namespace, element) = (prefix.to_owned(), uri.to_owned(), xml.map(str::to_owned));
        let arguments = [prefix, uri, xml.unwrap_or_default()];
        self.on_domain("set_metadata", name, &arguments, move |d| {
            let element = element.as_deref();
            let (key, namespace) = (Some(key.as_str()), Some(namespace.as_str()));
            let done = d.set_metadata(METADATA_ELEMENT, element, key, namespace, scope.flags());
            Ok(done.map(drop)?)
        })
        .await
    }

    /// The domain's metadata element of the namespace `uri`, or `None`.
    ///
    /// # Errors
    ///
    /// [`Code::NoDomain`] where there is none of that name.
    pub async fn metadata(
        &self,
        name: &str,
        uri: &str,
        scope: Scope,
    ) -> Result<Option<String>, Error> {
        let namespace = uri.to_owned();
        self.on_domain("metadata", name, &[uri], move |d| element_of(d, &namespace, scope)).await
    }
}

/// The metadata element of a namespace.
fn element_of(domain: &Domain, namespace: &str, scope: Scope) -> Result<Option<String>, Error> {
    let found = domain.get_metadata(METADATA_ELEMENT, Some(namespace), scope.flags());
    match found.map_err(Error::from) {
        Ok(element) => Ok(Some(element)),
        Err(e) if e.code == Code::NoMetadata => Ok(None),
        Err(e) => Err(e),
    }
}
