//! Calls about the snapshots of domains.

use virt::domain::Domain;
use virt::domain_snapshot::DomainSnapshot;
use virt_sys as sys;

use crate::client::Client;
use crate::error::Error;

/// Where a snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotKind {
    /// As the XML and the domain's state say: inside qcow2 disks, with memory of a running domain.
    AsDescribed,
    /// New overlay files for the disks, no memory; all disks or none.
    DiskOnly,
    /// The same, with the guest's file systems frozen by its agent for the moment.
    DiskOnlyQuiesced,
}

impl SnapshotKind {
    fn flags(self) -> u32 {
        let disks =
            sys::VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | sys::VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC;
        match self {
            SnapshotKind::AsDescribed => 0,
            SnapshotKind::DiskOnly => disks,
            SnapshotKind::DiskOnlyQuiesced => disks | sys::VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE,
        }
    }
}

impl Client {
    /// Takes a snapshot described by `<domainsnapshot>` and returns its name. Saving memory takes
    /// long: see [`Client::with_limit`].
    ///
    /// # Errors
    ///
    /// [`crate::Code::NoSupport`] for a kind that the driver or the disks cannot keep.
    pub async fn create_snapshot(
        &self,
        domain: &str,
        xml: &str,
        kind: SnapshotKind,
    ) -> Result<String, Error> {
        let (owned, described) = (domain.to_owned(), xml.to_owned());
        self.call("create_snapshot", domain, &[xml], move |conn| {
            let domain = Domain::lookup_by_name(conn, &owned)?;
            Ok(DomainSnapshot::create_xml(&domain, &described, kind.flags())?.get_name()?)
        })
        .await
    }

    /// The names of a domain's snapshots.
    ///
    /// # Errors
    ///
    /// [`crate::Code::NoDomain`] where there is none of that name.
    pub async fn snapshots(&self, domain: &str) -> Result<Vec<String>, Error> {
        let owned = domain.to_owned();
        self.call("snapshots", domain, &[], move |conn| {
            let snapshots = Domain::lookup_by_name(conn, &owned)?.list_all_snapshots(0)?;
            snapshots.iter().map(|s| Ok(s.get_name()?)).collect()
        })
        .await
    }

    /// Deletes one snapshot; those made after it are kept.
    ///
    /// # Errors
    ///
    /// [`crate::Code::NoSnapshot`] where there is none of that name.
    pub async fn delete_snapshot(&self, domain: &str, name: &str) -> Result<(), Error> {
        self.on_snapshot("delete_snapshot", domain, name, |s| s.delete(0)).await
    }

    /// Takes the domain back to a snapshot; what happened since is lost.
    ///
    /// # Errors
    ///
    /// [`crate::Code::NoSupport`] for an external snapshot on libvirt before 9.9.
    pub async fn revert_snapshot(&self, domain: &str, name: &str) -> Result<(), Error> {
        self.on_snapshot("revert_snapshot", domain, name, |s| s.revert(0)).await
    }

    async fn on_snapshot(
        &self,
        call: &'static str,
        domain: &str,
        name: &str,
        act: impl FnOnce(&DomainSnapshot) -> Result<(), virt::error::Error> + Send + 'static,
    ) -> Result<(), Error> {
        let (owned, snapshot) = (domain.to_owned(), name.to_owned());
        self.call(call, domain, &[name], move |conn| {
            let domain = Domain::lookup_by_name(conn, &owned)?;
            Ok(act(&DomainSnapshot::lookup_by_name(&domain, &snapshot, 0)?)?)
        })
        .await
    }
}
