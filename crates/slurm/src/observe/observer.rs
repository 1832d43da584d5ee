//! One look after another at a cluster, the second and later ones cheap where nothing has changed.

use std::sync::Arc;
use std::thread;

use super::command::{Commands, joined};
use super::error::ObserveError;
use super::model::{Job, Node, Observed};
use super::rest::{Reply, Rest};
use super::{json, text};
use crate::release::{Release, Shape};

/// A look.
#[derive(Debug, Clone)]
pub struct Pass {
    /// What is there.
    pub observed: Arc<Observed>,
    /// Whether it differs from the look before.
    pub changed: bool,
    /// The controller's clock, seconds since 1970, where slurmrestd told it.
    pub clock: Option<i64>,
}

/// Looks at one cluster.
#[derive(Debug)]
pub struct Observer {
    commands: Commands,
    rest: Option<(Rest, Option<Shape>)>,
    /// What the programs are asked for, where all of them answered in the last look.
    asked: Option<Shape>,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    observed: Arc<Observed>,
    /// The controller's clock before the look.
    since: i64,
}

impl Observer {
    /// An observer by the programs alone, or by slurmrestd for nodes and jobs.
    #[must_use]
    pub fn new(commands: Commands, rest: Option<Rest>) -> Self {
        Self { commands, rest: rest.map(|rest| (rest, None)), asked: None, kept: None }
    }

    /// The programs.
    #[must_use]
    pub fn commands(&self) -> &Commands {
        &self.commands
    }

    /// Looks. What was seen before is kept where the look fails, and is not given out as seen now.
    ///
    /// # Errors
    /// [`ObserveError`]: nothing may be planned then.
    pub fn pass(&mut self) -> Result<Pass, ObserveError> {
        let (next, clock) = match &mut self.rest {
            Some((rest, shape)) => {
                let since = self.kept.as_ref();
                let (next, clock) = by_rest(rest, shape, &self.commands, since)?;
                (next, Some(clock))
            }
            None => {
                // Only a look after a good one does without the questions that come before all others.
                let shape = match self.asked.take() {
                    Some(shape) => shape,
                    None => reached(&self.commands)?,
                };
                // That a controller is dead is in no JSON of 22.05: only "Unspecified error".
                let (next, shape) = by_commands(&self.commands, shape)
                    .or_else(|error| self.commands.ping().and(Err(error)))?;
                self.asked = Some(shape);
                (Some(next), None)
            }
        };
        let since = clock.unwrap_or(0);
        let kept = self.kept.take();
        let (observed, changed) = match (next, kept) {
            (None, Some(kept)) => (kept.observed, false),
            (Some(next), Some(kept)) if next == *kept.observed => (kept.observed, false),
            (Some(next), _) => (Arc::new(next), true),
            (None, None) => {
                let words = "unchanged, although nothing was asked before".to_owned();
                return Err(ObserveError::Refused { words });
            }
        };
        self.kept = Some(Kept { observed: Arc::clone(&observed), since });
        Ok(Pass { observed, changed, clock })
    }
}

/// What the programs are to be asked for: a dead controller is told at once, and unknown programs too.
fn reached(commands: &Commands) -> Result<Shape, ObserveError> {
    commands.ping()?;
    shape_of(commands)
}

/// All questions side by side: the one for the nodes takes longer than the others together. Also what the
/// programs are to be asked for by now.
fn by_commands(commands: &Commands, shape: Shape) -> Result<(Observed, Shape), ObserveError> {
    thread::scope(|scope| {
        // Programs are exchanged under a daemon that runs.
        let own = scope.spawn(|| shape_of(commands));
        let jobs = scope.spawn(|| commands.jobs());
        let rest = scope.spawn(|| declared(commands));
        let nodes = commands.nodes(shape);
        let own = joined(own.join())?;
        if own != shape {
            return by_commands(commands, own);
        }
        let (release, nodes) = json::nodes(&nodes?)?;
        let (partitions, reservations) = joined(rest.join())?;
        let jobs = joined(jobs.join())?;
        Ok((Observed { release, nodes, partitions, reservations, jobs }, shape))
    })
}

