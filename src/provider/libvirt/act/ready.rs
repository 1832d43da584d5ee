//! Waiting until a guest proves that it is up.
//!
//! What a guest writes on its console never goes into an error: errors are kept in the log, and a
//! guest may print a password it made up. An operator who watches sees the last line, cut short and
//! without control characters.

use std::io::SeekFrom;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Act, LOOK_EVERY};
use crate::model::Fault;
use crate::model::resource::{Probe, Readiness};
use crate::port::{Outcome, ProgressUpdate};

/// How long one question to an agent or a port may take.
const ASK_LIMIT: Duration = Duration::from_secs(3);

/// How often it is checked that the domain still runs.
const ALIVE_EVERY: Duration = Duration::from_secs(2);

/// Most of the console that is searched at once, and kept for the next time: a longer line than
/// this is none that anybody waits for.
const WINDOW_MAX: usize = 64 << 10;

/// Most characters shown of a line.
const LINE_MAX: usize = 160;

impl Act<'_> {
    pub(super) async fn await_ready(
        &self,
        readiness: &Readiness,
        console_log: Option<&str>,
    ) -> Result<Outcome, Fault> {
        let begun = Instant::now();
        let deadline = begun + Duration::from_secs(readiness.timeout_s);
        let mut console = console_log.map(Console::new);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut alive_at = begun;
        loop {
            look.tick().await;
            if let Some(console) = &mut console {
                console.read().await.map_err(|error| self.unreadable(console, &error))?;
            }
            if self.is_ready(&readiness.probe, console.as_mut()).await? {
                return Ok(ready_after(begun));
            }
            if Instant::now() >= alive_at {
                alive_at = Instant::now() + ALIVE_EVERY;
                self.check_alive(console.as_ref()).await?;
                self.tell(begun, readiness, console.as_ref());
            }
            if Instant::now() >= deadline {
                return Err(Fault::transient(format!(
                    "{} did not prove that it is up within {} s ({}){}",
                    self.id(),
                    readiness.timeout_s,
                    words(&readiness.probe),
                    said(console.as_ref())
                )));
            }
        }
    }

    async fn is_ready(&self, probe: &Probe, console: Option<&mut Console>) -> Result<bool, Fault> {
        match probe {
            Probe::GuestAgent => {
                let ping = r#"{"execute":"guest-ping"}"#;
                let answer = self.client().agent_command(self.name(), ping, ASK_LIMIT);
                Ok(answer.await.is_ok())
            }
            Probe::Tcp { address, port } => {
                let connect = TcpStream::connect(SocketAddr::new(*address, *port));
                let answer = tokio::time::timeout(ASK_LIMIT, connect).await;
                Ok(answer.is_ok_and(|connected| connected.is_ok()))
            }
            Probe::Console { line } => match console {
                Some(console) => Ok(console.shows(line)),
                None => Err(Fault::permanent(format!(
                    "{} is to prove on its console that it is up, but its console is not written \
                     to a file; give it a console log",
                    self.id()
                ))),
            },
        }
    }

    fn unreadable(&self, console: &Console, error: &std::io::Error) -> Fault {
        Fault::transient(format!(
            "the console of {} at {} cannot be read: {error}",
            self.id(),
            console.path.display()
        ))
    }

    async fn check_alive(&self, console: Option<&Console>) -> Result<(), Fault> {
        let (record, _) = self.our_domain().await?;
        if record.active {
            return Ok(());
        }
        Err(Fault::transient(format!(
            "{} stopped before it proved that it is up{}",
            self.id(),
            said(console)
        )))
    }

    fn tell(&self, begun: Instant, readiness: &Readiness, console: Option<&Console>) {
        let last = console.and_then(|console| console.last_lines(1).pop());
        let what = match last {
            Some(last) => format!("waiting: {} ({last})", words(&readiness.probe)),
            None => format!("waiting: {}", words(&readiness.probe)),
        };
        (self.progress)(ProgressUpdate {
            what,
            done: begun.elapsed().as_secs(),
            total: Some(readiness.timeout_s),
        });
    }
}

fn ready_after(begun: Instant) -> Outcome {
    let seconds = format!("{:.1}", begun.elapsed().as_secs_f64());
    let mut outcome = Outcome::default();
    outcome.facts.insert("readyAfterS".to_owned(), seconds);
    outcome
}

fn words(probe: &Probe) -> String {
    match probe {
        Probe::GuestAgent => "the guest agent answers".to_owned(),
        Probe::Tcp { address, port } => format!("{} accepts", SocketAddr::new(*address, *port)),
        Probe::Console { line } => format!("`{line}` on the console"),
    }
}

