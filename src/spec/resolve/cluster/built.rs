//! A cluster that is built: where each of its machines is, and what Slurm has to be told because of it.

use std::collections::BTreeMap;

use trueup_slurm::{Shape, wish};

use super::super::super::kinds::Spec;
use super::super::super::kinds::cluster::SlurmClusterSpec;
use super::super::super::machines::machine_name;
use super::super::Cx;
use crate::model::resource::{SlurmBuilt, SlurmPlace};
use crate::model::{Kind, ResourceId};

/// The port of a controller, where no other is said (slurm.conf(5), `SlurmctldPort`).
const CONTROLLER_PORT: &str = "6817";
/// The suite of Debian that has Slurm 24.11; others have 22.05, as far as they are known here.
const SUITE_OF_24_11: &str = "trixie";
/// Where Debian's packages keep state, and may write to; and that a node comes back when its machine was
/// started anew: with any other value the controller keeps it down as one that `unexpectedly rebooted`
/// (slurm.conf(5), `ReturnToService`), until somebody resumes it.
const USUAL: &[(&str, &str)] = &[
    ("StateSaveLocation", "/var/lib/slurm/slurmctld"),
    ("SlurmdSpoolDir", "/var/lib/slurm/slurmd"),
    (RETURNS, "2"),
];
const RETURNS: &str = "ReturnToService";
/// With it, nodes get their configuration from the controller.
const CONFIGLESS: &str = "enable_configless";

/// Fields of clusters that are built have no place in one that is taken over.
pub(super) fn refuse(cx: &mut Cx<'_>, spec: &SlurmClusterSpec) {
    let mut refuse = |pointer: String| {
        cx.err(
            "spec/conflict",
            pointer,
            "is for a cluster that is built, and this one is taken over",
        )
        .hint("say `machines` to have it built of virtual machines");
    };
    if spec.munge_key.is_some() {
        refuse("/spec/mungeKey".to_owned());
    }
    for (n, _) in spec.controllers.iter().enumerate().filter(|(_, it)| it.machine.is_some()) {
        refuse(format!("/spec/controllers/{n}/machine"));
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

/// Machines that are never made, whatever the rest is.
pub(super) fn never(cx: &mut Cx<'_>, spec: &SlurmClusterSpec) {
    let mut refuse = |pointer: String| {
        cx.err(
            "spec/conflict",
            pointer,
            "no machine is made for this one, only for controllers and nodes",
        );
    };
    for (n, _) in spec.login.iter().enumerate().filter(|(_, it)| it.machine.is_some()) {
        refuse(format!("/spec/login/{n}/machine"));
    }
    if spec.accounting.as_ref().is_some_and(|it| it.host.machine.is_some()) {
        refuse("/spec/accounting/host/machine".to_owned());
    }
}

/// Where the machines are; `place` and `wish` are told what follows from it.
pub(super) fn resolve(
    cx: &mut Cx<'_>,
    spec: &SlurmClusterSpec,
    place: &mut SlurmPlace,
    wish: &mut wish::Cluster,
) -> Option<SlurmBuilt> {
    not_yet(cx, spec);
    let mut machines = BTreeMap::new();
    let nodes = wish.pools.iter().flat_map(|pool| &pool.nodes);
    for host in wish.controllers.iter().chain(nodes) {
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
    let server = if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    };
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
    Some(SlurmBuilt { machines, key, server, release: release(cx, spec) })
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

/// What can be said of a cluster that is taken over, and not yet of one that is built.
fn not_yet(cx: &mut Cx<'_>, spec: &SlurmClusterSpec) {
    if spec.controllers.len() > 1 {
        let message = "a cluster that is built has one controller: a backup needs a folder that both \
                       write to, which is not made here";
        cx.err("spec/conflict", "/spec/controllers/1", message);
    }
    if spec.accounting.is_some() {
        let message = "slurmdbd and its database are not built: such a cluster has no accounting";
        cx.err("spec/conflict", "/spec/accounting", message);
    }
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
