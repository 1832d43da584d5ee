//! Boots what a drill brought back of a guest, as a machine of its own: a domain that nothing is stored
//! of, on a network that nobody else is on, or on none.
//!
//! The guest itself, its disks and its network are never touched. What is made is known by a mark in
//! libvirt and by nothing else, and libvirt ends the domain with our connection, however that ends.

mod command;
mod place;
mod restored;
mod wait;

use std::time::Duration;

use trueup_libvirt::{Code, DomainRecord, Error};
use uuid::Uuid;

use self::place::User;
use self::restored::Restored;
use self::wait::Waiting;
use super::saving::LibvirtGuests;
use super::xml::drill as xml;
use super::{act, fault, host};
use crate::model::backup::BackupBooted;
use crate::model::resource::{BackupBoot, BootNetwork, Probe};
use crate::model::{Digest, Fault, Name};
use crate::port::{BootWish, Booted, Progress};
use crate::provider::files::blocking;

/// What copies and their networks are called, before the backup's name.
const PREFIX: &str = "trueup-drill-";
/// What bridges are called, before digits of the backup's name: a device's name has 15 bytes.
const BRIDGE: &str = "tudr-";
/// Memory that a copy leaves to everybody else on the host, KiB.
const MEMORY_LEFT_KIB: u64 = 256 << 10;
/// How long libvirt may take to start a domain: QEMU is given its memory meanwhile.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The name of a backup's copy, and of its network.
fn name_of(backup: &Name) -> String {
    format!("{PREFIX}{backup}")
}

/// The device of a network's bridge, which differs for whoever drills a backup of the same name.
fn bridge_of(mark: &xml::DrillMark) -> String {
    let digest = Digest::of(format!("{}\n{}", mark.backup, mark.of));
    format!("{BRIDGE}{}", digest.short().get(..10).unwrap_or_default())
}

impl LibvirtGuests {
    fn drill_mark(&self, backup: &Name) -> xml::DrillMark {
        xml::DrillMark { backup: backup.clone(), of: self.place() }
    }

    /// That libvirt answers and QEMU reaches the folder, before much is restored for nothing.
    pub(super) async fn may_boot_now(&self, wish: &BootWish<'_>) -> Result<(), Fault> {
        let user = self.qemu_user(wish.backup).await?;
        let (folder, backup) = (wish.folder.to_owned(), wish.backup.clone());
        let barred = blocking("look who may look into a folder", move || {
            user.map_or(Ok(None), |user| user.barred(&folder))
                .map_err(|error| Fault::transient(format!("backup/{backup}: {error}")))
        });
        match barred.await? {
            None => Ok(()),
            Some(folder) => Err(Fault::needs_human(
                format!(
                    "backup/{} cannot be booted by a drill: QEMU is not let through {}",
                    wish.backup,
                    folder.display()
                ),
                "`chmod o+x` that folder, or name another one as `backup.scratch` in the host's \
                 config, such as one below /var/lib/libvirt/images",
            )),
        }
    }

    /// Whom QEMU runs as; `None`: libvirt does not say, so that it is whom libvirt runs as.
    async fn qemu_user(&self, backup: &Name) -> Result<Option<User>, Fault> {
        let doing = || format!("finding out whom a copy of backup/{backup} would run as");
        let host = self.client.host().await.map_err(|error| fault::step(doing(), &error))?;
        let user = xml::qemu_user(&host.capabilities_xml);
        let user = user.map_err(|error| fault::xml(doing(), &error))?;
        Ok(user.map(|(uid, gid)| User { uid, gid }))
    }

    pub(super) async fn boot_now(
        &self,
        wish: &BootWish<'_>,
        progress: &Progress,
    ) -> Result<Booted, Fault> {
        let backup = wish.backup;
        self.end_boot_now(backup).await?;
        let user = self.qemu_user(backup).await?;
        let restored = match Restored::look(wish).await? {
            Ok(restored) => restored,
            Err(why) => return Ok(Booted::Down { why, console: Vec::new() }),
        };
        restored.hand_over(wish, user).await?;
        let name = name_of(backup);
        let mark = self.drill_mark(backup);
        let uuid = Uuid::now_v7();
        let isolated = wish.boot.network == BootNetwork::Isolated;
        let copy = xml::Copy {
            name: &name,
            uuid,
            mark: &mark,
            of: &restored.vm,
            machine: restored.machine.as_deref(),
            accelerator: self.accelerator,
            boot: &wish.spec.boot,
            disks: &restored.disks,
            folder: wish.folder,
            memory_kib: wish.boot.memory_kib,
            network: isolated.then_some(name.as_str()),
            agent: speaks_with_agent(wish.boot),
        };
        let memory = wish.boot.memory_kib.unwrap_or(restored.vm.memory.current);
        has_room(backup, memory, host::available_kib())?;
        let doing = |what: &str| format!("{what} of a drill of backup/{backup}");
        if isolated {
            let network = xml::network(&name, Uuid::now_v7(), &bridge_of(&mark), &mark);
            let network = network.map_err(|error| fault::xml(doing("the network"), &error))?;
            let created = self.client.create_network(&network).await;
            created.map_err(|error| fault::step(doing("making the network"), &error))?;
        }
        let domain = xml::domain(&copy);
        let domain = domain.map_err(|error| fault::xml(doing("the machine"), &error))?;
        // Before it starts, or its end could be missed.
        let events = self.client.events();
        let console = wish.folder.join(xml::CONSOLE);
        let mut waiting =
            Waiting::new(self.client.clone(), &name, uuid, &console, events, progress);
        let created = self.client.with_limit(START_LIMIT).create_domain(&domain).await;
        created.map_err(|error| fault::step(doing("starting the machine"), &error))?;
        let begun = waiting.begin();
        let up = match waiting.until_ready(&wish.boot.ready, wish.boot.timeout_s).await? {
            Ok(took) => took,
            Err(why) => return Ok(waiting.down(restored.told(why)).await),
        };
        if let Err(why) = waiting.commands(wish.boot, begun).await? {
            return Ok(waiting.down(restored.told(why)).await);
        }
        let up = BackupBooted {
            elapsed_ms: u64::try_from(up.as_millis()).unwrap_or(u64::MAX),
            ready: act::words(&wish.boot.ready),
            commands: wish.boot.commands.len() as u64,
        };
        Ok(Booted::Up { up, notices: restored.without.into_iter().collect() })
    }

