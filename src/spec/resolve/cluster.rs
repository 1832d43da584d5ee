//! `Cluster` to its canonical form.
//!
//! What is on the host is not known here: only what a document itself can get wrong is told.

mod built;
mod kubernetes;

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use trueup_slurm::{hostlist, wish};

use super::super::diag::did_you_mean;
use super::super::kinds::cluster::{
    ClusterAccountSpec, ClusterHostSpec, ClusterPartitionSpec, ClusterPoolSpec, ClusterSpec,
    SlurmClusterSpec, SlurmType,
};
use super::super::{machines, scalar};
use super::Cx;
use crate::model::resource::{Cluster, SlurmCluster, SlurmPlace};

/// How long jobs may take to end on a node that is taken out, when nothing is said, seconds.
const DRAIN_S: u64 = 24 * 3600;
/// Longest span of time here, seconds: a year; longer is a mistake of units.
const SPAN_S_MAX: u64 = 366 * 24 * 3600;
/// Most nodes of one entry: more than any cluster has.
const NODES_MAX: usize = 65_536;
/// Most entries of one list, and longest text of one: a person writes a few.
const LIST_MAX: usize = 1024;
const TEXT_MAX: usize = 4096;

pub(super) fn resolve(cx: &mut Cx<'_>, spec: &ClusterSpec) -> Option<Cluster> {
    match spec {
        ClusterSpec::Slurm(spec) => slurm(cx, spec),
        ClusterSpec::Kubernetes(spec) => kubernetes::resolve(cx, spec).map(Cluster::Kubernetes),
    }
}

fn slurm(cx: &mut Cx<'_>, spec: &SlurmClusterSpec) -> Option<Cluster> {
    let SlurmType::Slurm = spec.r#type;
    let is_built = spec.machines.is_some();
    let pools = each(cx, "/spec/pools", &spec.pools, |cx, at, of| pool(cx, at, of, is_built));
    let partitions = each(cx, "/spec/partitions", &spec.partitions, partition);
    let accounts = each(cx, "/spec/accounts", &spec.accounts, account);
    let qos = each(cx, "/spec/qos", &spec.qos, |cx, at, qos| {
        let limits = limits(cx, at, &qos.limits)?;
        Some(wish::Qos { name: qos.name.clone(), priority: qos.priority, limits })
    });
    let login = each(cx, "/spec/login", &spec.login, |cx, at, of| hosts(cx, at, of, is_built));
    let admins = admins(cx, &spec.admins);
    let drain_timeout_s = match spec.drain_timeout.as_deref() {
        None => Some(DRAIN_S),
        some => span(cx, "/spec/drainTimeout", some),
    };
    if spec.max_unavailable == 0 {
        cx.err("spec/wrong-value", "/spec/maxUnavailable", "with 0 no node could ever change");
    }
    texts(cx, spec);
    let beside = is_built.then(|| built::beside(cx, spec));
    let one = |host: &ClusterHostSpec| wish::Host {
        name: host.name.clone(),
        address: host.address.clone(),
        port: host.port,
    };
    let accounting = accounting(cx, spec, one);
    let mut wish = wish::Cluster {
        name: spec.name.clone().unwrap_or_else(|| cx.id.name.to_string()),
        controllers: spec.controllers.iter().map(one).collect(),
        login: login?.into_iter().flatten().collect(),
        accounting: accounting?,
        pools: pools?,
        partitions: partitions?,
        accounts: accounts?,
        qos: qos?,
        admins: admins?,
        hooks: wish::Hooks {
            prolog: spec.hooks.prolog.clone(),
            epilog: spec.hooks.epilog.clone(),
            controller_prolog: spec.hooks.controller_prolog.clone(),
            controller_epilog: spec.hooks.controller_epilog.clone(),
        },
        parameters: spec.parameters.clone(),
        lines: spec.lines.clone(),
        gres_lines: spec.gres_lines.clone(),
    };
    for fault in wish::check(&wish) {
        cx.err("spec/wrong-value", pointer(&fault.path), fault.message);
    }
    let mut place = SlurmPlace::default();
    let built = match beside {
        Some(beside) => Some(built::resolve(cx, spec, &mut place, &mut wish, beside?)?),
        None => {
            built::refuse(cx, spec);
            None
        }
    };
    Some(Cluster::Slurm(SlurmCluster {
        place,
        wish,
        built,
        drain_timeout_s: drain_timeout_s?,
        max_unavailable: spec.max_unavailable,
        seen: None,
    }))
}

