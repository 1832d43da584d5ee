//! The receiver as a forge sees it.

use std::sync::atomic::{AtomicUsize, Ordering};

use hmac::{Hmac, Mac as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::forge::command::WEBHOOK_BYTES_MAX;
use crate::port::BoxFuture;

const SECRET: &str = "canary-hook-secret";
const PUSH: &str = r#"{"ref":"refs/heads/main","repository":{"full_name":"Acme/env"}}"#;

struct RealClock(tokio::time::Instant);

impl Clock for RealClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

struct Bench {
    address: std::net::SocketAddr,
    woken: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

fn settings(listen: &str, folder: &std::path::Path) -> WebhookSettings {
    use std::os::unix::fs::PermissionsExt as _;
    let file = folder.join("secret");
    std::fs::write(&file, SECRET).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let json = serde_json::json!({ "listen": listen, "secret": { "file": file } });
    serde_json::from_value(json).unwrap()
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings("127.0.0.1:0", folder.path());
        let bound = bind(&settings).await.unwrap();
        let address = bound.address().unwrap();
        let (stop, stopped) = watch::channel(false);
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let wake: Wake = Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let clock = Arc::new(RealClock(tokio::time::Instant::now()));
        let serving = tokio::spawn(async move {
            serve(bound, &settings, "acme/env".into(), wake, clock, stopped).await;
        });
        Self { address, woken, stop, serving, _folder: folder }
    }

    /// The status of the answer to these bytes.
    async fn send(&self, bytes: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        String::from_utf8_lossy(&head)[9..].parse().unwrap()
    }

    async fn hook(&self, event: &str, body: &str, signature: Option<&str>) -> u16 {
        let mut head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\nx-github-event: {event}\r\ncontent-length: {}\r\n",
            body.len()
        );
        if let Some(signature) = signature {
            head += &format!("x-hub-signature-256: {signature}\r\n");
        }
        self.send(format!("{head}\r\n{body}").as_bytes()).await
    }

    fn woken(&self) -> usize {
        self.woken.load(Ordering::SeqCst)
    }
}

fn signed(body: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn a_signed_one_wakes_once_and_everything_else_is_refused() {
    let bench = Bench::new().await;
    assert_eq!(bench.hook("push", PUSH, None).await, 401);
    assert_eq!(bench.hook("push", PUSH, Some("sha256=00")).await, 401);
    assert_eq!(bench.hook("push", &PUSH.replace("main", "mine"), Some(&signed(PUSH))).await, 401);
    assert_eq!(bench.hook("push", "[]", Some(&signed("[]"))).await, 400);
    let other = PUSH.replace("env", "other");
    assert_eq!(bench.hook("push", &other, Some(&signed(&other))).await, 202);
    assert_eq!(bench.hook("ping", "{}", Some(&signed("{}"))).await, 202);
    assert_eq!(bench.woken(), 0);
    assert_eq!(bench.hook("push", PUSH, Some(&signed(PUSH))).await, 202);
    while bench.woken() == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        assert_eq!(bench.hook("push", PUSH, Some(&signed(PUSH))).await, 202, "a replay");
    }
    assert_eq!(bench.woken(), 1);
}

#[tokio::test]
async fn what_is_too_long_or_no_webhook_is_not_read() {
    let bench = Bench::new().await;
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: x\r\n");
    let long = format!("{head}content-length: {}\r\n\r\n", WEBHOOK_BYTES_MAX + 1);
    assert_eq!(bench.send(long.as_bytes()).await, 413);
    let endless = format!("{head}transfer-encoding: chunked\r\n\r\n");
    assert_eq!(bench.send(endless.as_bytes()).await, 411);
    assert_eq!(bench.send(b"GET /webhook HTTP/1.1\r\nhost: x\r\n\r\n").await, 405);
    assert_eq!(bench.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await, 404);
    assert_eq!(bench.woken(), 0);
}

#[tokio::test]
async fn a_flood_is_turned_away_and_wakes_nobody_more_often() {
    let bench = Bench::new().await;
    let (mut taken, mut away) = (0, 0);
    for n in 0..120 {
        let body = PUSH.replace("main", &format!("b{n}"));
        match bench.hook("push", &body, Some(&signed(&body))).await {
            202 => taken += 1,
            429 => away += 1,
            other => panic!("{other}"),
        }
    }
    assert!(taken >= 60 && away > 0, "{taken} {away}");
    // A slow machine may take longer than one gap for all of them.
    assert!(bench.woken() < taken / 4, "{}", bench.woken());
}

#[tokio::test]
async fn it_ends_with_the_daemon_and_says_what_is_in_its_way() {
    let bench = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    let taken = bind(&settings(&bench.address.to_string(), folder.path())).await.unwrap_err();
    assert!(taken.to_string().contains(&bench.address.to_string()), "{taken}");
    bench.stop.send_replace(true);
    bench.serving.await.unwrap();
    let again = settings(&bench.address.to_string(), folder.path());
    assert!(bind(&again).await.is_ok(), "the address is free again");
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hook.sock");
    let settings = settings(&format!("unix:{}", path.display()), folder.path());
    let first = bind(&settings).await.unwrap();
    assert!(matches!(bind(&settings).await, Err(BindError::Taken { .. })));
    drop(first);
    assert!(bind(&settings).await.is_ok());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "a file").unwrap();
    assert!(bind(&settings).await.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file", "it is not ours to remove");
}
