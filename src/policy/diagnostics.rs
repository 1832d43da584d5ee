//! Verdicts as diagnostics, so that `check` shows them like every other mistake.

use super::verdict::{Verdict, Verdicts};
use crate::model::PolicyLevel;
use crate::spec::{Diagnostic, Related, Severity};

/// One diagnostic a verdict: an error where it is `hard`, else a warning. Exempted ones are left
/// out: somebody answers for them.
pub fn diagnostics(verdicts: &Verdicts) -> Vec<Diagnostic> {
    let open = verdicts.all.iter().filter(|verdict| verdict.exempted.is_none());
    let mut found: Vec<Diagnostic> = open.map(diagnostic).collect();
    if verdicts.omitted > 0 {
        found.push(Diagnostic {
            code: "policy/too-many".into(),
            severity: Severity::Error,
            path: String::new(),
            line: 0,
            column: 0,
            end_column: None,
            message: format!("{} more findings of rules are not shown", verdicts.omitted),
            hint: None,
            related: Vec::new(),
        });
    }
    found
}

fn diagnostic(verdict: &Verdict) -> Diagnostic {
    let severity = match verdict.level {
        PolicyLevel::Hard => Severity::Error,
        PolicyLevel::Soft | PolicyLevel::Advisory => Severity::Warning,
    };
    let place = verdict.place.clone().unwrap_or_default();
    let message = match &verdict.resource {
        Some(id) if !verdict.message.contains(&id.to_string()) => {
            format!("{id}: {}", verdict.message)
        }
        _ => verdict.message.clone(),
    };
    let hint = match (verdict.broken, verdict.level) {
        (true, _) => Some("mend the rule: until then nothing passes".to_owned()),
        (false, PolicyLevel::Soft) => Some("an approval of the plan overrides it".to_owned()),
        (false, _) => None,
    };
    let source = &verdict.source;
    let is_place = Some(source) == verdict.place.as_ref();
    let related = (!is_place).then(|| Related {
        path: source.path.clone(),
        line: source.line,
        column: source.column,
        message: "the rule is here".to_owned(),
    });
    let code = match verdict.broken {
        true => "policy/broken-rule".to_owned(),
        false => format!("policy/{}", verdict.rule),
    };
    Diagnostic {
        code: code.into(),
        severity,
        path: place.path,
        line: place.line,
        column: place.column,
        end_column: None,
        message,
        hint,
        related: related.into_iter().collect(),
    }
}
