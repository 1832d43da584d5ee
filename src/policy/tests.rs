//! The rules by example: what passes, what holds, what is broken, and in which order it is said.

use jiff::Timestamp;

use super::*;
use crate::model::PolicyLevel;
use crate::spec::{self, Loaded, ParseCache, Places, PolicySettings, RepoFile, RepoFiles, Select};

const REPOSITORY: &str = "apiVersion: trueup/v1\nkind: Repository\nmetadata: {name: fleet}\n\
    spec: {environments: {lab: {hosts: [\"*\"]}}}\n";
const NETWORK: &str = "apiVersion: trueup/v1\nkind: Network\nmetadata: {name: dmz}\n\
    spec:\n  mode: bridge\n  bridge: br0\n";
const NOW: &str = "2026-06-01T12:00:00Z";

fn repo(files: &[(&str, &str)]) -> RepoFiles {
    let all = [("trueup.yaml", REPOSITORY)].into_iter().chain(files.iter().copied());
    let files = all.map(|(path, text)| RepoFile::new(path, path, text.as_bytes().to_vec()));
    RepoFiles { files: files.collect() }
}

fn loaded(repo: &RepoFiles) -> Loaded {
    let select = Select::Environment(crate::model::Name::new("lab").unwrap());
    spec::load(repo, &select, &mut ParseCache::new()).unwrap_or_else(|found| panic!("{found:?}"))
}

fn input(loaded: &Loaded, settings: &PolicySettings) -> Input {
    Input::of(InputParts {
        plan: None,
        desired: &loaded.desired,
        before: None,
        observed: None,
        now: NOW.parse::<Timestamp>().unwrap(),
        host: Host::default(),
        backups: Vec::new(),
        settings,
    })
}

fn verdicts(files: &[(&str, &str)]) -> Verdicts {
    let repo = repo(files);
    let loaded = loaded(&repo);
    let rules = Rules::new(&rule_files(&repo));
    let mut found = evaluate(&rules, &loaded.policy, &input(&loaded, &loaded.policy));
    let mut places = Places::new(&repo, &loaded.desired.environment);
    found.locate(&loaded.desired, Some(&mut places));
    found
}

#[track_caller]
fn check(files: &[(&str, &str)], expected: &[&str]) {
    let found = verdicts(files);
    let lines: Vec<String> = found
        .all
        .iter()
        .map(|v| format!("{}{}", v.sentence(), if v.exempted.is_some() { " EXEMPT" } else { "" }))
        .collect();
    assert_eq!(lines, expected);
}

/// A rule file of the repository, beside a network that every shipped rule lets pass.
#[track_caller]
fn rule(text: &str, expected: &[&str]) {
    let network = NETWORK.replace("mode: bridge\n  bridge: br0", "cidr: 10.7.0.0/24");
    check(&[("environments/lab/net.yaml", &network), ("policies/a.rego", text)], expected);
}

#[test]
fn every_shipped_test_passes() {
    let report = test(&[], true);
    let failures: Vec<_> = report.failures().collect();
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(report.passed() > 40, "{}", report.passed());
}

#[test]
fn every_shipped_rule_has_tests_and_says_what_it_is_about() {
    let rules = Rules::with_tests(&[], true);
    let list = rules.list();
    assert_eq!(list.len(), 8);
    for info in list {
        assert!(!info.about.is_empty() && info.shipped, "{info:?}");
        let tests = format!("{}_test", info.rule);
        assert!(rules.has_package(&tests), "{tests}");
    }
}

#[test]
fn a_violation_lands_on_its_line() {
    let expected = "policy trueup.bridges (hard): network/dmz: bridge `br0` of the host is not in \
        the list of allowed bridges (environments/lab/net.yaml:6)";
    check(&[("environments/lab/net.yaml", NETWORK)], &[expected]);
}

