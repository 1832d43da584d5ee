//! Programs by argument vector, with a time limit for each and no shell. A program that takes longer
//! is ended together with what it started; none is ever left behind.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::machine::{Here, Machine};

/// Most that is kept of one answer: 1,000 nodes are 1.3 MB of JSON and 2,000 jobs 10 MB, so this is a
/// cluster that nobody has.
pub const OUTPUT_MAX: usize = 512 << 20;
/// Most of a program's complaint that an error repeats.
const WORDS_MAX: usize = 2000;

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Its answer.
    pub stdout: Vec<u8>,
    /// Its talk.
    pub stderr: String,
}

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("cannot start {program}: {error}{}", hint(program, error))]
    Start {
        /// The program.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// It took too long. On this host it was ended.
    #[error(
        "{program} gave no answer within {seconds} s, and is waited for no longer{}",
        late(program)
    )]
    TimedOut {
        /// The program and its arguments.
        program: String,
        /// The limit.
        seconds: u64,
    },
    /// Its answer could not be read.
    #[error("cannot read what {program} says: {error}")]
    Read {
        /// The program.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// The machine on which it is to run cannot be reached.
    #[error("{machine} cannot be reached: {words}")]
    Away {
        /// The machine.
        machine: String,
        /// Why.
        words: String,
    },
    /// It ended with an error.
    #[error("{program} failed ({status}): {words}")]
    Failed {
        /// The program and its arguments.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// Its own words.
        words: String,
    },
}

/// What comes with Debian's slurm-client, of what is asked.
const CLIENTS: [&str; 7] =
    ["sacct", "sacctmgr", "scontrol", "sinfo", "squeue", "sshare", "strigger"];

/// Whether a program asks the controller, or the database.
fn is_client(program: &str) -> bool {
    program.split(' ').any(|word| CLIENTS.contains(&word.rsplit('/').next().unwrap_or(word)))
}

/// What may help where a program is not there.
fn hint(program: &str, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound if is_client(program) => "; is the package slurm-client installed?",
        io::ErrorKind::NotFound => "; is it installed there?",
        _ => "",
    }
}

/// What may be the matter where a program gives no answer.
fn late(program: &str) -> &'static str {
    if is_client(program) { "; is the controller well?" } else { "" }
}

/// What every program of ours is told: times are compared with times of ours, and words with words that
/// were seen in English.
const ENVIRONMENT: [(&str, &str); 3] =
    [("TZ", "UTC"), ("LC_ALL", "C"), ("SLURM_TIME_FORMAT", "%s")];

/// A program to run.
#[derive(Debug, Clone)]
pub struct Argv {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

enum Told {
    Out(io::Result<Vec<u8>>),
    Err(io::Result<Vec<u8>>),
    Ended(io::Result<ExitStatus>),
}

impl Argv {
    /// A program without arguments.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|one| one.as_ref().to_owned()));
        self
    }

    /// Adds a variable to the program's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// The program and its arguments, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut words = vec![PathBuf::from(&self.program).display().to_string()];
        words.extend(self.arguments.iter().map(|one| one.to_string_lossy().into_owned()));
        words.join(" ")
    }

    /// The program and its arguments, one by one, as text.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let words = std::iter::once(&self.program).chain(&self.arguments);
        words.map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// What it finds in its environment besides what is there anyway.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |word: &OsString| word.to_string_lossy().into_owned();
        let own = self.environment.iter().map(|(name, value)| (text(name), text(value)));
        let usual = ENVIRONMENT.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        usual.chain(own).collect()
    }

    /// The same program, ended by itself after so long: also where nobody is left who would end it.
    #[must_use]
    pub fn bounded(&self, longest: Duration) -> Self {
        let mut arguments: Vec<OsString> =
            ["--kill-after=1".to_owned(), longest.as_secs().max(1).to_string()]
                .map(Into::into)
                .into();
        arguments.push(self.program.clone());
        arguments.extend(self.arguments.iter().cloned());
        Self { program: "timeout".into(), arguments, environment: self.environment.clone() }
    }

    /// The program in a process group of its own, which [`end`] ends as a whole.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).process_group(0);
        command.envs(ENVIRONMENT);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to its end and gives what it said, whatever its exit code.
    ///
    /// # Errors
    /// [`RunError`], [`RunError::Failed`] excepted.
    pub fn run(&self, limit: Duration) -> Result<Said, RunError> {
        let read = |error| RunError::Read { program: self.shown(), error };
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| RunError::Start { program: self.shown(), error })?;
        let until = Instant::now() + limit;
        let id = Pid::from_child(&child);
        let (tell, told) = mpsc::channel();
        listen(child.stdout.take(), tell.clone(), Told::Out);
        listen(child.stderr.take(), tell.clone(), Told::Err);
        await_end(child, tell);
        let (mut out, mut err, mut status) = (None, None, None);
        while out.is_none() || err.is_none() || status.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            match told.recv_timeout(left) {
                Ok(Told::Out(bytes)) => out = Some(bytes.map_err(read)?),
                Ok(Told::Err(bytes)) => err = Some(bytes.map_err(read)?),
                Ok(Told::Ended(how)) => status = Some(how.map_err(read)?),
                Err(_) => {
                    // Once it was waited for, its id may be another's.
                    if status.is_none() {
                        end(id);
                    }
                    let (program, seconds) = (self.shown(), limit.as_secs());
                    return Err(RunError::TimedOut { program, seconds });
                }
            }
        }
        let (Some(stdout), Some(stderr), Some(status)) = (out, err, status) else {
            return Err(read(io::ErrorKind::UnexpectedEof.into()));
        };
        Ok(Said { status, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() })
    }

    /// Runs it, and takes an exit code other than 0 for a failure, in its own words.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn ask(&self, limit: Duration) -> Result<Vec<u8>, RunError> {
        self.ask_on(&Here, limit)
    }

    /// The same on another machine.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn ask_on(&self, machine: &dyn Machine, limit: Duration) -> Result<Vec<u8>, RunError> {
        let said = machine.run(self, limit)?;
        if said.status.success() {
            return Ok(said.stdout);
        }
        let mut words = said.stderr.trim().to_owned();
        if words.is_empty() {
            words = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        }
        Err(RunError::Failed { program: self.shown(), status: said.status, words: cut(&words) })
    }
}

