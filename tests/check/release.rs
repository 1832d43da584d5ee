//! Releases: their files found, read and checked, each mistake at its place.

use trueup::model::Resource;

use super::*;

const RELEASE: &str = "apiVersion: trueup/v1
kind: Release
metadata: { name: web }
spec:
  cluster: apps
  namespace: shop
  manifests: [manifests/web]
";

const MAP: &str = "apiVersion: v1
kind: ConfigMap
metadata: { name: colors }
data: { sky: blue }
";

fn with(files: &[(&str, &str)]) -> RepoFiles {
    let own = [("trueup.yaml", REPOSITORY), ("environments/lab/e.yaml", ENVIRONMENT)];
    let all: Vec<_> = own.into_iter().chain(files.iter().copied()).collect();
    repo(&all)
}

#[track_caller]
fn found(files: &[(&str, &str)], expected: Expect) {
    let checked = check_all(&with(files), &mut ParseCache::new());
    expected.assert_eq(&lines(&checked.diagnostics));
}

#[test]
fn mistakes_in_manifests_are_told_where_they_are() {
    found(
        &[
            ("environments/lab/x.yaml", RELEASE),
            ("environments/lab/manifests/web/a.yaml", "# none\n---\nkind: Pod\n---\n- 1\n"),
            (
                "environments/lab/manifests/web/b.yaml",
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nkind: Pod\n",
            ),
            ("environments/lab/manifests/unused.yaml", "a: ["),
        ],
        expect![[r#"
            environments/lab/manifests/unused.yaml:1:1 spec/bad-manifest: unclosed bracket '['
            environments/lab/manifests/web/a.yaml:3:1 spec/bad-manifest: has no `apiVersion` or no `kind`
            environments/lab/manifests/web/a.yaml:5:1 spec/bad-manifest: is no object: `apiVersion`, `kind` and `metadata` are expected
            environments/lab/manifests/web/b.yaml:4:1 spec/bad-manifest: duplicate mapping key: kind
        "#]],
    );
    found(
        &[
            ("environments/lab/x.yaml", RELEASE),
            ("environments/lab/manifests/web/a.yaml", MAP),
            (
                "environments/lab/manifests/web/b.yaml",
                "# again, as the default namespace says\n---\napiVersion: v1\nkind: ConfigMap\n\
                 metadata: {name: colors, namespace: shop}\n",
            ),
        ],
        expect![[r#"
            environments/lab/manifests/web/b.yaml:3:1 spec/bad-manifest: ConfigMap shop/colors is already at environments/lab/manifests/web/a.yaml:1 (document 1): keep one of the two
        "#]],
    );
    found(
        &[
            ("environments/lab/x.yaml", RELEASE),
            (
                "environments/lab/manifests/web/b.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: trueup-web}\n",
            ),
        ],
        expect![[r#"
            environments/lab/manifests/web/b.yaml:1:1 spec/bad-manifest: ConfigMap shop/trueup-web is the list of what this release has made: call it otherwise
        "#]],
    );
}

#[test]
fn mistakes_in_a_release_are_found_at_once() {
    let wrong = RELEASE
        .replace("namespace: shop", "namespace: Shop\n  timeout: soon")
        .replace("manifests/web", "manifests/web, manifests/gone, /etc, ../../../x")
        + "lifecycle: { ignoreDifferences: [/spec/replicas] }\n";
    found(
        &[("environments/lab/x.yaml", &wrong), ("environments/lab/manifests/web/a.yaml", MAP)],
        expect![[r#"
            environments/lab/x.yaml:6:14 spec/wrong-value: `Shop` cannot name a release or its namespace: at most 50 of a-z, 0-9 and -, beginning and ending with a letter or digit
            environments/lab/x.yaml:7:12 spec/wrong-value: `soon` is not a duration: write `90s`, `5m`, `4h` or `1d`
            environments/lab/x.yaml:8:30 spec/dangling-reference: there are no manifests at `environments/lab/manifests/gone` (name a YAML file, or a folder of them, in a folder called `manifests` of this environment or base)
            environments/lab/x.yaml:8:46 spec/wrong-value: `/etc` is not a plain path from this document
            environments/lab/x.yaml:8:52 spec/wrong-value: `../../../x` is not a plain path from this document
            environments/lab/x.yaml:9:33 spec/conflict: a Release has no fields to ignore (leave a field to others by not saying it in the manifest)
        "#]],
    );
    let slurm = "apiVersion: trueup/v1
kind: Cluster
metadata: { name: apps }
spec:
  type: slurm
  controllers: [{ name: ctl }]
  pools: [{ name: cpu, nodes: [{ name: n1 }], cpus: 4, memory: 4GiB }]
  partitions: [{ name: batch, pools: [cpu] }]
";
    found(
        &[
            ("environments/lab/x.yaml", RELEASE),
            ("environments/lab/y.yaml", slurm),
            ("environments/lab/manifests/web/a.yaml", "# nothing\n"),
        ],
        expect![[r#"
            environments/lab/x.yaml:5:12 spec/wrong-kind-of-reference: `cluster/apps` is a Slurm cluster, which has no manifests (name a cluster of type `kubernetes`)
            environments/lab/x.yaml:7:14 spec/wrong-value: there is no object in the manifests (a release that is no longer wanted goes with its document)
        "#]],
    );
}

#[test]
fn a_document_of_ours_among_manifests_is_not_lost_without_a_word() {
    let lost =
        "apiVersion: trueup/v1\nkind: Network\nmetadata: {name: lan}\nspec: {cidr: 10.0.0.0/24}\n";
    found(
        &[("environments/lab/manifests/lan.yaml", lost)],
        expect![[r#"
        environments/lab/manifests/lan.yaml:1:1 spec/bad-manifest: a document of trueup (Network) stands in a folder called `manifests`, where nobody reads it
    "#]],
    );
}

#[test]
fn a_release_is_its_objects_and_no_value_of_them() {
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {p: hunter2}\n";
    let files = [
        ("environments/lab/apps/x.yaml", &*RELEASE.replace("manifests/web", "../manifests/web")),
        ("environments/lab/manifests/web/a.yaml", MAP),
        ("environments/lab/manifests/web/more/b.yaml", secret),
    ];
    let (files, mut cache) = (with(&files), ParseCache::new());
    let select = Select::Host("here".to_owned());
    let loaded = load(&files, &select, &mut cache).unwrap();
    let wish = loaded.desired.resources[&id("release/web")].clone();
    let Resource::Release(release) = &wish.resource else { panic!("{wish:?}") };
    let shown: Vec<_> = release
        .objects
        .iter()
        .map(|it| format!("{} {} {:?} {}", it.version, it.kind, it.namespace, it.name))
        .collect();
    assert_eq!(shown, [r#"v1 ConfigMap Some("shop") colors"#, r#"v1 Secret Some("shop") login"#]);
    assert_eq!(release.manifests.0.len(), 2);
    for text in [serde_json::to_string(&wish.resource).unwrap(), format!("{wish:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    // Read again without its bytes, as a loader does: the same; with other content: another.
    let mut known = files.clone();
    for file in &mut known.files {
        assert!(cache.contains(&file.blob));
        file.bytes = None;
    }
    let again = load(&known, &select, &mut cache).unwrap();
    assert_eq!(again.desired, loaded.desired);
    let changed = MAP.replace("blue", "grey");
    known.files[3] = file("environments/lab/manifests/web/a.yaml", changed.as_bytes());
    let other = load(&known, &select, &mut cache).unwrap();
    assert_ne!(other.desired.resources[&id("release/web")].digest, wish.digest);
    // A file more, of which the release's document says nothing.
    known.files.push(file(
        "environments/lab/manifests/web/c.yaml",
        MAP.replace("colors", "more").as_bytes(),
    ));
    let more = load(&known, &select, &mut cache).unwrap();
    let Resource::Release(release) = &more.desired.resources[&id("release/web")].resource else {
        panic!("{more:?}")
    };
    assert_eq!(release.objects.len(), 3);
}

#[test]
fn a_release_of_a_base_has_the_files_beside_it() {
    let environment = ENVIRONMENT.replace("spec: {}", "spec: { bases: [common] }");
    let files = repo(&[
        ("trueup.yaml", REPOSITORY),
        ("environments/lab/e.yaml", &environment),
        ("bases/common/x.yaml", RELEASE),
        ("bases/common/manifests/web/a.yaml", MAP),
    ]);
    let loaded = loaded(&files);
    assert!(loaded.desired.resources.contains_key(&id("release/web")));
}
