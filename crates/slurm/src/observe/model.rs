//! The small model that every release is read into. It holds what plans and views need, and nothing
//! that changes with every look (load, free memory), so that two looks at rest are equal.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::release::Release;

/// A cluster, at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Of the controller.
    pub release: Release,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// Partitions by name.
    pub partitions: BTreeMap<String, Partition>,
    /// Reservations by name.
    pub reservations: BTreeMap<String, Reservation>,
    /// Jobs, those that ended a moment ago included.
    pub jobs: Vec<Job>,
}

/// A machine that runs jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// What it does.
    pub state: NodeState,
    /// What is with it besides.
    pub flags: BTreeSet<Flag>,
    /// Why it was taken out, where a reason stands.
    pub reason: Option<Reason>,
    /// Where it is reached.
    pub address: String,
    /// What it calls itself.
    pub hostname: String,
    /// The port of its daemon.
    pub port: u16,
    /// Processors.
    pub cpus: u32,
    /// Processors that jobs have.
    pub cpus_allocated: u32,
    /// Memory for jobs, MiB.
    pub memory_mib: u64,
    /// Memory that jobs have, MiB.
    pub memory_allocated_mib: u64,
    /// `gpu:a100:2`, as declared.
    pub gres: String,
    /// `gpu:a100:1(IDX:0)`, as in use.
    pub gres_used: String,
    /// Features that jobs may require.
    pub features: BTreeSet<String>,
    /// Low weights are given out first.
    pub weight: u32,
    /// Partitions that have it.
    pub partitions: BTreeSet<String>,
    /// The release of its daemon, once that has answered.
    pub release: Option<Release>,
    /// When its daemon was started, seconds since 1970 by its clock; 0 where it never answered.
    pub daemon_started: i64,
}

/// Why a node was taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The words.
    pub text: String,
    /// Who gave it.
    pub by: String,
    /// When, seconds since 1970 by the controller's clock.
    pub at: i64,
}

/// What a node does, without its flags (slurm.h, `enum node_states`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeState {
    /// Not known yet: for some seconds after a restart of the controller.
    Unknown,
    /// Not usable.
    Down,
    /// Nothing runs on it.
    Idle,
    /// All of it is given out.
    Allocated,
    /// Part of it is given out.
    Mixed,
    /// In error.
    Error,
    /// Written down, and not there yet.
    Future,
    /// A word that is not known here.
    Other(String),
}

/// What is with a node besides its state (slurm.h, `NODE_STATE_*`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Flag {
    /// Takes no new jobs.
    Drain,
    /// Jobs are being cleared away.
    Completing,
    /// Its daemon does not answer.
    NotResponding,
    /// About to fail; takes no new jobs.
    Fail,
    /// In a reservation for maintenance.
    Maintenance,
    /// A reboot was asked for or is under way.
    Reboot,
    /// Powered off, or on its way to it.
    PoweredDown,
    /// On its way up.
    PoweringUp,
    /// Made at run time (`slurmd -Z`, `scontrol create NodeName`).
    Dynamic,
    /// Registered with less than is written down.
    InvalidRegistration,
    /// A word that is of no matter here, or not known.
    Other(String),
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Partition {
    /// Its nodes, as a list of Slurm's.
    pub nodes: String,
    /// `UP`, `DOWN`, `DRAIN` or `INACTIVE`.
    pub state: String,
    /// All that `scontrol` shows, by name in lower case, so that it can be compared with a file.
    pub fields: BTreeMap<String, String>,
}

/// Nodes that are kept for somebody or something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// The nodes, as a list of Slurm's.
    pub nodes: String,
    /// When it begins, seconds since 1970.
    pub start: i64,
    /// When it ends, seconds since 1970.
    pub end: i64,
    /// For which users, as a list.
    pub users: String,
    /// For which accounts, as a list.
    pub accounts: String,
    /// `MAINT`, `IGNORE_JOBS` and others.
    pub flags: BTreeSet<String>,
}

