//! A repository anywhere rclone reaches: `rclone serve restic` on the loopback, asked like a server.
//!
//! The server lives as long as the worker: the kernel ends it when the worker is killed. User and
//! password are drawn anew each time and go by its environment, which only its owner may read.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;

use super::remote::Remote;
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
    at: String,
    child: Child,
}

impl Rclone {
    pub(super) fn start(remote: Remote) -> Result<Self, Fault> {
        let Remote { at, name, options, environment, secrets } = remote;
        if name.is_empty() || name.starts_with('-') {
            return Err(Fault::Invalid { what: format!("`{name}` names no rclone remote") });
        }
        // Started by another program, which could only say that it is not there in its own words.
        for (program, package) in [("setpriv", "util-linux"), ("rclone", "rclone")] {
            if !installed(program) {
                let (program, package) = (program.to_owned(), package.to_owned());
                return Err(Fault::HelperMissing { program, package, at });
            }
        }
        let (user, password) = (secret()?, secret()?);
        // setpriv(1) asks the kernel to kill the server when the thread that starts it is gone.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "rclone", "serve", "restic"]);
        command.args(["--addr", "127.0.0.1:0"]).args(options).arg(name);
        command.env("RCLONE_USER", &user).env("RCLONE_PASS", &password).envs(environment);
        // rclone cannot use it and gives up over it (seen with 1.60).
        command.env_remove("AWS_CA_BUNDLE");
        // Only the key that is named is offered.
        command.env_remove("SSH_AUTH_SOCK");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| Fault::Invalid {
            what: format!("setpriv and rclone cannot be started: {error}"),
        })?;
        // From here on dropping it ends the child.
        let mut started = Started(Some(child));
        let url = started.url().map_err(|said| failed(&at, &said, &secrets))?;
        let rest = Rest::with_login(&url, &user, &password)?;
        match started.0.take() {
            Some(child) => Ok(Rclone { rest, at, child }),
            None => Err(Fault::Internal { what: "rclone was ended while it started".into() }),
        }
    }
}

/// Whether a program of this name is where programs are.
fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Why rclone does not reach a place, from its own words.
fn failed(at: &str, said: &str, secrets: &[String]) -> Fault {
    let at = at.to_owned();
    if said.contains("knownhosts:") {
        let why = "the host has another key than those that are known of it".to_owned();
        return Fault::Refused { at, why };
    }
    if said.contains("unable to authenticate") {
        return Fault::Refused { at, why: "it does not accept the key".into() };
    }
    let hidden = |text: String, secret: &String| text.replace(secret.as_str(), "(hidden)");
    Fault::RepositoryOffline { at, why: secrets.iter().fold(said.to_owned(), hidden) }
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
        self.at.clone()
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
