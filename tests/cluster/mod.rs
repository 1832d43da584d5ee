//! Slurm clusters that trueup builds, whole: planned, set up through agents, looked at, disturbed and mended,
//! with real daemons in machines of namespaces.

mod machines;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trueup::model::{CommitId, Digest, Fault, Kind, Name, Observed, Resource, ResourceId};
use trueup::plan::{self, Guards, Input, Known, KnownResource, Plan, Step};
use trueup::port::{Agents, Provider as _, Scope};
use trueup::provider::cluster::{ClusterHost, ClusterProvider, ClusterSetup};
use trueup::spec::{Desired, ParseCache, RepoFile, RepoFiles, Select, load};

use self::machines::Wire;
use crate::support::slurm_lab::{possible, until};

const NEEDS: &[&str] = &[
    "slurmdbd",
    "sacctmgr",
    "mariadbd",
    "mariadb",
    "mariadb-install-db",
    "nft",
    "ip",
    "python3",
    "runuser",
    "hostname",
];
/// Most plans until a cluster is as it should be: a change, its accounts, and what follows from both.
const ROUNDS_MAX: usize = 6;

const HEAD: &str = r#"apiVersion: trueup/v1
kind: Network
metadata: { name: hpc }
spec: { mode: isolated, cidr: 10.9.0.0/24 }
---
apiVersion: trueup/v1
kind: Image
metadata: { name: slurm }
spec: { size: 2GiB, build: { suite: bookworm } }
---
apiVersion: trueup/v1
kind: Cluster
metadata: { name: hpc }
spec:
  type: slurm
  name: lab
  machines: { image: slurm, network: hpc, memory: 4GiB }
  pools:
    - { name: cpu, nodes: [{ name: n1, address: 10.9.0.11 }], cpus: 1, memory: 100MiB }
  partitions: [{ name: batch, pools: [cpu], default: true }]
  parameters:
    ProctrackType: proctrack/linuxproc
    TaskPlugin: task/none
    JobAcctGatherType: jobacct_gather/none
    SlurmdParameters: config_overrides
    SlurmctldTimeout: '5'
"#;
const REPOSITORY: &str = "apiVersion: trueup/v1\nkind: Repository\nmetadata: { name: test }\n\
                          spec: { environments: { lab: { hosts: [here] } } }\n";

/// A cluster's machines, and trueup before them.
struct Site {
    wire: Wire,
    runtime: tokio::runtime::Runtime,
    provider: ClusterProvider,
    id: ResourceId,
    desired: Arc<Desired>,
    known: Known,
    /// Its machines, which are ours.
    machines: BTreeSet<ResourceId>,
    _state: tempfile::TempDir,
}

impl Site {
    /// Machines that are there and nothing more; none where that cannot be had.
    fn new(machines: &[(&str, &str)]) -> Option<Self> {
        if !possible(NEEDS) {
            return None;
        }
        let mut wire = Wire::new();
        for (host, address) in machines {
            wire.add(&format!("hpc-{host}"), host, address);
        }
        let state = tempfile::tempdir().unwrap();
        let setup = ClusterSetup {
            folder: state.path().join("cluster"),
            hosts: BTreeMap::new(),
            usual: ClusterHost::default(),
        };
        let agents = wire.agents() as Arc<dyn Agents>;
        let id: ResourceId = "cluster/hpc".parse().unwrap();
        let environment = Name::new("lab").unwrap();
        let desired = Desired { environment, sync: Default::default(), resources: BTreeMap::new() };
        Some(Self {
            wire,
            runtime: tokio::runtime::Runtime::new().unwrap(),
            provider: ClusterProvider::new(setup).with_agents(agents),
            id,
            desired: Arc::new(desired),
            known: Known::default(),
            machines: BTreeSet::new(),
            _state: state,
        })
    }

    /// Asks for a cluster with these lines; of the rest of the document only what its machines are.
    #[track_caller]
    fn want(&mut self, more: &str) {
        self.want_text(&format!("{HEAD}{more}"));
    }

    /// The same by the whole document.
    #[track_caller]
    fn want_text(&mut self, text: &str) {
        let file = |path: &str, text: &str| {
            RepoFile::new(path, Digest::of(text.as_bytes()).to_string(), text.as_bytes())
        };
        let files = vec![file("trueup.yaml", REPOSITORY), file("environments/lab/x.yaml", text)];
        let select = Select::Host("here".to_owned());
        let loaded = load(&RepoFiles { files }, &select, &mut ParseCache::new());
        let mut desired = loaded.unwrap_or_else(|found| panic!("{found:?}")).desired;
        let machines = desired.resources.keys().filter(|id| id.kind == Kind::VirtualMachine);
        self.machines.extend(machines.cloned());
        desired.resources.retain(|id, _| *id == self.id);
        for wish in desired.resources.values_mut() {
            Arc::make_mut(wish).depends_on.clear();
        }
        self.desired = Arc::new(desired);
    }

