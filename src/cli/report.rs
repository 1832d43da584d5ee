//! What a pass came to, for people and for scripts; shared by `plan` and `apply`.

use std::path::Path;

use super::context::Context;
use super::control::{Look, PlanView, Report};
use super::exit::{CliError, ErrorKind};
use super::ui::Format;
use super::wire;
use crate::reconcile::PassReport;

/// Narrowest terminal that plans are cut for.
const WIDTH_MIN: usize = 40;

impl Report {
    /// What may be seen of a pass.
    pub(super) fn of(pass: &PassReport, look: Look) -> Self {
        Self {
            commit: pass.commit.clone(),
            plan: pass.plan.as_ref().map(|plan| PlanView::of(plan, look)),
            held: pass.held.clone(),
            succeeded: pass.succeeded,
            failed: pass.failed,
            blocked: pass.blocked,
            next_retry: pass.next_retry,
        }
    }
}

/// How plans are to be rendered for this context.
pub(super) fn look(context: &Context) -> Look {
    let width = comfy_table::Table::new().width().map_or(usize::MAX, usize::from).max(WIDTH_MIN);
    Look { color: context.ui.color(), width }
}

/// Prints the plan of `report` in the form asked for.
pub(super) fn print(context: &Context, report: &Report) -> Result<(), CliError> {
    let ui = context.ui;
    let Some(plan) = &report.plan else { return Ok(()) };
    match ui.format() {
        Format::Table => ui.raw(&plan.text)?,
        Format::Markdown => ui.raw(&plan.markdown)?,
        Format::Json | Format::Yaml => {
            let mut value =
                serde_json::to_value(report).map_err(|e| CliError::new(ErrorKind::Bug, e))?;
            // The renderings for people are of no use in data.
            value["plan"] = plan.json.clone();
            ui.data(&value)?;
        }
    }
    for reason in &report.held {
        ui.warn(&format!("held: {reason}"));
    }
    Ok(())
}

/// Warns of a newer commit that is not used, and says why there is none in force.
pub(super) fn commit_in_force(
    context: &Context,
    dir: &Path,
    report: &Report,
) -> Result<(), CliError> {
    let state = wire::fold(dir, wire::Until::End)?;
    if let Some(refused) = &state.source.refused {
        context.ui.warn(&format!("head {} is not used: {}", refused.commit, refused.why));
    }
    let rejected = state.spec.rejected.as_ref();
    if report.commit.is_some() {
        if let Some(rejected) = rejected {
            let commit = rejected.commit.short();
            let errors = rejected.errors;
            context.ui.warn(&format!("commit {commit} has {errors} mistake(s) and is not used"));
        }
        return Ok(());
    }
    if let Some(rejected) = rejected {
        let mut error = CliError::input(format!(
            "commit {} has {} mistake(s), and no earlier one is in force",
            rejected.commit.short(),
            rejected.errors
        ));
        for problem in rejected.problems.iter().take(5) {
            let (path, line, column) = (&problem.path, problem.line, problem.column);
            error = error.hint(format!("{path}:{line}:{column}: {}", problem.message));
        }
        return Err(error.hint("`trueup check` in the repository shows all of them"));
    }
    if let Some((_, why)) = &state.source.unreachable {
        return Err(CliError::machine(why.clone())
            .hint("no commit was ever read, so there is nothing to bring this machine to"));
    }
    if let Some(refused) = &state.source.refused {
        return Err(CliError::new(ErrorKind::Held, refused.why.clone()));
    }
    Err(CliError::new(ErrorKind::Machine, "the repository has no commit that could be read"))
}
