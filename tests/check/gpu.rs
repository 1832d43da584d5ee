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
  mode: mig
  partitions:
    - { name: a, shape: 3g, profile: 3g.40gb }
    - { name: b, shape: 1g, count: 2, start: 0 }
    - { name: b-1, shape: 1g }
  clients:
    - { unit: a.service, uses: [a, c] }
    - { unit: a.service }
"#,
        expect![[r#"
            environments/lab/x.yaml:5:10 spec/wrong-value: the GPU is named in more than one way (give exactly one of `uuid`, `pciAddress`, `serial` and `product`: `nvidia-smi -L` shows UUIDs)
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
            environments/lab/x.yaml:5:12 spec/unknown-field: unknown field `index` (known here: uuid, pciAddress, serial, product)
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

#[test]
fn a_shared_gpu_has_types_and_nothing_of_other_modes() {
    check(
        r#"apiVersion: trueup/v1
kind: GpuLayout
metadata: { name: shared }
spec:
  match: { pciAddress: "0000:07:00.0" }
  mode: vgpu
  passthrough: { headless: true }
  partitions:
    - { name: desk, type: A40-8Q, count: 2 }
    - { name: desk-1, type: nvidia-556 }
    - { name: none }
    - { name: cut, type: A40-8Q, shape: 1g, start: 0, compute: [] }
  clients: [{ unit: a.service }]
---
apiVersion: trueup/v1
kind: GpuLayout
metadata: { name: cut }
spec:
  match: { pciAddress: "0000:08:00.0" }
  mode: mig
  vgpu: { mixedSizes: true }
  partitions: [{ name: a, shape: 1g, type: A40-8Q }]
"#,
        expect![[r#"
            environments/lab/x.yaml:7:16 spec/conflict: the GPU is not of mode `passthrough`
            environments/lab/x.yaml:10:15 spec/duplicate-partition: there is a partition `desk-1` already
                environments/lab/x.yaml:9:15 the first is here
            environments/lab/x.yaml:11:7 spec/wrong-value: a vGPU needs a type (give one: `type: NVIDIA A40-8Q`, or as the kernel has it, `type: nvidia-556`)
            environments/lab/x.yaml:12:41 spec/conflict: `shape` is for `mode: mig`, and the GPU is of mode `vgpu` (a vGPU has a `type`)
            environments/lab/x.yaml:12:52 spec/conflict: `start` is for `mode: mig`, and the GPU is of mode `vgpu` (a vGPU has a `type`)
            environments/lab/x.yaml:12:64 spec/conflict: `compute` is for `mode: mig`, and the GPU is of mode `vgpu` (a vGPU has a `type`)
            environments/lab/x.yaml:13:12 spec/conflict: a GPU that guests have serves no services of the host (stop them by hand before the GPU is given away, and leave `clients` out)
            environments/lab/x.yaml:21:9 spec/conflict: the GPU is not of mode `vgpu`
            environments/lab/x.yaml:22:44 spec/conflict: a type is that of a vGPU, and the GPU is not of mode `vgpu` (give a `shape` or a `profile`, or use `mode: vgpu`)
        "#]],
    );
}

#[test]
fn a_guest_of_a_shared_gpu_asks_for_a_part_of_it() {
    check(
        r#"apiVersion: trueup/v1
kind: GpuLayout
metadata: { name: shared }
spec:
  match: { pciAddress: "0000:07:00.0" }
  mode: vgpu
  partitions: [{ name: desk, type: A40-8Q, count: 2 }]
---
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: a }
spec:
  cpus: 1
  memory: 1GiB
  gpus: [gpu/shared/desk-0, gpu/shared, gpu/shared/desk-2, gpu/desk-1]
---
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: b }
spec: { cpus: 1, memory: 1GiB, gpus: [gpu/shared/desk-0] }
"#,
        expect![[r#"
            environments/lab/x.yaml:15:29 spec/conflict: `gpu/shared` is shared among virtual machines (ask for one of its partitions, desk-0, desk-1: `gpu/shared/desk-0`)
                environments/lab/x.yaml:6:9 its mode is here
            environments/lab/x.yaml:15:41 spec/dangling-reference: `gpu/shared` has no partition `desk-2` (did you mean `desk-0`?)
            environments/lab/x.yaml:15:60 spec/dangling-reference: `gpu/desk-1` is no layout, but there is a partition of that name (write `gpu/shared/desk-1`)
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
        expect![[r#"
            environments/lab/x.yaml:27:7 spec/duplicate-device: `gpu/given` is in the list already
            environments/lab/x.yaml:28:7 spec/dangling-reference: there is no `gpu/give` in environment `lab` (did you mean `given`?)
            environments/lab/x.yaml:29:7 spec/dangling-reference: `gpu/train` is no layout, but there is a partition of that name (write `gpu/cut/train`)
            environments/lab/x.yaml:30:7 spec/conflict: `gpu/cut` is cut into MIG partitions, which only processes of the host can use (`mode: vgpu` gives parts of a GPU to virtual machines, and `mode: passthrough` all of it)
                environments/lab/x.yaml:11:9 its mode is here
            environments/lab/x.yaml:31:7 spec/conflict: `gpu/cut` is cut into MIG partitions, which only processes of the host can use (`mode: vgpu` gives parts of a GPU to virtual machines, and `mode: passthrough` all of it)
                environments/lab/x.yaml:11:9 its mode is here
            environments/lab/x.yaml:32:7 spec/dangling-reference: `gpu/cut` has no partition `trian` (did you mean `train`?)
            environments/lab/x.yaml:33:7 spec/conflict: `gpu/kept` is used by the host itself (give that layout `mode: passthrough`: the host then has no use of the GPU)
                environments/lab/x.yaml:17:54 its mode is here
            environments/lab/x.yaml:34:7 spec/wrong-value: `given` names no GPU (write `gpu/<layout>`, or `gpu/<layout>/<partition>`)
        "#]],
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
        expect![[r#"
            environments/lab/x.yaml:33:10 spec/shared-gpu: `gpu/given` is used by `vm/a` too (one machine at a time can have it)
                environments/lab/x.yaml:25:10 the other use is here
            environments/lab/x.yaml:41:16 spec/shared-gpu: PCI function 0000:08:00.0 is the GPU of `gpu/kept` (ask for it with `gpus: [gpu/kept]` and `mode: passthrough`, or remove the layout)
                environments/lab/x.yaml:17:16 the layout names it here
        "#]],
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
        expect![[r#"
            environments/lab/x.yaml:7:25 spec/wrong-value: `07:00` is not a PCI address
            environments/lab/x.yaml:8:15 spec/conflict: a GPU that is given to a guest as a whole has no partitions (use `mode: mig` or `mode: vgpu`, or leave the partitions out)
            environments/lab/x.yaml:9:12 spec/conflict: a GPU that guests have serves no services of the host (stop them by hand before the GPU is given away, and leave `clients` out)
            environments/lab/x.yaml:17:16 spec/conflict: the GPU is not of mode `passthrough`
        "#]],
    );
}

/// What a layout takes along, and types that need a GPU that is cut and shared at once.
#[test]
fn what_goes_along_has_no_other_guest_and_what_cannot_be_shared_is_said() {
    check(
        r#"apiVersion: trueup/v1
kind: GpuLayout
metadata: { name: given }
spec:
  match: { uuid: GPU-00000000-0000-4000-8000-000000000000 }
  mode: passthrough
  passthrough: { with: ["0000:09:00.1"] }
---
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: a }
spec:
  cpus: 1
  memory: 1GiB
  hostDevices: [{ pci: "0000:09:00.1" }]
---
apiVersion: trueup/v1
kind: GpuLayout
metadata: { name: shared }
spec:
  match: { uuid: GPU-00000000-0000-4000-8000-000000000001 }
  mode: vgpu
  partitions:
    - { name: fine, type: NVIDIA A100-10C }
    - { name: cut, type: NVIDIA A100-1-5C }
"#,
        expect![[r#"
            environments/lab/x.yaml:15:16 spec/shared-gpu: PCI function 0000:09:00.1 goes along with `gpu/given` (leave it out of one of them)
                environments/lab/x.yaml:7:24 the layout names it here
            environments/lab/x.yaml:25:26 spec/wrong-value: this type is for a GPU that is cut (MIG) and shared at once, which is not supported (use a type that shares the GPU in time, such as `NVIDIA A100-10C`, or `mode: mig` without virtual machines)
        "#]],
    );
}