#[test]
fn a_field_that_a_patch_says_lands_in_the_patch() {
    let head = "apiVersion: trueup/v1\nkind: Environment\nmetadata: {name: lab}\nspec:\n  \
        bases: [common]\n  patches:\n    - target: network/dmz\n      patch:\n        spec:\n          \
        bridge: br1\n";
    let files = [("bases/common/net.yaml", NETWORK), ("environments/lab/environment.yaml", head)];
    let found = verdicts(&files);
    let place = found.all[0].place.clone().unwrap();
    assert_eq!((place.path.as_str(), place.line), ("environments/lab/environment.yaml", 10));
}

fn settings(spec: &str) -> String {
    format!("apiVersion: trueup/v1\nkind: Policy\nmetadata: {{name: house}}\nspec:\n{spec}")
}

#[test]
fn an_exemption_helps_until_it_is_over_and_then_is_said() {
    let exempt = |until: &str| {
        settings(&format!(
            "  exemptions:\n    - rule: trueup.bridges\n      resources: [network/d*]\n      \
             owner: ann@example.org\n      reason: it is public\n      until: {until}\n"
        ))
    };
    let with = |text: &str| {
        verdicts(&[("environments/lab/net.yaml", NETWORK), ("environments/lab/p.yaml", text)])
    };
    let good = with(&exempt("2026-06-01"));
    assert_eq!(good.all.len(), 1);
    assert_eq!(good.all[0].exempted.as_ref().unwrap().owner, "ann@example.org");
    assert!(good.hold_reasons(false).is_empty());

    let over = with(&exempt("2026-05-31"));
    assert_eq!(over.hold_reasons(true).len(), 1, "a hard one is not approved away");
    let said = over.all.iter().find(|v| v.rule == "trueup.policy").unwrap();
    assert_eq!(said.level, PolicyLevel::Advisory);
    assert!(said.message.contains("ended at 2026-06-01T00:00:00Z"), "{}", said.message);
    assert_eq!(said.place.as_ref().unwrap().line, 6);
}

#[test]
fn levels_are_set_by_the_environment() {
    let level = |word: &str| {
        let text = settings(&format!("  rules:\n    trueup.bridges: {{level: {word}}}\n"));
        verdicts(&[("environments/lab/net.yaml", NETWORK), ("environments/lab/p.yaml", &text)])
    };
    let soft = level("soft");
    assert_eq!((soft.hold_reasons(false).len(), soft.hold_reasons(true).len()), (1, 0));
    assert!(level("advisory").hold_reasons(false).is_empty());
    assert!(level("disabled").is_empty());
}

#[test]
fn parameters_reach_their_rule() {
    let text = settings("  rules:\n    trueup.bridges: {params: {allow: [br0]}}\n");
    check(&[("environments/lab/net.yaml", NETWORK), ("environments/lab/p.yaml", &text)], &[]);
}

#[test]
fn settings_of_rules_that_are_not_there_are_said() {
    let text = settings(
        "  rules:\n    trueup.bridgse: {level: soft}\n    trueup.bridges: {params: {allow: [br0]}}\n",
    );
    check(
        &[("environments/lab/net.yaml", NETWORK), ("environments/lab/p.yaml", &text)],
        &["policy trueup.policy (advisory): there is no rule `trueup.bridgse` to set \
            (environments/lab/p.yaml:6)"],
    );
}

#[test]
fn texts_and_objects_of_deny_warn_and_violation_are_findings() {
    rule(
        "package main\n\
         deny contains \"no\"\n\
         warn contains {\"msg\": \"hm\", \"resource\": \"network/dmz\", \"field\": \"/spec/cidr\"}\n\
         violation contains {\"msg\": \"never\", \"resource\": \"rack 7\"}\n\
         deny_more := [\"one\", \"two\"]\n\
         deny_not := false\n",
        &[
            "policy main (hard): no",
            "policy main (hard): one",
            "policy main (hard): rack 7: never",
            "policy main (hard): two",
            "policy main (advisory): network/dmz: hm (environments/lab/net.yaml:5)",
        ],
    );
}

