//! Waiting until a guest proves that it is up.
//!
//! What a guest writes on its console never goes into an error: errors are kept in the log, and a
//! guest may print a password it made up. An operator who watches sees the last line, cut short and
//! without control characters.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::super::console::Console;
use super::{Act, LOOK_EVERY};
use crate::model::Fault;
use crate::model::resource::{Probe, Readiness};
use crate::port::{Outcome, ProgressUpdate};

/// How long one question to an agent or a port may take.
pub(in super::super) const ASK_LIMIT: Duration = Duration::from_secs(3);

/// How often it is checked that the domain still runs.
const ALIVE_EVERY: Duration = Duration::from_secs(2);

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

/// What is waited for, in a few words.
pub(in super::super) fn words(probe: &Probe) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_says_where_the_console_is_and_not_what_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        std::fs::write(&path, "booting\nroot password: hunter2\n").unwrap();
        let mut console = Console::new(path.to_str().unwrap());
        console.read().await.unwrap();
        let shown = said(Some(&console));
        assert_eq!(shown, format!("; look at its console: 2 lines are in {}", path.display()));
    }
}
