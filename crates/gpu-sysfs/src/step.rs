//! One small step, as data: what is done, and what must be true before and after.
//!
//! A step holds everything that is needed to perform it, so that it can be kept in a journal, performed
//! by another process, and told apart as done or not by looking.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::condition::Condition;

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A value is written to a file that is there; a line end is put after it.
    Write {
        /// The file.
        path: String,
        /// The value; empty to unset.
        value: String,
    },
    /// A command is run, without a shell.
    Run {
        /// The program, by its whole path, and its arguments.
        argv: Vec<String>,
    },
    /// Nothing: what must be true after the step is waited for.
    Wait {
        /// How long, in seconds.
        seconds: u32,
    },
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// In words: `unbind 0000:07:00.0 from nvidia`.
    pub what: String,
    /// What is done.
    pub action: Action,
    /// What must be true right before it, in this order: a scan for open handles comes last.
    pub before: Vec<Condition>,
    /// What must be true after it. Where all of it is true already, there is nothing to do, unless
    /// `always` says so.
    pub after: Vec<Condition>,
    /// Whether it is performed although what must be true after it is true already: the probe of a
    /// function for which the host may have no driver.
    pub always: bool,
    /// How often it may be done until that is so: more than once for the probe of a driver, which
    /// can return without an error and without having bound anything.
    pub tries: u32,
}

impl Step {
    /// A write.
    pub(crate) fn write(what: String, path: String, value: impl Into<String>) -> Self {
        Self::new(what, Action::Write { path, value: value.into() })
    }

    /// Any action.
    pub(crate) fn new(what: String, action: Action) -> Self {
        Self { what, action, before: Vec::new(), after: Vec::new(), always: false, tries: 1 }
    }

    /// With something that must be true before it.
    pub(crate) fn needs(mut self, condition: Condition) -> Self {
        self.before.push(condition);
        self
    }

    /// With something that must be true after it.
    pub(crate) fn proves(mut self, condition: Condition) -> Self {
        self.after.push(condition);
        self
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