/// Reads every entry of a list, so that mistakes are told all at once.
fn each<S, T>(
    cx: &mut Cx<'_>,
    at: &str,
    specs: &[S],
    read: impl Fn(&mut Cx<'_>, &str, &S) -> Option<T>,
) -> Option<Vec<T>> {
    if specs.len() > LIST_MAX {
        let message = format!("{} entries; at most {LIST_MAX} are taken", specs.len());
        cx.err("spec/too-large", at, message);
        return None;
    }
    let read: Vec<Option<T>> =
        specs.iter().enumerate().map(|(n, spec)| read(cx, &format!("{at}/{n}"), spec)).collect();
    read.into_iter().collect()
}

fn pool(cx: &mut Cx<'_>, at: &str, spec: &ClusterPoolSpec, is_built: bool) -> Option<wish::Pool> {
    let read = |cx: &mut Cx<'_>, at: &str, of: &ClusterHostSpec| hosts(cx, at, of, is_built);
    let nodes = each(cx, &format!("{at}/nodes"), &spec.nodes, read);
    let memory = cx.check(format!("{at}/memory"), scalar::size(&spec.memory.0));
    Some(wish::Pool {
        name: spec.name.clone(),
        nodes: nodes?.into_iter().flatten().collect(),
        cpus: spec.cpus,
        topology: spec.topology.map(|lie| wish::Topology {
            sockets: lie.sockets,
            cores: lie.cores,
            threads: lie.threads,
        }),
        memory_mib: memory? >> 20,
        gres: spec
            .gres
            .iter()
            .map(|gres| wish::Gres {
                name: gres.name.clone(),
                kind: gres.r#type.clone(),
                count: gres.count,
                devices: gres.devices.clone(),
            })
            .collect(),
        features: spec.features.iter().cloned().collect(),
        weight: spec.weight,
        parameters: spec.parameters.clone(),
    })
}

/// The machines that one entry names.
fn hosts(
    cx: &mut Cx<'_>,
    at: &str,
    spec: &ClusterHostSpec,
    is_built: bool,
) -> Option<Vec<wish::Host>> {
    let named = hostlist::expand(&spec.name).map_err(|error| error.to_string());
    let names = cx.check(format!("{at}/name"), named)?;
    if names.len() > NODES_MAX {
        let message = format!("{} nodes; at most {NODES_MAX} are taken", names.len());
        cx.err("spec/too-large", format!("{at}/name"), message);
        return None;
    }
    if is_built {
        // What is wrong with an address was told with the machines.
        let first = spec.address.as_deref()?;
        let addresses = machines::addresses(first, names.len()).ok()?;
        let host = |(name, address)| wish::Host { name, address: Some(address), port: None };
        return Some(names.into_iter().zip(addresses).map(host).collect());
    }
    if names.len() > 1 && (spec.address.is_some() || spec.port.is_some()) {
        cx.err(
            "spec/conflict",
            at,
            "`address` and `port` are of one machine, and this names several",
        )
        .hint("give each of them an entry of its own");
        return None;
    }
    let host = |name| wish::Host { name, address: spec.address.clone(), port: spec.port };
    Some(names.into_iter().map(host).collect())
}

fn partition(cx: &mut Cx<'_>, at: &str, spec: &ClusterPartitionSpec) -> Option<wish::Partition> {
    let max = minutes(cx, &format!("{at}/maxTime"), spec.max_time.as_deref());
    let default = minutes(cx, &format!("{at}/defaultTime"), spec.default_time.as_deref());
    Some(wish::Partition {
        name: spec.name.clone(),
        pools: spec.pools.clone(),
        default: spec.default,
        max_minutes: max?,
        default_minutes: default?,
        priority_tier: spec.priority_tier,
        accounts: spec.accounts.iter().cloned().collect(),
        qos: spec.qos.iter().cloned().collect(),
        groups: spec.groups.iter().cloned().collect(),
        up: spec.up,
        parameters: spec.parameters.clone(),
    })
}

fn account(cx: &mut Cx<'_>, at: &str, spec: &ClusterAccountSpec) -> Option<wish::Account> {
    Some(wish::Account {
        name: spec.name.clone(),
        parent: spec.parent.clone(),
        description: spec.description.clone(),
        fairshare: spec.fairshare,
        qos: spec.qos.iter().cloned().collect(),
        default_qos: spec.default_qos.clone(),
        limits: limits(cx, at, &spec.limits)?,
        users: spec.users.iter().cloned().collect(),
        coordinators: spec.coordinators.iter().cloned().collect(),
    })
}

fn accounting(
    cx: &mut Cx<'_>,
    spec: &SlurmClusterSpec,
    one: impl Fn(&ClusterHostSpec) -> wish::Host,
) -> Option<Option<wish::Accounting>> {
    let Some(spec) = &spec.accounting else { return Some(None) };
    let mut enforce = BTreeSet::new();
    for (n, word) in spec.enforce.iter().enumerate() {
        let pointer = format!("/spec/accounting/enforce/{n}");
        enforce.insert(chosen(cx, pointer, word, "holds no job back")?);
    }
    // What slurmdbd stands before is in its own file, which is not written here.
    let database = wish::Database {
        host: "localhost".to_owned(),
        name: "slurm_acct_db".to_owned(),
        user: "slurm".to_owned(),
    };
    Some(Some(wish::Accounting { host: one(&spec.host), database, enforce }))
}

fn admins(
    cx: &mut Cx<'_>,
    texts: &BTreeMap<String, String>,
) -> Option<BTreeMap<String, wish::AdminLevel>> {
    let read = texts.iter().map(|(user, level)| {
        let pointer = format!("/spec/admins/{}", user.replace('~', "~0").replace('/', "~1"));
        Some((user.clone(), chosen(cx, pointer, level, "is no level of an admin")?))
    });
    let read: Vec<Option<(String, wish::AdminLevel)>> = read.collect();
    read.into_iter().collect()
}

fn limits(
    cx: &mut Cx<'_>,
    at: &str,
    texts: &BTreeMap<String, String>,
) -> Option<BTreeMap<wish::Limit, String>> {
    let mut limits = BTreeMap::new();
    for (name, value) in texts {
        let pointer = format!("{at}/limits/{}", name.replace('~', "~0").replace('/', "~1"));
        limits.insert(chosen(cx, pointer, name, "is no limit")?, value.clone());
    }
    Some(limits)
}

/// One of a few words.
fn chosen<T: DeserializeOwned>(
    cx: &mut Cx<'_>,
    pointer: String,
    word: &str,
    wrong: &str,
) -> Option<T> {
    let error = match serde_json::from_value(word.into()) {
        Ok(read) => return Some(read),
        Err(error) => error.to_string(),
    };
    // serde tells them: "unknown variant `x`, expected one of `a`, `b`", or "`a` or `b`".
    let known = error.split_once(", expected ").map_or("", |(_, known)| known);
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let hint = did_you_mean(word, known.iter().copied())
        .unwrap_or_else(|| format!("known are {}", known.join(", ")));
    let message = format!("`{}` {wrong}", word.escape_debug());
    cx.err("spec/wrong-value", pointer, message).hint(hint);
    None
}

/// Texts are lines. Passwords are refused with the other mistakes of the wish.
fn texts(cx: &mut Cx<'_>, spec: &SlurmClusterSpec) {
    for (key, value) in &spec.parameters {
        let pointer = format!("/spec/parameters/{}", key.replace('~', "~0").replace('/', "~1"));
        cx.check(pointer, scalar::line(value, TEXT_MAX));
    }
    for (field, lines) in [("lines", &spec.lines), ("gresLines", &spec.gres_lines)] {
        for (n, line) in lines.iter().enumerate() {
            cx.check(format!("/spec/{field}/{n}"), scalar::line(line, TEXT_MAX));
        }
    }
}

/// A span in whole minutes, as Slurm counts; `Some(None)` where none is given.
fn minutes(cx: &mut Cx<'_>, at: &str, text: Option<&str>) -> Option<Option<u32>> {
    let Some(text) = text else { return Some(None) };
    let seconds = span(cx, at, Some(text))?;
    u32::try_from(seconds.div_ceil(60)).ok().map(Some)
}

fn span(cx: &mut Cx<'_>, at: &str, text: Option<&str>) -> Option<u64> {
    let read = scalar::seconds_up_to(text?, SPAN_S_MAX, "a year");
    cx.check(at, read)
}

/// `pools[1].gres[0].count` as a pointer into the document; entries of `nodes` and `login` may be several
/// machines, so nothing below these lists is pointed at.
fn pointer(path: &str) -> String {
    let mut pointer = "/spec".to_owned();
    for part in path.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, Some(index.trim_end_matches(']'))),
            None => (part, None),
        };
        pointer.push('/');
        pointer.push_str(match name {
            "maxMinutes" => "maxTime",
            "defaultMinutes" => "defaultTime",
            "memoryMib" => "memory",
            name => name,
        });
        if ["nodes", "login"].contains(&name) {
            break;
        }
        if let Some(index) = index {
            pointer.push('/');
            pointer.push_str(index);
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_point_at_what_is_written() {
        assert_eq!(pointer("pools[1].gres[0].count"), "/spec/pools/1/gres/0/count");
        assert_eq!(pointer("pools[0].nodes[17].name"), "/spec/pools/0/nodes");
        assert_eq!(pointer("pools[0].memoryMib"), "/spec/pools/0/memory");
        assert_eq!(pointer("controllers"), "/spec/controllers");
    }
}
