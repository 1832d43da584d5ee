//! Domains: define, start, pause, undefine.
//!
//! A definition never touches what runs, and undefining never touches a disk.

use std::collections::BTreeMap;
use std::path::Path;

use trueup_libvirt::{DomainRecord, RunState};
use uuid::Uuid;

use super::super::xml::{canonical, domain as xml};
use super::{Act, LONG_CALL, already, done};
use crate::model::Fault;
use crate::model::resource::{Accelerator, VirtualMachine};
use crate::port::Outcome;

impl Act<'_> {
    pub(super) async fn define_vm(
        &self,
        vm: &VirtualMachine,
        uuid: Uuid,
    ) -> Result<Outcome, Fault> {
        let existing = self.domain().await?;
        let mut current = None;
        if let Some(record) = &existing {
            let config = xml::parse(&record.inactive_xml).map_err(self.bad_xml("reading"))?;
            self.check_ours(config.mark.as_ref(), record.persistent, self.adopts())?;
            self.check_uuid(config.uuid, uuid)?;
            // With its secrets, or the new definition would be without them.
            let whole = self.client().domain_xml_with_secrets(self.name()).await;
            current = Some(whole.map_err(self.failed("reading"))?);
        }
        let defaults = xml::Defaults { accelerator: self.provider.settings.accelerator() };
        let mark = self.mark(Some(vm.memory.current));
        let merged = xml::merge(current.as_deref(), vm, self.name(), uuid, &mark, defaults)
            .map_err(self.bad_xml("defining"))?;
        let seen = current.as_deref().map(|xml| canonical(xml, "domain")).transpose();
        let mut facts = BTreeMap::new();
        if let (None, Some(chosen)) = (&existing, vm.accelerator) {
            // It is chosen once: the log says what it was, and so since when.
            facts.insert(Accelerator::FACT.to_owned(), chosen.word().to_owned());
        }
        let mut changed = false;
        if seen.map_err(self.bad_xml("reading"))?.as_ref() != Some(&merged) {
            let defined = self.client().define_domain(&merged).await;
            defined.map_err(self.failed("defining"))?;
            changed = true;
        }
        if existing.is_none_or(|record| record.autostart != vm.autostart) {
            let set = self.client().set_autostart(self.name(), vm.autostart).await;
            set.map_err(self.failed("setting the autostart of"))?;
            changed = true;
        }
        let (record, seen) = self.our_domain().await?;
        if record.autostart != vm.autostart || !is_as_asked(vm, &seen) {
            return Err(self.not_taken("its definition differs"));
        }
        Ok(Outcome { already: !changed, facts, ..Outcome::default() })
    }

    pub(super) async fn start_vm(&self) -> Result<Outcome, Fault> {
        let (record, config) = self.our_domain().await?;
        match record.state {
            RunState::Running | RunState::Blocked | RunState::Unknown if record.active => {
                return Ok(already());
            }
            RunState::Paused => {
                let resumed = self.client().resume(self.name()).await;
                resumed.map_err(self.failed("resuming"))?;
            }
            RunState::Suspended => {
                // It sleeps because its own system decided so; only an event from inside wakes it.
                return Ok(already());
            }
            RunState::ShuttingDown => {
                return Err(Fault::transient(format!(
                    "{} is shutting down; it is started once it is off",
                    self.id()
                )));
            }
            RunState::ShutOff
            | RunState::Crashed
            | RunState::Running
            | RunState::Blocked
            | RunState::Unknown => {
                self.make_console_directory(config.vm.console_log.as_deref()).await?;
                // A saved memory image is read back by this too, and may be large.
                let client = self.client().with_limit(LONG_CALL);
                let started = client.start(self.name()).await;
                started.map_err(self.failed("starting"))?;
            }
        }
        let (record, _) = self.our_domain().await?;
        match record.state {
            RunState::Running | RunState::Blocked => Ok(done()),
            state => Err(self.not_taken(format!("its state is {}", word(state)))),
        }
    }

    /// libvirt makes the console's file, but not the directory it lies in.
    async fn make_console_directory(&self, log: Option<&str>) -> Result<(), Fault> {
        let Some(directory) = log.and_then(|log| Path::new(log).parent()) else {
            return Ok(());
        };
        tokio::fs::create_dir_all(directory).await.map_err(|error| {
            Fault::transient(format!(
                "starting {} failed: the directory {} of its console cannot be made: {error}",
                self.id(),
                directory.display()
            ))
        })
    }

    pub(super) async fn pause_vm(&self) -> Result<Outcome, Fault> {
        let (record, _) = self.our_domain().await?;
        if record.state == RunState::Paused {
            return Ok(already());
        }
        let paused = self.client().suspend(self.name()).await;
        paused.map_err(self.failed("pausing"))?;
        let (record, _) = self.our_domain().await?;
        if record.state != RunState::Paused {
            return Err(self.not_taken(format!("its state is {}", word(record.state))));
        }
        Ok(done())
    }

    pub(super) async fn undefine_vm(&self) -> Result<Outcome, Fault> {
        if self.domain().await?.is_none() {
            return Ok(already());
        }
        let (record, _): (DomainRecord, _) = self.our_domain().await?;
        if record.active {
            return Err(Fault::transient(format!(
                "{} runs again and is not undefined; it is looked at again",
                self.id()
            )));
        }
        let undefined = self.client().undefine_domain(self.name(), false).await;
        undefined.map_err(self.failed("undefining"))?;
        match self.domain().await? {
            None => Ok(done()),
            Some(_) => Err(self.not_taken("it is still there")),
        }
    }
}

/// Whether a definition says what was asked for. A machine type may have been asked for by version.
fn is_as_asked(vm: &VirtualMachine, seen: &xml::ParsedDomain) -> bool {
    let mut seen_vm = seen.vm.clone();
    if vm.machine.is_some() && seen.machine == vm.machine {
        seen_vm.machine.clone_from(&vm.machine);
    }
    xml::owned(vm, &seen_vm) == *vm
}

pub(super) fn word(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Blocked => "blocked",
        RunState::Paused => "paused",
        RunState::ShuttingDown => "shutting down",
        RunState::ShutOff => "off",
        RunState::Crashed => "crashed",
        RunState::Suspended => "asleep",
        RunState::Unknown => "unknown",
    }
}
