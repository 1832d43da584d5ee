//! The four looks of the same findings.

use expect_test::expect;

use super::super::diag::{Diagnostic, Related, Severity, Spot};
use super::*;
use crate::spec::{RepoFile, RepoFiles};

fn given() -> (Vec<Diagnostic>, RepoFiles) {
    let spot = Spot { line: 2, column: 3, len: 5 };
    let path = "environments/lab/a,b.yaml";
    let mut first = Diagnostic::located(
        "spec/unknown-field",
        Severity::Error,
        path,
        spot,
        "unknown field `cidrr`",
    )
    .with_hint("did you mean `cidr`?");
    first.related.push(Related {
        path: "trueup.yaml".to_owned(),
        line: 1,
        column: 1,
        message: "named here".to_owned(),
    });
    let mut second = Diagnostic::nowhere("spec/x", "", "100%\n::error::gotcha");
    second.severity = Severity::Warning;
    let file = RepoFile::new(path, "1", "spec:\n  cidrr: 10.0.0.0/8\n".as_bytes());
    (vec![first, second], RepoFiles { files: vec![file] })
}

#[test]
fn text_points_at_the_place() {
    let (found, repo) = given();
    expect![[r#"
        error[spec/unknown-field]: unknown field `cidrr`
         --> environments/lab/a,b.yaml:2:3
          |
        2 |   cidrr: 10.0.0.0/8
          |   ^^^^^
          |
          = note: named here: trueup.yaml:1:1
          = help: did you mean `cidr`?

        warning[spec/x]: 100%
                         ::error::gotcha

        1 error, 1 warning
    "#]]
    .assert_eq(&text(&found, &repo, false));
}

#[test]
fn github_commands_cannot_be_smuggled() {
    let (found, _) = given();
    expect![[r#"
        ::error file=environments/lab/a%2Cb.yaml,line=2,endLine=2,col=3,endColumn=8,title=spec/unknown-field::unknown field `cidrr`%0Adid you mean `cidr`?
        ::warning title=spec/x::100%25%0A::error::gotcha
    "#]]
    .assert_eq(&github(&found));
}

#[test]
fn sarif_has_rules_places_and_relations() {
    let (found, _) = given();
    let log = sarif(&found);
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"][0]["id"], "spec/unknown-field");
    let place = &run["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "environments/lab/a%2Cb.yaml");
    assert_eq!(place["region"]["endColumn"], 8);
    assert_eq!(run["results"][0]["relatedLocations"][0]["message"]["text"], "named here");
    assert_eq!(run["results"][1]["level"], "warning");
}

#[test]
fn json_is_read_back() {
    let (found, _) = given();
    let back: Vec<Diagnostic> =
        serde_json::from_value(json(&found)["diagnostics"].clone()).unwrap();
    assert_eq!(back, found);
    assert_eq!(json(&found)["errors"], 1);
}
