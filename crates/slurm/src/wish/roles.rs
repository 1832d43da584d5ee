//! What each machine of a cluster is to it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Cluster, Host};

/// What a machine is to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It runs slurmctld, or is there to do so when the first one does not.
    Controller,
    /// It runs slurmdbd in front of the accounting database.
    Database,
    /// People submit jobs on it.
    Login,
    /// It runs jobs.
    Node,
}

impl Cluster {
    /// Every machine of it, each name once: the one that has an address before one of the same name that
    /// has none.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        let accounting = self.accounting.iter().map(|one| &one.host);
        let nodes = self.pools.iter().flat_map(|pool| &pool.nodes);
        let mut seen = BTreeSet::new();
        let all = self.controllers.iter().chain(nodes).chain(&self.login).chain(accounting);
        all.filter(move |host| seen.insert(host.name.as_str()))
    }

    /// What the machine of that name is to it.
    #[must_use]
    pub fn roles(&self, name: &str) -> BTreeSet<Role> {
        let has = |hosts: &[Host]| hosts.iter().any(|host| host.name == name);
        let accounting = self.accounting.as_ref().is_some_and(|one| one.host.name == name);
        [
            (Role::Controller, has(&self.controllers)),
            (Role::Database, accounting),
            (Role::Login, has(&self.login)),
            (Role::Node, self.pools.iter().any(|pool| has(&pool.nodes))),
        ]
        .into_iter()
        .filter_map(|(role, is)| is.then_some(role))
        .collect()
    }

    /// The controller that is there for when the first one is not.
    #[must_use]
    pub fn backup(&self) -> Option<&Host> {
        self.controllers.get(1)
    }

    /// The machine of the accounting database, where the first controller's is another one.
    #[must_use]
    pub fn database_host(&self) -> Option<&Host> {
        let host = &self.accounting.as_ref()?.host;
        self.controllers.iter().all(|one| one.name != host.name).then_some(host)
    }
}
