//! A cluster changed by its own programs: the controller made to read its files, nodes taken out and
//! given back, accounts written. It decides nothing: [`crate::plan`] does; and each node is looked at
//! once more right before it is touched, because hands may have been quicker.

use std::thread;
use std::time::{Duration, Instant};

use crate::observe::{Commands, ObserveError};
use crate::plan::accounts::Write;
use crate::plan::config::Action;
use crate::plan::roll::{self, Step, Token};
use crate::run::Argv;
use crate::switch::Controller;

/// Pauses between two looks at a controller that is starting: the first, and the longest. It tells
/// nobody when it is ready, and a `scontrol ping` that finds nobody returns in 20 ms.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LONGEST: Duration = Duration::from_millis(500);

/// The hands.
#[derive(Debug, Clone)]
pub struct Control {
    commands: Commands,
    restart: Argv,
    limit: Duration,
}

/// A change that was not made.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A program failed, or the controller is away.
    #[error(transparent)]
    Slurm(#[from] ObserveError),
    /// Somebody took the node out before us, or gave it another reason since.
    #[error(
        "node {node} is out of use for another reason than ours ({reason}) and is left as it is: resume it by hand when it is well"
    )]
    NotOurs {
        /// The node.
        node: String,
        /// Its reason now.
        reason: String,
    },
}

impl Control {
    /// Hands for a cluster; `restart` stops the controller and starts it, and ends when it was started;
    /// `limit` is the longest that it may take to answer after that.
    #[must_use]
    pub fn new(commands: Commands, restart: Argv, limit: Duration) -> Self {
        Self { commands, restart, limit }
    }

    /// Does what a step of a pool asks of the controller; steps that ask nothing of it do nothing.
    ///
    /// # Errors
    /// [`ControlError`]; [`ControlError::NotOurs`] leaves the node as it is.
    pub fn step(&self, step: &Step, token: &Token) -> Result<(), ControlError> {
        let Some(arguments) = roll::scontrol(step, token) else { return Ok(()) };
        if let Step::Drain { node } | Step::Resume { node } = step {
            self.in_our_hands(node, token, matches!(step, Step::Resume { .. }))?;
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.commands.ask("scontrol", &arguments)?;
        Ok(())
    }

    /// Writes one difference of the accounts.
    ///
    /// # Errors
    /// [`ControlError::Slurm`], with sacctmgr's own words.
    pub fn account(&self, write: &Write) -> Result<(), ControlError> {
        let arguments: Vec<&str> = write.0.iter().map(String::as_str).collect();
        self.commands.ask("sacctmgr", &arguments)?;
        Ok(())
    }

    /// A node that is out has to be so under our reason; one that is to be resumed has to be out.
    fn in_our_hands(&self, node: &str, token: &Token, resumed: bool) -> Result<(), ControlError> {
        let shown = self.commands.text("sinfo", &["-h", "-n", node, "-o", "%T|%E"])?;
        for line in shown.lines() {
            let (state, reason) = line.split_once('|').unwrap_or((line, ""));
            let out = state.contains("drain") || state.contains("fail");
            if (out || resumed) && !token.owns(reason) {
                let (node, reason) = (node.to_owned(), reason.to_owned());
                return Err(ControlError::NotOurs { node, reason });
            }
        }
        Ok(())
    }

    fn reconfigure(&self) -> Result<(), ObserveError> {
        let before = self.commands.read_at()?;
        let Err(error) = self.commands.ask("scontrol", &["reconfigure"]) else { return Ok(()) };
        // 24.11 starts a second controller, and its client may give up before that has answered: then
        // the time of its configuration tells whether it was read.
        let late =
            matches!(&error, ObserveError::Run(failed) if failed.to_string().contains("timed out"));
        if !late {
            return Err(error);
        }
        self.until(|| match self.commands.read_at() {
            Ok(now) if now != before => Ok(()),
            _ => Err(()),
        })
        .map_err(|()| error)
    }

    /// Tries until it succeeds, or gives the last failure at the limit, or when nobody waits any more.
    fn until<E>(&self, mut attempt: impl FnMut() -> Result<(), E>) -> Result<(), E> {
        let deadline = Instant::now() + self.limit;
        let mut pause = PAUSE_FIRST;
        loop {
            let tried = attempt();
            let left = deadline.saturating_duration_since(Instant::now());
            if tried.is_ok() || left.is_zero() || !self.commands.machine.is_awaited() {
                return tried;
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }
}

impl Controller for Control {
    fn apply(&mut self, how: Action) -> Result<(), String> {
        match how {
            Action::Nothing => Ok(()),
            Action::Reconfigure => self.reconfigure().map_err(|error| error.to_string()),
            Action::Restart => {
                let asked = self.restart.ask_on(&*self.commands.machine, self.limit);
                asked.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    fn await_up(&mut self) -> Result<(), String> {
        // A ping is answered before the state was read; the partitions are not.
        self.until(|| {
            self.commands.ping()?;
            self.commands.ask("scontrol", &["-o", "show", "partitions"]).map(drop)
        })
        .map_err(|error| error.to_string())
    }
}
