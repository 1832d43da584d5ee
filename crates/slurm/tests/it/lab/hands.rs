//! What is done with a lab: files proved and exchanged, nodes waited for, jobs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use trueup_slurm::conf::Conf;
use trueup_slurm::observe::{Commands, Job, JobState, Observed, Observer};
use trueup_slurm::plan::config::{self, Action, ConfigPlan};
use trueup_slurm::run::Argv;
use trueup_slurm::wish::Cluster;
use trueup_slurm::{Control, Here, Live, Proof, Prover, Shape, Switched, plan, render, switch};

use super::{LIMIT, Lab, soon, until};

impl Lab {
    /// The files of a wish, without any proof: how every cluster begins.
    pub(crate) fn write_files(&self, wish: &Cluster) {
        for (name, text) in self.files(wish) {
            fs::write(self.live().folder.join(name), text).unwrap();
        }
    }

    pub(crate) fn files(&self, wish: &Cluster) -> BTreeMap<String, String> {
        let files = render(wish, self.shape).unwrap();
        [("slurm.conf", files.slurm), ("gres.conf", files.gres), ("cgroup.conf", files.cgroup)]
            .map(|(name, text)| (name.to_owned(), text))
            .into()
    }

    pub(crate) fn live(&self) -> Live {
        Live { machine: Here::shared(), folder: self.at().join("etc") }
    }

    pub(crate) fn live_text(&self) -> String {
        fs::read_to_string(self.live().folder.join("slurm.conf")).unwrap()
    }

    pub(crate) fn live_conf(&self) -> Conf {
        Conf::parse(&self.live_text()).unwrap()
    }

    pub(crate) fn commands(&self) -> Commands {
        let conf = Some(self.live().folder.join("slurm.conf"));
        Commands { machine: Here::shared(), folder: None, conf, limit: LIMIT }
    }

    pub(crate) fn control(&self) -> Control {
        let words = self.among(&[&self.path("restart")]);
        let restart = Argv::new(&words[0]).args(&words[1..]);
        Control::new(self.commands(), restart, Duration::from_secs(20))
    }

    pub(crate) fn prover(&self) -> Prover {
        let (slurmctld, limit) = (PathBuf::from("slurmctld"), Duration::from_secs(20));
        let live = self.live().folder;
        Prover { machine: Here::shared(), bin: None, slurmctld, live, limit, allowed: None }
    }

    #[track_caller]
    pub(crate) fn prove(&self, wish: &Cluster) -> Proof {
        self.prover().prove(&self.files(wish), &self.at().join("work")).unwrap()
    }

    #[track_caller]
    pub(crate) fn observe(&self) -> Observed {
        let pass = Observer::new(self.commands(), None).pass();
        let pass = pass.unwrap_or_else(|error| panic!("{error}{}", self.logs()));
        Observed::clone(&pass.observed)
    }

    #[track_caller]
    pub(crate) fn plan(&self, wish: &Cluster) -> ConfigPlan {
        let next = Conf::parse(&self.files(wish)["slurm.conf"]).unwrap();
        config::plan(&self.live_conf(), &next, &self.observe(), self.shape)
    }

    /// What differs between the live file and what runs.
    #[track_caller]
    pub(crate) fn drift(&self) -> Vec<config::Change> {
        plan::drift(&self.live_conf(), &self.observe())
    }

    /// From a wish to its files in force, as it is meant to be done.
    #[track_caller]
    pub(crate) fn apply(&self, wish: &Cluster) -> (ConfigPlan, Switched) {
        let plan = self.plan(wish);
        let proof = self.prove(wish);
        let done = switch(&proof, &self.live(), plan.controller, &mut self.control());
        (plan, done.unwrap_or_else(|error| panic!("{error}{}", self.logs())))
    }

    pub(crate) fn scontrol(&self, arguments: &[&str]) -> String {
        self.ok(&[&["scontrol"], arguments].concat())
    }

    /// Waits until nodes are in a state, as `sinfo` says it.
    #[track_caller]
    pub(crate) fn await_nodes(&self, state: &str, names: &[&str]) {
        let list = names.join(",");
        let mut last = String::new();
        let so = soon(|| {
            let said = self.sh(&["sinfo", "-h", "-N", "-n", &list, "-o", "%N %T"]);
            let now = String::from_utf8_lossy(&said.stdout).into_owned();
            let all = now.lines().all(|line| line.split(' ').next_back() == Some(state));
            let so = said.status.success() && all && now.lines().count() >= names.len();
            if !now.is_empty() {
                last = now;
            }
            so.then_some(())
        });
        assert!(so.is_some(), "{list} are not {state}: {last}{}", self.logs());
    }

    /// A job that runs until it is told to end.
    #[track_caller]
    pub(crate) fn job(&self, arguments: &[&str]) -> u32 {
        let flags = self.path("jobs");
        let body = format!("until [ -e {flags}/$SLURM_JOB_ID ]; do sleep 0.1; done");
        let output = format!("--output={flags}/%j.out");
        // Without a time of its own a job takes its qos' limit, though its partition's is shorter.
        let fixed = ["sbatch", "--parsable", "-t", "30", &output, "--wrap", &body];
        self.ok(&[&fixed, arguments].concat()).trim().parse().unwrap()
    }

    #[track_caller]
    pub(crate) fn running(&self, id: u32) -> Job {
        until("the job runs", || {
            let jobs = self.commands().jobs().ok()?;
            jobs.into_iter().find(|job| job.id == id && job.state == JobState::Running)
        })
    }

    /// Tells a job to end.
    pub(crate) fn let_end(&self, id: u32) {
        fs::write(self.at().join("jobs").join(id.to_string()), "").unwrap();
    }

    /// Tells a job to end, and waits until it has ended well.
    #[track_caller]
    pub(crate) fn end(&self, id: u32) {
        self.let_end(id);
        // squeue of 24.11 leaves out what has ended.
        let id = id.to_string();
        let how = until("the job ends", || {
            let shown = self.scontrol(&["-o", "show", "job", &id]);
            let state = shown.split_whitespace().find_map(|word| word.strip_prefix("JobState="))?;
            (!["RUNNING", "COMPLETING"].contains(&state)).then(|| state.to_owned())
        });
        assert_eq!(how, "COMPLETED", "job {id}");
    }

    /// How a change of the files is to be brought into force here.
    pub(crate) fn new_nodes_need(&self) -> Action {
        match self.shape {
            Shape::V22_05 => Action::Restart,
            Shape::V24_11 => Action::Reconfigure,
        }
    }
}
