//! What merging one pull request would do, and what is said about it.
//!
//! The head is data: it is merged from objects, and whatever says how it is read, judged and limited
//! is the base's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::ground::{Ground, Read, read};
use super::report::Report;
use super::seen::Basis;
use super::turn::Follower;
use crate::config::ApprovalSettings;
use crate::event::Spilled;
use crate::event::body::{Problem, PullOutcome, PullPlan, PullPlanned};
use crate::event::chain::Head;
use crate::forge::render::{
    self, AnnotationLevel, Annotations, Approving, Checkpoint, Exemption, Finding, Instance, Older,
    PullView, Ruling, Show, Tone,
};
use crate::model::{Digest, Fault, PolicyLevel, ResourceId};
use crate::policy::Verdict;
use crate::port::forge::{Annotation, CommitState, Level};
use crate::port::{Merge, PullLines, TreeFault};
use crate::reconcile::{Foresight, Unread, few, lets_through};
use crate::spec::{Diagnostic, Origin, Severity};
use crate::state::Approved;
use crate::state::OlderPlan;

/// Mistakes named in an event; the rest is counted.
const PROBLEMS_NAMED_MAX: usize = 20;

/// What was found, and the content of its report.
pub(super) struct Foreseen {
    pub(super) planned: PullPlanned,
    pub(super) report: Arc<[u8]>,
}

/// What was found, before it is put into words.
enum Found {
    Planned(Box<Foresight>),
    Rejected(Vec<Diagnostic>),
    Conflict { paths: Vec<String>, more: usize },
    Skipped(String),
}

/// Looks at one pull request.
///
/// # Errors
/// A fault where the repository or the machine cannot be looked at now.
pub(super) async fn foresee(
    follower: &mut Follower,
    number: u64,
    basis: &Basis,
) -> Result<Foreseen, Fault> {
    let mut looked = look(follower, number, basis).await?;
    heed_approval(follower, number, &mut looked.found);
    put(follower, number, basis, looked)
}

/// What is said of one that cannot be looked at.
///
/// # Errors
/// Where no environment is in force.
pub(super) fn not_planned(
    follower: &Follower,
    number: u64,
    basis: &Basis,
    why: String,
) -> Result<Foreseen, Fault> {
    put(follower, number, basis, Looked::nothing(Found::Skipped(why)))
}

/// Puts into words what was found.
fn put(follower: &Follower, number: u64, basis: &Basis, looked: Looked) -> Result<Foreseen, Fault> {
    let Looked { tree, lines, found } = looked;
    let outcome = outcome(&found);
    let plan = match &outcome {
        PullOutcome::Planned(plan) => Some(plan.plan),
        PullOutcome::Conflict(_) | PullOutcome::Rejected(..) | PullOutcome::Refused(_) => None,
    };
    let (fork, older) = follower.reconciler.ledger.read(|state| {
        let known = state.pulls.open.get(&number);
        (known.is_some_and(|it| it.fork), known.map(|it| it.older_than(plan)).unwrap_or_default())
    });
    let show = if fork { Show::Redacted } else { Show::All };
    let instance = follower.memory.instance.clone();
    let instance = instance.ok_or_else(|| Fault::transient("no environment is in force"))?;
    let approving = approving(follower.approvals.as_ref(), &found);
    let told =
        Telling { instance: &instance, basis, show, lines: &lines, older: &older, approving };
    let (report, says) = describe(&found, told);
    let content =
        serde_json::to_vec(&report).map_err(|error| Fault::permanent(error.to_string()))?;
    let (spilled, content) = Spilled::of(content);
    let planned = PullPlanned {
        number,
        head: basis.head.clone(),
        base: basis.ground.base.clone(),
        tree,
        outcome,
        report: spilled,
        says: Some(says),
        summary: Some(report.description),
    };
    Ok(Foreseen { planned, report: content })
}

/// What was looked at, and what was found.
struct Looked {
    tree: Option<String>,
    lines: BTreeMap<String, PullLines>,
    found: Found,
}

impl Looked {
    /// Nothing that could be looked at.
    fn nothing(found: Found) -> Self {
        Self { tree: None, lines: BTreeMap::new(), found }
    }
}

/// What somebody approved does not wait.
fn heed_approval(follower: &Follower, number: u64, found: &mut Found) {
    let Found::Planned(foresight) = found else { return };
    let ledger = &follower.reconciler.ledger;
    let approved = ledger.read(|state| state.pulls.open.get(&number)?.approved.clone());
    let approved = approved.filter(|approved| {
        foresight.may_be_approved && lets_through(approved, &foresight.plan, &foresight.held)
    });
    if approved.is_some() {
        foresight.held.clear();
        foresight.approved = approved;
    }
}

