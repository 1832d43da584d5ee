//! A cluster that is built: where each of its machines is, and what Slurm has to be told because of it.

use std::collections::BTreeMap;

use trueup_slurm::{Firewall, Opening, Shape, network, port_range, wish};

use super::super::super::kinds::Spec;
use super::super::super::kinds::cluster::SlurmClusterSpec;
use super::super::super::machines::{self, machine_name};
use super::super::super::scalar;
use super::super::Cx;
use super::LIST_MAX;
use crate::model::resource::{OnImageChange, SlurmBuilt, SlurmPlace};
use crate::model::{Kind, ResourceId};

/// The port of a controller, where no other is said (slurm.conf(5), `SlurmctldPort`).
const CONTROLLER_PORT: &str = "6817";
/// The suite of Debian that has Slurm 24.11; others have 22.05, as far as they are known here.
const SUITE_OF_24_11: &str = "trixie";
/// Where Debian's packages keep state, and may write to; and that a node comes back when its machine was
/// started anew: with any other value the controller keeps it down as one that `unexpectedly rebooted`
/// (slurm.conf(5), `ReturnToService`), until somebody resumes it.
const USUAL: &[(&str, &str)] = &[
    (STATE, "/var/lib/slurm/slurmctld"),
    ("SlurmdSpoolDir", "/var/lib/slurm/slurmd"),
    (RETURNS, "2"),
];
const STATE: &str = "StateSaveLocation";
const RETURNS: &str = "ReturnToService";
/// With it, nodes get their configuration from the controller.
const CONFIGLESS: &str = "enable_configless";

/// Fields of clusters that are built have no place in one that is taken over.
pub(super) fn refuse(cx: &mut Cx<'_>, spec: &SlurmClusterSpec) {
    let mut refuse = |pointer: String| {
        let field = pointer.rsplit('/').next().unwrap_or_default();
        let message =
            format!("`{field}` is for a cluster that is built, and this one is taken over");
        cx.err("spec/conflict", pointer, message)
            .hint("say `machines` to have it built of virtual machines");
    };
    let accounting = spec.accounting.as_ref();
    let fields = [
        ("mungeKey", spec.munge_key.is_some()),
        ("stateFolder", spec.state_folder.is_some()),
        ("firewall", spec.firewall.is_some()),
        ("accounting/disk", accounting.is_some_and(|it| it.disk.is_some())),
        ("accounting/host/machine", accounting.is_some_and(|it| it.host.machine.is_some())),
    ];
    for (field, _) in fields.into_iter().filter(|(_, said)| *said) {
        refuse(format!("/spec/{field}"));
    }
    for (list, hosts) in [("controllers", &spec.controllers), ("login", &spec.login)] {
        for (n, _) in hosts.iter().enumerate().filter(|(_, it)| it.machine.is_some()) {
            refuse(format!("/spec/{list}/{n}/machine"));
        }
    }
    for (p, pool) in spec.pools.iter().enumerate() {
        if pool.machine.is_some() {
            refuse(format!("/spec/pools/{p}/machine"));
        }
        for (n, _) in pool.nodes.iter().enumerate().filter(|(_, it)| it.machine.is_some()) {
            refuse(format!("/spec/pools/{p}/nodes/{n}/machine"));
        }
    }
}

/// What a cluster that is built has beside its machines.
pub(super) struct Beside {
    /// Where the state of all jobs is, if that is said.
    state: Option<String>,
    /// What its machines accept; `None`: there are no rules.
    firewall: Option<Firewall>,
}

/// What is beside the machines; every mistake of it is told, whatever the rest of the document is.
pub(super) fn beside(cx: &mut Cx<'_>, spec: &SlurmClusterSpec) -> Option<Beside> {
    never(cx);
    let state = state(cx, spec);
    database(cx, spec);
    let firewall = firewall(cx, spec);
    Some(Beside { state: state?, firewall: firewall? })
}

