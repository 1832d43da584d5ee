//! Gitea and Forgejo: statuses, pull requests, comments and issues below `/api/v1`.
//!
//! They have no checks with annotations and no conditional requests; both are said in
//! [`Capabilities`] and never imitated.

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
    Budget, Capabilities, CheckId, CheckReport, CheckSeen, Comment, CommentId, CommitState, Forge,
    ForgeError, ForgeFault, Issue, IssueChange, LabelEvent, Permission, PullRequest, Pulls, Reply,
    Review, Status, User,
};

/// Longest comment in bytes: a `LONGTEXT` takes far more; kept at GitHub's so that texts are alike.
const COMMENT_BYTES_MAX: usize = 65_536;

/// One repository on Gitea or Forgejo.
pub(super) struct Gitea {
    client: Client,
    repository: String,
    viewer: OnceCell<User>,
}

const REPOSITORY_READ: &str = "read:repository";
const REPOSITORY: &str = "write:repository";
const ISSUE_READ: &str = "read:issue";
const ISSUE: &str = "write:issue";
const ORGANISATION: &str = "read:organization";

impl Gitea {
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

    async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        rest: &str,
        body: &Value,
        permission: &str,
    ) -> Result<T, ForgeError> {
        let path = self.path(rest);
        let sent = async {
            let reply = self.client.request(Call::new(method, &path).with(body)).await?;
            // Gitea answers a change of an issue with 201.
            if !matches!((method, reply.status), (Method::Post, 201) | (Method::Patch, 200 | 201)) {
                let why = format!("it was answered with {}", reply.status);
                return Err(ClientError::Unknown { method, path: path.clone(), why });
            }
            reply.json(method, &path)
        };
        sent.await.map_err(|cause| explain(cause, permission))
    }

    async fn ask_viewer(&self) -> Result<User, ForgeError> {
        let user: wire::WireUser = self.read("/user", "read:user").await?;
        wire::user(Some(user))
            .ok_or_else(|| unsupported("the login has no account", "give a token of an account"))
    }

    async fn team(&self, organisation: &str, name: &str) -> Result<Option<u64>, ForgeError> {
        let path =
            format!("/orgs/{}/teams/search?q={}&limit=50", encode(organisation), encode(name));
        let found_teams = found(self.read::<wire::WireTeams>(&path, ORGANISATION).await)?;
        let teams = found_teams.map(|teams| teams.data).unwrap_or_default();
        Ok(teams.into_iter().find(|team| team.name.eq_ignore_ascii_case(name)).map(|team| team.id))
    }
}

/// `None` instead of the error that there is no such thing.
fn found<T>(result: Result<T, ForgeError>) -> Result<Option<T>, ForgeError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.fault == ForgeFault::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn no_checks() -> ForgeError {
    unsupported("this forge has no checks with annotations", "use the status and the comment")
}

