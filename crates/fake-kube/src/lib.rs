//! A Kubernetes API server to test against: it keeps state, is strict where the real one is, and can be
//! told to fail.
//!
//! [`FakeKube::start`] runs one on a port of 127.0.0.1, behind TLS, on threads of its own, so that tests
//! with and without a runtime can use it; whoever is to talk to it gets a kubeconfig. In reading order:
//!
//! - `world`: what the cluster holds, to look at and to change as somebody else would. `ssa`: who owns
//!   which field.
//! - `http`: paths, patches, lists and watches. `tls`: certificates, also some that are over.
//! - `trouble`: what it does instead of an answer. `server`: its start and its end.
//!
//! Both it and a real server have to pass the contract of `crates/kubernetes` (`make test-kube`). Where
//! nothing is said it has no controllers, as the real one there: a Deployment has the status that a test
//! writes, and a budget allows what a test says. With [`World::run_controllers`] workloads run.
//!
//! Nothing here is part of the product.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "it serves tests, which fail where it cannot"
)]

mod http;
mod server;
mod ssa;
#[cfg(test)]
mod tests;
mod tls;
mod trouble;
mod world;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;

use server::Server;
use trouble::Book;

pub use tls::{Certificate, authority};
pub use trouble::Trouble;
pub use world::{Spot, World};

/// The only token that it knows.
pub const TOKEN: &str = "test-token";

/// The second number of a release, `v1.33.1`.
fn minor(release: &str) -> u32 {
    release.split('.').nth(1).unwrap().parse().unwrap()
}

/// What its handlers have.
#[derive(Clone)]
struct Shared {
    world: Arc<Mutex<World>>,
    book: Arc<Mutex<Book>>,
    release: Arc<str>,
}

/// A fake cluster with its API server.
pub struct FakeKube {
    shared: Shared,
    certificate: tls::Shown,
    address: SocketAddr,
    server: Mutex<Option<Server>>,
}

impl Default for FakeKube {
    fn default() -> Self {
        Self::start()
    }
}

impl FakeKube {
    /// Starts one of today's release.
    pub fn start() -> Self {
        Self::of_release("v1.33.1")
    }

    /// Starts one that says that it is of this release, as `v1.20.2`.
    pub fn of_release(release: &str) -> Self {
        let shared = Shared {
            world: Arc::new(Mutex::new(World::new(minor(release)))),
            book: Arc::default(),
            release: release.into(),
        };
        let certificate = tls::Shown::new(&Certificate::valid());
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::start(anywhere, &certificate, &shared);
        let address = server.address();
        Self { shared, certificate, address, server: Mutex::new(Some(server)) }
    }

    /// Its address, as `https://127.0.0.1:40123`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// A kubeconfig for it: the address, the authority and the token.
    pub fn kubeconfig(&self) -> String {
        let ca = base64::engine::general_purpose::STANDARD.encode(authority());
        let url = self.url();
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\ncontexts:\n- {{name: fake, context: {{cluster: fake, user: fake}}}}\nclusters:\n- {{name: fake, cluster: {{server: '{url}', certificate-authority-data: {ca}}}}}\nusers:\n- {{name: fake, user: {{token: {TOKEN}}}}}\n"
        )
    }

    /// Writes its kubeconfig into a folder.
    pub fn write_kubeconfig(&self, folder: &Path) -> PathBuf {
        let path = folder.join("kubeconfig");
        std::fs::write(&path, self.kubeconfig()).unwrap();
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, own).unwrap();
        path
    }

    /// What it holds. Nobody gets an answer while this is held: never await with it.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap()
    }

    /// The next `times` requests with this method, and this in their path or query, come to grief. Empty:
    /// any.
    pub fn trouble(&self, method: &str, path: &str, times: u32, trouble: Trouble) {
        self.book().add(method, path, times, trouble);
    }

    /// No trouble any more that has not come about yet.
    pub fn forget_trouble(&self) {
        self.book().plans.clear();
    }

    /// The requests so far, each as `METHOD path?query`.
    pub fn requests(&self) -> Vec<String> {
        self.book().requests.clone()
    }

    /// How many requests there were, by method and a part of the path and query. Empty: any.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let book = self.book();
        book.requests.iter().filter(|r| r.starts_with(method) && r.contains(path)).count()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.book().requests.clear();
    }

    /// Nothing before now can be watched from any more, and those who watch have to list anew (410).
    pub fn compact(&self) {
        self.world().compact();
    }

    /// From the next connection on it shows this certificate; connections that are open go on.
    pub fn show(&self, certificate: &Certificate) {
        self.certificate.set(certificate);
    }

    /// Nobody answers any more, and every connection is cut. What it holds stays.
    pub fn down(&self) {
        drop(self.server.lock().unwrap().take());
    }

    /// It answers again at the same address.
    pub fn up(&self) {
        let mut server = self.server.lock().unwrap();
        if server.is_none() {
            *server = Some(Server::start(self.address, &self.certificate, &self.shared));
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap()
    }
}
