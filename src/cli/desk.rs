//! The daemon's side of the control socket: from requests to the loop and back.
//!
//! It decides nothing: the state decides on commands, the loop makes passes.

use std::sync::Arc;

use super::control::{Desk, Reply, Report, Request};
use super::exit::ErrorKind;
use crate::model::digest_of;
use crate::port::BoxFuture;
use crate::reconcile::{Approval, AskError, Handle, LedgerError, PassOptions, PassReport};
use crate::source::GitSource;

/// Answers for a running loop.
pub(super) struct DaemonDesk {
    handle: Handle,
    source: Arc<GitSource>,
}

impl DaemonDesk {
    pub(super) fn new(handle: Handle, source: Arc<GitSource>) -> Self {
        Self { handle, source }
    }

    async fn reply(&self, request: Request, actor: &str) -> Reply {
        match request {
            Request::Command(command) => {
                tracing::info!(actor, ?command, "an operator decides");
                match self.handle.command(&command, actor).await {
                    Ok(()) => Reply::Done,
                    Err(LedgerError::Refused(refusal)) => failed(ErrorKind::Held, &refusal),
                    Err(LedgerError::Journal(fault)) => failed(ErrorKind::Machine, &fault),
                }
            }
            Request::Plan(look) => {
                self.source.hurry();
                report(self.handle.preview().await, |pass| Report::of(pass, look))
            }
            Request::Apply { look, approve } => {
                tracing::info!(actor, "an operator asks for a pass");
                self.source.hurry();
                let approve = approve.map(|plan| Approval { plan, actor: actor.to_owned() });
                let options = PassOptions { retry_now: true, approve };
                report(self.handle.pass(options).await, |pass| Report::of(pass, look))
            }
            Request::Skipped => {
                let last = self.handle.last_report();
                let plan = last.as_ref().and_then(|report| report.plan.as_ref());
                Reply::Skipped(plan.map(|plan| plan.skipped.clone()).unwrap_or_default())
            }
            Request::State => self
                .handle
                .reconciler()
                .ledger
                .read(|state| Reply::State { seq: state.seq, digest: digest_of(state) }),
        }
    }
}

fn report(made: Result<PassReport, AskError>, show: impl FnOnce(&PassReport) -> Report) -> Reply {
    match made {
        Ok(pass) => Reply::Report(Box::new(show(&pass))),
        Err(error) => failed(ErrorKind::Machine, &error),
    }
}

fn failed(kind: ErrorKind, error: &dyn std::fmt::Display) -> Reply {
    Reply::Failed { kind, message: error.to_string() }
}

impl Desk for DaemonDesk {
    fn answer(&self, request: Request, actor: String) -> BoxFuture<'_, Reply> {
        Box::pin(async move { self.reply(request, &actor).await })
    }
}
