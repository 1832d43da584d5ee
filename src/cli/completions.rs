//! `trueup completions`.

use clap::Args;
use clap_complete::Shell;

use super::context::Context;
use super::exit::{CliError, CliResult, Done, ErrorKind};

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup completions bash > /etc/bash_completion.d/trueup\n  \
    trueup completions zsh > ~/.zfunc/_trueup")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command_line(), "trueup", &mut script);
        let script =
            String::from_utf8(script).map_err(|error| CliError::new(ErrorKind::Bug, error))?;
        context.ui.raw(&script)?;
        Ok(Done::Fine)
    }
}
