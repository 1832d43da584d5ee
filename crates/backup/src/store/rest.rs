//! A repository behind restic's REST protocol (doc/REST_backend.rst of restic).
//!
//! What may be worth another try is tried again a few times; a write whose answer was lost is looked
//! up first, because a server may refuse a file that is there.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use reqwest::blocking::{Body, Client, ClientBuilder, RequestBuilder, Response};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::local::private_line;
use super::{Kind, Store, StoreFault, Stored};
use crate::protocol::Fault;

/// Tries of one request. With the pauses between them about ten seconds, which outlasts a restart.
const TRIES_MAX: u32 = 5;
/// A whole pack goes over a slow line in this time: 16 MiB at 60 KiB/s.
const ANSWER_MAX: Duration = Duration::from_secs(300);
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// The version of the protocol in which listings have sizes.
const WITH_SIZES: &str = "application/vnd.x.restic.rest.v2";

pub(crate) struct Rest {
    url: String,
    client: Client,
    login: Option<(String, String)>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    size: u64,
}

impl Rest {
    pub(crate) fn open(
        url: &str,
        credentials: Option<&Path>,
        ca: Option<&Path>,
    ) -> Result<Self, Fault> {
        Rest::with(Client::builder(), url, credentials, ca)
    }

    fn with(
        builder: ClientBuilder,
        url: &str,
        credentials: Option<&Path>,
        ca: Option<&Path>,
    ) -> Result<Self, Fault> {
        let invalid = |what: String| Fault::Invalid { what };
        let parsed = reqwest::Url::parse(url)
            .map_err(|error| invalid(format!("`{url}` is no URL: {error}")))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            // The URL itself is not repeated: it holds a secret.
            return Err(invalid("a URL must not hold a password: name a file with it".into()));
        }
        let login = match credentials {
            None => None,
            Some(path) => {
                let from = path.display().to_string();
                let unreadable = |why| Fault::KeyUnreadable { from: from.clone(), why };
                let line = private_line(path).map_err(unreadable)?;
                let (user, password) = line
                    .split_once(':')
                    .ok_or_else(|| unreadable("it is not `user:password`".into()))?;
                Some((user.to_owned(), password.to_owned()))
            }
        };
        let mut builder = builder.timeout(ANSWER_MAX).connect_timeout(CONNECT_MAX);
        if let Some(path) = ca {
            let wrong = |why: String| invalid(format!("certificates {}: {why}", path.display()));
            let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let list = reqwest::Certificate::from_pem_bundle(&text);
            for certificate in list.map_err(|error| wrong(error.to_string()))? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let client =
            builder.build().map_err(|error| invalid(format!("no HTTP client: {error}")))?;
        Ok(Rest { url: url.trim_end_matches('/').to_owned(), client, login })
    }

    /// A server of this host, which no proxy knows.
    pub(crate) fn with_login(url: &str, user: &str, password: &str) -> Result<Self, Fault> {
        let mut rest = Rest::with(Client::builder().no_proxy(), url, None, None)?;
        rest.login = Some((user.to_owned(), password.to_owned()));
        Ok(rest)
    }

    fn address(&self, kind: Kind, name: &str) -> String {
        match kind {
            Kind::Config => format!("{}/config", self.url),
            _ => format!("{}/{}/{name}", self.url, kind.folder()),
        }
    }

    fn request(&self, method: Method, url: &str) -> RequestBuilder {
        let request = self.client.request(method, url);
        match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    /// Asks until there is an answer that another try would not change.
    fn ask<T>(&self, ask: impl Fn() -> Result<T, Trouble>) -> Stored<T> {
        let mut tries = 1;
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Final(fault)) => return Err(fault),
                Err(Trouble::Passing(why)) if tries == TRIES_MAX => {
                    return Err(StoreFault::Offline { why });
                }
                Err(Trouble::Passing(_)) => {
                    // Nothing tells when a server is back: there is only asking again.
                    std::thread::sleep(Duration::from_millis(300 << tries));
                    tries += 1;
                }
            }
        }
    }

    fn size(&self, kind: Kind, name: &str) -> Result<Option<u64>, Trouble> {
        let answer = self.request(Method::HEAD, &self.address(kind, name)).send();
        let answer = answer.map_err(unsent)?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = fine(answer, kind, name)?;
        let length = answer.headers().get(reqwest::header::CONTENT_LENGTH);
        Ok(Some(length.and_then(|text| text.to_str().ok()?.parse().ok()).unwrap_or(0)))
    }
}

/// Why one try failed.
enum Trouble {
    Passing(String),
    Final(StoreFault),
}

/// An error without the URL, which says nothing that the fault does not.
fn unsent(error: reqwest::Error) -> Trouble {
    let error = error.without_url();
    let mut why = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    Trouble::Passing(why)
}

