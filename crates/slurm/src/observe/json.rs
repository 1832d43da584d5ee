//! JSON of Slurm, of each release that was tried, read into the model. A new form is a new adapter
//! beside the two, chosen by the release that the answer itself names.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::ObserveError;
use super::model::{Flag, Job, JobState, Node, NodeState, Reason};
use crate::release::{Release, Shape};

/// The head of each answer.
#[derive(Deserialize)]
struct Head {
    meta: Meta,
    #[serde(default)]
    errors: Vec<Complaint>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(alias = "Slurm")]
    slurm: Named,
}

#[derive(Deserialize)]
struct Named {
    release: String,
}

/// What stands in `errors`: 22.05 fills `error`, 24.11 `description` too.
#[derive(Deserialize)]
struct Complaint {
    #[serde(default)]
    error: String,
    #[serde(default)]
    description: String,
}

/// A number of 24.11, which may be none or endless.
#[derive(Deserialize, Default, Clone, Copy)]
struct Number {
    set: bool,
    number: f64,
}

impl Number {
    fn whole(self) -> i64 {
        // Slurm's numbers here are 64 bits at most and seconds or counts: all fit.
        if self.set { self.number as i64 } else { 0 }
    }

    fn count(self) -> u32 {
        u32::try_from(self.whole()).unwrap_or(0)
    }
}

fn parse<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, ObserveError> {
    serde_json::from_slice(body)
        .map_err(|error| ObserveError::Form { what, message: error.to_string() })
}

/// Which release answers, and whether it answers at all: `errors` make the rest worthless.
fn head(what: &'static str, body: &[u8]) -> Result<(Release, Shape), ObserveError> {
    let head: Head = parse(what, body)?;
    if !head.errors.is_empty() {
        let words: Vec<&str> = head
            .errors
            .iter()
            .map(|one| if one.description.is_empty() { &*one.error } else { &*one.description })
            .collect();
        return Err(ObserveError::Refused { words: words.join("; ") });
    }
    let release: Release = head.meta.slurm.release.parse().map_err(ObserveError::NoRelease)?;
    let shape = release.shape().ok_or(ObserveError::UnknownRelease(release))?;
    Ok((release, shape))
}

/// Nodes by name, and the release that answers: of `sinfo --json` (22.05), `scontrol --json show
/// nodes` (24.11) or `GET /nodes` (both).
///
/// # Errors
/// [`ObserveError`]; an answer with `errors` is never an empty cluster.
pub fn nodes(body: &[u8]) -> Result<(Release, BTreeMap<String, Node>), ObserveError> {
    let (release, shape) = head("the nodes", body)?;
    let nodes = match shape {
        Shape::V22_05 => {
            let all: v22::Nodes = parse("the nodes", body)?;
            all.nodes.into_iter().map(v22::Node::named).collect()
        }
        Shape::V24_11 => {
            let all: v24::Nodes = parse("the nodes", body)?;
            all.nodes.into_iter().map(v24::Node::named).collect()
        }
    };
    Ok((release, nodes))
}

/// Jobs, of `squeue --json` or `GET /jobs`, by number.
///
/// # Errors
/// [`ObserveError`].
pub fn jobs(body: &[u8]) -> Result<Vec<Job>, ObserveError> {
    let (_, shape) = head("the jobs", body)?;
    let mut jobs: Vec<Job> = match shape {
        Shape::V22_05 => {
            let all: v22::Jobs = parse("the jobs", body)?;
            all.jobs.into_iter().map(v22::Job::into_model).collect()
        }
        Shape::V24_11 => {
            let all: v24::Jobs = parse("the jobs", body)?;
            all.jobs.into_iter().map(v24::Job::into_model).collect()
        }
    };
    jobs.sort_by_key(|job| job.id);
    Ok(jobs)
}

/// The controller's clock, seconds since 1970, of `GET /diag`.
///
/// # Errors
/// [`ObserveError`].
pub(super) fn clock(body: &[u8]) -> Result<(Release, i64), ObserveError> {
    #[derive(Deserialize)]
    struct Diag<T> {
        statistics: Statistics<T>,
    }
    #[derive(Deserialize)]
    struct Statistics<T> {
        req_time: T,
    }
    let (release, shape) = head("the statistics", body)?;
    let at = match shape {
        Shape::V22_05 => parse::<Diag<i64>>("the statistics", body)?.statistics.req_time,
        Shape::V24_11 => parse::<Diag<Number>>("the statistics", body)?.statistics.req_time.whole(),
    };
    Ok((release, at))
}

