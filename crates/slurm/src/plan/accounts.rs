//! What is written to the accounting database: differences only. `sacctmgr modify` says "Modified" of
//! what was so already, and each call is up to a second, so nothing is written that is there.
//!
//! What is there and not wished is only taken away where it was ours.

use std::collections::{BTreeMap, BTreeSet};

use super::fields::minutes;
use crate::observe::{Accounts, AssociationRow};
use crate::wish::{Account, Cluster, Limit, Qos};

/// What an earlier wish had: only this is taken away when it is no longer wished.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ours {
    /// Accounts.
    pub accounts: BTreeSet<String>,
    /// Users of accounts, as (account, user).
    pub users: BTreeSet<(String, String)>,
    /// Qualities of service.
    pub qos: BTreeSet<String>,
    /// Who may change accounts, as (account, user).
    pub coordinators: BTreeSet<(String, String)>,
    /// Users who may change other people's jobs and accounts.
    pub admins: BTreeSet<String>,
    /// Accounts that were given qualities of service.
    pub account_qos: BTreeSet<String>,
    /// Accounts that were given a share.
    pub shares: BTreeSet<String>,
}

impl Ours {
    /// What a wish gives: once it is written, it is ours.
    #[must_use]
    pub fn of(wish: &Cluster) -> Self {
        let each = |of: fn(&Account) -> &BTreeSet<String>| {
            let all = wish.accounts.iter();
            all.flat_map(move |it| of(it).iter().map(|user| (it.name.clone(), user.clone())))
        };
        let with = |has: fn(&Account) -> bool| {
            wish.accounts.iter().filter(|it| has(it)).map(|it| it.name.clone()).collect()
        };
        Self {
            accounts: with(|_| true),
            users: each(|it| &it.users).collect(),
            qos: wish.qos.iter().map(|it| it.name.clone()).collect(),
            coordinators: each(|it| &it.coordinators).collect(),
            admins: wish.admins.keys().cloned().collect(),
            account_qos: with(|it| !it.qos.is_empty()),
            shares: with(|it| it.fairshare.is_some()),
        }
    }
}

/// Adds to a wish what an earlier one had of accounts, so that [`Ours::of`] both is known of the one: until all
/// of the later one is written, what the earlier one gave may be there still.
pub fn remember(wish: &mut Cluster, before: &Cluster) {
    for old in &before.accounts {
        match wish.accounts.iter_mut().find(|it| it.name == old.name) {
            None => wish.accounts.push(old.clone()),
            Some(own) => {
                own.users.extend(old.users.iter().cloned());
                own.coordinators.extend(old.coordinators.iter().cloned());
                own.qos.extend(old.qos.iter().cloned());
                own.fairshare = own.fairshare.or(old.fairshare);
            }
        }
    }
    let gone = |old: &&Qos| !wish.qos.iter().any(|it| it.name == old.name);
    let gone: Vec<Qos> = before.qos.iter().filter(gone).cloned().collect();
    wish.qos.extend(gone);
    for (user, level) in &before.admins {
        wish.admins.entry(user.clone()).or_insert(*level);
    }
}

/// The share of an account that nobody gave another one (sacctmgr(1), `Fairshare`).
const SHARE: &str = "1";
/// One call of `sacctmgr`: its arguments, `-i` before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write(pub Vec<String>);

/// The calls that make the accounts what is wished, in the order in which they work: what is named by
/// others comes first and goes last.
#[must_use]
pub fn plan(wish: &Cluster, there: &Accounts, ours: &Ours) -> Vec<Write> {
    let mut writes = Vec::new();
    for qos in &wish.qos {
        one_qos(qos, there, &mut writes);
    }
    for account in parents_first(&wish.accounts) {
        one_account(&wish.name, account, there, ours, &mut writes);
        for user in &account.users {
            if !there.associations.contains_key(&(account.name.clone(), Some(user.clone()))) {
                let named = [format!("account={}", account.name), format!("cluster={}", wish.name)];
                writes.push(write("add", "user", user, &named));
            }
        }
    }
    // Users have to be there before.
    rights(wish, there, ours, &mut writes);
    removals(wish, there, ours, &mut writes);
    writes
}

