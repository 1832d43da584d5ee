//! `trueup init`.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use clap::Args;

use super::context::Context;
use super::exit::{CliError, CliResult, Done, ErrorKind};
use crate::config;

/// Write a config for this host, every setting explained
///
/// It is written to the place the config is read from (`--config`), and never over a file that is
/// there already.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  \
    trueup init https://git.example.org/env.git\n  \
    trueup init /srv/git/env.git --print\n  \
    trueup --config ./config.yaml init /srv/git/env.git")]
pub(super) struct Init {
    /// The repository: a path, or a file://, https:// or ssh:// URL
    url: String,
    /// Print it instead of writing it
    #[arg(long)]
    print: bool,
}

impl Init {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let path = context.config_path();
        let text = config::example(&self.url);
        // What is written has to be usable: a password in the URL is refused here already.
        config::parse(&path, &text)?;
        if self.print {
            context.ui.raw(&text)?;
            return Ok(Done::Fine);
        }
        let failed = |error: std::io::Error| {
            let kind = match error.kind() {
                std::io::ErrorKind::AlreadyExists => ErrorKind::Held,
                _ => ErrorKind::Machine,
            };
            CliError::new(kind, error)
                .hint(format!("{} was not written", path.display()))
                .hint("name another place with --config, or print it with --print")
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut options = std::fs::OpenOptions::new();
        // It holds no secret, and whoever may talk to the daemon has to find it.
        let file = options.write(true).create_new(true).mode(0o644).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)?;
        context.ui.say(&format!("wrote {}; next: trueup plan", path.display()));
        Ok(Done::Fine)
    }
}