fn reason(text: String, by: Option<String>, at: i64) -> Option<Reason> {
    (!text.is_empty()).then(|| Reason { text, by: by.unwrap_or_default(), at })
}

/// 22.05: a state is one word beside its flags, a number is a number or null.
mod v22 {
    use super::{Deserialize, Flag, JobState, NodeState, reason};

    #[derive(Deserialize)]
    pub(super) struct Nodes {
        pub(super) nodes: Vec<Node>,
    }

    #[derive(Deserialize)]
    pub(super) struct Node {
        name: String,
        state: String,
        state_flags: Vec<String>,
        #[serde(default)]
        reason: String,
        reason_set_by_user: Option<String>,
        reason_changed_at: Option<i64>,
        address: String,
        hostname: String,
        port: u16,
        cpus: u32,
        alloc_cpus: Option<i64>,
        real_memory: u64,
        alloc_memory: Option<i64>,
        #[serde(default)]
        gres: String,
        #[serde(default)]
        gres_used: String,
        #[serde(default)]
        features: String,
        weight: u32,
        partitions: Vec<String>,
        slurmd_version: Option<String>,
        slurmd_start_time: Option<i64>,
    }

    impl Node {
        pub(super) fn named(self) -> (String, super::Node) {
            let node = super::Node {
                state: NodeState::of(&self.state),
                flags: self.state_flags.iter().map(|word| Flag::of(word)).collect(),
                reason: reason(
                    self.reason,
                    self.reason_set_by_user,
                    self.reason_changed_at.unwrap_or(0),
                ),
                address: self.address,
                hostname: self.hostname,
                port: self.port,
                cpus: self.cpus,
                cpus_allocated: u32::try_from(self.alloc_cpus.unwrap_or(0)).unwrap_or(0),
                memory_mib: self.real_memory,
                memory_allocated_mib: u64::try_from(self.alloc_memory.unwrap_or(0)).unwrap_or(0),
                gres: self.gres,
                gres_used: self.gres_used,
                features: words(&self.features),
                weight: self.weight,
                partitions: self.partitions.into_iter().collect(),
                release: self.slurmd_version.and_then(|text| text.parse().ok()),
                daemon_started: self.slurmd_start_time.unwrap_or(0),
            };
            (self.name, node)
        }
    }

    fn words(list: &str) -> std::collections::BTreeSet<String> {
        list.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    #[derive(Deserialize)]
    pub(super) struct Jobs {
        pub(super) jobs: Vec<Job>,
    }

    #[derive(Deserialize)]
    pub(super) struct Job {
        job_id: u32,
        job_state: String,
        state_reason: Option<String>,
        name: Option<String>,
        user_name: Option<String>,
        account: Option<String>,
        qos: Option<String>,
        partition: Option<String>,
        nodes: Option<String>,
        cpus: Option<i64>,
        tres_req_str: Option<String>,
        tres_alloc_str: Option<String>,
        array_task_string: Option<String>,
        submit_time: Option<i64>,
        start_time: Option<i64>,
        end_time: Option<i64>,
    }

    impl Job {
        pub(super) fn into_model(self) -> super::Job {
            let allocated = self.tres_alloc_str.filter(|text| !text.is_empty());
            super::Job {
                id: self.job_id,
                state: JobState::of(&self.job_state),
                reason: self.state_reason.filter(|why| why != "None").unwrap_or_default(),
                name: self.name.unwrap_or_default(),
                user: self.user_name.unwrap_or_default(),
                account: self.account.unwrap_or_default(),
                qos: self.qos.unwrap_or_default(),
                partition: self.partition.unwrap_or_default(),
                nodes: self.nodes.unwrap_or_default(),
                cpus: u32::try_from(self.cpus.unwrap_or(0)).unwrap_or(0),
                tres: allocated.or(self.tres_req_str).unwrap_or_default(),
                tasks: self.array_task_string.unwrap_or_default(),
                submitted: self.submit_time.unwrap_or(0),
                started: self.start_time.unwrap_or(0),
                ends: self.end_time.unwrap_or(0),
            }
        }
    }
}

/// 24.11: a state is a list of words, a number says whether it is one.
mod v24 {
    use super::{Deserialize, Flag, JobState, NodeState, Number, reason};

