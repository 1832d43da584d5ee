//! What is wrong with a wish, all of it at once and each with the path of its field. It judges the
//! wish alone; what a controller would say of the files is for [`crate::Prover`].

mod accounts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use self::accounts::accounts;
use super::{Cluster, Gres, Host, Partition, Pool};
use crate::adopt::{NODE_FIELDS, PARTITION_FIELDS};
use crate::{conf, hostlist};

/// Longest name of a node: a host name's limit (RFC 1035: 63 octets a label).
const NAME_MAX: usize = 63;
/// More processors than a machine has; a slip of the keyboard is found here.
const CPUS_MAX: u32 = 4096;
/// 64 TiB, likewise.
const MEMORY_MIB_MAX: u64 = 64 << 20;
/// Names that are told of those that would have been right.
const KNOWN_MAX: usize = 12;
/// slurmdbd's own default (slurmdbd.conf(5), `DbdPort`).
pub(crate) const DBD_PORT: u16 = 6819;

/// Parameters that follow from fields of the wish, in lower case, and the field to use.
const RESERVED: &[(&str, &str)] = &[
    ("clustername", "name"),
    ("slurmctldhost", "controllers"),
    ("controlmachine", "controllers"),
    ("grestypes", "pools[].gres"),
    ("nodename", "pools"),
    ("partitionname", "partitions"),
    ("accountingstoragetype", "accounting"),
    ("accountingstoragehost", "accounting.host"),
    ("accountingstorageport", "accounting.host.port"),
    ("accountingstorageenforce", "accounting.enforce"),
    ("accountingstoragetres", "pools[].gres"),
    ("prolog", "hooks.prolog"),
    ("epilog", "hooks.epilog"),
    ("prologslurmctld", "hooks.controllerProlog"),
    ("epilogslurmctld", "hooks.controllerEpilog"),
];

/// What `PrivateData` can hide (slurm.conf(5)). The controller takes any other word without a complaint,
/// and hides nothing for it.
const PRIVATE: &[&str] =
    &["accounts", "events", "jobs", "nodes", "partitions", "reservations", "usage", "users"];

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct WishFault {
    /// The field: `pools[1].gres[0].count`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Collects mistakes.
struct Faults(Vec<WishFault>);

impl Faults {
    fn add(&mut self, path: impl fmt::Display, message: impl Into<String>) {
        self.0.push(WishFault { path: path.to_string(), message: message.into() });
    }

    fn name(&mut self, path: impl fmt::Display, name: &str) {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fits) {
            self.add(
                path,
                format!("`{name}` is no name: 1 to {NAME_MAX} of a-z, 0-9, `-`, `_`, `.`"),
            );
        } else if name.starts_with('-') {
            // `restartNode` gives names to a program.
            self.add(
                path,
                format!("`{name}` begins with `-`: programs would take it for an option"),
            );
        } else if ["all", "default"].iter().any(|word| name.eq_ignore_ascii_case(word)) {
            self.add(path, format!("`{name}` means something else to Slurm: take another name"));
        }
    }

    fn value(&mut self, path: impl fmt::Display, value: &str) {
        let ends_it = |c: char| c.is_control() || matches!(c, '"' | '#' | '\\');
        if value.is_empty() || value.contains(ends_it) {
            self.add(path, "the value is empty, or has a line break, `\"`, `#` or `\\` in it");
        }
    }

    /// Where a machine is reached: it is given to ssh and Ansible too, which start programs by it.
    fn address(&mut self, path: impl fmt::Display, address: &str) {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '%');
        // No name of a host ends in a number (RFC 1123, 2.1).
        let numbers = address.chars().all(|c| c.is_ascii_digit() || c == '.');
        let is_none = numbers && address.parse::<IpAddr>().is_err();
        if address.is_empty() || address.starts_with('-') || !address.chars().all(fits) || is_none {
            let shown = address.escape_debug();
            self.add(path, format!("`{shown}` is neither an IP address nor a name of a host"));
        }
    }

    /// A line of a file of its own. What another file says would not be proved, and of one that is not
    /// Slurm's the programs would repeat the words in their complaints.
    fn include(&mut self, path: impl fmt::Display, key: &str) {
        if key.eq_ignore_ascii_case("include") {
            self.add(path, "an included file would not be proved: put its lines here");
        }
    }

    fn word(&mut self, path: impl fmt::Display, value: &str) {
        if value.contains(char::is_whitespace) || value.contains([',', '=']) {
            self.add(path, format!("`{value}` has a blank, `,` or `=` in it"));
        } else {
            self.value(path, value);
        }
    }
}

