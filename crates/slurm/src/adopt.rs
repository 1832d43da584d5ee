//! A wish read from the files of a cluster that is there, so that it can be taken over as it is. What a
//! wish cannot say is listed, never dropped without a word. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::conf::{self, Conf, Fields};
use crate::hostlist;
use crate::plan::minutes;
use crate::wish::{
    Accounting, Cluster, DBD_PORT, Database, Enforce, Gres, Hooks, Host, Partition, Pool, Topology,
};

/// A cluster as its files say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The wish that says the same.
    pub cluster: Cluster,
    /// What it does not say: with this wish these would be gone.
    pub left: Vec<String>,
}

/// Files that no wish can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot take the cluster over: {0}")]
pub struct Unadoptable(pub String);

/// What a node has, apart from its name and place; nodes of a pool have the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    cpus: u32,
    topology: Option<(u32, u32, u32)>,
    memory_mib: u64,
    gres: String,
    devices: Vec<(String, Vec<Vec<String>>)>,
    features: BTreeSet<String>,
    weight: u32,
    others: BTreeMap<String, String>,
    partitions: BTreeSet<String>,
}

/// Fields of a node that a wish says, or that say nothing of it.
pub(crate) const NODE_FIELDS: &[&str] = &[
    "cpus",
    "sockets",
    "corespersocket",
    "threadspercore",
    "realmemory",
    "gres",
    "feature",
    "features",
    "weight",
    "state",
    "nodeaddr",
    "nodehostname",
    "port",
];
/// Fields of a partition, likewise.
pub(crate) const PARTITION_FIELDS: &[&str] = &[
    "nodes",
    "default",
    "maxtime",
    "defaulttime",
    "prioritytier",
    "allowaccounts",
    "allowqos",
    "allowgroups",
    "state",
];

/// Most memberships of nodes in partitions, all taken together: sixty queues over as many nodes as Slurm
/// takes.
const MEMBERS_MAX: usize = 60 * hostlist::NAMES_MAX;

/// Reads a wish from `slurm.conf` and `gres.conf`.
///
/// # Errors
/// [`Unadoptable`] where a wish would mean another cluster.
pub fn adopt(slurm: &Conf, gres: &str) -> Result<Adopted, Unadoptable> {
    let mut left = Vec::new();
    let name = slurm.parameter("ClusterName");
    let name = name.ok_or_else(|| Unadoptable("there is no ClusterName".to_owned()))?.to_owned();
    let members = members(slurm)?;
    let mut gres_lines = Vec::new();
    let devices = devices(gres, &mut gres_lines, &mut left)?;
    let pools = pools(slurm, &members, &devices)?;
    let partitions = slurm
        .partitions
        .iter()
        .map(|(name, fields)| partition(name, fields, &pools, &members[name.as_str()], &mut left))
        .collect::<Result<Vec<_>, _>>()?;
    let mut rest = slurm.parameters.clone();
    for key in ["clustername", "grestypes", "accountingstoragetres", "accountingstoragetype"] {
        rest.remove(key);
    }
    let accounting = accounting(&mut rest, &mut left)?;
    let mut hook = |key: &str| rest.remove(key);
    let hooks = Hooks {
        prolog: hook("prolog"),
        epilog: hook("epilog"),
        controller_prolog: hook("prologslurmctld"),
        controller_epilog: hook("epilogslurmctld"),
    };
    let cluster = Cluster {
        name,
        controllers: slurm.controllers.iter().map(|text| controller(text)).collect(),
        login: Vec::new(),
        accounting,
        pools,
        partitions,
        accounts: Vec::new(),
        qos: Vec::new(),
        admins: BTreeMap::new(),
        hooks,
        parameters: rest,
        lines: slurm.others.clone(),
        gres_lines,
    };
    Ok(Adopted { cluster, left })
}

/// `ctl(10.0.0.1)`.
fn controller(text: &str) -> Host {
    match text.split_once('(') {
        Some((name, address)) => Host {
            name: name.to_owned(),
            address: Some(address.trim_end_matches(')').to_owned()),
            port: None,
        },
        None => Host { name: text.to_owned(), address: None, port: None },
    }
}

/// The nodes of each partition.
fn members(slurm: &Conf) -> Result<BTreeMap<&str, BTreeSet<String>>, Unadoptable> {
    let (mut all, mut count) = (BTreeMap::new(), 0);
    for (name, fields) in &slurm.partitions {
        let list = fields.get("nodes").map(String::as_str).unwrap_or_default();
        let nodes: BTreeSet<String> = if list.eq_ignore_ascii_case("all") {
            slurm.nodes.keys().cloned().collect()
        } else {
            let names = hostlist::expand(list)
                .map_err(|error| Unadoptable(format!("partition {name}: {error}")))?;
            names.into_iter().collect()
        };
        if let Some(other) = nodes.iter().find(|node| !slurm.nodes.contains_key(*node)) {
            return Err(Unadoptable(format!(
                "partition {name} has {other}, which is no node here: name its nodes instead of a set"
            )));
        }
        count += nodes.len();
        if count > MEMBERS_MAX {
            return Err(Unadoptable(format!("its partitions have more than {MEMBERS_MAX} nodes")));
        }
        all.insert(name.as_str(), nodes);
    }
    Ok(all)
}

