//! The socket webhooks come in by, with as many and as long conversations as are good for us.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Sleep, sleep};

use crate::config::{ListenOn, WebhookSettings};

/// Conversations at once: forges send one webhook after the other.
const CONNECTIONS_MAX: usize = 32;
/// Longest conversation, whoever is slow in it. Shorter than what a stop may take.
const CONVERSATION_MAX: Duration = Duration::from_secs(15);

/// Why webhooks cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The setting names no address.
    #[error("forge.webhook.listen: {listen} is neither `address:port` nor `unix:/path`")]
    NoAddress {
        /// What was set.
        listen: String,
    },
    /// Another program answers on the socket.
    #[error("forge.webhook.listen: another program listens on {}", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// The operating system said no.
    #[error("forge.webhook.listen: cannot listen on {listen}")]
    Io {
        /// What was set.
        listen: String,
        /// Its answer.
        source: io::Error,
    },
}

/// An open socket.
#[derive(Debug)]
pub struct Bound(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Bound {
    /// The address, where it is one of the network.
    #[must_use]
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        match &self.0 {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }
}

/// Opens the socket. Every user of this machine may speak to a UNIX socket, as to a port: what counts
/// is the signature.
///
/// # Errors
/// A [`BindError`] that says what is in the way.
pub async fn bind(settings: &WebhookSettings) -> Result<Bound, BindError> {
    let listen = settings.listen.clone();
    let fail = |source| BindError::Io { listen: listen.clone(), source };
    match settings.listen_on() {
        None => Err(BindError::NoAddress { listen }),
        Some(ListenOn::Tcp(address)) => {
            TcpListener::bind(address).await.map(Socket::Tcp).map(Bound).map_err(fail)
        }
        Some(ListenOn::Unix(path)) => {
            clear(&path, &fail)?;
            let listener = UnixListener::bind(&path).map_err(fail)?;
            let rights = std::fs::Permissions::from_mode(0o666);
            std::fs::set_permissions(&path, rights).map_err(fail)?;
            Ok(Bound(Socket::Unix(listener)))
        }
    }
}

/// Removes a socket that nobody listens on any more, and nothing else.
fn clear(path: &Path, fail: &impl Fn(io::Error) -> BindError) -> Result<(), BindError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
        // A connection to a plain file is refused as well.
        Ok(there) if !there.file_type().is_socket() => {
            return Err(fail(io::ErrorKind::AlreadyExists.into()));
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(BindError::Taken { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(fail)
        }
        Err(error) => Err(fail(error)),
    }
}

/// Answers until `stop` becomes true and what was under way has ended.
pub(super) async fn serve(bound: Bound, router: Router, stop: watch::Receiver<bool>) {
    match bound.0 {
        Socket::Tcp(listener) => serve_on(listener, router, stop).await,
        Socket::Unix(listener) => serve_on(listener, router, stop).await,
    }
}

async fn serve_on<L>(listener: L, router: Router, mut stop: watch::Receiver<bool>)
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let guarded = Guarded { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
    let stopped = async move {
        // An error says that nobody can ask any more, which is a stop as well.
        drop(stop.wait_for(|stop| *stop).await);
    };
    if let Err(error) = axum::serve(guarded, router).with_graceful_shutdown(stopped).await {
        tracing::error!(%error, "webhooks are no longer taken; news are found by polling");
    }
}

/// A listener with a limited number of places.
struct Guarded<L> {
    listener: L,
    places: Arc<Semaphore>,
}

impl<L: Listener> Listener for Guarded<L> {
    type Io = Timed<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed; without a place there would be one more, for once.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, address) = self.listener.accept().await;
        let deadline = Box::pin(sleep(CONVERSATION_MAX));
        (Timed { stream, deadline, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A conversation that ends at its deadline.
struct Timed<S> {
    stream: S,
    deadline: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Timed<S> {
    fn late(&mut self, context: &mut Context<'_>) -> Option<io::Error> {
        let late = self.deadline.as_mut().poll(context).is_ready();
        late.then(|| io::Error::from(io::ErrorKind::TimedOut))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.late(context) {
            Some(late) => Poll::Ready(Err(late)),
            None => Pin::new(&mut self.stream).poll_read(context, into),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.late(context) {
            Some(late) => Poll::Ready(Err(late)),
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.late(context) {
            Some(late) => Poll::Ready(Err(late)),
            None => Pin::new(&mut self.stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