    fn scope(&self) -> Scope {
        let claims = self.known.resources.iter();
        let claims = claims.filter_map(|(id, known)| Some((id.clone(), known.claimed.clone()?)));
        Scope {
            desired: Arc::clone(&self.desired),
            known: Arc::new(self.known.resources.keys().chain(&self.machines).cloned().collect()),
            claims: Arc::new(claims.collect()),
            awaited: Arc::new(BTreeSet::new()),
            fresh: false,
        }
    }

    fn look(&self) -> Observed {
        self.runtime.block_on(self.provider.observe(&self.scope())).unwrap()
    }

    /// The same for somebody who waits for what is so now.
    fn look_anew(&self) -> Observed {
        let scope = Scope { fresh: true, ..self.scope() };
        self.runtime.block_on(self.provider.observe(&scope)).unwrap()
    }

    fn plan(&self) -> Plan {
        let observed = self.look();
        let why = observed.unreadable.get(&self.id);
        assert_eq!(why, None, "it can be seen");
        self.plan_of(&observed)
    }

    fn plan_of(&self, observed: &Observed) -> Plan {
        let commit: CommitId = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let input = Input {
            commit: &commit,
            desired: &self.desired,
            observed,
            known: &self.known,
            guards: Guards { prune: true },
            now_minute_of_week: None,
        };
        let plan = plan::plan(&input);
        if let Err(found) = plan::check::check(&plan, &input) {
            panic!("the judge: {found:?}");
        }
        plan
    }

    /// Makes it as it is asked for; the verbs of the steps, plan by plan.
    #[track_caller]
    fn converge(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let plan = self.plan();
            if plan.steps.is_empty() {
                assert!(plan.skipped.is_empty(), "{:?}", plan.skipped);
                return all;
            }
            let verbs: Vec<&str> = plan.steps.iter().map(|step| step.action.verb()).collect();
            println!("{}", verbs.join(" "));
            all.push(verbs.join(" "));
            for step in &plan.steps {
                if let Err(fault) = self.perform(step) {
                    panic!("{}: {fault}", step.action.verb());
                }
                let claimed = self.desired.resources[&self.id].resource.clone();
                self.claim(claimed);
            }
        }
        panic!("it comes to no rest: {all:?}");
    }

    fn perform(&self, step: &Step) -> Result<(), Fault> {
        let scope = self.scope();
        let done = self.provider.perform(step, &scope, Arc::new(|_| {}));
        self.runtime.block_on(done).map(drop)
    }

    fn claim(&mut self, resource: Resource) {
        let known = KnownResource { claimed: Some(resource), ..KnownResource::default() };
        self.known.resources.insert(self.id.clone(), known);
    }

    #[track_caller]
    fn ok(&self, machine: &str, words: &[&str]) -> String {
        self.wire.ok(machine, words)
    }

    /// Submits a job that waits for a file of the node that it is for, from a machine.
    #[track_caller]
    fn job(&self, from: &str, node: &str) -> String {
        let wrap = "until test -e /var/tmp/end; do sleep 0.1; done; echo ended >/var/tmp/ended";
        let argv = ["sbatch", "--parsable", "-w", node, "-o", "/dev/null", "--wrap", wrap];
        let said = self.ok(from, &argv);
        let job = said.trim().to_owned();
        until("the job runs", || (self.state(from, &job) == "RUNNING").then_some(()));
        job
    }

    fn state(&self, from: &str, job: &str) -> String {
        let said = self.wire.sh(from, &["squeue", "-h", "-j", job, "-o", "%T"]);
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }
}

/// Whether a port of a machine is open to another.
fn open(site: &Site, from: &str, address: &str, port: u16) -> bool {
    let script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)";
    let argv = ["python3", "-c", script, address, &port.to_string()];
    let said = site.wire.sh(from, &argv);
    let words = String::from_utf8_lossy(&said.stderr);
    assert!(
        said.status.success() || words.contains("Timeout") || words.contains("timed out"),
        "refused is open: {words}"
    );
    said.status.success()
}

const WHOLE: &str = r#"  controllers: [{ name: ctl, address: 10.9.0.10 }]
  login: [{ name: login, address: 10.9.0.12 }]
  accounting: { host: { name: ctl }, enforce: [associations, limits, qos] }
  qos: [{ name: gold, priority: 10 }]
  accounts: [{ name: research, users: [root], qos: [normal, gold], defaultQos: normal }]
  admins: { root: administrator }
"#;

