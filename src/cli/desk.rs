//! The daemon's side of the control socket: from requests to the loop and back.
//!
//! It decides nothing: the state decides on commands, the loop makes passes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::Semaphore;
use trueup_kubernetes::grant::Grant;

use super::control::{AccessAsk, Desk, Handed, Known, Look, Reply, Report, Request};
use super::exit::{CliError, ErrorKind};
use super::past;
use crate::port::BoxFuture;
use crate::provider::gpu::GpuProvider;
use crate::provider::kubernetes::KubernetesProvider;
use crate::reconcile::{Approval, AskError, Handle, LedgerError, PassOptions, PassReport};
use crate::source::GitSource;
use crate::state::{Command, Refusal, State};

/// Answers for a running loop.
pub(super) struct DaemonDesk {
    handle: Handle,
    source: Arc<GitSource>,
    /// The state directory.
    directory: PathBuf,
    /// The GPUs, and how long a look at them may take.
    gpus: Option<(GpuProvider, Duration)>,
    /// The Kubernetes clusters.
    kubernetes: Option<KubernetesProvider>,
    /// Questions that read the whole log are answered one by one: they are no hurry, and the machine
    /// is not there for them.
    past: Semaphore,
}

impl DaemonDesk {
    pub(super) fn new(handle: Handle, source: Arc<GitSource>, directory: PathBuf) -> Self {
        let (gpus, kubernetes) = (None, None);
        Self { handle, source, directory, gpus, kubernetes, past: Semaphore::new(1) }
    }

    /// The same, with GPUs that can be asked about.
    pub(super) fn with_gpus(self, gpus: Option<GpuProvider>, limit: Duration) -> Self {
        Self { gpus: gpus.map(|gpus| (gpus, limit)), ..self }
    }

    /// The same, with clusters to which people can be given access.
    pub(super) fn with_kubernetes(self, kubernetes: Option<KubernetesProvider>) -> Self {
        Self { kubernetes, ..self }
    }

    /// Gives somebody access: first the event of it, then what it says. Where that does not work out, it is
    /// taken back, and the loop removes what may have been made.
    async fn give(&self, ask: AccessAsk, actor: &str) -> Reply {
        let Some(kubernetes) = &self.kubernetes else {
            return failed(ErrorKind::Machine, &"this daemon has no Kubernetes clusters");
        };
        let lasts = i64::try_from(ask.seconds).map(SignedDuration::from_secs);
        let now = self.handle.reconciler().clock.now();
        let until = lasts.ok().and_then(|lasts| now.checked_add(lasts).ok());
        let Some(until) = until else {
            return failed(ErrorKind::Usage, &"nobody is given access for so long");
        };
        let AccessAsk { resource, user, namespace, role, seconds } = ask;
        let command = Command::GiveAccess {
            resource: resource.clone(),
            user: user.clone(),
            namespace: namespace.clone(),
            role,
            seconds,
            until,
        };
        let number = match self.handle.decided(&command, actor).await {
            Ok(numbers) => numbers.first().copied().unwrap_or_default(),
            Err(error) => return undecided(&error),
        };
        let grant = Grant { number, user: user.clone(), namespace, role, until };
        match kubernetes.give(&resource, &grant, seconds).await {
            Ok(kubeconfig) => {
                self.handle.wake();
                let kubeconfig = kubeconfig.into_text();
                Reply::Kubeconfig(Box::new(Handed { kubeconfig, number, until }))
            }
            Err(fault) => {
                let number = Some(number);
                let back = Command::TakeAccess { resource, user, namespace: None, number };
                if let Err(error) = self.handle.decided(&back, actor).await {
                    tracing::error!(?error, "access that was not given could not be taken back");
                }
                failed(ErrorKind::Machine, &fault)
            }
        }
    }

    /// The GPUs as they are now.
    async fn gpus(&self) -> Reply {
        let Some((gpus, limit)) = &self.gpus else {
            return failed(ErrorKind::Machine, &"this daemon does not look at GPUs");
        };
        match tokio::time::timeout(*limit, gpus.inventory()).await {
            Ok(Ok(inventory)) => Reply::Gpus(Box::new(inventory)),
            Ok(Err(fault)) => failed(ErrorKind::Machine, &fault),
            Err(_) => {
                let why = format!("NVML did not answer within {} s", limit.as_secs());
                failed(ErrorKind::Machine, &why)
            }
        }
    }

