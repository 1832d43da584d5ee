//! A wish as the files that Slurm reads. The same wish gives the same bytes; no file holds a secret,
//! and nothing is written anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::conf;
use crate::hostlist::compress;
use crate::release::Shape;
use crate::wish::{
    self, Accounting, Cluster, DBD_PORT, Enforce, Gres, Host, Partition, Pool, WishFault,
};

/// The files of a cluster, all of them the same on each machine but `slurmdbd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// `slurm.conf`; everybody reads it.
    pub slurm: String,
    /// `gres.conf`.
    pub gres: String,
    /// `cgroup.conf`.
    pub cgroup: String,
    /// `slurmdbd.conf` of the accounting machine, mode 600. Who holds the database's password adds
    /// `StoragePass=…` at the end, where one is needed.
    pub slurmdbd: Option<String>,
}

/// Why a wish is not rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cluster cannot be written down: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Unsound(pub Vec<WishFault>);

/// What we say where a wish says nothing: memory and cores are shared out, jobs are kept in their
/// bounds by cgroups, and a node that was gone comes back by itself only if it was not taken out.
pub(crate) const DEFAULTS: &[(&str, &str)] = &[
    ("AuthType", "auth/munge"),
    ("CredType", "cred/munge"),
    ("JobAcctGatherType", "jobacct_gather/cgroup"),
    ("MpiDefault", "none"),
    ("ProctrackType", "proctrack/cgroup"),
    ("ReturnToService", "1"),
    ("SchedulerType", "sched/backfill"),
    ("SelectType", "select/cons_tres"),
    ("SelectTypeParameters", "CR_Core_Memory"),
    ("SlurmUser", "slurm"),
    ("SlurmctldLogFile", "/var/log/slurm/slurmctld.log"),
    ("SlurmctldPidFile", "/run/slurmctld.pid"),
    ("SlurmctldPort", "6817"),
    ("SlurmdLogFile", "/var/log/slurm/slurmd.log"),
    ("SlurmdPidFile", "/run/slurmd.pid"),
    ("SlurmdPort", "6818"),
    ("SlurmdSpoolDir", "/var/spool/slurmd"),
    ("StateSaveLocation", "/var/spool/slurmctld"),
    ("TaskPlugin", "task/affinity,task/cgroup"),
];

const HEAD: &str = "# Written by trueup from the repository; what is changed here is undone.\n";

/// The files of a wish, for one release.
///
/// # Errors
/// [`Unsound`], with every mistake.
pub fn render(wish: &Cluster, shape: Shape) -> Result<Files, Unsound> {
    let faults = wish::check(wish);
    if !faults.is_empty() {
        return Err(Unsound(faults));
    }
    Ok(Files {
        slurm: slurm(wish),
        gres: gres(wish),
        cgroup: cgroup(shape),
        slurmdbd: wish.accounting.as_ref().map(|accounting| slurmdbd(wish, accounting)),
    })
}

fn slurm(wish: &Cluster) -> String {
    let mut text = HEAD.to_owned();
    line(&mut text, &[("ClusterName", wish.name.clone())]);
    for host in &wish.controllers {
        let address = host.address.as_ref().map(|at| format!("({at})")).unwrap_or_default();
        line(&mut text, &[("SlurmctldHost", format!("{}{address}", host.name))]);
    }
    for (key, value) in parameters(wish).into_values() {
        line(&mut text, &[(&key, value)]);
    }
    for pool in &wish.pools {
        text.push('\n');
        nodes(&mut text, pool);
    }
    text.push('\n');
    for partition in &wish.partitions {
        line(&mut text, &queue(wish, partition));
    }
    extra_lines(&mut text, &wish.lines);
    text
}

/// One line of pairs.
fn line(text: &mut String, pairs: &[(&str, String)]) {
    text.push_str(&conf::spelled(pairs));
    text.push('\n');
}

