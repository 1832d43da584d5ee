//! What the fake GitHub holds, and what a person can do there without the API.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{Span, Timestamp};
use serde_json::{Value, json};

use super::login::{TOKEN, Who};

/// Most statuses a commit takes under one context.
pub(crate) const STATUSES_MAX: usize = 1000;

/// A pull request to open.
#[derive(Debug, Clone)]
pub(crate) struct PullSpec<'a> {
    pub head: &'a str,
    pub branch: &'a str,
    pub base: &'a str,
    pub base_branch: &'a str,
    pub author: &'a str,
    pub fork: bool,
}

impl Default for PullSpec<'_> {
    fn default() -> Self {
        Self {
            head: "1111111111111111111111111111111111111111",
            branch: "change",
            base: "0000000000000000000000000000000000000000",
            base_branch: "main",
            author: "ada",
            fork: false,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Thing {
    pub number: u64,
    pub title: String,
    pub body: String,
    pub open: bool,
    pub author: String,
    pub labels: BTreeSet<String>,
    pub created: Timestamp,
    pub updated: Timestamp,
    /// Only of pull requests.
    pub pull: Option<Pull>,
}

#[derive(Debug, Clone)]
pub(crate) struct Pull {
    pub head: String,
    pub branch: String,
    pub base: String,
    pub base_branch: String,
    pub fork: bool,
    pub draft: bool,
    pub merged: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Comment {
    pub id: u64,
    pub number: u64,
    pub author: String,
    pub body: String,
    pub created: Timestamp,
    pub updated: Timestamp,
    /// How often its text was changed.
    pub edits: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Status {
    pub sha: String,
    pub context: String,
    pub state: String,
    pub description: String,
    pub url: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub id: u64,
    pub sha: String,
    pub name: String,
    pub external_id: Option<String>,
    pub status: String,
    pub conclusion: Option<String>,
    pub output: Value,
    pub annotations: Vec<Value>,
}

#[derive(Debug, Clone)]
pub(crate) struct Review {
    pub id: u64,
    pub number: u64,
    pub author: String,
    pub state: String,
    pub commit: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone)]
pub(crate) struct LabelEvent {
    pub id: u64,
    pub number: u64,
    pub label: String,
    pub added: bool,
    pub actor: String,
    pub at: Timestamp,
}

/// Everything.
pub(crate) struct State {
    pub things: BTreeMap<u64, Thing>,
    pub comments: Vec<Comment>,
    pub statuses: Vec<Status>,
    pub checks: Vec<Check>,
    pub reviews: Vec<Review>,
    pub labels: Vec<LabelEvent>,
    pub tokens: HashMap<String, Who>,
    /// Roles in the repository, by login.
    pub roles: HashMap<String, String>,
    /// Members, by `organisation/team`.
    pub teams: HashMap<String, BTreeSet<String>>,
    users: Vec<String>,
    pub remaining: u64,
    pub limit: u64,
    /// Added to the machine's clock.
    pub offset: Span,
    next: u64,
}

/// The machine's clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

impl State {
    pub(crate) fn new() -> Self {
        let tokens = HashMap::from([(TOKEN.to_owned(), Who::person("trueup-bot", None))]);
        Self {
            things: BTreeMap::new(),
            comments: Vec::new(),
            statuses: Vec::new(),
            checks: Vec::new(),
            reviews: Vec::new(),
            labels: Vec::new(),
            tokens,
            roles: HashMap::new(),
            teams: HashMap::new(),
            users: Vec::new(),
            remaining: 5000,
            limit: 5000,
            offset: Span::new(),
            next: 1000,
        }
    }

    /// Its own clock, to the second.
    pub(crate) fn clock(&self) -> Timestamp {
        let now = now() + self.offset;
        Timestamp::from_second(now.as_second()).unwrap()
    }

    /// The number of an account, which is made on first sight.
    pub(crate) fn user(&mut self, login: &str) -> u64 {
        let at = self.users.iter().position(|known| known == login).unwrap_or_else(|| {
            self.users.push(login.to_owned());
            self.users.len() - 1
        });
        at as u64 + 1
    }

    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A token of a person with these permissions only (`statuses=write`).
    pub(crate) fn add_token(&mut self, token: &str, login: &str, permissions: &[&str]) {
        self.tokens.insert(token.to_owned(), Who::person(login, Some(permissions)));
    }

    pub(crate) fn add_thing(&mut self, author: &str, title: &str, body: &str) -> u64 {
        let number = self.things.keys().next_back().copied().unwrap_or_default() + 1;
        let at = self.clock();
        let thing = Thing {
            number,
            title: title.to_owned(),
            body: body.to_owned(),
            open: true,
            author: author.to_owned(),
            labels: BTreeSet::new(),
            created: at,
            updated: at,
            pull: None,
        };
        self.things.insert(number, thing);
        number
    }

    pub(crate) fn open_pull(&mut self, spec: &PullSpec<'_>) -> u64 {
        let number = self.add_thing(spec.author, &format!("Change by {}", spec.author), "");
        self.things.get_mut(&number).unwrap().pull = Some(Pull {
            head: spec.head.to_owned(),
            branch: spec.branch.to_owned(),
            base: spec.base.to_owned(),
            base_branch: spec.base_branch.to_owned(),
            fork: spec.fork,
            draft: false,
            merged: None,
        });
        number
    }

    /// Changes a pull request or issue.
    pub(crate) fn change(&mut self, number: u64, how: impl FnOnce(&mut Thing)) {
        let at = self.clock();
        let thing = self.things.get_mut(&number).unwrap();
        how(thing);
        thing.updated = at;
    }

    /// A push to a pull request's branch.
    pub(crate) fn push(&mut self, number: u64, head: &str) {
        self.change(number, |thing| thing.pull.as_mut().unwrap().head = head.to_owned());
    }

    pub(crate) fn merge(&mut self, number: u64, commit: &str) {
        self.change(number, |thing| {
            thing.open = false;
            thing.pull.as_mut().unwrap().merged = Some(commit.to_owned());
        });
    }

    pub(crate) fn close(&mut self, number: u64) {
        self.change(number, |thing| thing.open = false);
    }

    pub(crate) fn retarget(&mut self, number: u64, branch: &str, base: &str) {
        self.change(number, |thing| {
            let pull = thing.pull.as_mut().unwrap();
            (pull.base_branch, pull.base) = (branch.to_owned(), base.to_owned());
        });
    }

    pub(crate) fn label(&mut self, number: u64, label: &str, actor: &str, added: bool) {
        self.change(number, |thing| {
            if added {
                thing.labels.insert(label.to_owned());
            } else {
                thing.labels.remove(label);
            }
        });
        let event = LabelEvent {
            id: self.fresh_id(),
            number,
            label: label.to_owned(),
            added,
            actor: actor.to_owned(),
            at: self.clock(),
        };
        self.labels.push(event);
    }

    pub(crate) fn comment(&mut self, number: u64, author: &str, body: &str) -> u64 {
        let (id, at) = (self.fresh_id(), self.clock());
        self.comments.push(Comment {
            id,
            number,
            author: author.to_owned(),
            body: body.to_owned(),
            created: at,
            updated: at,
            edits: 0,
        });
        self.change(number, |_| ());
        id
    }

    /// `state` as `APPROVED`.
    pub(crate) fn review(&mut self, number: u64, author: &str, state: &str, commit: &str) {
        let review = Review {
            id: self.fresh_id(),
            number,
            author: author.to_owned(),
            state: state.to_owned(),
            commit: commit.to_owned(),
            at: self.clock(),
        };
        self.reviews.push(review);
        self.change(number, |_| ());
    }

    pub(crate) fn set_role(&mut self, login: &str, role: &str) {
        self.roles.insert(login.to_owned(), role.to_owned());
    }

    pub(crate) fn join(&mut self, team: &str, login: &str) {
        self.teams.entry(team.to_owned()).or_default().insert(login.to_owned());
    }

    /// The comments on one, as author and text.
    pub(crate) fn comments_on(&self, number: u64) -> Vec<(&str, &str)> {
        let on = self.comments.iter().filter(|comment| comment.number == number);
        on.map(|comment| (comment.author.as_str(), comment.body.as_str())).collect()
    }

    /// Every status of a commit, the oldest first.
    pub(crate) fn statuses_of(&self, sha: &str) -> Vec<&Status> {
        self.statuses.iter().filter(|status| status.sha == sha).collect()
    }

    pub(crate) fn account(&mut self, login: &str) -> Value {
        json!({ "id": self.user(login), "login": login })
    }
}
