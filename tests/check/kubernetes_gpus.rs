//! What a pool of a Kubernetes cluster expects of its nodes, against the GPUs that these have as virtual
//! machines of the same environment, and against what the device plugin is told.

use super::*;

const MACHINES: &str = r#"apiVersion: trueup/v1
kind: GpuLayout
metadata: { name: shared }
spec:
  match: { pciAddress: "0000:08:00.0" }
  mode: vgpu
  partitions: [{ name: desk, type: A40-8C, count: 3 }]
---
apiVersion: trueup/v1
kind: GpuLayout
metadata: { name: given }
spec: { match: { pciAddress: "0000:09:00.0" }, mode: passthrough }
---
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: s1 }
spec: { cpus: 1, memory: 1GiB, gpus: [gpu/shared/desk-0, gpu/shared/desk-1] }
---
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: s2 }
spec: { cpus: 1, memory: 1GiB, gpus: [gpu/shared/desk-2] }
---
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: w1 }
spec: { cpus: 1, memory: 1GiB, gpus: [gpu/given] }
---
"#;

fn cluster(pools: &str) -> String {
    format!(
        "{MACHINES}apiVersion: trueup/v1\nkind: Cluster\nmetadata: {{ name: cloud }}\nspec:\n  \
         type: kubernetes\n  pools:\n{pools}"
    )
}

fn offers(pools: &str) -> Vec<(String, u64)> {
    let loaded = loaded_text(&cluster(pools));
    let found = &loaded.desired.resources[&id("cluster/cloud")].resource;
    let Resource::Cluster(cluster) = found else { panic!("{found:?}") };
    let pool = &cluster.kubernetes().unwrap().pools[0];
    pool.offers.iter().map(|(name, count)| (name.clone(), *count)).collect()
}

