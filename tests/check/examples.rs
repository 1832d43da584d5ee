//! What is handed to users is right: the example repository and the schemas.

use super::*;

#[test]
fn the_example_repository_has_no_mistakes() {
    let checked = check_all(&read_folder(&here("examples-repo")), &mut ParseCache::new());
    assert_eq!(lines(&checked.diagnostics), "");
    let names: Vec<_> = checked.environments.keys().map(Name::as_str).collect();
    assert_eq!(names, ["apps", "demo", "workstation"]);
    let of = |name: &str| checked.environments[&Name::new(name).unwrap()].as_ref().unwrap();
    let apps = of("apps").desired.resources.keys().map(ToString::to_string);
    let releases = ["grafana", "iris", "minio", "mlflow", "postgresql", "prometheus"];
    let releases = releases.map(|name| format!("release/{name}"));
    assert_eq!(apps.skip(1).collect::<Vec<_>>(), releases);
    let workstation = of("workstation").desired.resources.keys().map(ToString::to_string);
    let built: Vec<_> = workstation.filter(|id| id.contains("/built-")).collect();
    assert_eq!(
        built.join(" "),
        "disk/built-control disk/built-control-data disk/built-w1 disk/built-w2 seed/built-control seed/built-w1 \
         seed/built-w2 vm/built-control vm/built-w1 vm/built-w2"
    );
    let demo = of("demo");
    let ids: Vec<_> = demo.desired.resources.keys().map(ToString::to_string).collect();
    assert_eq!(ids, ["pool/trueup", "network/demo", "image/debian", "disk/hello-root", "vm/hello"]);
}

/// Rewrite with `UPDATE_SCHEMAS=1`.
#[test]
fn checked_in_schemas_are_fresh() {
    let rewrite = std::env::var_os("UPDATE_SCHEMAS").is_some();
    let mut names = Vec::new();
    let config = ("config.json".to_owned(), trueup::config::schema());
    let input = ("policy-input.json".to_owned(), trueup::cli::schema::policy_input());
    for (name, schema) in schemas().into_iter().chain([config, input]) {
        let path = here("schemas").join(&name);
        let text = format!("{schema:#}\n");
        if rewrite {
            fs::write(&path, &text).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "schemas/{name} is stale: run `make schemas`");
        names.push(name);
    }
    names.sort();
    let mut kept: Vec<_> = fs::read_dir(here("schemas"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, names, "a file in schemas/ belongs to no kind and is not the config's");
}

#[test]
fn every_field_of_every_schema_is_described() {
    fn walk(at: &str, schema: &serde_json::Value, missing: &mut Vec<String>) {
        if let Some(fields) = schema["properties"].as_object() {
            for (name, field) in fields {
                if field["description"].as_str().is_none_or(str::is_empty) {
                    missing.push(format!("{at}/{name}"));
                }
            }
        }
        for (name, def) in schema["$defs"].as_object().into_iter().flatten() {
            walk(name, def, missing);
        }
    }
    let mut missing = Vec::new();
    for (name, schema) in schemas() {
        walk(&name, &schema, &mut missing);
    }
    assert_eq!(missing, Vec::<String>::new());
}

fn yaml(path: &str) -> serde_json::Value {
    let text = fs::read_to_string(here(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_composite_action_is_one_and_the_workflow_uses_it() {
    let action = yaml("examples-repo/.github/actions/trueup-check/action.yml");
    assert_eq!(action["runs"]["using"], "composite");
    let inputs = action["inputs"].as_object().unwrap();
    for step in action["runs"]["steps"].as_array().unwrap() {
        assert_eq!(step["shell"], "bash", "a composite step names its shell");
        let script = step["run"].as_str().unwrap();
        assert!(!script.contains("${{"), "an input must not become a part of a command: {script}");
        for value in step["env"].as_object().unwrap().values() {
            let name = value.as_str().unwrap().replace("${{ inputs.", "").replace(" }}", "");
            assert!(inputs.contains_key(&name), "{name} is no input");
        }
        assert!(script.contains("check --format github") && script.contains("--format sarif"));
    }
    let workflow = yaml("examples-repo/.github/workflows/check.yml");
    let steps = workflow["jobs"]["check"]["steps"].as_array().unwrap();
    let used = steps.iter().find(|step| step["uses"] == "./.github/actions/trueup-check").unwrap();
    let given = used["with"].as_object().unwrap();
    assert!(given.keys().all(|name| inputs.contains_key(name)), "{given:?}");
}

/// What trueup writes of SARIF, against the members that the standard requires of each part.
#[test]
fn mistakes_as_sarif_are_what_code_scanning_reads() {
    let schema = fs::read_to_string(here("tests/check/fixtures/sarif-cut.json")).unwrap();
    let schema = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let found = check_text(
        b"apiVersion: trueup/v1\nkind: Disk\nmetadata: { name: a }\nspec: { sise: 1GiB }\n",
    );
    assert!(!found.diagnostics.is_empty());
    for diagnostics in [&found.diagnostics[..], &[]] {
        let sarif = trueup::spec::render::sarif(diagnostics);
        let wrong: Vec<String> = validator.iter_errors(&sarif).map(|it| it.to_string()).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{sarif:#}");
    }
    let mut broken = trueup::spec::render::sarif(&found.diagnostics);
    broken["runs"][0]["results"][0]["level"] = "fatal".into();
    assert!(!validator.is_valid(&broken), "the cut refuses what the standard refuses");
}
