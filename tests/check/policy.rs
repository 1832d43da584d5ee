//! Rules and settings of a repository as a user would write them.

use trueup::policy::{RuleFile, Rules, test};

use super::*;

#[test]
fn the_shipped_rules_pass_their_own_tests() {
    let report = test(&[], true);
    let failed: Vec<_> = report.failures().collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_rule_of_the_manual_is_right() {
    let manual = fs::read_to_string(here("docs/policy.md")).unwrap();
    let blocks = manual.split("```rego\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|block| block.split("```").next()).collect();
    let [rule, tests] = blocks.as_slice() else { panic!("{} blocks of Rego", blocks.len()) };
    let files = [
        RuleFile::new("policies/console.rego", *rule),
        RuleFile::new("policies/console_test.rego", *tests),
    ];
    let report = test(&files, false);
    assert_eq!((report.passed(), report.failures().count()), (1, 0), "{report:?}");
    assert!(Rules::new(&files).list().iter().any(|info| info.rule == "house.console"));
}

#[test]
fn the_settings_of_the_manual_are_right() {
    let manual = fs::read_to_string(here("docs/policy.md")).unwrap();
    let yaml = manual.split("```yaml\n").nth(1).and_then(|block| block.split("```").next());
    let loaded = loaded_text(yaml.unwrap());
    assert_eq!(loaded.policy.rules.len(), 3);
    assert_eq!(loaded.policy.exemptions[0].until.to_string(), "2027-02-01T00:00:00Z");
}
