//! Looks at every pool, network, disk and domain, ours or not.
//!
//! What cannot be read is said to be unreadable, never left out: absence is a fact that things are
//! created and removed on. Objects whose name is no resource name are left out, because no resource
//! can be meant by them; guests plugged into a network of ours are foreign all the same, and libvirt
//! itself keeps what they use.

use std::collections::{BTreeMap, BTreeSet};

use trueup_libvirt::{
    Client, DomainRecord, Error, Listing, NetworkRecord, PoolRecord, RunState, VolumeRecord,
};
use uuid::Uuid;

use super::xml::{Mark, domain, network, pool, volume};
use super::{LibvirtProvider, fault, host};
use crate::model::resource::{Disk, NicSource, Power, StoragePool, VirtualMachine, VolumeFormat};
use crate::model::{Fault, Kind, Name, Observation, Observed, Ownership, Resource, ResourceId};
use crate::port::Scope;

/// Prefixes of files in a pool that are other providers' business: images and cloud-init media.
const OTHERS: [&str; 2] = ["image-", "seed-"];

/// Suffixes of files in a pool that are no disks: consoles and unfinished downloads.
const NO_DISKS: [&str; 3] = [".log", ".partial", ".part"];

pub(super) async fn observe(provider: &LibvirtProvider, scope: &Scope) -> Result<Observed, Fault> {
    let client = &provider.client;
    let (pools, networks, domains) =
        tokio::join!(client.pools(), client.networks(), client.domains());
    let mut seen = Observed::default();
    let pools = listed(&mut seen, &[Kind::StoragePool, Kind::Disk], pools)?;
    let networks = listed(&mut seen, &[Kind::Network], networks)?;
    let domains = listed(&mut seen, &[Kind::VirtualMachine], domains)?;
    let bridges = look_at_networks(provider, &mut seen, &networks);
    look_at_domains(provider, scope, &mut seen, &domains, &bridges);
    look_at_pools(client, scope, &mut seen, &pools).await?;
    seen.host.accelerator = Some(provider.settings.accelerator());
    let bridges = bridges.into_values().collect();
    seen.host.addresses = host::addresses(&bridges).map_err(|error| {
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
        Err(error) if error.code == trueup_libvirt::Code::NoSupport => {
            for kind in kinds {
                seen.unobservable.insert(*kind, error.message.clone());
            }
            Ok(Vec::new())
        }
        Err(error) => Err(fault::observation(&error)),
    }
}

fn id(kind: Kind, name: &str) -> Option<ResourceId> {
    Some(ResourceId::new(kind, Name::new(name).ok()?))
}

fn unreadable(seen: &mut Observed, kind: Kind, name: &str, why: impl ToString) {
    if let Some(id) = id(kind, name) {
        seen.unreadable.insert(id, why.to_string());
    }
}

/// Files the networks; gives the bridge of each.
fn look_at_networks(
    provider: &LibvirtProvider,
    seen: &mut Observed,
    records: &[NetworkRecord],
) -> BTreeMap<String, String> {
    let mut bridges = BTreeMap::new();
    for record in records {
        let config = match network::parse(&record.inactive_xml) {
            Ok(config) => config,
            Err(error) => {
                unreadable(seen, Kind::Network, &record.name, error);
                continue;
            }
        };
        let live = match record.live_xml.as_deref().map(network::parse).transpose() {
            Ok(live) => live,
            Err(error) => {
                unreadable(seen, Kind::Network, &record.name, error);
                continue;
            }
        };
        let runs = live.as_ref().unwrap_or(&config);
        if let Some(bridge) = &runs.network.bridge {
            bridges.insert(record.name.clone(), bridge.clone());
        }
        let Some(id) = id(Kind::Network, &record.name) else {
            continue;
        };
        let with_autostart = |mut network: crate::model::resource::Network| {
            network.autostart = record.autostart;
            Resource::Network(network)
        };
        let ownership = ownership(provider, config.mark.as_ref(), &id, record.persistent);
        let observation = Observation {
            ownership,
            uuid: Some(config.uuid),
            config: with_autostart(config.network),
            live: live.map(|live| with_autostart(live.network)),
            active: record.active,
            unplugged: Vec::new(),
        };
        seen.resources.insert(id, observation);
    }
    bridges
}

/// What does not outlive its stop was made by hand, whatever it is marked with.
fn ownership(
    provider: &LibvirtProvider,
    mark: Option<&Mark>,
    id: &ResourceId,
    persistent: bool,
) -> Ownership {
    let mark = mark.filter(|_| persistent);
    Mark::ownership(mark, id, &provider.settings.environment)
}

fn look_at_domains(
    provider: &LibvirtProvider,
    scope: &Scope,
    seen: &mut Observed,
    records: &[DomainRecord],
    bridges: &BTreeMap<String, String>,
) {
    for record in records {
        let Some(id) = id(Kind::VirtualMachine, &record.name) else {
            continue;
        };
        match look_at_domain(provider, scope, &id, record, bridges) {
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
    id: &ResourceId,
    record: &DomainRecord,
    bridges: &BTreeMap<String, String>,
) -> Result<Observation, super::xml::XmlError> {
    let mut config = domain::parse(&record.inactive_xml)?;
    let mut live = record.live_xml.as_deref().map(domain::parse).transpose()?;
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
        ownership: ownership(provider, config.mark.as_ref(), id, record.persistent),
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
    live: &domain::ParsedDomain,
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

async fn look_at_pools(
    client: &Client,
    scope: &Scope,
    seen: &mut Observed,
    records: &[PoolRecord],
) -> Result<(), Fault> {
    let mut found = BTreeMap::new();
    for record in records {
        let parsed = match pool::parse(&record.xml) {
            Ok(parsed) => parsed,
            Err(error) => {
                unreadable(seen, Kind::StoragePool, &record.name, error);
                continue;
            }
        };
        let Some(id) = id(Kind::StoragePool, &record.name) else {
            continue;
        };
        let ours_to_be = parsed.kind == "dir" && record.persistent;
        let observation = Observation {
            ownership: if ours_to_be {
                Ownership::Unmarked
            } else {
                Ownership::Foreign
            },
            config: Resource::StoragePool(StoragePool {
                path: parsed.path.clone(),
                autostart: record.autostart,
            }),
            live: None,
            active: record.active,
            uuid: Uuid::parse_str(&record.uuid).ok(),
            unplugged: Vec::new(),
        };
        seen.resources.insert(id.clone(), observation);
        if ours_to_be {
            look_into_pool(client, scope, seen, record, &id.name, &mut found).await?;
        }
    }
    seen.resources.extend(found);
    Ok(())
}

/// Files the disks of one pool into `found`; those of a pool that cannot be looked into are
/// unreadable rather than absent.
async fn look_into_pool(
    client: &Client,
    scope: &Scope,
    seen: &mut Observed,
    record: &PoolRecord,
    pool: &Name,
    found: &mut BTreeMap<ResourceId, Observation>,
) -> Result<(), Fault> {
    let volumes = if record.active {
        match client.refresh_pool(&record.name).await {
            Ok(()) => client.volumes(&record.name).await,
            Err(error) => Err(error),
        }
        .map_err(|error| {
            let lost = matches!(
                error.code,
                trueup_libvirt::Code::ConnectionLost
                    | trueup_libvirt::Code::Timeout
                    | trueup_libvirt::Code::Closed
            );
            (lost, fault::observation(&error), error.message)
        })
    } else {
        let why = format!("its pool `{pool}` is not started");
        Err((false, Fault::unobservable(why.clone()), why))
    };
    match volumes {
        Ok(volumes) => {
            for (name, error) in &volumes.failed {
                for id in wanted_in(scope, pool, Some(name)) {
                    seen.unreadable.insert(id, error.message.clone());
                }
            }
            for volume in &volumes.items {
                look_at_volume(scope, seen, pool, volume, found);
            }
        }
        Err((true, fault, _)) => return Err(fault),
        Err((false, _, why)) => {
            for id in wanted_in(scope, pool, None) {
                seen.unreadable.insert(id, why.clone());
            }
        }
    }
    Ok(())
}

/// Disks asked for in `pool`, or known and no longer asked for: any pool may hold those. With a
/// `file`, only those whose file it is.
fn wanted_in(scope: &Scope, pool: &Name, file: Option<&str>) -> BTreeSet<ResourceId> {
    let asked = scope.desired.resources.iter().filter_map(|(id, want)| {
        let Resource::Disk(disk) = &want.resource else {
            return None;
        };
        let here = disk.pool == *pool && file.is_none_or(|file| file_name(&disk.path) == file);
        here.then(|| id.clone())
    });
    let known = scope.known.iter().filter(|id| {
        id.kind == Kind::Disk
            && !scope.desired.resources.contains_key(id)
            && file.is_none_or(|file| stem(file) == id.name.as_str())
    });
    asked.chain(known.cloned()).collect()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// Whose disk a file is: that of the resource that asks for this path, else the one of its name.
fn disk_id(scope: &Scope, path: &str) -> Option<(ResourceId, bool)> {
    let asked = scope
        .desired
        .resources
        .iter()
        .find(|(_, want)| matches!(&want.resource, Resource::Disk(disk) if disk.path == path));
    if let Some((id, _)) = asked {
        return Some((id.clone(), true));
    }
    let file = file_name(path);
    let other = OTHERS.iter().any(|prefix| file.starts_with(prefix))
        || NO_DISKS.iter().any(|suffix| file.ends_with(suffix));
    if other {
        return None;
    }
    Some((id(Kind::Disk, stem(file))?, false))
}

fn look_at_volume(
    scope: &Scope,
    seen: &mut Observed,
    pool: &Name,
    record: &VolumeRecord,
    found: &mut BTreeMap<ResourceId, Observation>,
) {
    let Some((id, exact)) = disk_id(scope, &record.path) else {
        return;
    };
    // The file that is asked for wins over one of the same name in another place.
    if !exact && found.contains_key(&id) {
        return;
    }
    let parsed = match volume::parse(&record.xml) {
        Ok(parsed) => parsed,
        Err(error) => {
            seen.unreadable.insert(id, error.to_string());
            return;
        }
    };
    let format = match parsed.format {
        Some(format) => format,
        // Nobody's file of another kind is no disk; one that is asked for is a broken one.
        None if !exact => return,
        None => VolumeFormat::Raw,
    };
    let disk = Disk {
        pool: pool.clone(),
        path: record.path.clone(),
        format,
        size: parsed.capacity,
        backing: parsed.backing,
        on_image_change: None,
    };
    let observation = Observation {
        ownership: Ownership::Unmarked,
        config: Resource::Disk(disk),
        live: None,
        active: true,
        uuid: None,
        unplugged: Vec::new(),
    };
    found.insert(id, observation);
}
