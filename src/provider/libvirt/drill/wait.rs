//! Waiting until a copy proves that it is up, and telling a guest that ended from one that was ended.
//!
//! That it does not come up is an answer; that nobody can tell is a fault.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, timeout};
use trueup_libvirt::{Client, DomainChange, Event, EventKind, EventReceiver};
use uuid::Uuid;

use super::super::console::Console;
use super::super::{act, fault};
use crate::model::Fault;
use crate::model::resource::Probe;
use crate::port::{Booted, Progress, ProgressUpdate};

/// How often it is looked whether it is up.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often it is checked that it still runs.
const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// How long libvirt may take to say why a domain stopped that is gone already.
const WHY_LIMIT: Duration = Duration::from_secs(3);

/// `VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN` and `…_CRASHED` of `virDomainEventStoppedDetailType`: the
/// guest's own doing. All others are somebody else's, or the host's.
const STOPPED_SHUTDOWN: i32 = 0;
const STOPPED_CRASHED: i32 = 2;

/// A copy that somebody waits for.
pub(super) struct Waiting<'a> {
    pub(super) client: Client,
    pub(super) name: &'a str,
    uuid: String,
    console: Console,
    events: EventReceiver,
    /// From when on it counts how long a restore takes: libvirt's own part is in it.
    begun: Instant,
    /// From when on the guest has time.
    started: Instant,
    alive_at: Instant,
    look: Interval,
    ended: Option<Ended>,
    progress: &'a Progress,
}

/// How it came that a copy runs no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// In the words for it.
    ByItself(&'static str),
    ByOthers,
}

impl<'a> Waiting<'a> {
    /// Before it is started.
    pub(super) fn new(
        client: Client,
        name: &'a str,
        uuid: Uuid,
        console: &Path,
        events: EventReceiver,
        progress: &'a Progress,
    ) -> Self {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let console = Console::new(&console.display().to_string());
        let (begun, uuid) = (Instant::now(), uuid.to_string());
        let (started, alive_at, ended) = (begun, begun, None);
        Self {
            client,
            name,
            uuid,
            console,
            events,
            begun,
            started,
            alive_at,
            look,
            ended,
            progress,
        }
    }

    /// Once it was started; when that was.
    pub(super) fn begin(&mut self) -> Instant {
        self.started = Instant::now();
        self.alive_at = self.started + ALIVE_EVERY;
        self.started
    }

    /// Waits for the proof; how long it took, or why it does not come.
    pub(super) async fn until_ready(
        &mut self,
        probe: &Probe,
        limit_s: u64,
    ) -> Result<Result<Duration, String>, Fault> {
        let limit = Duration::from_secs(limit_s);
        loop {
            if let Err(why) = self.pause().await? {
                return Ok(Err(why));
            }
            self.read().await?;
            let up = match probe {
                Probe::GuestAgent => self.agent_answers().await,
                Probe::Console { line } => self.console.shows(line),
                Probe::Tcp { .. } => {
                    return Err(Fault::permanent(format!(
                        "{} is to be asked over a network that a copy is not on: this is a mistake of \
                         trueup, please report it",
                        self.name
                    )));
                }
            };
            if up {
                return Ok(Ok(self.begun.elapsed()));
            }
            self.tell(probe, limit_s);
            if self.started.elapsed() >= limit {
                return Ok(Err(format!(
                    "a copy booted from it was not up within {limit_s} s ({})",
                    act::words(probe)
                )));
            }
        }
    }

    /// Waits until it is time to look again, and that it still runs; why it does not.
    pub(super) async fn pause(&mut self) -> Result<Result<(), String>, Fault> {
        loop {
            tokio::select! {
                _ = self.look.tick() => break,
                event = self.events.next() => match event {
                    Some(event) => self.heed(&event),
                    None => return Err(Fault::transient(
                        "a drill's boot was given up: trueup is shutting down",
                    )),
                },
            }
        }
        if self.ended.is_none() && Instant::now() >= self.alive_at {
            self.alive_at = Instant::now() + ALIVE_EVERY;
            if !self.runs().await? {
                self.await_why().await;
            }
        }
        match self.ended {
            None => Ok(Ok(())),
            Some(Ended::ByItself(how)) => {
                Ok(Err(format!("a copy booted from it {how} before it was done with")))
            }
            Some(Ended::ByOthers) => Err(Fault::transient(format!(
                "{}, which a drill booted, was ended from outside, or the connection to libvirt was \
                 lost; it is tried again later",
                self.name
            ))),
        }
    }

