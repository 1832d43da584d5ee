//! What a pass came to, for people and for scripts; shared by `plan` and `apply`.

use super::context::Context;
use super::control::{Look, PlanView, Report, Standing};
use super::exit::{CliError, ErrorKind};
use super::ui::Format;
use crate::event::body::Problem;
use crate::reconcile::PassReport;
use crate::state::State;

/// Narrowest terminal that plans are cut for.
const WIDTH_MIN: usize = 40;

impl Report {
    /// What may be seen of a pass; `state` is what was known after it.
    pub(super) fn of(pass: &PassReport, state: &State, look: Look) -> Self {
        Self {
            standing: Standing::of(state),
            commit: pass.commit.clone(),
            plan: pass.plan.as_ref().map(|plan| PlanView::of(plan, look)),
            held: pass.held.clone(),
            verdicts: pass.verdicts.clone(),
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
    for verdict in report.verdicts.all.iter().filter(|verdict| !verdict.holds()) {
        match &verdict.exempted {
            Some(by) => ui.say(&format!("exempted by {}: {}", by.owner, verdict.sentence())),
            None => ui.warn(&verdict.sentence()),
        }
    }
    for reason in &report.held {
        ui.warn(&format!("held: {reason}"));
    }
    Ok(())
}

/// Warns of a newer commit that is not used, of a repository that does not answer and of what the
/// commit in force should be looked at for, and says why there is none in force.
pub(super) fn commit_in_force(context: &Context, report: &Report) -> Result<(), CliError> {
    let Standing { refused, rejected, unreachable, unreadable, warnings } = &report.standing;
    let warn = |text: String| context.ui.warn(&text);
    if let Some(refused) = refused {
        warn(format!("head {} is not used: {}", refused.commit, refused.why));
    }
    if report.commit.is_some() {
        if let Some(rejected) = rejected {
            let (commit, errors) = (rejected.commit.short(), rejected.errors);
            warn(format!("commit {commit} has {errors} mistake(s) and is not used"));
        }
        if let Some((_, why)) = unreachable {
            warn(format!("the repository does not answer, so there may be a newer commit: {why}"));
        }
        if let Some((_, why)) = unreadable {
            warn(format!("the mirror does not give its newest commit: {why}"));
        }
        warnings.iter().for_each(|warning| warn(at_place(warning)));
        return Ok(());
    }
    Err(none_in_force(&report.standing))
}

/// A problem with its place, on one line.
pub(super) fn at_place(problem: &Problem) -> String {
    let Problem { path, line, column, message } = problem;
    format!("{path}:{line}:{column}: {message}")
}

fn none_in_force(standing: &Standing) -> CliError {
    if let Some((_, why)) = &standing.unreadable {
        return CliError::machine(format!("the mirror cannot be read: {why}")).hint(
            "stop the daemon and remove the folder `mirror.git` in the state directory: it is \
                   fetched again",
        );
    }
    if let Some(rejected) = &standing.rejected {
        let mut error = CliError::input(format!(
            "commit {} has {} mistake(s), and no earlier one is in force",
            rejected.commit.short(),
            rejected.errors
        ));
        for problem in rejected.problems.iter().take(5) {
            error = error.hint(at_place(problem));
        }
        return error.hint("`trueup check` in the repository shows all of them");
    }
    if let Some((_, why)) = &standing.unreachable {
        return CliError::machine(why.clone())
            .hint("no commit was ever read, so there is nothing to bring this machine to");
    }
    if let Some(refused) = &standing.refused {
        return CliError::new(ErrorKind::Held, refused.why.clone());
    }
    CliError::new(ErrorKind::Machine, "the repository has no commit that could be read")
}

/// The failure of a pass that could not look at everything; `so_far` says what it did all the same.
pub(super) fn unseen(report: &Report, so_far: &str) -> Option<CliError> {
    let unseen: Vec<_> = report.plan.iter().flat_map(|plan| &plan.unobservable).collect();
    let first = unseen.first()?;
    let others = match unseen.len() - 1 {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    let message = format!("{so_far}; {first}{others} could not be looked at");
    Some(
        CliError::machine(message)
            .hint("`trueup status` says who did not answer; nothing is planned on a guess"),
    )
}