/// Where to look next; never what is there.
fn said(console: Option<&Console>) -> String {
    match console {
        None => "; look at its console".to_owned(),
        Some(console) => format!(
            "; look at its console: {} lines are in {}",
            console.lines,
            console.path.display()
        ),
    }
}

/// The tail of a console file that another process writes, starts anew and rotates.
struct Console {
    path: PathBuf,
    file: Option<File>,
    inode: u64,
    read: u64,
    /// Lines ended since the last start.
    lines: usize,
    /// The end of what was read, at most [`WINDOW_MAX`] bytes.
    window: Vec<u8>,
}

impl Console {
    fn new(path: &str) -> Self {
        Self {
            path: PathBuf::from(path),
            file: None,
            inode: 0,
            read: 0,
            lines: 0,
            window: Vec::new(),
        }
    }

    /// Takes in what was written since the last time. A file that is not there yet has nothing.
    async fn read(&mut self) -> std::io::Result<()> {
        self.drain().await?;
        let Some(metadata) = metadata(&self.path).await? else {
            return Ok(());
        };
        if self.file.is_none() || metadata.ino() != self.inode {
            // Rotated: the rest of the old file was just read.
            self.file = Some(File::open(&self.path).await?);
            self.inode = metadata.ino();
            self.read = 0;
        } else if metadata.len() < self.read {
            // Started anew: what was read belongs to an earlier start.
            self.read = 0;
            self.lines = 0;
            self.window.clear();
            if let Some(file) = &mut self.file {
                file.seek(SeekFrom::Start(0)).await?;
            }
        }
        self.drain().await
    }

    async fn drain(&mut self) -> std::io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut buffer = [0; 8 << 10];
        loop {
            let count = file.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            self.read += count as u64;
            self.lines += buffer[..count].iter().filter(|byte| **byte == b'\n').count();
            self.window.extend_from_slice(&buffer[..count]);
            let surplus = self.window.len().saturating_sub(WINDOW_MAX);
            self.window.drain(..surplus);
        }
    }

    fn shows(&self, text: &str) -> bool {
        let text = text.as_bytes();
        !text.is_empty() && self.window.windows(text.len()).any(|part| part == text)
    }

    fn last_lines(&self, count: usize) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.window);
        let mut lines: Vec<String> = text
            .lines()
            .rev()
            .map(|line| line.chars().filter(|c| !c.is_control()).take(LINE_MAX).collect())
            .map(|line: String| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .take(count)
            .collect();
        lines.reverse();
        lines
    }
}

async fn metadata(path: &Path) -> std::io::Result<Option<std::fs::Metadata>> {
    match tokio::fs::metadata(path).await {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(path: &Path, text: &str) {
        use std::io::Write;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[tokio::test]
    async fn follows_a_console_that_grows_rotates_and_starts_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        let mut console = Console::new(path.to_str().unwrap());
        console.read().await.unwrap();
        assert!(!console.shows("READY"));
        append(&path, "boot\r\nRE");
        console.read().await.unwrap();
        append(&path, "ADY one\n");
        console.read().await.unwrap();
        assert!(console.shows("READY one"));
        append(&path, "before the rotation\n");
        std::fs::rename(&path, directory.path().join("web.log.0")).unwrap();
        append(&path, "after\n");
        console.read().await.unwrap();
        assert!(console.shows("before the rotation\nafter"));
        std::fs::write(&path, "").unwrap();
        console.read().await.unwrap();
        assert!(!console.shows("READY"), "that was an earlier start");
    }

    #[tokio::test]
    async fn an_error_says_where_the_console_is_and_not_what_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        append(&path, "booting\nroot password: hunter2\n");
        let mut console = Console::new(path.to_str().unwrap());
        console.read().await.unwrap();
        let shown = said(Some(&console));
        assert_eq!(shown, format!("; look at its console: 2 lines are in {}", path.display()));
    }

    #[tokio::test]
    async fn shows_little_and_nothing_strange() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        append(&path, &format!("a\n\x1b[31mred\x07\n\n{}\n", "x".repeat(9999)));
        let mut console = Console::new(path.to_str().unwrap());
        console.read().await.unwrap();
        let lines = console.last_lines(2);
        assert_eq!(lines[0], "[31mred");
        assert_eq!(lines[1].len(), LINE_MAX);
        append(&path, &"y".repeat(3 * WINDOW_MAX));
        console.read().await.unwrap();
        assert_eq!(console.window.len(), WINDOW_MAX);
    }
}
