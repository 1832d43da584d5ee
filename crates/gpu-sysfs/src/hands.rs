//! The two things that change a machine: a write to a file, and a command.
//!
//! Both are bounded. A write to sysfs runs the driver's code and can stay in the kernel for as long as
//! somebody has the device open; it is therefore done by a thread of its own, which is left behind
//! where it does not return. Commands run without a shell and with an empty environment.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::error::Error;
use crate::root::{Root, errno};
use crate::wait::{Looks, Patience};

/// Most that is kept of what a command says on its error output, in bytes.
const SAID_BYTES_MAX: u64 = 4096;

/// What performs steps. The seam for tests, whose hands answer as a kernel would.
pub trait Hands {
    /// Writes a value and a line end to a file that is there, in one write.
    ///
    /// # Errors
    /// [`Error::Write`] where the kernel refuses, [`Error::Stuck`] where it does not return.
    fn write(
        &mut self,
        root: &Root,
        path: &str,
        value: &str,
        patience: &Patience,
    ) -> Result<(), Error>;

    /// Runs a command to its end.
    ///
    /// # Errors
    /// [`Error::Run`] where it cannot be started, fails, or takes too long; it is then ended.
    fn run(&mut self, root: &Root, argv: &[String], patience: &Patience) -> Result<(), Error>;
}

/// The hands that touch the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveHands;

impl Hands for LiveHands {
    fn write(
        &mut self,
        root: &Root,
        path: &str,
        value: &str,
        patience: &Patience,
    ) -> Result<(), Error> {
        let mut file = root.writable(path).map_err(|errno| Error::write(path, value, errno))?;
        let (done, outcome) = mpsc::channel();
        let line = format!("{value}\n");
        let writer = thread::Builder::new().name("sysfs-write".to_owned()).spawn(move || {
            // Nobody listens any more where the deadline passed; the outcome is then observed.
            drop(done.send(file.write_all(line.as_bytes())));
        });
        writer.map_err(|error| Error::write(path, value, errno(&error)))?;
        match outcome.recv_timeout(patience.write) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::write(path, value, errno(&error))),
            Err(_) => Err(Error::Stuck {
                path: path.to_owned(),
                value: value.to_owned(),
                seconds: patience.write.as_secs(),
            }),
        }
    }

    fn run(&mut self, root: &Root, argv: &[String], patience: &Patience) -> Result<(), Error> {
        let failed = |why: String| Error::Run { argv: argv.to_vec(), why };
        if !root.is_live() {
            return Err(failed("is not run: the root is not this machine".to_owned()));
        }
        let (program, arguments) =
            argv.split_first().ok_or_else(|| failed("is no command".to_owned()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("cannot be started: {error}")))?;
        let said = said(&mut child);
        let mut looks = Looks::new(patience, patience.run);
        let status = loop {
            let status = child.try_wait().map_err(|error| failed(format!("is lost: {error}")))?;
            if status.is_some() || !looks.again() {
                break status;
            }
        };
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                // What it started may keep its error output open for ever.
                let text = said.recv_timeout(patience.settle).unwrap_or_default();
                Err(failed(format!("failed with {status}: {}", text.trim().escape_debug())))
            }
            None => {
                let ended = child.kill().and_then(|()| child.wait());
                let ended = ended.map_or_else(|error| error.to_string(), |it| it.to_string());
                let seconds = patience.run.as_secs();
                Err(failed(format!("did not end within {seconds} s and was ended: {ended}")))
            }
        }
    }
}

/// Collects the beginning of what a command says, and reads the rest away so that it never blocks.
fn said(child: &mut Child) -> mpsc::Receiver<String> {
    let (done, said) = mpsc::channel();
    if let Some(mut pipe) = child.stderr.take() {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let kept = pipe.by_ref().take(SAID_BYTES_MAX).read_to_end(&mut bytes);
            let rest = kept.and_then(|_| std::io::copy(&mut pipe, &mut std::io::sink()));
            let mut text = String::from_utf8_lossy(&bytes).into_owned();
            if let Err(error) = rest {
                text.push_str(&format!(" (the rest is lost: {error})"));
            }
            drop(done.send(text));
        });
    }
    said
}
