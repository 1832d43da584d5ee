//! The mode of a GPU: whether it is cut at all.
//!
//! A mode that would only come with a reset is taken back, unless a reset is allowed.

use trueup_nvml::{Client, ModeChange};

use super::super::behind_port::Inner;
use super::super::host::Host;
use super::super::look::whole_holders;
use super::super::tools::Ran;
use super::{Trouble, fault, record, within};
use crate::model::{Fault, ResourceId};
use crate::plan::GpuChange;
use crate::port::Outcome;

/// What came of asking for a mode.
enum Asked {
    /// It was in force before.
    Already,
    /// It is in force.
    InForce,
    /// It comes with a reset.
    AfterReset,
}

pub(super) async fn switch(
    inner: &Inner,
    id: &ResourceId,
    change: &GpuChange,
    on: bool,
    reset: bool,
) -> Result<Outcome, Fault> {
    let doing = format!("switching {id} to {}", if on { "mig" } else { "whole" });
    let (gpu, host) = (change.gpu.clone(), inner.host.clone());
    let asked = inner
        .worker
        .ask(move |session| within(session, |client| ask(client, &gpu, &host, on, reset)));
    let asked = asked.await?.map_err(|trouble| fault(&doing, trouble, change))?;
    match asked {
        Asked::Already => Ok(Outcome { already: true, ..Outcome::default() }),
        Asked::InForce => Ok(Outcome::default()),
        Asked::AfterReset => restart(inner, &doing, change, on).await,
    }
}

/// Resets the GPU, and sees whether the mode came with it.
async fn restart(
    inner: &Inner,
    doing: &str,
    change: &GpuChange,
    on: bool,
) -> Result<Outcome, Fault> {
    let ask = "reset the GPU or reboot the machine: the mode comes with it";
    // A reset is refused while anybody has the GPU open, this program too.
    match inner.worker.without(&inner.events, inner.tools.reset(&change.gpu)).await? {
        Ran::Well => {}
        Ran::Absent => {
            let message = format!("{doing} needs a reset, and nvidia-smi is not installed");
            return Err(Fault::needs_human(message, ask));
        }
        Ran::Badly(why) => {
            let message = format!("{doing} needs a reset, which nvidia-smi cannot do: {why}");
            return Err(Fault::needs_human(message, ask));
        }
    }
    let gpu = change.gpu.clone();
    let seen = inner.worker.ask(move |session| within(session, |client| record(client, &gpu)));
    let seen = seen.await?.map_err(|trouble| fault(doing, trouble, change))?;
    match seen.mig {
        Some(mode) if mode.current == on => Ok(Outcome::default()),
        _ => Err(Fault::needs_human(format!("{doing} did not come with a reset"), ask)),
    }
}

fn ask(client: &Client, gpu: &str, host: &Host, on: bool, reset: bool) -> Result<Asked, Trouble> {
    let found = record(client, gpu)?;
    let Some(mode) = found.mig else {
        return Err(Trouble::Other("the GPU has no MIG mode".to_owned()));
    };
    if mode.current == on && mode.pending == on {
        return Ok(Asked::Already);
    }
    let who: Vec<String> =
        whole_holders(&found, host, &host.hidden()).iter().map(ToString::to_string).collect();
    if !who.is_empty() {
        return Err(Trouble::Busy(format!("the GPU is used by {}", who.join(", "))));
    }
    let asked = client.set_mig_mode(gpu, on)?;
    let take_back = || client.set_mig_mode(gpu, mode.current).map(drop);
    match asked {
        // The driver's word is not the mode: a change may succeed and do nothing.
        ModeChange::Active if record(client, gpu)?.mig.is_some_and(|mode| mode.current == on) => {
            Ok(Asked::InForce)
        }
        ModeChange::Active => Err(Trouble::Other(
            "the driver says that the mode is in force, and it is not".to_owned(),
        )),
        ModeChange::NeedsReset if reset => Ok(Asked::AfterReset),
        ModeChange::NeedsReset => {
            take_back()?;
            Err(Trouble::Nvml(trueup_nvml::Error::Call {
                function: "nvmlDeviceSetMigMode",
                code: trueup_nvml::Code::ResetRequired,
            }))
        }
        ModeChange::InUse => {
            take_back()?;
            let who = match host.hidden().openers() {
                none if none.is_empty() => "a display server or a monitor may hold it".to_owned(),
                some => format!("these have GPUs open: {}", some.join(", ")),
            };
            Err(Trouble::Busy(format!("the driver says that the GPU is in use; {who}")))
        }
        ModeChange::Waits(code) => {
            take_back()?;
            Err(Trouble::Other(format!("the mode is not in force: {code}")))
        }
    }
}
