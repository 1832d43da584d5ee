//! A plan as JSON: the plan itself, with its digest and what people would read at the end.

use serde_json::{Value, json};

use super::super::{Action, Plan};
use super::summary_line;

/// The plan as one JSON object: `digest`, `summary` and `plan`.
///
/// The texts of cloud-init media and of files built into images are left out, and the queries of
/// URLs: they may hold credentials.
pub fn json(plan: &Plan) -> Value {
    let mut shown = plan.clone();
    for step in &mut shown.steps {
        match &mut step.action {
            Action::SeedCreate { seed } => seed.strip_texts(),
            Action::ImageCreate { image } => image.strip_texts(),
            _ => {}
        }
    }
    json!({ "digest": plan.digest(), "summary": summary_line(plan), "plan": shown })
}
