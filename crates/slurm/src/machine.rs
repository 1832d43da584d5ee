//! The machine where a controller is, as far as this crate needs one: programs run there, and a few files
//! there are read and exchanged. [`Here`] is this very machine; whoever reaches another one brings a
//! [`Machine`] of their own. Nothing here decides anything.

use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, getuid};

use crate::run::{self, Argv, RunError, Said};

/// Lines that are kept of a daemon on trial: one says some fifty.
const LINES_MAX: usize = 10_000;
/// How long a daemon on trial may take to end once it was told to.
const END_LIMIT: Duration = Duration::from_secs(20);

/// What folders of trials are called, before letters by chance.
pub const TRIAL_FOLDER: &str = "slurm-trial-";

/// A machine with Slurm on it.
pub trait Machine: fmt::Debug + Send + Sync {
    /// Runs a program to its end and gives what it said, whatever its exit code.
    ///
    /// # Errors
    /// [`RunError`], [`RunError::Failed`] excepted.
    fn run(&self, argv: &Argv, limit: Duration) -> Result<Said, RunError>;

    /// Starts a daemon that stays in the foreground, hears what it says on its standard error until it
    /// runs, ends or the limit is over, and ends it. Where whoever started it is killed, it ends by itself
    /// at [`Trial::longest`].
    ///
    /// # Errors
    /// [`RunError`], [`RunError::Failed`] excepted.
    fn hear(&self, argv: &Argv, trial: &Trial<'_>) -> Result<Heard, RunError>;

    /// Reads a file; `None` where there is none.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Writes a file whole or not at all, durably, with the mode and owner of the one before it; else
    /// with mode 0644: everybody on the machine reads `slurm.conf`.
    ///
    /// # Errors
    /// Whatever keeps it from being written.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file durably; one that is not there is no error.
    ///
    /// # Errors
    /// Whatever keeps it from being removed.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a new folder below `work` that nobody else may look into.
    ///
    /// # Errors
    /// Whatever keeps it from being made.
    fn new_folder(&self, work: &Path) -> io::Result<PathBuf>;

    /// Makes a folder in one of [`Machine::new_folder`].
    ///
    /// # Errors
    /// Whatever keeps it from being made.
    fn sub_folder(&self, path: &Path) -> io::Result<()>;

    /// Writes a file in a folder of [`Machine::new_folder`], which nobody else reads meanwhile.
    ///
    /// # Errors
    /// Whatever keeps it from being written.
    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Removes a folder of [`Machine::new_folder`] with what is in it.
    ///
    /// # Errors
    /// Whatever keeps it from being removed.
    fn clear(&self, folder: &Path) -> io::Result<()>;

    /// Removes the folders of [`Machine::new_folder`] below `work` that a program which was killed left: those
    /// of that name and of our own user, and nothing else. Nobody may have one of them at that time. How many
    /// there were.
    ///
    /// # Errors
    /// Whatever keeps them from being looked for or removed.
    fn sweep(&self, work: &Path) -> io::Result<usize>;

    /// A port on which nothing listens now.
    ///
    /// # Errors
    /// There is none.
    fn free_port(&self) -> io::Result<u16>;

    /// As whom programs run there, by number.
    fn user(&self) -> u32;

    /// Whether anybody still waits for what is done there. Where nobody does, everything may be refused, and
    /// whoever asks again and again is to end.
    fn is_awaited(&self) -> bool {
        true
    }
}

/// A daemon on trial.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    /// The words by which it says that it runs.
    pub running: &'a str,
    /// How long it has to go on after them.
    pub goes_on: Duration,
    /// Longest that it may take to say them.
    pub limit: Duration,
    /// A file in its folder that it may write what it says into, for machines where it is not heard while
    /// it runs; the arguments that make it do so.
    pub log: (&'a Path, &'a [&'a str]),
}

impl Trial<'_> {
    /// Longest that it may be there.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.limit + self.goes_on + END_LIMIT
    }
}

/// What a daemon on trial said, and how that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its lines, without the one that says that it runs.
    pub lines: Vec<String>,
    /// How it ended.
    pub end: HeardEnd,
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeardEnd {
    /// It ran, and went on.
    Running,
    /// It ended by itself.
    Ended,
    /// The limit was over.
    Late,
}

/// This machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Here;

impl Here {
    /// This machine, for whoever wants any.
    #[must_use]
    pub fn shared() -> Arc<dyn Machine> {
        Arc::new(Self)
    }
}

impl Machine for Here {
    fn run(&self, argv: &Argv, limit: Duration) -> Result<Said, RunError> {
        argv.run(limit)
    }