#[test]
fn a_package_may_say_its_own_level() {
    rule("package main\nlevel := \"soft\"\ndeny contains \"no\"\n", &["policy main (soft): no"]);
    rule(
        "package main\nlevel := \"sofd\"\ndeny contains \"no\"\n",
        &["policy main (hard): the rule cannot be evaluated: `level` is not one of \"advisory\", \
            \"soft\", \"hard\" (policies/a.rego:2)"],
    );
}

#[test]
fn what_cannot_be_parsed_or_called_holds_with_its_place() {
    let cases = [
        ("package main\ndeny contains {\n", "policies/a.rego:3"),
        (
            "package main\ndeny contains \"x\" if http.send({})\n",
            "there is no function `http.send`: rules have no network (policies/a.rego:2)",
        ),
        (
            "package main\ndeny contains \"x\" if {\n  input.never\n  time.now_ns() > 0\n}\n",
            "function `time.now_ns` is not for rules: the time is `input.now` and \
             `input.nowUnix` (policies/a.rego:4)",
        ),
        (
            "package main\ndeny contains \"x\" if rand.intn(\"x\", 2) == 1\n",
            "function `rand.intn` is not for rules: the same input has to give the same verdicts \
             (policies/a.rego:2)",
        ),
        (
            "package main\ndeny contains \"x\" if nosuch(1)\n",
            "there is no function `nosuch` (policies/a.rego:2)",
        ),
        (
            "package trueup.labels\ndeny contains \"x\"\n",
            "packages below `trueup` are for the shipped rules: choose another name \
             (policies/a.rego:1)",
        ),
        ("package main\ndeny contains msg if x > 1\n", "(policies/a.rego:2)"),
        (
            "package main\ndeny contains 1\n",
            "`deny` gave something that has no `msg` (policies/a.rego:2)",
        ),
        ("package main\ndeny contains \"x\" if to_number(\"y\") > 1\n", "(policies/a.rego:2)"),
    ];
    let network = NETWORK.replace("mode: bridge\n  bridge: br0", "cidr: 10.7.0.0/24");
    for (text, expected) in cases {
        let found = verdicts(&[("environments/lab/net.yaml", &network), ("policies/a.rego", text)]);
        let reasons = found.hold_reasons(true);
        assert_eq!(reasons.len(), 1, "{text}: {reasons:?}");
        assert!(reasons[0].ends_with(expected) || reasons[0].contains(expected), "{reasons:?}");
        assert!(found.all[0].broken && found.has_hard());
    }
}

#[test]
fn a_broken_file_does_not_take_the_others_with_it_unless_they_need_it() {
    let network = NETWORK.replace("mode: bridge\n  bridge: br0", "cidr: 10.7.0.0/24");
    let found = verdicts(&[
        ("environments/lab/net.yaml", &network),
        ("policies/a.rego", "package main\ndeny contains {\n"),
        ("policies/b.rego", "package b\ndeny contains \"b\"\n"),
        ("policies/c.rego", "package c\nimport data.main\ndeny contains \"c\" if main.f(1)\n"),
        ("policies/d.rego", "package main\ndeny contains \"d\"\n"),
    ]);
    let said: Vec<_> = found.all.iter().map(|v| (v.rule.as_str(), v.broken)).collect();
    assert_eq!(said, [("b", false), ("c", true), ("main", false), ("policies/a.rego", true)]);
}

#[test]
fn a_rule_without_an_end_is_stopped_and_holds() {
    let found = verdicts(&[
        (
            "environments/lab/net.yaml",
            &NETWORK.replace("mode: bridge\n  bridge: br0", "cidr: 10.7.0.0/24"),
        ),
        (
            "policies/a.rego",
            "package main\nn := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\ndeny contains \"x\" if {\n  \
             some a in n; some b in n; some c in n; some d in n; some e in n\n  \
             some f in n; some g in n; some h in n; some i in n; some j in n\n  \
             a + b + c + d + e + f + g + h + i + j > 1000\n}\n",
        ),
    ]);
    assert_eq!(found.hold_reasons(true).len(), 1);
    assert!(found.all[0].message.contains("longer than 2 s"), "{}", found.all[0].message);
}