/// Where the machines are; `place` and `wish` are told what follows from it.
pub(super) fn resolve(
    cx: &mut Cx<'_>,
    spec: &SlurmClusterSpec,
    place: &mut SlurmPlace,
    wish: &mut wish::Cluster,
    beside: Beside,
) -> Option<SlurmBuilt> {
    if let Some(folder) = beside.state {
        wish.parameters.insert(STATE.to_owned(), folder);
    }
    on_controller(wish);
    let mut machines = BTreeMap::new();
    for host in wish.hosts() {
        // What is wrong with a name was told with the machines.
        let name = machine_name(&cx.id.name, &host.name).ok()?;
        machines.insert(host.name.clone(), name);
    }
    for name in machines.values() {
        cx.need(ResourceId::new(Kind::VirtualMachine, name.clone()));
    }
    let controller = wish.controllers.first()?;
    place.guest = machines.get(&controller.name).cloned();
    let address = controller.address.clone()?;
    let port = parameter(wish, "SlurmctldPort").unwrap_or(CONTROLLER_PORT).to_owned();
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        let message =
            format!("SlurmctldPort is `{}`, and nodes ask at one port", port.escape_debug());
        cx.err("spec/wrong-value", "/spec/parameters", message);
        return None;
    }
    let at = |address: &str| match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    };
    let backup = wish.backup().and_then(|it| it.address.as_deref());
    let server = [Some(address.as_str()), backup].into_iter().flatten().map(at);
    let server = server.collect::<Vec<_>>().join(",");
    if parameter(wish, RETURNS).is_some_and(|value| value.trim() != "2") {
        let message = "a machine that is started anew would stay out of use: it has to be 2";
        cx.err("spec/conflict", "/spec/parameters", message).hint("leave it out");
    }
    for (key, value) in USUAL {
        if parameter(wish, key).is_none() {
            wish.parameters.insert((*key).to_owned(), (*value).to_owned());
        }
    }
    configless(wish);
    let key = spec.munge_key.map_or(1, |key| key.generation);
    if key == 0 {
        cx.err("spec/wrong-value", "/spec/mungeKey/generation", "keys are counted from 1");
    }
    let (release, firewall) = (release(cx, spec), beside.firewall);
    Some(SlurmBuilt { machines, key, server, release, firewall })
}

fn parameter<'w>(wish: &'w wish::Cluster, key: &str) -> Option<&'w str> {
    let found = wish.parameters.iter().find(|(own, _)| own.eq_ignore_ascii_case(key));
    found.map(|(_, value)| value.as_str())
}

fn configless(wish: &mut wish::Cluster) {
    let key = "SlurmctldParameters";
    let own = wish.parameters.iter_mut().find(|(own, _)| own.eq_ignore_ascii_case(key));
    match own {
        None => {
            wish.parameters.insert(key.to_owned(), CONFIGLESS.to_owned());
        }
        Some((_, value)) if !value.split(',').any(|word| word.trim() == CONFIGLESS) => {
            value.push(',');
            value.push_str(CONFIGLESS);
        }
        Some(_) => {}
    }
}

/// Where the controllers keep the state of all jobs, if that is said: two of them have to see the same.
fn state(cx: &mut Cx<'_>, spec: &SlurmClusterSpec) -> Option<Option<String>> {
    match &spec.state_folder {
        Some(folder) => {
            let folder = cx.check("/spec/stateFolder", scalar::absolute_path(folder));
            if spec.parameters.keys().any(|key| key.eq_ignore_ascii_case(STATE)) {
                let message = format!("is `{STATE}`, which `parameters` say as well");
                cx.err("spec/conflict", "/spec/stateFolder", message).hint("leave one of them out");
                return None;
            }
            folder.map(Some)
        }
        None if spec.controllers.len() > 1 => {
            let message = "a second controller takes over with the state of all jobs, so both need a \
                           folder that they see as one, and the disk of a machine is its own";
            cx.err("spec/missing-field", "/spec/controllers/1", message).hint(
                "name one in `stateFolder` that the image or `cloudInit` mounts from a file server, or \
                 leave the second controller out",
            );
            None
        }
        None => Some(None),
    }
}

/// Gives the database the address of the controller, where it is on the machine of that.
fn on_controller(wish: &mut wish::Cluster) {
    let Some(accounting) = &mut wish.accounting else { return };
    let host = &mut accounting.host;
    if let Some(own) = wish.controllers.iter().find(|it| it.name == host.name) {
        host.address.clone_from(&own.address);
    }
}

