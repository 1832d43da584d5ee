//! How long is waited for a server, and how often it is asked. Numbers alone.

use std::time::Duration;

/// How long is waited, and how often is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For connecting.
    pub connect: Duration,
    /// For one answer.
    pub request: Duration,
    /// How often a request is made that fails in a way that may pass.
    pub attempts: u32,
    /// Before the second attempt; doubled for each further one.
    pub first_wait: Duration,
    /// Longest wait between two attempts, whatever the server asks for.
    pub wait_max: Duration,
    /// How long a watch lasts before it is begun anew where it was, in whole seconds. With `request` on
    /// top it is how long a connection may be silent, so nothing older than that is taken for current.
    pub watch: Duration,
}

impl Limits {
    /// For looks that have to be over in time: one server that is away must not hold up the rest.
    pub const LOOKS: Self = Self {
        connect: Duration::from_secs(5),
        request: Duration::from_secs(15),
        attempts: 2,
        first_wait: Duration::from_millis(250),
        wait_max: Duration::from_secs(5),
        watch: Duration::from_secs(60),
    };

    /// After how long of silence a connection is taken for lost.
    pub(crate) fn silence(&self) -> Duration {
        self.watch + self.request
    }

    /// How long a watch lasts, as servers are told it.
    pub(crate) fn watch_seconds(&self) -> u32 {
        u32::try_from(self.watch.as_secs()).unwrap_or(u32::MAX).max(1)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            // A server gives a request up after 60 s (`--request-timeout`); waiting longer is for nothing.
            request: Duration::from_secs(30),
            attempts: 4,
            first_wait: Duration::from_millis(250),
            wait_max: Duration::from_secs(10),
            // Beginning one anew costs a request, and what is older than a minute is not news.
            watch: Duration::from_secs(60),
        }
    }
}
