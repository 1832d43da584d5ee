//! A guest as a machine of a cluster: programs and files of it through its agent (`guest-exec`,
//! `guest-file-*` of QEMU's guest agent protocol), without a network and without a key. Shared by the providers
//! of clusters.
//!
//! What is asked and answered may be a munge key or credentials: neither is in an error.

pub(super) mod disk;
mod machine;
mod own;

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use trueup_slurm::run::{Argv, RunError, Said};
use trueup_slurm::{HeardEnd, Machine as _, Trial};

pub(super) use self::own::{Awaited, Waiting, own};
use crate::port::{AgentFault, Agents};
use crate::provider::agent::{Answer, Started, Status};

/// Longest that one question to an agent may take; it answers in milliseconds, on an emulated guest that
/// is busy in seconds.
const ASK_LIMIT: Duration = Duration::from_secs(20);
/// Longest that a program that only moves a file or makes a folder may take.
const FILE_LIMIT: Duration = Duration::from_secs(60);
/// Pauses between two questions whether a program has ended: the first, and the longest. The agent tells
/// nobody by itself.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_LONGEST: Duration = Duration::from_millis(250);
/// Guests that are worked on at once: each takes some memory of libvirt's and a thread of ours.
const AT_ONCE: usize = 8;
/// Bytes read or written by one question: libvirt carries texts of at most 4 MiB (`REMOTE_STRING_MAX` of
/// its protocol), and bytes grow by a third on the way.
const CHUNK_MAX: usize = 1 << 20;
/// Where programs are looked for in a guest.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A guest.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    agents: Option<Arc<dyn Agents>>,
    name: String,
    runtime: Handle,
}

/// `GuestFileRead`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Piece {
    buf_b64: String,
    eof: bool,
}

/// Pauses that grow.
struct Pause(Duration);

impl Pause {
    fn new() -> Self {
        Self(PAUSE_FIRST)
    }

    fn rest(&mut self) {
        thread::sleep(self.0);
        self.0 = (self.0 * 2).min(PAUSE_LONGEST);
    }
}