/// What there is instead, after a comma; the first few of many.
fn known<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => String::new(),
        some => {
            let more = if some > KNOWN_MAX { ", …" } else { "" };
            format!(", only {}{more}", names[..some.min(KNOWN_MAX)].join(", "))
        }
    }
}

/// Everything that is wrong with a wish; empty where it can be rendered.
#[must_use]
pub fn check(wish: &Cluster) -> Vec<WishFault> {
    let mut faults = Faults(Vec::new());
    faults.name("name", &wish.name);
    controllers(wish, &mut faults);
    pools(wish, &mut faults);
    partitions(wish, &mut faults);
    accounts(wish, &mut faults);
    parameters(wish, &mut faults);
    faults.0
}

fn host(path: &str, host: &Host, faults: &mut Faults) {
    faults.name(format_args!("{path}.name"), &host.name);
    if let Some(address) = &host.address {
        faults.address(format_args!("{path}.address"), address);
    }
    if host.port == Some(0) {
        faults.add(format_args!("{path}.port"), "0 is no port");
    }
}

fn controllers(wish: &Cluster, faults: &mut Faults) {
    if wish.controllers.is_empty() || wish.controllers.len() > 2 {
        faults.add("controllers", "`controllers` has to be one, or one and its backup");
    }
    let mut seen = BTreeSet::new();
    for (at, one) in wish.controllers.iter().enumerate() {
        host(&format!("controllers[{at}]"), one, faults);
        if !seen.insert(&one.name) {
            faults.add(
                format_args!("controllers[{at}].name"),
                format!("`{}` is there twice", one.name),
            );
        }
    }
    for (at, one) in wish.login.iter().enumerate() {
        host(&format!("login[{at}]"), one, faults);
    }
    if let Some(accounting) = &wish.accounting {
        host("accounting.host", &accounting.host, faults);
        let database = &accounting.database;
        for (field, value) in
            [("host", &database.host), ("name", &database.name), ("user", &database.user)]
        {
            faults.word(format_args!("accounting.database.{field}"), value);
        }
    }
    let hooks = &wish.hooks;
    for (field, program) in [
        ("prolog", &hooks.prolog),
        ("epilog", &hooks.epilog),
        ("controllerProlog", &hooks.controller_prolog),
        ("controllerEpilog", &hooks.controller_epilog),
    ] {
        if let Some(program) = program {
            faults.word(format_args!("hooks.{field}"), program);
            if !program.starts_with('/') {
                faults
                    .add(format_args!("hooks.{field}"), format!("`{program}` is no absolute path"));
            }
        }
    }
}

fn pools(wish: &Cluster, faults: &mut Faults) {
    let mut names = BTreeSet::new();
    let mut nodes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut doubled: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
    let mut places: BTreeMap<(&str, u16), String> = BTreeMap::new();
    if wish.pools.is_empty() {
        faults.add("pools", "a cluster without a node runs nothing");
    }
    for (at, pool) in wish.pools.iter().enumerate() {
        let path = format!("pools[{at}]");
        faults.name(format_args!("{path}.name"), &pool.name);
        if !names.insert(&pool.name) {
            faults.add(format_args!("{path}.name"), format!("pool `{}` is there twice", pool.name));
        }
        for (n, node) in pool.nodes.iter().enumerate() {
            let path = format!("{path}.nodes[{n}]");
            host(&path, node, faults);
            if let Some(first) = nodes.insert(&node.name, at) {
                doubled.entry((at, first)).or_default().push(&node.name);
            }
            if let (Some(address), Some(port)) = (&node.address, node.port)
                && let Some(first) = places.insert((address, port), path.clone())
            {
                let message = format!("{address} port {port} is also that of {first}");
                faults.add(format_args!("{path}.port"), message);
            }
        }
        sizes(&path, pool, faults);
    }
    for ((at, first), names) in doubled {
        let message = match at == first {
            true => format!("{} is there twice", hostlist::compress(names)),
            false => {
                let other = &wish.pools[first].name;
                format!("{} is in pool `{other}` already", hostlist::compress(names))
            }
        };
        faults.add(format_args!("pools[{at}].nodes"), message);
    }
}

