//! Child processes that cannot outlive us: own process group, a deadline, bounded output.
//!
//! No argument ever passes through a shell. A child that runs into its deadline, or whose future is
//! dropped, is killed with its whole group. A child left behind by a `kill -9` of trueup itself
//! carries [`MARK`] in its environment, by which [`super::workdir`] finds it at the next start.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout, timeout_at};

/// The environment variable that names the work directory a child belongs to.
pub(super) const MARK: &str = "TRUEUP_WORKDIR";

/// The most of a child's output kept in its log file, in bytes: a loop that prints must not fill the
/// disk, and no build writes a tenth of it.
const LOG_MAX: u64 = 16 << 20;

/// The most of a child's output kept in memory, in bytes: enough for any JSON `qemu-img` prints.
const OUTPUT_MAX: usize = 1 << 20;

/// The most of the output's end quoted in an error, in bytes.
const TAIL_MAX: usize = 1200;

/// How long the rest of a line to stop at is waited for; a login prompt never ends its line.
const LINE_REST: Duration = Duration::from_millis(500);

/// How long a pipe may stay open after its child has ended, held by a grandchild.
const DRAIN: Duration = Duration::from_secs(1);

/// What to run and within which limits.
#[derive(Debug)]
pub(super) struct Child {
    argv: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    deadline: Duration,
    log: Option<PathBuf>,
    stop_at: Vec<Vec<u8>>,
}

/// How a child ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit status; `None`: stopped by us because a line to stop at was printed.
    pub(super) status: Option<ExitStatus>,
    /// The line it was stopped at, and the index of the text that matched.
    pub(super) stopped_at: Option<(usize, String)>,
    /// Output, at most [`OUTPUT_MAX`] bytes from its end.
    pub(super) output: Vec<u8>,
    /// How long it ran.
    pub(super) ran: Duration,
}

/// Why a child gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The program is not there, or may not be run.
    #[error("cannot run `{program}`: install the package that has it, or see that it is in PATH")]
    Start {
        /// The program's name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ran longer than it may and was killed, with everything it had started.
    #[error("`{program}` was killed after {seconds} s, its time limit; its last words: {tail}")]
    Deadline {
        /// The program's name.
        program: String,
        /// The limit.
        seconds: u64,
        /// The end of its output.
        tail: String,
    },
    /// It ended with a failure.
    #[error("`{program}` failed ({status}): {tail}")]
    Failed {
        /// The program's name.
        program: String,
        /// How it ended.
        status: String,
        /// The end of its output.
        tail: String,
    },
    /// Its output could not be read or kept.
    #[error("cannot keep the output of `{program}`")]
    Output {
        /// The program's name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

impl ChildError {
    /// What happened, without what the program wrote but for its own last complaint; `None` where
    /// nothing of it would be said.
    pub(super) fn without_output(&self) -> Option<String> {
        match self {
            Self::Start { .. } | Self::Output { .. } => None,
            Self::Deadline { program, seconds, .. } => {
                Some(format!("`{program}` was killed after {seconds} s, its time limit"))
            }
            Self::Failed { program, status, tail } => {
                let failed = format!("`{program}` failed ({status})");
                Some(match complaint(program, tail) {
                    Some(words) => format!("{failed}: {words}"),
                    None => failed,
                })
            }
        }
    }
}

/// The last complaint of a program whose complaints hold no content. Both are known by how they begin
/// (`error_report` of QEMU; `error` of mmdebstrap, which is `apt`'s form).
fn complaint<'a>(program: &str, tail: &'a str) -> Option<&'a str> {
    let begins = match program {
        "mmdebstrap" => "E: ",
        // `qemu-img` is also run under this one, for its limits.
        "qemu-img" | "prlimit" => "qemu-img: ",
        _ => return None,
    };
    tail.split(" | ").filter(|line| line.starts_with(begins)).last()
}

impl Child {
    /// `program` with nothing but itself as an argument, and a time limit.
    pub(super) fn new(program: &str, deadline: Duration) -> Self {
        Self {
            argv: vec![program.into()],
            envs: vec![("LC_ALL".into(), "C.UTF-8".into())],
            deadline,
            log: None,
            stop_at: Vec::new(),
        }
    }