    fn heed(&mut self, event: &Event) {
        let EventKind::Domain { change, detail } = event.kind else { return };
        if event.uuid != self.uuid || matches!(self.ended, Some(Ended::ByItself(_))) {
            return;
        }
        self.ended = match (change, detail) {
            (DomainChange::Stopped, STOPPED_SHUTDOWN) => Some(Ended::ByItself("shut itself down")),
            (DomainChange::Crashed, _) | (DomainChange::Stopped, STOPPED_CRASHED) => {
                Some(Ended::ByItself("crashed"))
            }
            (DomainChange::Stopped, _) => Some(Ended::ByOthers),
            _ => return,
        };
    }

    async fn runs(&self) -> Result<bool, Fault> {
        match self.client.domain(self.name).await {
            Ok(record) => Ok(record.uuid == self.uuid && record.active),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(fault::step(format!("looking at {}", self.name), &error)),
        }
    }

    /// It is gone: libvirt may still be about to say why.
    async fn await_why(&mut self) {
        let said = timeout(WHY_LIMIT, async {
            while self.ended.is_none() {
                let Some(event) = self.events.next().await else { return };
                self.heed(&event);
            }
        });
        if said.await.is_err() || self.ended.is_none() {
            self.ended = Some(Ended::ByOthers);
        }
    }

    pub(super) async fn agent_answers(&self) -> bool {
        let ping = r#"{"execute":"guest-ping"}"#;
        self.client.agent_command(self.name, ping, act::ASK_LIMIT).await.is_ok()
    }

    async fn read(&mut self) -> Result<(), Fault> {
        self.console.read().await.map_err(|error| {
            Fault::transient(format!(
                "the console of {} at {} cannot be read: {error}",
                self.name,
                self.console.path.display()
            ))
        })
    }

    fn tell(&self, probe: &Probe, limit_s: u64) {
        let what = match self.console.last_lines(1).pop() {
            Some(last) => format!("booting a copy: {} ({last})", act::words(probe)),
            None => format!("booting a copy: {}", act::words(probe)),
        };
        let done = self.started.elapsed().as_secs();
        (self.progress)(ProgressUpdate { what, done, total: Some(limit_s) });
    }

    /// It is not up, or not as it should be.
    pub(super) async fn down(mut self, why: String) -> Booted {
        // What it wrote last says why; without it the verdict is the same.
        if let Err(error) = self.console.read().await {
            tracing::debug!(%error, name = self.name, "its console cannot be read");
        }
        Booted::Down { why, console: self.console.last_words() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(client: &Client, progress: &'static Progress, uuid: Uuid) -> Waiting<'static> {
        let events = client.events();
        Waiting::new(client.clone(), "copy", uuid, Path::new("/nowhere"), events, progress)
    }

    #[tokio::test]
    async fn a_guest_that_ends_is_told_from_one_that_is_ended() {
        let client = Client::new(trueup_libvirt::Options::new("test:///default"));
        let progress: Progress = std::sync::Arc::new(|_| ());
        let progress: &'static Progress = Box::leak(Box::new(progress));
        let ours = Uuid::from_u128(7);
        let stopped = |uuid: Uuid, detail| Event {
            kind: EventKind::Domain { change: DomainChange::Stopped, detail },
            name: "copy".into(),
            uuid: uuid.to_string(),
        };
        for (detail, ended) in [
            (0, Ended::ByItself("shut itself down")),
            (1, Ended::ByOthers),
            (2, Ended::ByItself("crashed")),
            (5, Ended::ByOthers),
        ] {
            let mut waiting = waiting(&client, progress, ours);
            waiting.heed(&stopped(Uuid::from_u128(8), 0));
            assert_eq!(waiting.ended, None, "another one");
            waiting.heed(&stopped(ours, detail));
            assert_eq!(waiting.ended, Some(ended));
        }
        // libvirt says that it crashed, and then that it is gone.
        let mut waiting = waiting(&client, progress, ours);
        waiting.heed(&stopped(ours, 2));
        waiting.heed(&stopped(ours, 5));
        assert_eq!(waiting.ended, Some(Ended::ByItself("crashed")));
    }
}
