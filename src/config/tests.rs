//! Tests of the config: what is taken, what is refused and how it is said.

use std::path::Path;
use std::time::Duration;

use super::*;

#[track_caller]
fn refused(text: &str) -> String {
    parse(Path::new("c.yaml"), text).unwrap_err().to_string()
}

#[test]
fn the_least_config_has_every_default() {
    let config = parse(Path::new("c"), "repository:\n  url: /srv/env.git\n").unwrap();
    assert_eq!(config, Config::new("/srv/env.git"));
    assert_eq!(config.repository.poll.interval.duration(), Duration::from_secs(15));
    assert_eq!(config.repository.credentials.username(), "x-access-token");
}

#[test]
fn the_example_is_the_default_config() {
    let text = example("https://git.example.org/env.git");
    let config = parse(Path::new("c"), &text).unwrap();
    assert_eq!(config, Config::new("https://git.example.org/env.git"));
}

#[test]
fn over_ssh_the_example_names_keys_that_the_unit_can_see() {
    for url in ["ssh://git@example.org/env.git", "git@example.org:env.git"] {
        let config = parse(Path::new("c"), &example(url)).unwrap();
        let ssh = config.repository.ssh;
        assert_eq!(ssh.identity_file.as_deref(), Some(Path::new("/etc/trueup/id_ed25519")));
        assert_eq!(ssh.known_hosts.as_deref(), Some(Path::new("/etc/trueup/known_hosts")));
    }
}

#[test]
fn a_repository_has_one_place_wherever_the_daemon_starts() {
    for url in ["env.git", "./env.git", "../up/env.git"] {
        let message = refused(&format!("repository:\n  url: {url}\n"));
        assert!(message.contains("is a relative path"), "{message}");
    }
    for url in ["/srv/env.git", "file:///srv/env.git", "git@host:env.git", "host:a/b"] {
        parse(Path::new("c"), &format!("repository:\n  url: {url}\n")).unwrap();
    }
}

#[test]
fn every_commented_setting_of_the_example_is_one() {
    // Uncommented block by block, because the forms of `credentials` exclude each other.
    let text = example("/u");
    let setting = |line: &&str| {
        let rest = line.trim_start().strip_prefix("# ").unwrap_or_default();
        rest.trim_start().split_once(':').is_some_and(|(key, _)| {
            !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric())
        })
    };
    let schema = schema().to_string();
    let mut seen = 0;
    for line in text.lines().filter(setting) {
        let line = line.trim_start().trim_start_matches('#').trim_start();
        let key = line.split(':').next().unwrap();
        // `hpc` and `cloud` are names that are chosen.
        if ["Default", "auto", "hpc", "cloud"].contains(&key) {
            continue;
        }
        assert!(schema.contains(&format!("\"{key}\"")), "{line}");
        seen += 1;
    }
    assert!(seen > 12, "{seen}");
}

#[test]
fn an_unknown_field_has_its_place_and_the_nearest_name() {
    let message = refused("repository:\n  url: /x\n  brnch: main\n");
    assert_eq!(message, "c.yaml:3:3: unknown field `brnch`; did you mean `branch`?");
    let message = refused("repository:\n  url: /x\nqwertyuiop: 1\n");
    assert!(message.contains("known here: repository, environment"), "{message}");
}

#[test]
fn what_yaml_takes_silently_elsewhere_is_refused() {
    assert!(refused("repository: {url: /x}\nrepository: {url: y}\n").contains("duplicate"));
    assert!(refused("repository: {url: /x, signatures: {required: yes}}\n").contains("c.yaml:1:"));
    assert!(refused("repository: !x {url: /x}\n").contains("c.yaml:1:"));
    assert!(refused("a: &a {url: /x}\nrepository: {<<: *a}\n").contains("c.yaml:"));
    let message = refused("");
    assert!(message.contains("repository"), "an empty file names what is missing: {message}");
}

#[test]
fn values_that_cannot_be_used_are_refused_without_being_quoted() {
    let message = refused("repository: {url: 'https://me:hunter2@host/r.git'}\n");
    assert!(message.contains("repository.url") && !message.contains("hunter2"), "{message}");
    assert!(!has_secret("repository: {url: /x, credentials: {token: hunter2}}\n"));
    let two = "repository: {url: /x, credentials: {helper: true, tokenFile: /t}}\n";
    assert!(refused(two).contains("give one of"));
    let none = "repository: {url: /x, signatures: {required: true}}\n";
    assert!(refused(none).contains("allowedSigners"));
    assert!(refused("repository: {url: /x}\nsocket: s.sock\n").contains("absolute"));
    for relative in ["folder: etc", "slurmctld: slurmctld", "allowedPaths: [/srv, hooks]"] {
        let message =
            refused(&format!("repository: {{url: /x}}\nclusters: {{hpc: {{{relative}}}}}\n"));
        let field = relative.split(':').next().unwrap();
        assert!(message.contains(&format!("clusters.{field}")), "{message}");
        assert!(message.contains("absolute"), "{message}");
    }
    assert!(refused("repository: {url: /x}\nlimits: {parallelism: 0}\n").contains("1 to 64"));
    assert!(refused("repository: {url: /x}\nlimits: {resync: 5}\n").contains("`15s`"));
    assert!(refused("repository: {url: /x}\nlimits: {resync: -5s}\n").contains("negative"));
    assert!(refused("repository: {url: /x}\nlimits: {resync: 200h}\n").contains("range"));
}

