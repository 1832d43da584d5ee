//! The worker: reads one request from its stdin, builds, answers, and ends.
//!
//! It ends at once, unfinished, when its stdin does: nobody waits for the image any more.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::unix::pipe::Receiver;

use super::{BuildReply, BuildRequest, MESSAGE_MAX, build_here};
use crate::model::Fault;

/// Builds what is asked for on stdin, a pipe, and gives every answer to `say`.
///
/// # Errors
/// Where stdin is no pipe, or ends before the request does.
pub async fn serve(say: impl Fn(&BuildReply) + Send + Sync) -> io::Result<()> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    serve_from(stdin, say).await
}

async fn serve_from(stdin: OwnedFd, say: impl Fn(&BuildReply) + Send + Sync) -> io::Result<()> {
    // Not tokio's stdin: its reading thread would hold up the end of this process.
    let mut stdin = BufReader::new(Receiver::from_owned_fd(stdin)?.take(MESSAGE_MAX));
    let mut line = String::new();
    stdin.read_line(&mut line).await?;
    if !line.ends_with('\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "there is no whole request"));
    }
    let request = match request(&line) {
        Ok(request) => request,
        Err(fault) => {
            say(&BuildReply::Failed(fault));
            return Ok(());
        }
    };
    let build = build_here(&request, |stage| say(&BuildReply::Stage(stage.to_owned())));
    let mut rest = Vec::new();
    tokio::select! {
        built = build => {
            say(&match built {
                Ok(facts) => BuildReply::Built(facts),
                Err(fault) => BuildReply::Failed(fault),
            });
            Ok(())
        }
        // Nothing follows a request, so this is the end of it: the daemon gave it up, or is no more.
        ended = stdin.read_to_end(&mut rest) => {
            ended?;
            tracing::info!("given up: nobody waits for the image any more");
            Ok(())
        }
    }
}

fn request(line: &str) -> Result<BuildRequest, Fault> {
    let own = env!("CARGO_PKG_VERSION");
    let refused = |why: String| {
        Fault::needs_human(
            format!("the program that builds images refuses the daemon's request: {why}"),
            "restart trueup, so that both are the same version".to_owned(),
        )
    };
    let request: BuildRequest =
        serde_json::from_str(line).map_err(|error| refused(error.to_string()))?;
    if request.version == own {
        return Ok(request);
    }
    Err(refused(format!("it is version {own}, the daemon is {}", request.version)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Mutex;

    use super::*;

    fn served(input: &[u8], keep_open: bool) -> (io::Result<()>, Vec<BuildReply>) {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(input).unwrap();
        let _held = keep_open.then_some(writer);
        let said = Mutex::new(Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ended = runtime.block_on(serve_from(reader.into(), |reply| {
            said.lock().unwrap().push(reply.clone());
        }));
        (ended, said.into_inner().unwrap())
    }

    fn a_request(version: &str, suite: &str) -> Vec<u8> {
        let spec = serde_json::json!({
            "suite": suite, "mirror": null, "components": ["main"], "packages": [],
            "kernel": "linux-image-cloud-amd64", "files": {}, "users": {}, "cloudInit": false,
            "bootCheck": null,
        });
        let request = serde_json::json!({
            "version": version, "spec": spec, "format": "qcow2", "size": null,
            "image": "/nonexistent/image-x-000000000000.qcow2",
        });
        let mut line = serde_json::to_vec(&request).unwrap();
        line.push(b'\n');
        line
    }

    #[test]
    fn another_version_is_refused_with_what_to_do() {
        let (ended, said) = served(&a_request("0.0.0", "bookworm"), true);
        ended.unwrap();
        let [BuildReply::Failed(Fault::NeedsHuman { message, ask })] = &said[..] else {
            panic!("{said:?}");
        };
        assert!(message.contains("the daemon is 0.0.0") && ask.contains("restart"), "{message}");
    }

    #[test]
    fn a_request_with_a_mistake_is_answered_with_the_builds_own_fault() {
        let (ended, said) = served(&a_request(env!("CARGO_PKG_VERSION"), "--no such"), true);
        ended.unwrap();
        assert!(matches!(&said[..], [BuildReply::Failed(Fault::Permanent { .. })]), "{said:?}");
    }

    #[test]
    fn half_a_request_is_none() {
        let request = a_request(env!("CARGO_PKG_VERSION"), "bookworm");
        let (ended, said) = served(&request[..40], false);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(said.is_empty());
    }
}
