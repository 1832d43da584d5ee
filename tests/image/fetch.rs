//! Downloads that break off, lie, stall or are too large; and local files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use trueup::model::Digest;
use trueup::provider::image::{FetchLimits, ImageError, fetch};

use super::server::{Answer, serve};

/// Impatient, so that no test waits for a real server's patience.
fn limits() -> FetchLimits {
    FetchLimits {
        total: Duration::from_secs(20),
        idle: Duration::from_millis(300),
        backoff: Duration::from_millis(1),
        size: 8 << 20,
    }
}

fn body() -> Vec<u8> {
    (0..1_000_000_u32).map(|n| (n * 7 / 3) as u8).collect()
}

async fn get(source: &str, sha256: Digest, dir: &Path) -> Result<std::path::PathBuf, ImageError> {
    fetch(source, sha256, dir, limits(), |_, _| {}).await
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let sha = Digest::of(body());
    let server = serve(body(), &[Answer::Cut(300_000), Answer::Cut(400_000), Answer::Whole]);
    let told = Mutex::new(Vec::new());
    let path = fetch(&server.url, sha, dir.path(), limits(), |done, total| {
        told.lock().unwrap().push((done, total));
    })
    .await
    .unwrap();

    assert_eq!(*server.asked.lock().unwrap(), [0, 300_000, 700_000]);
    assert_eq!(server.served.load(Ordering::SeqCst), 1_000_000, "no byte twice");
    assert_eq!(std::fs::read(&path).unwrap(), body());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o444);
    assert_eq!(names(dir.path()), [sha.to_string()]);
    let told = told.into_inner().unwrap();
    assert_eq!(told.last(), Some(&(1_000_000, Some(1_000_000))));
    assert!(told.is_sorted());

    // What is there and whole is not fetched again; what rotted on disk is.
    get(&server.url, sha, dir.path()).await.unwrap();
    assert_eq!(server.asked.lock().unwrap().len(), 3);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "rotten").unwrap();
    get(&server.url, sha, dir.path()).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), body());
}

#[tokio::test]
async fn a_later_call_takes_up_what_an_earlier_one_left() {
    let dir = tempfile::tempdir().unwrap();
    let sha = Digest::of(body());
    let broken = serve(body(), &[Answer::Cut(600_000), Answer::Status(503)]);
    let error = get(&broken.url, sha, dir.path()).await.unwrap_err();
    assert!(matches!(error, ImageError::Download { done: 600_000, .. }), "{error}");
    assert!(error.to_fault().is_transient());
    assert_eq!(names(dir.path()), [format!("{sha}.part")]);

    let whole = serve(body(), &[Answer::Whole]);
    get(&whole.url, sha, dir.path()).await.unwrap();
    assert_eq!(*whole.asked.lock().unwrap(), [600_000]);
}

#[tokio::test]
async fn a_server_without_ranges_or_that_refuses_one_is_asked_for_all() {
    for answer in [Answer::NoRanges, Answer::Status(416)] {
        let dir = tempfile::tempdir().unwrap();
        let sha = Digest::of(body());
        std::fs::write(dir.path().join(format!("{sha}.part")), &body()[..10]).unwrap();
        let server = serve(body(), &[answer, Answer::Whole]);
        let path = get(&server.url, sha, dir.path()).await.unwrap();
        assert_eq!(std::fs::read(path).unwrap(), body());
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(body(), &[Answer::Stall(1000), Answer::Stall(0)]);
    let error = get(&server.url, Digest::of(body()), dir.path()).await.unwrap_err();
    assert!(matches!(error, ImageError::Download { done: 1000, .. }), "{error}");
}

#[tokio::test]
async fn wrong_bytes_are_removed_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(body(), &[Answer::Whole]);
    let error = get(&server.url, Digest::of("other"), dir.path()).await.unwrap_err();
    assert!(matches!(error, ImageError::WrongDigest { .. }), "{error}");
    assert!(error.to_string().contains(&Digest::of(body()).to_string()));
    assert!(!error.to_fault().is_transient());
    assert!(names(dir.path()).is_empty());
}

#[tokio::test]
async fn too_large_is_refused_before_it_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(vec![0; 9 << 20], &[Answer::Whole]);
    let error = get(&server.url, Digest::of("x"), dir.path()).await.unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    assert!(names(dir.path()).is_empty());
}

#[tokio::test]
async fn no_error_shows_what_a_url_keeps_secret() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(body(), &[Answer::Status(403)]);
    let secret = server.url.replace("http://", "http://me:hunter2@") + "?token=hunter2";
    let closed = "http://me:hunter2@127.0.0.1:1/x?token=hunter2";
    for source in [secret.as_str(), closed, "ftp://me:hunter2@h/x", "me:x@hunter2"] {
        let error = get(source, Digest::of("x"), dir.path()).await.unwrap_err();
        let text = format!("{error} {error:?} {:?}", error.to_fault());
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn two_fetches_of_one_image_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let sha = Digest::of(body());
    let server = serve(body(), &[Answer::Stall(1000), Answer::Whole]);
    let (first, second) =
        tokio::join!(get(&server.url, sha, dir.path()), get(&server.url, sha, dir.path()));
    let (done, busy) = if first.is_ok() { (first, second) } else { (second, first) };
    assert_eq!(std::fs::read(done.unwrap()).unwrap(), body());
    assert!(matches!(busy, Err(ImageError::Busy { .. })));
}

#[tokio::test]
async fn a_local_file_is_copied_and_verified_and_only_a_file_will_do() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::write(&source, body()).unwrap();
    let dest = dir.path().join("dest");
    let text = source.to_str().unwrap();
    let path = get(text, Digest::of(body()), &dest).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), body());
    let error = get(text, Digest::of("x"), &dest).await.unwrap_err();
    assert!(matches!(error, ImageError::WrongDigest { .. }));
    for other in ["/dev/zero", "/proc", "/no/such/file", "relative"] {
        assert!(get(other, Digest::of("x"), &dest).await.is_err(), "{other}");
    }
}
