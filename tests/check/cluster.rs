//! Mistakes in clusters.

use trueup_kubernetes::namespace::Role;

use super::*;

/// A document of a cluster whose spec has these lines.
fn document(spec: &str) -> String {
    let head = "apiVersion: trueup/v1\nkind: Cluster\nmetadata: { name: hpc }";
    format!("{head}\nspec:\n  type: slurm\n{spec}")
}

#[test]
fn mistakes_of_one_cluster_are_found_at_once() {
    check(
        &document(
            r#"  name: lab
  drainTimeout: soon
  controllers: [{ name: ctl }]
  pools:
    - { name: cpu, nodes: [{ name: "n[1-" }], cpus: 4, memory: 4GiB }
  partitions: []
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:7:17 spec/wrong-value: `soon` is not a duration: write `90s`, `5m`, `4h` or `1d`
            environments/lab/x.yaml:10:36 spec/wrong-value: `n[1-` has a bracket that does not close, or nothing in it
        "#]],
    );
    check(
        &document(
            r#"  controllers: [{ name: ctl }]
  pools:
    - { name: cpu, nodes: [{ name: "n[1-4]" }], cpus: 4, memory: 4GiB }
    - name: gpu
      nodes: [{ name: n4 }]
      cpus: 4
      memory: 4GiB
      gres: [{ type: a100, count: 2, devices: [[/dev/nvidia0]] }]
  partitions:
    - { name: batch, pools: [cpu, gone] }
  accounts: [{ name: research, limits: { grpTres: gres/gpu=4 } }]
  parameters: { ClusterName: other, JobCompPass: hunter2 }
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:10:14 spec/wrong-value: n4 is in pool `cpu` already
            environments/lab/x.yaml:13:47 spec/wrong-value: `devices` lists 1, and `count` says 2
            environments/lab/x.yaml:15:35 spec/wrong-value: there is no pool `gone`, only `cpu`, `gpu`
            environments/lab/x.yaml:16:13 spec/wrong-value: `accounts` needs `accounting`: Slurm keeps them in its database
            environments/lab/x.yaml:17:30 spec/wrong-value: `ClusterName` follows from `name`: say it there
            environments/lab/x.yaml:17:50 spec/wrong-value: a password has no place in a file that everybody reads
        "#]],
    );
}

#[test]
fn where_a_cluster_is_on_its_host_is_not_for_a_document_to_say() {
    check(
        &document(
            r#"  place: { folder: /srv/slurm, programs: /home/mallory/bin }
  controllers: [{ name: ctl }]
  pools:
    - { name: cpu, nodes: [{ name: n1 }], cpus: 4, memory: 4GiB }
  partitions: [{ name: batch, pools: [cpu] }]
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:6:3 spec/unknown-field: unknown field `place` (remove it: a commit cannot say which folder and which programs of the host are used as root; say folder, programs, slurmctld and slurmrestd under clusters.NAME in the config of the host)
        "#]],
    );
}

const NETWORK_AND_IMAGE: &str = "apiVersion: trueup/v1
kind: Network
metadata: { name: hpc }
spec: { mode: isolated, cidr: 10.9.0.0/24 }
---
apiVersion: trueup/v1
kind: Image
metadata: { name: slurm }
spec: { size: 2GiB, build: { suite: bookworm } }
---
";

#[test]
fn a_cluster_is_built_of_machines_that_nobody_wrote_down() {
    let text = format!(
        r#"{NETWORK_AND_IMAGE}apiVersion: trueup/v1
kind: Cluster
metadata: {{ name: hpc, labels: {{ team: a }} }}
spec:
  type: slurm
  machines: {{ image: slurm, network: hpc, memory: 1GiB, boot: {{ image: slurm }} }}
  mungeKey: {{ generation: 3 }}
  controllers: [{{ name: ctl, address: 10.9.0.10 }}]
  pools:
    - name: cpu
      nodes: [{{ name: "n[1-2]", address: 10.9.0.11 }}]
      cpus: 2
      memory: 500MiB
      machine: {{ memory: 2GiB, onImageChange: replace }}
  partitions: [{{ name: batch, pools: [cpu], default: true }}]
  parameters: {{ SlurmctldParameters: idle_on_node_suspend }}
"#
    );
    let loaded = loaded_text(&text);
    let resources = &loaded.desired.resources;
    let names: Vec<String> = resources.keys().map(ToString::to_string).collect();
    let made = names.iter().filter(|name| name.contains("hpc-"));
    assert_eq!(
        made.cloned().collect::<Vec<_>>().join(" "),
        "disk/hpc-ctl disk/hpc-n1 disk/hpc-n2 seed/hpc-ctl seed/hpc-n1 seed/hpc-n2 vm/hpc-ctl \
         vm/hpc-n1 vm/hpc-n2"
    );
    let id = |text: &str| text.parse::<ResourceId>().unwrap();
    let node = &resources[&id("vm/hpc-n2")];
    assert_eq!(node.owner, Some(id("cluster/hpc")));
    assert_eq!(node.labels["team"], "a");
    let Resource::VirtualMachine(vm) = &node.resource else { panic!() };
    assert_eq!((vm.cpus.count, vm.memory.current), (2, 2 << 20));
    assert!(vm.guest_agent && vm.readiness.is_some());
    let Resource::Seed(seed) = &resources[&id("seed/hpc-n2")].resource else { panic!() };
    assert!(seed.user_data.as_ref().unwrap().contains("\"hostname\": \"n2\""), "{seed:?}");
    assert!(seed.network_config.as_ref().unwrap().contains("10.9.0.12/24"), "{seed:?}");
    let cluster = &resources[&id("cluster/hpc")];
    assert!(cluster.depends_on.contains(&id("vm/hpc-ctl")));
    let shown = serde_json::to_string(&cluster.resource).unwrap();
    for said in [
        r#""guest":"hpc-ctl""#,
        r#""n2":"hpc-n2""#,
        r#""key":3"#,
        r#""server":"10.9.0.10:6817""#,
        r#""address":"10.9.0.12""#,
        r#""SlurmctldParameters":"idle_on_node_suspend,enable_configless""#,
        r#""StateSaveLocation":"/var/lib/slurm/slurmctld""#,
        r#""ReturnToService":"2""#,
    ] {
        assert!(shown.contains(said), "no {said} in {shown}");
    }
    // A change of what Slurm reads changes no machine: nothing is started anew for it.
    let other =
        loaded_text(&text.replace("batch", "night").replace("generation: 3", "generation: 4"));
    for (id, wish) in resources {
        let same = other.desired.resources[id].digest == wish.digest;
        assert_eq!(same, id.to_string() != "cluster/hpc", "{id}");
    }
}

#[test]
fn mistakes_of_machines_are_told_where_the_cluster_says_them() {
    check(
        r#"apiVersion: trueup/v1
kind: Cluster
metadata: { name: hpc }
lifecycle: { adopt: true }
spec:
  type: slurm
  machines: { image: slurm, network: none, memory: 512MiB }
  controllers: [{ name: ctl }]
  pools:
    - name: cpu
      nodes: [{ name: "n[1-2]", address: 10.9.0.11 }, { name: N3, address: here, machine: { cpus: 0 } }]
      cpus: 1
      memory: 500MiB
  partitions: [{ name: batch, pools: [cpu] }]
---
apiVersion: trueup/v1
kind: Disk
metadata: { name: hpc-n2 }
spec: { size: 1GiB }
"#,
        expect![[r#"
            environments/lab/x.yaml:4:21 spec/conflict: a cluster is built or taken over, not both (leave out `adopt`, or `machines`)
            environments/lab/x.yaml:7:22 spec/dangling-reference: there is no `image/slurm` in environment `lab`
            environments/lab/x.yaml:7:38 spec/dangling-reference: there is no `network/none` in environment `lab`
            environments/lab/x.yaml:8:17 spec/missing-field: field `address` is missing (an address on the machines' network; of an entry with several, the first one)
            environments/lab/x.yaml:11:15 spec/duplicate-resource: `disk/hpc-n2` is made of this, and is there already (rename one of the two; a machine of a cluster is called CLUSTER-NODE)
                environments/lab/x.yaml:18:19 it is here
            environments/lab/x.yaml:11:76 spec/wrong-value: `here` is not an IP address
            environments/lab/x.yaml:13:15 spec/range: jobs get 500MiB, and a machine with 512MiB has 416 MiB for them at most (the guest's kernel keeps 64 MiB and a sixteenth: give less to jobs, or the machines more)
        "#]],
    );
    check(
        &document(
            r#"  mungeKey: { generation: 2 }
  controllers: [{ name: ctl }]
  pools:
    - { name: cpu, nodes: [{ name: n1, machine: { memory: 1GiB } }], cpus: 1, memory: 500MiB }
  partitions: [{ name: batch, pools: [cpu] }]
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:6:13 spec/conflict: `mungeKey` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:9:49 spec/conflict: `machine` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
        "#]],
    );
    check(
        &document(
            r#"  machines: { image: slurm, network: hpc }
  controllers: [{ name: ctl, address: 10.9.0.10 }]
  login: [{ name: head, machine: { memory: 1GiB }, address: 10.9.0.9 }]
  pools:
    - { name: cpu, nodes: [{ name: "n[1-3]", address: 10.9.0.11 }], cpus: 1, memory: 500MiB }
  partitions: [{ name: batch, pools: [cpu] }]
  parameters: { SlurmctldPort: "6817 -f /x" }
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:6:13 spec/missing-field: field `memory` of the machines is missing (memory of each machine: `2GiB`)
            environments/lab/x.yaml:6:22 spec/dangling-reference: there is no `image/slurm` in environment `lab`
            environments/lab/x.yaml:6:38 spec/wrong-kind-of-reference: there is no `network/hpc` in environment `lab` (`cluster/hpc` is there, but a network is asked for here)
            environments/lab/x.yaml:12:15 spec/wrong-value: SlurmctldPort is `6817 -f /x`, and nodes ask at one port
        "#]],
    );
}

/// A cluster that is built, with these lines more.
fn built(more: &str) -> String {
    format!(
        r#"{NETWORK_AND_IMAGE}apiVersion: trueup/v1
kind: Cluster
metadata: {{ name: hpc }}
spec:
  type: slurm
  machines: {{ image: slurm, network: hpc, memory: 1GiB }}
  pools:
    - {{ name: cpu, nodes: [{{ name: n1, address: 10.9.0.11 }}], cpus: 1, memory: 500MiB }}
  partitions: [{{ name: batch, pools: [cpu], default: true }}]
{more}"#
    )
}

#[test]
fn a_database_and_login_machines_are_machines_like_the_others() {
    let loaded = loaded_text(&built(
        r#"  controllers: [{ name: ctl, address: 10.9.0.10 }]
  login: [{ name: "login[1-2]", address: 10.9.0.20 }]
  accounting: { host: { name: db, address: 10.9.0.30, machine: { memory: 2GiB, onImageChange: replace } }, disk: 20GiB }
  accounts: [{ name: research, users: [ann] }]
  firewall: { ssh: [10.0.0.0/8], open: [{ to: [node], ports: ["9100"], from: [10.9.0.0/24] }] }
"#,
    ));
    let resources = &loaded.desired.resources;
    let id = |text: &str| text.parse::<ResourceId>().unwrap();
    for made in ["vm/hpc-login1", "vm/hpc-login2", "vm/hpc-db", "disk/hpc-db", "disk/hpc-db-data"] {
        assert!(resources.contains_key(&id(made)), "no {made}");
        assert_eq!(resources[&id(made)].owner, Some(id("cluster/hpc")), "{made}");
    }
    let disk = |name: &str| match &resources[&id(name)].resource {
        Resource::Disk(disk) => (disk.size >> 30, disk.backing.is_some(), disk.on_image_change),
        other => panic!("{other:?}"),
    };
    use trueup::model::resource::OnImageChange::{Keep, Replace};
    assert_eq!(disk("disk/hpc-db-data"), (20, false, Some(Keep)), "it stays when the other goes");
    assert_eq!(disk("disk/hpc-db").2, Some(Replace));
    assert_eq!(disk("disk/hpc-login1").2, Some(Keep));
    let Resource::VirtualMachine(vm) = &resources[&id("vm/hpc-db")].resource else { panic!() };
    assert_eq!((vm.disks.len(), vm.memory.current), (3, 2 << 20));
    let shown = serde_json::to_string(&resources[&id("cluster/hpc")].resource).unwrap();
    for said in [
        r#""login2":"hpc-login2""#,
        r#""db":"hpc-db""#,
        r#""ssh":["10.0.0.0/8"]"#,
        r#""ports":["9100"]"#,
    ] {
        assert!(shown.contains(said), "no {said} in {shown}");
    }
    // On the controller's machine there is none of its own.
    let loaded = loaded_text(&built(
        r#"  controllers: [{ name: ctl, address: 10.9.0.10 }]
  accounting: { host: { name: ctl } }
  firewall: { enabled: false }
"#,
    ));
    let names: Vec<String> = loaded.desired.resources.keys().map(ToString::to_string).collect();
    let made = names.iter().filter(|name| name.starts_with("vm/") || name.starts_with("disk/"));
    let made: Vec<&str> = made.map(String::as_str).collect();
    assert_eq!(made.join(" "), "disk/hpc-ctl disk/hpc-n1 vm/hpc-ctl vm/hpc-n1");
    let cluster = &loaded.desired.resources[&id("cluster/hpc")].resource;
    let shown = serde_json::to_value(cluster).unwrap()["spec"].clone();
    assert_eq!(shown["wish"]["accounting"]["host"]["address"], "10.9.0.10");
    assert_eq!(shown["built"]["firewall"], serde_json::Value::Null);
}

#[test]
fn a_backup_controller_needs_a_folder_of_both() {
    let two =
        "  controllers: [{ name: ctl, address: 10.9.0.10 }, { name: ctl2, address: 10.9.0.12 }]\n";
    check(
        &built(two),
        expect![[r#"
        environments/lab/x.yaml:20:52 spec/missing-field: a second controller takes over with the state of all jobs, so both need a folder that they see as one, and the disk of a machine is its own (name one in `stateFolder` that the image or `cloudInit` mounts from a file server, or leave the second controller out)
    "#]],
    );
    let loaded = loaded_text(&built(&format!("{two}  stateFolder: /mnt/state\n")));
    let id = "cluster/hpc".parse::<ResourceId>().unwrap();
    let resource = &loaded.desired.resources[&id].resource;
    let shown = serde_json::to_value(resource).unwrap()["spec"].clone();
    assert_eq!(shown["wish"]["parameters"]["StateSaveLocation"], "/mnt/state");
    assert_eq!(shown["built"]["server"], "10.9.0.10:6817,10.9.0.12:6817");
    assert!(loaded.desired.resources.contains_key(&"vm/hpc-ctl2".parse().unwrap()));
}

#[test]
fn mistakes_of_databases_login_machines_and_rules_are_told_where_they_are() {
    check(
        &built(
            r#"  controllers: [{ name: ctl, address: 10.9.0.10, machine: { onImageChange: replace } }]
  login: [{ name: login }]
  accounting: { host: { name: ctl, address: 10.9.0.9, machine: { memory: 2GiB } }, disk: 5GiB }
  stateFolder: state
  firewall:
    ssh: [everywhere]
    open:
      - { to: [node], ports: ["9100", "80-22", http], from: [10.9.0.0/40] }
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:20:76 spec/conflict: the accounting database is on this disk, and would be lost with it (give the database a machine of its own)
            environments/lab/x.yaml:21:11 spec/missing-field: field `address` is missing (an address on the machines' network; of an entry with several, the first one)
            environments/lab/x.yaml:22:45 spec/conflict: is another address than that controller has (leave it out)
            environments/lab/x.yaml:22:64 spec/conflict: its machine is the controller's (say it there, or name a machine of its own)
            environments/lab/x.yaml:22:90 spec/conflict: the database is on the disk of the controller's machine (leave it out, or name a machine of its own)
            environments/lab/x.yaml:23:16 spec/wrong-value: `state` is not a plain absolute path: start with `/`, leave out `.`, `..` and `//`
            environments/lab/x.yaml:25:11 spec/wrong-value: `everywhere` is no network: `10.0.0.0/8`
            environments/lab/x.yaml:27:39 spec/wrong-value: `80-22` is no port and no range: `9100`, `8000-8010`
            environments/lab/x.yaml:27:48 spec/wrong-value: `http` is no port and no range: `9100`, `8000-8010`
            environments/lab/x.yaml:27:62 spec/wrong-value: `10.9.0.0/40` is no network: `10.0.0.0/8`
        "#]],
    );
    check(
        &built(
            r#"  controllers: [{ name: ctl, address: 10.9.0.10 }]
  accounting: { host: { name: "db[1-2]", address: 10.9.0.30 } }
  stateFolder: /mnt/state
  parameters: { StateSaveLocation: /mnt/other }
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:21:31 spec/wrong-value: `db[1-2]` is no name: 1 to 63 of a-z, 0-9, `-`, `_`, `.`
            environments/lab/x.yaml:22:16 spec/conflict: is `StateSaveLocation`, which `parameters` say as well (leave one of them out)
        "#]],
    );
    check(
        &built(
            "  controllers: []\n  firewall: { open: [{ to: [nodes], ports: ['1'], from: [] }] }\n",
        ),
        expect![[r#"
            environments/lab/x.yaml:21:29 spec/wrong-value: `nodes` is not one of controller, database, login, node (did you mean `node`?)
        "#]],
    );
    // None of it is for a cluster that is there.
    check(
        &document(
            r#"  controllers: [{ name: ctl }]
  login: [{ name: head, machine: { memory: 1GiB } }]
  accounting: { host: { name: ctl, machine: { memory: 1GiB } }, disk: 5GiB }
  stateFolder: /mnt/state
  firewall: {}
  pools:
    - { name: cpu, nodes: [{ name: n1 }], cpus: 1, memory: 500MiB }
  partitions: [{ name: batch, pools: [cpu] }]
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:7:34 spec/conflict: `machine` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:8:45 spec/conflict: `machine` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:8:71 spec/conflict: `disk` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:9:16 spec/conflict: `stateFolder` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:10:13 spec/conflict: `firewall` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
        "#]],
    );
}

#[test]
fn mistakes_of_a_kubernetes_cluster_are_found_at_once() {
    check(
        r#"apiVersion: trueup/v1
kind: Cluster
metadata: { name: cloud }
spec:
  type: kubernetes
  version: 1.33.1
  drainTimeout: soon
  pools:
    - name: gpu
      nodes: ["gpu[1-2]", Gpu3]
      labels: { trueup.io/pool: gpu, "a b": c }
      taints: [{ key: gpu, effect: NoSchedule }, { key: gpu, effect: NoSchedule, value: x }]
      gpus: { partitions: { 1g.10gb: 7 } }
    - { name: more, nodes: [gpu2], gpus: {} }
  namespaces:
    - { name: kube-system }
    - name: shop
      quota: { pods: many }
      access: [{ group: a, user: b, role: edit }]
      kubeconfigs: [{ user: "", role: edit }, { user: ann, role: view, atMost: 9d }]
    - { name: shop }
  maxUnavailable: 0
"#,
        expect![[r#"
            environments/lab/x.yaml:6:12 spec/wrong-value: `1.33.1` is no minor release: write '1.33'
            environments/lab/x.yaml:7:17 spec/wrong-value: `soon` is not a duration: write `90s`, `5m`, `4h` or `1d`
            environments/lab/x.yaml:10:27 spec/wrong-value: `Gpu3` is no name of a node
            environments/lab/x.yaml:11:33 spec/wrong-value: `trueup.io/pool` is trueup's own: choose another
            environments/lab/x.yaml:11:45 spec/wrong-value: `a b` is no key, as nvidia.com/gpu is
            environments/lab/x.yaml:12:50 spec/wrong-value: the taint `gpu:NoSchedule` stands here twice
            environments/lab/x.yaml:13:27 spec/conflict: only with `strategy: mixed` has each profile a name of its own (say `strategy: mixed`, or how many there are together in `count`)
            environments/lab/x.yaml:14:42 spec/missing-field: nothing is expected: say `count` or `partitions`
            environments/lab/x.yaml:16:15 spec/wrong-value: `kube-system` is the cluster's own: choose another
            environments/lab/x.yaml:18:22 spec/wrong-value: `many` is no amount, as 100m, 2, 1.5Gi or 1e3 are
            environments/lab/x.yaml:19:16 spec/conflict: say either `group` or `user`
            environments/lab/x.yaml:20:29 spec/wrong-value: nobody is called so
            environments/lab/x.yaml:20:80 spec/wrong-value: no token is made for less than 10m, and none here for more than 7d (for longer, give them rights with `access`)
            environments/lab/x.yaml:21:15 spec/wrong-value: `shop` is also entry 2
            environments/lab/x.yaml:22:19 spec/wrong-value: with 0 no node could ever change
        "#]],
    );
    // What is wrong is told of the type that is meant.
    check(
        r#"apiVersion: trueup/v1
kind: Cluster
metadata: { name: cloud }
spec:
  type: kubernetes
  pools: [{ name: gpu, nodes: [g1], cpus: 4 }]
  partitions: []
  namespaces: [{ name: shop, networkPolicy: closed, access: [{ user: ann, role: owner }] }]
"#,
        expect![[r#"
            environments/lab/x.yaml:6:37 spec/unknown-field: unknown field `cpus` (did you mean `gpus`?)
            environments/lab/x.yaml:7:3 spec/unknown-field: unknown field `partitions` (known here: type, version, machines, controlPlane, podCidr, serviceCidr, cni, dns, imageRepository, pools, drainTimeout, maxUnavailable, evict, namespaces, certificates)
            environments/lab/x.yaml:8:45 spec/wrong-value: `closed` is not one of open, sameNamespace, denyAll
            environments/lab/x.yaml:8:81 spec/wrong-value: `owner` is not one of view, edit, admin
        "#]],
    );
    check(
        r#"apiVersion: trueup/v1
kind: Cluster
metadata: { name: cloud }
spec: { type: kubernets, pools: [] }
"#,
        expect![[r#"
            environments/lab/x.yaml:4:15 spec/wrong-value: `kubernets` is not one of slurm, kubernetes (did you mean `kubernetes`?)
        "#]],
    );
    check(
        r#"apiVersion: trueup/v1
kind: Cluster
metadata: { name: a-name-that-is-much-too-long-for-an-inventory }
spec: { type: kubernetes }
"#,
        expect![[r#"
            environments/lab/x.yaml:3:19 spec/wrong-value: `cluster-a-name-that-is-much-too-long-for-an-inventory` cannot name a release or its namespace: at most 50 of a-z, 0-9 and -, beginning and ending with a letter or digit (an inventory in the cluster is named after it: choose a shorter name)
        "#]],
    );
}

#[test]
fn a_kubernetes_cluster_says_what_its_nodes_bear_and_offer() {
    let loaded = loaded_text(
        r#"apiVersion: trueup/v1
kind: Cluster
metadata: { name: cloud }
spec:
  type: kubernetes
  version: '1.33'
  pools:
    - name: gpu
      nodes: ["gpu[1-2]"]
      taints: [{ key: nvidia.com/gpu, effect: NoSchedule }]
      gpus: { strategy: mixed, count: 1, partitions: { 1g.10gb+me: 1 } }
  namespaces:
    - name: shop
      access: [{ group: a, role: edit }, { user: b, role: edit }]
      kubeconfigs: [{ user: ann, role: view }, { user: bob, role: edit, atMost: 30m }]
"#,
    );
    let id: ResourceId = "cluster/cloud".parse().unwrap();
    let Resource::Cluster(cluster) = &loaded.desired.resources[&id].resource else { panic!() };
    let cluster = cluster.kubernetes().unwrap();
    assert_eq!(cluster.pools[0].nodes, ["gpu1", "gpu2"]);
    let offers: Vec<_> =
        cluster.pools[0].offers.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(offers, [("nvidia.com/gpu", 1), ("nvidia.com/mig-1g.10gb.me", 1)]);
    assert_eq!((cluster.drain_timeout_s, cluster.max_unavailable), (1800, 1));
    assert_eq!(cluster.namespaces[0].access.len(), 1, "one binding for each role");
    let rules = cluster.kubeconfigs.iter().map(|it| (it.user.as_str(), it.at_most_s));
    assert_eq!(rules.collect::<Vec<_>>(), [("ann", 8 * 3600), ("bob", 1800)]);
    let lets = |n: usize, role| cluster.kubeconfigs[n].lets("bob", "shop", role);
    assert!(
        lets(1, Role::View) && lets(1, Role::Edit) && !lets(1, Role::Admin) && !lets(0, Role::View)
    );
}

#[test]
fn a_slip_is_told_with_what_would_be_right() {
    check(
        &document(
            r#"  controllers: [{ name: ctl, address: 10.0.0.300 }]
  pools:
    - { name: cpu, nodes: ["n[1-4]"], cpus: 4, memory: 4GiB }
  partitions: [{ name: batch, pools: [cpu] }]
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:8:28 spec/wrong-type: expected mapping, found the text `n[1-4]` (write `{name: "n[1-4]"}`)
        "#]],
    );
    check(
        &document(
            r#"  controllers: [{ name: ctl, address: 10.0.0.300 }]
  accounting: { host: { name: ctl }, enforce: [limit] }
  pools:
    - { name: cpu, nodes: [{ name: "n[1-4]" }, { name: "n[3-4]" }], cpus: 4, memory: 4GiB }
  accounts: [{ name: research, qos: [gold], limits: { grpTress: cpu=4 } }]
  partitions: [{ name: batch, pools: [cpu, cpus] }]
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:7:48 spec/wrong-value: `limit` holds no job back (did you mean `limits`?)
            environments/lab/x.yaml:10:65 spec/wrong-value: `grpTress` is no limit (did you mean `grpTres`?)
        "#]],
    );
    check(
        &document(
            r#"  controllers: [{ name: ctl, address: 10.0.0.300 }]
  accounting: { host: { name: ctl } }
  pools:
    - { name: cpu, nodes: [{ name: "n[1-4]" }, { name: "n[3-4]" }], cpus: 4, memory: 4GiB }
  accounts: [{ name: research, qos: [gold] }]
  partitions: [{ name: batch, pools: [cpu, cpus] }]
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:6:39 spec/wrong-value: `10.0.0.300` is neither an IP address nor a name of a host
            environments/lab/x.yaml:9:27 spec/wrong-value: n[3-4] is there twice
            environments/lab/x.yaml:10:37 spec/wrong-value: there is no qos `gold`, only `normal`
            environments/lab/x.yaml:11:44 spec/wrong-value: there is no pool `cpus`, only `cpu`
        "#]],
    );
    // Another version is meant than YAML reads.
    let kubernetes = "apiVersion: trueup/v1\nkind: Cluster\nmetadata: { name: apps }\nspec:\n  type: \
                      kubernetes\n  version: 1.30 # the newest\n";
    check(
        kubernetes,
        expect![[r#"
        environments/lab/x.yaml:6:12 spec/wrong-type: expected string, found the number `1.30` (quote it: "1.30")
    "#]],
    );
    check(
        &kubernetes.replace("  type: kubernetes\n", ""),
        expect![[r#"
            environments/lab/x.yaml:4:1 spec/missing-field: field `type` is missing, which says what else is asked for (one of slurm, kubernetes)
        "#]],
    );
    let both = format!(
        "{}---\napiVersion: trueup/v1\nkind: Release\nmetadata: {{ name: torch }}\nspec: {{ cluster: \
         appz, namespace: x, manifests: [manifests/web] }}\n",
        kubernetes.replace("1.30", "\"1.30\"")
    );
    check(
        &both,
        expect![[r#"
        environments/lab/x.yaml:11:18 spec/unheeded: no document has `cluster/appz`, so the config of the host has to know where it is (did you mean `apps`?)
        environments/lab/x.yaml:11:50 spec/dangling-reference: there are no manifests at `environments/lab/manifests/web` (name a YAML file, or a folder of them, in a folder called `manifests` of this environment or base; a chart is named by `helm`, a kustomization by `kustomize`)
    "#]],
    );
}