type Declared = (
    std::collections::BTreeMap<String, super::Partition>,
    std::collections::BTreeMap<String, super::Reservation>,
);

fn declared(commands: &Commands) -> Result<Declared, ObserveError> {
    let partitions = text::partitions(&commands.text("scontrol", &["-o", "show", "partitions"])?)?;
    let shown = commands.text("scontrol", &["-o", "show", "reservations"])?;
    Ok((partitions, text::reservations(&shown)?))
}

/// What differs from the last look, by slurmrestd; none where nothing does.
fn by_rest(
    rest: &mut Rest,
    known: &mut Option<Shape>,
    commands: &Commands,
    kept: Option<&Kept>,
) -> Result<(Option<Observed>, i64), ObserveError> {
    let api = known.map_or_else(|| shape_of(commands), Ok)?;
    let (release, clock) = clock(rest, api)?;
    *known = release.shape();
    let same = kept.filter(|kept| kept.observed.release == release && kept.since <= clock);
    let since = same.map(|kept| format!("?update_time={}", kept.since)).unwrap_or_default();
    let mut ask = |what: &str| rest.get(&format!("/{}/{what}{since}", api.api()));
    let (jobs, partitions) = (ask("jobs")?, ask("partitions")?);
    let reservations = ask("reservations")?;
    let nodes = match ask("nodes") {
        // Status 500 of both releases, where nodes have changed since then and partitions have not.
        Err(ObserveError::Refused { .. }) if same.is_some() => {
            rest.get(&format!("/{}/nodes", api.api()))?
        }
        other => other?,
    };
    let unchanged = [&nodes, &jobs, &partitions, &reservations]
        .into_iter()
        .all(|reply| matches!(reply, Reply::Unchanged));
    let Some(same) = same else {
        let (Reply::Body(nodes), Reply::Body(jobs)) = (nodes, jobs) else {
            let words = "unchanged, although no time was given".to_owned();
            return Err(ObserveError::Refused { words });
        };
        let (release, nodes) = json::nodes(&nodes)?;
        let jobs = json::jobs(&jobs)?;
        let (partitions, reservations) = declared(commands)?;
        let mut all = Observed { release, nodes, partitions, reservations, jobs };
        find_jobs(&mut all, commands)?;
        return Ok((Some(all), clock));
    };
    if unchanged {
        return Ok((None, clock));
    }
    let mut next = Observed::clone(&same.observed);
    if let Reply::Body(body) = nodes {
        (next.release, next.nodes) = json::nodes(&body)?;
    }
    if let Reply::Body(body) = jobs {
        next.jobs = json::jobs(&body)?;
    }
    find_jobs(&mut next, commands)?;
    if matches!((&partitions, &reservations), (Reply::Unchanged, Reply::Unchanged)) {
        return Ok((Some(next), clock));
    }
    (next.partitions, next.reservations) = declared(commands)?;
    Ok((Some(next), clock))
}

/// slurmrestd of 24.11 was seen to know of no job right after its start while one ran: where nodes are in
/// use and nobody uses them, `squeue` is asked.
fn find_jobs(observed: &mut Observed, commands: &Commands) -> Result<(), ObserveError> {
    let used = observed.nodes.values().any(Node::is_busy);
    if used && !observed.jobs.iter().any(Job::holds_nodes) {
        observed.jobs = commands.jobs()?;
    }
    Ok(())
}

/// slurmrestd is of the controller's release or a newer one; the programs here tell which is tried.
fn shape_of(commands: &Commands) -> Result<Shape, ObserveError> {
    let own = commands.release()?;
    own.shape().ok_or(ObserveError::UnknownRelease(own))
}

fn clock(rest: &mut Rest, shape: Shape) -> Result<(Release, i64), ObserveError> {
    match rest.get(&format!("/{}/diag", shape.api()))? {
        Reply::Body(body) => json::clock(&body),
        Reply::Unchanged => {
            let words = "the clock did not change, which no clock does".to_owned();
            Err(ObserveError::Refused { words })
        }
    }
}
