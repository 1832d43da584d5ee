//! Repositories that did not answer: whether they do again, found out without a step for each try.
//!
//! What is known here is only what was tried since the program began; the log has what came of steps.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::model::resource::BackupRemote;

/// How long an answer is waited for; what takes longer is no place to save to now.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Places that were out of reach when they were last tried. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Reach {
    silent: Arc<Mutex<HashMap<String, String>>>,
}

impl Reach {
    /// What came of a job: why the place did not answer, or that it did.
    pub(super) fn tried(&self, location: &str, silent: Option<String>) {
        let mut table = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        match silent {
            Some(why) => table.insert(location.to_owned(), why),
            None => table.remove(location),
        };
    }

    fn why(&self, location: &str) -> Option<String> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).get(location).cloned()
    }

    /// Why a place that did not answer still does not; `None`: it is worth a try.
    pub(super) async fn still_silent(
        &self,
        location: &str,
        remote: &BackupRemote,
    ) -> Option<String> {
        let why = self.why(location)?;
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
        assert_eq!(reach.why("there"), None);
    }
}
