//! A Slurm of one test: several nodes on this machine, on ports of their own.
//!
//! Everything runs in a process namespace whose first process dies with the test's thread, and takes
//! the daemons, the jobs and what they started along.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use trueup_slurm::conf::Conf;
use trueup_slurm::observe::{Commands, Job, JobState, Observed, Observer};
use trueup_slurm::plan::config::{self, Action, ConfigPlan};
use trueup_slurm::run::Argv;
use trueup_slurm::wish::{Cluster, Gres, Hooks, Host, Partition, Pool};
use trueup_slurm::{Control, Live, Proof, Prover, Shape, Switched, plan, render, switch};

/// Longest that anything here may take, on a machine with everything else going on.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at something that tells nobody when it is ready.
const PAUSE: Duration = Duration::from_millis(30);

const PROGRAMS: &[&str] =
    &["slurmctld", "slurmd", "scontrol", "sbatch", "munged", "setpriv", "unshare", "nsenter"];

/// A running cluster.
pub(crate) struct Lab {
    folder: tempfile::TempDir,
    init: Child,
    /// Daemons that are not in its namespace.
    outside: Vec<Child>,
    pub(crate) shape: Shape,
    pub(crate) wish: Cluster,
    /// Ports for nodes that come later.
    spare: Vec<u16>,
}

/// Looks until there is an answer.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        std::thread::sleep(PAUSE);
    }
}

fn missing(programs: &[&str]) -> Vec<String> {
    let there = |program: &&&str| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(program).exists())
    };
    programs.iter().filter(|program| !there(program)).map(|one| (*one).to_owned()).collect()
}

/// Whether a cluster can be had here; says why not.
pub(crate) fn possible(more: &[&str]) -> bool {
    let missing: Vec<String> = missing(PROGRAMS).into_iter().chain(missing(more)).collect();
    if !missing.is_empty() {
        eprintln!("skipped: {} is not installed", missing.join(", "));
    } else if !rustix::process::getuid().is_root() {
        eprintln!("skipped: needs root for a process namespace");
    } else {
        return true;
    }
    false
}

/// Ports that nobody has now.
fn ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|one| one.local_addr().unwrap().port())
}

pub(crate) fn host(name: &str, port: u16) -> Host {
    Host { name: name.into(), address: Some("127.0.0.1".into()), port: Some(port) }
}

pub(crate) fn queue(name: &str, pools: &[&str]) -> Partition {
    Partition {
        name: name.into(),
        pools: pools.iter().map(|one| (*one).to_owned()).collect(),
        default: false,
        max_minutes: None,
        default_minutes: None,
        priority_tier: 1,
        accounts: BTreeSet::new(),
        qos: BTreeSet::new(),
        up: true,
    }
}

/// Two plain nodes, and two with a GPU each.
fn wish(at: &Path, ports: &[u16]) -> Cluster {
    let pool = |name: &str, nodes: Vec<Host>, gres: Vec<Gres>| Pool {
        name: name.into(),
        nodes,
        cpus: 4,
        topology: None,
        memory_mib: 2000,
        gres,
        features: BTreeSet::new(),
        weight: 1,
    };
    let gpu = Gres {
        name: "gpu".into(),
        kind: Some("a100".into()),
        count: 2,
        devices: [0, 1].map(|n| vec![format!("{}/dev/nvidia{n}", at.display())]).into(),
    };
    let path = |name: &str| format!("{}/{name}", at.display());
    let parameters = [
        ("AuthInfo", format!("socket={}", path("munge/socket"))),
        ("JobAcctGatherType", "jobacct_gather/none".to_owned()),
        ("ProctrackType", "proctrack/linuxproc".to_owned()),
        ("ReturnToService", "2".to_owned()),
        ("SlurmUser", "root".to_owned()),
        ("SlurmctldLogFile", path("log/slurmctld")),
        ("SlurmctldPidFile", path("run/slurmctld.pid")),
        ("SlurmctldPort", ports[0].to_string()),
        ("SlurmdLogFile", path("log/%n")),
        // A machine of two cores has nodes of four here.
        ("SlurmdParameters", "config_overrides".to_owned()),
        ("SlurmdPidFile", path("run/%n.pid")),
        ("SlurmdSpoolDir", path("spool/%n")),
        ("StateSaveLocation", path("state")),
        ("TaskPlugin", "task/none".to_owned()),
    ];
    Cluster {
        name: "lab".into(),
        controllers: vec![Host { port: None, ..host("localhost", 0) }],
        login: vec![],
        accounting: None,
        pools: vec![
            pool("cpu", vec![host("n1", ports[1]), host("n2", ports[2])], vec![]),
            pool("gpu", vec![host("g1", ports[3]), host("g2", ports[4])], vec![gpu]),
        ],
        partitions: vec![
            Partition { default: true, ..queue("batch", &["cpu"]) },
            Partition { max_minutes: Some(60), ..queue("gpu", &["gpu"]) },
        ],
        accounts: vec![],
        qos: vec![],
        hooks: Hooks::default(),
        parameters: parameters.map(|(key, value)| (key.to_owned(), value)).into(),
        lines: vec![],
    }
}