/// A job; an array's waiting tasks are one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its number.
    pub id: u32,
    /// What it does.
    pub state: JobState,
    /// Why it waits: `Resources`, `QOSMaxGRESPerUser`.
    pub reason: String,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// On which account.
    pub account: String,
    /// With which quality of service.
    pub qos: String,
    /// Where it waits or runs: several, while it waits.
    pub partition: String,
    /// The nodes that it has, as a list of Slurm's.
    pub nodes: String,
    /// Processors.
    pub cpus: u32,
    /// What it asked for, or has: `cpu=4,mem=4000M,gres/gpu=1`.
    pub tres: String,
    /// Waiting tasks of an array, as ranges; empty otherwise.
    pub tasks: String,
    /// When it came, seconds since 1970.
    pub submitted: i64,
    /// When it began or will, seconds since 1970; 0 where nobody knows.
    pub started: i64,
    /// When it ended or has to, seconds since 1970; 0 where nobody knows.
    pub ends: i64,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobState {
    /// It waits.
    Pending,
    /// It has its nodes.
    Running,
    /// It has its nodes and is stopped.
    Suspended,
    /// It is being cleared away and still has its nodes.
    Completing,
    /// It has ended: `COMPLETED`, `FAILED`, `CANCELLED`, `TIMEOUT`.
    Ended(String),
    /// A word that is not known here; taken for one that has its nodes.
    Other(String),
}

impl Node {
    /// Whether new jobs are kept away from it by a drain.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.flags.contains(&Flag::Drain) || self.flags.contains(&Flag::Fail)
    }

    /// Whether jobs have something of it, or are being cleared away from it.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self.state, NodeState::Allocated | NodeState::Mixed)
            || self.flags.contains(&Flag::Completing)
            || self.cpus_allocated > 0
    }

    /// Whether its daemon is there and the controller takes it for usable.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let state = matches!(self.state, NodeState::Idle | NodeState::Allocated | NodeState::Mixed);
        let away = [
            Flag::NotResponding,
            Flag::PoweredDown,
            Flag::PoweringUp,
            Flag::Reboot,
            Flag::InvalidRegistration,
        ];
        state && !away.iter().any(|flag| self.flags.contains(flag))
    }
}

impl Job {
    /// Whether it has nodes that must not be taken from it.
    #[must_use]
    pub fn holds_nodes(&self) -> bool {
        !self.nodes.is_empty() && !matches!(self.state, JobState::Pending | JobState::Ended(_))
    }
}

impl NodeState {
    /// A state by Slurm's word, whatever its case.
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word.to_ascii_uppercase().as_str() {
            "UNKNOWN" => Self::Unknown,
            "DOWN" => Self::Down,
            "IDLE" => Self::Idle,
            "ALLOCATED" => Self::Allocated,
            "MIXED" => Self::Mixed,
            "ERROR" => Self::Error,
            "FUTURE" => Self::Future,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl Flag {
    /// A flag by Slurm's word.
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word {
            "DRAIN" => Self::Drain,
            "COMPLETING" => Self::Completing,
            "NOT_RESPONDING" => Self::NotResponding,
            "FAIL" => Self::Fail,
            "MAINTENANCE" => Self::Maintenance,
            "REBOOT_REQUESTED" | "REBOOT_ISSUED" => Self::Reboot,
            "POWERED_DOWN" | "POWER_DOWN" | "POWERING_DOWN" => Self::PoweredDown,
            "POWERING_UP" | "POWER_UP" => Self::PoweringUp,
            "DYNAMIC_NORM" | "DYNAMIC_FUTURE" => Self::Dynamic,
            "INVALID_REG" => Self::InvalidRegistration,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl JobState {
    /// A state by Slurm's word.
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word {
            "PENDING" => Self::Pending,
            "RUNNING" | "CONFIGURING" | "STAGE_OUT" | "SIGNALING" | "STOPPED" | "RESIZING" => {
                Self::Running
            }
            "SUSPENDED" => Self::Suspended,
            "COMPLETING" => Self::Completing,
            "COMPLETED" | "FAILED" | "CANCELLED" | "TIMEOUT" | "NODE_FAIL" | "PREEMPTED"
            | "BOOT_FAIL" | "DEADLINE" | "OUT_OF_MEMORY" | "REVOKED" => {
                Self::Ended(word.to_owned())
            }
            other => Self::Other(other.to_owned()),
        }
    }
}