/// At most [`WORDS_MAX`] bytes of a text, with nothing in it that a terminal would obey: it may be of a
/// machine that others have in their hands.
pub(crate) fn cut(words: &str) -> String {
    let end = (0..=WORDS_MAX.min(words.len())).rev().find(|at| words.is_char_boundary(*at));
    let kept = &words[..end.unwrap_or(0)];
    let plain = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    let mut text: String = kept.chars().map(plain).collect();
    if kept.len() < words.len() {
        text.push('…');
    }
    text
}

fn listen(
    pipe: Option<impl Read + Send + 'static>,
    tell: mpsc::Sender<Told>,
    as_what: fn(io::Result<Vec<u8>>) -> Told,
) {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = match pipe {
            Some(pipe) => pipe.take(OUTPUT_MAX as u64 + 1).read_to_end(&mut bytes),
            None => Ok(0),
        };
        let read = read.and_then(|count| match count {
            too_much if too_much > OUTPUT_MAX => Err(io::Error::other("the answer is too long")),
            _ => Ok(bytes),
        });
        // Nobody hears of it where the limit has passed: that was the answer then.
        drop(tell.send(as_what(read)));
    });
}

fn await_end(mut child: Child, tell: mpsc::Sender<Told>) {
    thread::spawn(move || drop(tell.send(Told::Ended(child.wait()))));
}

/// Ends a process of ours, and what it started.
pub(crate) fn end(id: Pid) {
    // It may have ended by itself just now, which is all that is wanted.
    match kill_process_group(id, Signal::KILL) {
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_and_no_terminal_obeys_them() {
        assert_eq!(cut("fatal: no\nmore"), "fatal: no\nmore");
        assert_eq!(cut("\u{1b}[2Jgone\r"), " [2Jgone ");
        let long = "é".repeat(WORDS_MAX);
        assert_eq!(cut(&long), format!("{}…", "é".repeat(WORDS_MAX / 2)));
    }

    #[test]
    fn answers_failures_and_limits_are_told_apart() {
        let limit = Duration::from_secs(20);
        assert_eq!(Argv::new("echo").args(["a", "b c"]).ask(limit).unwrap(), b"a b c\n");
        let failed = Argv::new("ls").args(["/nonexistent"]).ask(limit).unwrap_err().to_string();
        assert!(failed.starts_with("ls /nonexistent failed (exit status: 2): "), "{failed}");
        let none = Argv::new("/nonexistent/program").run(limit).unwrap_err().to_string();
        assert!(none.starts_with("cannot start /nonexistent/program: "), "{none}");
        assert!(none.ends_with("; is it installed there?"), "{none}");
        let client = Argv::new("/nonexistent/sinfo").args(["--json"]).run(limit).unwrap_err();
        assert!(client.to_string().ends_with("slurm-client installed?"), "{client}");
        let folder = Argv::new("/").run(limit).unwrap_err().to_string();
        assert!(!folder.contains("slurm-client"), "no package helps there: {folder}");
        let late = Argv::new("sleep").args(["100"]).run(Duration::from_millis(50)).unwrap_err();
        assert!(matches!(late, RunError::TimedOut { .. }), "{late}");
        // One that is bounded ends by itself, as timeout(1) says it.
        let bounded = Argv::new("sleep").args(["100"]).bounded(Duration::from_secs(1));
        assert_eq!(bounded.run(limit).unwrap().status.code(), Some(124));
    }
}
