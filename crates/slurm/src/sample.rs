//! A wish that the tests of several modules begin with.

use std::collections::{BTreeMap, BTreeSet};

use crate::wish::{
    Account, Accounting, AdminLevel, Cluster, Database, Enforce, Gres, Hooks, Host, Limit,
    Partition, Pool, Qos,
};

fn host(name: &str) -> Host {
    Host { name: name.into(), address: None, port: None }
}

fn set<const N: usize>(words: [&str; N]) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

fn partition(name: &str, pools: [&str; 1]) -> Partition {
    Partition {
        name: name.into(),
        pools: pools.into_iter().map(str::to_owned).collect(),
        default: false,
        max_minutes: None,
        default_minutes: None,
        priority_tier: 1,
        accounts: BTreeSet::new(),
        qos: BTreeSet::new(),
        groups: BTreeSet::new(),
        up: true,
        parameters: BTreeMap::new(),
    }
}

/// A controller, three plain nodes and two with a GPU in MIG instances.
pub(crate) fn cluster() -> Cluster {
    let mig = Gres {
        name: "gpu".into(),
        kind: Some("3g.40gb".into()),
        count: 2,
        devices: [12, 21]
            .map(|cap| {
                vec![
                    "/dev/nvidia0".to_owned(),
                    format!("/dev/nvidia-caps/nvidia-cap{cap}"),
                    format!("/dev/nvidia-caps/nvidia-cap{}", cap + 1),
                ]
            })
            .into(),
    };
    let pool = |name: &str, nodes: &[&str], gres: Vec<Gres>| Pool {
        name: name.into(),
        nodes: nodes.iter().map(|name| host(name)).collect(),
        cpus: 4,
        topology: None,
        memory_mib: 4000,
        gres,
        features: BTreeSet::new(),
        weight: 1,
        parameters: BTreeMap::new(),
    };
    Cluster {
        name: "lab".into(),
        controllers: vec![Host { address: Some("10.0.0.1".into()), ..host("ctl") }],
        login: vec![host("login")],
        accounting: Some(Accounting {
            host: host("ctl"),
            database: Database {
                host: "localhost".into(),
                name: "slurm_acct".into(),
                user: "slurm".into(),
            },
            enforce: BTreeSet::from([Enforce::Associations, Enforce::Limits, Enforce::Qos]),
        }),
        pools: vec![
            pool("cpu", &["n1", "n2", "n3"], vec![]),
            pool("gpu", &["g1", "g2"], vec![mig]),
        ],
        partitions: vec![
            Partition { default: true, ..partition("batch", ["cpu"]) },
            Partition { max_minutes: Some(24 * 60), ..partition("gpu", ["gpu"]) },
        ],
        accounts: vec![
            Account {
                name: "research".into(),
                parent: None,
                description: Some("Research".into()),
                fairshare: Some(10),
                qos: set(["normal", "gold"]),
                default_qos: Some("gold".into()),
                limits: BTreeMap::new(),
                users: set(["ann"]),
                coordinators: set(["ann"]),
            },
            Account {
                name: "vision".into(),
                parent: Some("research".into()),
                description: None,
                fairshare: None,
                qos: BTreeSet::new(),
                default_qos: None,
                limits: BTreeMap::from([(Limit::GrpTres, "gres/gpu=2".into())]),
                users: set(["bob"]),
                coordinators: BTreeSet::new(),
            },
        ],
        qos: vec![Qos {
            name: "gold".into(),
            priority: 100,
            limits: BTreeMap::from([
                (Limit::MaxTresPerUser, "gres/gpu=1".into()),
                (Limit::GrpTresMins, "gres/gpu=100".into()),
            ]),
        }],
        admins: BTreeMap::from([("bob".to_owned(), AdminLevel::Operator)]),
        hooks: Hooks::default(),
        parameters: BTreeMap::new(),
        lines: vec![],
        gres_lines: vec![],
    }
}
