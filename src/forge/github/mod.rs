//! GitHub: github.com and Enterprise Server, with a personal access token or as an app.
//!
//! It only translates: which path, which body, which of its fields. Only an app may write checks,
//! so with a token those are refused here, without a call.

mod send;
mod wire;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use trueup_github::{Call, Client, ClientError, Listed, Method};

use super::error::{explain, too_many, unsupported};
use super::text::encode;
use crate::model::CommitId;
use crate::port::forge::{
    Budget, Capabilities, CheckId, CheckReport, CheckSeen, Comment, CommentId, Forge, ForgeError,
    ForgeFault, Issue, IssueChange, LabelEvent, Permission, PullRequest, Pulls, Reply, Review,
    Status, User,
};

/// Longest comment or issue in bytes. GitHub counts 65,536 characters; bytes are never fewer.
const COMMENT_BYTES_MAX: usize = 65_536;
/// Most statuses under one context a commit takes (documented with `POST …/statuses/{sha}`).
const STATUSES_MAX: usize = 1000;

/// One repository on GitHub.
pub(super) struct GitHub {
    client: Client,
    repository: String,
    viewer: OnceCell<User>,
}

impl GitHub {
    pub(super) fn new(client: Client, repository: String) -> Self {
        Self { client, repository, viewer: OnceCell::new() }
    }

    fn path(&self, rest: &str) -> String {
        format!("/repos/{}/{rest}", self.repository)
    }

    async fn list<T: DeserializeOwned>(
        &self,
        rest: &str,
        permission: &str,
    ) -> Result<Listed<T>, ForgeError> {
        self.client.list(&self.path(rest), None).await.map_err(|cause| explain(cause, permission))
    }

    async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        permission: &str,
    ) -> Result<T, ForgeError> {
        let reply = self.client.get(path).await.map_err(|cause| explain(cause, permission))?;
        reply.json(Method::Get, path).map_err(|cause| explain(cause, permission))
    }

    /// A write, with the one status that means it was carried out.
    async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        rest: &str,
        body: &Value,
        permission: &str,
    ) -> Result<T, ForgeError> {
        let path = self.path(rest);
        let call = Call::new(method, &path).with(body);
        let sent = async {
            let reply = self.client.request(call).await?;
            let wanted = if method == Method::Post { 201 } else { 200 };
            if reply.status != wanted {
                // A redirect may have turned the write into a read.
                let why = format!("it was answered with {} instead of {wanted}", reply.status);
                return Err(ClientError::Unknown { method, path: path.clone(), why });
            }
            reply.json(method, &path)
        };
        sent.await.map_err(|cause| explain(cause, permission))
    }

    async fn ask_viewer(&self) -> Result<User, ForgeError> {
        const NEEDS: &str = "any";
        if !self.client.is_app() {
            let user: wire::WireUser = self.read("/user", NEEDS).await?;
            return Ok(user.into());
        }
        let call = Call { as_app: true, ..Call::new(Method::Get, "/app") };
        let reply = self.client.request(call).await.map_err(|cause| explain(cause, NEEDS))?;
        let app: wire::WireApp =
            reply.json(Method::Get, "/app").map_err(|cause| explain(cause, NEEDS))?;
        let Some(slug) = app.slug else {
            return Err(unsupported("the app has no name of its own", "check forge.app.id"));
        };
        // What an app writes has this account as its author.
        let path = format!("/users/{}", encode(&format!("{slug}[bot]")));
        let user: wire::WireUser = self.read(&path, NEEDS).await?;
        Ok(user.into())
    }

    fn needs_app(&self) -> Result<(), ForgeError> {
        if self.client.is_app() {
            return Ok(());
        }
        Err(unsupported(
            "GitHub lets only apps write checks, and the login is a token",
            "give forge.app in the config to have annotations",
        ))
    }
}

const STATUSES: &str = "statuses=write";
const CHECKS: &str = "checks=write";
const PULLS_READ: &str = "pull_requests=read";
const PULLS: &str = "pull_requests=write";
const ISSUES: &str = "issues=write";
const METADATA: &str = "metadata=read";
const MEMBERS: &str = "members=read";