fn sizes(path: &str, pool: &Pool, faults: &mut Faults) {
    if pool.cpus == 0 || pool.cpus > CPUS_MAX {
        faults.add(format_args!("{path}.cpus"), format!("`cpus` has to be 1 to {CPUS_MAX}"));
    }
    if let Some(lie) = pool.topology {
        let of = u64::from(lie.sockets) * u64::from(lie.cores) * u64::from(lie.threads);
        if of != u64::from(pool.cpus) {
            faults.add(
                format_args!("{path}.topology"),
                format!("`topology` is {of} processors, and `cpus` says {}", pool.cpus),
            );
        }
    }
    if pool.memory_mib == 0 || pool.memory_mib > MEMORY_MIB_MAX {
        faults.add(format_args!("{path}.memoryMib"), "`memory` has to be 1 MiB to 64 TiB");
    }
    for feature in &pool.features {
        faults.name(format_args!("{path}.features"), feature);
    }
    fields(path, &pool.parameters, NODE_FIELDS, faults);
    let mut kinds = BTreeSet::new();
    for (at, gres) in pool.gres.iter().enumerate() {
        let path = format!("{path}.gres[{at}]");
        one_gres(&path, gres, faults);
        if !kinds.insert((&gres.name, &gres.kind)) {
            faults.add(path, "the same name and type are there twice: add up their counts");
        }
    }
}

fn one_gres(path: &str, gres: &Gres, faults: &mut Faults) {
    faults.name(format_args!("{path}.name"), &gres.name);
    if let Some(kind) = &gres.kind {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
        if kind.is_empty() || !kind.chars().all(fits) {
            faults.add(format_args!("{path}.type"), format!("`{kind}` is no type of a resource"));
        }
    }
    if gres.count == 0 {
        faults.add(format_args!("{path}.count"), "`count` has to be at least 1");
    }
    if !gres.devices.is_empty() && gres.devices.len() != gres.count as usize {
        let message =
            format!("`devices` lists {}, and `count` says {}", gres.devices.len(), gres.count);
        faults.add(format_args!("{path}.devices"), message);
    }
    for (at, files) in gres.devices.iter().enumerate() {
        let path = format!("{path}.devices[{at}]");
        if files.is_empty() {
            faults.add(&path, "an entry of `devices` names no file");
        }
        for file in files {
            faults.word(&path, file);
            if !file.starts_with('/') {
                faults.add(&path, format!("`{file}` is no absolute path"));
            }
        }
    }
}

/// Fields of a line of `slurm.conf` by name: none that has a field here.
fn fields(path: &str, all: &BTreeMap<String, String>, own: &[&str], faults: &mut Faults) {
    for (name, value) in all {
        let path = format!("{path}.parameters.{name}");
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            faults.add(&path, format!("`{name}` is no name of a parameter"));
        } else if own.iter().any(|one| one.eq_ignore_ascii_case(name)) {
            faults.add(
                &path,
                format!("`{name}` has a field of its own beside `parameters`: say it there"),
            );
        } else if ["nodename", "partitionname"].iter().any(|one| one.eq_ignore_ascii_case(name)) {
            faults.add(
                &path,
                format!("`{name}` begins a line of its own, and this is a part of one"),
            );
        }
        faults.value(&path, value);
    }
}

