//! Settings of rules, from the `Policy` documents of an environment: levels, parameters, exemptions.
//!
//! Whether a rule of that name exists is not known here: rules are looked at by the policy ring.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Origin;
use super::environment::Gathered;
use super::kinds::Spec;
use super::kinds::policy::{ExemptionSpec, LevelSpec, RuleSpec};
use super::parse::part_of;
use super::repo::RepoFiles;
use super::resolve::{Draft, Place};
use super::yaml::{At, Index, push_token};
use crate::model::{Kind, PolicyLevel};

/// Most exemptions of one environment: a list that nobody can read is no exception any more.
const EXEMPTIONS_MAX: usize = 1_000;

/// How rules apply to an environment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicySettings {
    /// Settings by rule, the name of its Rego package.
    pub rules: BTreeMap<String, RuleSettings>,
    /// What may break a rule for a while, in the order of files and lines.
    pub exemptions: Vec<Exemption>,
}

/// Settings of one rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleSettings {
    /// It is not asked at all.
    pub disabled: bool,
    /// What it weighs; `None`: as the rule says.
    pub level: Option<PolicyLevel>,
    /// What it reads under `input.params`.
    #[schemars(with = "BTreeMap<String, Value>")]
    pub params: serde_json::Map<String, Value>,
    /// Where it is written.
    pub place: TextPlace,
}

/// Something that may break a rule for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exemption {
    /// The rule, the name of its Rego package.
    pub rule: String,
    /// The resources, as patterns in which `*` stands for any text.
    pub resources: Vec<String>,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// The moment it ends; a day given ends with the day, in UTC.
    #[schemars(with = "String")]
    pub until: Timestamp,
    /// Where it is written.
    pub place: TextPlace,
}

/// A place in a file of the repository.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub struct TextPlace {
    /// Path in the repository.
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// The settings that the `Policy` documents of an environment come to; mistakes become drafts.
pub(crate) fn settings(repo: &RepoFiles, all: &mut Gathered) -> PolicySettings {
    let mut settings = PolicySettings::default();
    let mut drafts = Vec::new();
    let mut first: BTreeMap<String, Place> = BTreeMap::new();
    for (n, member) in all.members.iter().enumerate() {
        let Spec::Policy(spec) = &member.doc.spec else { continue };
        let text =
            all.files.get(member.file).and_then(Option::as_ref).map(|file| file.text.clone());
        let index = text.as_deref().and_then(|text| part_of(text, member.index)).map(Index::of);
        let place = |pointer: &str, at| {
            let spot = index.as_ref().and_then(|index| index.spot(pointer, at));
            let Origin { path, line } = member.origin(repo);
            spot.map_or_else(
                || TextPlace { path: path.clone(), line, column: 1 },
                |spot| TextPlace { path: path.clone(), line: spot.line, column: spot.column },
            )
        };
        for (rule, given) in &spec.rules {
            let mut pointer = "/spec/rules".to_owned();
            push_token(&mut pointer, rule);
            let at = Place { member: n, pointer: pointer.clone(), at: At::Key };
            if !is_package(rule) {
                drafts.push(not_a_rule(at, rule));
            } else if let Some(other) = first.get(rule) {
                let message = format!("rule `{rule}` has settings already");
                let mut draft = Draft::new("spec/duplicate-rule", at, message);
                draft.see(other.clone(), "the first ones are here");
                drafts.push(draft);
            } else {
                first.insert(rule.clone(), at);
                let place = place(&pointer, At::Key);
                settings.rules.insert(rule.clone(), rule_settings(given, place));
            }
        }
        for (nth, given) in spec.exemptions.iter().enumerate() {
            let pointer = format!("/spec/exemptions/{nth}");
            if let Some(until) = checked(given, n, &pointer, &mut drafts) {
                settings.exemptions.push(Exemption {
                    rule: given.rule.clone(),
                    resources: given.resources.clone(),
                    owner: given.owner.trim().to_owned(),
                    reason: given.reason.trim().to_owned(),
                    until,
                    place: place(&format!("{pointer}/rule"), At::Key),
                });
            }
        }
        if settings.exemptions.len() > EXEMPTIONS_MAX {
            let message = format!("more than {EXEMPTIONS_MAX} exemptions");
            drafts.push(Draft::new("spec/too-many", Place::value(n, "/spec/exemptions"), message));
            break;
        }
    }
    all.drafts.extend(drafts);
    settings
}

