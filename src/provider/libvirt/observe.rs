//! Looks at every pool, network, disk and domain, ours or not.
//!
//! What cannot be read is said to be unreadable, never left out: absence is a fact that things are
//! created and removed on. An object whose name is no resource name is shown under a made-up one: no
//! resource can be meant by it, but it may use one, or stand in its way.

mod memory;
mod storage;

use std::collections::{BTreeMap, BTreeSet};

use trueup_libvirt::{Code, DomainRecord, Error, Listing, NetworkRecord, RunState};

use self::memory::Look;
pub(super) use self::memory::Memory;
use super::xml::domain::{self, ParsedDomain};
use super::xml::network::ParsedNetwork;
use super::xml::{Mark, drill};
use super::{LibvirtProvider, fault, host};
use crate::model::resource::{NetworkMode, NicSource, Power, VirtualMachine};
use crate::model::{
    Digest, Fault, Kind, Name, Observation, Observed, Ownership, Resource, ResourceId,
};
use crate::port::Scope;

pub(super) async fn observe(provider: &LibvirtProvider, scope: &Scope) -> Result<Observed, Fault> {
    let client = &provider.client;
    let (pools, networks, domains) =
        tokio::join!(client.pools(), client.networks(), client.domains());
    let mut seen = Observed::default();
    let pools = listed(&mut seen, &[Kind::StoragePool, Kind::Disk], pools)?;
    let networks = listed(&mut seen, &[Kind::Network], networks)?;
    let domains = listed(&mut seen, &[Kind::VirtualMachine], domains)?;
    let mut look = provider.memory.look();
    let (bridges, own) = look_at_networks(scope, &mut look, &mut seen, &networks);
    look_at_domains(provider, scope, &mut look, &mut seen, &domains, &bridges);
    // What is seen takes less than the XML it was read from, which may be much.
    drop((networks, domains));
    storage::look_at_pools(client, scope, &mut look, &mut seen, &pools).await?;
    look.keep();
    seen.host.memory_kib = host::memory_kib();
    seen.host.cpus = host::cpus();
    seen.host.accelerator = Some(provider.settings.accelerator());
    seen.host.addresses = host::addresses(&own).map_err(|error| {
        Fault::unobservable(format!("the host's addresses cannot be read: {error}"))
    })?;
    Ok(seen)
}

/// What was listed. A kind that this libvirt cannot list is unobservable; a libvirt that does not
/// answer makes everything so.
fn listed<T>(
    seen: &mut Observed,
    kinds: &[Kind],
    listing: Result<Listing<T>, Error>,
) -> Result<Vec<T>, Fault> {
    match listing {
        Ok(listing) => {
            for (name, error) in listing.failed {
                unreadable(seen, kinds[0], &name, &error.message);
            }
            Ok(listing.items)
        }
        Err(error) if error.code == Code::NoSupport => {
            for kind in kinds {
                seen.unobservable.insert(*kind, error.message.clone());
            }
            Ok(Vec::new())
        }
        Err(error) => Err(fault::observation(&error)),
    }
}

/// The id of a libvirt object. A name that is none gets what is left of it and a digest.
fn id(kind: Kind, text: &str) -> ResourceId {
    /// Characters kept of the name, so that they and the digest fit into one.
    const KEPT_MAX: usize = 40;
    let name = Name::new(text).or_else(|_| {
        let kept: String = text
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(KEPT_MAX)
            .collect();
        Name::new(format!("x{kept}-{}", Digest::of(text).short()))
    });
    match name {
        Ok(name) => ResourceId::new(kind, name),
        Err(_) => unreachable!("made of letters, digits and dashes, and starts and ends with one"),
    }
}

fn unreadable(seen: &mut Observed, kind: Kind, name: &str, why: impl ToString) {
    seen.unreadable.insert(id(kind, name), why.to_string());
}

/// Files the networks; gives the bridge of each, and the bridges that libvirt made itself.
fn look_at_networks(
    scope: &Scope,
    look: &mut Look<'_>,
    seen: &mut Observed,
    records: &[NetworkRecord],
) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let mut bridges = BTreeMap::new();
    let mut own = BTreeSet::new();
    for record in records {
        if !record.persistent && drill::is_drills(&record.inactive_xml) {
            continue;
        }
        let config = match look.network(&record.inactive_xml) {
            Ok(config) => config,
            Err(error) => {
                unreadable(seen, Kind::Network, &record.name, error);
                continue;
            }
        };
        let live = match record.live_xml.as_deref().map(|xml| look.network(xml)).transpose() {
            Ok(live) => live,
            Err(error) => {
                unreadable(seen, Kind::Network, &record.name, error);
                continue;
            }
        };
        let runs = live.as_ref().unwrap_or(&config);
        if let Some(bridge) = &runs.network.bridge {
            bridges.insert(record.name.clone(), bridge.clone());
            if runs.network.mode != NetworkMode::Bridge {
                own.insert(bridge.clone());
            }
        }
        let id = id(Kind::Network, &record.name);
        let with_autostart = |read: &ParsedNetwork| {
            let mut network = read.network.clone();
            network.autostart = record.autostart;
            Resource::Network(network)
        };
        let ownership = ownership(scope, config.mark.as_ref(), &id, record.persistent);
        let observation = Observation {
            ownership,
            uuid: Some(config.uuid),
            config: with_autostart(&config),
            live: live.as_deref().map(with_autostart),
            active: record.active,
            unplugged: Vec::new(),
        };
        seen.resources.insert(id, observation);
    }
    (bridges, own)
}

