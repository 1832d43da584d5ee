//! The asking side.
//!
//! It waits as long as the daemon says that it is at work, and no longer.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{REPLY_BYTES_MAX, Reply, Request};

/// Longest silence: the daemon says every few seconds that it is at work.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("no daemon listens on {}", path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
    },
    /// The socket may not be used.
    #[error("the daemon's socket {} may not be used by this user", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The conversation broke off.
    #[error("the daemon on {} did not answer", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What came back is no reply.
    #[error("the daemon on {} answered with something else", path.display())]
    Reply {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Asks the daemon behind the socket at `path` and waits for its answer.
///
/// # Errors
/// [`AskError::NoDaemon`] where none runs.
pub fn ask(path: &Path, request: &Request) -> Result<Reply, AskError> {
    let broken = |source| AskError::Broken { path: path.to_owned(), source };
    let stream = connect(path)?;
    stream.set_read_timeout(Some(SILENCE_MAX)).map_err(broken)?;
    stream.set_write_timeout(Some(SILENCE_MAX)).map_err(broken)?;
    let wrong = |source| AskError::Reply { path: path.to_owned(), source };
    let mut line = serde_json::to_vec(request).map_err(wrong)?;
    line.push(b'\n');
    (&stream).write_all(&line).map_err(broken)?;
    let mut reader = BufReader::new(&stream);
    loop {
        let mut text = String::new();
        reader.by_ref().take(REPLY_BYTES_MAX).read_line(&mut text).map_err(broken)?;
        if text.is_empty() {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&text).map_err(wrong)? {
            Reply::Working => {}
            reply => return Ok(reply),
        }
    }
}

fn connect(path: &Path) -> Result<UnixStream, AskError> {
    UnixStream::connect(path).map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                AskError::NoDaemon { path }
            }
            io::ErrorKind::PermissionDenied => AskError::Denied { path },
            _ => AskError::Broken { path, source },
        }
    })
}