/// The files of each node's resources, by node and by `name:type`.
type Devices = BTreeMap<String, BTreeMap<String, Vec<Vec<String>>>>;

/// Lines that are of no node, as `AutoDetect=nvml`, are kept whole.
fn devices(
    gres: &str,
    whole: &mut Vec<String>,
    left: &mut Vec<String>,
) -> Result<Devices, Unadoptable> {
    let mut all = Devices::new();
    for line in conf::lines(gres) {
        let fields: Fields = line
            .pairs
            .iter()
            .map(|(key, value)| (key.to_ascii_lowercase(), value.clone()))
            .collect();
        let of = |key: &str| fields.get(key).map(String::as_str).unwrap_or_default();
        let told = || format!("gres.conf line {}: {}", line.number, conf::spelled(&line.pairs));
        if fields.contains_key("include") {
            left.push(told());
            continue;
        }
        if !fields.contains_key("nodename") && !fields.contains_key("name") {
            whole.push(conf::spelled(&line.pairs));
            continue;
        }
        if of("nodename").is_empty() || of("name").is_empty() {
            left.push(told());
            continue;
        }
        let known = ["nodename", "name", "type", "file", "multiplefiles", "count"];
        if fields.keys().any(|key| !known.contains(&key.as_str())) {
            left.push(told());
        }
        let wrong = |error: hostlist::HostlistError| {
            Unadoptable(format!("gres.conf line {}: {error}", line.number))
        };
        let kind = match of("type") {
            "" => of("name").to_owned(),
            kind => format!("{}:{kind}", of("name")),
        };
        let single = hostlist::expand(of("file")).map_err(wrong)?.into_iter().map(|one| vec![one]);
        let several = hostlist::expand(of("multiplefiles")).map_err(wrong)?;
        let files: Vec<Vec<String>> =
            single.chain((!several.is_empty()).then_some(several)).collect();
        for node in hostlist::expand(of("nodename")).map_err(wrong)? {
            all.entry(node).or_default().entry(kind.clone()).or_default().extend(files.clone());
        }
    }
    Ok(all)
}

fn pools(
    slurm: &Conf,
    members: &BTreeMap<&str, BTreeSet<String>>,
    devices: &Devices,
) -> Result<Vec<Pool>, Unadoptable> {
    let mut groups: BTreeMap<Kind, Vec<Host>> = BTreeMap::new();
    for (name, fields) in &slurm.nodes {
        let of = |key: &str| fields.get(key).cloned();
        let port = of("port").and_then(|text| text.parse().ok());
        let host = Host { name: name.clone(), address: of("nodeaddr"), port };
        let kind = kind(name, fields, members, devices)?;
        groups.entry(kind).or_default().push(host);
    }
    let mut taken = BTreeSet::new();
    Ok(groups.into_iter().map(|(kind, nodes)| pool(kind, nodes, &mut taken)).collect())
}

fn number<T: std::str::FromStr>(
    node: &str,
    fields: &Fields,
    key: &str,
) -> Result<Option<T>, Unadoptable> {
    let Some(text) = fields.get(key) else { return Ok(None) };
    let parsed = text.parse().map_err(|_| Unadoptable(format!("{key} of {node} is `{text}`")))?;
    Ok(Some(parsed))
}

fn kind(
    name: &str,
    fields: &Fields,
    members: &BTreeMap<&str, BTreeSet<String>>,
    devices: &Devices,
) -> Result<Kind, Unadoptable> {
    let of = |key: &str| number::<u32>(name, fields, key);
    let (sockets, cores, threads) = (of("sockets")?, of("corespersocket")?, of("threadspercore")?);
    let topology = (sockets.is_some() || cores.is_some() || threads.is_some())
        .then(|| (sockets.unwrap_or(1), cores.unwrap_or(1), threads.unwrap_or(1)));
    let product = topology.map_or(1, |(s, c, t)| s.saturating_mul(c).saturating_mul(t));
    let list = fields.get("feature").or_else(|| fields.get("features")).cloned();
    Ok(Kind {
        cpus: of("cpus")?.unwrap_or(product),
        topology,
        // slurm.conf(5): "The default value is 1".
        memory_mib: number(name, fields, "realmemory")?.unwrap_or(1),
        gres: fields.get("gres").cloned().unwrap_or_default(),
        devices: devices.get(name).cloned().unwrap_or_default().into_iter().collect(),
        features: list
            .unwrap_or_default()
            .split(',')
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect(),
        weight: of("weight")?.unwrap_or(1),
        others: others(fields, NODE_FIELDS),
        partitions: members
            .iter()
            .filter(|(_, nodes)| nodes.contains(name))
            .map(|(name, _)| (*name).to_owned())
            .collect(),
    })
}