/// What does not outlive its stop was made by hand, whatever it is marked with.
fn ownership(scope: &Scope, mark: Option<&Mark>, id: &ResourceId, persistent: bool) -> Ownership {
    let mark = mark.filter(|_| persistent);
    Mark::ownership(mark, id, &scope.desired.environment)
}

fn look_at_domains(
    provider: &LibvirtProvider,
    scope: &Scope,
    look: &mut Look<'_>,
    seen: &mut Observed,
    records: &[DomainRecord],
    bridges: &BTreeMap<String, String>,
) {
    for record in records {
        // A copy has the MAC addresses of its guest, and is in nobody's way.
        if !record.persistent && drill::is_drills(&record.inactive_xml) {
            continue;
        }
        let id = id(Kind::VirtualMachine, &record.name);
        match look_at_domain(provider, scope, look, &id, record, bridges) {
            Ok(observation) => {
                seen.resources.insert(id, observation);
            }
            Err(error) => unreadable(seen, Kind::VirtualMachine, &record.name, error),
        }
    }
}

fn look_at_domain(
    provider: &LibvirtProvider,
    scope: &Scope,
    look: &mut Look<'_>,
    id: &ResourceId,
    record: &DomainRecord,
    bridges: &BTreeMap<String, String>,
) -> Result<Observation, super::xml::XmlError> {
    let mut config = ParsedDomain::clone(&*look.domain(&record.inactive_xml)?);
    let live = record.live_xml.as_deref().map(|xml| look.domain(xml)).transpose()?;
    let mut live = live.as_deref().cloned();
    let wanted = match scope.desired.resources.get(id).map(|want| &want.resource) {
        Some(Resource::VirtualMachine(vm)) => vm.machine.as_ref(),
        _ => None,
    };
    for parsed in [Some(&mut config), live.as_mut()].into_iter().flatten() {
        // A spec may name a version; then the version is what is compared.
        if wanted.is_some() && parsed.machine.as_ref() == wanted {
            parsed.vm.machine.clone_from(&parsed.machine);
        }
    }
    config.vm.power = power(record.state);
    config.vm.autostart = record.autostart;
    let mut unplugged = Vec::new();
    if let Some(live) = &mut live {
        domain::settle(live, &config);
        live.vm.power = power(record.state);
        unplugged = broken_links(provider, live, bridges);
    }
    Ok(Observation {
        ownership: ownership(scope, config.mark.as_ref(), id, record.persistent),
        config: Resource::VirtualMachine(Box::new(config.vm)),
        live: live.map(|live| Resource::VirtualMachine(Box::new(live.vm))),
        active: record.active,
        uuid: Some(config.uuid),
        unplugged,
    })
}

/// A guest that put itself to sleep, or is on its way down, still runs: it decided so itself.
pub(super) fn power(state: RunState) -> Power {
    match state {
        RunState::Running
        | RunState::Blocked
        | RunState::ShuttingDown
        | RunState::Suspended
        | RunState::Unknown => Power::Running,
        RunState::Paused => Power::Paused,
        RunState::ShutOff | RunState::Crashed => Power::Off,
    }
}

/// The interfaces whose tap is not plugged into the bridge it belongs to, by MAC.
pub(super) fn broken_links(
    provider: &LibvirtProvider,
    live: &ParsedDomain,
    bridges: &BTreeMap<String, String>,
) -> Vec<String> {
    let bridge_of = |vm: &VirtualMachine, mac: &str| {
        let nic = vm.nics.iter().find(|nic| nic.mac == mac)?;
        match &nic.source {
            NicSource::Network(name) => bridges.get(name).cloned(),
            NicSource::Bridge(device) => Some(device.clone()),
            NicSource::User | NicSource::Other(_) => None,
        }
    };
    let broken = live.taps.iter().filter(|(mac, tap)| {
        bridge_of(&live.vm, mac)
            .is_some_and(|bridge| host::is_unplugged(&provider.settings.net_devices, tap, &bridge))
    });
    broken.map(|(mac, _)| mac.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_an_id_and_no_two_the_same() {
        let shown = |text| id(Kind::VirtualMachine, text).to_string();
        assert_eq!(shown("web"), "vm/web");
        assert!(shown("Win 10_old").starts_with("vm/xwin-10-old-"));
        assert_ne!(shown("a.b"), shown("a_b"));
        for text in ["", "-", "\u{fc}ber", &"N".repeat(300)] {
            assert!(shown(text).starts_with("vm/x"), "{text}");
        }
    }
}
