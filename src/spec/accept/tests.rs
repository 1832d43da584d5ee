//! Accepting drift by example.

use serde_json::json;

use super::*;

const REPOSITORY: &str = "\
apiVersion: trueup/v1
kind: Repository
metadata: { name: lab }
spec:
  environments:
    lab: { hosts: [box] }
";

const LAB: &str = "\
# The lab.
apiVersion: trueup/v1
kind: Network
metadata: { name: lan }
spec:
  cidr: 10.7.0.0/24
  dhcp: {}
---
apiVersion: trueup/v1
kind: Disk
metadata: { name: root }
spec: { size: 1GiB }
---
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: web }
spec:
  cpus: 2  # enough
  memory: 2GiB
  disks: [{ disk: root }]
";

fn accepted(differing: &[(&str, &str, Option<Value>)]) -> Acceptance {
    accepted_in(&[("environments/lab/lab.yaml", LAB)], differing)
}

fn accepted_in(files: &[(&str, &str)], differing: &[(&str, &str, Option<Value>)]) -> Acceptance {
    let file = |path: &str, text: &str| {
        RepoFile::new(path, Digest::of(text).to_string(), text.as_bytes().to_vec())
    };
    let mut all: Vec<_> = files.iter().map(|(path, text)| file(path, text)).collect();
    all.push(file("trueup.yaml", REPOSITORY));
    let repo = RepoFiles { files: all };
    let differing: Vec<Differing> = differing
        .iter()
        .map(|(resource, path, has)| Differing {
            resource: resource.parse().unwrap(),
            path: (*path).into(),
            has: has.clone(),
        })
        .collect();
    let select = Select::Environment(crate::model::Name::new("lab").unwrap());
    match accept(&repo, &select, &differing) {
        Ok(acceptance) => acceptance,
        Err(found) => panic!("{found:#?}"),
    }
}

fn written(acceptance: &Acceptance) -> Vec<String> {
    let line = |it: &Written| format!("{} {} {}:{}", it.resource, it.field, it.path, it.line);
    acceptance.accepted.iter().map(line).collect()
}