    #[derive(Deserialize)]
    pub(super) struct Nodes {
        pub(super) nodes: Vec<Node>,
    }

    #[derive(Deserialize)]
    pub(super) struct Node {
        name: String,
        state: Vec<String>,
        #[serde(default)]
        reason: String,
        reason_set_by_user: Option<String>,
        #[serde(default)]
        reason_changed_at: Number,
        address: String,
        hostname: String,
        port: u16,
        cpus: u32,
        #[serde(default)]
        alloc_cpus: i64,
        real_memory: u64,
        #[serde(default)]
        alloc_memory: i64,
        #[serde(default)]
        gres: String,
        #[serde(default)]
        gres_used: String,
        #[serde(default)]
        features: Vec<String>,
        weight: u32,
        #[serde(default)]
        partitions: Vec<String>,
        version: Option<String>,
        #[serde(default)]
        slurmd_start_time: Number,
    }

    impl Node {
        pub(super) fn named(self) -> (String, super::Node) {
            let mut words = self.state.iter();
            let node = super::Node {
                state: words.next().map_or(NodeState::Unknown, |word| NodeState::of(word)),
                flags: words.map(|word| Flag::of(word)).collect(),
                reason: reason(
                    self.reason,
                    self.reason_set_by_user,
                    self.reason_changed_at.whole(),
                ),
                address: self.address,
                hostname: self.hostname,
                port: self.port,
                cpus: self.cpus,
                cpus_allocated: u32::try_from(self.alloc_cpus).unwrap_or(0),
                memory_mib: self.real_memory,
                memory_allocated_mib: u64::try_from(self.alloc_memory).unwrap_or(0),
                gres: self.gres,
                gres_used: self.gres_used,
                features: self.features.into_iter().filter(|word| !word.is_empty()).collect(),
                weight: self.weight,
                partitions: self.partitions.into_iter().collect(),
                release: self.version.and_then(|text| text.parse().ok()),
                daemon_started: self.slurmd_start_time.whole(),
            };
            (self.name, node)
        }
    }

    #[derive(Deserialize)]
    pub(super) struct Jobs {
        pub(super) jobs: Vec<Job>,
    }

    #[derive(Deserialize)]
    pub(super) struct Job {
        job_id: u32,
        job_state: Vec<String>,
        state_reason: Option<String>,
        name: Option<String>,
        user_name: Option<String>,
        account: Option<String>,
        qos: Option<String>,
        partition: Option<String>,
        nodes: Option<String>,
        #[serde(default)]
        cpus: Number,
        tres_req_str: Option<String>,
        tres_alloc_str: Option<String>,
        array_task_string: Option<String>,
        #[serde(default)]
        submit_time: Number,
        #[serde(default)]
        start_time: Number,
        #[serde(default)]
        end_time: Number,
    }

    impl Job {
        pub(super) fn into_model(self) -> super::Job {
            let allocated = self.tres_alloc_str.filter(|text| !text.is_empty());
            // `["COMPLETED", "COMPLETING"]`: it still has its nodes.
            let leaving = self.job_state.iter().any(|word| word == "COMPLETING");
            let state = match self.job_state.first() {
                _ if leaving => JobState::Completing,
                Some(word) => JobState::of(word),
                None => JobState::Other(String::new()),
            };
            super::Job {
                id: self.job_id,
                state,
                reason: self.state_reason.filter(|why| why != "None").unwrap_or_default(),
                name: self.name.unwrap_or_default(),
                user: self.user_name.unwrap_or_default(),
                account: self.account.unwrap_or_default(),
                qos: self.qos.unwrap_or_default(),
                partition: self.partition.unwrap_or_default(),
                nodes: self.nodes.unwrap_or_default(),
                cpus: self.cpus.count(),
                tres: allocated.or(self.tres_req_str).unwrap_or_default(),
                tasks: self.array_task_string.unwrap_or_default(),
                submitted: self.submit_time.whole(),
                started: self.start_time.whole(),
                ends: self.end_time.whole(),
            }
        }
    }
}