async fn look(follower: &mut Follower, number: u64, basis: &Basis) -> Result<Looked, Fault> {
    if !basis.allowed {
        let why = "it comes from a fork, whose pull requests are not planned here".to_owned();
        return Ok(Looked::nothing(Found::Skipped(why)));
    }
    if let Some(why) = follower.untaken(number, &basis.head) {
        let why = format!("its head is not taken: {why}");
        return Ok(Looked::nothing(Found::Skipped(why)));
    }
    let merge = follower.pulls.merge(basis.ground.base.clone(), basis.head.clone()).await;
    let merged = match merge {
        Ok(Merge::Clean(merged)) => *merged,
        Ok(Merge::Conflict { paths, more }) => {
            return Ok(Looked::nothing(Found::Conflict { paths, more }));
        }
        Ok(Merge::Unrelated) => {
            let why = "it has no history in common with the branch".to_owned();
            return Ok(Looked::nothing(Found::Skipped(why)));
        }
        Err(TreeFault::Refused(problems)) => {
            let found = problems.iter().map(refused).collect();
            return Ok(Looked::nothing(Found::Rejected(found)));
        }
        Err(TreeFault::Mirror(fault)) => return Err(fault),
    };
    let Read { governed, whole } = read(follower, number, &basis.ground, &merged).await?;
    let (program, cache) = (&follower.reconciler, &mut follower.memory.cache);
    let mistakes = match whole {
        Some(whole) => program.mistakes(&whole, cache).await?,
        None => Vec::new(),
    };
    let tree = Some(merged.tree.clone());
    let found = if mistakes.is_empty() {
        match program.foresee(&basis.head, &governed, cache).await {
            Ok(foresight) => Found::Planned(Box::new(barred(foresight, &basis.ground))),
            Err(Unread::Mistakes(mistakes)) => Found::Rejected(mistakes),
            Err(Unread::Fault(fault)) => return Err(fault),
        }
    } else {
        Found::Rejected(mistakes)
    };
    Ok(Looked { tree, lines: merged.lines, found })
}

/// No approval of a plan lets a rewritten branch through.
fn barred(foresight: Foresight, ground: &Ground) -> Foresight {
    let Some(why) = &ground.barred else { return foresight };
    let held = std::iter::once(why.clone()).chain(foresight.held).collect();
    Foresight { held, may_be_approved: false, ..foresight }
}

fn refused(problem: &Problem) -> Diagnostic {
    Diagnostic {
        code: "source/refused".into(),
        severity: Severity::Error,
        path: problem.path.clone(),
        line: problem.line,
        column: problem.column,
        end_column: None,
        message: problem.message.clone(),
        hint: None,
        related: Vec::new(),
    }
}

fn outcome(found: &Found) -> PullOutcome {
    match found {
        Found::Planned(foresight) => PullOutcome::Planned(PullPlan {
            plan: foresight.plan.digest(),
            promise: foresight.promise.clone(),
            held: few(foresight.held.clone()),
            denied: few(denied(foresight)),
        }),
        Found::Rejected(mistakes) => {
            let named = mistakes.iter().take(PROBLEMS_NAMED_MAX).map(|mistake| Problem {
                path: mistake.path.clone(),
                line: mistake.line,
                column: mistake.column,
                message: mistake.message.clone(),
            });
            PullOutcome::Rejected(mistakes.len() as u64, named.collect())
        }
        Found::Conflict { paths, .. } => PullOutcome::Conflict(paths.clone()),
        Found::Skipped(why) => PullOutcome::Refused(why.clone()),
    }
}

fn denied(foresight: &Foresight) -> Vec<String> {
    let hard = |verdict: &&Verdict| verdict.holds() && verdict.level == PolicyLevel::Hard;
    foresight.verdicts.all.iter().filter(hard).map(Verdict::sentence).collect()
}

fn ruling(verdict: &Verdict, approved: Option<&Approved>) -> Ruling {
    let approval = approved.filter(|_| verdict.level == PolicyLevel::Soft).map(|approved| {
        let Approved { via, .. } = approved;
        let reason = format!("approved by a {} ({})", via.means.word(), via.id);
        Exemption { owner: via.login.clone(), reason, until: None }
    });
    Ruling {
        level: match verdict.level {
            PolicyLevel::Advisory => render::Level::Advisory,
            PolicyLevel::Soft => render::Level::Soft,
            PolicyLevel::Hard => render::Level::Hard,
        },
        rule: verdict.rule.clone(),
        message: verdict.message.clone(),
        resource: verdict.resource.clone(),
        place: verdict.place.as_ref().map(|at| Origin { path: at.path.clone(), line: at.line }),
        exempt: verdict
            .exempted
            .as_ref()
            .map(|exempted| Exemption {
                owner: exempted.owner.clone(),
                reason: exempted.reason.clone(),
                until: Some(exempted.until),
            })
            .or(approval),
    }
}