#[test]
fn no_rule_sees_the_text_of_user_data() {
    let vm = "apiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {name: web}\nspec:\n  \
        memory: 1Gi\n  cloudInit:\n    userData:\n      password: canary-4711\n";
    let files = [("environments/lab/vm.yaml", vm)];
    let repo = repo(&files);
    let loaded = loaded(&repo);
    let text = serde_json::to_string(&input(&loaded, &loaded.policy)).unwrap();
    assert!(!text.contains("canary-4711"));
    check(
        &files,
        &["policy trueup.secrets (hard): seed/web: a password seems to stand here in plain text \
            (environments/lab/vm.yaml:8)"],
    );
}

#[test]
fn the_same_input_gives_the_same_verdicts() {
    let files = [
        ("environments/lab/net.yaml", NETWORK),
        (
            "policies/a.rego",
            "package main\ndeny contains msg if some msg in {\"b\", \"a\", \"c\"}\n",
        ),
        ("policies/b.rego", "package main\ndeny contains \"a\"\nwarn contains \"w\"\n"),
    ];
    let first = verdicts(&files);
    assert_eq!(first.all.len(), 5, "the same words of two files are said once");
    assert_eq!(first, verdicts(&files));
    assert_eq!(first.all.last().unwrap().message, "w");
}

#[test]
fn mistakes_in_settings_are_mistakes_of_the_commit() {
    let text = settings(
        "  rules: {\"a/b\": {}}\n  exemptions:\n    - rule: trueup.bridges\n      \
         resources: [car/x]\n      owner: \" \"\n      reason: x\n      until: soon\n",
    );
    let repo = repo(&[("environments/lab/net.yaml", NETWORK), ("environments/lab/p.yaml", &text)]);
    let select = Select::Environment(crate::model::Name::new("lab").unwrap());
    let found = spec::load(&repo, &select, &mut ParseCache::new()).unwrap_err();
    let lines: Vec<_> = found.iter().map(|d| d.line).collect();
    assert_eq!(lines, [5, 8, 9, 11], "{found:?}");
}

#[test]
fn tests_of_a_repository_are_run_and_broken_ones_count_as_failures() {
    let file = |path: &str, text: &str| RuleFile::new(path, text);
    let report = test(
        &[
            file("policies/a.rego", "package a\ndeny contains \"x\" if input.bad\n"),
            file(
                "policies/a_test.rego",
                "package a_test\nimport data.a\n\
                 test_good if count(a.deny) == 1 with input as {\"bad\": true}\n\
                 test_bad if count(a.deny) == 1 with input as {}\n",
            ),
            file("policies/b_test.rego", "package b_test\ntest_x if {\n"),
        ],
        false,
    );
    let shown: Vec<_> = report
        .tests
        .iter()
        .map(|t| format!("{}:{} {} {:?}", t.place.path, t.place.line, t.name, t.outcome))
        .collect();
    assert_eq!(report.passed(), 1, "{shown:?}");
    assert_eq!(report.failures().count(), 2, "{shown:?}");
    assert!(shown[1].starts_with("policies/a_test.rego:4 a_test.test_bad Failed"), "{shown:?}");
}

#[test]
fn two_owners_of_one_device_are_found_from_the_wish() {
    let vm = |name: &str| {
        format!(
            "apiVersion: trueup/v1\nkind: VirtualMachine\nmetadata: {{name: {name}}}\nspec:\n  \
             memory: 1Gi\n  hostDevices:\n    - pci: \"0000:65:00.0\"\n"
        )
    };
    let (a, b) = (vm("a"), vm("b"));
    let found = verdicts(&[("environments/lab/a.yaml", &a), ("environments/lab/b.yaml", &b)]);
    let gpus: Vec<_> = found.all.iter().filter(|v| v.rule == "trueup.gpus").collect();
    assert_eq!(gpus.len(), 2, "{found:?}");
    assert_eq!(gpus[0].place.as_ref().unwrap().line, 6);
}
