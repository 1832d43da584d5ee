//! What goes where: the product on stdout, the talk on stderr, the verdict in the exit code.

use std::io::Read as _;
use std::process::Stdio;

use super::{Ended, Host, program};

fn run(words: &[&str]) -> Ended {
    Ended::of(program().args(words).output().unwrap())
}

#[test]
fn help_is_a_product_and_misuse_is_talk() {
    let help = run(&["--help"]).code(0);
    assert!(help.out.contains("EXIT CODES") && help.err.is_empty());
    let misuse = run(&["statsu"]).code(2);
    assert!(misuse.out.is_empty() && misuse.err.contains("status"), "{misuse:?}");
    assert!(run(&["status", "--help"]).code(0).out.contains("EXAMPLES"));
}

#[test]
fn a_closed_pipe_is_quiet() {
    let mut child = program()
        .args(["schema", "virtual-machine"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(err, "");
}

#[test]
fn colour_is_for_terminals_and_for_those_who_ask() {
    let host = Host::new().with_past();
    assert!(!host.run(&["status"]).code(0).out.contains('\u{1b}'));
    assert!(host.run(&["status", "--color", "always"]).code(0).out.contains('\u{1b}'));
}

#[test]
fn init_writes_what_can_be_read_and_never_over_something() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etc/config.yaml");
    let config = path.to_str().unwrap();
    let url = "https://git.example.org/env.git";
    run(&["--config", config, "init", url]).code(0);
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(trueup::config::parse(&path, &written).is_ok());
    let again = run(&["--config", config, "init", url]).code(4);
    assert!(again.err.contains("--print"), "{}", again.err);
    assert_eq!(run(&["--config", config, "init", url, "--print"]).code(0).out, written);
    let secret = run(&["init", "https://me:hunter2@host/r.git", "--print"]).code(1);
    assert!(!secret.err.contains("hunter2"), "{}", secret.err);
}

#[test]
fn a_mistake_in_the_config_has_its_place() {
    let host = Host::new();
    std::fs::write(host.path().join("config.yaml"), "repository:\n  ulr: x\n").unwrap();
    let ended = host.run(&["status"]).code(1);
    assert!(ended.err.contains("config.yaml:2:3: unknown field `ulr`"), "{}", ended.err);
    assert!(ended.err.contains("did you mean `url`?"), "{}", ended.err);
}

#[test]
fn the_schemas_and_completions_are_printed() {
    let names = run(&["schema"]).code(0).out;
    for name in names.lines() {
        let schema = run(&["schema", name]).code(0).out;
        let value: serde_json::Value = serde_json::from_str(&schema).unwrap();
        assert!(value["title"].is_string() || value["anyOf"].is_array(), "{name}");
    }
    assert!(names.lines().any(|name| name == "config"));
    run(&["schema", "car"]).code(2);
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).code(0).out.contains("accept-rewrite"));
    }
}

#[test]
fn check_reads_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    std::fs::write(folder.path().join("trueup.yaml"), "kind: Repositry\n").unwrap();
    let ended = run(&["check", root]).code(1);
    assert!(ended.out.contains("trueup.yaml"), "{ended:?}");
    let json = run(&["check", root, "-o", "json"]).code(1).out;
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
    run(&["check", "/nowhere/at/all"]).code(1);
}

#[test]
fn the_repository_of_the_readme_has_no_mistakes() {
    let readme = include_str!("../../README.md");
    let folder = tempfile::tempdir().unwrap();
    let blocks = readme.split("```yaml\n# ").skip(1).filter_map(|rest| rest.split_once('\n'));
    let mut files = 0;
    for (name, rest) in blocks {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, rest.split("```").next().unwrap()).unwrap();
        files += 1;
    }
    assert_eq!(files, 2);
    run(&["check", folder.path().to_str().unwrap()]).code(0);
}
