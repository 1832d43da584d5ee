//! A Slurm of one test: several nodes on this machine, on ports of their own.
//!
//! Everything runs in a process namespace whose first process dies with the test's thread, and takes
//! the daemons, the jobs and what they started along.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use trueup_slurm::Shape;
use trueup_slurm::wish::{Cluster, Gres, Hooks, Host, Partition, Pool};

// Named whole: this file is part of other test binaries, too.
#[path = "lab/daemons.rs"]
mod daemons;
#[path = "lab/database.rs"]
pub(crate) mod database;
#[path = "lab/hands.rs"]
mod hands;

/// Longest that anything here may take, on a machine with everything else going on.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at something that tells nobody when it is ready.
const PAUSE: Duration = Duration::from_millis(30);

/// What daemons of one cluster share.
pub(crate) const KEY: &str = "one key for all daemons of this lab, long enough for munge";

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
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    soon(look).unwrap_or_else(|| panic!("{what}: not within {LIMIT:?}"))
}

/// Looks until there is an answer, or the limit is over.
pub(crate) fn soon<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Programs that are not here.
pub(crate) fn missing(programs: &[&str]) -> Vec<String> {
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
        groups: BTreeSet::new(),
        up: true,
        parameters: BTreeMap::new(),
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
        parameters: BTreeMap::new(),
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
        admins: BTreeMap::new(),
        hooks: Hooks::default(),
        parameters: parameters.map(|(key, value)| (key.to_owned(), value)).into(),
        lines: vec![],
        gres_lines: vec![],
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
        lab.munge("munge", KEY, &[]);
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
        let words = self.among(argv);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("SLURM_CONF", self.live().folder.join("slurm.conf"));
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
