//! What is handed to users is right: the example repository and the schemas.

use super::*;

#[test]
fn the_example_repository_has_no_mistakes() {
    let checked = check_all(&read_folder(&here("examples-repo")), &mut ParseCache::new());
    assert_eq!(lines(&checked.diagnostics), "");
    let names: Vec<_> = checked.environments.keys().map(Name::as_str).collect();
    assert_eq!(names, ["demo", "workstation"]);
    let demo = checked.environments.values().next().unwrap().as_ref().unwrap();
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