#[test]
fn a_database_a_login_machine_and_rules_come_to_a_cluster_that_runs_and_are_mended() {
    let machines = [
        ("ctl", "10.9.0.10"),
        ("n1", "10.9.0.11"),
        ("login", "10.9.0.12"),
        // No machine of the cluster, on its network.
        ("other", "10.9.0.99"),
    ];
    let Some(mut site) = Site::new(&machines) else { return };
    // As it may have been before there was any of that.
    site.want(
        "  controllers: [{ name: ctl, address: 10.9.0.10 }]\n  firewall: { enabled: false }\n",
    );
    assert_eq!(site.converge(), ["prepare prove configure join check"]);
    assert!(open(&site, "hpc-other", "10.9.0.10", 6817), "without rules");
    let job = site.job("hpc-ctl", "n1");

    site.want(WHOLE);
    let plans = site.converge();
    assert_eq!(plans[0], "prepare firewall database prove configure copy", "{plans:?}");
    assert!(
        plans[1..].iter().all(|plan| plan.split(' ').all(|verb| verb == "account")),
        "{plans:?}"
    );
    assert_eq!(site.state("hpc-ctl", &job), "RUNNING", "nothing of that is noticed by a job");

    // Jobs come from the login machine, and are accounted.
    assert_eq!(site.state("hpc-login", &job), "RUNNING");
    let refused = site.wire.sh("hpc-login", &["sbatch", "-A", "nobody", "--wrap", "true"]);
    assert!(!refused.status.success(), "an account that there is not");
    site.ok("hpc-n1", &["touch", "/var/tmp/end"]);
    until("the job ends", || site.state("hpc-ctl", &job).is_empty().then_some(()));
    assert_eq!(site.ok("hpc-n1", &["cat", "/var/tmp/ended"]), "ended\n");
    let said = site.ok("hpc-login", &["srun", "-A", "research", "--qos=gold", "hostname"]);
    assert_eq!(said, "n1\n");
    until("it is accounted", || {
        let shown = site.ok("hpc-login", &["sacct", "-nXP", "-A", "research", "-o", "Account,QOS"]);
        shown.contains("research|gold").then_some(())
    });

    // Who is not of the cluster reaches nothing but ssh's port of the login machine.
    for (address, port) in [("10.9.0.10", 6817), ("10.9.0.10", 6819), ("10.9.0.11", 6818)] {
        assert!(!open(&site, "hpc-other", address, port), "{address}:{port}");
        assert!(open(&site, "hpc-login", address, port), "{address}:{port}");
    }

    // There is no secret in slurmdbd's file, which is for it alone; and no way to the database but its own.
    let shown = site.ok("hpc-ctl", &["stat", "-c", "%a %U", "/etc/slurm/slurmdbd.conf"]);
    assert_eq!(shown, "600 slurm\n");
    assert!(!site.ok("hpc-ctl", &["cat", "/etc/slurm/slurmdbd.conf"]).contains("StoragePass"));
    let thief = ["runuser", "-u", "nobody", "--", "mariadb", "-u", "slurm", "-e", "SHOW DATABASES"];
    assert!(!site.wire.sh("hpc-ctl", &thief).status.success());

    // Hands.
    site.ok("hpc-n1", &["nft", "flush", "ruleset"]);
    site.ok(
        "hpc-login",
        &["sed", "-i", "s/^ClusterName=.*/ClusterName=other/", "/etc/slurm/slurm.conf"],
    );
    site.ok("hpc-ctl", &["sh", "-c", "kill $(cat /run/slurmdbd.pid)"]);
    until("slurmdbd is gone", || {
        (!site.wire.sh("hpc-ctl", &["systemctl", "is-active", "slurmdbd"]).status.success())
            .then_some(())
    });
    assert_eq!(site.converge(), ["firewall database copy"]);
    assert!(!open(&site, "hpc-other", "10.9.0.11", 6818));

    // A database that runs and does not answer makes the cluster one that cannot be seen whole, as soon as it is
    // asked.
    site.ok("hpc-ctl", &["sh", "-c", "kill -STOP $(cat /run/slurmdbd.pid)"]);
    assert!(site.look().unreadable.is_empty(), "it answered a moment ago");
    for seen in [site.look_anew(), site.look()] {
        let why = seen.unreadable.get(&site.id);
        assert!(why.is_some_and(|why| why.starts_with("its accounting: ")), "{why:?}");
    }
    site.ok("hpc-ctl", &["sh", "-c", "kill -CONT $(cat /run/slurmdbd.pid)"]);

    // And rules are taken away again where nobody wants them.
    site.want(&format!("{WHOLE}  firewall: {{ enabled: false }}\n"));
    assert_eq!(site.converge(), ["firewall"]);
    assert!(open(&site, "hpc-other", "10.9.0.10", 6817));
}

