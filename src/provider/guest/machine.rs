//! What Slurm needs of the machine of a controller, of a guest.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde::de::IgnoredAny;
use serde_json::json;
use trueup_slurm::run::{Argv, RunError, Said};
use trueup_slurm::{Heard, Machine, TRIAL_FOLDER, Trial};

use super::{BASE64, CHUNK_MAX, FILE_LIMIT, Guest, Piece, beside};
use crate::port::AgentFault;

/// Most that is read of one file: files of Slurm are far smaller.
const FILE_MAX: usize = 64 << 20;
/// How long a daemon on trial has to end after it was told to.
const END_LIMIT: Duration = Duration::from_secs(20);
/// The first port of a trial in a guest, where nothing else is to be expected; and how many after it are
/// looked at, as a trial that nobody ended goes on for some minutes.
pub(super) const TRIAL_PORT: u16 = 26_817;
pub(super) const TRIAL_PORTS: u16 = 100;
/// What says which ports are taken (proc(5)).
pub(super) const SOCKETS: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// The line with which slurmctld acknowledges that it is told to end (controller.c).
const TOLD_TO_END: &str = "Terminate signal";

/// The local ports of a table of the kernel's: `0100007F:1F90` in the second column.
fn ports(table: &str) -> BTreeSet<u16> {
    let local = table.lines().filter_map(|line| line.split_whitespace().nth(1)?.rsplit_once(':'));
    local.filter_map(|(_, port)| u16::from_str_radix(port, 16).ok()).collect()
}

impl Machine for Guest {
    fn run(&self, argv: &Argv, limit: Duration) -> Result<Said, RunError> {
        let pid = self.start(argv)?;
        let said = self.last_words(argv, pid, limit);
        if matches!(said, Err(RunError::TimedOut { .. })) {
            self.signal(pid, "-KILL")?;
        }
        said
    }

    fn hear(&self, argv: &Argv, trial: &Trial<'_>) -> Result<Heard, RunError> {
        let bounded = argv.clone().args(trial.log.1).bounded(trial.longest());
        let pid = self.start(&bounded)?;
        let heard = self.until_heard(pid, trial);
        if !matches!(heard, Ok((_, false))) {
            self.signal(pid, "-TERM")?;
        }
        let (end, _) = heard?;
        let said = self.last_words(&bounded, pid, END_LIMIT)?;
        let lines = said.stderr.lines().take_while(|line| !line.contains(TOLD_TO_END));
        let lines = lines.filter(|line| !line.contains(trial.running)).map(str::to_owned);
        Ok(Heard { lines: lines.collect(), end })
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let path = path.display().to_string();
        let failed = |fault: AgentFault| self.file_fault(&path, &fault);
        let opened = self.ask::<i64>("guest-file-open", json!({ "path": path, "mode": "r" }));
        let handle = match opened {
            // The words of strerror(3), which an agent repeats; it runs without a locale.
            Err(AgentFault::Refused(words))
                if words.contains("No such file") || words.contains("Not a directory") =>
            {
                return Ok(None);
            }
            other => other.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        let late = Instant::now() + FILE_LIMIT;
        let read = loop {
            let arguments = json!({ "handle": handle, "count": CHUNK_MAX });
            let piece: Piece = match self.ask("guest-file-read", arguments) {
                Ok(piece) => piece,
                Err(fault) => break Err(failed(fault)),
            };
            let wrong = |what: &str| io::Error::other(format!("{path} in {}: {what}", self.name));
            match BASE64.decode(&piece.buf_b64) {
                Ok(more) if more.is_empty() && !piece.eof => {
                    break Err(wrong("its agent gives no more of it, and no end"));
                }
                Ok(more) => bytes.extend(more),
                Err(_) => break Err(wrong("its agent gives no base64")),
            }
            if bytes.len() > FILE_MAX {
                break Err(wrong("is too large"));
            }
            if piece.eof {
                break Ok(());
            }
            if Instant::now() >= late {
                break Err(wrong("its agent takes too long to give it"));
            }
        };
        let closed: Result<IgnoredAny, AgentFault> =
            self.ask("guest-file-close", json!({ "handle": handle }));
        read?;
        closed.map_err(failed)?;
        Ok(Some(bytes))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (new, named) = (beside(path), path.display().to_string());
        let made = new.display().to_string();
        // An agent makes files that everybody may write to.
        self.must(&["install", "-m", "0600", "/dev/null", &made])?;
        self.fill(&new, bytes)?;
        if self.read(path)?.is_some() {
            self.must(&["chown", &format!("--reference={named}"), &made])?;
            self.must(&["chmod", &format!("--reference={named}"), &made])?;
        } else {
            self.must(&["chmod", "0644", &made])?;
        }
        self.takes_its_place(&made, path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.must(&["rm", "-f", &path.display().to_string()])?;
        self.sync_folder(path)
    }

    fn new_folder(&self, work: &Path) -> io::Result<PathBuf> {
        let work = work.display().to_string();
        let argv =
            Argv::new("mktemp").args(["-d", "-p", &work, &format!("{TRIAL_FOLDER}XXXXXXXX")]);
        let made = argv.ask_on(self, FILE_LIMIT).map_err(io::Error::other)?;
        Ok(PathBuf::from(String::from_utf8_lossy(&made).trim()))
    }

    fn sub_folder(&self, path: &Path) -> io::Result<()> {
        self.must(&["mkdir", &path.display().to_string()])
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.fill(path, bytes)
    }

    fn clear(&self, folder: &Path) -> io::Result<()> {
        self.must(&["rm", "-r", "--one-file-system", &folder.display().to_string()])
    }

    fn sweep(&self, work: &Path) -> io::Result<usize> {
        // As whom an agent runs: only root's own folders, and no link.
        let work = work.display().to_string();
        let named = format!("{TRIAL_FOLDER}*");
        let words = ["-maxdepth", "1", "-type", "d", "-user", "root", "-name", &named, "-print"];
        let found = Argv::new("find").args([&work]).args(words).ask_on(self, FILE_LIMIT);
        let found = found.map_err(io::Error::other)?;
        let found = String::from_utf8_lossy(&found);
        let is_one = |name: &str| name.starts_with(TRIAL_FOLDER) && !name.contains('/');
        let names = found.lines().filter_map(|path| path.strip_prefix(&format!("{work}/")));
        let names: Vec<&str> = names.filter(|name| is_one(name)).collect();
        names.iter().try_for_each(|name| self.clear(&Path::new(&work).join(name)))?;
        Ok(names.len())
    }

    fn free_port(&self) -> io::Result<u16> {
        let mut taken = BTreeSet::new();
        for file in SOCKETS {
            let text = self.read(Path::new(file))?.unwrap_or_default();
            taken.extend(ports(&String::from_utf8_lossy(&text)));
        }
        let mut some = TRIAL_PORT..TRIAL_PORT + TRIAL_PORTS;
        some.find(|port| !taken.contains(port)).ok_or_else(|| {
            let last = TRIAL_PORT + TRIAL_PORTS - 1;
            io::Error::other(format!("ports {TRIAL_PORT} to {last} of {} are taken", self.name))
        })
    }

    fn user(&self) -> u32 {
        // An agent that is not root can change nothing there.
        0
    }
}