    pub(super) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.argv.push(arg.into());
        self
    }

    pub(super) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    pub(super) fn env(mut self, key: &str, value: impl Into<OsString>) -> Self {
        self.envs.push((key.into(), value.into()));
        self
    }

    /// Marks the child as belonging to the work directory `dir`.
    pub(super) fn within(self, dir: &Path) -> Self {
        self.env(MARK, dir)
    }

    /// Appends stdout and stderr to the file `path`.
    pub(super) fn log(mut self, path: &Path) -> Self {
        self.log = Some(path.to_owned());
        self
    }

    /// Kills the child, without that being a failure, as soon as it prints one of these texts.
    pub(super) fn stop_at<'a>(mut self, texts: impl IntoIterator<Item = &'a str>) -> Self {
        self.stop_at = texts.into_iter().map(|t| t.as_bytes().to_vec()).collect();
        self
    }

    fn program(&self) -> String {
        self.argv[0].to_string_lossy().into_owned()
    }

    /// Runs it to its end and asks for success.
    pub(super) async fn success(self) -> Result<Ended, ChildError> {
        let program = self.program();
        let ended = self.run().await?;
        match ended.status {
            Some(status) if !status.success() => Err(ChildError::Failed {
                program,
                status: status.to_string(),
                tail: tail(&ended.output),
            }),
            _ => Ok(ended),
        }
    }

    /// Runs it to its end, to one of the texts to stop at, or to its deadline.
    pub(super) async fn run(self) -> Result<Ended, ChildError> {
        let program = self.program();
        let lost = |source| ChildError::Output { program: program.clone(), source };
        let (reader, writer) = io::pipe().map_err(lost)?;
        let reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(lost)?;
        let mut command = tokio::process::Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .envs(self.envs.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(lost)?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true);
        let start = Instant::now();
        let mut child = command
            .spawn()
            .map_err(|source| ChildError::Start { program: program.clone(), source })?;
        // The command keeps our ends of the pipe open; without this there is never an end of file.
        drop(command);
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id as i32)));
        let mut capture = Capture::open(&self, reader).await.map_err(lost)?;

        let mut status = None;
        let deadline = start + self.deadline;
        let finished = timeout_at(deadline, async {
            tokio::select! {
                // Reading first: a text to stop at may be the child's last word.
                biased;
                read = capture.pump() => read,
                ended = child.wait() => {
                    status = Some(ended?);
                    // A grandchild may hold the pipe for ever; what it still says is not waited for.
                    timeout(DRAIN, capture.pump()).await.unwrap_or(Ok(()))
                }
            }
        })
        .await;
        if status.is_none() && finished.is_ok() && capture.stopped_at.is_none() {
            // The pipe was closed: the child is ending, or closed its output and goes on.
            status = match timeout_at(deadline, child.wait()).await {
                Ok(ended) => Some(ended.map_err(lost)?),
                Err(_) => None,
            };
        }
        // Also after a good end: nothing a child started may go on behind our back.
        group.kill();
        if status.is_none() {
            child.wait().await.map_err(lost)?;
        }
        capture.close().await.map_err(lost)?;
        match finished {
            Ok(read) => read.map_err(lost)?,
            Err(_) => return Err(self.too_slow(&capture.output)),
        }
        if status.is_none() && capture.stopped_at.is_none() {
            return Err(self.too_slow(&capture.output));
        }
        Ok(Ended {
            status,
            stopped_at: capture.stopped_at,
            output: capture.output,
            ran: start.elapsed(),
        })
    }

    fn too_slow(&self, output: &[u8]) -> ChildError {
        ChildError::Deadline {
            program: self.program(),
            seconds: self.deadline.as_secs(),
            tail: tail(output),
        }
    }
}

