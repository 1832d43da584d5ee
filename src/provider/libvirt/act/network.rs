//! Networks: define, update, start and stop, undefine.
//!
//! Only interfaces of domains that are ours are plugged back in; a foreign guest's are reported.

use std::collections::BTreeMap;

use trueup_libvirt::{NetworkSection, Scope as Form, UpdateCommand};
use uuid::Uuid;

use super::super::observe::broken_links;
use super::super::xml::network::{self as xml, LiveEdit};
use super::super::xml::{Mark, canonical, domain};
use super::{Act, already, done, found, other};
use crate::model::resource::Network;
use crate::model::{Fault, Kind, Name, Ownership, ResourceId};
use crate::port::Outcome;

impl Act<'_> {
    pub(super) async fn define_network(
        &self,
        network: &Network,
        uuid: Uuid,
    ) -> Result<Outcome, Fault> {
        let existing = self.network().await?;
        let mut current = None;
        if let Some(record) = &existing {
            let config = xml::parse(&record.inactive_xml).map_err(self.bad_xml("reading"))?;
            self.check_ours(config.mark.as_ref(), record.persistent, self.adopts())?;
            self.check_uuid(config.uuid, uuid)?;
            current = Some(record.inactive_xml.as_str());
        }
        let merged = xml::merge(current, network, self.name(), uuid, &self.mark(None))
            .map_err(self.bad_xml("defining"))?;
        let seen = current.map(|xml| canonical(xml, "network")).transpose();
        let mut changed = false;
        if seen.map_err(self.bad_xml("reading"))?.as_ref() != Some(&merged) {
            // libvirt 9.0 gives two networks that are defined at once the same bridge, and the second
            // can then never be started.
            let alone = self.provider.defining.lock().await;
            let defined = self.client().define_network(&merged).await;
            drop(alone);
            defined.map_err(self.failed("defining"))?;
            changed = true;
        }
        if existing.is_none_or(|record| record.autostart != network.autostart) {
            let set = self.client().set_network_autostart(self.name(), network.autostart);
            set.await.map_err(self.failed("setting the autostart of"))?;
            changed = true;
        }
        let record = self.our_network().await?;
        let mut seen = xml::parse(&record.inactive_xml).map_err(self.bad_xml("reading"))?;
        seen.network.autostart = record.autostart;
        if xml::owned(network, &seen.network) != *network {
            return Err(self.not_taken("its definition differs"));
        }
        Ok(if changed { done() } else { already() })
    }

    pub(super) async fn update_network(&self, network: &Network) -> Result<Outcome, Fault> {
        let record = self.our_network().await?;
        let forms = [
            (record.live_xml.as_deref(), Form::Live),
            (Some(record.inactive_xml.as_str()), Form::Config),
        ];
        let mut changed = false;
        for (current, form) in forms {
            let Some(current) = current else { continue };
            let edits = xml::live_edits(current, network).map_err(self.bad_xml("updating"))?;
            for edit in edits {
                self.edit_network(&edit, form).await?;
                changed = true;
            }
        }
        let record = self.our_network().await?;
        let runs = record.live_xml.as_deref().unwrap_or(&record.inactive_xml);
        let left = xml::live_edits(runs, network).map_err(self.bad_xml("reading"))?;
        if !left.is_empty() {
            return Err(self.not_taken(format!("{} of its entries differ", left.len())));
        }
        Ok(if changed { done() } else { already() })
    }

    async fn edit_network(&self, edit: &LiveEdit, form: Form) -> Result<(), Fault> {
        let (command, section, parent, xml) = match edit {
            LiveEdit::RemoveHost { parent, xml } => {
                (UpdateCommand::Delete, NetworkSection::IpDhcpHost, *parent, xml)
            }
            LiveEdit::AddHost { parent, xml } => {
                (UpdateCommand::AddLast, NetworkSection::IpDhcpHost, *parent, xml)
            }
            LiveEdit::RemoveRecord { xml } => {
                (UpdateCommand::Delete, NetworkSection::DnsHost, -1, xml)
            }
            LiveEdit::AddRecord { xml } => {
                (UpdateCommand::AddLast, NetworkSection::DnsHost, -1, xml)
            }
        };
        let client = self.client();
        let update = client.update_network(self.name(), command, section, parent, xml, form);
        update.await.map_err(self.failed("updating"))
    }

    pub(super) async fn start_network(&self, reconnect: &[Name]) -> Result<Outcome, Fault> {
        let record = self.our_network().await?;
        let mut outcome = already();
        if !record.active {
            let started = self.client().start_network(self.name()).await;
            started.map_err(self.failed("starting"))?;
            outcome = done();
        }
        let record = self.our_network().await?;
        let Some(live) = &record.live_xml else {
            return Err(self.not_taken("it does not run"));
        };
        let live = xml::parse(live).map_err(self.bad_xml("reading"))?;
        let Some(bridge) = live.network.bridge else {
            return Ok(outcome);
        };
        for vm in reconnect {
            let plugged = self.reconnect(vm, &bridge).await?;
            if plugged > 0 {
                outcome.already = false;
                let fact = format!("reconnected.{vm}");
                outcome.facts.insert(fact, plugged.to_string());
            }
        }
        Ok(outcome)
    }

    /// Plugs a running domain of ours back into this network; gives the number of interfaces.
    async fn reconnect(&self, vm: &Name, bridge: &str) -> Result<usize, Fault> {
        let doing = format!("plugging {} back into", other(Kind::VirtualMachine, vm.as_str()));
        let record = found(self.client().domain(vm.as_str()).await);
        let Some(record) = record.map_err(self.failed(&doing))? else {
            return Ok(0);
        };
        let Some(xml) = &record.live_xml else {
            return Ok(0);
        };
        let live = domain::parse(xml).map_err(self.bad_xml(&doing))?;
        let id = ResourceId::new(Kind::VirtualMachine, vm.clone());
        let environment = &self.scope.desired.environment;
        let ownership = Mark::ownership(live.mark.as_ref(), &id, environment);
        if !matches!(ownership, Ownership::Ours { .. }) {
            return Ok(0);
        }
        let bridges = BTreeMap::from([(self.name().to_owned(), bridge.to_owned())]);
        let broken = broken_links(self.provider, &live, &bridges);
        for mac in &broken {
            let detour = domain::detour_xml(xml, mac, bridge).map_err(self.bad_xml(&doing))?;
            for device in detour.into_iter().flatten() {
                let updated = self.client().update_device(vm.as_str(), &device, Form::Live);
                updated.await.map_err(self.failed(&doing))?;
            }
        }
        let left = broken_links(self.provider, &live, &bridges);
        if !left.is_empty() {
            return Err(
                self.not_taken(format!("interface {} of {id} has no link to it", left.join(", ")))
            );
        }
        Ok(broken.len())
    }

    pub(super) async fn stop_network(&self) -> Result<Outcome, Fault> {
        match self.network().await? {
            None => return Ok(already()),
            Some(record) if !record.active => return Ok(already()),
            Some(_) => self.our_network().await?,
        };
        let stopped = self.client().destroy_network(self.name()).await;
        stopped.map_err(self.failed("stopping"))?;
        match self.network().await? {
            Some(record) if record.active => Err(self.not_taken("it still runs")),
            _ => Ok(done()),
        }
    }

    pub(super) async fn undefine_network(&self) -> Result<Outcome, Fault> {
        if self.network().await?.is_none() {
            return Ok(already());
        }
        let record = self.our_network().await?;
        if record.active {
            return Err(Fault::transient(format!(
                "{} runs again and is not undefined; it is looked at again",
                self.id()
            )));
        }
        let undefined = self.client().undefine_network(self.name()).await;
        undefined.map_err(self.failed("undefining"))?;
        match self.network().await? {
            None => Ok(done()),
            Some(_) => Err(self.not_taken("it is still there")),
        }
    }
}