/// All parameters by name in lower case, with the name as written: our defaults, what follows from
/// fields, and the wish's own over them.
fn parameters(wish: &Cluster) -> BTreeMap<String, (String, String)> {
    let mut all: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut put = |key: &str, value: String| {
        all.insert(key.to_ascii_lowercase(), (key.to_owned(), value));
    };
    for (key, value) in DEFAULTS {
        put(key, (*value).to_owned());
    }
    let types = wish.gres_types();
    if !types.is_empty() {
        put("GresTypes", types.iter().copied().collect::<Vec<_>>().join(","));
    }
    for (key, program) in [
        ("Prolog", &wish.hooks.prolog),
        ("Epilog", &wish.hooks.epilog),
        ("PrologSlurmctld", &wish.hooks.controller_prolog),
        ("EpilogSlurmctld", &wish.hooks.controller_epilog),
    ] {
        if let Some(program) = program {
            put(key, program.clone());
        }
    }
    if let Some(accounting) = &wish.accounting {
        put("AccountingStorageType", "accounting_storage/slurmdbd".to_owned());
        put("AccountingStorageHost", reached(&accounting.host).to_owned());
        put("AccountingStoragePort", accounting.host.port.unwrap_or(DBD_PORT).to_string());
        // To slurmdbd this is no password but munge's socket (slurm.conf(5), `AccountingStoragePass`).
        let info = wish.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case("AuthInfo"));
        let socket = info.and_then(|(_, list)| {
            list.split(',').find_map(|one| one.trim().strip_prefix("socket="))
        });
        if let Some(socket) = socket {
            put("AccountingStoragePass", socket.to_owned());
        }
        if !accounting.enforce.is_empty() {
            let words: Vec<&str> = accounting.enforce.iter().map(|one| word(*one)).collect();
            put("AccountingStorageEnforce", words.join(","));
            put("PriorityType", "priority/multifactor".to_owned());
        }
        let tres = tres(wish);
        if !tres.is_empty() {
            put("AccountingStorageTRES", tres.into_iter().collect::<Vec<_>>().join(","));
        }
    }
    for (key, value) in &wish.parameters {
        put(key, value.clone());
    }
    all
}

fn word(enforce: Enforce) -> &'static str {
    match enforce {
        Enforce::Associations => "associations",
        Enforce::Limits => "limits",
        Enforce::Qos => "qos",
        Enforce::Safe => "safe",
    }
}

/// What is accounted beyond processors and memory: each resource, and each type of it.
fn tres(wish: &Cluster) -> BTreeSet<String> {
    let every = || wish.pools.iter().flat_map(|pool| &pool.gres);
    let plain = every().map(|gres| format!("gres/{}", gres.name));
    let typed = every()
        .filter_map(|gres| gres.kind.as_ref().map(|kind| format!("gres/{}:{kind}", gres.name)));
    plain.chain(typed).collect()
}

fn reached(host: &Host) -> &str {
    host.address.as_deref().unwrap_or(&host.name)
}

/// The lines of a pool: one for all nodes that differ in nothing but the name.
fn nodes(text: &mut String, pool: &Pool) {
    // Of a thousand nodes with an address each, this is the same.
    let common = conf::spelled(&shared(pool));
    let mut alike: Vec<&str> = Vec::new();
    let mut one = |name: &str, own: Vec<(&str, String)>| {
        let mut pairs = vec![("NodeName", name.to_owned())];
        pairs.extend(own);
        text.push_str(&conf::spelled(&pairs));
        text.push(' ');
        text.push_str(&common);
        text.push('\n');
    };
    for node in &pool.nodes {
        let mut own = Vec::new();
        if let Some(address) = &node.address {
            own.push(("NodeAddr", address.clone()));
        }
        if let Some(port) = node.port {
            // Several daemons on one machine tell each other apart by their ports.
            own.push(("NodeHostname", "localhost".to_owned()));
            own.push(("Port", port.to_string()));
        }
        if own.is_empty() {
            alike.push(&node.name);
        } else {
            one(&node.name, own);
        }
    }
    if !alike.is_empty() {
        one(&compress(alike), Vec::new());
    }
}

/// What the nodes of a pool have in common.
fn shared(pool: &Pool) -> Vec<(&str, String)> {
    let mut pairs = vec![("CPUs", pool.cpus.to_string())];
    if let Some(lie) = pool.topology {
        pairs.push(("Sockets", lie.sockets.to_string()));
        pairs.push(("CoresPerSocket", lie.cores.to_string()));
        pairs.push(("ThreadsPerCore", lie.threads.to_string()));
    }
    pairs.push(("RealMemory", pool.memory_mib.to_string()));
    if !pool.gres.is_empty() {
        pairs.push(("Gres", pool.gres.iter().map(counted).collect::<Vec<_>>().join(",")));
    }
    if !pool.features.is_empty() {
        let features: Vec<&str> = pool.features.iter().map(String::as_str).collect();
        pairs.push(("Feature", features.join(",")));
    }
    pairs.push(("Weight", pool.weight.to_string()));
    pairs.extend(pool.parameters.iter().map(|(key, value)| (key.as_str(), value.clone())));
    pairs.push(("State", "UNKNOWN".to_owned()));
    pairs
}

fn counted(gres: &Gres) -> String {
    match &gres.kind {
        Some(kind) => format!("{}:{kind}:{}", gres.name, gres.count),
        None => format!("{}:{}", gres.name, gres.count),
    }
}