/// The machine of the accounting database: one of its own, or the first controller's.
fn database(cx: &mut Cx<'_>, spec: &SlurmClusterSpec) {
    let Some(accounting) = &spec.accounting else { return };
    if machines::database(spec).is_some() {
        return;
    }
    let mut each = spec.controllers.iter().enumerate();
    let Some((at, controller)) = each.find(|(_, it)| it.name == accounting.host.name) else {
        return;
    };
    if at > 0 {
        let message = "the database would be on the machine of the backup controller";
        cx.err("spec/conflict", "/spec/accounting/host/name", message)
            .hint("name the first controller, or a machine of its own");
    }
    if accounting.host.machine.is_some() {
        let message = "its machine is the controller's";
        cx.err("spec/conflict", "/spec/accounting/host/machine", message)
            .hint("say it there, or name a machine of its own");
    }
    if accounting.disk.is_some() {
        let message = "the database is on the disk of the controller's machine";
        cx.err("spec/conflict", "/spec/accounting/disk", message)
            .hint("leave it out, or name a machine of its own");
    }
    let replaced = controller.machine.as_deref().and_then(|own| own.on_image_change);
    if replaced == Some(OnImageChange::Replace) {
        let message = "the accounting database is on this disk, and would be lost with it";
        let at = format!("/spec/controllers/{at}/machine/onImageChange");
        cx.err("spec/conflict", at, message).hint("give the database a machine of its own");
    }
    let differs =
        accounting.host.address.is_some() && accounting.host.address != controller.address;
    if differs {
        let message = "is another address than that controller has";
        cx.err("spec/conflict", "/spec/accounting/host/address", message).hint("leave it out");
    }
}

/// What the machines accept; `None` where something is wrong with it.
fn firewall(cx: &mut Cx<'_>, spec: &SlurmClusterSpec) -> Option<Option<Firewall>> {
    let spec = spec.firewall.clone().unwrap_or_default();
    let mut all = |at: String, texts: &[String], read: fn(&str) -> Result<String, String>| {
        if texts.len() > LIST_MAX {
            let message = format!("{} entries; at most {LIST_MAX} are taken", texts.len());
            cx.err("spec/too-large", at, message);
            return None;
        }
        let each = texts.iter().enumerate();
        let read: Vec<Option<String>> =
            each.map(|(n, text)| cx.check(format!("{at}/{n}"), read(text))).collect();
        read.into_iter().collect::<Option<Vec<String>>>()
    };
    let ssh = match &spec.ssh {
        Some(ssh) => all("/spec/firewall/ssh".to_owned(), ssh, network).map(Some),
        None => Some(None),
    };
    let open = spec.open.iter().enumerate().map(|(n, opening)| {
        let at = format!("/spec/firewall/open/{n}");
        let ports = all(format!("{at}/ports"), &opening.ports, port_range);
        let from = all(format!("{at}/from"), &opening.from, network);
        Some(Opening {
            to: opening.to.iter().map(|role| (*role).into()).collect(),
            ports: ports?,
            protocol: opening.protocol.into(),
            from: from?,
        })
    });
    let open: Vec<Option<Opening>> = open.collect();
    let firewall = Firewall { ssh: ssh?, open: open.into_iter().collect::<Option<_>>()? };
    Some(spec.enabled.then_some(firewall))
}

/// What can be said of a cluster that is taken over, and never of one that is built.
fn never(cx: &mut Cx<'_>) {
    if cx.world.members[cx.member].doc.lifecycle.adopt {
        let message = "a cluster is built or taken over, not both";
        cx.err("spec/conflict", "/lifecycle/adopt", message)
            .hint("leave out `adopt`, or `machines`");
    }
}

/// The release of Slurm in the controller's image, as far as that can be known before it runs. Of another
/// one the files are written once more as soon as it answers.
fn release(cx: &mut Cx<'_>, spec: &SlurmClusterSpec) -> Shape {
    let own = spec.controllers.first().and_then(|it| it.machine.as_deref());
    let layers = own.into_iter().chain(spec.machines.as_deref());
    let image = layers.filter_map(|layer| layer.image.clone()).next();
    // One that is not there is told with the disk that needs it.
    let there = image.filter(|name| {
        let name = crate::model::Name::new(name.as_str());
        name.is_ok_and(|name| cx.world.by_id.contains_key(&ResourceId::new(Kind::Image, name)))
    });
    let doc = there.and_then(|name| cx.look_up("/spec/machines/image", Kind::Image, &name));
    match doc.as_deref().map(|doc| &doc.spec) {
        Some(Spec::Image(image))
            if image.build.as_ref().is_some_and(|build| build.suite == SUITE_OF_24_11) =>
        {
            Shape::V24_11
        }
        _ => Shape::V22_05,
    }
}
