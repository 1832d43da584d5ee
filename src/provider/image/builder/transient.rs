//! A build in a transient unit of systemd.
//!
//! The request goes in by a pipe that stays open: when it closes, because the step was given up or
//! the daemon is no more, the worker ends and systemd ends whatever it had started. So there is
//! nothing to stop by name and nothing left over. No shell, and nothing of the request in an
//! argument, where every user could read it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::process::{ChildStderr, Command};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::super::child::tail;
use super::{BuildReply, BuildRequest, Facts, MESSAGE_MAX, WORKER_COMMAND};
use crate::model::Fault;

/// What a unit's name begins with. systemd takes drop-ins for all of them from
/// `trueup-image-build-.service.d`.
const UNIT_PREFIX: &str = "trueup-image-build-";

/// How long a unit may run, in seconds: more than the limits of a build's steps together.
const UNIT_SECONDS_MAX: u64 = 4 * 3600;

/// How long it is waited for beyond that.
const GRACE: Duration = Duration::from_secs(60);

/// The most of the unit's stderr quoted in a fault, in bytes.
const STDERR_MAX: u64 = 4096;

/// What the unit may do, beside writing to one folder. The daemon's own unit stays as tight as it is.
///
/// mmdebstrap makes devices, mounts into the tree, changes its root to it and runs package scripts
/// there, which make users and set-user-ID programs; QEMU writes the code it runs when it emulates.
const PROPERTIES: &[&str] = &[
    "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID \
     CAP_KILL CAP_MKNOD CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_ADMIN CAP_SYS_CHROOT",
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectClock=yes",
    "RestrictRealtime=yes",
    "LockPersonality=yes",
    "KeyringMode=private",
    "RemoveIPC=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces=mnt pid ipc uts",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service @mount chroot pivot_root",
    "SystemCallErrorNumber=EPERM",
    // The modes of what is made come from the packages, not from the daemon's 0027.
    "UMask=0022",
    // Guests and the daemon go first.
    "CPUWeight=20",
    "IOWeight=20",
    "OOMScoreAdjust=500",
    "TimeoutStopSec=10",
];

/// The command line that runs `program image-build` in a unit that may write to `image`'s folder.
///
/// `tag` tells this try from others for the same image: the unit of one that was given up may take
/// some seconds to end, and nobody waits for that.
///
/// # Errors
/// [`Fault::Permanent`] for a folder whose name systemd cannot be told.
pub fn unit_argv(program: &Path, image: &Path, tag: &str) -> Result<Vec<OsString>, Fault> {
    let folder = image.parent().unwrap_or(Path::new("/"));
    let stem = image.file_stem().unwrap_or_default().to_string_lossy();
    let mut argv: Vec<OsString> =
        ["systemd-run", "--quiet", "--pipe", "--wait", "--collect"].map(OsString::from).to_vec();
    let mut add = |text: String| argv.push(text.into());
    add("--service-type=exec".to_owned());
    add(format!("--unit={UNIT_PREFIX}{stem}-{tag}.service"));
    add(format!("--description=trueup builds {stem}"));
    add(format!("--property=RuntimeMaxSec={UNIT_SECONDS_MAX}"));
    for property in PROPERTIES {
        add(format!("--property={property}"));
    }
    add(format!("--property=ReadWritePaths={}", quoted(folder)?));
    add("--".to_owned());
    argv.push(program.into());
    argv.push(WORKER_COMMAND.into());
    Ok(argv)
}

/// A path as one word of a property's list (systemd.syntax(7)).
fn quoted(path: &Path) -> Result<String, Fault> {
    match path.to_str() {
        Some(text) if path.is_absolute() && !text.contains(char::is_control) => {
            Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
        }
        _ => Err(Fault::permanent(format!(
            "{}: images cannot be built there, because systemd cannot be given that path: use a \
             pool with a plain absolute path",
            path.display()
        ))),
    }
}