fn queue<'a>(wish: &Cluster, partition: &'a Partition) -> Vec<(&'a str, String)> {
    let nodes = wish
        .pools
        .iter()
        .filter(|pool| partition.pools.contains(&pool.name))
        .flat_map(|pool| pool.nodes.iter().map(|node| node.name.as_str()));
    let list = |words: &BTreeSet<String>| words.iter().cloned().collect::<Vec<_>>().join(",");
    let minutes = |of: Option<u32>| of.map_or_else(|| "UNLIMITED".to_owned(), |m| m.to_string());
    let mut pairs = vec![
        ("PartitionName", partition.name.clone()),
        ("Nodes", compress(nodes)),
        ("Default", if partition.default { "YES" } else { "NO" }.to_owned()),
        ("MaxTime", minutes(partition.max_minutes)),
    ];
    if let Some(minutes) = partition.default_minutes {
        pairs.push(("DefaultTime", minutes.to_string()));
    }
    pairs.push(("PriorityTier", partition.priority_tier.to_string()));
    if !partition.accounts.is_empty() {
        pairs.push(("AllowAccounts", list(&partition.accounts)));
    }
    if !partition.qos.is_empty() {
        pairs.push(("AllowQos", list(&partition.qos)));
    }
    if !partition.groups.is_empty() {
        pairs.push(("AllowGroups", list(&partition.groups)));
    }
    pairs.extend(partition.parameters.iter().map(|(key, value)| (key.as_str(), value.clone())));
    pairs.push(("State", if partition.up { "UP" } else { "DOWN" }.to_owned()));
    pairs
}

/// A line for each resource of each pool; a MIG instance has several files and a line of its own.
fn gres(wish: &Cluster) -> String {
    let mut text = HEAD.to_owned();
    for pool in wish.pools.iter().filter(|pool| !pool.gres.is_empty()) {
        let names = compress(pool.nodes.iter().map(|node| node.name.as_str()));
        for gres in &pool.gres {
            let mut head = vec![("NodeName", names.clone()), ("Name", gres.name.clone())];
            if let Some(kind) = &gres.kind {
                head.push(("Type", kind.clone()));
            }
            if gres.devices.is_empty() {
                head.push(("Count", gres.count.to_string()));
                line(&mut text, &head);
            }
            for files in &gres.devices {
                let key = if files.len() == 1 { "File" } else { "MultipleFiles" };
                let mut pairs = head.clone();
                pairs.push((key, files.join(",")));
                line(&mut text, &pairs);
            }
        }
    }
    extra_lines(&mut text, &wish.gres_lines);
    text
}

/// Lines that somebody wrote whole, spelled as ours are.
fn extra_lines(text: &mut String, lines: &[String]) {
    for parsed in lines.iter().flat_map(|line| conf::lines(line)) {
        text.push_str(&conf::spelled(&parsed.pairs));
        text.push('\n');
    }
}

/// Jobs get the cores, the memory and the devices that they asked for, and no others.
fn cgroup(shape: Shape) -> String {
    let mut text = HEAD.to_owned();
    if shape == Shape::V22_05 {
        // Later releases know of no other way, and say so of each file that has it (cgroup.conf(5)).
        text.push_str("CgroupAutomount=yes\n");
    }
    for key in ["ConstrainCores", "ConstrainDevices", "ConstrainRAMSpace"] {
        let written = writeln!(text, "{key}=yes");
        debug_assert!(written.is_ok(), "writing into a string does not fail");
    }
    text
}

fn slurmdbd(wish: &Cluster, accounting: &Accounting) -> String {
    let all = parameters(wish);
    let of = |key: &str| all.get(&key.to_ascii_lowercase()).map(|(_, value)| value.clone());
    let mut text = HEAD.to_owned();
    let mut put = |key: &str, value: String| line(&mut text, &[(key, value)]);
    put("AuthType", of("AuthType").unwrap_or_default());
    if let Some(info) = of("AuthInfo") {
        put("AuthInfo", info);
    }
    put("DbdHost", accounting.host.name.clone());
    put("DbdPort", accounting.host.port.unwrap_or(DBD_PORT).to_string());
    put("LogFile", "/var/log/slurm/slurmdbd.log".to_owned());
    put("PidFile", "/run/slurmdbd.pid".to_owned());
    put("SlurmUser", of("SlurmUser").unwrap_or_default());
    put("StorageType", "accounting_storage/mysql".to_owned());
    put("StorageHost", accounting.database.host.clone());
    put("StorageLoc", accounting.database.name.clone());
    put("StorageUser", accounting.database.user.clone());
    text
}

#[cfg(test)]
mod tests;