impl Guest {
    /// The guest of that name. To be called within the runtime on which agents are asked, never on one
    /// of its own threads: it waits for the answers.
    pub(super) fn new(agents: Option<Arc<dyn Agents>>, name: &str) -> Self {
        Self { agents, name: name.to_owned(), runtime: Handle::current() }
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its agent answers.
    pub(super) fn ping(&self) -> Result<(), AgentFault> {
        let _answer: IgnoredAny = self.ask("guest-ping", json!({}))?;
        Ok(())
    }

    fn ask<T: DeserializeOwned>(&self, command: &str, arguments: Value) -> Result<T, AgentFault> {
        let Some(agents) = &self.agents else {
            let words = "this trueup was built without libvirt, so no guest can be asked";
            return Err(AgentFault::Refused(words.to_owned()));
        };
        let question = json!({ "execute": command, "arguments": arguments }).to_string();
        let answer = self.runtime.block_on(agents.ask(&self.name, question, ASK_LIMIT))?;
        let answer: Answer<T> = serde_json::from_str(&answer).map_err(|_| {
            AgentFault::Refused(format!("the agent answers {command} with something else"))
        })?;
        Ok(answer.value)
    }

    fn away(&self, fault: &AgentFault) -> RunError {
        RunError::Away { machine: self.name.clone(), words: fault.to_string() }
    }

    fn start(&self, argv: &Argv) -> Result<i64, RunError> {
        let words = argv.words();
        let mut environment = vec![format!("PATH={PATH}")];
        let own = argv.environment();
        environment.extend(own.into_iter().map(|(name, value)| format!("{name}={value}")));
        let (program, arguments) = words.split_first().map_or(("", &[][..]), |(p, a)| (p, a));
        let started: Result<Started, AgentFault> = self.ask(
            "guest-exec",
            json!({
                "path": program, "arg": arguments, "env": environment, "capture-output": true,
            }),
        );
        started.map(|started| started.pid).map_err(|fault| match fault {
            AgentFault::Refused(words) => {
                let kind = match words.contains("No such file") {
                    true => io::ErrorKind::NotFound,
                    false => io::ErrorKind::Other,
                };
                let error = io::Error::new(kind, format!("in {}: {words}", self.name));
                RunError::Start { program: argv.shown(), error }
            }
            other => self.away(&other),
        })
    }

    fn status(&self, pid: i64) -> Result<Status, RunError> {
        self.ask("guest-exec-status", json!({ "pid": pid })).map_err(|fault| self.away(&fault))
    }

    /// What a program that has ended said.
    fn said(&self, argv: &Argv, status: &Status) -> Result<Said, RunError> {
        let wrong = |words: &str| RunError::Read {
            program: argv.shown(),
            error: io::Error::other(format!("in {}: {words}", self.name)),
        };
        let decoded =
            |text: &str| BASE64.decode(text).map_err(|_| wrong("its output is no base64"));
        if status.out_truncated {
            return Err(wrong("its output is longer than its agent keeps"));
        }
        let code = match (status.exitcode, status.signal) {
            // As wait(2) puts them together.
            (Some(code), _) => code << 8,
            (None, Some(signal)) => signal,
            (None, None) => return Err(wrong("its agent does not say how it ended")),
        };
        let code =
            i32::try_from(code).map_err(|_| wrong("it ended as no program of Linux does"))?;
        Ok(Said {
            status: ExitStatus::from_raw(code),
            stdout: decoded(&status.out_data)?,
            stderr: String::from_utf8_lossy(&decoded(&status.err_data)?).into_owned(),
        })
    }

    /// Runs a program that has to succeed.
    pub(super) fn must(&self, words: &[&str]) -> io::Result<()> {
        self.must_within(words, FILE_LIMIT)
    }

    /// Runs a program that has to succeed and may take its time.
    pub(super) fn must_within(&self, words: &[&str], limit: Duration) -> io::Result<()> {
        let (program, arguments) = words.split_first().map_or(("", &[][..]), |(p, a)| (*p, a));
        let argv = Argv::new(program).args(arguments);
        argv.ask_on(self, limit).map(drop).map_err(io::Error::other)
    }

    /// Whether a program ends well. That it does not is an answer; that it cannot be started is none.
    pub(super) fn says_yes(&self, words: &[&str]) -> io::Result<bool> {
        let (program, arguments) = words.split_first().map_or(("", &[][..]), |(p, a)| (*p, a));
        let said = self.run(&Argv::new(program).args(arguments), FILE_LIMIT);
        said.map(|said| said.status.success()).map_err(io::Error::other)
    }

    /// Writes a file whole or not at all, for nobody but that user of the guest.
    pub(super) fn write_private(
        &self,
        path: &Path,
        (user, mode): (&str, &str),
        bytes: &[u8],
    ) -> io::Result<()> {
        let new = beside(path);
        let made = new.display().to_string();
        // It is there with its mode before there is anything in it.
        self.must(&["install", "-m", mode, "-o", user, "-g", user, "/dev/null", &made])?;
        self.fill(&new, bytes)?;
        self.takes_its_place(&made, path)
    }

    /// Gives a whole file its name, so that a guest that loses its power has the one or the other.
    fn takes_its_place(&self, made: &str, path: &Path) -> io::Result<()> {
        self.must(&["sync", made])?;
        self.must(&["mv", "-f", "-T", made, &path.display().to_string()])?;
        self.sync_folder(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        self.must(&["sync", &folder.display().to_string()])
    }

    /// Writes into a file.
    fn fill(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let path = path.display().to_string();
        let failed = |fault: AgentFault| self.file_fault(&path, &fault);
        let opened = self.ask("guest-file-open", json!({ "path": path, "mode": "w" }));
        let handle: i64 = opened.map_err(failed)?;
        let written = bytes.chunks(CHUNK_MAX).try_for_each(|chunk| {
            let arguments = json!({ "handle": handle, "buf-b64": BASE64.encode(chunk) });
            let wrote: Result<IgnoredAny, AgentFault> = self.ask("guest-file-write", arguments);
            wrote.map(drop)
        });
        let closed: Result<IgnoredAny, AgentFault> =
            self.ask("guest-file-close", json!({ "handle": handle }));
        written.and(closed.map(drop)).map_err(failed)
    }

    fn file_fault(&self, path: &str, fault: &AgentFault) -> io::Error {
        io::Error::other(format!("{path} in {}: {fault}", self.name))
    }

    /// Hears a daemon until it runs, ends or is late; then how its trial ended, and whether it still runs.
    fn until_heard(&self, pid: i64, trial: &Trial<'_>) -> Result<(HeardEnd, bool), RunError> {
        let mut pause = Pause::new();
        let late = Instant::now() + trial.limit;
        loop {
            if self.status_is_over(pid)? {
                return Ok((HeardEnd::Ended, false));
            }
            if self.runs(trial)? {
                thread::sleep(trial.goes_on);
                // What loads late ends it after all.
                let over = self.status_is_over(pid)?;
                return Ok(if over { (HeardEnd::Ended, false) } else { (HeardEnd::Running, true) });
            }
            if Instant::now() >= late {
                return Ok((HeardEnd::Late, true));
            }
            pause.rest();
        }
    }

    fn runs(&self, trial: &Trial<'_>) -> Result<bool, RunError> {
        let (log, _) = trial.log;
        let text = self
            .read(log)
            .map_err(|error| RunError::Read { program: log.display().to_string(), error })?;
        Ok(String::from_utf8_lossy(&text.unwrap_or_default()).contains(trial.running))
    }

    /// Whether it has ended. Only a program that goes on is asked so: an agent tells of an end once.
    fn status_is_over(&self, pid: i64) -> Result<bool, RunError> {
        // `kill -0` asks for a process without touching it.
        let argv = Argv::new("kill").args(["-0", &pid.to_string()]);
        let alive = self.run(&argv, FILE_LIMIT)?;
        Ok(!alive.status.success())
    }

    /// Waits for the end of a program that was told to, and takes what it said.
    fn last_words(&self, argv: &Argv, pid: i64, limit: Duration) -> Result<Said, RunError> {
        let mut pause = Pause::new();
        let late = Instant::now() + limit;
        loop {
            let status = self.status(pid)?;
            if status.exited {
                return self.said(argv, &status);
            }
            if Instant::now() >= late {
                let (program, seconds) = (argv.shown(), limit.as_secs());
                return Err(RunError::TimedOut { program, seconds });
            }
            pause.rest();
        }
    }

    fn signal(&self, pid: i64, signal: &str) -> Result<(), RunError> {
        // It may have ended by itself just now, which is all that is wanted.
        let argv = Argv::new("kill").args([signal, &pid.to_string()]);
        self.run(&argv, FILE_LIMIT).map(drop)
    }
}

/// Does something with each guest, some of them at once.
pub(super) fn each<T: Send>(
    guests: Vec<(String, Guest)>,
    work: impl Fn(&str, &Guest) -> T + Sync,
) -> Vec<(String, T)> {
    let mut done = Vec::with_capacity(guests.len());
    for some in guests.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let started: Vec<_> = some
                .iter()
                .map(|(name, guest)| (name, scope.spawn(|| work(name, guest))))
                .collect();
            for (name, one) in started {
                let result = one.join();
                let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                done.push((name.clone(), result));
            }
        });
    }
    done
}

/// Where a file is written before it takes its place.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.trueup-new"))
}

#[cfg(test)]
pub(super) mod fake;
#[cfg(test)]
mod tests;
