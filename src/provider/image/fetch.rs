//! Getting an image's bytes: download or copy, resume, verify, and only then give them a name.
//!
//! The name of a fetched file is its SHA-256, so a file under that name was verified once; it is
//! verified again each time it is asked for. A broken-off download stays as `<sha256>.part`.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Response, StatusCode, Url};
use rustix::fs::{FlockOperation, flock, ioctl_ficlone};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use super::error::ImageError;
use super::place::{blocking, place};
use crate::model::Digest;

/// How often a download that broke off is taken up again without a byte of progress in between.
const RETRIES_MAX: u32 = 4;

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(20);

/// The limits of one fetch.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// Time for all of it.
    pub total: Duration,
    /// Time without a single byte, after which the connection counts as dead.
    pub idle: Duration,
    /// The pause before the first retry; it doubles with each.
    pub backoff: Duration,
    /// Size in bytes.
    pub size: u64,
}

impl Default for FetchLimits {
    /// Six hours (30 GB over 12 Mbit/s), 30 s of silence, 128 GiB.
    fn default() -> Self {
        Self {
            total: Duration::from_secs(6 * 3600),
            idle: Duration::from_secs(30),
            backoff: Duration::from_millis(500),
            size: 128 << 30,
        }
    }
}

/// Brings the bytes of `source` into `dest_dir`, under their SHA-256, and returns that path.
///
/// `source` is an `http(s)://` URL or an absolute path. `progress` is told bytes done and, where
/// known, their total. Cancelling keeps what was downloaded for the next call.
///
/// # Errors
/// [`ImageError::WrongDigest`] when the bytes are others (they are removed); [`ImageError::Busy`]
/// while another process fetches the same image; and what the server or the disk answered.
pub async fn fetch(
    source: &str,
    sha256: Digest,
    dest_dir: &Path,
    limits: FetchLimits,
    progress: impl Fn(u64, Option<u64>) + Send + Sync,
) -> Result<PathBuf, ImageError> {
    let origin = Origin::parse(source)?;
    let dest = dest_dir.join(sha256.to_string());
    if verify_existing(&dest, sha256).await? {
        return Ok(dest);
    }
    tokio::fs::create_dir_all(dest_dir).await.map_err(ImageError::file("make", dest_dir))?;
    let part = dest_dir.join(format!("{sha256}.part"));
    let file = open_part(&part)?;
    // Shares the lock of `file`, and keeps it until the bytes are verified and in place.
    let _lock = file.try_clone().map_err(ImageError::file("lock", &part))?;
    if verify_existing(&dest, sha256).await? {
        // Another fetch finished between our first look and our lock; what we opened is empty.
        remove(&part)?;
        return Ok(dest);
    }
    let name = origin.to_string();
    match origin {
        Origin::Path(path) => {
            let part = part.clone();
            blocking("copy an image", move || copy(&path, &file, &part, limits.size)).await?;
        }
        Origin::Url(url) => {
            let late = Instant::now() + limits.total;
            let mut download = Download {
                url,
                name: name.clone(),
                part: part.clone(),
                file: tokio::fs::File::from_std(file),
                limits,
            };
            match tokio::time::timeout_at(late, download.run(&progress)).await {
                Ok(done) => done?,
                Err(_) => {
                    let why = format!("not complete within {} s", limits.total.as_secs());
                    return Err(download.broken(why).await);
                }
            }
        }
    }
    let found = digest_file(&part).await?;
    if found != sha256 {
        remove(&part)?;
        return Err(ImageError::WrongDigest { origin: name, wanted: sha256, found });
    }
    let to = dest.clone();
    blocking("place an image", move || place(&part, &to)).await?;
    Ok(dest)
}

/// Where the bytes come from.
enum Origin {
    Url(Url),
    Path(PathBuf),
}

impl Origin {
    fn parse(source: &str) -> Result<Self, ImageError> {
        let refuse = |why| ImageError::Source {
            // Text that is not understood may hold a password anywhere; only its start is shown.
            origin: source.split(['@', '?']).next().unwrap_or_default().to_owned(),
            why,
        };
        if source.starts_with('/') {
            return Ok(Self::Path(PathBuf::from(source)));
        }
        let url = Url::parse(source).map_err(|_| refuse("not a URL and not an absolute path"))?;
        match url.scheme() {
            "http" | "https" => Ok(Self::Url(url)),
            _ => Err(ImageError::Source {
                origin: url.scheme().to_owned(),
                why: "only http, https and absolute paths are supported",
            }),
        }
    }
}

