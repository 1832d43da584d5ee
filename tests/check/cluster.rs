//! Mistakes in clusters.

use super::*;

#[test]
fn mistakes_of_one_cluster_are_found_at_once() {
    check(
        r#"apiVersion: trueup/v1
kind: Cluster
metadata: { name: hpc }
spec:
  type: slurm
  name: lab
  place: { folder: etc/slurm }
  drainTimeout: soon
  controllers: [{ name: ctl }]
  pools:
    - { name: cpu, nodes: [{ name: "n[1-" }], cpus: 4, memory: 4GiB }
  partitions: []
"#,
        expect![[r#""#]],
    );
    check(
        r#"apiVersion: trueup/v1
kind: Cluster
metadata: { name: hpc }
spec:
  type: slurm
  controllers: [{ name: ctl }]
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
        expect![[r#""#]],
    );
}