impl Lab {
    /// A cluster that runs, with every node idle; none where it cannot be had.
    pub(crate) fn start() -> Option<Self> {
        let lab = Self::prepare(&[])?;
        lab.controller_up();
        for name in ["n1", "n2", "g1", "g2"] {
            lab.daemon(name);
        }
        lab.await_nodes("idle", &["n1", "n2", "g1", "g2"]);
        Some(lab)
    }

    /// Its files and munge, and nothing else yet.
    pub(crate) fn prepare(more: &[&str]) -> Option<Self> {
        if !possible(more) {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("slurm-lab-").tempdir_in("/tmp").unwrap();
        let at = folder.path();
        for sub in ["", "munge", "state", "spool", "run", "log", "dev", "etc", "jobs", "work"] {
            fs::create_dir_all(at.join(sub)).unwrap();
            fs::set_permissions(at.join(sub), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let init = init();
        let ports = ports::<8>();
        let lab = Self {
            shape: release(),
            wish: wish(at, &ports),
            spare: ports[5..].to_vec(),
            init,
            outside: Vec::new(),
            folder,
        };
        for n in ["0", "1"] {
            let node = lab.path(&format!("dev/nvidia{n}"));
            lab.ok(&["mknod", &node, "c", "195", n]);
        }
        lab.munge("munge", "one key for all daemons of this lab, long enough for munge");
        lab.write_restart();
        lab.write_files(&lab.wish);
        Some(lab)
    }

    pub(crate) fn at(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.at().join(name).display().to_string()
    }

    pub(crate) fn spare_port(&mut self) -> u16 {
        self.spare.pop().unwrap()
    }

    /// A program among the daemons.
    fn inside(&self, argv: &[&str]) -> Command {
        let of = |which: &str| format!("/proc/{}/ns/{which}", self.init.id());
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount={}", of("mnt")));
        command.arg(format!("--pid={}", of("pid_for_children")));
        command.arg("--").args(argv).env("SLURM_CONF", self.live().folder.join("slurm.conf"));
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program among the daemons to its end.
    pub(crate) fn sh(&self, argv: &[&str]) -> Output {
        self.inside(argv).output().unwrap()
    }

    /// The same, and its answer; it has to succeed.
    #[track_caller]
    pub(crate) fn ok(&self, argv: &[&str]) -> String {
        let said = self.sh(argv);
        let words = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "{argv:?}: {}: {words}", said.status);
        String::from_utf8(said.stdout).unwrap()
    }

    /// Starts a daemon that puts itself into the background.
    #[track_caller]
    pub(crate) fn background(&self, argv: &[&str], more: &[(&str, &str)]) {
        let mut command = self.inside(argv);
        // Nothing of ours is held open by what stays.
        command.stdout(Stdio::null()).stderr(Stdio::null()).envs(more.iter().copied());
        let status = command.status().unwrap();
        assert!(status.success(), "{argv:?}: {status}: {}", self.logs());
    }

    /// The last words of every daemon.
    pub(crate) fn logs(&self) -> String {
        let mut all = String::new();
        for entry in fs::read_dir(self.at().join("log")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let last: Vec<&str> = text.lines().rev().take(15).collect();
            all.push_str(&format!("\n== {}\n", path.display()));
            for line in last.into_iter().rev() {
                all.push_str(line);
                all.push('\n');
            }
        }
        all
    }

    /// munge with a key, in a folder of its own.
    fn munge(&self, folder: &str, key: &str) {
        let path = |name: &str| self.path(&format!("{folder}/{name}"));
        fs::create_dir_all(path("")).unwrap();
        fs::set_permissions(path(""), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(path("key"), key).unwrap();
        fs::set_permissions(path("key"), fs::Permissions::from_mode(0o400)).unwrap();
        let options = [
            format!("--key-file={}", path("key")),
            format!("--socket={}", path("socket")),
            format!("--pid-file={}", path("pid")),
            format!("--log-file={}", path("log")),
            format!("--seed-file={}", path("seed")),
        ];
        let mut argv = vec!["munged"];
        argv.extend(options.iter().map(String::as_str));
        self.background(&argv, &[]);
    }

    /// The programs of a machine that has another munge key than the cluster.
    pub(crate) fn foreigner(&self) -> Commands {
        self.munge("foreign", "another key than that of the lab, long enough too");
        let conf = self.at().join("foreign/slurm.conf");
        let text = self.live_text();
        let (own, other) = (self.path("munge/socket"), self.path("foreign/socket"));
        fs::write(&conf, text.replace(&own, &other)).unwrap();
        Commands { conf: Some(conf), ..self.commands() }
    }

    /// Ends a daemon by its file, and waits until it is gone.
    pub(crate) fn stop(&self, pid_file: &str) {
        let script = "pid=$(cat \"$1\") || exit 0; kill $2 \"$pid\" || exit 0; \
                      while kill -0 \"$pid\" 2>/dev/null; do sleep 0.02; done";
        self.ok(&["sh", "-c", script, "stop", &self.path(pid_file), "-TERM"]);
    }

    /// Ends the controller without a farewell.
    pub(crate) fn kill_controller(&self) {
        let script = "pid=$(cat \"$1\"); kill -KILL \"$pid\"; \
                      while kill -0 \"$pid\" 2>/dev/null; do sleep 0.02; done";
        self.ok(&["sh", "-c", script, "kill", &self.path("run/slurmctld.pid")]);
    }

    /// Waits until the controller has saved what happened until now; it does so every few seconds.
    #[track_caller]
    pub(crate) fn await_saved(&self, job: u32) {
        let now = SystemTime::now();
        // A change of each kind, so that there is something to save.
        self.scontrol(&["update", &format!("JobId={job}"), "Comment=saved"]);
        self.scontrol(&["update", "NodeName=n1", "Comment=saved"]);
        for name in ["job_state", "node_state"] {
            let file = self.at().join("state").join(name);
            until("the state is saved", || {
                let saved = fs::metadata(&file).ok()?.modified().ok()?;
                (saved > now).then_some(())
            });
        }
    }

    /// What stands for a service's restart: it stops the controller, starts it, and knows no more.
    fn write_restart(&self) {
        let script = format!(
            "#!/bin/sh\nif pid=$(cat {0} 2>/dev/null) && kill \"$pid\" 2>/dev/null; then\n\
             \twhile kill -0 \"$pid\" 2>/dev/null; do sleep 0.02; done\nfi\n\
             echo start >>{1}\nexec slurmctld -f {2} >/dev/null 2>{3}\n",
            self.path("run/slurmctld.pid"),
            self.path("log/starts"),
            self.path("etc/slurm.conf"),
            self.path("log/slurmctld.stderr"),
        );
        self.script("restart", &script);
    }

    /// Puts a program into the lab's folder.
    pub(crate) fn script(&self, name: &str, text: &str) {
        let file = self.at().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The argument vector that runs a program among the daemons.
    pub(crate) fn among(&self, argv: &[&str]) -> Vec<String> {
        let of = |which: &str| format!("/proc/{}/ns/{which}", self.init.id());
        let (mount, pid) = (of("mnt"), of("pid_for_children"));
        let head = ["nsenter".to_owned(), format!("--mount={mount}"), format!("--pid={pid}")];
        let rest = argv.iter().map(|word| (*word).to_owned());
        head.into_iter().chain(["--".to_owned()]).chain(rest).collect()
    }

    /// How often the controller was started.
    pub(crate) fn starts(&self) -> usize {
        fs::read_to_string(self.at().join("log/starts")).unwrap_or_default().lines().count()
    }

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
        Live { folder: self.at().join("etc") }
    }

    pub(crate) fn live_text(&self) -> String {
        fs::read_to_string(self.live().folder.join("slurm.conf")).unwrap()
    }

    pub(crate) fn live_conf(&self) -> Conf {
        Conf::parse(&self.live_text()).unwrap()
    }

    pub(crate) fn controller_up(&self) {
        self.ok(&[&self.path("restart")]);
        let commands = self.commands();
        until("the controller answers", || commands.ping().ok());
    }

    /// Starts a node's daemon.
    pub(crate) fn daemon(&self, name: &str) {
        fs::create_dir_all(self.at().join("spool").join(name)).unwrap();
        let conf = self.path("etc/slurm.conf");
        self.background(&["slurmd", "-N", name, "-f", &conf], &[]);
    }

    /// slurmrestd on a socket, as nobody: it refuses to run as root, and who looks needs no rights. It
    /// runs outside, because it answers nobody of another process namespace.
    pub(crate) fn rest(&mut self, socket: &Path) {
        let (listen, conf) = (format!("unix:{}", socket.display()), self.path("etc/slurm.conf"));
        let api = match self.shape {
            Shape::V22_05 => "openapi/v0.0.38",
            Shape::V24_11 => "openapi/slurmctld",
        };
        let child = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "slurmrestd", "-f", &conf])
            .args(["-a", "rest_auth/local", "-s", api, &listen])
            .env("SLURM_CONF", &conf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.outside.push(child);
        until("slurmrestd listens", || UnixStream::connect(socket).ok());
    }

    pub(crate) fn restart_daemon(&self, name: &str) {
        self.stop(&format!("run/{name}.pid"));
        self.daemon(name);
    }

    pub(crate) fn commands(&self) -> Commands {
        Commands { folder: None, conf: Some(self.live().folder.join("slurm.conf")), limit: LIMIT }
    }

    pub(crate) fn control(&self) -> Control {
        let words = self.among(&[&self.path("restart")]);
        let restart = Argv::new(&words[0]).args(&words[1..]);
        Control::new(self.commands(), restart, Duration::from_secs(20))
    }

    pub(crate) fn prover(&self) -> Prover {
        Prover { bin: None, slurmctld: PathBuf::from("slurmctld"), limit: Duration::from_secs(20) }
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
        let names = names.join(",");
        let mut last = String::new();
        let deadline = Instant::now() + LIMIT;
        loop {
            let said = self.sh(&["sinfo", "-h", "-N", "-n", &names, "-o", "%N %T"]);
            let now = String::from_utf8_lossy(&said.stdout).into_owned();
            let all = now.lines().all(|line| line.split(' ').next_back() == Some(state));
            if said.status.success() && all && now.lines().count() >= names.split(',').count() {
                return;
            }
            last = if now.is_empty() { last } else { now };
            assert!(Instant::now() < deadline, "{names} are not {state}: {last}{}", self.logs());
            std::thread::sleep(PAUSE);
        }
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

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.outside {
            drop(child.kill());
            drop(child.wait());
        }
        // With its first process goes everything inside, and `unshare` waits for that, so that the
        // folder can be removed afterwards.
        let id = self.init.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let first = children.ok().and_then(|list| list.trim().parse().ok()).and_then(Pid::from_raw);
        match first {
            Some(first) => drop(kill_process(first, Signal::KILL)),
            None => drop(self.init.kill()),
        }
        drop(self.init.wait());
    }
}

fn release() -> Shape {
    let said = Command::new("slurmctld").arg("-V").output().unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    let release: trueup_slurm::Release = text.parse().unwrap();
    release.shape().unwrap_or_else(|| panic!("Slurm {release} is not known here"))
}

/// The first process of a namespace: it collects the dead, and dies with this thread.
fn init() -> Child {
    let private = ["--mount", "--propagation", "private", "true"];
    let private = Command::new("unshare").args(private).stderr(Stdio::null()).status();
    // It cannot be changed where / is no mount point, as in a plain chroot.
    let propagation = if private.unwrap().success() { "private" } else { "unchanged" };
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"])
        .args(["--propagation", propagation, "--mount-proc"])
        .args(["sh", "-c", "echo ready; while :; do sleep 1000 & wait; done"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "a process namespace");
    child
}