/// `None` instead of the error that there is no such thing.
fn found<T>(result: Result<T, ForgeError>) -> Result<Option<T>, ForgeError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.fault == ForgeFault::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Forge for GitHub {
    fn name(&self) -> &'static str {
        "github"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            checks: self.client.is_app(),
            conditional: true,
            comment_bytes_max: COMMENT_BYTES_MAX,
            statuses_max: Some(STATUSES_MAX),
        }
    }

    fn budget(&self) -> Option<Budget> {
        let rate = self.client.rate();
        Some(Budget { limit: rate.limit?, remaining: rate.remaining?, reset: rate.reset })
    }

    fn viewer(&self) -> Reply<'_, User> {
        Box::pin(async { self.viewer.get_or_try_init(|| self.ask_viewer()).await.cloned() })
    }

    fn open_pulls(&self) -> Reply<'_, Pulls> {
        Box::pin(async {
            // The oldest first: a new one changes the last page only.
            let rest = "pulls?state=open&sort=created&direction=asc";
            let listed: Listed<wire::WirePull> = self.list(rest, PULLS_READ).await?;
            let mut items: Vec<PullRequest> =
                listed.items.into_iter().map(PullRequest::from).collect();
            items.sort_by_key(|pull| pull.number);
            items.dedup_by_key(|pull| pull.number);
            Ok(Pulls { items, unchanged: listed.unchanged, cut: listed.cut, date: listed.date })
        })
    }

    fn pull(&self, number: u64) -> Reply<'_, Option<PullRequest>> {
        Box::pin(async move {
            let path = self.path(&format!("pulls/{number}"));
            let pull = found(self.read::<wire::WirePull>(&path, PULLS_READ).await)?;
            Ok(pull.map(PullRequest::from))
        })
    }

    fn find_status<'a>(
        &'a self,
        commit: &'a CommitId,
        context: &'a str,
    ) -> Reply<'a, Option<Status>> {
        Box::pin(async move {
            let path = self.path(&format!("commits/{commit}/status"));
            let listed: Listed<wire::WireStatus> = self
                .client
                .list(&path, Some("statuses"))
                .await
                .map_err(|cause| explain(cause, "statuses=read"))?;
            let status = listed.items.into_iter().find(|status| status.context == context);
            Ok(status.map(Status::from))
        })
    }

    fn set_status<'a>(&'a self, commit: &'a CommitId, status: &'a Status) -> Reply<'a, ()> {
        Box::pin(async move {
            let body = send::status(status);
            let rest = format!("statuses/{commit}");
            let _stored: Value = self.write(Method::Post, &rest, &body, STATUSES).await?;
            Ok(())
        })
    }

    fn find_check<'a>(
        &'a self,
        commit: &'a CommitId,
        name: &'a str,
        external_id: &'a str,
    ) -> Reply<'a, Option<CheckSeen>> {
        Box::pin(async move {
            self.needs_app()?;
            let name = encode(name);
            let path =
                self.path(&format!("commits/{commit}/check-runs?check_name={name}&filter=all"));
            let listed: Listed<wire::WireCheck> = self
                .client
                .list(&path, Some("check_runs"))
                .await
                .map_err(|cause| explain(cause, "checks=read"))?;
            let ours = |check: &wire::WireCheck| check.external_id.as_deref() == Some(external_id);
            Ok(listed.items.into_iter().find(ours).map(CheckSeen::from))
        })
    }

    fn create_check<'a>(
        &'a self,
        commit: &'a CommitId,
        report: &'a CheckReport,
    ) -> Reply<'a, CheckSeen> {
        Box::pin(async move {
            self.needs_app()?;
            let body = send::check(report, Some(commit));
            let check: wire::WireCheck =
                self.write(Method::Post, "check-runs", &body, CHECKS).await?;
            Ok(check.into())
        })
    }

    fn update_check<'a>(&'a self, check: CheckId, report: &'a CheckReport) -> Reply<'a, CheckSeen> {
        Box::pin(async move {
            self.needs_app()?;
            let body = send::check(report, None);
            let rest = format!("check-runs/{}", check.0);
            let sent = self.write::<wire::WireCheck>(Method::Patch, &rest, &body, CHECKS).await;
            // Annotations are added, so this is no write that may be made twice unseen.
            sent.map(CheckSeen::from).map_err(|error| match error.fault {
                ForgeFault::Unavailable if !report.annotations.is_empty() => {
                    ForgeError { fault: ForgeFault::Maybe, ..error }
                }
                _ => error,
            })
        })
    }

    fn comments_since(&self, since: Timestamp) -> Reply<'_, Vec<Comment>> {
        Box::pin(async move {
            let since = encode(&whole_second(since));
            let rest = format!("issues/comments?sort=updated&direction=asc&since={since}");
            let listed: Listed<wire::WireComment> = self.list(&rest, "issues=read").await?;
            Ok(listed.items.into_iter().map(Comment::from).collect())
        })
    }

    fn find_comment<'a>(&'a self, number: u64, marker: &'a str) -> Reply<'a, Option<Comment>> {
        Box::pin(async move {
            let own = self.viewer().await?.id;
            let listed: Listed<wire::WireComment> =
                self.list(&format!("issues/{number}/comments"), PULLS_READ).await?;
            let cut = listed.cut;
            let ours = |comment: &Comment| {
                comment.author.as_ref().is_some_and(|author| author.id == own)
                    && comment.body.contains(marker)
            };
            match listed.items.into_iter().map(Comment::from).find(ours) {
                None if cut => Err(too_many(format!("the conversation of #{number}"))),
                found => Ok(found),
            }
        })
    }

    fn create_comment<'a>(&'a self, number: u64, body: &'a str) -> Reply<'a, Comment> {
        Box::pin(async move {
            let rest = format!("issues/{number}/comments");
            let body = json!({ "body": body });
            let made: wire::WireComment = self.write(Method::Post, &rest, &body, PULLS).await?;
            Ok(Comment { number, ..made.into() })
        })
    }

    fn update_comment<'a>(&'a self, comment: CommentId, body: &'a str) -> Reply<'a, Comment> {
        Box::pin(async move {
            let rest = format!("issues/comments/{}", comment.0);
            let body = json!({ "body": body });
            let changed: wire::WireComment = self.write(Method::Patch, &rest, &body, PULLS).await?;
            Ok(changed.into())
        })
    }

    fn delete_comment(&self, comment: CommentId) -> Reply<'_, ()> {
        Box::pin(async move {
            let path = self.path(&format!("issues/comments/{}", comment.0));
            let sent = self.client.request(Call::new(Method::Delete, &path)).await;
            found(sent.map_err(|cause| explain(cause, PULLS)))?;
            Ok(())
        })
    }

    fn reviews(&self, number: u64) -> Reply<'_, Vec<Review>> {
        Box::pin(async move {
            let rest = format!("pulls/{number}/reviews");
            let listed: Listed<wire::WireReview> = self.list(&rest, PULLS_READ).await?;
            Ok(listed.items.into_iter().filter_map(wire::WireReview::into_review).collect())
        })
    }

    fn label_events(&self, number: u64) -> Reply<'_, Vec<LabelEvent>> {
        Box::pin(async move {
            let rest = format!("issues/{number}/events");
            let listed: Listed<wire::WireEvent> = self.list(&rest, PULLS_READ).await?;
            Ok(listed.items.into_iter().filter_map(wire::WireEvent::into_label).collect())
        })
    }

    fn permission<'a>(&'a self, login: &'a str) -> Reply<'a, Permission> {
        Box::pin(async move {
            let path = self.path(&format!("collaborators/{}/permission", encode(login)));
            let seen = found(self.read::<wire::WirePermission>(&path, METADATA).await)?;
            Ok(seen.map_or(Permission::None, |seen| permission(&seen)))
        })
    }

    fn in_team<'a>(&'a self, team: &'a str, login: &'a str) -> Reply<'a, bool> {
        Box::pin(async move {
            let Some((organisation, slug)) = team.split_once('/') else {
                let what = format!("{team:?} is no team");
                return Err(unsupported(&what, "write it as organisation/team"));
            };
            let (organisation, slug) = (encode(organisation), encode(slug));
            let path = format!("/orgs/{organisation}/teams/{slug}/memberships/{}", encode(login));
            let seen = found(self.read::<wire::WireMembership>(&path, MEMBERS).await)?;
            Ok(seen.is_some_and(|seen| seen.state == "active"))
        })
    }

    fn find_issue<'a>(&'a self, marker: &'a str) -> Reply<'a, Option<Issue>> {
        Box::pin(async move {
            let own = self.viewer().await?;
            let creator = encode(&own.login);
            let rest = format!("issues?state=all&creator={creator}&sort=created&direction=desc");
            let listed: Listed<wire::WireIssue> = self.list(&rest, "issues=read").await?;
            let cut = listed.cut;
            let ours = |issue: &wire::WireIssue| {
                issue.pull_request.is_none()
                    && issue.user.as_ref().is_some_and(|user| user.id == own.id)
                    && issue.has(marker)
            };
            match listed.items.into_iter().find(ours) {
                None if cut => Err(too_many("the list of our own issues".to_owned())),
                found => Ok(found.map(Issue::from)),
            }
        })
    }

    fn create_issue<'a>(&'a self, title: &'a str, body: &'a str) -> Reply<'a, Issue> {
        Box::pin(async move {
            let body = json!({ "title": title, "body": body });
            let made: wire::WireIssue = self.write(Method::Post, "issues", &body, ISSUES).await?;
            Ok(made.into())
        })
    }

    fn update_issue<'a>(&'a self, number: u64, change: &'a IssueChange) -> Reply<'a, Issue> {
        Box::pin(async move {
            let body = send::issue(change);
            let rest = format!("issues/{number}");
            let changed: wire::WireIssue = self.write(Method::Patch, &rest, &body, ISSUES).await?;
            Ok(changed.into())
        })
    }
}

/// A time as GitHub writes it: to the second, which is how finely it keeps them.
fn whole_second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The finer `role_name` where it is a role of GitHub's own, else `permission`, which an
/// organisation's own roles are based on.
fn permission(seen: &wire::WirePermission) -> Permission {
    let of = |word: &str| match word {
        "admin" => Some(Permission::Admin),
        "maintain" => Some(Permission::Maintain),
        "write" => Some(Permission::Write),
        "triage" => Some(Permission::Triage),
        "read" => Some(Permission::Read),
        "none" => Some(Permission::None),
        _ => None,
    };
    of(&seen.role_name).or_else(|| of(&seen.permission)).unwrap_or(Permission::None)
}