#[test]
fn a_pool_that_expects_what_its_machines_do_not_have_is_a_mistake() {
    check(
        &cluster(
            "    - { name: a, nodes: [s1, s2], gpus: { count: 2 } }\n    \
             - { name: c, nodes: [w1], gpus: { count: 4 } }\n    \
             - { name: d, nodes: [elsewhere], gpus: { strategy: single, count: 7 } }\n",
        ),
        expect![[r#"
            environments/lab/x.yaml:35:50 spec/conflict: vm/s2 offers 1 GPU(s), and 2 are expected of it (say what it offers then, or give it other GPUs; machines of a pool are alike)
                environments/lab/x.yaml:22:38 its GPUs are here
            environments/lab/x.yaml:36:46 spec/conflict: vm/w1 offers 1 GPU(s), and 4 are expected of it (say what it offers then, or give it other GPUs; machines of a pool are alike)
                environments/lab/x.yaml:27:38 its GPUs are here
        "#]],
    );
    check(
        &cluster(
            "    - { name: a, nodes: [s1], gpus: { strategy: mixed, partitions: { 1g.10gb: 1 } } }\n",
        ),
        expect![[r#"
            environments/lab/x.yaml:35:49 spec/conflict: vm/s1 has 2 vGPU(s), which no guest can cut (say what it offers then, or give it other GPUs; machines of a pool are alike)
                environments/lab/x.yaml:17:38 its GPUs are here
        "#]],
    );
}

#[test]
fn what_a_pool_does_not_say_follows_from_its_machines() {
    let of = |node: &str, gpus: &str| {
        offers(&format!("    - {{ name: a, nodes: [{node}, elsewhere], gpus: {gpus} }}\n"))
    };
    assert_eq!(of("s1", "{}"), [("nvidia.com/gpu".to_owned(), 2)]);
    assert_eq!(of("s1", "{ count: 2 }"), [("nvidia.com/gpu".to_owned(), 2)]);
    assert_eq!(of("w1", "{}"), [("nvidia.com/gpu".to_owned(), 1)]);
    // A guest cuts its own GPU as it likes.
    let cut = "{ strategy: mixed, partitions: { 3g.40gb: 2 } }";
    assert_eq!(of("w1", cut), [("nvidia.com/mig-3g.40gb".to_owned(), 2)]);
    // Where nothing follows, it has to be said still.
    check(
        &cluster("    - { name: a, nodes: [w1], gpus: { strategy: mixed } }\n"),
        expect![[r#"
            environments/lab/x.yaml:35:37 spec/missing-field: nothing is expected: say `count` or `partitions`
        "#]],
    );
}

#[test]
fn a_plugin_that_is_told_another_strategy_is_a_mistake() {
    let found = |strategy: &str| {
        let by_variable = format!("env: [{{ name: MIG_STRATEGY, value: {strategy} }}]");
        with_plugin(CUT, &daemon_set(&by_variable))
    };
    assert_eq!(found("mixed"), "");
    expect![[r#"
        environments/lab/manifests/plugin.yaml:5:1 spec/conflict: MIG_STRATEGY is `single`, and `gpus` of the pools of cluster/cloud say `mixed` (say the same in both: by it the plugin names what pods ask for)
            environments/lab/x.yaml:6:10 the pools are here
    "#]]
    .assert_eq(&found("single"));
}

/// What gives the parts of a pool's GPUs names of their own.
const CUT: &str = "{ strategy: mixed, partitions: { 1g.10gb: 7 } }";

/// A plugin in a container with these fields.
fn daemon_set(fields: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: a }}\n---\napiVersion: apps/v1\nkind: \
         DaemonSet\nmetadata: {{ name: plugin }}\nspec: {{ selector: {{}}, template: {{ spec: {{ \
         containers: [{{ name: side, image: y }}, {{ name: p, image: x, {fields} }}] }} }} }}\n"
    )
}

/// The settings of NVIDIA's operator.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: nvidia.com/v1\nkind: ClusterPolicy\nmetadata: {{ name: cluster-policy }}\nspec: {spec}\n"
    )
}

/// What is wrong where the pool of a cluster expects `gpus`, and a release brings this.
fn with_plugin(gpus: &str, plugin: &str) -> String {
    let cluster = format!(
        "apiVersion: trueup/v1\nkind: Cluster\nmetadata: {{ name: cloud }}\nspec:\n  type: kubernetes\n  \
         pools: [{{ name: a, nodes: [n1], gpus: {gpus} }}]\n---\napiVersion: trueup/v1\nkind: Release\n\
         metadata: {{ name: plugin }}\nspec: {{ cluster: cloud, manifests: [manifests] }}\n"
    );
    let files = repo(&[
        ("trueup.yaml", REPOSITORY),
        ("environments/lab/e.yaml", ENVIRONMENT),
        ("environments/lab/x.yaml", &cluster),
        ("environments/lab/manifests/plugin.yaml", plugin),
    ]);
    lines(&check_all(&files, &mut ParseCache::new()).diagnostics)
}

#[test]
fn a_plugin_may_be_told_by_an_argument_and_an_operator_by_its_policy() {
    let single = [
        daemon_set("args: [--mig-strategy=single]"),
        daemon_set("args: ['--fail-on-init-error=false', --mig-strategy, single]"),
        daemon_set(
            "command: [nvidia-device-plugin, --mig-strategy=mixed], args: [--mig-strategy=single]",
        ),
        // The argument counts.
        daemon_set("args: [--mig-strategy=single], env: [{ name: MIG_STRATEGY, value: mixed }]"),
    ];
    for plugin in single {
        let told = with_plugin(CUT, &plugin);
        let words =
            "plugin.yaml:5:1 spec/conflict: --mig-strategy is `single`, and `gpus` of the pools";
        assert!(told.contains(words), "{plugin}\n{told}");
    }
    let fits = [
        daemon_set("args: [--mig-strategy=mixed], env: [{ name: MIG_STRATEGY, value: single }]"),
        daemon_set("args: [--mig-strategy]"),
        daemon_set("args: [--mig-strategy-file=single]"),
        daemon_set("args: ['--mig-strategy=$(STRATEGY)'], env: [{ name: STRATEGY, value: mixed }]"),
        daemon_set("args: 7, env: [7]"),
        policy("{ mig: { strategy: mixed } }"),
        policy("{ mig: { strategy: [] } }"),
        policy("{}"),
        policy("{ mig: { strategy: single } }").replace("nvidia.com", "example.org"),
    ];
    for plugin in fits {
        assert_eq!(with_plugin(CUT, &plugin), "", "{plugin}");
    }
    expect![[r#"
        environments/lab/manifests/plugin.yaml:1:1 spec/conflict: `mig.strategy` of the ClusterPolicy is `single`, and `gpus` of the pools of cluster/cloud say `mixed` (say the same in both: by it the plugin names what pods ask for)
            environments/lab/x.yaml:6:10 the pools are here
    "#]]
    .assert_eq(&with_plugin(CUT, &policy("{ mig: { strategy: single } }")));
    // A whole GPU is called the same by that one, which is what an operator has when nobody says another.
    assert_eq!(with_plugin("{ count: 2 }", &policy("{ mig: { strategy: single } }")), "");
    let told =
        with_plugin("{ strategy: single, count: 2 }", &policy("{ mig: { strategy: none } }"));
    assert!(
        told.contains("is `none`, and `gpus` of the pools of cluster/cloud say `single`"),
        "{told}"
    );
}

/// What the example repository tells the plugin is what its pool expects, and it reaches the pool's nodes.
#[test]
fn the_example_of_the_plugin_fits_its_pool() {
    let files = read_folder(&here("examples-repo"));
    let checked = check_all(&files, &mut ParseCache::new());
    let name = Name::new("workstation").unwrap();
    let desired = &checked.environments[&name].as_ref().unwrap().desired;
    let Resource::Cluster(cluster) = &desired.resources[&id("cluster/cloud")].resource else {
        panic!()
    };
    let pool = &cluster.kubernetes().unwrap().pools[0];
    let release = &desired.resources[&id("release/nvidia-device-plugin")].resource;
    let Resource::Release(release) = release else { panic!() };
    let plugin = release.manifests.0.iter().find(|it| it.key.kind == "DaemonSet").unwrap();
    let pod = &plugin.object["spec"]["template"]["spec"];
    assert!(pool.offers.keys().all(|it| it.starts_with("nvidia.com/mig-")), "that is `mixed`");
    let told = pod["containers"][0]["env"].as_array().unwrap();
    assert!(told.iter().any(|it| it["name"] == "MIG_STRATEGY" && it["value"] == "mixed"));
    for (label, value) in pod["nodeSelector"].as_object().unwrap() {
        assert_eq!(pool.wish.labels.get(label).map(String::as_str), value.as_str());
    }
    let tolerated = pod["tolerations"].as_array().unwrap();
    for taint in &pool.wish.taints {
        let fits = |it: &serde_json::Value| it["key"] == taint.key && it["effect"] == taint.effect;
        assert!(tolerated.iter().any(fits), "{taint:?}");
    }
    // Told otherwise, it is a mistake of the repository.
    let mut files = files;
    let other =
        files.files.iter_mut().find(|it| it.path.ends_with("nvidia-device-plugin/plugin.yaml"));
    let text = fs::read_to_string(here(
        "examples-repo/environments/workstation/manifests/nvidia-device-plugin/plugin.yaml",
    ))
    .unwrap();
    let path = other.as_ref().unwrap().path.clone();
    *other.unwrap() = file(&path, text.replace("value: mixed", "value: none").as_bytes());
    let found = lines(&check_all(&files, &mut ParseCache::new()).diagnostics);
    assert!(found.contains("MIG_STRATEGY is `none`"), "{found}");
}