    fn hear(&self, argv: &Argv, trial: &Trial<'_>) -> Result<Heard, RunError> {
        let start = |error| RunError::Start { program: argv.shown(), error };
        let mut command = argv.bounded(trial.longest()).command();
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(start)?;
        let id = Pid::from_child(&child);
        let heard = hear(&mut child, trial);
        // It was not waited for yet, so its id is its own.
        run::end(id);
        let waited = child.wait();
        waited.map_err(|error| RunError::Read { program: argv.shown(), error })?;
        Ok(heard)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_none(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        new.write_all(bytes)?;
        let before = match fs::metadata(path) {
            Ok(before) => Some(before),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mode = before.as_ref().map_or(0o644, |before| before.mode() & 0o7777);
        new.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        if let Some(before) = before {
            let (user, group) = (Some(before.uid()), Some(before.gid()));
            std::os::unix::fs::fchown(new.as_file(), user, group)?;
        }
        new.as_file().sync_all()?;
        new.persist(path).map_err(|error| error.error)?;
        sync_folder(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_folder(path),
        }
    }

    fn new_folder(&self, work: &Path) -> io::Result<PathBuf> {
        let made = tempfile::Builder::new().prefix(TRIAL_FOLDER).tempdir_in(work)?;
        fs::set_permissions(made.path(), fs::Permissions::from_mode(0o700))?;
        Ok(made.keep())
    }

    fn sub_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
    }

    fn clear(&self, folder: &Path) -> io::Result<()> {
        fs::remove_dir_all(folder)
    }

    fn sweep(&self, work: &Path) -> io::Result<usize> {
        let entries = match fs::read_dir(work) {
            Ok(entries) => entries,
            Err(error) if is_none(&error) => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut swept = 0;
        for entry in entries {
            let entry = entry?;
            let named = entry.file_name().to_string_lossy().starts_with(TRIAL_FOLDER);
            // Of the entry itself: a link leads to what is not ours.
            let found = entry.metadata()?;
            if named && found.is_dir() && found.uid() == self.user() {
                fs::remove_dir_all(entry.path())?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    fn free_port(&self) -> io::Result<u16> {
        Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
    }

    fn user(&self) -> u32 {
        getuid().as_raw()
    }
}

fn is_none(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn hear(child: &mut Child, trial: &Trial<'_>) -> Heard {
    let (tell, told) = mpsc::channel();
    if let Some(pipe) = child.stderr.take() {
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok).take(LINES_MAX) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
    }
    let mut lines = Vec::new();
    let (mut until, mut quiet) = (Instant::now() + trial.limit, HeardEnd::Late);
    let end = loop {
        match told.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(trial.running) => {
                (until, quiet) = (Instant::now() + trial.goes_on, HeardEnd::Running);
            }
            Ok(line) => lines.push(line),
            Err(RecvTimeoutError::Disconnected) => break HeardEnd::Ended,
            Err(RecvTimeoutError::Timeout) => break quiet,
        }
    };
    Heard { lines, end }
}

/// A folder for a trial, which is gone with it.
#[derive(Debug)]
pub(crate) struct Folder<'m> {
    machine: &'m dyn Machine,
    path: Option<PathBuf>,
}

impl<'m> Folder<'m> {
    pub(crate) fn new(machine: &'m dyn Machine, work: &Path) -> io::Result<Self> {
        Ok(Self { machine, path: Some(machine.new_folder(work)?) })
    }

    pub(crate) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new("/nonexistent"))
    }

    /// Removes it, and says where that does not work.
    pub(crate) fn close(mut self) -> io::Result<()> {
        self.path.take().map_or(Ok(()), |path| self.machine.clear(&path))
    }
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // What is told is why the trial failed; a folder that is left holds no secret.
            match self.machine.clear(&path) {
                Ok(()) | Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_trial_left_is_swept_and_nothing_else() {
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        assert_eq!(Here.sweep(&at("none")).unwrap(), 0);
        let left = Here.new_folder(work.path()).unwrap();
        fs::create_dir(left.join("state")).unwrap();
        fs::create_dir(at("keys")).unwrap();
        fs::write(at("slurm-trial-note"), "a file").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("kept"), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), at("slurm-trial-link")).unwrap();
        let of_another = Here.new_folder(work.path()).unwrap();
        let foreign = std::os::unix::fs::chown(&of_another, Some(65534), None).is_ok();
        assert_eq!(Here.sweep(work.path()).unwrap(), if foreign { 1 } else { 2 });
        assert!(!left.exists() && at("keys").is_dir() && at("slurm-trial-note").is_file());
        assert!(elsewhere.path().join("kept").is_file() && of_another.exists() == foreign);
        assert_eq!(Here.sweep(work.path()).unwrap(), 0);
    }
}