/// Who may change accounts, and who everybody's.
fn rights(wish: &Cluster, there: &Accounts, ours: &Ours, writes: &mut Vec<Write>) {
    let has = |account: &str, user: &str| {
        there.accounts.get(account).is_some_and(|row| row.coordinators.contains(user))
    };
    for account in parents_first(&wish.accounts) {
        for user in account.coordinators.iter().filter(|user| !has(&account.name, user)) {
            let named = [format!("names={user}")];
            let account = format!("account={}", account.name);
            writes.push(write("add", "coordinator", &account, &named));
        }
    }
    for (account, user) in ours.coordinators.iter().filter(|(account, user)| has(account, user)) {
        // One of an account above is one of this account, too.
        let from_above = above(account, &wish.accounts).any(|one| one.coordinators.contains(user));
        if !from_above {
            let head = ["-i", "delete", "coordinator", "where"].map(str::to_owned);
            let which = [format!("account={account}"), format!("names={user}")];
            writes.push(Write(head.into_iter().chain(which).collect()));
        }
    }
    for (user, level) in &wish.admins {
        if there.admins.get(user).map(String::as_str) != Some(level.word()) {
            admin(user, level.word(), writes);
        }
    }
    for user in ours.admins.iter().filter(|user| there.admins.contains_key(*user)) {
        if !wish.admins.contains_key(user) {
            admin(user, "None", writes);
        }
    }
}

fn admin(user: &str, level: &str, writes: &mut Vec<Write>) {
    modify("user", user, None, vec![format!("AdminLevel={level}")], writes);
}

/// An account and those above it, as far as they are wished; the wish was checked for circles.
fn above<'a>(name: &str, accounts: &'a [Account]) -> impl Iterator<Item = &'a Account> {
    let find = move |name: &str| accounts.iter().find(|one| one.name == name);
    let up = move |one: &&'a Account| one.parent.as_deref().and_then(find);
    std::iter::successors(find(name), up).take(accounts.len())
}

fn write(verb: &str, what: &str, name: &str, more: &[String]) -> Write {
    let head = ["-i", verb, what, name].map(str::to_owned);
    Write(head.into_iter().chain(more.iter().cloned()).collect())
}

fn one_qos(qos: &Qos, there: &Accounts, writes: &mut Vec<Write>) {
    let row = there.qos.get(&qos.name);
    if row.is_none() {
        writes.push(write("add", "qos", &qos.name, &[]));
    }
    let mut set = Vec::new();
    if row.map_or(0, |row| row.priority) != qos.priority {
        set.push(format!("Priority={}", qos.priority));
    }
    let empty = BTreeMap::new();
    let limits = row.map_or(&empty, |row| &row.limits);
    set.extend(limits_to_set(&qos.limits, limits, qos_option));
    modify("qos", &qos.name, None, set, writes);
}

fn one_account(
    cluster: &str,
    account: &Account,
    there: &Accounts,
    ours: &Ours,
    writes: &mut Vec<Write>,
) {
    let row = there.associations.get(&(account.name.clone(), None));
    let parent = account.parent.as_deref().unwrap_or("root");
    let description = account.description.as_deref();
    if row.is_none() {
        let mut more = vec![format!("cluster={cluster}"), format!("parent={parent}")];
        more.extend(description.map(|text| format!("Description={text}")));
        writes.push(write("add", "account", &account.name, &more));
    }
    let absent = AssociationRow::default();
    let now = row.unwrap_or(&absent);
    let mut set = Vec::new();
    if row.is_some() && now.parent != parent {
        set.push(format!("parent={parent}"));
    }
    // Without a row the database's default is 1 (sacctmgr(1), `Fairshare`).
    let share = if row.is_some() { now.fairshare.as_str() } else { SHARE };
    let shares = account.fairshare.map(|wished| wished.to_string());
    let shares = shares.or_else(|| ours.shares.contains(&account.name).then(|| SHARE.to_owned()));
    if let Some(wished) = shares.filter(|wished| wished != share) {
        set.push(format!("Fairshare={wished}"));
    }
    let was_given = ours.account_qos.contains(&account.name);
    if account.qos != now.qos && (!account.qos.is_empty() || was_given) {
        let all: Vec<&str> = account.qos.iter().map(String::as_str).collect();
        // Nothing at all gives it those of the account above again (sacctmgr(1), `QosLevel`, where two quotes are
        // for a shell: sacctmgr itself refuses them).
        set.push(format!("QOS={}", all.join(",")));
    }
    let default = account.default_qos.as_deref().unwrap_or_default();
    if default != now.default_qos {
        set.push(format!("DefaultQOS={}", if default.is_empty() { "-1" } else { default }));
    }
    set.extend(limits_to_set(&account.limits, &now.limits, association_option));
    modify("account", &account.name, Some(cluster), set, writes);
    let known = there.accounts.get(&account.name);
    if let (Some(wished), Some(known)) = (description, known)
        && !known.description.eq_ignore_ascii_case(wished)
    {
        modify("account", &account.name, None, vec![format!("Description={wished}")], writes);
    }
}

