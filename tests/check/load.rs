//! What a good repository means.

use super::*;

#[test]
fn defaults_are_filled_in() {
    let loaded = loaded_text(
        "\
apiVersion: trueup/v1
kind: Network
metadata: { name: lab }
spec: { cidr: 10.7.0.0/24, dhcp: {} }
---
apiVersion: trueup/v1
kind: Image
metadata: { name: debian }
spec: { size: 2GiB, build: { suite: bookworm } }
---
apiVersion: trueup/v1
kind: Disk
metadata: { name: root }
spec: { image: debian }
---
apiVersion: trueup/v1
kind: VirtualMachine
metadata: { name: web, labels: { role: web } }
spec:
  cpus: 2
  memory: 1500MB
  disks: [{ disk: root }]
  nics: [{ network: lab, address: 10.7.0.10 }]
  boot: { image: debian }
  cloudInit: { userData: { packages: [nginx] } }
  readiness: { tcp: { port: 22 } }
",
    );
    let text = serde_json::to_string_pretty(&loaded.desired).unwrap();
    expect_test::expect_file!["fixtures/defaults.json"].assert_eq(&text);
    assert!(!loaded.empty);
}

#[test]
fn bases_are_patched() {
    let base = "\
apiVersion: trueup/v1
kind: Disk
metadata: { name: root, labels: { a: b } }
spec: { size: 1GiB, format: raw }
";
    let environment = "\
apiVersion: trueup/v1
kind: Environment
metadata: { name: lab }
spec:
  bases: [common]
  labels: { site: home }
  patches:
    - target: Disk/root
      patch: { spec: { size: 3GiB, format: null }, metadata: { labels: { a: c } } }
";
    let mut files = repo(&[
        ("trueup.yaml", REPOSITORY),
        ("environments/lab/e.yaml", environment),
        ("bases/common/d.yaml", base),
        ("bases/other/d.yaml", "not: even\nread: here\n"),
    ]);
    let loaded = loaded(&files);
    let disk = &loaded.desired.resources[&id("disk/root")];
    let Resource::Disk(spec) = &disk.resource else { panic!("{disk:?}") };
    assert_eq!((spec.size, spec.format.as_str()), (3 << 30, "qcow2"));
    assert_eq!(disk.labels["a"], "c");
    assert_eq!(disk.labels["site"], "home");
    assert_eq!(disk.origin.path, "bases/common/d.yaml");

    // A patch that breaks a document is reported in the patch.
    let bad = environment.replace("3GiB", "[3]").replace("format: null", "format: none");
    files.files[1] = file("environments/lab/e.yaml", bad.as_bytes());
    let select = Select::Environment(Name::new("lab").unwrap());
    let found = load(&files, &select, &mut ParseCache::new()).unwrap_err();
    expect![[r#"
        environments/lab/e.yaml:9:30 spec/wrong-type: expected string or integer, found a list
        environments/lab/e.yaml:9:43 spec/wrong-value: `none` is not one of qcow2, raw
    "#]]
    .assert_eq(&lines(&found));
}

#[test]
fn nothing_is_never_everything_to_be_removed() {
    let select = Select::Host("here".to_owned());
    let found = load(&repo(&[]), &select, &mut ParseCache::new()).unwrap_err();
    assert_eq!(found[0].code, "spec/no-repository");
    let only = repo(&[("trueup.yaml", REPOSITORY)]);
    let found = load(&only, &select, &mut ParseCache::new()).unwrap_err();
    assert_eq!(found[0].code, "spec/empty-environment");
    // Said in so many words: an environment without resources.
    let said = loaded_text(ENVIRONMENT);
    assert!(said.empty);
    assert_eq!(said.warnings[0].code, "spec/empty-environment");
    assert_eq!(said.desired.resources.len(), 1, "the pool stays");
}

#[test]
fn hosts_find_their_environment() {
    let repository = "\
apiVersion: trueup/v1
kind: Repository
metadata: { name: test }
spec:
  environments:
    lab: { hosts: [one] }
    rest: { hosts: ['*'], path: environments/some/where }
";
    let rest = ENVIRONMENT.replace("lab", "rest");
    let files = repo(&[
        ("trueup.yaml", repository),
        ("environments/lab/e.yaml", ENVIRONMENT),
        ("environments/some/where/deep/e.yaml", &rest),
        ("README.md", "not: [yaml"),
        ("unknown/folder/x.yaml", "not: [yaml"),
    ]);
    let mut cache = ParseCache::new();
    let mut of = |host: &str| {
        let select = Select::Host(host.to_owned());
        load(&files, &select, &mut cache).unwrap().desired.environment.to_string()
    };
    assert_eq!(of("one"), "lab");
    assert_eq!(of("two"), "rest");
    assert_eq!(lines(&check_all(&files, &mut cache).diagnostics).lines().count(), 2);
}

#[test]
fn one_changed_file_is_one_parse_and_the_same_result() {
    let disk = |n: usize, size: &str| {
        let text = format!(
            "apiVersion: trueup/v1\nkind: Disk\nmetadata: {{ name: d{n} }}\nspec: {{ size: {size} }}\n"
        );
        file(&format!("environments/lab/d{n}.yaml"), text.as_bytes())
    };
    let mut files = repo(&[("trueup.yaml", REPOSITORY), ("environments/lab/e.yaml", ENVIRONMENT)]);
    files.files.extend((0..50).map(|n| disk(n, "1GiB")));
    let mut cache = ParseCache::new();
    let select = Select::Host("here".to_owned());
    load(&files, &select, &mut cache).unwrap();
    let before = cache.parses();
    for file in &mut files.files {
        assert!(cache.contains(&file.blob));
        file.bytes = None;
    }
    files.files[7] = disk(5, "2GiB");
    let warm = load(&files, &select, &mut cache).unwrap();
    assert_eq!(cache.parses() - before, 1);
    // The same from nothing.
    let mut fresh = repo(&[("trueup.yaml", REPOSITORY), ("environments/lab/e.yaml", ENVIRONMENT)]);
    fresh.files.extend((0..50).map(|n| disk(n, if n == 5 { "2GiB" } else { "1GiB" })));
    assert_eq!(warm, load(&fresh, &select, &mut ParseCache::new()).unwrap());
    // An error does not outlive its cause, and moves with its file.
    files.files[7] = disk(5, "none");
    assert!(load(&files, &select, &mut cache).is_err());
    files.files[7].path = "environments/lab/moved.yaml".to_owned();
    let found = load(&files, &select, &mut cache).unwrap_err();
    assert_eq!(found[0].path, "environments/lab/moved.yaml");
    files.files[7] = disk(5, "2GiB");
    assert_eq!(warm, load(&files, &select, &mut cache).unwrap());
}

#[test]
fn content_that_is_missing_is_an_error() {
    let mut files = repo(&[("trueup.yaml", REPOSITORY), ("environments/lab/e.yaml", ENVIRONMENT)]);
    files.files[1].bytes = None;
    let select = Select::Host("here".to_owned());
    let found = load(&files, &select, &mut ParseCache::new()).unwrap_err();
    assert_eq!(found[0].code, "spec/unread");
}