#[test]
fn a_forge_needs_one_login_and_a_safe_way_to_it() {
    let forge = |text: &str| format!("repository: {{url: /x}}\nforge: {{{text}}}\n");
    let token = "token: {env: T}";
    for good in [
        format!("repository: o/r, {token}"),
        "repository: o/r, app: {id: 1, installation: 2, key: {file: /k}}".to_owned(),
        format!("repository: o/r, kind: gitea, url: 'https://git.example:3000', {token}"),
        format!("repository: o/r, url: 'http://127.0.0.1:8080/api/v3', {token}"),
        format!("repository: o/r, {token}, approvals: {{teams: [o/ops], self: true}}"),
        format!("repository: o/r, {token}, approvals: {{permission: maintain, label: go}}"),
        format!("repository: o/r, {token}, webhook: {{listen: '[::]:80', secret: {{env: S}}}}"),
        format!("repository: o/r, {token}, webhook: {{listen: 'unix:/s', secret: {{env: S}}}}"),
    ] {
        parse(Path::new("c"), &forge(&good)).unwrap();
    }
    for (bad, says) in [
        (format!("repository: o, {token}"), "owner/name"),
        (format!("repository: o/../r, {token}"), "owner/name"),
        (format!("repository: o/r, url: 'http://git.example', {token}"), "https"),
        (format!("repository: o/r, url: 'https://me:hunter2@git.example', {token}"), "login"),
        (format!("repository: o/r, kind: gitea, {token}"), "forge.url"),
        ("repository: o/r".to_owned(), "either"),
        ("repository: o/r, token: {env: A, file: /b}".to_owned(), "one of"),
        ("repository: o/r, token: {file: relative}".to_owned(), "absolute"),
        (format!("repository: o/r, {token}, approvals: {{}}"), "who may approve"),
        (format!("repository: o/r, {token}, approvals: {{by: [a], comment: false}}"), "how to"),
        (format!("repository: o/r, {token}, approvals: {{teams: [ops]}}"), "organisation/team"),
        (
            format!("repository: o/r, {token}, webhook: {{listen: '80', secret: {{env: S}}}}"),
            "address:port",
        ),
        (
            format!("repository: o/r, {token}, webhook: {{listen: '[::]:80', secret: {{}}}}"),
            "one of",
        ),
        (
            format!(
                "repository: o/r, {token}, webhook: {{listen: '[::]:80', secret: {{file: s}}}}"
            ),
            "absolute",
        ),
    ] {
        let message = refused(&forge(&bad));
        assert!(message.contains(says) && !message.contains("hunter2"), "{bad}: {message}");
    }
}

#[track_caller]
fn has_secret(text: &str) -> bool {
    refused(text).contains("hunter2")
}

#[test]
fn spans_show_as_they_are_written() {
    for text in ["15s", "2m", "1h 30m"] {
        assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
    }
}

#[test]
fn a_config_goes_through_its_own_schema() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let config = serde_json::to_value(Config::new("u")).unwrap();
    assert!(validator.is_valid(&config));
    let wrong = serde_json::json!({ "repository": { "url": "u", "brnch": "x" } });
    assert!(!validator.is_valid(&wrong));
}

#[test]
fn a_missing_and_an_oversized_file_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    assert!(matches!(load(Some(&path)), Err(ConfigError::Missing { .. })));
    std::fs::write(&path, vec![b'#'; 70_000]).unwrap();
    assert!(matches!(load(Some(&path)), Err(ConfigError::TooLarge { .. })));
}

#[test]
fn a_token_in_place_of_a_user_is_refused_and_a_user_of_ssh_is_not() {
    let with = |url: &str| {
        parse(std::path::Path::new("c.yaml"), &format!("repository: {{ url: '{url}' }}\n"))
    };
    for url in ["https://ghp_hunter2@host/r.git", "https://ann:hunter2@host/r.git"] {
        let error = with(url).unwrap_err().to_string();
        assert!(error.contains("repository.credentials"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert!(with("ssh://git@host/r.git").is_ok());
    assert!(with("git@host:r.git").is_ok());
}
