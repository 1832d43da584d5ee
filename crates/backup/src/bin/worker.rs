//! Does one backup job and ends. Started by trueup, never by hand; see `trueup_backup::protocol`.

use std::process::ExitCode;

use rustix::process::{Signal, getpid, kill_process};

fn main() -> ExitCode {
    trueup_malloc::one_arena();
    let gone = || {
        // Every state on the way is one that the next run copes with; so there is nothing to tidy.
        kill_process(getpid(), Signal::KILL).ok();
    };
    match trueup_backup::serve(std::io::stdin(), std::io::stdout(), gone) {
        Ok(true) => ExitCode::SUCCESS,
        // The last line says why, or nobody reads it.
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}