fn partitions(wish: &Cluster, faults: &mut Faults) {
    let pools: BTreeMap<&str, &Pool> =
        wish.pools.iter().map(|pool| (pool.name.as_str(), pool)).collect();
    let accounts: BTreeSet<&str> = wish.accounts.iter().map(|one| one.name.as_str()).collect();
    let mut names = BTreeSet::new();
    let mut default: Option<&str> = None;
    for (at, partition) in wish.partitions.iter().enumerate() {
        let path = format!("partitions[{at}]");
        faults.name(format_args!("{path}.name"), &partition.name);
        if !names.insert(&partition.name) {
            faults.add(format_args!("{path}.name"), format!("`{}` is there twice", partition.name));
        }
        for (n, pool) in partition.pools.iter().enumerate() {
            if !pools.contains_key(pool.as_str()) {
                let message = format!("there is no pool `{pool}`{}", known(pools.keys().copied()));
                faults.add(format_args!("{path}.pools[{n}]"), message);
            }
        }
        let empty = |pool: &String| pools.get(pool.as_str()).is_some_and(|it| it.nodes.is_empty());
        if !partition.pools.is_empty() && partition.pools.iter().all(empty) {
            faults.add(
                format_args!("{path}.pools"),
                "`pools` have no node, and Slurm takes no partition without one",
            );
        }
        fields(&path, &partition.parameters, PARTITION_FIELDS, faults);
        if partition.default
            && let Some(other) = default.replace(&partition.name)
        {
            faults.add(format_args!("{path}.default"), format!("`{other}` is the default already"));
        }
        times(&path, partition, faults);
        if !accounts.is_empty() {
            for account in partition.accounts.iter().filter(|one| !accounts.contains(one.as_str()))
            {
                let known = known(accounts.iter().copied());
                faults.add(
                    format_args!("{path}.accounts"),
                    format!("there is no account `{account}`{known}"),
                );
            }
        }
        for (field, words) in [
            ("accounts", &partition.accounts),
            ("qos", &partition.qos),
            ("groups", &partition.groups),
        ] {
            for word in words {
                faults.word(format_args!("{path}.{field}"), word);
            }
        }
    }
}

fn times(path: &str, partition: &Partition, faults: &mut Faults) {
    if partition.max_minutes == Some(0) {
        faults
            .add(format_args!("{path}.maxMinutes"), "0 lets no job run: leave it out for no limit");
    }
    if let (Some(max), Some(default)) = (partition.max_minutes, partition.default_minutes)
        && default > max
    {
        faults.add(
            format_args!("{path}.defaultMinutes"),
            format!("the default time is more than the longest, {max} minutes"),
        );
    }
    if partition.pools.is_empty() {
        faults.add(format_args!("{path}.pools"), "`pools` names no pool");
    }
}

fn parameters(wish: &Cluster, faults: &mut Faults) {
    for (name, value) in &wish.parameters {
        let path = format!("parameters.{name}");
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            faults.add(&path, format!("`{name}` is no name of a parameter"));
        }
        reserved(&path, name, faults);
        faults.value(&path, value);
        if name.eq_ignore_ascii_case("PrivateData") {
            private(&path, value, faults);
        }
    }
    for (at, line) in wish.lines.iter().enumerate() {
        let path = format!("lines[{at}]");
        faults.value(&path, &line.replace('"', ""));
        // All of a line: Slurm reads `DebugFlags=x PartitionName=y` as two things.
        for (key, value) in conf::lines(line).iter().flat_map(|line| &line.pairs) {
            faults.include(&path, key);
            reserved(&path, key, faults);
            if key.eq_ignore_ascii_case("PrivateData") {
                private(&path, value, faults);
            }
        }
    }
    for (at, line) in wish.gres_lines.iter().enumerate() {
        let path = format!("gresLines[{at}]");
        faults.value(&path, &line.replace('"', ""));
        for (key, _) in conf::lines(line).iter().flat_map(|line| &line.pairs) {
            faults.include(&path, key);
            if ["nodename", "name"].iter().any(|one| key.eq_ignore_ascii_case(one)) {
                faults.add(&path, format!("`{key}` follows from `pools[].gres`: say it there"));
            }
        }
    }
}

fn private(path: &str, value: &str, faults: &mut Faults) {
    let known = |word: &&str| PRIVATE.iter().any(|one| one.eq_ignore_ascii_case(word));
    for word in value.split(',').filter(|word| !known(word)) {
        let all = PRIVATE.join(", ");
        let message = format!("`{word}` hides nothing, and Slurm does not say so: known are {all}");
        faults.add(path, message);
    }
}

fn reserved(path: &str, name: &str, faults: &mut Faults) {
    if let Some((_, field)) = RESERVED.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
        faults.add(path, format!("`{name}` follows from `{field}`: say it there"));
    }
    if name.to_ascii_lowercase().ends_with("pass") {
        faults.add(path, "a password has no place in a file that everybody reads");
    }
}

#[cfg(test)]
mod tests;
