//! What rules said: one verdict a finding, in an order that does not depend on the engine.

use serde::{Deserialize, Serialize};

use crate::model::{PolicyLevel, ResourceId, digest_of};
use crate::spec::{Desired, Places, TextPlace};

/// Most verdicts kept of one evaluation; the worst ones stay, the rest is counted.
pub const VERDICTS_MAX: usize = 1_000;
/// Folder of the rules of a repository.
pub const RULE_FOLDER: &str = "policies";

/// One finding of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The rule: the name of its Rego package.
    pub rule: String,
    /// Where the rule is written.
    pub source: TextPlace,
    /// How much it weighs.
    pub level: PolicyLevel,
    /// The rule could not be evaluated; nothing is known of what it would have said.
    pub broken: bool,
    /// What is wrong, as the rule says it.
    pub message: String,
    /// The resource it is about.
    pub resource: Option<ResourceId>,
    /// The field of the document, as a JSON pointer: `/spec/memory`.
    pub field: Option<String>,
    /// Where that stands in the repository.
    pub place: Option<TextPlace>,
    /// Somebody answers for it, for now: it holds nothing.
    pub exempted: Option<Exempted>,
}

/// An exemption that covers a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exempted {
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// When it ends.
    pub until: jiff::Timestamp,
}

/// Everything the rules said, worst first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdicts {
    /// The verdicts: what holds before what does not, then by rule, resource, field and message.
    pub all: Vec<Verdict>,
    /// Verdicts beyond [`VERDICTS_MAX`] that are not shown.
    pub omitted: usize,
}

impl Verdict {
    /// Whether it holds a plan that nobody approved.
    pub fn holds(&self) -> bool {
        self.exempted.is_none() && self.level > PolicyLevel::Advisory
    }

    /// What tells it from other verdicts, the same in every pass.
    pub fn key(&self) -> crate::model::Digest {
        digest_of(&(&self.rule, &self.resource, &self.field, &self.message, self.broken))
    }

    /// `hard: trueup.bridges: network/dmz …  (environments/lab/net.yaml:3)`.
    pub fn sentence(&self) -> String {
        let what = match &self.resource {
            Some(id) if !self.message.contains(&id.to_string()) => {
                format!("{id}: {}", self.message)
            }
            _ => self.message.clone(),
        };
        let place = match &self.place {
            Some(place) => format!(" ({}:{})", place.path, place.line),
            None => String::new(),
        };
        format!("policy {} ({}): {what}{place}", self.rule, self.level.word())
    }
}

impl Verdicts {
    /// Puts verdicts in order and keeps the worst.
    pub(super) fn of(mut all: Vec<Verdict>) -> Self {
        all.sort_by(|a, b| {
            let worst = |v: &Verdict| (std::cmp::Reverse(v.holds()), std::cmp::Reverse(v.level));
            worst(a).cmp(&worst(b)).then_with(|| {
                (&a.rule, &a.resource, &a.field, &a.message, &a.source).cmp(&(
                    &b.rule,
                    &b.resource,
                    &b.field,
                    &b.message,
                    &b.source,
                ))
            })
        });
        all.dedup_by(|b, a| a.key() == b.key() && a.level == b.level);
        let omitted = all.len().saturating_sub(VERDICTS_MAX);
        all.truncate(VERDICTS_MAX);
        Self { all, omitted }
    }

    /// The rules could not be asked at all: one verdict that holds, and says why.
    pub fn broken(why: &str) -> Self {
        let source = TextPlace { path: RULE_FOLDER.to_owned(), line: 1, column: 1 };
        Self::of(vec![Verdict {
            rule: RULE_FOLDER.to_owned(),
            source,
            level: PolicyLevel::Hard,
            broken: true,
            message: format!("the rules could not be asked: {why}"),
            resource: None,
            field: None,
            place: None,
            exempted: None,
        }])
    }

    /// Whether the rules had nothing to say.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether anything is violated that no approval overrides.
    pub fn has_hard(&self) -> bool {
        self.all.iter().any(|v| v.holds() && v.level == PolicyLevel::Hard)
    }

    /// Why a plan has to wait, one sentence each. An approval of the plan overrides what is `soft`.
    pub fn hold_reasons(&self, approved: bool) -> Vec<String> {
        let holding = self.all.iter().filter(|v| v.holds());
        let kept = holding.filter(|v| !(approved && v.level == PolicyLevel::Soft));
        kept.map(Verdict::sentence).collect()
    }

    /// Gives each verdict about a resource the line that says it; where `places` does not know the
    /// file, the start of the document. A resource gone from the commit has no place.
    pub fn locate(&mut self, desired: &Desired, mut places: Option<&mut Places<'_>>) {
        for verdict in &mut self.all {
            let Some(id) = &verdict.resource else { continue };
            let Some(resource) = desired.resources.get(id) else { continue };
            // cloud-init media and pools are written in another resource's document.
            let id = resource.owner.as_ref().unwrap_or(id);
            let origin = &resource.origin;
            verdict.place = Some(match places.as_deref_mut() {
                Some(places) => places.of(id, origin, verdict.field.as_deref()),
                None => TextPlace { path: origin.path.clone(), line: origin.line, column: 1 },
            });
        }
    }
}
