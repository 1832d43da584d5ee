//! What is written to the accounting database: differences only. `sacctmgr modify` says "Modified" of
//! what was so already, and each call is up to a second, so nothing is written that is there.
//!
//! What is there and not wished is only taken away where it was ours.

use std::collections::{BTreeMap, BTreeSet};

use crate::observe::{Accounts, AssociationRow};
use crate::wish::{Account, Cluster, Limit, Qos};

/// Names that an earlier wish had: only these are taken away when they are no longer wished.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ours {
    /// Accounts.
    pub accounts: BTreeSet<String>,
    /// Users of accounts, as (account, user).
    pub users: BTreeSet<(String, String)>,
    /// Qualities of service.
    pub qos: BTreeSet<String>,
}

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
        one_account(&wish.name, account, there, &mut writes);
        for user in &account.users {
            if !there.associations.contains_key(&(account.name.clone(), Some(user.clone()))) {
                let named = [format!("account={}", account.name), format!("cluster={}", wish.name)];
                writes.push(write("add", "user", user, &named));
            }
        }
    }
    removals(wish, there, ours, &mut writes);
    writes
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

fn one_account(cluster: &str, account: &Account, there: &Accounts, writes: &mut Vec<Write>) {
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
    let share = if row.is_some() { now.fairshare.as_str() } else { "1" };
    if let Some(wished) = account.fairshare
        && wished.to_string() != share
    {
        set.push(format!("Fairshare={wished}"));
    }
    if !account.qos.is_empty() && account.qos != now.qos {
        let all: Vec<&str> = account.qos.iter().map(String::as_str).collect();
        set.push(format!("QOS={}", all.join(",")));
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
        if now.get(limit).is_none_or(|now| !same(value, now)) {
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
        other => other.qos_column(),
    }
}

/// The option of `sacctmgr modify account set`.
fn association_option(limit: Limit) -> &'static str {
    match limit {
        Limit::MaxSubmitJobs => "MaxSubmitJobs",
        Limit::MaxTresPerJob => "MaxTRESPerJob",
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

/// Slurm gives the resources of a limit back in an order of its own.
fn same(a: &str, b: &str) -> bool {
    let parts = |text: &str| text.split(',').map(str::to_owned).collect::<BTreeSet<_>>();
    a == b || parts(a) == parts(b)
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
mod tests {
    use super::*;
    use crate::sample;

    /// As 22.05 says it after the calls of the first plan.
    const ACCOUNTS: &str = "research|Research\nroot|default root account\nvision|vision\n";
    const ASSOCIATIONS: &str = "root||||1|normal|||||||\n";

    fn lines(writes: &[Write]) -> Vec<String> {
        writes.iter().map(|write| write.0.join(" ")).collect()
    }

    #[test]
    fn an_empty_database_gets_everything_in_an_order_that_works() {
        let writes = plan(&sample::cluster(), &Accounts::default(), &Ours::default());
        assert_eq!(
            lines(&writes),
            [
                "-i add qos gold",
                "-i modify qos where name=gold set Priority=100 GrpTRESMins=gres/gpu=100 MaxTRESPerUser=gres/gpu=1",
                "-i add account research cluster=lab parent=root Description=Research",
                "-i modify account where name=research cluster=lab set Fairshare=10 QOS=gold,normal",
                "-i add user ann account=research cluster=lab",
                "-i add account vision cluster=lab parent=research",
                "-i modify account where name=vision cluster=lab set GrpTRES=gres/gpu=2",
                "-i add user bob account=vision cluster=lab",
            ]
        );
    }

    fn there() -> Accounts {
        let associations = "root|||1|normal|||||||\n\
             research||root|10|gold,normal|||||||\n\
             research|ann||1|gold,normal|||||||\n\
             vision||research|1|normal||gres/gpu=2|||||\n\
             vision|bob||1|normal|||||||\n";
        let qos = "normal|0||||||||\ngold|100|||gres/gpu=100|||||gres/gpu=1\n";
        Accounts::parse(ACCOUNTS, associations, qos).unwrap()
    }

    #[test]
    fn what_is_there_is_not_written_again() {
        assert_eq!(lines(&plan(&sample::cluster(), &there(), &Ours::default())), [""; 0]);
        assert!(Accounts::parse(ACCOUNTS, ASSOCIATIONS, "").is_err(), "one column too many");
    }

    #[test]
    fn only_what_was_ours_goes() {
        let mut wish = sample::cluster();
        wish.accounts.pop();
        wish.qos[0].limits.remove(&Limit::MaxTresPerUser);
        let foreign = plan(&wish, &there(), &Ours::default());
        assert_eq!(
            lines(&foreign),
            ["-i modify qos where name=gold set MaxTRESPerUser=gres/gpu=-1"]
        );
        let ours = Ours {
            accounts: ["research", "vision"].map(str::to_owned).into(),
            users: [("vision".to_owned(), "bob".to_owned())].into(),
            qos: BTreeSet::new(),
        };
        assert_eq!(
            lines(&plan(&wish, &there(), &ours))[1..],
            [
                "-i delete user where name=bob account=vision cluster=lab",
                "-i delete account where name=vision cluster=lab",
            ]
        );
    }
}
