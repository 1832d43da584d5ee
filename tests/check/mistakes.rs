//! Mistakes people make: each is found, all at once, where it is.

use super::*;

#[test]
fn twelve_mistakes_are_twelve_findings() {
    let files = read_folder(&here("tests/check/fixtures/twelve"));
    let checked = check_all(&files, &mut ParseCache::new());
    assert!(checked.has_errors());
    assert_eq!(checked.environments.values().filter(|l| l.is_some()).count(), 0);
    expect![[r#"
        bases/common/vm.yaml:7:11 spec/wrong-value: `2 Gigs` is not a size: write a number and a unit, `20GiB`
        bases/common/vm.yaml:10:13 spec/dangling-reference: there is no `disk/data` in environment `lab`
        bases/common/vm.yaml:13:16 spec/outside: 10.9.0.10 is not an address of a guest on `network/front` (the network is 10.7.0.0/24)
        environments/lab/environment.yaml:8:15 spec/dangling-reference: there is no `vm/wbe` to patch (did you mean `vm/web`?)
        environments/lab/images.yaml:2:7 spec/unknown-kind: unknown kind `Imgae` (did you mean `Image`?)
        environments/lab/networks.yaml:9:10 spec/range: the range ends at 10.7.0.100, before it starts at 10.7.0.200 (swap `start` and `end`)
        environments/lab/networks.yaml:16:3 spec/unknown-field: unknown field `cidrr` (did you mean `cidr`?)
        environments/lab/networks.yaml:23:9 spec/wrong-value: `natt` is not one of isolated, nat, routed, bridge (did you mean `nat`?)
        environments/lab/storage.yaml:11:9 spec/duplicate-resource: `disk/web-root` is there twice (rename or remove one; a change to a base's resource is a `patch`)
            environments/lab/storage.yaml:4:9 the first one is in environments/lab/storage.yaml
        environments/lab/storage.yaml:21:3 spec/duplicate-key: duplicate key `size` (keep one of the two)
        environments/lab/storage.yaml:28:13 spec/yaml11-boolean: `no` is a boolean to some YAML readers and text to others (write `false` if you mean that, else quote it: "no")
        environments/lab/tab.yaml:6:2 spec/tab: tabs disallowed within this context (block indentation) (indent with spaces: YAML does not allow tabs there)
    "#]]
    .assert_eq(&lines(&checked.diagnostics));
}

#[test]
fn bytes_that_are_no_yaml() {
    check(
        "a: [1, 2\nb: {",
        expect![[r#"
            environments/lab/x.yaml:2:2 spec/syntax: illegal placement of ':' indicator (check the indentation and the quotes around here)
        "#]],
    );
    check(
        "a: \"x\0\"",
        expect![[r#"
            environments/lab/x.yaml:1:6 spec/nul: a NUL character stands in the text (this is no text file, or it was damaged: write it anew)
        "#]],
    );
    check(
        "\u{feff}a: 1",
        expect![[r#"
            environments/lab/x.yaml:1:1 spec/byte-order-mark: a byte order mark opens the file (save the file as UTF-8 without a byte order mark)
        "#]],
    );
    check(
        "key: value\n\tother: 1",
        expect![[r#"
            environments/lab/x.yaml:1:6 spec/tab: while scanning a plain scalar, found a tab (indent with spaces: YAML does not allow tabs there)
        "#]],
    );
    check(
        "just text",
        expect![[r#"
            environments/lab/x.yaml:1:1 spec/not-a-mapping: a document is a mapping (start with `apiVersion: trueup/v1` and `kind:`)
        "#]],
    );
    check(
        "a: !!python/object:os.system x",
        expect![[r#"
            environments/lab/x.yaml:1:30 spec/tag: unsupported tag `!!python/object:os.system` (remove the tag: values are read as they stand)
        "#]],
    );
    check(
        "base: &b {x: 1}\nmore:\n  <<: *b\n",
        expect![[r#"
            environments/lab/x.yaml:3:3 spec/merge-key: YAML merge keys are not allowed by configured policy (write the fields out, or use a base and a patch)
        "#]],
    );
}

#[test]
fn bombs_go_off_in_nobody() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..9 {
        let list = vec![format!("*a{}", n - 1); 9].join(", ");
        laughs.push_str(&format!("a{n}: &a{n} [{list}]\n"));
    }
    for bomb in [
        laughs,
        "[".repeat(100_000),
        format!("a: {}", "{b: ".repeat(5_000)),
        (0..3_000).map(|n| format!("{}k:\n", " ".repeat(n))).collect(),
        format!("a: &a x\nb: [{}]", "*a, ".repeat(20_000)),
        "- x\n".repeat(200_000),
        "---\na: 1\n".repeat(2_000),
        format!("a: '{}'", "x".repeat(2_000_000)),
    ] {
        let found = check_text(bomb.as_bytes()).diagnostics;
        assert!(!found.is_empty() && found.len() < 1_100, "{}", &bomb[..40]);
        assert!(found[0].is_error());
    }
}

#[test]
fn fields_and_types() {
    check(
        "\
apiVersion: trueup/v2
kind: VirtualMachine
metadata:
  name: web
  lables: {}
spec:
  cpus: { count: many }
  memory: true
  power: on
  firmware: uefi
  disks:
    disk: root
  autostart: yes please
  nics:
    - network: 5
      maac: x
lifecycle:
",
        expect![[r#"
            environments/lab/x.yaml:1:13 spec/wrong-value: `trueup/v2` is not `trueup/v1`
            environments/lab/x.yaml:5:3 spec/unknown-field: unknown field `lables` (did you mean `labels`?)
            environments/lab/x.yaml:7:18 spec/wrong-type: expected integer, found the text `many`
            environments/lab/x.yaml:8:11 spec/wrong-type: expected string or integer or mapping, found the boolean `true` (quote it: "true")
            environments/lab/x.yaml:9:10 spec/wrong-value: `on` is not one of running, off, paused
            environments/lab/x.yaml:10:13 spec/wrong-value: `uefi` is not one of bios, efi (did you mean `efi`?)
            environments/lab/x.yaml:11:3 spec/wrong-type: expected list, found a mapping (make it a list: `- ` before each item)
            environments/lab/x.yaml:13:14 spec/wrong-type: expected boolean, found the text `yes please` (write `true` or `false`)
            environments/lab/x.yaml:15:16 spec/wrong-type: expected string, found the number `5` (quote it: "5")
            environments/lab/x.yaml:16:7 spec/unknown-field: unknown field `maac` (did you mean `mac`?)
            environments/lab/x.yaml:17:10 spec/wrong-type: expected mapping, found nothing (give it a value, or remove the line)
        "#]],
    );
}

#[test]
fn words_and_numbers_that_mean_two_things() {
    check(
        "\
apiVersion: trueup/v1
kind: Network
metadata: { name: a, labels: { country: no } }
spec: { cidr: 10.0.0.0/24 }
---
apiVersion: trueup/v1
kind: Network
metadata: { name: b, annotations: { on: \"x\" } }
spec: { cidr: 10.0.1.0/24 }
---
apiVersion: trueup/v1
kind: Network
metadata: { name: c, labels: { country: \"no\", 'yes': x } }
spec: { cidr: 10.0.2.0/24, autostart: off }
---
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: d }
spec:
  cpus: 1
  memory: 1GiB
  power: off
  cloudInit:
    userData:
      write_files: [{ path: /x, permissions: 0644 }]
      offsets: [-5.0, -0644, +5.0]
",
        expect![[r#"
            environments/lab/x.yaml:3:41 spec/yaml11-boolean: `no` is a boolean to some YAML readers and text to others (write `false` if you mean that, else quote it: "no")
            environments/lab/x.yaml:8:37 spec/yaml11-boolean: `on` is a boolean to some YAML readers and text to others (write `true` if you mean that, else quote it: "on")
            environments/lab/x.yaml:14:39 spec/yaml11-boolean: `off` is a boolean to some YAML readers and text to others (write `false` if you mean that, else quote it: "off")
            environments/lab/x.yaml:25:46 spec/ambiguous-number: `0644` is read as another number than it looks like (quote it: "0644")
            environments/lab/x.yaml:26:23 spec/ambiguous-number: `-0644` is read as another number than it looks like (quote it: "-0644")
        "#]],
    );
}

#[test]
fn networks() {
    check(
        "\
apiVersion: trueup/v1
kind: Network
metadata: { name: a }
spec:
  cidr: 10.7.0.0/24
  dhcp:
    start: 10.7.0.1
    end: 10.7.1.9
    hosts:
      - { mac: 52:54:00:00:00:01, ip: 10.7.0.5 }
      - { mac: 52:54:00:00:00:01, ip: 10.7.0.5 }
      - { mac: 52:54:00:00:00:0g, ip: 10.7.0.255 }
      - { vm: nobody, ip: 10.7.0.6 }
  mtu: 9
---
apiVersion: trueup/v1
kind: Network
metadata: { name: b }
spec: { mode: bridge, cidr: 10.8.0.0/33 }
",
        expect![[r#"
            environments/lab/x.yaml:8:10 spec/outside: 10.7.1.9 is not an address of a guest in 10.7.0.0/24 (take an address inside the network, or change its `cidr`)
            environments/lab/x.yaml:11:16 spec/duplicate-mac: 52:54:00:00:00:01 has a fixed lease already
                environments/lab/x.yaml:10:16 the other one is here
            environments/lab/x.yaml:11:39 spec/duplicate-address: 10.7.0.5 is taken by a fixed lease
                environments/lab/x.yaml:10:39 here
            environments/lab/x.yaml:12:16 spec/wrong-value: `52:54:00:00:00:0g` is not a MAC address: write `52:54:00:12:34:56`
            environments/lab/x.yaml:12:39 spec/outside: 10.7.0.255 is not an address of a guest in 10.7.0.0/24 (take an address inside the network, or change its `cidr`)
            environments/lab/x.yaml:13:15 spec/dangling-reference: there is no `vm/nobody` in environment `lab`
            environments/lab/x.yaml:14:8 spec/wrong-value: an MTU of 9 is not between 68 and 65535
            environments/lab/x.yaml:19:7 spec/missing-field: mode `bridge` needs the host's `bridge` device
            environments/lab/x.yaml:19:29 spec/conflict: `cidr` has no meaning on a bridge of the host's own (that network is served by somebody else: remove the field)
            environments/lab/x.yaml:19:29 spec/wrong-value: `10.8.0.0/33` is not an address range: write `10.7.0.0/24`
        "#]],
    );
    check(
        "\
apiVersion: trueup/v1
kind: Network
metadata: { name: a }
spec: { cidr: 10.0.0.0/8, bridge: br7 }
---
apiVersion: trueup/v1
kind: Network
metadata: { name: b }
spec: { cidr: 10.7.0.0/24, bridge: br7 }
---
apiVersion: trueup/v1
kind: Network
metadata: { name: c }
spec: { addresses: [{ cidr: 'fd00::/64' }, { cidr: 10.200.0.0/16 }] }
",
        expect![[r#"
            environments/lab/x.yaml:9:15 spec/overlap: `10.7.0.0/24` overlaps `10.0.0.0/8` of `network/a` (give each network a range of its own)
                environments/lab/x.yaml:4:15 the other network is here
            environments/lab/x.yaml:9:36 spec/duplicate-bridge: bridge `br7` belongs to `network/a` already
                environments/lab/x.yaml:4:35 the other one is here
            environments/lab/x.yaml:14:52 spec/overlap: `10.200.0.0/16` overlaps `10.0.0.0/8` of `network/a` (give each network a range of its own)
                environments/lab/x.yaml:4:15 the other network is here
        "#]],
    );
}

#[test]
fn machines_between_each_other() {
    check(
        "\
apiVersion: trueup/v1
kind: Network
metadata: { name: lab }
spec: { cidr: 10.7.0.0/24, dhcp: {} }
---
apiVersion: trueup/v1
kind: Disk
metadata: { name: root }
spec: { size: 1GiB }
---
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: a }
spec:
  cpus: 1
  memory: 1GiB
  disks: [{ disk: root }]
  nics: [{ network: lab, mac: 52:54:00:00:00:01, address: 10.7.0.10 }]
dependsOn: [vm/b]
---
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: b }
spec:
  cpus: 1
  memory: 1GiB
  disks: [{ disk: root }]
  nics: [{ network: lab, mac: 52:54:00:00:00:01, address: 10.7.0.11 }]
dependsOn: [vm/a, network/lab]
",
        expect![[r#"
            environments/lab/x.yaml:19:13 spec/cycle: these wait for each other: vm/a → vm/b → vm/a (remove one of the references)
            environments/lab/x.yaml:27:19 spec/shared-disk: `disk/root` is used by `vm/a` too, and one of them writes to it (give each machine its own disk, or make both uses `readOnly`)
                environments/lab/x.yaml:17:19 the other use is here
            environments/lab/x.yaml:28:31 spec/duplicate-mac: MAC address 52:54:00:00:00:01 belongs to an interface of `vm/a` already (leave `mac` out: one follows from the names)
                environments/lab/x.yaml:18:31 the other interface is here
        "#]],
    );
    check(
        "\
apiVersion: trueup/v1
kind: Network
metadata: { name: lab }
spec: { cidr: 10.7.0.0/24 }
---
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: a }
spec:
  cpus: { count: 4, max: 2, topology: { sockets: 1, cores: 3, threads: 1 }, pinning: { '7': x } }
  memory: { current: 4GiB, max: 2GiB }
  disks: [{ disk: lab }, { disk: lab, target: xda }]
  nics: [{ network: lab, address: 10.7.0.1 }, { network: lab, user: true }, { network: lap }]
  stop: { timeout: soon }
  boot: { image: none }
  hostDevices: [{ pci: '65:00.0' }, {}]
  readiness: { tcp: { port: 22 }, console: x }
  cloudInit: { sshKeys: [nonsense], userData: 'hello' }
dependsOn: [web]
",
        expect![[r#"
            environments/lab/x.yaml:10:26 spec/range: at most 2 processors, but 4 to start with
            environments/lab/x.yaml:10:39 spec/range: 1 sockets of 3 cores of 1 threads do not make 2 processors
            environments/lab/x.yaml:10:93 spec/range: there is no virtual processor `7` (they are numbered 0 to 1)
            environments/lab/x.yaml:11:33 spec/range: the most is less than the memory to start with
            environments/lab/x.yaml:12:19 spec/wrong-kind-of-reference: there is no `disk/lab` in environment `lab` (`network/lab` is there, but a disk is asked for here)
            environments/lab/x.yaml:12:34 spec/duplicate-disk: `disk/lab` is attached twice
            environments/lab/x.yaml:12:47 spec/wrong-value: `xda` is not a target of this bus (`vda` to `vdz`)
            environments/lab/x.yaml:13:47 spec/conflict: an interface is on one of `network`, `bridge` and `user`
            environments/lab/x.yaml:13:88 spec/dangling-reference: there is no `network/lap` in environment `lab` (did you mean `lab`?)
            environments/lab/x.yaml:14:20 spec/wrong-value: `soon` is not a duration: write `90s`, `5m`, `4h` or `1d`
            environments/lab/x.yaml:15:18 spec/dangling-reference: there is no `image/none` in environment `lab`
            environments/lab/x.yaml:16:24 spec/wrong-value: `65:00.0` is not a PCI function: write `0000:65:00.0`
            environments/lab/x.yaml:16:37 spec/conflict: a host device is one of `pci` and `mdev`
            environments/lab/x.yaml:17:14 spec/conflict: `readiness` needs one of `guestAgent: true`, `tcp` and `console`
            environments/lab/x.yaml:18:26 spec/wrong-value: this is not an SSH public key (paste the one line of the `.pub` file)
            environments/lab/x.yaml:18:47 spec/conflict: user data given as a text is taken as it stands: `sshKeys` and `users` would be lost (write the user data as a mapping, or put keys and users into the text)
            environments/lab/x.yaml:18:47 spec/wrong-value: cloud-init ignores user data whose first line does not say what it is (open it with `#cloud-config` or `#!/bin/sh`, or write a mapping)
            environments/lab/x.yaml:19:13 spec/wrong-value: `web` is not a resource: write kind/name, with a kind of pool, network, image, disk, seed, gpu, vm, backup, cluster, release
        "#]],
    );
}

#[test]
fn a_broken_document_is_not_dangling_as_well() {
    check(
        "\
apiVersion: trueup/v1
kind: Disk
metadata: { name: root }
spec: { sise: 1GiB }
---
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: a }
spec: { cpus: 1, memory: 1GiB, disks: [{ disk: root }] }
",
        expect![[r#"
            environments/lab/x.yaml:4:9 spec/unknown-field: unknown field `sise` (did you mean `size`?)
        "#]],
    );
}

#[test]
fn secrets_are_not_shown() {
    let given = "\
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: a }
spec:
  cpus: 1
  memory: 1GiB
  cloudInit: { hostname: 123456, sshKeys: hunter2 }
";
    let shown = lines(&check_text(given.as_bytes()).diagnostics);
    assert!(shown.contains("/x.yaml:7:"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn texts_that_go_into_the_log_are_bounded_and_plain() {
    let given = |cmdline: &str, console: &str, bridge: &str| {
        format!(
            "apiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {{ name: a }}\nspec:\n  \
             cpus: 1\n  memory: 1GiB\n  boot:\n    kernel: /k\n    cmdline: \"{cmdline}\"\n  \
             readiness: {{ console: \"{console}\" }}\n  nics: [{{ bridge: {bridge} }}]\n"
        )
    };
    let fine = given(&"x".repeat(2048), "login:", "br0");
    assert_eq!(lines(&check_text(fine.as_bytes()).diagnostics), "");
    check(
        &given(&"x".repeat(2049), "a\\eb", "much-too-long-a-name"),
        expect![[r#"
            environments/lab/x.yaml:9:14 spec/wrong-value: the text has 2049 bytes: at most 2048 are possible
            environments/lab/x.yaml:10:25 spec/wrong-value: the text holds a control character: write it on one line, as plain text
            environments/lab/x.yaml:11:20 spec/wrong-value: `much-too-long-a-name` is not a device name
        "#]],
    );
}

#[test]
fn a_commit_cannot_say_whose_signature_it_needs() {
    let moved = REPOSITORY.replace("spec: { ", "spec: { requireSignatures: true, ");
    let checked = check_all(&repo(&[("trueup.yaml", &moved)]), &mut ParseCache::new());
    let found = lines(&checked.diagnostics);
    assert!(found.contains("spec/unknown-field: unknown field `requireSignatures`"), "{found}");
    assert!(found.contains("set repository.signatures.required in the config"), "{found}");
}

#[test]
fn a_login_in_an_images_url_is_refused_and_not_repeated() {
    let source = "https://ann:hunter2@example.org/image.qcow2";
    let image = format!(
        "apiVersion: trueup/v1\nkind: Image\nmetadata: {{ name: base }}\n\
         spec: {{ source: '{source}', sha256: {} }}\n",
        "ab".repeat(32)
    );
    let checked = check_text(image.as_bytes());
    let found = lines(&checked.diagnostics);
    assert!(found.contains("carries a user or a password"), "{found}");
    assert!(!found.contains("hunter2"), "{found}");
}