fn modify(
    what: &str,
    name: &str,
    cluster: Option<&str>,
    set: Vec<String>,
    writes: &mut Vec<Write>,
) {
    if set.is_empty() {
        return;
    }
    // Without a condition on the cluster, the association of every cluster would change.
    let mut more: Vec<String> = cluster.map(|name| format!("cluster={name}")).into_iter().collect();
    more.push("set".to_owned());
    more.extend(set);
    let head = ["-i", "modify", what, "where"].map(str::to_owned);
    let named = [format!("name={name}")];
    writes.push(Write(head.into_iter().chain(named).chain(more).collect()));
}

/// `Name=value` for what differs; -1 takes a limit away (sacctmgr(1): "To clear a previously set value").
fn limits_to_set(
    wished: &BTreeMap<Limit, String>,
    now: &BTreeMap<Limit, String>,
    option: fn(Limit) -> &'static str,
) -> Vec<String> {
    let mut set = Vec::new();
    for (limit, value) in wished {
        if now.get(limit).is_none_or(|now| !same(*limit, value, now)) {
            set.push(format!("{}={value}", option(*limit)));
        }
    }
    for (limit, now) in now.iter().filter(|(limit, _)| !wished.contains_key(*limit)) {
        set.push(format!("{}={}", option(*limit), cleared(now)));
    }
    set
}

/// The option of `sacctmgr modify qos set`.
fn qos_option(limit: Limit) -> &'static str {
    match limit {
        Limit::MaxJobs => "MaxJobsPerUser",
        Limit::MaxSubmitJobs => "MaxSubmitJobsPerUser",
        Limit::MaxTresPerJob => "MaxTRESPerJob",
        Limit::MaxTresPerUser => "MaxTRESPerUser",
        Limit::GrpSubmitJobs => "GrpSubmitJobs",
        Limit::MaxTresMinsPerJob => "MaxTRESMinsPerJob",
        other => other.qos_column(),
    }
}

/// The option of `sacctmgr modify account set`.
fn association_option(limit: Limit) -> &'static str {
    match limit {
        Limit::MaxSubmitJobs => "MaxSubmitJobs",
        Limit::MaxTresPerJob => "MaxTRESPerJob",
        Limit::GrpSubmitJobs => "GrpSubmitJobs",
        Limit::MaxTresMinsPerJob => "MaxTRESMinsPerJob",
        // The other names are the same on both; a limit of each user there is none.
        other => other.association_column().unwrap_or("MaxTRESPerJob"),
    }
}

/// A limit of resources is cleared resource by resource.
fn cleared(now: &str) -> String {
    let each: Vec<String> = now
        .split(',')
        .map(|one| one.split_once('=').map_or("-1".to_owned(), |(key, _)| format!("{key}=-1")))
        .collect();
    each.join(",")
}

