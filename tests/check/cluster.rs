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
        expect![[r#"
            environments/lab/x.yaml:7:20 spec/wrong-value: `etc/slurm` is not a plain absolute path: start with `/`, leave out `.`, `..` and `//`
            environments/lab/x.yaml:8:17 spec/wrong-value: `soon` is not a duration: write `90s`, `5m`, `4h` or `1d`
            environments/lab/x.yaml:11:36 spec/wrong-value: `n[1-` has a bracket that does not close, or nothing in it
        "#]],
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
        expect![[r#"
            environments/lab/x.yaml:10:14 spec/wrong-value: `n4` is also pools[0].nodes[3]
            environments/lab/x.yaml:13:47 spec/wrong-value: are 1, count says 2
            environments/lab/x.yaml:15:29 spec/wrong-value: there is no pool `gone`
            environments/lab/x.yaml:16:13 spec/wrong-value: needs `accounting`: Slurm keeps them in its database
            environments/lab/x.yaml:17:30 spec/wrong-value: follows from `name`: say it there
            environments/lab/x.yaml:17:50 spec/wrong-value: a password has no place in a file that everybody reads
        "#]],
    );
}