impl Forge for Gitea {
    fn name(&self) -> &'static str {
        "gitea"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            checks: false,
            conditional: false,
            comment_bytes_max: COMMENT_BYTES_MAX,
            statuses_max: None,
        }
    }

    fn budget(&self) -> Option<Budget> {
        None
    }

    fn viewer(&self) -> Reply<'_, User> {
        Box::pin(async { self.viewer.get_or_try_init(|| self.ask_viewer()).await.cloned() })
    }

    fn open_pulls(&self) -> Reply<'_, Pulls> {
        Box::pin(async {
            let rest = "pulls?state=open&sort=oldest";
            let listed: Listed<wire::WirePull> = self.list(rest, REPOSITORY_READ).await?;
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
            let pull = found(self.read::<wire::WirePull>(&path, REPOSITORY_READ).await)?;
            Ok(pull.map(PullRequest::from))
        })
    }

    fn find_status<'a>(
        &'a self,
        commit: &'a CommitId,
        context: &'a str,
    ) -> Reply<'a, Option<Status>> {
        Box::pin(async move {
            let rest = format!("commits/{commit}/statuses?sort=recentupdate");
            let listed: Listed<wire::WireStatus> = self.list(&rest, REPOSITORY_READ).await?;
            let status = listed.items.into_iter().find(|status| status.context == context);
            Ok(status.map(Status::from))
        })
    }

    fn set_status<'a>(&'a self, commit: &'a CommitId, status: &'a Status) -> Reply<'a, ()> {
        Box::pin(async move {
            let state = match status.state {
                CommitState::Pending => "pending",
                CommitState::Success => "success",
                CommitState::Failure => "failure",
                CommitState::Error => "error",
            };
            let body = json!({
                "context": status.context,
                "state": state,
                "description": status.cut_description(),
                "target_url": status.url.as_deref().unwrap_or_default(),
            });
            let rest = format!("statuses/{commit}");
            let _stored: Value = self.write(Method::Post, &rest, &body, REPOSITORY).await?;
            Ok(())
        })
    }

    fn find_check<'a>(
        &'a self,
        _commit: &'a CommitId,
        _name: &'a str,
        _external_id: &'a str,
    ) -> Reply<'a, Option<CheckSeen>> {
        Box::pin(async { Err(no_checks()) })
    }

    fn create_check<'a>(
        &'a self,
        _commit: &'a CommitId,
        _report: &'a CheckReport,
    ) -> Reply<'a, CheckSeen> {
        Box::pin(async { Err(no_checks()) })
    }

    fn update_check<'a>(
        &'a self,
        _check: CheckId,
        _report: &'a CheckReport,
    ) -> Reply<'a, CheckSeen> {
        Box::pin(async { Err(no_checks()) })
    }

    fn comments_since(&self, since: Timestamp) -> Reply<'_, Vec<Comment>> {
        Box::pin(async move {
            let since = encode(&since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
            let rest = format!("issues/comments?since={since}");
            let listed: Listed<wire::WireComment> = self.list(&rest, ISSUE_READ).await?;
            let mut all: Vec<Comment> = listed.items.into_iter().map(Comment::from).collect();
            all.sort_by_key(|comment| (comment.updated_at, comment.id));
            Ok(all)
        })
    }

    fn find_comment<'a>(&'a self, number: u64, marker: &'a str) -> Reply<'a, Option<Comment>> {
        Box::pin(async move {
            let own = self.viewer().await?.id;
            // Not paged: every comment comes at once.
            let path = self.path(&format!("issues/{number}/comments"));
            let all: Vec<wire::WireComment> = self.read(&path, ISSUE_READ).await?;
            let ours = |comment: &Comment| {
                comment.author.as_ref().is_some_and(|author| author.id == own)
                    && comment.body.contains(marker)
            };
            Ok(all.into_iter().map(Comment::from).find(ours))
        })
    }

    fn create_comment<'a>(&'a self, number: u64, body: &'a str) -> Reply<'a, Comment> {
        Box::pin(async move {
            let rest = format!("issues/{number}/comments");
            let body = json!({ "body": body });
            let made: wire::WireComment = self.write(Method::Post, &rest, &body, ISSUE).await?;
            Ok(Comment { number, ..made.into() })
        })
    }

    fn update_comment<'a>(&'a self, comment: CommentId, body: &'a str) -> Reply<'a, Comment> {
        Box::pin(async move {
            let rest = format!("issues/comments/{}", comment.0);
            let body = json!({ "body": body });
            let changed: wire::WireComment = self.write(Method::Patch, &rest, &body, ISSUE).await?;
            Ok(changed.into())
        })
    }

    fn delete_comment(&self, comment: CommentId) -> Reply<'_, ()> {
        Box::pin(async move {
            let path = self.path(&format!("issues/comments/{}", comment.0));
            let sent = self.client.request(Call::new(Method::Delete, &path)).await;
            found(sent.map_err(|cause| explain(cause, ISSUE)))?;
            Ok(())
        })
    }

    fn reviews(&self, number: u64) -> Reply<'_, Vec<Review>> {
        Box::pin(async move {
            let rest = format!("pulls/{number}/reviews");
            let listed: Listed<wire::WireReview> = self.list(&rest, REPOSITORY_READ).await?;
            Ok(listed.items.into_iter().filter_map(wire::WireReview::into_review).collect())
        })
    }

    fn label_events(&self, number: u64) -> Reply<'_, Vec<LabelEvent>> {
        Box::pin(async move {
            let rest = format!("issues/{number}/timeline");
            let listed: Listed<wire::WireTimeline> = self.list(&rest, ISSUE_READ).await?;
            Ok(listed.items.into_iter().filter_map(wire::WireTimeline::into_label).collect())
        })
    }

    fn permission<'a>(&'a self, login: &'a str) -> Reply<'a, Permission> {
        Box::pin(async move {
            let path = self.path(&format!("collaborators/{}/permission", encode(login)));
            let seen = found(self.read::<wire::WirePermission>(&path, REPOSITORY_READ).await)?;
            Ok(match seen.as_ref().map(|seen| seen.permission.as_str()) {
                Some("owner" | "admin") => Permission::Admin,
                Some("write") => Permission::Write,
                Some("read") => Permission::Read,
                _ => Permission::None,
            })
        })
    }

    fn in_team<'a>(&'a self, team: &'a str, login: &'a str) -> Reply<'a, bool> {
        Box::pin(async move {
            let Some((organisation, name)) = team.split_once('/') else {
                let what = format!("{team:?} is no team");
                return Err(unsupported(&what, "write it as organisation/team"));
            };
            let Some(id) = self.team(organisation, name).await? else { return Ok(false) };
            let path = format!("/teams/{id}/members/{}", encode(login));
            let member: Option<Value> = found(self.read(&path, ORGANISATION).await)?;
            Ok(member.is_some())
        })
    }

    fn find_issue<'a>(&'a self, marker: &'a str) -> Reply<'a, Option<Issue>> {
        Box::pin(async move {
            let own = self.viewer().await?;
            let creator = encode(&own.login);
            let rest = format!("issues?state=all&type=issues&created_by={creator}");
            let listed: Listed<wire::WireIssue> = self.list(&rest, ISSUE_READ).await?;
            let cut = listed.cut;
            let ours = |issue: &wire::WireIssue| {
                let author = issue.user.as_ref().and_then(|user| u64::try_from(user.id).ok());
                author == Some(own.id) && issue.body.contains(marker)
            };
            match listed.items.into_iter().filter(ours).map(Issue::from).max_by_key(|i| i.number) {
                None if cut => Err(too_many("the list of our own issues".to_owned())),
                found => Ok(found),
            }
        })
    }

    fn create_issue<'a>(&'a self, title: &'a str, body: &'a str) -> Reply<'a, Issue> {
        Box::pin(async move {
            let body = json!({ "title": title, "body": body });
            let made: wire::WireIssue = self.write(Method::Post, "issues", &body, ISSUE).await?;
            Ok(made.into())
        })
    }

    fn update_issue<'a>(&'a self, number: u64, change: &'a IssueChange) -> Reply<'a, Issue> {
        Box::pin(async move {
            let mut body = json!({});
            if let Some(title) = &change.title {
                body["title"] = json!(title);
            }
            if let Some(text) = &change.body {
                body["body"] = json!(text);
            }
            if let Some(open) = change.open {
                body["state"] = json!(if open { "open" } else { "closed" });
            }
            let rest = format!("issues/{number}");
            let changed: wire::WireIssue = self.write(Method::Patch, &rest, &body, ISSUE).await?;
            Ok(changed.into())
        })
    }
}
