//! Performs one step: looks, acts, looks again.
//!
//! The scan for open handles is the last thing before a step that takes something away, and is
//! repeated before every further try: one from the beginning of a plan is stale. Between the scan and
//! the write there remains an instant in which a process can open the device; the kernel then keeps
//! the write waiting (unbind) or refuses it (vGPUs), and both are told.

use std::time::Duration;

use rustix::io::Errno;

use crate::condition::{Condition, Fails};
use crate::error::Error;
use crate::hands::Hands;
use crate::root::Root;
use crate::step::{Action, Step};
use crate::wait::{Looks, Patience, first_failing, until};

/// How a step ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was performed, and is proved.
    Done,
    /// All was so already; nothing was touched.
    AlreadySo,
}

/// Performs steps on one tree. Blocking: for a thread that may block.
#[derive(Debug)]
pub struct Executor<H> {
    root: Root,
    hands: H,
    patience: Patience,
}

impl<H: Hands> Executor<H> {
    /// An executor for a tree.
    #[must_use]
    pub fn new(root: Root, hands: H, patience: Patience) -> Self {
        Self { root, hands, patience }
    }

    /// The tree.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Whether what a step is to bring about is so already.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn is_done(&self, step: &Step) -> Result<bool, Error> {
        Ok(!step.always && first_failing(&self.root, &step.after)?.is_none())
    }

    /// Performs one step and proves it.
    ///
    /// # Errors
    /// [`Error`]; see [`Error::next`] for what to do. After [`Error::Changed`], [`Error::Held`] and
    /// [`Error::Unscanned`] on a first try, nothing was touched.
    pub fn perform(&mut self, step: &Step) -> Result<Outcome, Error> {
        if self.is_done(step)? {
            return Ok(Outcome::AlreadySo);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            self.act(step)?;
            let limit = match step.action {
                Action::Wait { seconds } => Duration::from_secs(seconds.into()),
                Action::Write { .. } | Action::Run { .. } => self.patience.settle,
            };
            match until(&self.root, &step.after, &self.patience, limit)? {
                None => return Ok(Outcome::Done),
                Some(_) if tries < step.tries => {}
                Some((condition, fails)) => {
                    return Err(unproved(step, tries, condition, fails, limit));
                }
            }
        }
    }

    /// Checks what must be true, then acts; again while the kernel says that it is busy.
    fn act(&mut self, step: &Step) -> Result<(), Error> {
        let mut looks = Looks::new(&self.patience, self.patience.busy);
        loop {
            if let Some((condition, fails)) = first_failing(&self.root, &step.before)? {
                return Err(Error::before(&step.what, condition, fails));
            }
            let acted = match &step.action {
                Action::Wait { .. } => Ok(()),
                Action::Write { path, value } => {
                    self.hands.write(&self.root, path, value, &self.patience)
                }
                Action::Run { argv } => self.hands.run(&self.root, argv, &self.patience),
            };
            match acted {
                Err(Error::Write { errno, .. }) if is_passing(errno) && looks.again() => {}
                other => return other,
            }
        }
    }
}

fn is_passing(errno: i32) -> bool {
    matches!(Errno::from_raw_os_error(errno), Errno::BUSY | Errno::AGAIN | Errno::INTR)
}

fn unproved(
    step: &Step,
    tries: u32,
    condition: &Condition,
    fails: Fails,
    limit: Duration,
) -> Error {
    let waited_for = matches!(step.action, Action::Wait { .. });
    match fails {
        Fails::Held(holders) if waited_for => Error::Held { step: step.what.clone(), holders },
        Fails::Unscanned(pids) if waited_for => Error::Unscanned { step: step.what.clone(), pids },
        fails => Error::Unproved {
            step: step.what.clone(),
            tries,
            condition: Box::new(condition.clone()),
            found: fails.to_string(),
            seconds: limit.as_secs(),
            advice: advice(step),
        },
    }
}

/// What to do where a step had no effect.
fn advice(step: &Step) -> &'static str {
    match &step.action {
        Action::Write { path, .. } if path.ends_with("/drivers_probe") => {
            "the function may have no driver now: plan again, to bind it or to give it back"
        }
        Action::Write { path, .. } if path.ends_with("_vgpu_type") || path.ends_with("/create") => {
            "see the kernel's log for the driver's reason, and plan again"
        }
        Action::Write { .. } | Action::Run { .. } => "see the kernel's log, and plan again",
        Action::Wait { .. } => "wait longer, or look why it does not come",
    }
}
