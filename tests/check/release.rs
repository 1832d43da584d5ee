//! Releases: their files found, read and checked, each mistake at its place.

use trueup::model::Resource;
use trueup::spec::rendering::Rendering;
use trueup_kubernetes::release::DigestKey;

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
            environments/lab/x.yaml:8:30 spec/dangling-reference: there are no manifests at `environments/lab/manifests/gone` (name a YAML file, or a folder of them, in a folder called `manifests` of this environment or base; a chart is named by `helm`, a kustomization by `kustomize`)
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
            environments/lab/x.yaml:5:12 spec/wrong-kind-of-reference: `cluster/apps` is a Slurm cluster, which has no manifests (name a cluster of type `kubernetes`, or say `folder`)
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

const ROLLED: &str = "apiVersion: trueup/v1
kind: Release
metadata: { name: web }
spec:
  cluster: apps
  helm: { chart: manifests/chart, values: [manifests/values-lab.yaml] }
";

fn chart() -> Vec<(&'static str, &'static str)> {
    vec![
        ("environments/lab/x.yaml", ROLLED),
        (
            "environments/lab/manifests/chart/Chart.yaml",
            "apiVersion: v2\nname: web\nversion: 1.0.0\n",
        ),
        // No YAML before it is rendered.
        ("environments/lab/manifests/chart/templates/a.yaml", "a: {{ .Values.a }}\n{{ end"),
        ("environments/lab/manifests/chart/templates/_helpers.tpl", "{{ define \"x\" }}"),
        ("environments/lab/manifests/values-lab.yaml", "a: 1\n"),
    ]
}

fn rendered(text: &str) -> Rendering {
    Rendering::Rendered { by: "helm v9 (sha256:0)".into(), text: text.into() }
}

#[test]
fn what_is_not_rendered_is_never_taken_for_gone() {
    let (files, select) = (with(&chart()), Select::Environment(Name::new("lab").unwrap()));
    let mut cache = ParseCache::new();
    // Nothing of an environment with it is used, or the release would be removed.
    let found = load(&files, &select, &mut cache).unwrap_err();
    assert!(lines(&found).contains("spec/not-rendered"), "{}", lines(&found));
    let wanted = cache.wanted();
    assert_eq!(wanted.len(), 1);
    assert!(cache.wanted().is_empty(), "it is asked for once");
    let paths: Vec<_> = wanted[0].files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "environments/lab/manifests/chart/Chart.yaml",
            "environments/lab/manifests/chart/templates/_helpers.tpl",
            "environments/lab/manifests/chart/templates/a.yaml",
            "environments/lab/manifests/values-lab.yaml",
        ]
    );
    cache.rendered(&wanted[0], &Rendering::Unable("set `programs.helm`".into()));
    let found = load(&files, &select, &mut cache).unwrap_err();
    assert!(lines(&found).contains("is not rendered: set `programs.helm`"), "{}", lines(&found));
    cache.rendered(&wanted[0], &rendered(MAP));
    let loaded = load(&files, &select, &mut cache).unwrap();
    let id: ResourceId = "release/web".parse().unwrap();
    let Resource::Release(release) = &loaded.desired.resources[&id].resource else { panic!() };
    assert_eq!(release.objects.len(), 1);
    assert_eq!(release.rendered[0].by, "helm v9 (sha256:0)");
    assert_eq!(release.rendered[0].of, "environments/lab/manifests/chart");
    let known = loaded.desired.resources[&id].digest;
    assert!(load(&files, &select, &mut cache).is_ok() && cache.wanted().is_empty());

    // Another value is another request, and the release has another digest with what comes of it.
    let mut changed = chart();
    changed[4].1 = "a: 2\n";
    let files = with(&changed);
    assert!(load(&files, &select, &mut cache).is_err());
    let again = cache.wanted();
    assert_ne!(again[0].digest, wanted[0].digest);
    cache.rendered(&again[0], &rendered(&MAP.replace("blue", "grey")));
    let loaded = load(&files, &select, &mut cache).unwrap();
    assert_ne!(loaded.desired.resources[&id].digest, known);
}

#[test]
fn a_check_without_programs_warns_of_charts_and_checks_the_rest() {
    let mut files = chart();
    files.push(("environments/lab/y.yaml", RELEASE));
    files.push(("environments/lab/manifests/web/a.yaml", "kind: Pod\n"));
    let checked = check_all(&with(&files), &mut ParseCache::new());
    let told = lines(&checked.diagnostics);
    assert!(told.contains("spec/not-rendered") && told.contains("web/a.yaml:1"), "{told}");
    let errors = checked.diagnostics.iter().filter(|it| it.is_error()).count();
    assert_eq!(errors, 2, "the manifest, and the release named twice: {told}");
}

