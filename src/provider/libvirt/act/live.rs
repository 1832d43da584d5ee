//! Changes to a running domain, without interrupting it.
//!
//! The configuration was changed by the definition before; here only what runs is. A device is
//! plugged in at the place its configuration has, so that it stays there over the next start.

use tokio::time::Instant;
use trueup_libvirt::{Error, Scope as Form};

use super::super::xml::domain::{self as xml, DeviceKey};
use super::super::xml::{Mark, NAMESPACE};
use super::{Act, LOOK_EVERY, already, done};
use crate::model::Fault;
use crate::model::resource::{DiskAttachment, DiskDevice, Nic};
use crate::plan::LiveChange;
use crate::port::Outcome;

/// How long a guest may take to let a device or a processor go. The guest's system answers within a
/// second or so, an emulated one within several.
const RELEASE_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// A running domain as it is now.
struct Running {
    xml: String,
    live: xml::ParsedDomain,
}

impl Act<'_> {
    pub(super) async fn update_live(&self, changes: &[LiveChange]) -> Result<Outcome, Fault> {
        let mut changed = false;
        for change in changes {
            let (record, _) = self.our_domain().await?;
            if let LiveChange::Autostart(autostart) = change {
                changed |= self.autostart(record.autostart, *autostart).await?;
                continue;
            }
            let Some(running) = self.running().await? else {
                // It starts with its new configuration.
                continue;
            };
            changed |= match change {
                LiveChange::Memory(kib) => self.balloon(&running, *kib).await?,
                LiveChange::Vcpus(count) => self.vcpus(&running, *count).await?,
                LiveChange::AttachDisk(disk) => self.attach_disk(&running, disk).await?,
                LiveChange::DetachDisk(target) => {
                    self.detach(&running, DeviceKey::Disk(target)).await?
                }
                LiveChange::AttachNic(nic) => self.attach_nic(&running, nic).await?,
                LiveChange::DetachNic(mac) => self.detach(&running, DeviceKey::Nic(mac)).await?,
                LiveChange::ReplugNic(nic) => self.replug(&running, nic).await?,
                LiveChange::Autostart(_) => false,
            };
        }
        Ok(if changed { done() } else { already() })
    }

    async fn running(&self) -> Result<Option<Running>, Fault> {
        let (record, _) = self.our_domain().await?;
        let Some(xml) = record.live_xml else {
            return Ok(None);
        };
        let live = xml::parse(&xml).map_err(self.bad_xml("reading"))?;
        Ok(Some(Running { xml, live }))
    }

    async fn autostart(&self, is: bool, want: bool) -> Result<bool, Fault> {
        if is == want {
            return Ok(false);
        }
        let set = self.client().set_autostart(self.name(), want).await;
        set.map_err(self.failed("setting the autostart of"))?;
        Ok(true)
    }

    /// Tells the balloon its target, and notes it in the running domain's mark: libvirt shows only
    /// what the guest has reached.
    async fn balloon(&self, running: &Running, kib: u64) -> Result<bool, Fault> {
        let told = running.live.mark.as_ref().and_then(|mark| mark.memory);
        if told == Some(kib) {
            return Ok(false);
        }
        let set = self.client().set_memory(self.name(), kib, Form::Live).await;
        set.map_err(self.failed("changing the memory of"))?;
        let mark = Mark {
            memory: Some(kib),
            ..running.live.mark.clone().unwrap_or_else(|| self.mark(None))
        };
        let element = mark.metadata().map_err(self.bad_xml("marking"))?;
        let noted = self.client().set_metadata(
            self.name(),
            Mark::prefix(),
            NAMESPACE,
            Some(&element),
            Form::Live,
        );
        noted.await.map_err(self.failed("marking"))?;
        Ok(true)
    }

    async fn vcpus(&self, running: &Running, count: u32) -> Result<bool, Fault> {
        if running.live.vm.cpus.count == count {
            return Ok(false);
        }
        let set = self.client().set_vcpus(self.name(), count, Form::Live).await;
        set.map_err(self.failed("changing the processors of"))?;
        self.until("the number of its processors differs", |live| live.vm.cpus.count == count)
            .await?;
        Ok(true)
    }

    async fn attach_disk(&self, running: &Running, disk: &DiskAttachment) -> Result<bool, Fault> {
        let there = running.live.vm.disks.iter().find(|d| d.target == disk.target);
        match there {
            Some(there) if there.path == disk.path => return Ok(false),
            Some(there) if there.device == DiskDevice::Cdrom => {
                self.change_medium(&disk.target).await?;
            }
            Some(there) => {
                return Err(Fault::permanent(format!(
                    "{} of {} is {}; another file takes another target, or a restart",
                    disk.target,
                    self.id(),
                    there.path.as_deref().unwrap_or("empty")
                )));
            }
            None => self.attach(DeviceKey::Disk(&disk.target)).await?,
        }
        self.until(&format!("it has no disk {}", disk.target), |live| {
            let mut disks = live.vm.disks.iter();
            disks.any(|seen| seen.target == disk.target && seen.path == disk.path)
        })
        .await?;
        Ok(true)
    }

    async fn change_medium(&self, target: &str) -> Result<(), Fault> {
        let device = self.configured(DeviceKey::Disk(target), true).await?;
        let changed = self.client().update_device(self.name(), &device, Form::Live);
        changed.await.map_err(self.failed("changing the medium of"))
    }

    async fn attach_nic(&self, running: &Running, nic: &Nic) -> Result<bool, Fault> {
        if running.live.vm.nics.iter().any(|seen| seen.mac == nic.mac) {
            return self.replug(running, nic).await;
        }
        self.attach(DeviceKey::Nic(&nic.mac)).await?;
        self.until(&format!("it has no interface {}", nic.mac), |live| {
            live.vm.nics.iter().any(|seen| seen.mac == nic.mac)
        })
        .await?;
        Ok(true)
    }

    /// The device as the configuration has it.
    async fn configured(&self, key: DeviceKey<'_>, place: bool) -> Result<String, Fault> {
        let (record, _) = self.our_domain().await?;
        let device = xml::device_xml(&record.inactive_xml, key, place);
        device.map_err(self.bad_xml("reading"))?.ok_or_else(|| {
            Fault::transient(format!(
                "the configuration of {} has no such device ({key:?}); it is planned anew",
                self.id()
            ))
        })
    }

    async fn attach(&self, key: DeviceKey<'_>) -> Result<(), Fault> {
        let device = self.configured(key, true).await?;
        let placed = self.client().attach_device(self.name(), &device, Form::Live).await;
        let Err(first) = placed else { return Ok(()) };
        if first.is_transient() {
            return Err(self.failed("plugging a device into")(first));
        }
        // The place may be taken, or on a controller that what runs does not have.
        let device = self.configured(key, false).await?;
        let placed = self.client().attach_device(self.name(), &device, Form::Live).await;
        placed.map_err(|second: Error| {
            let mut error = first;
            error.message = format!("{}; at another place: {}", error.message, second.message);
            self.failed("plugging a device into")(error)
        })
    }

    async fn detach(&self, running: &Running, key: DeviceKey<'_>) -> Result<bool, Fault> {
        let device = xml::device_xml(&running.xml, key, true);
        let Some(device) = device.map_err(self.bad_xml("reading"))? else {
            return Ok(false);
        };
        let taken = self.client().detach_device(self.name(), &device, Form::Live).await;
        taken.map_err(self.failed("unplugging a device from"))?;
        self.until("the guest has not let the device go yet", |live| match key {
            DeviceKey::Disk(target) => live.vm.disks.iter().all(|disk| disk.target != target),
            DeviceKey::Nic(mac) => live.vm.nics.iter().all(|nic| nic.mac != mac),
        })
        .await?;
        Ok(true)
    }

    async fn replug(&self, running: &Running, nic: &Nic) -> Result<bool, Fault> {
        let there = running.live.vm.nics.iter().find(|seen| seen.mac == nic.mac);
        if there.is_some_and(|there| there.source == nic.source) {
            return Ok(false);
        }
        let device = xml::replugged_xml(&running.xml, nic).map_err(self.bad_xml("replugging"))?;
        let Some(device) = device else {
            return self.not_there(nic);
        };
        let updated = self.client().update_device(self.name(), &device, Form::Live);
        updated.await.map_err(self.failed("replugging an interface of"))?;
        self.until(&format!("interface {} is not replugged", nic.mac), |live| {
            let mut nics = live.vm.nics.iter();
            nics.any(|seen| seen.mac == nic.mac && seen.source == nic.source)
        })
        .await?;
        Ok(true)
    }

    fn not_there(&self, nic: &Nic) -> Result<bool, Fault> {
        Err(Fault::transient(format!(
            "{} has no interface {} any more; it is looked at again",
            self.id(),
            nic.mac
        )))
    }

    /// Waits until what runs is as `done` says, which depends on the guest.
    async fn until(
        &self,
        otherwise: &str,
        done: impl Fn(&xml::ParsedDomain) -> bool,
    ) -> Result<(), Fault> {
        let deadline = Instant::now() + RELEASE_LIMIT;
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            match self.running().await? {
                None => return Ok(()),
                Some(running) if done(&running.live) => return Ok(()),
                Some(_) if Instant::now() >= deadline => return Err(self.not_taken(otherwise)),
                Some(_) => {}
            }
        }
    }
}