impl std::fmt::Display for Origin {
    /// Without user, password and query: a signed URL's query is a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Url(url) => {
                let host = url.host_str().unwrap_or_default();
                let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
                write!(f, "{}://{host}{port}{}", url.scheme(), url.path())
            }
        }
    }
}

/// Opens the partial file and holds its lock, so that two fetches never write into one file.
fn open_part(part: &Path) -> Result<File, ImageError> {
    loop {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .open(part)
            .map_err(ImageError::file("open", part))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(ImageError::Busy { path: part.to_owned() });
            }
            Err(error) => return Err(ImageError::file("lock", part)(error.into())),
        }
        // Its owner may have put it in place between our two calls: then this is the finished
        // image, which nobody may write to.
        if still_named(&file, part)? {
            return Ok(file);
        }
    }
}

/// Whether `path` still leads to the open `file`.
fn still_named(file: &File, path: &Path) -> Result<bool, ImageError> {
    let open = file.metadata().map_err(ImageError::file("read", path))?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ImageError::file("read", path)(error)),
    }
}

/// One download, which may take several requests.
struct Download {
    url: Url,
    name: String,
    part: PathBuf,
    file: tokio::fs::File,
    limits: FetchLimits,
}

/// What one request came to.
enum Got {
    All,
    /// It broke off, for this reason.
    Broken(String),
    /// The server does not know the range we asked for.
    StartAgain,
}

impl Download {
    async fn run(
        &mut self,
        progress: &(impl Fn(u64, Option<u64>) + Sync),
    ) -> Result<(), ImageError> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(self.limits.idle)
            .build()
            .map_err(|e| ImageError::Download {
                origin: self.name.clone(),
                done: 0,
                why: e.without_url().to_string(),
            })?;
        let mut fruitless = 0;
        let mut started_again = false;
        loop {
            let before = self.done().await?;
            let why = match self.request(&client, before, progress).await? {
                Got::All => return Ok(()),
                Got::StartAgain if started_again => "the server refuses every range".to_owned(),
                Got::StartAgain => {
                    started_again = true;
                    self.truncate().await?;
                    continue;
                }
                Got::Broken(why) => why,
            };
            fruitless = if self.done().await? > before { 0 } else { fruitless + 1 };
            if fruitless > RETRIES_MAX {
                return Err(self.broken(why).await);
            }
            tracing::info!(source = %self.name, %why, "download broke off, taking it up again");
            tokio::time::sleep(self.limits.backoff * 2_u32.pow(fruitless)).await;
        }
    }

    async fn request(
        &mut self,
        client: &reqwest::Client,
        from: u64,
        progress: &(impl Fn(u64, Option<u64>) + Sync),
    ) -> Result<Got, ImageError> {
        let mut request = client.get(self.url.clone());
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(Got::Broken(cause(error))),
        };
        let from = match response.status() {
            StatusCode::OK => {
                // No ranges here: all of it comes again.
                self.truncate().await?;
                0
            }
            StatusCode::PARTIAL_CONTENT if range_starts_at(&response, from) => from,
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => {
                return Ok(Got::StartAgain);
            }
            status if status.is_server_error() => return Ok(Got::Broken(status.to_string())),
            status => {
                return Err(ImageError::Refused {
                    origin: self.name.clone(),
                    status: status.as_u16(),
                });
            }
        };
        self.body(response, from, progress).await
    }

    async fn body(
        &mut self,
        mut response: Response,
        from: u64,
        progress: &(impl Fn(u64, Option<u64>) + Sync),
    ) -> Result<Got, ImageError> {
        let mut done = from;
        let total = response.content_length().map(|rest| from + rest);
        self.check_size(total.unwrap_or(0))?;
        loop {
            let chunk = match timeout(self.limits.idle, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return self.pause(cause(error)).await,
                Err(_) => {
                    let why = format!("nothing came for {} s", self.limits.idle.as_secs());
                    return self.pause(why).await;
                }
            };
            done += chunk.len() as u64;
            self.check_size(done)?;
            self.file.write_all(&chunk).await.map_err(ImageError::file("write", &self.part))?;
            progress(done, total);
        }
        self.file.flush().await.map_err(ImageError::file("write", &self.part))?;
        match total {
            Some(total) if done < total => Ok(Got::Broken("the connection ended early".to_owned())),
            _ => Ok(Got::All),
        }
    }

    /// Keeps what was written before a break.
    async fn pause(&mut self, why: String) -> Result<Got, ImageError> {
        self.file.flush().await.map_err(ImageError::file("write", &self.part))?;
        Ok(Got::Broken(why))
    }

    fn check_size(&self, bytes: u64) -> Result<(), ImageError> {
        if bytes <= self.limits.size {
            return Ok(());
        }
        remove(&self.part)?;
        Err(ImageError::TooLarge { origin: self.name.clone(), limit: self.limits.size })
    }

    /// Bytes on disk; the file's position is set to their end.
    async fn done(&mut self) -> Result<u64, ImageError> {
        use tokio::io::AsyncSeekExt as _;
        self.file
            .seek(std::io::SeekFrom::End(0))
            .await
            .map_err(ImageError::file("seek in", &self.part))
    }

    async fn truncate(&mut self) -> Result<(), ImageError> {
        self.file.set_len(0).await.map_err(ImageError::file("truncate", &self.part))?;
        self.done().await.map(|_| ())
    }

    async fn broken(&mut self, why: String) -> ImageError {
        match self.done().await {
            Ok(done) => ImageError::Download { origin: self.name.clone(), done, why },
            Err(error) => error,
        }
    }
}

