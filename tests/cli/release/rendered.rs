//! Charts and kustomizations by the real Helm and the real Kustomize: rendered once, recorded, applied, and
//! every mistake at its place.

use super::*;

/// Where `tests/support/renderers` puts the programs; `None`: they were not to be had.
fn programs() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let folder = cache.join("trueup-ci/renderers-2.2.2");
    let there = folder.join("helm").exists();
    if !there {
        eprintln!("SKIPPED: no Helm in {}; run tests/support/renderers", folder.display());
    }
    there.then_some(folder)
}

const CHART: &str = "apiVersion: v2\nname: web\nversion: 1.0.0\n";
const TEMPLATE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-colors\n\
                        data:\n  sky: {{ required \"a sky is needed\" .Values.sky }}\n  sea: {{ .Values.sea }}\n";
const LOGIN: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {password: {{ .Values.password }}}\n";
const ROLLED: &str = "apiVersion: trueup/v1\nkind: Release\nmetadata: {name: web}\nspec:\n  cluster: apps\n  \
                      namespace: shop\n  manifests: [manifests/plain]\n  helm:\n    chart: manifests/chart\n    \
                      values: [manifests/values-lab.yaml]\n    set: {sea: green}\n  kustomize: manifests/over\n";

/// A host that has the programs, with a chart, an overlay over a base, and a plain manifest.
fn site(programs: &Path) -> Site {
    let site = Site::start();
    let path = site.host.path().join("config.yaml");
    let config = fs::read_to_string(&path).unwrap();
    let own =
        format!("{config}programs: {{helm: {0}/helm, kubectl: {0}/kubectl}}\n", programs.display());
    fs::write(&path, own).unwrap();
    let file = |path: &str, text: &str| site.repo.write(&format!("environments/lab/{path}"), text);
    fs::remove_dir_all(site.repo.work().join("environments/lab/manifests")).unwrap();
    file("manifests/plain/shop.yaml", NAMESPACE);
    file("manifests/chart/Chart.yaml", CHART);
    file("manifests/chart/values.yaml", "sky: red\nsea: red\npassword: none\n");
    file("manifests/chart/templates/colors.yaml", TEMPLATE);
    file("manifests/chart/templates/login.yaml", LOGIN);
    file(
        "manifests/chart/templates/test.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: t, annotations: {helm.sh/hook: test}}\n",
    );
    file("manifests/values-lab.yaml", &format!("sky: blue\npassword: {PASSWORD}\n"));
    file("manifests/base/kustomization.yaml", "resources: [map.yaml]\n");
    file(
        "manifests/base/map.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ground}\ndata: {grass: green}\n",
    );
    file(
        "manifests/over/kustomization.yaml",
        "resources: [../base]\nnamePrefix: lab-\npatches: [{path: patch.yaml}]\n",
    );
    file(
        "manifests/over/patch.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ground}\ndata: {grass: dry}\n",
    );
    site.repo.publish("environments/lab/web.yaml", ROLLED);
    site
}

#[test]
fn what_is_rendered_is_recorded_applied_and_rendered_once() {
    let Some(programs) = programs() else { return };
    let site = site(&programs);
    // In a table a long value is cut.
    let plan = site.run(&["plan", "-o", "json"]).code(3).out;
    assert!(plan.contains("helm v4.1.4 (sha256:"), "{plan}");
    assert!(plan.contains("kubectl v1.33.9, v5.6.0 (sha256:"), "{plan}");
    site.run(&["apply", "-vvv"]).code(0);
    let data = |name: &str| site.object("ConfigMap", "shop", name)["data"].clone();
    assert_eq!(data("web-colors"), json!({"sky": "blue", "sea": "green"}));
    assert_eq!(data("lab-ground"), json!({"grass": "dry"}));
    assert_eq!(site.object("Pod", "shop", "t"), Value::Null, "a test is no part of it");
    let kept = || {
        let mut all: Vec<_> = fs::read_dir(site.host.state().join("render/kept"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        all.sort();
        all
    };
    let first = kept();
    assert_eq!(first.len(), 2, "{first:?}");
    assert!(!site.run(&["plan"]).out.contains("release/web"));
    assert_eq!(kept(), first);

    // Another value is another rendering of that chart alone.
    site.repo.publish(
        "environments/lab/manifests/values-lab.yaml",
        &format!("sky: grey\npassword: {PASSWORD}\n"),
    );
    let plan = site.run(&["plan", "-o", "json"]).code(3).out;
    assert!(plan.contains("grey") && plan.contains("/rendered/"), "{plan}");
    site.run(&["apply"]).code(0);
    assert_eq!(data("web-colors")["sky"], "grey");
    assert_eq!(kept().len(), 3);

    // Nothing is left of a rendering, and no value of a Secret is where people look.
    let left: Vec<_> = fs::read_dir(site.host.state().join("render")).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    for found in holding(&site.host.state(), PASSWORD) {
        let own = found.starts_with(site.host.state().join("render/kept"));
        assert!(own || found.to_string_lossy().contains("mirror"), "{}", found.display());
    }
    site.run(&["log", "verify"]).code(0);
    site.run(&["replay"]).code(0);
}

#[test]
fn a_host_without_the_program_refuses_the_commit_and_keeps_what_is_there() {
    let Some(programs) = programs() else { return };
    let site = site(&programs);
    site.run(&["apply"]).code(0);
    let path = site.host.path().join("config.yaml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("programs:", "# ")).unwrap();
    let refused = site.run(&["plan"]);
    let said = format!("{}{}", refused.out, refused.err);
    let known = site.run(&["state", "-o", "json"]).out;
    assert!(said.contains("programs.helm") || known.contains("programs.helm"), "{said} {known}");
    site.run(&["apply"]);
    assert_eq!(site.object("ConfigMap", "shop", "web-colors")["data"]["sky"], "blue");
}

/// What `trueup check` says of the repository, where these files are changed.
fn checked(programs: &Path, changes: &[(&str, &str)]) -> String {
    let site = site(programs);
    for (path, text) in changes {
        site.repo.write(&format!("environments/lab/{path}"), text);
    }
    let mut check = program();
    let path = format!("{}:/usr/bin:/bin", programs.display());
    check.env("PATH", path).arg("check").arg(site.repo.work());
    let ended = Ended::of(check.output().unwrap());
    format!("{} {}{}", ended.code, ended.out, ended.err)
}

#[test]
fn mistakes_of_a_chart_are_told_where_they_are() {
    let Some(programs) = programs() else { return };
    let good = checked(&programs, &[]);
    assert!(good.starts_with("0 "), "{good}");
    for (changes, expected) in [
        (
            &[("manifests/values-lab.yaml", "sky: ''\n")][..],
            &["templates/colors.yaml:6", "a sky is needed"][..],
        ),
        (
            &[("manifests/chart/templates/x.yaml", "apiVersion: v1\nkind: ConfigMap\n")],
            &["templates/x.yaml:1", "metadata.name"],
        ),
        (
            &[(
                "manifests/chart/templates/x.yaml",
                "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j, annotations: {helm.sh/hook: pre-install}}\n",
            )],
            &["templates/x.yaml:1", "no hook is run here", "hooks: leaveOut"],
        ),
        (
            &[(
                "manifests/chart/templates/x.yaml",
                "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {p: {{ randAlphaNum 9 }}}\n",
            )],
            &["templates/x.yaml:1", "something else each time"],
        ),
        (
            &[(
                "manifests/chart/Chart.yaml",
                "apiVersion: v2\nname: web\nversion: 1.0.0\ndependencies: [{name: db, version: 1.0.0, repository: 'https://charts.example.org'}]\n",
            )],
            &["chart/Chart.yaml", "missing in charts/"],
        ),
        (
            &[("manifests/over/kustomization.yaml", "resources: ['https://example.org/x.yaml']\n")],
            &["over/kustomization.yaml", "cannot be rendered"],
        ),
        (
            &[("manifests/over/kustomization.yaml", "resources: [../plain/shop.yaml]\n")],
            &["over/kustomization.yaml", "cannot be rendered"],
        ),
        (
            &[("manifests/over/kustomization.yaml", "helmCharts: [{name: web, releaseName: x}]\n")],
            &["over/kustomization.yaml", "enable-helm"],
        ),
    ] {
        let said = checked(&programs, changes);
        assert!(said.starts_with("1 "), "{said}");
        for words in expected {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains(PASSWORD) && !said.contains("/commit/"), "{said}");
    }
}

#[test]
fn a_chart_that_reads_other_files_of_the_host_finds_none() {
    let Some(programs) = programs() else { return };
    for path in [
        "/etc/hostname",
        "../values-lab.yaml",
        "../../lab.yaml",
        "/commit/environments/lab/manifests/values-lab.yaml",
    ] {
        let text = format!(
            "{{{{ if .Files.Get \"{path}\" }}}}{{{{ fail \"it was read\" }}}}{{{{ end }}}}\n"
        );
        let said = checked(&programs, &[("manifests/chart/templates/x.yaml", &text)]);
        assert!(said.starts_with("0 "), "{path}: {said}");
    }
    let text = "{{ if .Files.Get \"README.md\" }}{{ fail \"it was read\" }}{{ end }}\n";
    let own = [("manifests/chart/templates/x.yaml", text), ("manifests/chart/README.md", "hello")];
    let said = checked(&programs, &own);
    assert!(said.contains("it was read"), "its own files it reads: {said}");
}

/// An approval is for what was shown: the program is the host's, and may be another one by the time of the merge.
#[test]
fn a_plan_that_was_approved_does_not_run_once_it_is_rendered_otherwise() {
    let Some(programs) = programs() else { return };
    let site = site(&programs);
    let helm = site.host.path().join("helm");
    fs::copy(programs.join("helm"), &helm).unwrap();
    let path = site.host.path().join("config.yaml");
    let config = fs::read_to_string(&path).unwrap();
    let own = config.replace(&format!("{}/helm", programs.display()), &helm.display().to_string());
    fs::write(&path, own).unwrap();
    let lab = |mode: &str| {
        let text = format!(
            "apiVersion: trueup/v1\nkind: Environment\nmetadata: {{name: lab}}\nspec: {{sync: {{mode: \
             {mode}}}}}\n---\napiVersion: trueup/v1\nkind: Policy\nmetadata: {{name: secrets}}\nspec: \
             {{rules: {{trueup.secrets: {{level: advisory}}}}}}\n"
        );
        site.repo.publish("environments/lab/lab.yaml", &text);
    };
    lab("auto");
    site.run(&["apply"]).code(0);
    lab("manual");
    let sky = || site.object("ConfigMap", "shop", "web-colors")["data"]["sky"].clone();
    let values = |sky: &str| {
        let text = format!("sky: {sky}\npassword: {PASSWORD}\n");
        site.repo.publish("environments/lab/manifests/values-lab.yaml", &text);
    };
    // The plan that waits, by its digits.
    let held = || {
        let held = site.run(&["apply"]).code(4);
        let (_, digits) = held.err.rsplit_once("trueup approve ").expect(&held.err);
        digits.trim().to_owned()
    };
    values("grey");
    let shown = held();
    site.run(&["approve", &shown]).code(0);

    // Another program: that it makes the same of it today is not what was approved.
    let whole = fs::read(&helm).unwrap();
    fs::write(&helm, [&whole[..], b"\n"].concat()).unwrap();
    assert_ne!(held(), shown);
    site.run(&["apply", "--approve", &shown]).code(4);
    assert_eq!(sky(), "blue");
    // The plan that was shown runs.
    fs::write(&helm, &whole).unwrap();
    site.run(&["apply", "--approve", &shown]).code(0);
    assert_eq!(sky(), "grey");

    // Another value, merged in between.
    values("pink");
    let shown = held();
    site.run(&["approve", &shown]).code(0);
    values("black");
    assert_ne!(held(), shown);
    site.run(&["apply", "--approve", &shown]).code(4);
    assert_eq!(sky(), "grey");
    site.run(&["apply", "--approve", &held()]).code(0);
    assert_eq!(sky(), "black");
    site.run(&["log", "verify"]).code(0);
    site.run(&["replay"]).code(0);
}
