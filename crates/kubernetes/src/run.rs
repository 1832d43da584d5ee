//! Programs of others, by argument vector and with a time limit. No shell, nothing of our environment,
//! and nothing that outlives the limit.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::fault::cut;

/// Most bytes that are taken of what a program says; more than any release may have.
const OUTPUT_MAX: u64 = 64 * 1024 * 1024;

/// Why a program's answer cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It cannot be started, or its words cannot be read.
    #[error("cannot run {}", .program.display())]
    Io {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("{} did not end within {seconds} s and was ended", .program.display())]
    TimedOut {
        /// The program.
        program: PathBuf,
        /// The limit.
        seconds: u64,
    },
    /// It said no.
    #[error("{} failed ({status}): {words}", .program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        words: String,
    },
    /// It said too much.
    #[error("{} wrote more than {OUTPUT_MAX} bytes", .program.display())]
    TooMuch {
        /// The program.
        program: PathBuf,
    },
}

/// Ends a whole group of processes when it goes out of scope, so that a caller who gives up leaves
/// nothing behind.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // It may have ended by itself just now, which is all that is wanted.
            match kill_process_group(id, Signal::KILL) {
                Ok(()) | Err(_) => {}
            }
        }
    }
}

/// Runs a program and gives what it wrote. It sees the variables that are named and no others; without
/// a `PATH` it can start nothing by name.
///
/// # Errors
/// [`RunError`].
pub async fn ask(
    program: &Path,
    args: &[std::ffi::OsString],
    env: &[(&str, &Path)],
    limit: Duration,
) -> Result<Vec<u8>, RunError> {
    let io = |source| RunError::Io { program: program.to_owned(), source };
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env.iter().copied()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(io)?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut group = Group(group);
    let said = tokio::time::timeout(limit, heard(&mut child)).await;
    let Ok(said) = said else {
        drop(group);
        child.wait().await.map_err(io)?;
        let seconds = limit.as_secs();
        return Err(RunError::TimedOut { program: program.to_owned(), seconds });
    };
    let (status, out, err) = said.map_err(io)?;
    // Waited for: the number may be another's from now on.
    group.0 = None;
    if out.len() as u64 > OUTPUT_MAX {
        return Err(RunError::TooMuch { program: program.to_owned() });
    }
    if status.success() {
        return Ok(out);
    }
    let words = cut(&String::from_utf8_lossy(&err));
    Err(RunError::Failed { program: program.to_owned(), status, words })
}

async fn heard(child: &mut Child) -> std::io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err) = tokio::try_join!(drain(out), drain(err))?;
    Ok((child.wait().await?, out, err))
}

async fn drain(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT_MAX + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_failures_and_limits_are_told_apart() {
        let limit = Duration::from_secs(20);
        let said = ask(Path::new("/bin/echo"), &["a".into(), "b c".into()], &[], limit).await;
        assert_eq!(said.unwrap(), b"a b c\n");
        let env = [("ONLY", Path::new("this"))];
        let said = ask(Path::new("/usr/bin/env"), &[], &env, limit).await.unwrap();
        assert_eq!(said, b"ONLY=this\n");
        let failed = ask(Path::new("/bin/ls"), &["/nonexistent".into()], &[], limit).await;
        assert!(failed.unwrap_err().to_string().contains("failed (exit status: 2)"));
        let long = ["100".into()];
        let late = ask(Path::new("/bin/sleep"), &long, &[], Duration::from_millis(50));
        assert!(matches!(late.await.unwrap_err(), RunError::TimedOut { .. }));
    }
}
