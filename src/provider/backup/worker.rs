//! One worker process: a request and a key go in, lines come out.
//!
//! Its standard input stays open until its last line: when this end closes, because the step was
//! given up or the daemon is no more, the worker ends wherever it is, which is always safe.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use trueup_backup::FeedWriter;
use trueup_backup::protocol::{Fault, Message, Outcome, Request};

use super::WORKER_COMMAND;
use crate::model::resource::BackupCommand;
use crate::port::{BoxFuture, Progress, ProgressUpdate};

/// Most bytes of one line of a worker: a list of a hundred thousand snapshots. All lines together have
/// no bound: a job may say how far it is for days.
const LINE_MAX: u64 = 64 << 20;
/// The most of a program's complaint that is quoted, bytes.
const COMPLAINT_MAX: usize = 2048;
/// How long a complaint is waited for once its program has ended; a grandchild may hold the pipe.
pub(super) const COMPLAINT_WAIT: Duration = Duration::from_secs(1);

/// Feeds a worker through its standard input, which it gives back: that has to stay open until the
/// worker is done.
pub(super) type FeedFn<'a> =
    Box<dyn FnOnce(ChildStdin) -> BoxFuture<'a, Result<File, Fault>> + Send + 'a>;

/// Feeds the output of a program.
pub(super) fn program<'a>(command: BackupCommand) -> FeedFn<'a> {
    Box::new(move |stdin| Box::pin(async move { feeding(stdin, &command).await }))
}

/// Feeds a text.
pub(super) fn text<'a>(text: String) -> FeedFn<'a> {
    Box::new(move |stdin| {
        Box::pin(async move {
            let vanished = |why: String| Fault::SourceVanished { path: "text".into(), why };
            let stdin = stdin.into_owned_fd().map_err(|error| vanished(error.to_string()))?;
            let write = move || {
                let mut writer = FeedWriter::new(File::from(stdin));
                writer.write_all(text.as_bytes())?;
                writer.finish()
            };
            let written = tokio::task::spawn_blocking(write).await;
            let written = written.map_err(|error| vanished(error.to_string()))?;
            written.map_err(|error| vanished(error.to_string()))
        })
    })
}

/// Does one job.
///
/// # Errors
/// The worker's own fault, or that it cannot be run.
pub(super) async fn run(
    program: &Path,
    request: &Request,
    key: &str,
    feed: Option<FeedFn<'_>>,
    progress: &Progress,
) -> Result<Outcome, Fault> {
    let internal = |what: String| Fault::Internal { what };
    let mut command = Command::new(program);
    command.arg(WORKER_COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| internal(format!("cannot run `{}`: {error}", program.display())))?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(internal("the worker has no pipes".into()));
    };
    let complaint = tokio::spawn(complaint(stderr));
    let mut head = serde_json::to_vec(request).map_err(|error| internal(error.to_string()))?;
    head.push(b'\n');
    head.extend(key.as_bytes());
    head.push(b'\n');
    if let Err(error) = stdin.write_all(&head).await {
        // Its last line, or its silence, says why.
        tracing::debug!(%error, "the worker did not take its request");
    }
    let last = match feed {
        None => {
            let last = said(stdout, progress).await;
            drop(stdin);
            last
        }
        Some(feed) => fed(stdin, stdout, feed, progress).await?,
    };
    match last.map_err(|error| internal(format!("the worker said nonsense: {error}")))? {
        Some(done) => done,
        None => {
            let why = match timeout(COMPLAINT_WAIT, complaint).await {
                Ok(Ok(said)) if !said.is_empty() => said,
                _ => "it said nothing".to_owned(),
            };
            let ended = child.wait().await.map_or_else(|it| it.to_string(), |it| it.to_string());
            Err(internal(format!("the worker ended without a last word ({ended}): {why}")))
        }
    }
}

type Last = io::Result<Option<Result<Outcome, Fault>>>;

/// Tells progress until the last line, which is returned; `None` where it never came.
async fn said(stdout: impl AsyncRead + Unpin, progress: &Progress) -> Last {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut stdout).take(LINE_MAX).read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            // The end; or a line that is too long or was cut short, which is no line of ours.
            return Ok(None);
        }
        match serde_json::from_slice(&line)? {
            Message::Progress(told) => {
                progress(ProgressUpdate { what: told.phase, done: told.done, total: told.total })
            }
            Message::Outcome(outcome) => return Ok(Some(Ok(*outcome))),
            Message::Fault(fault) => return Ok(Some(Err(fault))),
        }
    }
}

/// Feeds the worker while it talks. A stream is complete only with its end mark; without it the worker
/// stores no snapshot.
async fn fed(
    stdin: ChildStdin,
    stdout: ChildStdout,
    feed: FeedFn<'_>,
    progress: &Progress,
) -> Result<Last, Fault> {
    let said = said(stdout, progress);
    let feeding = feed(stdin);
    tokio::pin!(said, feeding);
    // The worker's standard input has to stay open until it is done.
    let mut held: Option<File> = None;
    loop {
        tokio::select! {
            last = &mut said => return Ok(last),
            fed = &mut feeding, if held.is_none() => match fed {
                Ok(file) => held = Some(file),
                // The stream broke off: because the worker had given up, which it says, or before
                // that, which is better told by who saw it.
                Err(fault) => {
                    return match said.await {
                        Ok(Some(Err(Fault::SourceVanished { .. }))) | Ok(None) | Err(_) => Err(fault),
                        last => Ok(last),
                    };
                }
            },
        }
    }
}

