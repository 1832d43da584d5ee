//! Repositories that did not answer: whether they do again, found out without a step for each try.
//!
//! What is known here is only what was tried since the program began; the log has what came of steps.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::model::resource::BackupRemote;

/// How long an answer is waited for; what takes longer is no place to save to now.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long a place behind a proxy is left alone: nobody can knock at it but a job itself.
const PROXIED_REST: Duration = Duration::from_secs(15 * 60);

/// The variables that name a proxy: those who reach a place heed one or the other of them.
const PROXIES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Places that were out of reach when they were last tried. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Reach {
    silent: Arc<Mutex<HashMap<String, Silent>>>,
    /// How long a place is left alone at most; `None`: until it answers.
    rest: Option<Duration>,
}

/// A place that did not answer.
#[derive(Clone)]
struct Silent {
    why: String,
    tried: Instant,
}

impl Reach {
    /// As the environment says that places are reached: directly, or by a proxy.
    pub(super) fn of_this_host() -> Self {
        let proxied =
            PROXIES.iter().any(|name| std::env::var_os(name).is_some_and(|it| !it.is_empty()));
        Self { silent: Arc::default(), rest: proxied.then_some(PROXIED_REST) }
    }

    /// What came of a job: why the place did not answer, or that it did.
    pub(super) fn tried(&self, location: &str, silent: Option<String>) {
        let mut table = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        match silent {
            Some(why) => {
                let tried = Instant::now();
                table.insert(location.to_owned(), Silent { why, tried })
            }
            None => table.remove(location),
        };
    }

    fn silent(&self, location: &str) -> Option<Silent> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).get(location).cloned()
    }

    /// Why a place that did not answer still does not; `None`: it is worth a try.
    pub(super) async fn still_silent(
        &self,
        location: &str,
        remote: &BackupRemote,
    ) -> Option<String> {
        let Silent { why, tried } = self.silent(location)?;
        if self.rest.is_some_and(|rest| tried.elapsed() >= rest) {
            return None;
        }
        let Some((host, port)) = remote.peer() else {
            self.tried(location, None);
            return None;
        };
        match timeout(ANSWER_MAX, TcpStream::connect((host.as_str(), port))).await {
            Ok(Ok(_)) => {
                self.tried(location, None);
                None
            }
            // The first reason is kept: one that changes with each try would be news each time.
            Ok(Err(_)) | Err(_) => Some(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_that_did_not_answer_is_left_alone_until_it_does() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        let remote = BackupRemote::Rest { url, credentials: None, ca: None };
        let reach = Reach::default();
        assert_eq!(reach.still_silent("there", &remote).await, None, "nobody tried yet");
        drop(listener);
        reach.tried("there", Some("refused".into()));
        for _ in 0..2 {
            assert_eq!(reach.still_silent("there", &remote).await.as_deref(), Some("refused"));
        }
        let _back = tokio::net::TcpListener::bind(address).await.unwrap();
        assert_eq!(reach.still_silent("there", &remote).await, None);
        assert!(reach.silent("there").is_none());
    }

    #[tokio::test]
    async fn a_place_that_only_a_proxy_reaches_is_tried_again() {
        // Nobody listens there any more, and none ever will.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let remote = BackupRemote::Rest { url, credentials: None, ca: None };
        for (rest, silent) in [(PROXIED_REST, true), (Duration::ZERO, false)] {
            let reach = Reach { rest: Some(rest), ..Reach::default() };
            reach.tried("there", Some("refused".into()));
            assert_eq!(reach.still_silent("there", &remote).await.is_some(), silent, "{rest:?}");
        }
    }
}
