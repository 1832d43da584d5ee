//! A fake API server that keeps state: server-side apply, watches, evictions, definitions. It is strict
//! where the real one is, and can be told to fail.

pub(crate) mod http;
pub(crate) mod ssa;
pub(crate) mod tls;
pub(crate) mod world;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use world::World;

/// What it does instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Trouble {
    /// This status, and after how many seconds it wants to be asked again.
    Status(u16, u32),
    /// No answer at all.
    Silence,
    /// An answer that nobody can read.
    Nonsense,
}

/// Trouble for the next requests that match.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) times: u32,
    pub(crate) trouble: Trouble,
}

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) plans: Vec<Plan>,
    /// Method and path of each request.
    pub(crate) requests: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) release: &'static str,
}

pub(crate) struct Fake {
    pub(crate) shared: Shared,
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The only token it knows.
pub(crate) const TOKEN: &str = "test-token";

impl Fake {
    /// On a port of its own.
    pub(crate) async fn start() -> Self {
        Self::of_release("v1.33.1").await
    }

    pub(crate) async fn of_release(release: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared =
            Shared { world: Arc::new(Mutex::new(World::new())), book: Arc::default(), release };
        let app = http::router(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { shared, url, task }
    }

    /// Behind TLS.
    pub(crate) async fn start_tls(identity: &tls::Identity) -> Self {
        let listener = tls::Listener::bind(identity).await;
        let url = format!("https://{}", listener.address);
        let world = Arc::new(Mutex::new(World::new()));
        let shared = Shared { world, book: Arc::default(), release: "v1.33.1" };
        let app = http::router(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { shared, url, task }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap()
    }

    /// The next requests that match come to grief.
    pub(crate) fn trouble(
        &self,
        method: &'static str,
        path: &'static str,
        times: u32,
        trouble: Trouble,
    ) {
        self.shared.book.lock().unwrap().plans.push(Plan { method, path, times, trouble });
    }

    /// How many requests there were since the last call, by method and a part of the path.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        let book = self.shared.book.lock().unwrap();
        book.requests.iter().filter(|r| r.starts_with(method) && r.contains(path)).count()
    }

    pub(crate) fn forget_requests(&self) {
        self.shared.book.lock().unwrap().requests.clear();
    }

    /// Nothing before now can be watched from any more, and those who watch have to list anew.
    pub(crate) fn compact(&self) {
        let mut world = self.world();
        world.compacted = world.version;
        world.changes.clear();
        let version = world.version;
        world.tell.send_replace(version);
    }

    pub(crate) fn kubeconfig(&self, dir: &Path, authority: Option<&Path>) -> PathBuf {
        let path = dir.join("kubeconfig");
        let authority = authority.map(|ca| format!(", certificate-authority: '{}'", ca.display()));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\nclusters: [{{name: k, cluster: {{server: '{}'{}}}}}]\nusers: [{{name: u, user: {{token: {TOKEN}}}}}]\n",
            self.url,
            authority.unwrap_or_default()
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}
