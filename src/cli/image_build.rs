//! `trueup image-build`: what the daemon starts in a unit of its own to build one image.
//!
//! Not for people: the request comes as JSON on stdin and every answer goes as JSON to stdout.

use clap::Args;

use super::context::Context;
use super::exit::{CliError, CliResult, Done, ErrorKind};
use crate::provider::image::{BuildReply, serve_build};

/// Build one image for the daemon
#[derive(Debug, Args)]
#[command(
    hide = true,
    after_help = "EXAMPLES\n  \
    trueup image-build                # by the daemon, with a request on stdin"
)]
pub(super) struct ImageBuild {}

impl ImageBuild {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(CliError::machine)?;
        let served = runtime.block_on(serve_build(|reply| say(context, reply)));
        served.map_err(|error| {
            CliError::new(ErrorKind::Machine, format!("cannot build an image: {error}"))
                .hint("this command is for the daemon; `trueup apply` builds what is missing")
        })?;
        Ok(Done::Fine)
    }
}

fn say(context: &Context, reply: &BuildReply) {
    let line = match serde_json::to_string(reply) {
        Ok(line) => line,
        Err(error) => return tracing::error!(%error, "an answer cannot be written"),
    };
    // Nobody who reads is no mistake here: the end of stdin tells it too, and ends the build.
    if let Err(error) = context.ui.line(&line) {
        tracing::error!(?error, "an answer cannot be written");
    }
}
