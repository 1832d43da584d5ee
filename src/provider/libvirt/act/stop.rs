//! Stopping a domain: the guest is asked, asked again, and only then, if the policy says so, ended.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use trueup_libvirt::{EventReceiver, RunState, ShutdownMode};

use super::{Act, already, done};
use crate::model::Fault;
use crate::model::resource::StopPolicy;
use crate::port::{Outcome, ProgressUpdate};

/// When a guest that does not react is asked a second time: a press of the power button while it
/// still boots is lost.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(15);

/// How often the state is looked at in case the event was lost with a connection.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a guest agent may take to take the request.
const AGENT_LIMIT: Duration = Duration::from_secs(5);

impl Act<'_> {
    pub(super) async fn stop_vm(&self, policy: StopPolicy) -> Result<Outcome, Fault> {
        match self.domain().await? {
            None => return Ok(already()),
            Some(record) if !record.active => return Ok(already()),
            Some(_) => {}
        }
        let (record, config) = self.our_domain().await?;
        // Before the guest is asked, or the answer could be missed.
        let mut events = self.client().events();
        let begun = Instant::now();
        let deadline = begun + Duration::from_secs(policy.timeout_s);
        if record.state == RunState::Paused {
            // A guest whose processors stand still cannot shut down.
            let resumed = self.client().resume(self.name()).await;
            resumed.map_err(self.failed("resuming, to shut it down,"))?;
        }
        self.ask(config.vm.guest_agent).await?;
        let again = deadline.min(begun + ASK_AGAIN_AFTER);
        let mut stopped = self.wait_off(&mut events, begun, again, policy).await?;
        if !stopped && again < deadline {
            self.ask(false).await?;
            stopped = self.wait_off(&mut events, begun, deadline, policy).await?;
        }
        let mut outcome = done();
        let how = if stopped {
            "gracefully"
        } else if policy.force {
            self.end().await?;
            "forced"
        } else {
            return Err(Fault::needs_human(
                format!(
                    "{} was asked to shut down and did not within {} s",
                    self.id(),
                    policy.timeout_s
                ),
                "shut it down from inside, or let the spec give it more time or force it off",
            ));
        };
        let seconds = begun.elapsed().as_secs().to_string();
        outcome.facts.insert("stopped".to_owned(), how.to_owned());
        outcome.facts.insert("stoppedAfterS".to_owned(), seconds);
        Ok(outcome)
    }

    /// Asks the guest to shut down: through its agent if it has one that answers, else by the power
    /// button.
    async fn ask(&self, agent: bool) -> Result<(), Fault> {
        if agent {
            let ping = r#"{"execute":"guest-ping"}"#;
            let answered = self.client().agent_command(self.name(), ping, AGENT_LIMIT);
            if answered.await.is_ok() {
                let asked = self.client().shutdown(self.name(), ShutdownMode::Agent);
                if asked.await.is_ok() {
                    return Ok(());
                }
            }
        }
        let pressed = self.client().shutdown(self.name(), ShutdownMode::Acpi).await;
        match pressed {
            Ok(()) => Ok(()),
            // It may have gone down by itself; whether it has is looked at next.
            Err(error) if error.code == trueup_libvirt::Code::OperationInvalid => Ok(()),
            Err(error) => Err(self.failed("shutting down")(error)),
        }
    }

    /// Waits until the domain is off, at most until `until`.
    async fn wait_off(
        &self,
        events: &mut EventReceiver,
        begun: Instant,
        until: Instant,
        policy: StopPolicy,
    ) -> Result<bool, Fault> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let off = self.domain().await?.is_none_or(|record| !record.active);
            if off || Instant::now() >= until {
                return Ok(off);
            }
            (self.progress)(ProgressUpdate {
                what: "waiting for the guest to shut down".to_owned(),
                done: begun.elapsed().as_secs(),
                total: Some(policy.timeout_s),
            });
            tokio::select! {
                event = events.next() => if event.is_none() {
                    return Err(Fault::transient(format!(
                        "stopping {} was given up: trueup is shutting down", self.id()
                    )));
                },
                _ = look.tick() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Ends the guest without asking it: first so that its emulator can write what it holds.
    async fn end(&self) -> Result<(), Fault> {
        self.our_domain().await?;
        match self.client().destroy(self.name(), true).await {
            Ok(()) => {}
            Err(error) if error.code == trueup_libvirt::Code::OperationInvalid => {}
            Err(error) if error.code == trueup_libvirt::Code::ResourceBusy => {
                let ended = self.client().destroy(self.name(), false).await;
                ended.map_err(self.failed("forcing off"))?;
            }
            Err(error) => return Err(self.failed("forcing off")(error)),
        }
        match self.domain().await? {
            Some(record) if record.active => Err(self.not_taken("it still runs")),
            _ => Ok(()),
        }
    }
}