/// A client error with its innermost cause, without the URL.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(inner) = next {
        text = format!("{text}: {inner}");
        next = inner.source();
    }
    text
}

/// Whether a partial answer continues where our bytes end.
fn range_starts_at(response: &Response, from: u64) -> bool {
    response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("bytes ")?.split('-').next()?.parse().ok())
        == Some(from)
}

/// Copies a local file: shared blocks where the file system can, bytes where it cannot.
fn copy(from: &Path, to: &File, part: &Path, limit: u64) -> Result<(), ImageError> {
    let origin = from.display().to_string();
    // Looked at before it is opened: opening a pipe would wait for a writer for ever.
    let meta = std::fs::metadata(from).map_err(ImageError::file("read", from))?;
    if !meta.is_file() {
        return Err(ImageError::Source { origin, why: "not a regular file" });
    }
    if meta.len() > limit {
        return Err(ImageError::TooLarge { origin, limit });
    }
    let source = File::open(from).map_err(ImageError::file("open", from))?;
    to.set_len(0).map_err(ImageError::file("truncate", part))?;
    if ioctl_ficlone(to, &source).is_ok() {
        return Ok(());
    }
    // One more than the limit, so that a file that grows meanwhile is noticed by its digest.
    std::io::copy(&mut source.take(limit + 1), &mut &*to)
        .map(|_| ())
        .map_err(ImageError::file("copy to", part))
}

fn remove(path: &Path) -> Result<(), ImageError> {
    std::fs::remove_file(path).map_err(ImageError::file("remove", path))
}

/// Whether `path` is there with the right bytes; a damaged one is removed.
async fn verify_existing(path: &Path, sha256: Digest) -> Result<bool, ImageError> {
    match tokio::fs::symlink_metadata(path).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(ImageError::file("read", path)(error)),
        Ok(_) => {}
    }
    let whole = digest_file(path).await? == sha256;
    if !whole {
        tracing::warn!(path = %path.display(), "a fetched image was damaged on disk; fetching it again");
        remove(path)?;
    }
    Ok(whole)
}

/// The SHA-256 of a file's bytes.
///
/// # Errors
/// [`ImageError::File`] where it cannot be read.
pub async fn digest_file(path: &Path) -> Result<Digest, ImageError> {
    let path = path.to_owned();
    blocking("take a digest", move || {
        let mut file = File::open(&path).map_err(ImageError::file("open", &path))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer).map_err(ImageError::file("read", &path))? {
                0 => return Ok(Digest::from(<[u8; 32]>::from(hash.finalize()))),
                n => hash.update(&buffer[..n]),
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_was_put_in_place_meanwhile_is_not_taken_for_a_part() {
        let dir = tempfile::tempdir().unwrap();
        let (part, done) = (dir.path().join("part"), dir.path().join("done"));
        let file = open_part(&part).unwrap();
        assert!(matches!(open_part(&part), Err(ImageError::Busy { .. })));
        assert!(still_named(&file, &part).unwrap());
        std::fs::rename(&part, &done).unwrap();
        assert!(!still_named(&file, &part).unwrap());
        let other = open_part(&part).unwrap();
        assert!(still_named(&other, &part).unwrap() && !still_named(&file, &part).unwrap());
    }
}
