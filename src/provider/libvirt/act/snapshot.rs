//! Snapshots before disruptive changes: inside the disks, so that nothing has to be merged back.
//!
//! libvirt 9.0 can neither keep one of these beside raw disks or UEFI variables nor take a domain
//! back to the other kind (outside the disks), so such domains get none, and are told why.

use trueup_libvirt::SnapshotKind;

use super::super::saving::LibvirtGuests;
use super::super::xml::domain as xml;
use super::super::xml::domain::snapshot_xml;
use super::{Act, LONG_CALL, done};
use crate::model::Fault;
use crate::model::resource::{Firmware, VirtualMachine, VolumeFormat};
use crate::plan::Action;
use crate::port::Outcome;

impl Act<'_> {
    pub(super) async fn snapshot(&self, name: &str) -> Result<Outcome, Fault> {
        let (record, config) = self.our_domain().await?;
        let vm = match &record.live_xml {
            Some(live) => xml::parse(live).map_err(self.bad_xml("reading"))?.vm,
            None => config.vm,
        };
        if let Some(why) = why_not(&vm) {
            return Err(Fault::permanent(format!(
                "no snapshot of {} can be taken: {why}; set its snapshot policy to `never`",
                self.id()
            )));
        }
        let names = self.client().snapshots(self.name()).await;
        let names = names.map_err(self.failed("listing the snapshots of"))?;
        // QEMU takes no disk back that notes its changes, and the way back is what this is for.
        LibvirtGuests::forget_marks_in(self.client(), &record).await?;
        let client = self.client().with_limit(LONG_CALL);
        if names.iter().any(|there| there == name) {
            let deleted = client.delete_snapshot(self.name(), name).await;
            deleted.map_err(self.failed("deleting the old snapshot of"))?;
        }
        let described =
            snapshot_xml(name, &vm).map_err(self.bad_xml("describing a snapshot of"))?;
        let taken =
            client.create_snapshot(self.name(), &described, SnapshotKind::AsDescribed).await;
        taken.map_err(self.failed("taking a snapshot of"))?;
        let mut outcome = done();
        outcome.facts.insert(Action::VM_SNAPSHOT_FACT.to_owned(), name.to_owned());
        Ok(outcome)
    }

    /// Removes one of ours from the disks; what is in it is merged nowhere, because it is inside.
    pub(super) async fn forget_snapshot(&self, name: &str) -> Result<Outcome, Fault> {
        self.our_domain().await?;
        let names = self.client().snapshots(self.name()).await;
        let names = names.map_err(self.failed("listing the snapshots of"))?;
        let there = names.iter().any(|there| there == name);
        if there {
            let client = self.client().with_limit(LONG_CALL);
            let deleted = client.delete_snapshot(self.name(), name).await;
            deleted.map_err(self.failed("deleting a snapshot of"))?;
        }
        let mut outcome = done();
        outcome.already = !there;
        outcome.facts.insert(Action::VM_SNAPSHOT_FACT.to_owned(), name.to_owned());
        Ok(outcome)
    }
}

/// Why the domain's disks cannot keep a snapshot.
fn why_not(vm: &VirtualMachine) -> Option<String> {
    if vm.firmware == Firmware::Efi {
        return Some("its UEFI variables cannot keep one".to_owned());
    }
    if !vm.host_devices.is_empty() {
        return Some("the state of its host devices cannot be kept".to_owned());
    }
    let mut written = vm.disks.iter().filter(|disk| !disk.read_only).peekable();
    if written.peek().is_none() {
        return Some("it has no disk that could keep one".to_owned());
    }
    let raw = written.find(|disk| disk.format != VolumeFormat::Qcow2)?;
    Some(format!("its disk {} is not qcow2", raw.target))
}
