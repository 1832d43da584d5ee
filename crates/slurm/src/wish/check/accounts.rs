//! What is wrong with accounts and qualities of service.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Account, Cluster, Limit};
use super::{Faults, known};

pub(super) fn accounts(wish: &Cluster, faults: &mut Faults) {
    if wish.accounting.is_none() {
        for (field, there) in [
            ("accounts", !wish.accounts.is_empty()),
            ("qos", !wish.qos.is_empty()),
            ("admins", !wish.admins.is_empty()),
        ] {
            if there {
                faults.add(
                    field,
                    format!("`{field}` needs `accounting`: Slurm keeps them in its database"),
                );
            }
        }
    }
    let mut names: BTreeSet<&str> = BTreeSet::from(["root"]);
    for (at, account) in wish.accounts.iter().enumerate() {
        let path = format!("accounts[{at}]");
        lower(&format!("{path}.name"), &account.name, faults);
        if !names.insert(&account.name) {
            faults.add(format_args!("{path}.name"), format!("`{}` is there twice", account.name));
        }
        for user in &account.users {
            lower(&format!("{path}.users"), user, faults);
        }
        for user in &account.coordinators {
            lower(&format!("{path}.coordinators"), user, faults);
        }
        // What sacctmgr says of it later has a line and columns.
        let breaks =
            |text: &String| text.contains(|c: char| c.is_control() || matches!(c, '|' | '"'));
        if account.description.as_ref().is_some_and(breaks) {
            let message = "the description has a line break, `|` or `\"` in it, and Slurm tells of accounts in such";
            faults.add(format_args!("{path}.description"), message);
        }
        if account.limits.contains_key(&Limit::MaxTresPerUser) {
            faults.add(format_args!("{path}.limits"), "maxTresPerUser is for a qos only");
        }
        limits(&path, &account.limits, faults);
    }
    let by_name: BTreeMap<&str, &Account> =
        wish.accounts.iter().map(|one| (one.name.as_str(), one)).collect();
    let qos: BTreeSet<&str> =
        wish.qos.iter().map(|one| one.name.as_str()).chain(["normal"]).collect();
    for (at, account) in wish.accounts.iter().enumerate() {
        let path = format!("accounts[{at}]");
        parents(&path, account, &by_name, faults);
        for one in account.qos.iter().filter(|one| !qos.contains(one.as_str())) {
            let message = format!("there is no qos `{one}`{}", known(qos.iter().copied()));
            faults.add(format_args!("{path}.qos"), message);
        }
        // One that is not among the account's own, Slurm refuses.
        if let Some(one) = account.default_qos.as_ref().filter(|one| !account.qos.contains(*one)) {
            faults
                .add(format_args!("{path}.defaultQos"), format!("`{one}` is not among its `qos`"));
        }
    }
    for user in wish.admins.keys() {
        lower(&format!("admins.{user}"), user, faults);
    }
    let mut seen = BTreeSet::new();
    for (at, one) in wish.qos.iter().enumerate() {
        let path = format!("qos[{at}]");
        lower(&format!("{path}.name"), &one.name, faults);
        if !seen.insert(&one.name) {
            faults.add(format_args!("{path}.name"), format!("`{}` is there twice", one.name));
        }
        limits(&path, &one.limits, faults);
    }
}

/// Up to the root: each parent is there, and none comes twice.
fn parents(path: &str, account: &Account, all: &BTreeMap<&str, &Account>, faults: &mut Faults) {
    let mut at = account;
    let mut way = vec![account.name.as_str()];
    while let Some(parent) = at.parent.as_deref().filter(|parent| *parent != "root") {
        let Some(above) = all.get(parent) else {
            let message = format!("there is no account `{parent}`{}", known(all.keys().copied()));
            faults.add(format_args!("{path}.parent"), message);
            return;
        };
        if way.contains(&parent) {
            way.push(parent);
            faults.add(
                format_args!("{path}.parent"),
                format!("accounts go in a circle: {}", way.join(" > ")),
            );
            return;
        }
        way.push(parent);
        at = above;
    }
}

fn lower(path: &str, name: &str, faults: &mut Faults) {
    faults.name(path, name);
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        faults.add(path, format!("`{name}`: Slurm keeps such names in lower case"));
    }
}

fn limits(path: &str, limits: &BTreeMap<Limit, String>, faults: &mut Faults) {
    for (limit, value) in limits {
        let path = format!("{path}.limits.{limit:?}");
        if value.contains(char::is_whitespace) || value.contains('|') {
            faults.add(path, format!("`{value}` has a blank or `|` in it"));
        } else {
            faults.value(path, value);
        }
    }
}
