//! Tests of the control socket, both sides for real.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::*;
use crate::port::BoxFuture;
use crate::state::Command;

/// Says back who asked, and for what.
struct Echo;

impl Desk for Echo {
    fn answer(&self, request: Request, actor: String) -> BoxFuture<'_, Reply> {
        Box::pin(async move {
            let message = format!("{actor} {request:?}");
            Reply::Failed { kind: ErrorKind::Held, message }
        })
    }
}

struct Served {
    path: PathBuf,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Served {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/trueup.sock");
        let (stop, stopped) = watch::channel(false);
        let (ready, when_ready) = std::sync::mpsc::channel();
        let at = path.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = bind(&at).unwrap();
                ready.send(()).unwrap();
                serve(listener, Arc::new(Echo), stopped).await;
            });
        });
        when_ready.recv().unwrap();
        Self { path, stop, thread: Some(thread), _folder: folder }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_request_is_answered_and_its_asker_is_what_the_kernel_says() {
    let served = Served::start();
    let request = Request::Command(Command::Pause { reason: "lunch".into() });
    let reply = ask(&served.path, &request).unwrap();
    let Reply::Failed { kind, message } = reply else { panic!("{reply:?}") };
    assert_eq!(kind, ErrorKind::Held);
    assert!(message.starts_with("operator:") && message.contains("lunch"), "{message}");
}

#[test]
fn the_socket_is_closed_to_others() {
    let served = Served::start();
    let mode = std::fs::metadata(&served.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
}

#[test]
fn nobody_there_is_told_from_broken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.sock");
    let error = ask(&path, &Request::Known).unwrap_err();
    assert!(matches!(error, AskError::NoDaemon { .. }), "{error}");
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let served = Served::start();
    assert!(matches!(in_runtime(|| bind(&served.path)), Err(BindError::Taken { .. })));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    in_runtime(|| bind(&path)).unwrap();
    // What is no socket is somebody's, and stays.
    let file = path.with_file_name("file");
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(in_runtime(|| bind(&file)), Err(BindError::Io { .. })));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

fn in_runtime<T>(work: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { work() })
}

#[test]
fn nonsense_and_endless_lines_get_an_answer_and_no_memory() {
    let served = Served::start();
    let said = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&served.path).unwrap();
        // The daemon may stop reading before everything was sent.
        let sent = stream.write_all(bytes);
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        assert!(read.is_ok() || sent.is_err() || !text.is_empty());
        text
    };
    assert!(said(b"{\"type\":\"format\"}\n").contains("does not understand"));
    let endless = vec![b'x'; usize::try_from(REQUEST_BYTES_MAX).unwrap()];
    assert!(said(&endless).contains("does not understand"));
}

#[test]
fn requests_and_replies_survive_the_line() {
    let look = Look { color: true, width: 80 };
    for request in [
        Request::Plan(look),
        Request::Apply { look, approve: Some("0123456789ab".into()) },
        Request::Known,
    ] {
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    }
    let reply = Reply::Report(Box::default());
    let text = serde_json::to_string(&reply).unwrap();
    assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
}