#[test]
fn mistakes_about_what_is_rendered_are_told_where_they_are() {
    let more = |spec: &str| {
        let text = format!(
            "apiVersion: trueup/v1\nkind: Release\nmetadata: {{ name: web }}\nspec:\n  cluster: apps\n{spec}"
        );
        let mut files = chart();
        files[0].1 = Box::leak(text.into_boxed_str());
        lines(&check_all(&with(&files), &mut ParseCache::new()).diagnostics)
    };
    for (spec, expected) in [
        ("", "nothing says what the release is made of"),
        ("  helm: { chart: manifests/none }\n", "there is no chart at"),
        ("  helm: { chart: 'oci://example.org/web' }\n", "not a plain path"),
        ("  helm: { chart: ../../../etc }\n", "not a plain path"),
        ("  helm: { chart: manifests/chart, values: [manifests/no.yaml] }\n", "there is no file"),
        (
            "  helm: { chart: manifests/chart, releaseName: '--post-renderer=/bin/sh' }\n",
            "is no name of a release",
        ),
        ("  helm: { chart: manifests/chart, kubeVersion: '-x' }\n", "is no version of Kubernetes"),
        ("  kustomize: manifests/chart\n", "there is no kustomization at"),
        ("  kustomize: 'https://example.org/x'\n", "not a plain path"),
        ("  manifests: [manifests/chart]\n", "there are no manifests at"),
        ("  folder: { from: files/x, to: /shared/x }\n", "there are no files at"),
        ("  folder: { from: files/x, to: x }\n", "is not a plain absolute path"),
        ("  folder: { from: files/x, to: /shared/../etc }\n", "is not a plain absolute path"),
        ("  folder: { from: files/x, to: /x }\n", "host's config allows"),
        ("  folder: { from: files/x, to: /shared/.x }\n", "would be hidden"),
        ("  folder: { from: files/x, to: /shared/x, keep: 0 }\n", "between 1 and 50"),
        ("  folder: { from: files/x, to: /shared/x, group: '-g' }\n", "is no name of a group"),
        ("  folder: { from: files/x, to: /shared/x, readers: group }\n", "which group may read"),
        (
            "  manifests: [manifests/a]\n  folder: { from: files/x, to: /shared/x }\n",
            "a folder or objects",
        ),
    ] {
        let told = more(spec);
        assert!(told.contains(expected), "{spec}: {told}");
    }
}

#[test]
fn an_overlay_is_given_what_it_names_and_nothing_else() {
    let text = "apiVersion: trueup/v1\nkind: Release\nmetadata: { name: web }\nspec: { cluster: apps, kustomize: manifests/over/lab }\n";
    let all = [
        ("environments/lab/x.yaml", text),
        (
            "environments/lab/manifests/over/lab/kustomization.yaml",
            "resources: [../../base, a.yaml]\ncomponents: [../part]\n",
        ),
        ("environments/lab/manifests/over/lab/a.yaml", "- op: patch\n"),
        ("environments/lab/manifests/over/part/Kustomization", "kind: Component\n"),
        ("environments/lab/manifests/base/kustomization.yml", "resources: [b.yaml]\n"),
        ("environments/lab/manifests/base/b.yaml", MAP),
        ("environments/lab/manifests/other/kustomization.yaml", "resources: []\n"),
        ("environments/lab/manifests/plain.yaml", MAP),
    ];
    let mut cache = ParseCache::new();
    let checked = check_all(&with(&all), &mut cache);
    assert!(!checked.has_errors(), "{}", lines(&checked.diagnostics));
    let wanted = cache.wanted();
    let paths: Vec<_> = wanted[0].files.iter().map(|it| it.path.as_str()).collect();
    let own = |path: &str| format!("environments/lab/manifests/{path}");
    let expected = [
        "base/b.yaml",
        "base/kustomization.yml",
        "over/lab/a.yaml",
        "over/lab/kustomization.yaml",
        "over/part/Kustomization",
    ];
    assert_eq!(paths, expected.map(own));
}

#[test]
fn a_digest_of_a_secret_is_another_on_each_host() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {p: hunter2}\n";
    let files = with(&[
        ("environments/lab/x.yaml", RELEASE),
        ("environments/lab/manifests/web/a.yaml", &format!("{MAP}---\n{secret}")),
    ]);
    let select = Select::Environment(Name::new("lab").unwrap());
    let digests = |byte: Option<u8>| {
        let mut cache = ParseCache::new();
        let key = byte.map(|byte| DigestKey::new([byte; DigestKey::BYTES]));
        cache.seal(key.as_ref());
        let loaded = load(&files, &select, &mut cache).unwrap();
        let id: ResourceId = "release/web".parse().unwrap();
        let wish = &loaded.desired.resources[&id];
        let Resource::Release(release) = &wish.resource else { panic!() };
        let of =
            |kind: &str| release.objects.iter().find(|it| it.kind == kind).unwrap().digest.clone();
        (of("ConfigMap"), of("Secret"), wish.digest)
    };
    let (one, other, none) = (digests(Some(1)), digests(Some(2)), digests(None));
    assert_eq!(one, digests(Some(1)));
    assert_eq!(one.0, other.0);
    assert!(one.1 != other.1 && one.1 != none.1 && one.2 != other.2 && one.2 != none.2);
}
