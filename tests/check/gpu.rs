//! Mistakes in layouts of GPUs.

use super::*;

#[test]
fn mistakes_of_one_layout_are_found_at_once() {
    check(
        r#"apiVersion: trueup/v1
kind: GpuLayout
metadata: { name: big }
spec:
  match: { uuid: GPU-00000000-0000-4000-8000-00000000000A, serial: "1650" }
  mode: vgpu
  partitions:
    - { name: a, shape: 3g, profile: 3g.40gb }
    - { name: b, shape: 1g, count: 2, start: 0 }
    - { name: b-1, shape: 1g }
  clients:
    - { unit: a.service, uses: [a, c] }
    - { unit: a.service }
"#,
        expect![[r#"
            environments/lab/x.yaml:5:10 spec/wrong-value: the GPU is named in more than one way (give exactly one of `uuid`, `pciAddress` and `serial`: `nvidia-smi -L` shows UUIDs)
            environments/lab/x.yaml:6:9 spec/unsupported: mode `vgpu` is known, but this version of trueup does not do it yet (use `whole`, `mig` or `passthrough`)
            environments/lab/x.yaml:8:7 spec/wrong-value: a shape and a profile are given (give one of them: `shape: 3g`, or `profile: 3g.40gb`)
            environments/lab/x.yaml:9:46 spec/conflict: a start is for one partition, and here are several (write one entry for each, or leave `start` out)
            environments/lab/x.yaml:10:15 spec/duplicate-partition: there is a partition `b-1` already
                environments/lab/x.yaml:9:15 the first is here
            environments/lab/x.yaml:12:36 spec/dangling-reference: there is no partition `c` here (did you mean `a`?)
            environments/lab/x.yaml:13:15 spec/duplicate: unit `a.service` is there already (name all partitions that it uses in one entry)
        "#]],
    );
}

#[test]
fn an_index_names_no_gpu() {
    check(
        "apiVersion: trueup/v1\nkind: GpuLayout\nmetadata: { name: big }\nspec:\n  match: { index: 0 \
         }\n  mode: whole\n",
        expect![[r#"
            environments/lab/x.yaml:5:12 spec/unknown-field: unknown field `index` (known here: uuid, pciAddress, serial)
        "#]],
    );
}

#[test]
fn one_gpu_has_one_layout() {
    let layout = |name: &str, uuid: &str| {
        format!(
            "apiVersion: trueup/v1\nkind: GpuLayout\nmetadata: {{ name: {name} }}\nspec:\n  match: \
             {{ uuid: {uuid} }}\n  mode: whole\n"
        )
    };
    let (upper, lower) =
        ("GPU-00000000-0000-4000-8000-00000000000A", "GPU-00000000-0000-4000-8000-00000000000a");
    check(
        &format!("{}---\n{}", layout("one", upper), layout("two", lower)),
        expect![[r#"
        environments/lab/x.yaml:12:10 spec/duplicate-gpu: GPU-00000000-0000-4000-8000-00000000000a has a layout already, `gpu/one` (put all partitions of a GPU into one layout)
            environments/lab/x.yaml:5:10 the other one is here
    "#]],
    );
}

#[test]
fn a_whole_gpu_has_no_partitions() {
    check(
        "apiVersion: trueup/v1\nkind: GpuLayout\nmetadata: { name: big }\nspec:\n  match: { \
         pciAddress: \"0000:07:00.0\" }\n  mode: whole\n  partitions: [{ name: a, shape: 1g }]\n",
        expect![[r#"
            environments/lab/x.yaml:7:15 spec/conflict: a GPU used as a whole has no partitions (use `mode: mig`, or leave the partitions out)
        "#]],
    );
}

const LAYOUTS: &str = r#"apiVersion: trueup/v1
kind: GpuLayout
metadata: { name: given }
spec: { match: { pciAddress: "0000:07:00.0" }, mode: passthrough }
---
apiVersion: trueup/v1
kind: GpuLayout
metadata: { name: cut }
spec:
  match: { serial: "1650" }
  mode: mig
  partitions: [{ name: train, shape: 3g }]
---
apiVersion: trueup/v1
kind: GpuLayout
metadata: { name: kept }
spec: { match: { pciAddress: "0000:08:00.0" }, mode: whole }
---
"#;

#[test]
fn a_guest_asks_only_for_what_a_layout_gives() {
    check(
        &format!(
            r#"{LAYOUTS}apiVersion: trueup/v1
kind: VirtualMachine
metadata: {{ name: a }}
spec:
  cpus: 1
  memory: 1GiB
  gpus:
    - gpu/given
    - gpu/given
    - gpu/give
    - gpu/train
    - gpu/cut
    - gpu/cut/train
    - gpu/cut/trian
    - gpu/kept
    - given
"#
        ),
        expect![[r#""#]],
    );
}

#[test]
fn one_gpu_has_one_guest() {
    let vm = |name: &str, more: &str| {
        format!(
            "apiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {{ name: {name} }}\nspec:\n  \
             cpus: 1\n  memory: 1GiB\n  {more}\n"
        )
    };
    check(
        &format!(
            "{LAYOUTS}{}---\n{}---\n{}",
            vm("a", "gpus: [gpu/given]"),
            vm("b", "gpus: [gpu/given]"),
            vm("c", "hostDevices: [{ pci: \"0000:08:00.0\" }]")
        ),
        expect![[r#""#]],
    );
}

#[test]
fn a_gpu_that_guests_have_serves_nobody_else() {
    check(
        r#"apiVersion: trueup/v1
kind: GpuLayout
metadata: { name: given }
spec:
  match: { pciAddress: "0000:07:00.0" }
  mode: passthrough
  passthrough: { with: ["07:00"] }
  partitions: [{ name: a, shape: 1g }]
  clients: [{ unit: a.service }]
---
apiVersion: trueup/v1
kind: GpuLayout
metadata: { name: kept }
spec:
  match: { pciAddress: "0000:08:00.0" }
  mode: whole
  passthrough: { headless: true }
"#,
        expect![[r#""#]],
    );
}
