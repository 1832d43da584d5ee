//! A plan as JSON: the plan itself, with its digest and what people would read at the end.

use serde_json::{Value, json};

use super::super::{Action, Plan};
use super::summary_line;

/// The plan as one JSON object: `digest`, `summary` and `plan`.
///
/// The texts of cloud-init media are left out: they may hold credentials, and their digest is there.
pub fn json(plan: &Plan) -> Value {
    let mut shown = plan.clone();
    for step in &mut shown.steps {
        if let Action::SeedCreate { seed } = &mut step.action {
            (seed.meta_data, seed.user_data, seed.network_config) = (None, None, None);
        }
    }
    json!({ "digest": plan.digest(), "summary": summary_line(plan), "plan": shown })
}