pub(super) async fn build(
    program: &Path,
    request: &BuildRequest,
    told: impl Fn(&str) + Send + Sync,
) -> Result<Facts, Fault> {
    let tag = format!("{:08x}", fastrand::u32(..));
    let argv = unit_argv(program, &request.image, &tag)?;
    run(&argv, request, told).await
}

/// Runs the worker that `argv` starts, and gives it `request`.
async fn run(
    argv: &[OsString],
    request: &BuildRequest,
    told: impl Fn(&str) + Send + Sync,
) -> Result<Facts, Fault> {
    let image = &request.image;
    let lost = |error: io::Error| {
        Fault::transient(format!(
            "{}: the image cannot be built: cannot talk to its builder: {error}",
            image.display()
        ))
    };
    let mut message = serde_json::to_vec(request).map_err(|error| lost(error.into()))?;
    message.push(b'\n');
    let mut child = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Fault::transient(format!(
                "{}: the image cannot be built: cannot run `{}`: {error}",
                image.display(),
                PathBuf::from(&argv[0]).display()
            ))
        })?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(lost(io::Error::other("it has no pipes")));
    };
    let limit = Duration::from_secs(UNIT_SECONDS_MAX) + GRACE;
    // Beside the talk, so that nobody waits for room in the pipe; it ends with the unit.
    let complaint = tokio::spawn(complaint(stderr));
    let talk = async {
        // A worker that does not read says why on stderr; its silence is told below.
        let sent = stdin.write_all(&message).await;
        if let Err(error) = &sent {
            tracing::debug!(%error, "the builder did not take its request");
        }
        answers(BufReader::new(stdout.take(MESSAGE_MAX)), told).await
    };
    let answer = timeout(limit, talk).await.map_err(|_| {
        Fault::transient(format!(
            "{}: the image was not built within {UNIT_SECONDS_MAX} s",
            image.display()
        ))
    })?;
    // Only now: the end of its input tells the worker to stop.
    drop(stdin);
    let status = timeout(GRACE, child.wait()).await;
    match answer.map_err(lost)? {
        Some(BuildReply::Built(facts)) => Ok(facts),
        Some(BuildReply::Failed(fault)) => Err(fault),
        Some(BuildReply::Stage(_)) | None => {
            let said = match timeout(GRACE, complaint).await {
                Ok(Ok(said)) => said,
                Ok(Err(_)) | Err(_) => "it said nothing".to_owned(),
            };
            Err(silent(image, status, &said))
        }
    }
}

/// The fault of a worker that ended with `status` and `said` something, but no last word.
fn silent(image: &Path, status: Result<io::Result<ExitStatus>, Elapsed>, said: &str) -> Fault {
    let ended = match status {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "still there".to_owned(),
    };
    Fault::transient(format!(
        "{}: the image's builder ended without a word ({ended}): {said}; under systemd images are \
         built in a unit of their own, which needs D-Bus; `journalctl -u '{UNIT_PREFIX}*'` may say \
         more",
        image.display()
    ))
}

/// Tells the stages until the last word, which is returned; `None` where it never came.
async fn answers(
    mut stdout: impl AsyncBufRead + Unpin,
    told: impl Fn(&str),
) -> io::Result<Option<BuildReply>> {
    let mut line = String::new();
    loop {
        line.clear();
        if stdout.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match serde_json::from_str(&line)? {
            BuildReply::Stage(stage) => told(&stage),
            last => return Ok(Some(last)),
        }
    }
}

/// The end of what `systemd-run` or our own worker said on stderr: no output of a package or a guest.
async fn complaint(mut stderr: ChildStderr) -> String {
    let mut said = Vec::new();
    let mut chunk = [0; STDERR_MAX as usize];
    // An error is an end too: there is nothing more to be had.
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        said.extend_from_slice(&chunk[..read]);
        let over = said.len().saturating_sub(chunk.len());
        said.drain(..over);
    }
    tail(&said)
}

#[cfg(test)]
mod tests;