    fn report(&self, made: Result<PassReport, AskError>, look: Look) -> Reply {
        match made {
            Ok(pass) => {
                let of = |state: &State| Report::of(&pass, state, look);
                Reply::Report(Box::new(self.handle.reconciler().ledger.read(of)))
            }
            Err(error) => failed(ErrorKind::Machine, &error),
        }
    }

    fn known(&self) -> Known {
        let last = self.handle.last_report();
        let plan = last.as_ref().and_then(|report| report.plan.as_ref());
        Known {
            directory: self.directory.clone(),
            state: self.handle.reconciler().ledger.read(State::clone),
            skipped: plan.map(|plan| plan.skipped.clone()).unwrap_or_default(),
            notes: plan.map(|plan| plan.notes.clone()).unwrap_or_default(),
        }
    }

    async fn reply(&self, request: Request, actor: &str) -> Reply {
        match request {
            Request::Command(Command::GiveAccess { .. }) => failed(
                ErrorKind::Usage,
                &"access is given with a kubeconfig, which this has no place for",
            ),
            Request::Kubeconfig(ask) => {
                tracing::info!(actor, ?ask, "an operator gives access");
                self.give(ask, actor).await
            }
            Request::Command(command) => {
                tracing::info!(actor, ?command, "an operator decides");
                match self.handle.command(&command, actor).await {
                    Ok(()) => Reply::Done,
                    Err(error) => undecided(&error),
                }
            }
            Request::Plan(look) => {
                self.source.hurry();
                self.report(self.handle.preview().await, look)
            }
            Request::Apply { look, approve } => {
                tracing::info!(actor, "an operator asks for a pass");
                self.source.hurry();
                let approve = approve.map(|plan| Approval { plan, actor: actor.to_owned() });
                let options = PassOptions { retry_now: true, approve, wait: false };
                self.report(self.handle.pass(options).await, look)
            }
            Request::Known => Reply::Known(Box::new(self.known())),
            Request::Gpus => self.gpus().await,
            Request::Log(mut query) => {
                if let Some(last) = query.last {
                    let head = self.handle.reconciler().ledger.read(|state| state.seq);
                    query.after = query.after.max(head.saturating_sub(last));
                }
                // Whoever follows the log waits most of the time, and is in nobody's way.
                let turn = if query.wait { None } else { Some(&self.past) };
                self.read(turn, move |dir| past::page(dir, &query), |it| Reply::Page(Box::new(it)))
                    .await
            }
            Request::Why(resource) => {
                let read = move |dir: &Path| past::told(dir, &resource);
                self.read(Some(&self.past), read, |told| Reply::Told(Box::new(told))).await
            }
            Request::StateAt(until) => {
                let directory = self.directory.clone();
                let read = move |dir: &Path| past::state_at(dir, until);
                let known = |state| {
                    let (skipped, notes) = (Vec::new(), Vec::new());
                    Reply::Known(Box::new(Known { directory, state, skipped, notes }))
                };
                self.read(Some(&self.past), read, known).await
            }
        }
    }

    /// Reads in the log, where it stops nothing else; with a `turn`, one question at a time.
    async fn read<T: Send + 'static>(
        &self,
        turn: Option<&Semaphore>,
        read: impl FnOnce(&Path) -> Result<T, CliError> + Send + 'static,
        reply: impl FnOnce(T) -> Reply,
    ) -> Reply {
        let _place = match turn {
            Some(turn) => turn.acquire().await.ok(),
            None => None,
        };
        let dir = self.directory.clone();
        match tokio::task::spawn_blocking(move || read(&dir)).await {
            Ok(Ok(read)) => reply(read),
            Ok(Err(error)) => failed(error.kind, &error.chain().join(": ")),
            Err(error) => failed(ErrorKind::Bug, &error),
        }
    }
}

fn undecided(error: &LedgerError<Refusal>) -> Reply {
    match error {
        LedgerError::Refused(refusal) => failed(ErrorKind::Held, refusal),
        LedgerError::Journal(fault) => failed(ErrorKind::Machine, fault),
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