#[test]
fn lists_and_objects_are_replaced_whole() {
    let lan = "\
apiVersion: trueup/v1
kind: Network
metadata: { name: lan }
spec:
  cidr: 10.7.0.0/24
  dns:
  - ip: 10.7.0.9
    names: [old]
  - ip: 10.7.0.8
    names: [kept]
  # The name.
  domain: { name: a.internal, localOnly: true }
";
    let acceptance = accepted_in(
        &[("environments/lab/lan.yaml", lan)],
        &[
            ("network/lan", "/dns/10.7.0.9", Some(json!({ "ip": "10.7.0.9", "names": ["new"] }))),
            ("network/lan", "/domain", Some(json!({ "name": "b.internal", "localOnly": false }))),
            ("network/lan", "/dns/10.7.0.8", None),
        ],
    );
    assert_eq!(acceptance.refused, []);
    expect_test::expect![[r#"
        --- a/environments/lab/lan.yaml
        +++ b/environments/lab/lan.yaml
        @@ -3,10 +3,6 @@
         metadata: { name: lan }
         spec:
           cidr: 10.7.0.0/24
        -  dns:
        +  dns: [{"ip":"10.7.0.9","names":["new"]}]
        -  - ip: 10.7.0.9
        -    names: [old]
        -  - ip: 10.7.0.8
        -    names: [kept]
           # The name.
        -  domain: { name: a.internal, localOnly: true }
        +  domain: {"name":"b.internal","localOnly":false}
    "#]]
    .assert_eq(&acceptance.patch);
}

#[test]
fn what_a_base_says_becomes_a_patch_and_what_a_patch_says_is_changed_there() {
    let base = "\
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: web }
spec:
  cpus: 2
  memory: 2GiB
  disks: [{ disk: root }]
---
apiVersion: trueup/v1
kind: Disk
metadata: { name: root }
spec: { size: 1GiB }
";
    let environment = "\
apiVersion: trueup/v1
kind: Environment
metadata: { name: lab }
spec:
  bases: [common]
  patches:
    - target: vm/web
      patch: { spec: { memory: 3GiB } }
";
    let files =
        [("bases/common/web.yaml", base), ("environments/lab/environment.yaml", environment)];
    let drift = [
        ("disk/root", "/size", Some(json!(5_u64 << 30))),
        ("vm/web", "/autostart", Some(json!(false))),
        ("vm/web", "/memory/max", Some(json!(4_u64 << 20))),
    ];
    let acceptance = accepted_in(&files, &drift);
    assert_eq!(acceptance.refused, []);
    assert_eq!(
        written(&acceptance),
        [
            "disk/root /size environments/lab/environment.yaml:7",
            "vm/web /autostart environments/lab/environment.yaml:7",
            "vm/web /memory/max environments/lab/environment.yaml:10",
        ]
    );
    expect_test::expect![[r#"
        --- a/environments/lab/environment.yaml
        +++ b/environments/lab/environment.yaml
        @@ -4,5 +4,7 @@
         spec:
           bases: [common]
           patches:
        +    - { target: vm/web, patch: { spec: { autostart: false } } }
        +    - { target: disk/root, patch: { spec: { size: 5GiB } } }
             - target: vm/web
        -      patch: { spec: { memory: 3GiB } }
        +      patch: { spec: { memory: { current: 3GiB, max: 4GiB } } }
    "#]]
    .assert_eq(&acceptance.patch);
    let bare = environment.split("  patches:").next().unwrap();
    let files = [("bases/common/web.yaml", base), ("environments/lab/environment.yaml", bare)];
    let acceptance = accepted_in(&files, &drift[..1]);
    expect_test::expect![[r#"
        --- a/environments/lab/environment.yaml
        +++ b/environments/lab/environment.yaml
        @@ -2,4 +2,6 @@
         kind: Environment
         metadata: { name: lab }
         spec:
        +  patches:
        +    - { target: disk/root, patch: { spec: { size: 5GiB } } }
           bases: [common]
    "#]]
    .assert_eq(&acceptance.patch);
}

#[test]
fn scalars_are_replaced_and_missing_fields_put_in() {
    let kib = |gib: u64| Some(json!(gib << 20));
    let acceptance = accepted(&[
        ("vm/web", "/memory/current", kib(1)),
        ("vm/web", "/cpus/count", Some(json!(1))),
        ("vm/web", "/autostart", Some(json!(false))),
        ("disk/root", "/size", Some(json!(3_u64 << 30))),
        ("network/lan", "/mtu", Some(json!(9000))),
        ("vm/web", "/memory/max", kib(3)),
    ]);
    assert_eq!(acceptance.refused, []);
    expect_test::expect![[r#"
        --- a/environments/lab/lab.yaml
        +++ b/environments/lab/lab.yaml
        @@ -3,18 +3,20 @@
         kind: Network
         metadata: { name: lan }
         spec:
        +  mtu: 9000
           cidr: 10.7.0.0/24
           dhcp: {}
         ---
         apiVersion: trueup/v1
         kind: Disk
         metadata: { name: root }
        -spec: { size: 1GiB }
        +spec: { size: 3GiB }
         ---
         apiVersion: trueup/v1
         kind: VirtualMachine
         metadata: { name: web }
         spec:
        +  autostart: false
        -  cpus: 2  # enough
        +  cpus: { count: 1, max: 2 }  # enough
        -  memory: 2GiB
        +  memory: { current: 1GiB, max: 3GiB }
           disks: [{ disk: root }]
    "#]]
    .assert_eq(&acceptance.patch);
}

#[test]
fn what_the_spec_cannot_say_is_told() {
    let acceptance = accepted(&[
        ("vm/web", "/disks/vdb", Some(json!({ "target": "vdb" }))),
        ("vm/web", "/nicModels", Some(json!([]))),
        ("vm/gone", "/autostart", Some(json!(true))),
        ("network/lan", "/bridge", None),
        ("pool/trueup", "/autostart", Some(json!(false))),
    ]);
    assert_eq!((acceptance.patch.as_str(), acceptance.accepted.as_slice()), ("", &[][..]));
    let why: Vec<_> = acceptance.refused.iter().map(|(_, path, why)| (&**path, *why)).collect();
    assert_eq!(
        why,
        [
            ("/disks/vdb", "it is part of a list whose items the document says in other words"),
            ("/nicModels", "it is part of a list whose items the document says in other words"),
            ("/autostart", "it is not in the commit any more"),
            ("/bridge", "the machine has no value to write down"),
            ("/autostart", "the spec does not say it in one field"),
        ]
    );
}

#[test]
fn hunks_far_apart_and_a_missing_last_line_feed_are_written_as_git_does() {
    let text: String = (1..=30).map(|n| format!("k{n}: 1\n")).collect();
    let mut lines = Lines::of(text.trim_end());
    lines.replace(2, 5, 1, "2").unwrap();
    lines.replace(30, 6, 1, "2").unwrap();
    expect_test::expect![[r#"
        --- a/x.yaml
        +++ b/x.yaml
        @@ -1,5 +1,5 @@
         k1: 1
        -k2: 1
        +k2: 2
         k3: 1
         k4: 1
         k5: 1
        @@ -27,4 +27,4 @@
         k27: 1
         k28: 1
         k29: 1
        -k30: 1
        \ No newline at end of file
        +k30: 2
        \ No newline at end of file
    "#]]
    .assert_eq(&lines.patch("x.yaml"));
    assert_eq!(Lines::of("a\n").patch("x"), "");
    assert!(lines.patch("ä.yaml").starts_with("--- \"a/\\303\\244.yaml\"\n"));
}
