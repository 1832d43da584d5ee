//! Kubernetes clusters that are built of machines which nobody wrote down.

use trueup::model::resource::OnImageChange;

use super::*;

const NETWORK_AND_IMAGE: &str = "apiVersion: trueup/v1
kind: Network
metadata: { name: cloud }
spec: { mode: isolated, cidr: 10.9.0.1/24 }
---
apiVersion: trueup/v1
kind: Image
metadata: { name: node }
spec: { size: 4GiB, build: { suite: bookworm } }
---
";

/// A document of a cluster whose spec has these lines.
fn document(spec: &str) -> String {
    let head = "apiVersion: trueup/v1\nkind: Cluster\nmetadata: { name: cloud }";
    format!("{head}\nspec:\n  type: kubernetes\n{spec}")
}

/// A cluster that is built, with these lines.
fn built(more: &str) -> String {
    let spec = format!(
        "  version: '1.33'\n  machines: {{ image: node, network: cloud, memory: 2GiB, boot: {{ image: node \
         }} }}\n  controlPlane: [{{ name: ctl, address: 10.9.0.10 }}]\n{more}"
    );
    format!("{NETWORK_AND_IMAGE}{}", document(&spec))
}

#[test]
fn a_cluster_is_built_of_machines_that_nobody_wrote_down() {
    let text = format!(
        "{NETWORK_AND_IMAGE}{}",
        document(
            r#"  version: '1.33'
  machines: { image: node, network: cloud, memory: 2GiB, boot: { image: node }, cpus: 4 }
  controlPlane: [{ name: ctl, address: 10.9.0.10, machine: { memory: 3GiB } }]
  pools:
    - name: web
      nodes: [{ name: "n[1-2]", address: 10.9.0.11 }]
      labels: { tier: web }
      machine: { memory: 4GiB, onImageChange: replace }
  certificates: { renewBefore: 30d }
"#
        )
    );
    let loaded = loaded_text(&text);
    let resources = &loaded.desired.resources;
    let names: Vec<String> = resources.keys().map(ToString::to_string).collect();
    let made: Vec<&str> =
        names.iter().filter(|name| name.contains("cloud-")).map(String::as_str).collect();
    assert_eq!(
        made.join(" "),
        "disk/cloud-ctl disk/cloud-ctl-data disk/cloud-n1 disk/cloud-n2 seed/cloud-ctl seed/cloud-n1 seed/cloud-n2 \
         vm/cloud-ctl vm/cloud-n1 vm/cloud-n2"
    );
    let id = |text: &str| text.parse::<ResourceId>().unwrap();
    let memory = |at: &str| {
        let Resource::VirtualMachine(vm) = &resources[&id(at)].resource else { panic!() };
        assert!(vm.guest_agent && vm.readiness.is_some());
        (vm.cpus.count, vm.memory.current >> 20)
    };
    assert_eq!((memory("vm/cloud-ctl"), memory("vm/cloud-n2")), ((4, 3), (4, 4)));
    let Resource::Seed(seed) = &resources[&id("seed/cloud-n2")].resource else { panic!() };
    assert!(seed.user_data.as_ref().unwrap().contains("\"hostname\": \"n2\""), "{seed:?}");
    assert!(seed.network_config.as_ref().unwrap().contains("10.9.0.12/24"), "{seed:?}");
    let cluster = &resources[&id("cluster/cloud")];
    assert!(cluster.depends_on.contains(&id("vm/cloud-ctl")));
    let shown = serde_json::to_string(&cluster.resource).unwrap();
    for said in [
        r#""n2":{"guest":"cloud-n2","address":"10.9.0.12"}"#,
        r#""controlPlane":"ctl""#,
        r#""pods":"10.244.0.0/16""#,
        r#""services":"10.96.0.0/12""#,
        r#""bridge":true,"dns":true"#,
        r#""renewBeforeS":2592000"#,
        r#""data":"cloud-ctl-data""#,
        r#""nodes":["n1","n2"]"#,
    ] {
        assert!(shown.contains(said), "no {said} in {shown}");
    }
    // What the cluster knows is beside the disk that an image may take.
    let disk = |at: &str| match &resources[&id(at)].resource {
        Resource::Disk(disk) => (disk.backing.is_some(), disk.on_image_change, disk.size >> 30),
        other => panic!("{other:?}"),
    };
    assert_eq!(disk("disk/cloud-ctl-data"), (false, Some(OnImageChange::Keep), 8));
    assert_eq!(disk("disk/cloud-ctl").1, Some(OnImageChange::Keep), "nobody asked for another");
    let Resource::VirtualMachine(ctl) = &resources[&id("vm/cloud-ctl")].resource else { panic!() };
    let paths: Vec<&str> = ctl.disks.iter().filter_map(|it| it.path.as_deref()).collect();
    assert!(paths[0].contains("cloud-ctl.") && paths[1].contains("cloud-ctl-data."), "{paths:?}");
    let upgraded = loaded_text(&text.replace(
        "address: 10.9.0.10, machine: { memory: 3GiB }",
        "address: 10.9.0.10, dataDisk: 20GiB, machine: { memory: 3GiB, onImageChange: replace }",
    ));
    let Resource::Disk(data) = &upgraded.desired.resources[&id("disk/cloud-ctl-data")].resource
    else {
        panic!()
    };
    assert_eq!(data.size >> 30, 20);
    let Resource::Disk(root) = &upgraded.desired.resources[&id("disk/cloud-ctl")].resource else {
        panic!()
    };
    assert_eq!(root.on_image_change, Some(OnImageChange::Replace));
    // A change of what Kubernetes is told changes no machine: nothing is started anew for it.
    let other = loaded_text(&text.replace("tier: web", "tier: db").replace("30d", "60d"));
    for (id, wish) in resources {
        let same = other.desired.resources[id].digest == wish.digest;
        assert_eq!(same, id.to_string() != "cluster/cloud", "{id}");
    }
}

