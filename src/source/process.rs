//! Runs one helper program to its end, under a time limit.
//!
//! Never through a shell, never with a terminal to prompt on.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Bytes kept of each output; no program used here says more in earnest.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// What the program said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("{program} could not be started: {error}")]
    Start { program: String, error: std::io::Error },
    #[error("{program} did not end within {} s", .limit.as_secs())]
    Late { program: String, limit: Duration },
    #[error("{program} could not be spoken to: {error}")]
    Io { program: String, error: std::io::Error },
}

/// Runs `program args..` with `input` on its standard input and the variables `env` set.
pub(crate) fn run<A: AsRef<OsStr>>(
    program: &str,
    args: &[A],
    env: &[(&str, &OsStr)],
    input: Vec<u8>,
    limit: Duration,
) -> Result<Output, ProcessError> {
    let io = |error| ProcessError::Io { program: program.to_owned(), error };
    let mut child = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that what it starts ends with it.
        .process_group(0)
        .spawn()
        .map_err(|error| ProcessError::Start { program: program.to_owned(), error })?;
    if let Some(mut stdin) = child.stdin.take() {
        std::thread::spawn(move || {
            // A program that does not read its input closes the pipe; its exit status tells why.
            stdin.write_all(&input).ok();
        });
    }
    let end = Instant::now() + limit;
    let outputs = [
        child.stdout.take().map(|pipe| drain(Box::new(pipe))),
        child.stderr.take().map(|pipe| drain(Box::new(pipe))),
    ];
    let mut read = Vec::new();
    for receiver in outputs.into_iter().flatten() {
        let left = end.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(Ok(bytes)) => read.push(bytes),
            Ok(Err(error)) => {
                end_all(&mut child).map_err(io)?;
                return Err(io(error));
            }
            Err(_) => {
                end_all(&mut child).map_err(io)?;
                return Err(ProcessError::Late { program: program.to_owned(), limit });
            }
        }
    }
    let status = child.wait().map_err(io)?;
    let stderr = read.pop().unwrap_or_default();
    let stdout = read.pop().unwrap_or_default();
    Ok(Output { status, stdout, stderr })
}

/// Ends the program and everything it started: a helper of a helper would hold the pipes open.
fn end_all(child: &mut Child) -> std::io::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    match pid.map(|pid| kill_process_group(pid, Signal::KILL)) {
        // The group is gone where all of it has ended.
        Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => {}
        Some(Err(error)) => return Err(error.into()),
        None => child.kill()?,
    }
    child.wait().map(|_| ())
}

fn drain(pipe: Box<dyn Read + Send>) -> mpsc::Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut limited = pipe.take(OUTPUT_BYTES_MAX);
        let result = limited.read_to_end(&mut bytes);
        let result = result.and_then(|_| {
            // What is over the limit is read all the same, so that the program can end.
            std::io::copy(&mut limited.into_inner(), &mut std::io::sink())
        });
        // Nobody listens after the limit.
        sender.send(result.map(|_| bytes)).ok();
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_input_pass_and_the_limit_holds() {
        let none: [&str; 0] = [];
        let limit = Duration::from_secs(20);
        let said = run("cat", &none, &[], b"hello".to_vec(), limit).unwrap();
        assert_eq!(said.stdout, b"hello");
        assert!(said.status.success());
        let late = run("sleep", &["30"], &[], Vec::new(), Duration::from_millis(50));
        assert!(matches!(late, Err(ProcessError::Late { .. })));
        let (reader, writer) = std::io::pipe().unwrap();
        let held = format!("/proc/{}/fd/{}", std::process::id(), {
            use std::os::fd::AsRawFd as _;
            writer.as_raw_fd()
        });
        // A grandchild that has our pipe open, and outlives its parent unless the group is ended.
        let script = format!("sleep 30 > {held} & wait");
        let late = run("sh", &["-c", &script], &[], Vec::new(), Duration::from_millis(300));
        assert!(matches!(late, Err(ProcessError::Late { .. })));
        drop(writer);
        let (mut reader, mut rest) = (reader, Vec::new());
        assert_eq!(reader.read_to_end(&mut rest).unwrap(), 0);
        let gone = run("no-such-program-here", &none, &[], Vec::new(), limit);
        assert!(matches!(gone, Err(ProcessError::Start { .. })));
    }
}