fn rule_settings(given: &RuleSpec, place: TextPlace) -> RuleSettings {
    let level = given.level.and_then(|level| match level {
        LevelSpec::Disabled => None,
        LevelSpec::Advisory => Some(PolicyLevel::Advisory),
        LevelSpec::Soft => Some(PolicyLevel::Soft),
        LevelSpec::Hard => Some(PolicyLevel::Hard),
    });
    let disabled = given.level == Some(LevelSpec::Disabled);
    RuleSettings { disabled, level, params: given.params.clone(), place }
}

/// The moment an exemption ends, where all of it is right.
fn checked(
    given: &ExemptionSpec,
    member: usize,
    pointer: &str,
    drafts: &mut Vec<Draft>,
) -> Option<Timestamp> {
    let before = drafts.len();
    let at = |field: &str| Place::value(member, format!("{pointer}/{field}"));
    if !is_package(&given.rule) {
        drafts.push(not_a_rule(at("rule"), &given.rule));
    }
    for (field, text) in [("owner", &given.owner), ("reason", &given.reason)] {
        if text.trim().is_empty() {
            let message = format!("an exemption needs its {field}");
            drafts.push(Draft::new("spec/missing-field", at(field), message));
        }
    }
    for (nth, pattern) in given.resources.iter().enumerate() {
        if let Err(message) = resource_pattern(pattern) {
            let place = at(&format!("resources/{nth}"));
            drafts.push(Draft::new("spec/wrong-value", place, message));
        }
    }
    let until = end_of(&given.until);
    if until.is_none() {
        let message = format!("`{}` is neither a day nor a moment", given.until.escape_debug());
        let mut draft = Draft::new("spec/wrong-value", at("until"), message);
        draft.hint("write the last day it holds: `2027-01-31`");
        drafts.push(draft);
    }
    until.filter(|_| drafts.len() == before)
}

fn not_a_rule(place: Place, rule: &str) -> Draft {
    let message = format!("`{}` is not the name of a Rego package", rule.escape_debug());
    let mut draft = Draft::new("spec/wrong-value", place, message);
    draft.hint("`trueup policy list` shows the rules there are");
    draft
}

fn is_package(text: &str) -> bool {
    text.split('.').all(|part| {
        let mut chars = part.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

fn resource_pattern(pattern: &str) -> Result<(), String> {
    let kind = pattern.split_once('/').map(|(kind, _)| kind);
    let known = kind.is_some_and(|k| k == "*" || Kind::ALL.iter().any(|kind| kind.short() == k));
    if known || pattern == "*" {
        return Ok(());
    }
    let kinds = Kind::ALL.map(Kind::short).join(", ");
    Err(format!(
        "`{}` is not a resource: write kind/name, with a kind of {kinds}, or `*`",
        pattern.escape_debug()
    ))
}

/// The end of the day given, or the moment given.
fn end_of(text: &str) -> Option<Timestamp> {
    if let Ok(day) = text.parse::<Date>()
        && text.len() == "2027-01-31".len()
    {
        let next = day.checked_add(1.day()).ok()?;
        return Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp());
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_holds_until_it_is_over() {
        let end = |text| end_of(text).map(|at| at.to_string());
        assert_eq!(end("2027-01-31").as_deref(), Some("2027-02-01T00:00:00Z"));
        assert_eq!(end("2027-01-31T12:00:00+01:00").as_deref(), Some("2027-01-31T11:00:00Z"));
        assert_eq!(end("31.1.2027"), None);
        assert_eq!(end("next week"), None);
    }

    #[test]
    fn packages_and_patterns_are_told_from_other_texts() {
        assert!(is_package("trueup.labels") && is_package("main"));
        assert!(!is_package("trueup/labels") && !is_package("") && !is_package("a..b"));
        assert!(resource_pattern("vm/build-*").is_ok() && resource_pattern("*").is_ok());
        assert!(resource_pattern("car/x").is_err() && resource_pattern("web").is_err());
    }
}