    /// Ends the copy of `backup` and removes its network, if they bear our mark.
    pub(super) async fn end_boot_now(&self, backup: &Name) -> Result<bool, Fault> {
        let name = name_of(backup);
        let mark = self.drill_mark(backup);
        let domain = self.end_domain(backup, &name, &mark).await?;
        let network = self.remove_network(backup, &name, &mark).await?;
        Ok(domain || network)
    }

    async fn end_domain(
        &self,
        backup: &Name,
        name: &str,
        mark: &xml::DrillMark,
    ) -> Result<bool, Fault> {
        let doing = |what: &str| format!("{what} of a drill of backup/{backup}");
        let Some(record) = self.copy_of(backup, name).await? else { return Ok(false) };
        let text = record.live_xml.as_ref().unwrap_or(&record.inactive_xml);
        let found = xml::DrillMark::of_domain(text);
        let found = found.map_err(|error| fault::xml(doing("reading the machine"), &error))?;
        if found.as_ref() != Some(mark) {
            return Ok(false);
        }
        match self.client.destroy(name, false).await {
            Ok(()) => {}
            // It ended by itself.
            Err(error) if error.is_absent() || error.code == Code::OperationInvalid => {}
            Err(error) => return Err(fault::step(doing("ending the machine"), &error)),
        }
        match self.copy_of(backup, name).await? {
            Some(left) if left.uuid == record.uuid && left.active => {
                Err(Fault::transient(format!(
                    "{name}, the machine of a drill of backup/{backup}, does not end; it is ended again \
                 later (`virsh destroy {name}`)"
                )))
            }
            _ => Ok(true),
        }
    }

    async fn copy_of(&self, backup: &Name, name: &str) -> Result<Option<DomainRecord>, Fault> {
        let found = absent(self.client.domain(name).await);
        found.map_err(|error| {
            fault::step(format!("looking for the machine of a drill of backup/{backup}"), &error)
        })
    }

    async fn remove_network(
        &self,
        backup: &Name,
        name: &str,
        mark: &xml::DrillMark,
    ) -> Result<bool, Fault> {
        let doing = |what: &str| format!("{what} the network of a drill of backup/{backup}");
        let found = absent(self.client.network(name).await);
        let found = found.map_err(|error| fault::step(doing("looking for"), &error))?;
        let Some(record) = found else { return Ok(false) };
        let text = record.live_xml.as_ref().unwrap_or(&record.inactive_xml);
        let found = xml::DrillMark::of_network(text);
        let found = found.map_err(|error| fault::xml(doing("reading"), &error))?;
        if found.as_ref() != Some(mark) {
            return Ok(false);
        }
        match self.client.destroy_network(name).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_absent() => Ok(true),
            Err(error) => Err(fault::step(doing("removing"), &error)),
        }
    }
}

/// A thing that is there, or none.
fn absent<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(thing) => Ok(Some(thing)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

fn speaks_with_agent(boot: &BackupBoot) -> bool {
    boot.ready == Probe::GuestAgent || !boot.commands.is_empty()
}

/// Refuses to take memory that the guests of this host may want.
fn has_room(backup: &Name, wanted: u64, available: Option<u64>) -> Result<(), Fault> {
    match available {
        Some(available) if wanted.saturating_add(MEMORY_LEFT_KIB) > available => {
            Err(Fault::transient(format!(
                "backup/{backup}: a drill would boot a machine with {} MiB, and {} MiB of the host's \
                 memory are available, of which {} MiB stay with the others: make room, or give it \
                 less with `drill.boot.memory`",
                wanted >> 10,
                available >> 10,
                MEMORY_LEFT_KIB >> 10
            )))
        }
        // A kernel that does not say tells nothing against it.
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_has_a_name_that_a_device_may_have_and_is_of_one_backup_of_one_host() {
        let mark = |backup: &str, of: &str| xml::DrillMark {
            backup: Name::new(backup).unwrap(),
            of: of.into(),
        };
        let bridge = bridge_of(&mark("web", "/var/lib/trueup/backup/guests"));
        assert_eq!(bridge.len(), 15);
        assert_ne!(bridge, bridge_of(&mark("db", "/var/lib/trueup/backup/guests")));
        assert_ne!(bridge, bridge_of(&mark("web", "/srv/trueup/backup/guests")));
    }

    #[test]
    fn a_copy_leaves_memory_to_the_guests() {
        let web = Name::new("web").unwrap();
        let mib = |count: u64| count << 10;
        assert!(has_room(&web, mib(512), Some(mib(768))).is_ok());
        assert!(has_room(&web, mib(512), None).is_ok());
        let fault = has_room(&web, mib(513), Some(mib(768))).unwrap_err();
        assert!(fault.is_transient() && fault.to_string().contains("513 MiB"), "{fault}");
        assert!(has_room(&web, u64::MAX, Some(mib(768))).is_err());
    }
}