/// A process group that dies with this value.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(pid) = self.0.take()
            && let Err(error) = kill_process_group(pid, Signal::KILL)
        {
            // ESRCH: all of it has ended by itself, which is what we want.
            tracing::debug!(group = pid.as_raw_nonzero().get(), %error, "process group not killed");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where a child's output goes.
struct Capture {
    pipe: pipe::Receiver,
    log: Option<tokio::fs::File>,
    logged: u64,
    output: Vec<u8>,
    stop_at: Vec<Vec<u8>>,
    /// Which text was found, and where in `output`.
    found: Option<(usize, usize)>,
    stopped_at: Option<(usize, String)>,
    line_ended: bool,
}

impl Capture {
    async fn open(child: &Child, pipe: pipe::Receiver) -> io::Result<Self> {
        let log = match &child.log {
            Some(path) => {
                Some(tokio::fs::File::options().create(true).append(true).open(path).await?)
            }
            None => None,
        };
        Ok(Self {
            pipe,
            log,
            logged: 0,
            output: Vec::new(),
            stop_at: child.stop_at.clone(),
            found: None,
            stopped_at: None,
            line_ended: false,
        })
    }

    /// Reads until the end of the output or a line to stop at. May be dropped between two reads.
    async fn pump(&mut self) -> io::Result<()> {
        while self.read().await? {
            if self.stopped_at.is_none() {
                continue;
            }
            let rest = async {
                while !self.line_ended && self.read().await? {}
                Ok(())
            };
            return timeout(LINE_REST, rest).await.unwrap_or(Ok(()));
        }
        Ok(())
    }

    /// Takes in one chunk; `false` at the end of the output.
    async fn read(&mut self) -> io::Result<bool> {
        let mut chunk = vec![0; 16 << 10];
        let n = self.pipe.read(&mut chunk).await?;
        let bytes = &chunk[..n];
        if let Some(log) = &mut self.log
            && self.logged < LOG_MAX
        {
            log.write_all(bytes).await?;
            self.logged += n as u64;
            if self.logged >= LOG_MAX {
                log.write_all(b"\n[trueup: more output was dropped]\n").await?;
            }
        }
        if self.output.len() > 2 * OUTPUT_MAX && self.stopped_at.is_none() {
            self.output.drain(..self.output.len() - OUTPUT_MAX);
        }
        let seen = self.output.len();
        self.output.extend_from_slice(bytes);
        self.search(seen);
        Ok(n > 0)
    }

    /// Looks for a text to stop at in what came after `seen`, one text length further back; once found,
    /// takes the line's rest as it comes.
    fn search(&mut self, seen: usize) {
        let found = self.stop_at.iter().enumerate().find_map(|(index, text)| {
            let from = seen.saturating_sub(text.len());
            Some((index, find(&self.output[from..], text)? + from))
        });
        let Some((index, at)) = self.found.or(found) else {
            return;
        };
        self.found = Some((index, at));
        let start = self.output[..at].iter().rposition(|b| *b == b'\n');
        let line = &self.output[start.map_or(0, |s| s + 1)..];
        let end = line.iter().position(|b| *b == b'\n');
        self.line_ended = end.is_some();
        let line = printable(&line[..end.unwrap_or(line.len())]);
        self.stopped_at = Some((index, line));
    }

    async fn close(&mut self) -> io::Result<()> {
        match &mut self.log {
            Some(log) => log.flush().await,
            None => Ok(()),
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return None;
    }
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// Text without control characters, so that a console cannot paint on a user's terminal.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| !c.is_control())
        .collect::<String>()
        .trim()
        .to_owned()
}

/// The last lines of `output`, on one line.
pub(super) fn tail(output: &[u8]) -> String {
    let from = output.len().saturating_sub(TAIL_MAX);
    let lines: Vec<_> = output[from..]
        .split(|b| *b == b'\n')
        .map(printable)
        .filter(|line| !line.is_empty())
        .collect();
    match lines.len() {
        0 => "it said nothing".to_owned(),
        n => lines[n.saturating_sub(8)..].join(" | "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, seconds: u64) -> Child {
        Child::new("sh", Duration::from_secs(seconds)).args(["-c", script])
    }

    fn alive(pid: &str) -> bool {
        // A killed child that nobody has waited for is a zombie, and as good as gone.
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
    }

    async fn wait_gone(pid: &str) {
        timeout(Duration::from_secs(5), async {
            while alive(pid) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the grandchild is gone");
    }

    #[tokio::test]
    async fn a_failure_quotes_the_last_words_without_control_characters() {
        let error =
            sh("echo one; printf 'two\\033[31m\\n' >&2; exit 3", 10).success().await.unwrap_err();
        assert_eq!(error.to_string(), "`sh` failed (exit status: 3): one | two[31m");
    }

    #[tokio::test]
    async fn a_deadline_kills_the_whole_group() {
        let error = sh("sleep 1000 & echo $!; wait", 1).success().await.unwrap_err();
        let ChildError::Deadline { tail, .. } = &error else { panic!("{error}") };
        wait_gone(tail).await;
    }

    #[tokio::test]
    async fn a_dropped_future_kills_the_whole_group() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let child = sh("sleep 1000 & echo $!; wait", 100).log(&log);
        let task = tokio::spawn(child.success());
        let pid = timeout(Duration::from_secs(5), async {
            loop {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                if text.ends_with('\n') {
                    return text.trim().to_owned();
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert!(alive(&pid));
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        wait_gone(&pid).await;
    }

    #[tokio::test]
    async fn stops_at_a_text_even_when_it_comes_in_pieces() {
        let ended = sh("printf 'a\\nb: log'; sleep 0.2; printf 'in: '; sleep 1000", 20)
            .stop_at(["panic", "login:"])
            .run()
            .await
            .unwrap();
        assert_eq!(ended.stopped_at, Some((1, "b: login:".to_owned())));
        assert!(ended.ran < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn the_line_stopped_at_is_whole() {
        let script = "printf 'x READY'; sleep 0.1; printf ' yes\\nmore\\n'; sleep 1000";
        let ended = sh(script, 20).stop_at(["READY"]).run().await.unwrap();
        assert_eq!(ended.stopped_at, Some((0, "x READY yes".to_owned())));
    }

    #[tokio::test]
    async fn a_daemon_that_holds_the_pipe_is_not_waited_for() {
        let ended = sh("(sleep 3 &) ; echo done", 20).success().await.unwrap();
        assert!(ended.ran < Duration::from_secs(3));
        assert_eq!(ended.output, b"done\n");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = Child::new("no-such-program", DRAIN).success().await.unwrap_err();
        assert!(error.to_string().contains("`no-such-program`"));
    }
}
