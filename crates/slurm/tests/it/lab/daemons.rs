//! The daemons of a lab: started, ended, killed, and those that are not as they should be.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use trueup_slurm::Shape;
use trueup_slurm::observe::Commands;

use super::{Lab, until};

impl Lab {
    /// munge with a key, in a folder of its own, started by the words of `under`.
    pub(super) fn munge(&self, folder: &str, key: &str, under: &[&str]) {
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
        let mut argv = [under, &["munged"]].concat();
        argv.extend(options.iter().map(String::as_str));
        self.background(&argv, &[]);
    }

    /// A machine that speaks to the cluster through a munge of its own, with another key or another
    /// clock: its `slurm.conf`, in a folder of its own.
    pub(crate) fn machine(&self, folder: &str, key: &str, under: &[&str]) -> PathBuf {
        self.munge(folder, key, under);
        let (own, other) = (self.path("munge/socket"), self.path(&format!("{folder}/socket")));
        for (name, text) in self.files(&self.wish) {
            fs::write(self.at().join(folder).join(name), text.replace(&own, &other)).unwrap();
        }
        self.at().join(folder).join("slurm.conf")
    }

    /// The programs of a machine that has another munge key than the cluster.
    pub(crate) fn foreigner(&self) -> Commands {
        let key = "another key than that of the lab, long enough too";
        Commands { conf: Some(self.machine("foreign", key, &[])), ..self.commands() }
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
    pub(super) fn write_restart(&self) {
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

    /// How often the controller was started.
    pub(crate) fn starts(&self) -> usize {
        fs::read_to_string(self.at().join("log/starts")).unwrap_or_default().lines().count()
    }

    pub(crate) fn controller_up(&self) {
        self.ok(&[&self.path("restart")]);
        until("the controller answers", || {
            self.sh(&["scontrol", "ping"]).status.success().then_some(())
        });
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
        // One that was killed leaves its socket behind, and the next one does not take it.
        drop(fs::remove_file(socket));
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

    /// Ends the slurmrestd that was started last.
    pub(crate) fn stop_rest(&mut self) {
        let mut child = self.outside.pop().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn restart_daemon(&self, name: &str) {
        self.stop(&format!("run/{name}.pid"));
        self.daemon(name);
    }
}
