//! The answering side, in the daemon.
//!
//! It never believes who a request says it is from, never keeps more than a line in memory, and
//! never waits for a slow asker longer than a few seconds.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{interval, timeout};

use super::super::exit::ErrorKind;
use super::{REPLY_BYTES_MAX, REQUEST_BYTES_MAX, Reply, Request, accounts};
use crate::port::BoxFuture;

/// Members may talk to the daemon.
const GROUP: &str = "trueup";
/// Conversations at once; an operator has one.
const CONVERSATIONS_MAX: usize = 32;
/// The most an asker may take to say what it wants, or to read a line.
const LINE_TIME_MAX: Duration = Duration::from_secs(10);
/// How often an asker is told that its answer is being worked on.
const WORKING_EVERY: Duration = Duration::from_secs(5);

/// Answers requests.
pub trait Desk: Send + Sync {
    /// Answers one request of `actor`.
    fn answer(&self, request: Request, actor: String) -> BoxFuture<'_, Reply>;
}

/// Why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon answers on it.
    #[error("another daemon listens on {}", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// The operating system said no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The socket.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// Opens the socket at `path` for root and the group `trueup` (for root alone where there is no
/// such group). A socket that nobody listens on any more is replaced.
///
/// # Errors
/// A [`BindError`].
pub fn bind(path: &Path) -> Result<UnixListener, BindError> {
    let fail = |doing| move |source| BindError::Io { doing, path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail("make the folder of"))?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(BindError::Taken { path: path.to_owned() }),
        // A connection to a plain file is refused as well, and that is somebody's.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let there = std::fs::symlink_metadata(path).map_err(fail("look at"))?;
            if !there.file_type().is_socket() {
                return Err(fail("replace, as it is no socket,")(
                    io::ErrorKind::AlreadyExists.into(),
                ));
            }
            std::fs::remove_file(path).map_err(fail("replace the stale socket"))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fail("look at")(error)),
    }
    // Bound beside its place and moved there once its rights are right, so that nobody gets in
    // through the moment between.
    let young = path.with_extension("young");
    match std::fs::remove_file(&young) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(fail("clear the way for")(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&young).map_err(fail("open"))?;
    let mode = match accounts::group(GROUP) {
        Some(group) => {
            std::os::unix::fs::chown(&young, None, Some(group))
                .map_err(fail("give the group trueup"))?;
            0o660
        }
        None => 0o600,
    };
    let rights = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(&young, rights).map_err(fail("set the rights of"))?;
    std::fs::rename(&young, path).map_err(fail("put into place"))?;
    Ok(listener)
}

/// Answers until `stop` becomes true. Conversations under way are broken off then.
pub async fn serve(listener: UnixListener, desk: Arc<dyn Desk>, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONVERSATIONS_MAX));
    let mut talks = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            Some(_) = talks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the control socket failed");
                // Out of descriptors, most likely: accepting at once would only spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!("too many conversations on the control socket; one was turned away");
            continue;
        };
        let desk = Arc::clone(&desk);
        talks.spawn(async move {
            if let Err(error) = talk(stream, &*desk).await {
                tracing::debug!(%error, "a conversation on the control socket broke off");
            }
            drop(place);
        });
    }
}

async fn talk(stream: UnixStream, desk: &dyn Desk) -> io::Result<()> {
    let actor = accounts::operator(stream.peer_cred()?.uid());
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(reading.take(REQUEST_BYTES_MAX));
    timeout(LINE_TIME_MAX, reader.read_line(&mut line)).await??;
    let request = match serde_json::from_str::<Request>(&line) {
        Ok(request) => request,
        Err(error) => {
            let message = format!("the daemon does not understand the request: {error}");
            let reply = Reply::Failed { kind: ErrorKind::Usage, message };
            return say(&mut writing, &reply).await;
        }
    };
    tracing::debug!(actor, ?request, "asked");
    let answer = desk.answer(request, actor);
    tokio::pin!(answer);
    let mut ticks = interval(WORKING_EVERY);
    ticks.tick().await;
    loop {
        tokio::select! {
            reply = &mut answer => return say(&mut writing, &reply).await,
            _ = ticks.tick() => say(&mut writing, &Reply::Working).await?,
        }
    }
}

async fn say(writing: &mut tokio::net::unix::OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    if line.len() as u64 > REPLY_BYTES_MAX {
        let message = format!("the answer is longer than {REPLY_BYTES_MAX} bytes: ask for less");
        line = serde_json::to_vec(&Reply::Failed { kind: ErrorKind::Machine, message })?;
        line.push(b'\n');
    }
    timeout(LINE_TIME_MAX, writing.write_all(&line)).await?
}