#[test]
fn certificates_are_renewed_unless_the_document_says_that_they_are_not() {
    let of = |more: &str| loaded_text(&built(more)).desired.resources;
    let cluster = id("cluster/cloud");
    let [unsaid, said, never] = [
        of(""),
        of("  certificates: { renewBefore: 30d }\n"),
        of("  certificates: { renewBefore: never }\n"),
    ];
    let shown = [&unsaid, &never].map(|it| serde_json::to_string(&it[&cluster].resource).unwrap());
    assert!(shown[0].contains(r#""renewBeforeS":2592000"#), "{}", shown[0]);
    assert!(!shown[1].contains("renewBefore"), "{}", shown[1]);
    for (id, wish) in &unsaid {
        assert_eq!(said[id].digest, wish.digest, "{id}");
        assert_eq!(never[id].digest == wish.digest, *id != cluster, "{id}");
    }
}

#[test]
fn mistakes_of_machines_are_told_where_the_cluster_says_them() {
    check(
        &format!(
            "{NETWORK_AND_IMAGE}{}",
            document(
                r#"  version: '1.12'
  machines: { image: gone, network: cloud, memory: 2GiB }
  podCidr: 10.9.0.0/16
  serviceCidr: 10.9.8.0/9
  imageRepository: 'docker pull x'
  controlPlane:
    - { name: ctl, address: 10.9.0.10, dataDisk: much }
    - { name: two, address: 10.9.0.9 }
  pools:
    - name: web
      nodes: [n9, { name: "n[1-2]", address: 10.9.0.9, dataDisk: 8GiB }, { name: n3 }, { name: ctl, address: here }]
"#
            )
        ),
        expect![[r#"
            environments/lab/x.yaml:16:12 spec/wrong-value: kubeadm v1.12.0 is not known here: 1.20 is the oldest
            environments/lab/x.yaml:17:22 spec/dangling-reference: there is no `image/gone` in environment `lab`
            environments/lab/x.yaml:19:16 spec/wrong-value: `10.9.8.0/9` has bits after its first 9: 10.0.0.0/9 is meant, or another
            environments/lab/x.yaml:20:20 spec/wrong-value: is no place of images, as registry.example.org/k8s is
            environments/lab/x.yaml:22:50 spec/wrong-value: `much` is not a size: write a number and a unit, `20GiB`
            environments/lab/x.yaml:23:7 spec/conflict: a cluster that is built has one control plane: several need an address that moves between them, which is not made here
            environments/lab/x.yaml:23:29 spec/duplicate-address: 10.9.0.9 is taken by `vm/cloud-n1`
                environments/lab/x.yaml:26:46 here
            environments/lab/x.yaml:26:15 spec/missing-field: a machine is made for it, which needs an address (write `{name: …, address: …}`; of an entry with several, the first one's)
            environments/lab/x.yaml:26:46 spec/duplicate-address: 10.9.0.10 is taken by `vm/cloud-ctl`
                environments/lab/x.yaml:22:29 here
            environments/lab/x.yaml:26:66 spec/conflict: is for the control plane: a node has nothing that has to outlive it
            environments/lab/x.yaml:26:74 spec/missing-field: field `address` is missing (an address on the machines' network; of an entry with several, the first one)
            environments/lab/x.yaml:26:110 spec/wrong-value: `here` is not an IP address
        "#]],
    );
    check(
        &format!(
            "{NETWORK_AND_IMAGE}{}",
            document(
                r#"  machines: { image: node, network: cloud, memory: 2GiB }
  podCidr: 10.9.0.0/25
  serviceCidr: 10.8.0.0/10
  certificates: { renewBefore: 360d }
  pools:
    - { name: web, nodes: [{ name: n1, address: "fd00::1" }, { name: n2, port: 1 }] }
"#
            )
        ),
        expect![[r#"
            environments/lab/x.yaml:21:74 spec/unknown-field: unknown field `port` (known here: name, address, machine, dataDisk)
        "#]],
    );
}

#[test]
fn kubelets_that_may_not_stand_beside_the_api_server_are_told() {
    let pools = |versions: [&str; 4]| {
        let pool = |(n, version): (usize, &&str)| {
            format!(
                "    - {{ name: p{n}, version: '{version}', nodes: [{{ name: n{n}, address: 10.9.0.2{n} }}] }}\n"
            )
        };
        versions.iter().enumerate().map(pool).collect::<String>()
    };
    let text = |server: &str, versions| {
        let spec = format!(
            "  version: '{server}'\n  machines: {{ image: node, network: cloud, memory: 2GiB }}\n  \
             controlPlane: [{{ name: ctl, address: 10.9.0.10 }}]\n  pools:\n{}",
            pools(versions)
        );
        format!("{NETWORK_AND_IMAGE}{}", document(&spec))
    };
    loaded_text(&text("1.33", ["1.33", "1.32", "1.31", "1.30"]));
    check(
        &text("1.21", ["1.22", "1.20", "1.18", "1.21"]),
        expect![[r#"
            environments/lab/x.yaml:20:28 spec/conflict: the kubelet of pool p0 is v1.22.0, newer than the API server of the cluster (v1.21.0): upgrade the control plane first
            environments/lab/x.yaml:22:28 spec/conflict: the kubelet of pool p2 is v1.18.0, the API server of the cluster v1.21.0: at most 2 minors behind are allowed; upgrade the node first
        "#]],
    );
    check(
        &text("1.21", ["1.21", "1.21", "1.21", "next"]),
        expect![[r#"
            environments/lab/x.yaml:23:28 spec/wrong-value: `next` is no minor release: write '1.33'
        "#]],
    );
}

#[test]
fn what_is_out_of_range_is_told_at_its_line() {
    check(
        &built(
            r#"  podCidr: 172.16.0.0/25
  serviceCidr: 192.0.0.0/10
  certificates:
    renewBefore: 301d
    warnBefore: 0s
  drainTimeout: 0s
  maxUnavailable: 0
  namespaces:
    - name: research
      kubeconfigs:
        - { user: ann, role: view, atMost: 8d }
        - { user: bob, role: view, atMost: 9m }
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:19:12 spec/range: each node gets a /24 of it, and there is none in 172.16.0.0/25
            environments/lab/x.yaml:20:16 spec/range: kubeadm takes a /12 to /28 for services, not 192.0.0.0/10
            environments/lab/x.yaml:22:18 spec/range: they last a year, and would be renewed again and again: at most 300d
            environments/lab/x.yaml:23:17 spec/wrong-value: `0s` is not a duration: write `90s`, `5m`, `4h` or `1d`
            environments/lab/x.yaml:24:17 spec/wrong-value: `0s` is not a duration: write `90s`, `5m`, `4h` or `1d`
            environments/lab/x.yaml:25:19 spec/wrong-value: with 0 no node could ever change
            environments/lab/x.yaml:29:44 spec/wrong-value: no token is made for less than 10m, and none here for more than 7d (for longer, give them rights with `access`)
            environments/lab/x.yaml:30:44 spec/wrong-value: no token is made for less than 10m, and none here for more than 7d (for longer, give them rights with `access`)
        "#]],
    );
    check(
        &built(
            r#"  podCidr: 10.9.0.0/16
  serviceCidr: 10.9.64.0/29
  certificates: { renewBefore: soon }
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:19:12 spec/conflict: 10.9.0.0/16 has addresses of the machines' own network cloud (10.9.0.0/24) (choose another one)
            environments/lab/x.yaml:20:16 spec/conflict: 10.9.64.0/29 of services and 10.9.0.0/16 of pods have addresses in common (choose other ones)
            environments/lab/x.yaml:20:16 spec/range: kubeadm takes a /12 to /28 for services, not 10.9.64.0/29
            environments/lab/x.yaml:21:32 spec/wrong-value: `soon` is not a duration: write `90s`, `5m`, `4h` or `1d`
        "#]],
    );
    check(
        &built(
            r#"  podCidr: 10.244.0.0
  serviceCidr: fd00::/112
  pools:
    - name: web
      nodes: [{ name: n1, address: "fd00::1" }]
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:19:12 spec/wrong-value: `10.244.0.0` is no subnet, as 10.244.0.0/16 is
            environments/lab/x.yaml:20:16 spec/wrong-value: `fd00::/112` is no subnet, as 10.244.0.0/16 is
            environments/lab/x.yaml:23:36 spec/outside: fd00::1 is not an address of a guest on `network/cloud` (the network is 10.9.0.0/24)
            environments/lab/x.yaml:23:36 spec/wrong-value: a cluster that is built has addresses of IPv4
        "#]],
    );
}

#[test]
fn a_policy_that_the_network_of_pods_does_not_heed_is_told_and_refuses_nothing() {
    let namespaces = "  namespaces:
    - { name: shop }
    - { name: research, networkPolicy: sameNamespace }
    - name: vault
      networkPolicy: denyAll
";
    let text = built(namespaces);
    check(
        &text,
        expect![[r#"
            environments/lab/x.yaml:21:40 spec/unheeded: nothing heeds `sameNamespace` here: the network that trueup gives this cluster (`cni: bridge`) knows no policies, so every pod is reached by all others (say `cni: none`, and bring a network that knows policies by a `Release`)
            environments/lab/x.yaml:23:22 spec/unheeded: nothing heeds `denyAll` here: the network that trueup gives this cluster (`cni: bridge`) knows no policies, so every pod is reached by all others (say `cni: none`, and bring a network that knows policies by a `Release`)
        "#]],
    );
    let warnings = loaded_text(&text).warnings;
    assert!(warnings.iter().all(|it| it.severity == Severity::Warning) && warnings.len() == 2);
    // It is told of a document that was read before, too; and the environment may say otherwise.
    let patch = "apiVersion: trueup/v1\nkind: Environment\nmetadata: { name: lab }\nspec:\n  patches:\n    \
                 - target: cluster/cloud\n      patch: { spec: { cni: none } }\n";
    let with = |environment: &str| {
        let (e, x) = ("environments/lab/e.yaml", "environments/lab/x.yaml");
        repo(&[("trueup.yaml", REPOSITORY), (e, environment), (x, &text)])
    };
    let select = Select::Host("here".to_owned());
    let mut cache = ParseCache::new();
    let warnings =
        |environment| load(&with(environment), &select, &mut cache).unwrap().warnings.len();
    assert_eq!([ENVIRONMENT, ENVIRONMENT, patch].map(warnings), [2, 2, 0]);
    // Another network may know them, and one that trueup did not bring is not known here.
    check(&built(&format!("  cni: none\n{namespaces}")), expect![""]);
    check(&document(namespaces), expect![""]);
}

#[test]
fn what_is_built_has_no_place_in_what_is_taken_over() {
    check(
        &document(
            r#"  controlPlane: [{ name: ctl }]
  podCidr: 10.244.0.0/16
  serviceCidr: 10.96.0.0/12
  cni: none
  dns: false
  imageRepository: registry.example.org/k8s
  certificates: { renewBefore: 30d }
  pools:
    - name: web
      nodes: [n1, { name: n2, address: 10.9.0.2, machine: { memory: 1GiB } }]
      machine: { memory: 1GiB }
"#,
        ),
        expect![[r#"
            environments/lab/x.yaml:6:17 spec/conflict: `controlPlane` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:7:12 spec/conflict: `podCidr` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:8:16 spec/conflict: `serviceCidr` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:9:8 spec/conflict: `cni` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:10:8 spec/conflict: `dns` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:11:20 spec/conflict: `imageRepository` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:12:32 spec/conflict: `renewBefore` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:15:40 spec/conflict: `address` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:15:59 spec/conflict: `machine` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
            environments/lab/x.yaml:16:16 spec/conflict: `machine` is for a cluster that is built, and this one is taken over (say `machines` to have it built of virtual machines)
        "#]],
    );
    let both = document(
        r#"  version: '1.33'
  machines: { image: node, network: cloud, memory: 2GiB }
  controlPlane: [{ name: ctl, address: 10.9.0.10 }]
"#,
    )
    .replace("spec:\n", "lifecycle: { adopt: true }\nspec:\n");
    check(
        &format!("{NETWORK_AND_IMAGE}{both}"),
        expect![[r#"
        environments/lab/x.yaml:14:21 spec/conflict: a cluster is built or taken over, not both (leave out `adopt`, or `machines`)
    "#]],
    );
}
