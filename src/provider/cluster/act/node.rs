//! What is done to one node: taken out, waited for, started anew, looked at and given back.
//!
//! Waiting ends at once when it is dropped. Who takes a node back, or has taken it out before us, is left alone.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use trueup_slurm::hostlist;
use trueup_slurm::observe::Observed;
use trueup_slurm::plan::roll::{Step as RollStep, Token};
use trueup_slurm::run::Argv;

use super::super::START;
use super::super::behind_port::uncontrolled;
use super::super::look::now;
use super::Job;
use crate::model::resource::NodeStep;
use crate::model::{Fault, ResourceId};
use crate::port::{Outcome, ProgressUpdate};
use crate::provider::files::blocking;

/// Pauses between two looks at something that tells nobody when it is ready: the first, and the
/// longest. A look at a large cluster takes a second of the controller's time.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_LONGEST: Duration = Duration::from_secs(15);
/// How long a node may take to come back after its daemon was started.
const COMES_BACK: Duration = Duration::from_secs(300);
/// How long a node that was given back may take to be in use; the controller asks it within seconds.
const GIVEN_BACK: Duration = Duration::from_secs(60);
/// How long a daemon that was started anew may take to say so by a time after the drain. A node's clock may
/// be behind, so that it never does: then it is enough that it is another daemon than before.
const SEEN_ANEW: Duration = Duration::from_secs(20);
/// Jobs that are named of those that run on a node; the rest is counted.
const JOBS_NAMED_MAX: usize = 5;

/// The next pause between two looks, longer each time.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(PAUSE_FIRST)
    }
}

impl Pause {
    async fn rest(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(PAUSE_LONGEST);
    }
}

