//! `trueup state`.

use clap::Args;
use jiff::Timestamp;

use super::context::Context;
use super::exit::{CliError, CliResult, Done};
use super::known::known;
use super::wire::Until;
use super::{Output, past, time, wire};

/// Print everything trueup knows, now or at a point of the log
///
/// The fold of the log up to there, as JSON or YAML. It is a view: nothing reads it back. The daemon
/// answers members of the group trueup, who cannot read the log.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup state | jq '.resources | keys'\n  \
    trueup state --at 120\n  \
    trueup state --at 2026-01-02T03:04:05Z\n  \
    trueup state --at 1h -o yaml")]
pub(super) struct State {
    /// At this event or time, or so long ago
    #[arg(long, value_name = "SEQ|TIME", value_parser = until)]
    at: Option<Until>,
    #[command(flatten)]
    pub(super) output: Output,
}

impl State {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let state = match self.at {
            None => known(context)?.state,
            Some(until) => {
                let dir = context.state_dir()?;
                match past::is_closed(&dir) {
                    true => past::ask_state(context, &dir, until)?,
                    false => wire::fold(&dir, until)?,
                }
            }
        };
        if state.seq == 0 {
            return Err(CliError::input("nothing had happened by then")
                .hint("`trueup log -n 1` shows the newest event, `trueup log` all of them"));
        }
        if let Some(Until::Seq(asked)) = self.at
            && state.seq < asked
        {
            context.ui.warn(&format!("the log ends at event {}", state.seq));
        }
        context.ui.data(&state)?;
        Ok(Done::Fine)
    }
}

/// A number is an event; anything else a time.
pub(super) fn until(text: &str) -> Result<Until, String> {
    match text.parse() {
        Ok(seq) => Ok(Until::Seq(seq)),
        Err(_) => time::point(text, Timestamp::now()).map(Until::Time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_an_event_and_anything_else_a_time() {
        assert_eq!(until("120"), Ok(Until::Seq(120)));
        let at = "2026-01-02T03:04:05Z";
        assert_eq!(until(at), Ok(Until::Time(at.parse().unwrap())));
        assert!(until("soon").is_err());
    }
}