fn pool(kind: Kind, nodes: Vec<Host>, taken: &mut BTreeSet<String>) -> Pool {
    let first = nodes.first().map(|node| node.name.as_str()).unwrap_or_default();
    let stem = first.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
    let stem = if stem.is_empty() { "pool" } else { stem };
    let mut name = stem.to_owned();
    let mut count = 2;
    while !taken.insert(name.clone()) {
        name = format!("{stem}-{count}");
        count += 1;
    }
    let devices: BTreeMap<String, Vec<Vec<String>>> = kind.devices.into_iter().collect();
    let gres = crate::resources::counts(&kind.gres)
        .into_iter()
        .map(|(which, count)| {
            let (name, of_kind) =
                which.split_once(':').map_or((which.as_str(), None), |(n, k)| (n, Some(k)));
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let files = devices.get(&which).cloned().unwrap_or_default();
            Gres {
                name: name.to_owned(),
                kind: of_kind.map(str::to_owned),
                count,
                devices: if files.len() == count as usize { files } else { Vec::new() },
            }
        })
        .collect();
    Pool {
        name,
        nodes,
        cpus: kind.cpus,
        topology: kind.topology.map(|(sockets, cores, threads)| Topology {
            sockets,
            cores,
            threads,
        }),
        memory_mib: kind.memory_mib,
        gres,
        features: kind.features,
        weight: kind.weight,
        parameters: kind.others,
    }
}

/// The fields that have no field of ours.
fn others(fields: &Fields, known: &[&str]) -> BTreeMap<String, String> {
    let others = fields.iter().filter(|(key, _)| !known.contains(&key.as_str()));
    others.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn partition(
    name: &str,
    fields: &Fields,
    pools: &[Pool],
    members: &BTreeSet<String>,
    left: &mut Vec<String>,
) -> Result<Partition, Unadoptable> {
    let time = |key: &str| match fields.get(key).map(|text| minutes(text)) {
        None => Ok(None),
        Some(Ok(limit)) => Ok(limit.and_then(|limit| u32::try_from(limit).ok())),
        Some(Err(text)) if text.eq_ignore_ascii_case("none") => Ok(None),
        Some(Err(text)) => Err(Unadoptable(format!("{key} of partition {name} is `{text}`"))),
    };
    let words = |key: &str| -> BTreeSet<String> {
        let list = fields.get(key).filter(|list| !list.eq_ignore_ascii_case("all"));
        let words = list.map(String::as_str).unwrap_or_default().split(',');
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let says = |key: &str, word: &str| {
        fields.get(key).is_some_and(|value| value.eq_ignore_ascii_case(word))
    };
    let state = fields.get("state").map(String::as_str).unwrap_or("UP");
    if !["UP", "DOWN"].iter().any(|word| state.eq_ignore_ascii_case(word)) {
        left.push(format!("state={state} of partition {name}"));
    }
    Ok(Partition {
        name: name.to_owned(),
        pools: pools
            .iter()
            .filter(|pool| pool.names().any(|node| members.contains(node)))
            .map(|pool| pool.name.clone())
            .collect(),
        default: says("default", "yes"),
        max_minutes: time("maxtime")?,
        default_minutes: time("defaulttime")?,
        priority_tier: number(name, fields, "prioritytier")?.unwrap_or(1),
        accounts: words("allowaccounts"),
        qos: words("allowqos"),
        groups: words("allowgroups"),
        up: !says("state", "down"),
        parameters: others(fields, PARTITION_FIELDS),
    })
}

fn accounting(
    rest: &mut Fields,
    left: &mut Vec<String>,
) -> Result<Option<Accounting>, Unadoptable> {
    let host = rest.remove("accountingstoragehost");
    let port = rest.remove("accountingstorageport");
    let enforced = rest.remove("accountingstorageenforce");
    // Follows from the socket of munge.
    rest.remove("accountingstoragepass");
    let Some(name) = host else { return Ok(None) };
    left.push("the database behind slurmdbd, which slurmdbd.conf names".to_owned());
    let mut enforce = BTreeSet::new();
    for word in enforced.unwrap_or_default().split(',').filter(|word| !word.is_empty()) {
        enforce.insert(match word.to_ascii_lowercase().as_str() {
            "associations" => Enforce::Associations,
            "limits" => Enforce::Limits,
            "qos" => Enforce::Qos,
            "safe" => Enforce::Safe,
            other => {
                left.push(format!("accountingstorageenforce={other}"));
                continue;
            }
        });
    }
    let port = port.map(|text| text.parse().map_err(|_| Unadoptable(format!("port `{text}`"))));
    let port = port.transpose()?.filter(|port| *port != DBD_PORT);
    let database =
        Database { host: "localhost".into(), name: "slurm_acct_db".into(), user: "slurm".into() };
    Ok(Some(Accounting { host: Host { name, address: None, port }, database, enforce }))
}

#[cfg(test)]
mod tests;