impl Job<'_> {
    pub(in super::super) async fn node(
        &self,
        node: &str,
        step: &NodeStep,
        token: &Token,
    ) -> Result<Outcome, Fault> {
        match step {
            NodeStep::Drain { pool, at_most } => self.drain(node, pool, *at_most, token).await,
            NodeStep::Wait { timeout_s } => self.empties(node, *timeout_s, token).await,
            NodeStep::Restart => self.restart(node).await,
            NodeStep::Join { guest, server } => self.join(guest, server).await,
            NodeStep::Check => self.comes_back(node).await,
            NodeStep::Resume => {
                self.step(RollStep::Resume { node: node.to_owned() }, token).await?;
                self.in_use(node).await
            }
        }
    }

    /// Waits until a node that was given back is in use: until the controller has asked it, it is taken
    /// for one that is away, and no other node could be taken out. Somebody may be quicker to take it out
    /// again; then this is all that is waited.
    async fn in_use(&self, node: &str) -> Result<Outcome, Fault> {
        let used = async {
            let mut pause = Pause::default();
            while self.not_back(node, false).await?.is_some() {
                pause.rest().await;
            }
            Ok::<(), Fault>(())
        };
        match tokio::time::timeout(GIVEN_BACK, used).await {
            Ok(Err(fault)) => Err(fault),
            Ok(Ok(())) | Err(_) => Ok(Outcome::default()),
        }
    }

    async fn drain(
        &self,
        node: &str,
        pool: &[String],
        at_most: Option<u32>,
        token: &Token,
    ) -> Result<Outcome, Fault> {
        if at_most.is_some() && self.place.guest.is_none() {
            // It would be out for nothing, if it could not be started anew.
            self.restarts(node)?;
        }
        let pass = self.pass().await?;
        let seen = self.seen(&pass.observed, node)?;
        let reason = seen.reason.as_ref().map(|reason| reason.text.as_str());
        if seen.is_drained() && reason.is_some_and(|reason| token.owns(reason)) {
            return Ok(Outcome { already: true, ..Outcome::default() });
        }
        // Nodes may have gone away since the plan was made.
        let out = |name: &&String| {
            pass.observed.nodes.get(*name).is_none_or(|node| node.is_drained() || !node.is_up())
        };
        let beside = pool.iter().filter(|other| *other != node);
        let out: Vec<&str> = beside.filter(out).map(String::as_str).collect();
        if at_most.is_some_and(|most| out.len() >= most as usize) && seen.is_up() {
            return Err(Fault::transient(format!(
                "{}: {node} stays in use, because {} of its pool are out already",
                self.id,
                hostlist::compress(out)
            )));
        }
        self.step(RollStep::Drain { node: node.to_owned() }, token).await?;
        Ok(Outcome::default())
    }

    /// Waits until nothing runs on a node. It costs nothing to be dropped.
    async fn empties(&self, node: &str, timeout_s: u64, token: &Token) -> Result<Outcome, Fault> {
        let timeout = i64::try_from(timeout_s).unwrap_or(i64::MAX);
        let mut already = true;
        let mut pause = Pause::default();
        loop {
            let pass = self.pass().await?;
            let seen = self.seen(&pass.observed, node)?;
            let reason = seen.reason.as_ref().filter(|reason| token.owns(&reason.text));
            let Some(reason) = reason.filter(|_| seen.is_drained()) else {
                return Err(Fault::transient(format!(
                    "{}: somebody gave {node} back, or another reason, before it was empty",
                    self.id
                )));
            };
            let jobs = jobs_on(&pass.observed, node);
            if jobs.is_empty() && !seen.is_busy() {
                return Ok(Outcome { already, ..Outcome::default() });
            }
            already = false;
            let what = waits_for(node, &jobs);
            let now = pass.clock.unwrap_or_else(now);
            if now > reason.at.saturating_add(timeout) {
                return Err(Fault::transient(format!(
                    "{}: {what}, {} s after the drain: end them, or raise `drainTimeout`",
                    self.id,
                    now - reason.at
                )));
            }
            (self.progress)(ProgressUpdate { what, done: 0, total: None });
            pause.rest().await;
        }
    }

    async fn restart(&self, node: &str) -> Result<Outcome, Fault> {
        let argv = self.restarts(node)?;
        let pass = self.pass().await?;
        let before = self.seen(&pass.observed, node)?.daemon_started;
        self.before().insert((self.id.clone(), node.to_owned()), before);
        let what = format!("{}: {node}", self.id);
        let run = move || {
            let done = argv.ask(START).map(drop);
            done.map_err(|error| Fault::transient(format!("{what}: {error}")))
        };
        blocking("start a node's daemon", run).await?;
        Ok(Outcome::default())
    }

    fn before(&self) -> MutexGuard<'_, HashMap<(ResourceId, String), i64>> {
        self.provider.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What starts a node's daemon anew.
    fn restarts(&self, node: &str) -> Result<Argv, Fault> {
        let words = &self.provider.host(&self.id.name).restart_node;
        let Some((program, arguments)) = words.split_first() else {
            return Err(Fault::needs_human(
                format!("{}: nothing says how the daemon of {node} is started anew", self.id),
                format!("say it in `clusters.{}.restartNode` of the host's config", self.id.name),
            ));
        };
        let named = |word: &String| word.replace("{node}", node);
        Ok(Argv::new(named(program)).args(arguments.iter().map(named)))
    }

    /// Waits until a node's daemon answers and the controller takes it for usable.
    async fn comes_back(&self, node: &str) -> Result<Outcome, Fault> {
        if let Ok(back) = tokio::time::timeout(COMES_BACK, self.until_back(node)).await {
            return back.map(|()| Outcome::default());
        }
        match self.not_back(node, false).await? {
            None => Ok(Outcome::default()),
            Some(what) => Err(Fault::transient(format!(
                "{}: {what} after {} s; look at the log of its slurmd",
                self.id,
                COMES_BACK.as_secs()
            ))),
        }
    }

    async fn until_back(&self, node: &str) -> Result<(), Fault> {
        let mut pause = Pause::default();
        let patient = Instant::now() + SEEN_ANEW;
        while let Some(what) = self.not_back(node, Instant::now() < patient).await? {
            (self.progress)(ProgressUpdate { what, done: 0, total: None });
            pause.rest().await;
        }
        Ok(())
    }

    /// Why a node is not usable yet; `None`: it is. `anew`: its daemon has to be one that was started
    /// since the node was taken out; what the controller knows may be of the one before.
    async fn not_back(&self, node: &str, anew: bool) -> Result<Option<String>, Fault> {
        let pass = self.pass().await?;
        let seen = self.seen(&pass.observed, node)?;
        let since = seen.reason.as_ref().filter(|_| seen.is_drained()).map(|reason| reason.at);
        // Until the controller misses an answer, a node that it does not understand seems to be well: by
        // the time of another clock, or under another key.
        let before = self.before().get(&(self.id.clone(), node.to_owned())).copied();
        let same = since.is_some() && before == Some(seen.daemon_started);
        if same || anew && since.is_some_and(|since| seen.daemon_started < since) {
            return Ok(Some(format!("the new daemon of {node} was not heard of yet")));
        }
        if seen.is_up() && seen.release.is_some() {
            return Ok(None);
        }
        let flags: Vec<String> = seen.flags.iter().map(|flag| format!("{flag:?}")).collect();
        Ok(Some(format!("{node} is {:?} ({}) still", seen.state, flags.join(", "))))
    }

    async fn step(&self, step: RollStep, token: &Token) -> Result<(), Fault> {
        let (id, control, token) = (self.id.clone(), self.control()?, token.clone());
        let done = move || {
            let done = control.step(&step, &token);
            done.map_err(|error| uncontrolled(&id.to_string(), &error))
        };
        blocking("change a node", done).await
    }
}

/// The jobs that have something of a node.
pub(super) fn jobs_on(observed: &Observed, node: &str) -> Vec<u32> {
    let has = |list: &str| {
        let names = hostlist::expand(list).unwrap_or_default();
        names.iter().any(|name| name == node)
    };
    let jobs = observed.jobs.iter().filter(|job| job.holds_nodes() && has(&job.nodes));
    jobs.map(|job| job.id).collect()
}

fn waits_for(node: &str, jobs: &[u32]) -> String {
    let named: Vec<String> = jobs.iter().take(JOBS_NAMED_MAX).map(u32::to_string).collect();
    match jobs.len().saturating_sub(JOBS_NAMED_MAX) {
        _ if jobs.is_empty() => format!("jobs are being cleared away from {node}"),
        0 => format!("job {} runs on {node} still", named.join(", ")),
        more => format!("job {} and {more} more run on {node} still", named.join(", ")),
    }
}