/// How a plan that waits is let through.
fn approving<'a>(settings: Option<&'a ApprovalSettings>, found: &Found) -> Approving<'a> {
    let never = matches!(found, Found::Planned(foresight) if !foresight.may_be_approved);
    let by = settings.map(|settings| Approving {
        never,
        comment: settings.comment,
        review: settings.review,
        label: settings.label.as_deref(),
    });
    by.unwrap_or(Approving { never, ..Approving::default() })
}

/// What a description is made from, beside what was found.
struct Telling<'a> {
    instance: &'a Instance,
    basis: &'a Basis,
    show: Show,
    lines: &'a BTreeMap<String, PullLines>,
    older: &'a VecDeque<OlderPlan>,
    approving: Approving<'a>,
}

fn describe(found: &Found, told: Telling<'_>) -> (Report, Digest) {
    let Telling { instance, basis, show, lines, older, approving } = told;
    let finding = match found {
        Found::Planned(foresight) => {
            Finding::Planned { plan: &foresight.plan, holds: &foresight.held }
        }
        Found::Rejected(diagnostics) => Finding::Rejected { diagnostics },
        Found::Conflict { paths, more } => Finding::Conflict { paths, more: *more },
        Found::Skipped(why) => Finding::Skipped { why },
    };
    let older: Vec<Older> = older.iter().map(earlier).collect();
    let (unobserved, checkpoint) = match found {
        Found::Planned(foresight) => {
            let Head { seq, hash, .. } = foresight.log;
            let hash = Digest::from(*hash.as_bytes());
            (foresight.unobserved.as_slice(), Some(Checkpoint { seq, hash }))
        }
        Found::Rejected(_) | Found::Conflict { .. } | Found::Skipped(_) => (&[][..], None),
    };
    let rulings = match found {
        Found::Planned(foresight) => {
            let approved = foresight.approved.as_ref();
            foresight.verdicts.all.iter().map(|verdict| ruling(verdict, approved)).collect()
        }
        Found::Rejected(_) | Found::Conflict { .. } | Found::Skipped(_) => Vec::new(),
    };
    let view = PullView {
        instance,
        base: &basis.ground.base,
        head: &basis.head,
        finding,
        rulings: &rulings,
        unobserved,
        checkpoint,
        older: &older,
        show,
        approving,
    };
    let status = render::status(&view);
    let comment = render::comment(&view);
    let none = BTreeMap::new();
    let (plan, origins, diagnostics): (_, &BTreeMap<ResourceId, Origin>, &[Diagnostic]) =
        match found {
            Found::Planned(foresight) => (Some(&foresight.plan), &foresight.origins, &[]),
            Found::Rejected(mistakes) => (None, &none, mistakes),
            Found::Conflict { .. } | Found::Skipped(_) => (None, &none, &[]),
        };
    let marks = Annotations { diagnostics, rulings: &rulings, plan, origins, lines };
    // Nothing is promised of what cannot be seen: green would say that it was looked at.
    let blind = match found {
        Found::Planned(foresight) => foresight.blind > 0 && status.tone == Tone::Success,
        Found::Rejected(_) | Found::Conflict { .. } | Found::Skipped(_) => false,
    };
    let description = match blind {
        true => format!("waits to see what it changes: {}", status.description),
        false => status.description,
    };
    let report = Report {
        state: match status.tone {
            _ if blind => CommitState::Pending,
            Tone::Pending => CommitState::Pending,
            Tone::Success => CommitState::Success,
            Tone::Failure => CommitState::Failure,
            Tone::Error => CommitState::Error,
        },
        description,
        comment: comment.body,
        annotations: render::annotations(&marks).into_iter().filter_map(annotation).collect(),
    };
    (report, comment.digest)
}

fn earlier(older: &OlderPlan) -> Older {
    Older {
        plan: older.plan,
        head: older.head.clone(),
        summary: older.summary.clone(),
        at: older.at,
    }
}

fn annotation(from: render::Annotation) -> Option<Annotation> {
    Some(Annotation {
        level: match from.level {
            AnnotationLevel::Failure => Level::Failure,
            AnnotationLevel::Warning => Level::Warning,
            AnnotationLevel::Notice => Level::Notice,
        },
        path: from.path,
        start_line: from.start_line.try_into().ok()?,
        end_line: from.end_line.try_into().ok()?,
        columns: from.columns,
        message: from.message,
        title: Some(from.title),
    })
}
