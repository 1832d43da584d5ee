//! Tests of rules: every `test_…` rule of the `*_test.rego` files.

use regorus::Value;
use serde::Serialize;

use super::evaluate::{limit, value_of};
use super::rules::{Entrance, RuleFile, Rules};
use super::trouble::Trouble;
use crate::spec::TextPlace;

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", content = "value", rename_all = "camelCase")]
pub enum Outcome {
    /// It is true.
    Passed,
    /// It is not true.
    Failed,
    /// It could not be evaluated, or its file not be read.
    Broken(String),
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TestResult {
    /// Package and rule: `trueup.labels_test.test_owner`; the path for a file that is broken.
    pub name: String,
    /// Where it is written, or where it broke.
    pub place: TextPlace,
    /// How it ended.
    pub outcome: Outcome,
}

/// Every test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestReport {
    /// The tests, by file and line.
    pub tests: Vec<TestResult>,
}

impl TestReport {
    /// How many passed.
    pub fn passed(&self) -> usize {
        self.tests.iter().filter(|test| test.outcome == Outcome::Passed).count()
    }

    /// Those that did not.
    pub fn failures(&self) -> impl Iterator<Item = &TestResult> {
        self.tests.iter().filter(|test| test.outcome != Outcome::Passed)
    }
}

/// Runs the tests of a repository's rules, and of the shipped ones if asked for. A file that cannot
/// be read counts as a failure.
pub fn test(files: &[RuleFile], shipped_too: bool) -> TestReport {
    let rules = Rules::with_tests(files, shipped_too);
    let broken = rules.troubles.iter().map(|(path, trouble)| {
        let start = TextPlace { path: path.clone(), line: 1, column: 1 };
        let Trouble { place, message } = trouble.clone();
        let outcome = Outcome::Broken(message);
        TestResult { name: path.clone(), place: place.unwrap_or(start), outcome }
    });
    let mut tests: Vec<TestResult> = broken.collect();
    let mut engine = rules.engine.clone();
    limit(&mut engine);
    engine.set_input(Value::new_object());
    for entry in rules.entries.iter().filter(|entry| entry.entrance == Entrance::Test) {
        let (place, outcome) = match value_of(&mut engine, entry) {
            Ok(Value::Bool(true)) => (entry.place.clone(), Outcome::Passed),
            Ok(_) => (entry.place.clone(), Outcome::Failed),
            Err((_, trouble)) => {
                let place = trouble.place.unwrap_or_else(|| entry.place.clone());
                (place, Outcome::Broken(trouble.message))
            }
        };
        let name = format!("{}.{}", entry.package_name(), entry.name);
        tests.push(TestResult { name, place, outcome });
    }
    tests.sort_by(|a, b| (&a.place, &a.name).cmp(&(&b.place, &b.name)));
    TestReport { tests }
}
