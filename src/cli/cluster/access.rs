//! `trueup cluster access`: ways into clusters as files for people's own programs.

use clap::{Args, Subcommand};

use super::super::context::Context;
use super::super::exit::{CliError, CliResult, Done};
use super::super::known::known;
use super::super::ui::yaml;
use super::hand::named;
use super::kubeconfig::{Kubeconfig, Take};
use crate::model::resource::Cluster;
use crate::model::{Name, ResourceId};
use crate::view::access;

/// Print an Ansible inventory, an ssh configuration or a kubeconfig for people's own programs
///
/// The first two follow from what the log says that trueup asks of each cluster, and hold no key: who may log
/// in is said by the machines themselves. A kubeconfig is made for one person, and ends.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup cluster access ansible > inventory.yaml\n  \
    trueup cluster access ssh --cluster hpc > ~/.ssh/config.d/hpc\n  \
    trueup cluster access kubeconfig --user ann --namespace research --role edit --for 8h > ann.kubeconfig")]
pub(super) struct Access {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Ansible(Ansible),
    Ssh(Ssh),
    Kubeconfig(Kubeconfig),
    Take(Take),
}

/// Print the machines of clusters as an inventory for Ansible, in YAML
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  trueup cluster access ansible > inventory.yaml")]
struct Ansible {
    #[command(flatten)]
    of: Of,
}

/// Print the machines of clusters as a configuration for ssh
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup cluster access ssh --cluster hpc > ~/.ssh/config.d/hpc")]
struct Ssh {
    #[command(flatten)]
    of: Of,
}

#[derive(Debug, Args)]
struct Of {
    /// One cluster only
    #[arg(long, value_name = "NAME", value_parser = named)]
    cluster: Option<Name>,
}

impl Access {
    pub(super) fn run(self, context: &Context) -> CliResult {
        match self.what {
            What::Ansible(Ansible { of }) => {
                print(context, &of, |clusters| yaml(&access::ansible(clusters)))
            }
            What::Ssh(Ssh { of }) => print(context, &of, |clusters| Ok(access::ssh(clusters))),
            What::Kubeconfig(kubeconfig) => kubeconfig.run(context),
            What::Take(take) => take.run(context),
        }
    }
}

fn print(
    context: &Context,
    of: &Of,
    text: impl FnOnce(&[(&ResourceId, &Cluster)]) -> Result<String, CliError>,
) -> CliResult {
    let state = known(context)?.state;
    let clusters = access::clusters(&state, of.cluster.as_ref());
    if clusters.is_empty() {
        return Err(CliError::input(match &of.cluster {
            Some(name) => format!("there is no cluster/{name} of trueup's"),
            None => "trueup has no cluster yet".to_owned(),
        })
        .hint("`trueup cluster` shows what is asked for"));
    }
    context.ui.raw(&text(&clusters)?)?;
    Ok(Done::Fine)
}
