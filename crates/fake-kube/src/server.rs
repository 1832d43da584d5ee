//! The start and the end of a server: a runtime of its own, with which every connection ends.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::{Shared, http, tls};

/// Longest wait for its tasks at its end; none of them blocks.
const END_MAX: Duration = Duration::from_secs(10);

/// One that runs until it is dropped.
pub(crate) struct Server {
    runtime: Option<Runtime>,
    address: SocketAddr,
}

impl Server {
    pub(crate) fn start(at: SocketAddr, certificate: &tls::Shown, shared: &Shared) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (certificate, shared) = (certificate.clone(), shared.clone());
        runtime.spawn(async move {
            let listener = tls::Listener::new(listener, certificate);
            drop(tokio::spawn(http::moments(shared.clone())));
            axum::serve(listener, http::router(shared)).await.unwrap();
        });
        Self { runtime: Some(runtime), address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // The port is free and every connection cut once this is done. On a thread of its own: a test's
        // runtime would not let itself be blocked.
        let end = std::thread::spawn(move || runtime.shutdown_timeout(END_MAX));
        assert!(end.join().is_ok(), "the server could not be ended");
    }
}
