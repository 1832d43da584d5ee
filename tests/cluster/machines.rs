//! Machines of namespaces: each with a host name, an address, processes and files of its own, on the programs
//! of this host, and with an agent that speaks the protocol of QEMU's. What a guest takes minutes for is
//! there in a moment; what only a kernel of its own shows is not (`make demo-cluster` boots some).

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use trueup::port::{AgentFault, Agents, BoxFuture};

/// What stands for systemd.
const SYSTEMCTL: &str = include_str!("systemctl");
/// Folders that each machine has for itself, over those of this host.
const OWN: &[&str] = &["etc", "var", "run", "usr/local"];

/// The wire that they are on.
pub(super) struct Wire {
    switch: Child,
    folder: tempfile::TempDir,
    machines: BTreeMap<String, Arc<Machine>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Machine {
    init: Child,
    /// Whether its agent answers.
    answers: Mutex<bool>,
}

/// What was started by agents, and the files that are open.
#[derive(Debug, Default)]
struct Work {
    started: Vec<(String, i64, Child, PathBuf)>,
    open: BTreeMap<i64, fs::File>,
}

/// Their agents.
#[derive(Debug)]
pub(super) struct Local {
    machines: BTreeMap<String, Arc<Machine>>,
    folder: PathBuf,
    work: Mutex<Work>,
}

fn alone(words: &[&str], script: &str) -> Child {
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net", "--kill-child", "--fork"])
        .args(words)
        .args(["--", "sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "{script}");
    child
}

#[track_caller]
pub(super) fn ok(mut command: Command) -> String {
    let said = command.output().unwrap();
    let words = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{command:?}: {}: {words}", said.status);
    String::from_utf8(said.stdout).unwrap()
}

/// The first process in the namespaces that a child made, as long as it is there.
fn first_of(child: &Child) -> Option<i32> {
    let id = child.id();
    let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    list.split_whitespace().next()?.parse().ok()
}

fn first(child: &Child) -> i32 {
    first_of(child).unwrap()
}

impl Wire {
    pub(super) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("cluster-").tempdir_in("/tmp").unwrap();
        let script = "ip link add br0 type bridge && ip link set br0 up && ip link set lo up && \
                      echo ready && exec sleep 100000";
        Self { switch: alone(&[], script), folder, machines: BTreeMap::new() }
    }

    pub(super) fn at(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a machine on it. `name` is what libvirt would call it, `host` what it calls itself.
    pub(super) fn add(&mut self, name: &str, host: &str, address: &str) {
        let own = self.at().join(name);
        for folder in OWN {
            let flat = folder.replace('/', "-");
            fs::create_dir_all(own.join(&flat).join("upper")).unwrap();
            fs::create_dir_all(own.join(&flat).join("work")).unwrap();
        }
        let local = own.join("usr-local/upper/sbin");
        fs::create_dir_all(&local).unwrap();
        fs::write(local.join("systemctl"), SYSTEMCTL).unwrap();
        // What is this host's is nobody's to look at or to write to.
        fs::write(local.join("lsblk"), "#!/bin/sh\nexit 1\n").unwrap();
        fs::write(local.join("mkfs.ext4"), "#!/bin/sh\nexit 1\n").unwrap();
        for program in ["systemctl", "lsblk", "mkfs.ext4"] {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(local.join(program), mode).unwrap();
        }
        let shared = self.at().join("shared");
        fs::create_dir_all(&shared).unwrap();
        let mut script = format!(
            "set -e; hostname {host}; mkdir -p /mnt; mount -t tmpfs none /mnt; \
             mkdir /mnt/state; mount --bind {} /mnt/state; chown slurm:slurm /mnt/state; ",
            shared.display()
        );
        for folder in OWN {
            let of = own.join(folder.replace('/', "-"));
            script.push_str(&format!(
                "mount -t overlay none -o lowerdir=/{folder},upperdir={of}/upper,workdir={of}/work \
                 /{folder}; ",
                of = of.display()
            ));
        }
        // Nothing of this host's own cluster, and what its packages of a server would have made.
        script.push_str(&format!("echo '{address} {host}' >>/etc/hosts; "));
        script.push_str(
            "rm -rf /etc/slurm /etc/munge/munge.key /run/munge /run/slurm* /run/mysqld \
             /var/lib/mysql; mkdir -p /etc/slurm /etc/systemd/system /etc/mysql/mariadb.conf.d \
             /var/lib/mysql; id mysql >/dev/null 2>&1 || { \
             echo 'mysql:x:990:' >>/etc/group; \
             echo 'mysql:x:990:990::/nonexistent:/bin/false' >>/etc/passwd; }; \
             chown mysql /var/lib/mysql; chown munge:munge /etc/munge; ip link set lo up; \
             echo ready; while :; do sleep 1000 & wait; done",
        );
        let words =
            ["--mount", "--uts", "--ipc", "--pid", "--mount-proc", "--propagation", "private"];
        let init = alone(&words, &script);
        let inside = first(&init);
        let switch = first(&self.switch);
        let end = format!("e{}", self.machines.len());
        let net = |pid: i32| format!("--net=/proc/{pid}/ns/net");
        let run = |pid: i32, words: &[&str]| {
            let mut command = Command::new("nsenter");
            command.arg(net(pid)).arg("--").args(words);
            ok(command);
        };
        run(
            inside,
            &[
                "ip",
                "link",
                "add",
                "eth0",
                "type",
                "veth",
                "peer",
                &end,
                "netns",
                &switch.to_string(),
            ],
        );
        run(switch, &["ip", "link", "set", &end, "master", "br0", "up"]);
        run(inside, &["ip", "address", "add", &format!("{address}/24"), "dev", "eth0"]);
        run(inside, &["ip", "link", "set", "eth0", "up"]);
        let machine = Machine { init, answers: Mutex::new(true) };
        self.machines.insert(name.to_owned(), Arc::new(machine));
    }

    /// Their agents.
    pub(super) fn agents(&self) -> Arc<Local> {
        Arc::new(Local {
            machines: self.machines.clone(),
            folder: self.at().to_owned(),
            work: Mutex::default(),
        })
    }

    /// Runs a program in one of them.
    pub(super) fn sh(&self, name: &str, words: &[&str]) -> Output {
        self.machines[name].command(words).output().unwrap()
    }

    /// The same; it has to succeed.
    #[track_caller]
    pub(super) fn ok(&self, name: &str, words: &[&str]) -> String {
        ok(self.machines[name].command(words))
    }

    /// Whether the agent of one answers.
    pub(super) fn answers(&self, name: &str, yes: bool) {
        *self.machines[name].answers.lock().unwrap_or_else(PoisonError::into_inner) = yes;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        for machine in self.machines.values() {
            if let Some(pid) = first_of(&machine.init).and_then(Pid::from_raw) {
                // It may have ended by itself.
                kill_process(pid, Signal::KILL).unwrap_or_default();
            }
        }
        drop(self.switch.kill());
        drop(self.switch.wait());
        for machine in self.machines.values() {
            // It ends with its first process.
            let path = format!("/proc/{}", machine.init.id());
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            while std::time::Instant::now() < deadline
                && fs::read_to_string(format!("{path}/stat"))
                    .is_ok_and(|text| !text.contains(") Z"))
            {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Machine {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(first(&self.init).to_string());
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--"]).args(words);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null());
        command
    }

    fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", first(&self.init)))
    }
}

impl Local {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, name: &str, command: &str) -> Result<Value, AgentFault> {
        let machine =
            self.machines.get(name).ok_or_else(|| AgentFault::NoMachine(name.to_owned()))?;
        if !*machine.answers.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(AgentFault::Silent(name.to_owned()));
        }
        let asked: Value = serde_json::from_str(command).unwrap();
        let of = &asked["arguments"];
        let refused = |error: std::io::Error| AgentFault::Refused(error.to_string());
        match asked["execute"].as_str().unwrap() {
            "guest-ping" => Ok(json!({})),
            "guest-exec" => Ok(json!({ "pid": self.start(name, machine, of) })),
            "guest-exec-status" => Ok(self.status(name, of["pid"].as_i64().unwrap())),
            "guest-file-open" => {
                let path = machine.file(of["path"].as_str().unwrap());
                let writes = of["mode"] == "w";
                let mut options = fs::OpenOptions::new();
                let options = options.read(!writes).write(writes).create(writes).truncate(writes);
                let file = options.open(path).map_err(refused)?;
                let mut work = self.work();
                let handle = work.open.keys().last().map_or(1000, |last| last + 1);
                work.open.insert(handle, file);
                Ok(json!(handle))
            }
            "guest-file-read" => {
                let mut work = self.work();
                let file = work.open.get_mut(&of["handle"].as_i64().unwrap()).unwrap();
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(refused)?;
                Ok(json!({ "count": bytes.len(), "buf-b64": BASE64.encode(bytes), "eof": true }))
            }
            "guest-file-write" => {
                let mut work = self.work();
                let file = work.open.get_mut(&of["handle"].as_i64().unwrap()).unwrap();
                let bytes = BASE64.decode(of["buf-b64"].as_str().unwrap()).unwrap();
                file.write_all(&bytes).map_err(refused)?;
                Ok(json!({ "count": bytes.len(), "eof": false }))
            }
            "guest-file-close" => {
                self.work().open.remove(&of["handle"].as_i64().unwrap());
                Ok(json!({}))
            }
            other => panic!("{other}"),
        }
    }

    /// Starts a program; its number is the one that it has in the machine.
    fn start(&self, name: &str, machine: &Machine, of: &Value) -> i64 {
        let words = of["arg"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
        let words: Vec<&str> = [of["path"].as_str().unwrap()].into_iter().chain(words).collect();
        let mut work = self.work();
        let out = self.folder.join(format!("said-{}", work.started.len()));
        let argv = [&["sh", "-c", "echo $$; exec \"$@\"", "agent"][..], &words].concat();
        let mut command = machine.command(&argv);
        for entry in of["env"].as_array().unwrap() {
            let (key, value) = entry.as_str().unwrap().split_once('=').unwrap();
            command.env(key, value);
        }
        // The number comes first, and what is said after it.
        let say = |ending: &str| fs::File::create(out.with_extension(ending)).unwrap();
        command.stdout(say("out")).stderr(say("err"));
        let child = command.spawn().unwrap();
        let pid = number_of(&out.with_extension("out"));
        work.started.push((name.to_owned(), pid, child, out));
        pid
    }

    fn status(&self, name: &str, pid: i64) -> Value {
        let mut work = self.work();
        let at = work.started.iter().rposition(|(of, own, ..)| of == name && *own == pid).unwrap();
        let (_, _, child, out) = &mut work.started[at];
        let Some(ended) = child.try_wait().unwrap() else { return json!({ "exited": false }) };
        let read = |ending: &str| fs::read(out.with_extension(ending)).unwrap();
        let said = read("out");
        let first = said.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        json!({
            "exited": true, "exitcode": ended.code().unwrap_or(255),
            "out-data": BASE64.encode(&said[first..]), "err-data": BASE64.encode(read("err")),
        })
    }
}

fn number_of(path: &Path) -> i64 {
    loop {
        let said = fs::read_to_string(path).unwrap_or_default();
        if let Some((number, _)) = said.split_once('\n') {
            return number.parse().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Agents for Local {
    fn ask<'a>(
        &'a self,
        machine: &'a str,
        command: String,
        _limit: Duration,
    ) -> BoxFuture<'a, Result<String, AgentFault>> {
        let answer = self.answer(machine, &command);
        Box::pin(std::future::ready(answer.map(|value| json!({ "return": value }).to_string())))
    }
}