/// Slurm gives times and resources back in an order and in units of its own: `120` as `02:00:00`,
/// `mem=10240,cpu=4` as `cpu=4,mem=10G`.
fn same(limit: Limit, a: &str, b: &str) -> bool {
    match limit {
        Limit::MaxWall | Limit::GrpWall => minutes(a) == minutes(b),
        Limit::GrpJobs
        | Limit::GrpTres
        | Limit::GrpTresMins
        | Limit::MaxJobs
        | Limit::MaxSubmitJobs
        | Limit::MaxTresPerJob
        | Limit::MaxTresPerUser
        | Limit::GrpSubmitJobs
        | Limit::MaxTresMinsPerJob
        | Limit::MaxTresPerNode => {
            let parts = |text: &str| text.split(',').map(amount).collect::<BTreeSet<_>>();
            parts(a) == parts(b)
        }
    }
}

/// One resource of a limit in plain numbers; what is no number stays as it is written.
fn amount(part: &str) -> String {
    let (key, value) = part.split_once('=').unwrap_or(("", part));
    let key = key.to_ascii_lowercase();
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let mib = |unit: &str| match unit {
        "" | "M" => Some(0),
        "G" => Some(10),
        "T" => Some(20),
        "P" => Some(30),
        _ => None,
    };
    let unit = value[digits.len()..].to_ascii_uppercase();
    let shift = if key == "mem" { mib(&unit) } else { unit.is_empty().then_some(0) };
    let number = digits.parse::<u64>().ok().zip(shift);
    match number.and_then(|(number, shift)| number.checked_mul(1 << shift)) {
        Some(number) => format!("{key}={number}"),
        None => format!("{key}={value}"),
    }
}

/// Accounts, each after its parent; the wish was checked for circles.
fn parents_first(accounts: &[Account]) -> Vec<&Account> {
    let by_name: BTreeMap<&str, &Account> =
        accounts.iter().map(|one| (one.name.as_str(), one)).collect();
    let depth = |account: &Account| {
        let mut depth = 0;
        let mut at = account;
        while let Some(above) = at.parent.as_deref().and_then(|parent| by_name.get(parent)) {
            depth += 1;
            at = above;
            if depth > accounts.len() {
                break;
            }
        }
        depth
    };
    let mut sorted: Vec<&Account> = accounts.iter().collect();
    sorted.sort_by_key(|account| depth(account));
    sorted
}

fn removals(wish: &Cluster, there: &Accounts, ours: &Ours, writes: &mut Vec<Write>) {
    let cluster = format!("cluster={}", wish.name);
    let wished: BTreeMap<&str, &Account> =
        wish.accounts.iter().map(|one| (one.name.as_str(), one)).collect();
    for (account, user) in &ours.users {
        let is_wished =
            wished.get(account.as_str()).is_some_and(|one| one.users.contains(user.as_str()));
        let key = (account.clone(), Some(user.clone()));
        if !is_wished && there.associations.contains_key(&key) {
            let head = ["-i", "delete", "user", "where"].map(str::to_owned);
            let which = [format!("name={user}"), format!("account={account}"), cluster.clone()];
            writes.push(Write(head.into_iter().chain(which).collect()));
        }
    }
    let mut going: Vec<&String> = ours
        .accounts
        .iter()
        .filter(|name| !wished.contains_key(name.as_str()))
        .filter(|name| there.associations.contains_key(&((*name).clone(), None)))
        .collect();
    // A child before its parent.
    going.sort_by_key(|name| std::cmp::Reverse(depth_there(name, there)));
    for name in going {
        let head = ["-i", "delete", "account", "where"].map(str::to_owned);
        let which = [format!("name={name}"), cluster.clone()];
        writes.push(Write(head.into_iter().chain(which).collect()));
    }
    for name in ours.qos.iter().filter(|name| there.qos.contains_key(*name)) {
        if !wish.qos.iter().any(|one| one.name == **name) {
            let head = ["-i", "delete", "qos", "where"].map(str::to_owned);
            writes.push(Write(head.into_iter().chain([format!("name={name}")]).collect()));
        }
    }
}

fn depth_there(name: &str, there: &Accounts) -> usize {
    let mut depth = 0;
    let mut at = name;
    while let Some(row) = there.associations.get(&(at.to_owned(), None)) {
        if row.parent.is_empty() || depth > there.associations.len() {
            break;
        }
        depth += 1;
        at = &row.parent;
    }
    depth
}

#[cfg(test)]
mod tests;