/// The stream is complete only once the program has ended with success.
async fn feeding(stdin: ChildStdin, feed: &BackupCommand) -> Result<File, Fault> {
    let [name, arguments @ ..] = feed.argv.as_slice() else {
        return Err(Fault::Invalid { what: "there is no program to run".into() });
    };
    let vanished = |why: String| Fault::SourceVanished { path: name.into(), why };
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Who the program becomes may not be allowed into ours.
    command.current_dir("/");
    let mut child = command
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| vanished(format!("it cannot be run: {error}")))?;
    let mut group = Group::of(&child);
    let pipes = (child.stdout.take(), child.stderr.take());
    let (Some(output), Some(errors)) = pipes else {
        return Err(vanished("it has no pipes".into()));
    };
    let complaint = tokio::spawn(complaint(errors));
    let limit = Duration::from_secs(feed.timeout_s);
    let copied = timeout(limit, copied(stdin, output, &mut child)).await;
    let (writer, status) = copied
        .map_err(|_| vanished(format!("it did not end within {} s", feed.timeout_s)))?
        .map_err(|error| vanished(error.to_string()))?;
    if !status.success() {
        // It ran as root and may have quoted a secret: that is for no event.
        if let Ok(Ok(said)) = timeout(COMPLAINT_WAIT, complaint).await {
            tracing::debug!(program = %name, %said, "the program of a backup failed");
        }
        return Err(vanished(format!(
            "it failed ({status}); what it said is logged at level debug: `journalctl -u trueup`"
        )));
    }
    group.let_go();
    let finished = tokio::task::spawn_blocking(move || writer.finish()).await;
    let finished = finished.map_err(|error| vanished(error.to_string()))?;
    finished.map_err(|error| vanished(error.to_string()))
}

/// A program's process group, which dies with this value: a grandchild that holds the output would
/// keep the copying thread, and with it the worker, for ever.
pub(super) struct Group(Option<Pid>);

impl Group {
    /// That of a child which leads one.
    pub(super) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// Lets it live: it ended well, and what it left behind is meant to stay.
    pub(super) fn let_go(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.take()
            && let Err(error) = kill_process_group(pid, Signal::KILL)
        {
            // ESRCH: all of it has ended by itself, which is what we want.
            tracing::debug!(group = pid.as_raw_nonzero().get(), %error, "process group not killed");
        }
    }
}

/// Copies on a thread of its own: frames are written as they come, however long the worker takes.
async fn copied(
    stdin: ChildStdin,
    output: ChildStdout,
    child: &mut Child,
) -> io::Result<(FeedWriter<File>, std::process::ExitStatus)> {
    let (to, from): (OwnedFd, OwnedFd) = (stdin.into_owned_fd()?, output.into_owned_fd()?);
    let copy = tokio::task::spawn_blocking(move || {
        let mut writer = FeedWriter::new(File::from(to));
        io::copy(&mut File::from(from), &mut writer)?;
        writer.flush()?;
        Ok::<_, io::Error>(writer)
    });
    let writer = copy.await.map_err(io::Error::other)??;
    Ok((writer, child.wait().await?))
}

/// The end of what a program said on stderr, in one line.
pub(super) async fn complaint(mut stderr: ChildStderr) -> String {
    let mut said = Vec::new();
    let mut chunk = [0; COMPLAINT_MAX];
    // An error is an end too: there is nothing more to be had.
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        said.extend_from_slice(&chunk[..read]);
        let over = said.len().saturating_sub(COMPLAINT_MAX);
        said.drain(..over);
    }
    let text = String::from_utf8_lossy(&said);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A job of two days, five lines a second, says more than one line may.
    #[tokio::test]
    async fn a_job_may_say_how_far_it_is_for_days() {
        let line = "{\"progress\":{\"phase\":\"backing up\",\"done\":1,\"elapsed_ms\":1}}\n";
        let count = LINE_MAX / line.len() as u64 + 1;
        let lines = tokio::io::repeat(0).take(0);
        let mut all: Box<dyn AsyncRead + Unpin + Send> = Box::new(lines);
        let block: &'static [u8] = Box::leak(line.repeat(4096).into_boxed_str()).as_bytes();
        for _ in 0..=count / 4096 {
            all = Box::new(all.chain(block));
        }
        let last: &'static [u8] = b"{\"fault\":\"cancelled\"}\n";
        let told = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&told);
        let progress: Progress = Arc::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let last = said(all.chain(last), &progress).await.unwrap();
        assert_eq!(last, Some(Err(Fault::Cancelled)));
        assert!(told.load(Ordering::Relaxed) >= count);
    }

    #[tokio::test]
    async fn a_line_that_is_cut_short_is_no_last_word() {
        let progress: Progress = Arc::new(|_| ());
        let last = said(&b"{\"fault\":\"canc"[..], &progress).await.unwrap();
        assert_eq!(last, None);
    }
}
