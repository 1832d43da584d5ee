//! GPUs that a pool of a Slurm cluster gives to jobs, against those that the machines have which trueup makes
//! for it.

use trueup::spec::Severity;

use super::*;

const BEFORE: &str = r#"apiVersion: trueup/v1
kind: Network
metadata: { name: hpc }
spec: { mode: isolated, cidr: 10.9.0.0/24 }
---
apiVersion: trueup/v1
kind: Image
metadata: { name: slurm }
spec: { size: 2GiB, build: { suite: bookworm } }
---
apiVersion: trueup/v1
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
kind: Cluster
metadata: { name: hpc }
spec:
  type: slurm
  machines: { image: slurm, network: hpc, memory: 1GiB, boot: { image: slurm } }
  controllers: [{ name: ctl, address: 10.9.0.10 }]
  partitions: [{ name: batch, pools: [gpu], default: true }]
  pools:
"#;

/// A cluster with one pool of nodes, each with these GPUs, and these generic resources.
fn cluster(gpus: &[&str], gres: &str) -> String {
    let node = |(n, gpus): (usize, &&str)| {
        format!("        - {{ name: g{n}, address: 10.9.0.2{n}, machine: {{ gpus: [{gpus}] }} }}\n")
    };
    let nodes: String = gpus.iter().enumerate().map(node).collect();
    format!(
        "{BEFORE}    - name: gpu\n      nodes:\n{nodes}      cpus: 1\n      memory: 500MiB\n{gres}"
    )
}

#[test]
fn jobs_are_given_the_gpus_that_the_machines_have() {
    loaded_text(&cluster(&["gpu/shared/desk-0", "gpu/given"], "      gres: [{ count: 1 }]\n"));
    // A guest cuts its own GPU as it likes.
    let cut = "      gres: [{ type: 1g.5gb, count: 7 }]\n";
    loaded_text(&cluster(&["gpu/given"], cut));
    // What is no GPU is nobody's to count.
    loaded_text(&cluster(&["", ""], "      gres: [{ name: fpga, count: 2 }]\n"));
}

#[test]
fn other_gpus_than_the_machines_have_are_a_mistake_at_the_resource() {
    check(
        &cluster(
            &["gpu/shared/desk-0, gpu/shared/desk-1", "gpu/given"],
            "      gres:\n        - { type: a40, count: 2 }\n        - { name: shard, count: 8 }\n",
        ),
        expect![[r#"
            environments/lab/x.yaml:39:7 spec/conflict: jobs get 2 GPUs of each node, and vm/hpc-g1 has 1 GPU (say in `count` how many the machine has, or give it others in `machine: {gpus: […]}`; parts that a guest cuts are told by their profile: `type: 1g.10gb`)
                environments/lab/x.yaml:36:60 its GPUs are here
        "#]],
    );
    check(
        &cluster(
            &["gpu/shared/desk-0", "gpu/shared/desk-1"],
            "      gres: [{ type: 1g.10gb, count: 2 }]\n",
        ),
        expect![[r#"
            environments/lab/x.yaml:39:13 spec/conflict: jobs get 2 part(s) of a GPU of each node, and vm/hpc-g0 has 1 GPU (1 more of its machines are no better) (say in `count` how many the machine has, or give it others in `machine: {gpus: […]}`; parts that a guest cuts are told by their profile: `type: 1g.10gb`)
                environments/lab/x.yaml:35:60 its GPUs are here
        "#]],
    );
    check(
        &cluster(&["", ""], "      gres: [{ count: 1 }]\n"),
        expect![[r#"
        environments/lab/x.yaml:39:13 spec/conflict: jobs get 1 GPU of each node, and vm/hpc-g0 has no GPU (1 more of its machines are no better) (say in `count` how many the machine has, or give it others in `machine: {gpus: […]}`; parts that a guest cuts are told by their profile: `type: 1g.10gb`)
            environments/lab/x.yaml:35:60 its GPUs are here
    "#]],
    );
}

#[test]
fn gpus_that_no_job_can_ask_for_are_told_and_no_mistake() {
    let text = cluster(&["gpu/shared/desk-0", "gpu/given"], "");
    check(
        &text,
        expect![[r#"
        environments/lab/x.yaml:33:7 spec/unused-gpu: vm/hpc-g0 has 1 GPU, which no job can ask for (1 more of its machines are no better) (say `gres: [{count: 1}]` in the pool)
            environments/lab/x.yaml:35:60 its GPUs are here
    "#]],
    );
    let mut cache = ParseCache::new();
    let files = repo(&[("trueup.yaml", REPOSITORY), ("environments/lab/x.yaml", &text)]);
    for pass in ["first", "from the cache"] {
        let found = check_all(&files, &mut cache).diagnostics;
        assert_eq!(found.len(), 1, "{pass}");
        assert_eq!(found[0].severity, Severity::Warning, "{pass}");
    }
    assert_eq!(loaded_text(&text).warnings.len(), 1);
}

/// One that is there has machines of its own, of which nothing is known here.
#[test]
fn a_cluster_that_is_taken_over_is_not_compared() {
    let text = "apiVersion: trueup/v1\nkind: Cluster\nmetadata: { name: hpc }\nlifecycle: { adopt: true }\n\
                spec:\n  type: slurm\n  controllers: [{ name: ctl }]\n  partitions: [{ name: batch, pools: \
                [gpu] }]\n  pools: [{ name: gpu, nodes: [{ name: g1 }], cpus: 1, memory: 1GiB, gres: [{ \
                count: 2 }] }]\n";
    loaded_text(text);
}
