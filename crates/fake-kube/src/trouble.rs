//! What goes wrong when it is told to, and what was asked.

use std::time::Duration;

/// What it does instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// This HTTP status, and after how many seconds it wants to be asked again (0: it does not say).
    Status(u16, u32),
    /// The answer, but only after this long.
    Slow(Duration),
    /// No answer at all.
    Silence,
    /// An answer that nobody can read.
    Nonsense,
    /// For a watch: it begins, says nothing whatever happens, and never ends.
    Deaf,
}

impl Trouble {
    /// The reason that the real one gives with a status.
    pub(crate) fn reason(code: u16) -> &'static str {
        match code {
            401 => "Unauthorized",
            403 => "Forbidden",
            409 => "Conflict",
            410 => "Expired",
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "InternalError",
        }
    }
}

/// Trouble for the next requests that match.
#[derive(Debug)]
pub(crate) struct Plan {
    method: String,
    path: String,
    times: u32,
    trouble: Trouble,
}

/// What is to go wrong, and what was asked.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) plans: Vec<Plan>,
    /// Method, path and query of each request.
    pub(crate) requests: Vec<String>,
}

impl Book {
    pub(crate) fn add(&mut self, method: &str, path: &str, times: u32, trouble: Trouble) {
        let (method, path) = (method.to_owned(), path.to_owned());
        self.plans.push(Plan { method, path, times, trouble });
    }

    /// Notes a request, and gives the trouble that it runs into.
    pub(crate) fn met(&mut self, method: &str, path: &str, query: &str) -> Option<Trouble> {
        let asked = format!("{path}?{query}");
        self.requests.push(format!("{method} {asked}"));
        let matches = |plan: &&mut Plan| {
            plan.times > 0
                && (plan.method.is_empty() || plan.method == method)
                && asked.contains(&plan.path)
        };
        let plan = self.plans.iter_mut().find(matches)?;
        plan.times -= 1;
        Some(plan.trouble)
    }
}