#[test]
fn a_node_that_leaves_can_tell_that_its_job_has_ended() {
    let machines = [("ctl", "10.9.0.10"), ("n1", "10.9.0.11"), ("n2", "10.9.0.12")];
    let Some(mut site) = Site::new(&machines) else { return };
    let one = format!("{HEAD}  controllers: [{{ name: ctl, address: 10.9.0.10 }}]\n");
    site.want_text(&one.replace("{ name: n1,", "{ name: 'n[1-2]',"));
    assert_eq!(site.converge(), ["prepare firewall prove configure join join check check"]);
    let job = site.job("hpc-ctl", "n2");

    site.want_text(&one);
    let plan = site.plan();
    let verbs: Vec<&str> = plan.steps.iter().map(|step| step.action.verb()).collect();
    assert_eq!(verbs.join(" "), "prove drain wait configure firewall");
    for step in &plan.steps {
        if step.action.verb() == "wait" {
            assert_eq!(site.state("hpc-ctl", &job), "RUNNING");
            site.ok("hpc-n2", &["touch", "/var/tmp/end"]);
            until("the job's end is told", || site.state("hpc-ctl", &job).is_empty().then_some(()));
        }
        assert!(
            open(&site, "hpc-n2", "10.9.0.10", 6817) && open(&site, "hpc-n2", "10.9.0.11", 6818),
            "before {}",
            step.action.verb()
        );
        site.perform(step).unwrap();
    }
    let claimed = site.desired.resources[&site.id].resource.clone();
    site.claim(claimed);
    assert_eq!(site.converge(), [""; 0]);
    assert!(!open(&site, "hpc-n2", "10.9.0.10", 6817) && !open(&site, "hpc-n2", "10.9.0.11", 6818));
    assert_eq!(site.ok("hpc-ctl", &["srun", "hostname"]), "n1\n");
}

#[test]
fn a_backup_controller_goes_on_with_the_jobs_of_the_first_one() {
    let machines = [("ctl", "10.9.0.10"), ("ctl2", "10.9.0.13"), ("n1", "10.9.0.11")];
    let Some(mut site) = Site::new(&machines) else { return };
    let two =
        "  controllers: [{ name: ctl, address: 10.9.0.10 }, { name: ctl2, address: 10.9.0.13 }]\n";
    let folder = |folder: &str| format!("{two}  stateFolder: {folder}\n");

    // A folder that each has for itself is refused before anything starts.
    site.want(&folder("/var/lib/slurm/checkpoint"));
    let plan = site.plan();
    let fault = site.perform(&plan.steps[0]).unwrap_err().to_string();
    assert!(fault.contains("hpc-ctl2 does not see in `stateFolder`"), "{fault}");
    assert!(!site.wire.sh("hpc-ctl", &["test", "-e", "/etc/slurm/slurm.conf"]).status.success());

    site.want(&folder("/mnt/state"));
    assert_eq!(site.converge(), ["prepare firewall prove configure copy join check"]);
    let job = site.job("hpc-ctl", "n1");
    let up = |which: &str| {
        let said = site.wire.sh("hpc-ctl2", &["scontrol", "ping"]);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        said.lines().any(|line| line.contains(which) && line.contains("is UP"))
    };
    until("both are up", || (up("primary") && up("backup")).then_some(()));

    // The first one's machine is gone, with its controller: the other takes over.
    site.wire.answers("hpc-ctl", false);
    site.ok("hpc-ctl", &["sh", "-c", "kill -KILL $(cat /run/slurmctld.pid); nft flush ruleset"]);
    site.ok("hpc-ctl", &["ip", "link", "set", "eth0", "down"]);
    until("the backup knows the job", || (site.state("hpc-ctl2", &job) == "RUNNING").then_some(()));
    let observed = until("it is seen by what the backup says", || {
        let observed = site.look();
        observed.resources.contains_key(&site.id).then_some(observed)
    });
    let plan = site.plan_of(&observed);
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    let said = site.ok("hpc-ctl2", &["srun", "--overlap", "--jobid", &job, "hostname"]);
    assert_eq!(said, "n1\n");

    // It comes back, and has what happened meanwhile.
    site.ok("hpc-n1", &["touch", "/var/tmp/end"]);
    until("the job ends", || site.state("hpc-ctl2", &job).is_empty().then_some(()));
    site.ok("hpc-ctl", &["ip", "link", "set", "eth0", "up"]);
    site.ok("hpc-ctl", &["systemctl", "restart", "slurmctld"]);
    site.wire.answers("hpc-ctl", true);
    until("it is the first one's again", || up("primary").then_some(()));
    assert_eq!(site.converge(), ["firewall"], "its rules were gone with it");
    let next = site.ok("hpc-ctl", &["sbatch", "--parsable", "-o", "/dev/null", "--wrap", "true"]);
    assert!(next.trim().parse::<u32>().unwrap() > job.parse().unwrap());
}