fn fine(answer: Response, kind: Kind, name: &str) -> Result<Response, Trouble> {
    /// Enough of what a server says to know what it is about.
    const WORDS_MAX: usize = 200;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let words: String = answer.text().unwrap_or_default().chars().take(WORDS_MAX).collect();
    let why = format!("{status} {}", words.trim());
    let name = name.to_owned();
    Err(match status {
        StatusCode::NOT_FOUND => Trouble::Final(StoreFault::Missing { kind, name }),
        StatusCode::RANGE_NOT_SATISFIABLE => Trouble::Final(StoreFault::Short { kind, name }),
        StatusCode::INSUFFICIENT_STORAGE => Trouble::Final(StoreFault::Full),
        _ if words.contains("no space left") => Trouble::Final(StoreFault::Full),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Trouble::Passing(why),
        _ if status.is_client_error() => Trouble::Final(StoreFault::Refused { why }),
        _ => Trouble::Passing(why),
    })
}

impl Store for Rest {
    fn location(&self) -> String {
        self.url.clone()
    }

    fn create(&self) -> Stored<()> {
        let url = format!("{}/?create=true", self.url);
        self.ask(|| {
            let answer = self.request(Method::POST, &url).send().map_err(unsent)?;
            fine(answer, Kind::Config, "").map(drop)
        })
    }

    fn list(&self, kind: Kind) -> Stored<Vec<(String, u64)>> {
        if kind == Kind::Config {
            let size = self.ask(|| self.size(kind, ""))?;
            return Ok(size.into_iter().map(|size| (String::new(), size)).collect());
        }
        let url = self.address(kind, "");
        self.ask(|| {
            let request = self.request(Method::GET, &url).header("Accept", WITH_SIZES);
            let answer = fine(request.send().map_err(unsent)?, kind, "")?;
            let body = answer.bytes().map_err(unsent)?;
            // An empty listing is `null` with some servers.
            let entries: Option<Vec<Entry>> = serde_json::from_slice(&body)
                .map_err(|error| Trouble::Passing(format!("no listing: {error}")))?;
            let entries = entries.unwrap_or_default();
            Ok(entries.into_iter().map(|entry| (entry.name, entry.size)).collect())
        })
    }

    fn read(&self, kind: Kind, name: &str) -> Stored<Bytes> {
        let url = self.address(kind, name);
        self.ask(|| {
            let answer = self.request(Method::GET, &url).send().map_err(unsent)?;
            fine(answer, kind, name)?.bytes().map_err(unsent)
        })
    }

    fn read_range(&self, kind: Kind, name: &str, offset: u64, length: usize) -> Stored<Bytes> {
        let url = self.address(kind, name);
        let last = offset + length as u64 - 1;
        self.ask(|| {
            let request = self.request(Method::GET, &url);
            let request = request.header("Range", format!("bytes={offset}-{last}"));
            let answer = fine(request.send().map_err(unsent)?, kind, name)?;
            let partial = answer.status() == StatusCode::PARTIAL_CONTENT;
            let content = answer.bytes().map_err(unsent)?;
            if partial && content.len() == length {
                return Ok(content);
            }
            Err(Trouble::Final(if partial {
                StoreFault::Short { kind, name: name.to_owned() }
            } else {
                StoreFault::Refused { why: "the server does not send parts of files".into() }
            }))
        })
    }

    fn write(&self, kind: Kind, name: &str, parts: &[Bytes], fresh: bool) -> Stored<()> {
        let url = self.address(kind, name);
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if fresh && self.ask(|| self.size(kind, name))?.is_some() {
            return Err(StoreFault::Exists);
        }
        let first = std::cell::Cell::new(true);
        self.ask(|| {
            if !first.replace(false) && self.size(kind, name)? == Some(length) {
                return Ok(());
            }
            let body = Body::sized(Parts { left: parts.to_vec() }, length);
            let request = self.request(Method::POST, &url).body(body);
            fine(request.send().map_err(unsent)?, kind, name).map(drop)
        })
    }

    fn remove(&self, kind: Kind, name: &str) -> Stored<()> {
        let url = self.address(kind, name);
        self.ask(|| {
            let answer = self.request(Method::DELETE, &url).send().map_err(unsent)?;
            fine(answer, kind, name).map(drop)
        })
    }

    fn settle(&self) -> Stored<()> {
        // The server's answer to each write is all there is to be had.
        Ok(())
    }

    fn sweep(&self) -> Stored<u64> {
        Ok(0)
    }

    fn remote(&self) -> bool {
        true
    }
}

/// Several pieces, read one after the other without joining them.
struct Parts {
    left: Vec<Bytes>,
}

impl std::io::Read for Parts {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.left.first().is_some_and(Bytes::is_empty) {
            self.left.remove(0);
        }
        let Some(part) = self.left.first_mut() else { return Ok(0) };
        let length = part.len().min(into.len());
        into[..length].copy_from_slice(&part.split_to(length));
        Ok(length)
    }
}
