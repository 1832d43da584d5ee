//! A repository anywhere rclone reaches: `rclone serve restic` on the loopback, asked like a server.
//!
//! The server lives as long as the worker: the kernel ends it when the worker is killed. User and
//! password are drawn anew each time and go by its environment, which only its owner may read.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;

use super::rest::Rest;
use super::{Kind, Store, Stored};
use crate::protocol::Fault;
use crate::seal;

/// rclone opens the remote before it listens; a slow login takes some seconds.
const START_MAX: Duration = Duration::from_secs(60);
/// What it says once it listens, before the URL.
const LISTENS: &str = "Serving restic REST API on ";
/// Lines kept of what it says, for the fault if it fails.
const LINES_MAX: usize = 20;

pub(crate) struct Rclone {
    rest: Rest,
    remote: String,
    child: Child,
}

impl Rclone {
    pub(crate) fn start(remote: &str, config: Option<&Path>) -> Result<Self, Fault> {
        if remote.is_empty() || remote.starts_with('-') {
            return Err(Fault::Invalid { what: format!("`{remote}` names no rclone remote") });
        }
        let offline = |why: String| Fault::RepositoryOffline { at: remote.to_owned(), why };
        let (user, password) = (secret()?, secret()?);
        // setpriv(1) asks the kernel to kill the server when the thread that starts it is gone.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "rclone", "serve", "restic"]);
        command.args(["--addr", "127.0.0.1:0"]);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        command.arg(remote).env("RCLONE_USER", &user).env("RCLONE_PASS", &password);
        // rclone cannot use it and gives up over it (seen with 1.60).
        command.env_remove("AWS_CA_BUNDLE");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| Fault::Invalid {
            what: format!("setpriv and rclone cannot be started: {error}; install them"),
        })?;
        // From here on dropping it ends the child.
        let mut started = Started(Some(child));
        let url = started.url().map_err(offline)?;
        let rest = Rest::with_login(&url, &user, &password)?;
        match started.0.take() {
            Some(child) => Ok(Rclone { rest, remote: remote.to_owned(), child }),
            None => Err(Fault::Internal { what: "rclone was ended while it started".into() }),
        }
    }
}

fn secret() -> Result<String, Fault> {
    let bytes: [u8; 16] =
        seal::random().map_err(|error| Fault::Internal { what: error.to_string() })?;
    Ok(hex::encode(bytes))
}

fn end(child: &mut Child) {
    // It may be gone already; then there is nothing to end.
    drop(child.kill());
    drop(child.wait());
}

struct Started(Option<Child>);

impl Started {
    /// Where it listens.
    fn url(&mut self) -> Result<String, String> {
        let stderr = self.0.as_mut().and_then(|child| child.stderr.take());
        let stderr = stderr.ok_or("its messages cannot be read")?;
        let (say, heard) = mpsc::channel();
        // Reads on after the URL, so that the server never waits for somebody to read.
        std::thread::spawn(move || {
            let mut said = Vec::new();
            let mut say = Some(say);
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, url)) = line.split_once(LISTENS) {
                    let url = url.trim().trim_matches(['[', ']']).to_owned();
                    drop(say.take().map(|say| say.send(Ok(url))));
                }
                if said.len() < LINES_MAX {
                    said.push(line);
                }
            }
            drop(say.take().map(|say| say.send(Err(said.join("; ")))));
        });
        match heard.recv_timeout(START_MAX) {
            Ok(Ok(url)) => Ok(url),
            Ok(Err(said)) => Err(format!("rclone ended: {said}")),
            Err(_) => Err("rclone did not start in a minute".into()),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
}

impl Drop for Rclone {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Store for Rclone {
    fn location(&self) -> String {
        format!("rclone {}", self.remote)
    }

    fn create(&self) -> Stored<()> {
        self.rest.create()
    }

    fn list(&self, kind: Kind) -> Stored<Vec<(String, u64)>> {
        self.rest.list(kind)
    }

    fn read(&self, kind: Kind, name: &str) -> Stored<Bytes> {
        self.rest.read(kind, name)
    }

    fn read_range(&self, kind: Kind, name: &str, offset: u64, length: usize) -> Stored<Bytes> {
        self.rest.read_range(kind, name, offset, length)
    }

    fn write(&self, kind: Kind, name: &str, parts: &[Bytes], fresh: bool) -> Stored<()> {
        self.rest.write(kind, name, parts, fresh)
    }

    fn remove(&self, kind: Kind, name: &str) -> Stored<()> {
        self.rest.remove(kind, name)
    }

    fn settle(&self) -> Stored<()> {
        self.rest.settle()
    }

    fn sweep(&self) -> Stored<u64> {
        self.rest.sweep()
    }

    fn remote(&self) -> bool {
        true
    }
}
