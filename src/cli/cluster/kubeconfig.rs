//! `trueup cluster access kubeconfig` and `take`: access to a namespace for a person, for a while.
//!
//! The token that the daemon answers with goes to stdout, and nowhere else.

use clap::{Args, ValueEnum};
use jiff::SignedDuration;
use trueup_kubernetes::namespace::Role;

use super::super::context::Context;
use super::super::control::{self, AccessAsk, AskError, Reply, Request};
use super::super::exit::{CliError, CliResult, Done};
use super::super::operate::{operate, unanswered, unexpected};
use super::super::time::shown;
use super::hand::{named, span, the_cluster};
use crate::model::Name;
use crate::state::Command;

/// Print a kubeconfig that lets a person do something in one namespace, for a while
///
/// Who may be given what is said by the cluster's document (`namespaces[].kubeconfigs`). What was given, to
/// whom and by whom is in the log; the token is printed here, once, and kept nowhere. It ends with its time
/// or with `trueup cluster access take`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup cluster access kubeconfig --user ann --namespace research --role edit --for 8h > ann.kubeconfig")]
pub(super) struct Kubeconfig {
    /// Whom it is for
    #[arg(long, value_name = "NAME")]
    user: String,
    /// For which namespace
    #[arg(long, value_name = "NAME")]
    namespace: String,
    /// What they may do there
    #[arg(long, value_enum, default_value_t = May::View)]
    role: May,
    /// For how long: 30m, 8h, 2d
    #[arg(long = "for", value_name = "DURATION", value_parser = span)]
    lasts: SignedDuration,
    /// The cluster, where there are several
    #[arg(long, value_name = "NAME", value_parser = named)]
    cluster: Option<Name>,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum May {
    /// Look, but not at Secrets
    View,
    /// Change what runs
    Edit,
}

impl Kubeconfig {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let resource = the_cluster(context, self.cluster, None)?;
        let role = match self.role {
            May::View => Role::View,
            May::Edit => Role::Edit,
        };
        let seconds = u64::try_from(self.lasts.as_secs()).unwrap_or_default();
        let ask = AccessAsk { resource, user: self.user, namespace: self.namespace, role, seconds };
        let said = (ask.resource.clone(), ask.user.clone());
        let socket = context.places()?.socket();
        let handed = match control::ask(&socket, &Request::Kubeconfig(ask)) {
            Ok(Reply::Kubeconfig(handed)) => handed,
            Ok(other) => return Err(unexpected(other)),
            Err(error @ AskError::NoDaemon { .. }) => {
                return Err(CliError::machine(error)
                    .hint("nobody else would take it back in time: systemctl start trueup"));
            }
            Err(error) => return Err(unanswered(error)),
        };
        context.ui.raw(&handed.kubeconfig)?;
        context.ui.say(&format!(
            "{} has access {} to {} until {}; `trueup cluster access take --user {}` ends it",
            said.1,
            handed.number,
            said.0,
            shown(handed.until),
            said.1,
        ));
        Ok(Done::Fine)
    }
}

/// Take access back that was given with `trueup cluster access kubeconfig`
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup cluster access take --user ann")]
pub(super) struct Take {
    /// Whose
    #[arg(long, value_name = "NAME")]
    user: String,
    /// Only to this namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Only this one, as `trueup cluster` shows it
    #[arg(long, value_name = "NUMBER")]
    number: Option<u64>,
    /// The cluster, where there are several
    #[arg(long, value_name = "NAME", value_parser = named)]
    cluster: Option<Name>,
}

impl Take {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let resource = the_cluster(context, self.cluster, None)?;
        let said = format!("what {} has of {resource} ends with the next pass", self.user);
        let Self { user, namespace, number, cluster: _ } = self;
        operate(context, Command::TakeAccess { resource, user, namespace, number }, &said)
    }
}
