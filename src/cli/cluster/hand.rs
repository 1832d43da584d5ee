//! `trueup cluster drain` and `resume`: a node out of use for a while, as an event with an operator and
//! an end, so that Git and hands do not fight.

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::super::context::Context;
use super::super::exit::{CliError, CliResult};
use super::super::known::known;
use super::super::operate::operate;
use super::super::time::shown;
use crate::model::{Kind, Name, ResourceId};
use crate::state::Command;

/// Longest drain, hours: four weeks; what is out for longer should go from the spec.
const DRAIN_HOURS_MAX: i64 = 28 * 24;
/// Longest reason, bytes: it stands on the node, in a line of `sinfo -R`.
const REASON_MAX: usize = 200;

/// Take a node out of use for a while
///
/// No new jobs and pods come to it; those that run there go on. It is given back when the time is over,
/// with `trueup cluster resume`, or by hand with scontrol or kubectl.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup cluster drain n7 -m 'fan is loud' --for 4h")]
pub(super) struct Drain {
    /// The node
    node: String,
    /// Why; it stands on the node, for everybody to see
    #[arg(short = 'm', long, value_name = "WHY", value_parser = reason)]
    reason: String,
    /// For how long: 30m, 4h, 2d
    #[arg(long = "for", value_name = "DURATION", value_parser = span)]
    lasts: SignedDuration,
    /// The cluster, where there are several
    #[arg(long, value_name = "NAME", value_parser = named)]
    cluster: Option<Name>,
}

impl Drain {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let resource = the_cluster(context, self.cluster, Some(&self.node))?;
        let until = Timestamp::now().checked_add(self.lasts).map_err(CliError::input)?;
        let said = format!(
            "{} of {resource} is taken out with the next pass, until {}; `trueup cluster` shows it",
            self.node,
            shown(until)
        );
        let command = Command::DrainNode { resource, node: self.node, reason: self.reason, until };
        operate(context, command, &said)
    }
}

/// Give a node back that was taken out with `trueup cluster drain`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup cluster resume n7")]
pub(super) struct Resume {
    /// The node
    node: String,
    /// The cluster, where there are several
    #[arg(long, value_name = "NAME", value_parser = named)]
    cluster: Option<Name>,
}

impl Resume {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let resource = the_cluster(context, self.cluster, None)?;
        let said = format!("{} of {resource} is given back with the next pass", self.node);
        operate(context, Command::ResumeNode { resource, node: self.node }, &said)
    }
}

/// The cluster that is meant; without a name the only one.
pub(super) fn the_cluster(
    context: &Context,
    name: Option<Name>,
    node: Option<&String>,
) -> Result<ResourceId, CliError> {
    if let Some(node) = node.filter(|node| !is_plain(node)) {
        return Err(CliError::input(format!("`{}` is no name of a node", node.escape_debug())));
    }
    if let Some(name) = name {
        return Ok(ResourceId::new(Kind::Cluster, name));
    }
    let state = known(context)?.state;
    let mut clusters = state.resources.keys().filter(|id| id.kind == Kind::Cluster);
    match (clusters.next(), clusters.next()) {
        (Some(only), None) => Ok(only.clone()),
        (None, _) => Err(CliError::input("no cluster is asked for")),
        (Some(_), Some(_)) => {
            Err(CliError::input("there are several clusters").hint("name one with --cluster"))
        }
    }
}

/// A cluster by its name, or as `cluster/NAME`.
pub(super) fn named(text: &str) -> Result<Name, String> {
    Name::new(text.strip_prefix("cluster/").unwrap_or(text)).map_err(|error| error.to_string())
}

fn is_plain(node: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !node.is_empty() && node.len() <= 63 && node.chars().all(fits)
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("say why: whoever finds the node out wants to know".to_owned());
    }
    if text.len() > REASON_MAX || text.chars().any(char::is_control) {
        return Err(format!("one line of at most {REASON_MAX} bytes"));
    }
    Ok(text.to_owned())
}

pub(super) fn span(text: &str) -> Result<SignedDuration, String> {
    let hours = |days: i64| SignedDuration::from_hours(days.min(DRAIN_HOURS_MAX) * 24);
    // jiff leaves days to calendars; a drain's are of 24 hours.
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<u32>().ok())
        .map(|days| hours(i64::from(days)));
    let lasts = days.or_else(|| text.parse().ok());
    match lasts {
        Some(lasts) if lasts <= SignedDuration::ZERO => Err("that is no time at all".to_owned()),
        Some(lasts) if lasts > SignedDuration::from_hours(DRAIN_HOURS_MAX) => {
            Err("more than four weeks: take the node out of the spec".to_owned())
        }
        Some(lasts) => Ok(lasts),
        None => Err(format!("`{text}` is no span of time: write 30m, 4h or 2d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_type_them() {
        assert_eq!(span("2d"), Ok(SignedDuration::from_hours(48)));
        assert_eq!(span("90m"), Ok(SignedDuration::from_mins(90)));
        for wrong in ["", "soon", "-1h", "0s", "40d", "999999999999999999d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert!(reason(" ").is_err() && reason("a\nb").is_err());
        assert!(is_plain("gpu-17.rack_2") && !is_plain("n1 State=DOWN") && !is_plain("n[1-2]"));
    }
}
