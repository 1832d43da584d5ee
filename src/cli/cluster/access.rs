//! `trueup cluster access`: ways into clusters as files for people's own programs.

use clap::{Args, ValueEnum};

use super::super::context::Context;
use super::super::exit::{CliError, CliResult, Done};
use super::super::known::known;
use super::super::ui::yaml;
use super::hand::named;
use crate::model::Name;
use crate::view::access;

/// Print an Ansible inventory or an ssh configuration of the machines of clusters
///
/// It follows from what the log says that trueup asks of each, and holds no key: who may log in is said by the
/// machines themselves.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup cluster access ansible > inventory.yaml\n  \
    trueup cluster access ssh --cluster hpc > ~/.ssh/config.d/hpc")]
pub(super) struct Access {
    /// For which program
    #[arg(value_enum)]
    program: Program,
    /// One cluster only
    #[arg(long, value_name = "NAME", value_parser = named)]
    cluster: Option<Name>,
}

/// A program that finds machines by a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Program {
    /// An inventory for Ansible, in YAML
    Ansible,
    /// A configuration for ssh
    Ssh,
}

impl Access {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let state = known(context)?.state;
        let clusters = access::clusters(&state, self.cluster.as_ref());
        if clusters.is_empty() {
            return Err(CliError::input(match &self.cluster {
                Some(name) => format!("there is no cluster/{name} of trueup's"),
                None => "trueup has no cluster yet".to_owned(),
            })
            .hint("`trueup cluster` shows what is asked for"));
        }
        let text = match self.program {
            Program::Ansible => yaml(&access::ansible(&clusters))?,
            Program::Ssh => access::ssh(&clusters),
        };
        context.ui.raw(&text)?;
        Ok(Done::Fine)
    }
}
