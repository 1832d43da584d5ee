//! Requests to an API server: one object at a time, with a time limit, a few attempts, and errors that
//! say what was to be done. It decides nothing, and never repeats what is not safe to repeat.

mod limits;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::{GroupVersionKind, Request};
use serde_json::{Value, json};

use crate::MANAGER;
use crate::fault::{About, Fault, cut, explain};
use crate::grant::Token;
use crate::key::{Kind, ObjectKey};

pub use limits::Limits;

/// Objects of one page of a list: a few megabytes at most.
const PAGE: u32 = 500;
/// Most objects of one list; more than any cluster here has, and bounded memory.
pub const LIST_MAX: usize = 200_000;

/// Where objects of a kind are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// As the client wants it.
    pub api: ApiResource,
    /// Whether they live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// The kind.
    pub fn kind(&self) -> Kind {
        Kind::new(&self.api.group, &self.api.version, &self.api.kind)
    }

    fn path(&self, namespace: Option<&str>) -> String {
        use kube::Resource as _;
        DynamicObject::url_path(&self.api, namespace.filter(|_| self.namespaced))
    }

    fn requests(&self, namespace: Option<&str>) -> Request {
        Request::new(self.path(namespace))
    }
}

/// A list, narrowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// Only in this namespace.
    pub namespace: Option<String>,
    /// Only with these labels.
    pub labels: Option<String>,
    /// Only with these fields.
    pub fields: Option<String>,
}

/// How an object is applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Apply {
    /// Whether fields that others own are taken.
    pub force: bool,
    /// Whether it is only asked what would become of it.
    pub dry_run: bool,
}

/// What an eviction came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evicted {
    /// The pod is on its way out.
    Yes,
    /// It is gone, or another of its name is there.
    Gone,
    /// A disruption budget forbids it for now.
    Blocked(String),
}

/// An API server.
#[derive(Clone)]
pub struct Api {
    client: Client,
    server: String,
    limits: Limits,
    resources: Arc<Mutex<BTreeMap<Kind, Resource>>>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Api {
    /// Over a client that is there; its own retries must be off, as some refusals are answers.
    pub fn new(client: Client, server: String, limits: Limits) -> Self {
        Self { client, server, limits, resources: Arc::default() }
    }

    /// The address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The client beneath, for what is not asked here. It does not repeat requests.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The release of the server, as `v1.33.1`.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn version(&self) -> Result<String, Fault> {
        let about = self.about("tell its version", false);
        let answer = self.ask(&about, || get("/version")).await?;
        let version = answer.get("gitVersion").and_then(Value::as_str).map(str::to_owned);
        version.ok_or_else(|| self.unreadable(&about, "no gitVersion"))
    }

    /// Where the objects of a kind are. What was found is remembered until [`Api::forget`].
    ///
    /// # Errors
    /// [`Fault::UnknownKind`] where the server has no such kind (now); others.
    pub async fn resource(&self, kind: &Kind) -> Result<Resource, Fault> {
        if let Some(known) = self.known().get(kind) {
            return Ok(known.clone());
        }
        let path = match kind.group.as_str() {
            "" => format!("/api/{}", kind.version),
            group => format!("/apis/{group}/{}", kind.version),
        };
        let what = format!("list the kinds of {}", kind.api_version());
        let about = self.about(&what, false);
        let answer = match self.ask(&about, || get(&path)).await {
            Err(Fault::NotFound { .. }) => return Err(Fault::UnknownKind { kind: kind.clone() }),
            other => other?,
        };
        let all = answer.get("resources").and_then(Value::as_array);
        let mut known = self.known();
        for one in all.into_iter().flatten() {
            let text = |field: &str| one.get(field).and_then(Value::as_str).unwrap_or_default();
            // `deployments/status` is a part of objects, not a kind of its own.
            if text("name").is_empty() || text("name").contains('/') {
                continue;
            }
            let of = Kind::new(&kind.group, &kind.version, text("kind"));
            let gvk = GroupVersionKind::gvk(&of.group, &of.version, &of.kind);
            let api = ApiResource::from_gvk_with_plural(&gvk, text("name"));
            let namespaced = one.get("namespaced") == Some(&Value::Bool(true));
            known.insert(of, Resource { api, namespaced });
        }
        known.get(kind).cloned().ok_or_else(|| Fault::UnknownKind { kind: kind.clone() })
    }

    /// Forgets which kinds there are, for they come and go with their definitions.
    pub fn forget(&self) {
        self.known().clear();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<Kind, Resource>> {
        // Nothing is left half done in it, whoever panicked.
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object; `None` where it is not there.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn get(&self, of: &Resource, key: &ObjectKey) -> Result<Option<Value>, Fault> {
        let what = format!("read {key}");
        let about = self.about(&what, key.is_secret());
        let requests = of.requests(key.namespace.as_deref());
        match self.ask(&about, || requests.get(&key.name, &Default::default())).await {
            Ok(object) => Ok(Some(object)),
            Err(Fault::NotFound { .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// All objects of a kind. A list that expires between two pages is begun anew, once.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn list(&self, of: &Resource, which: &Selector) -> Result<Vec<Value>, Fault> {
        let what = format!("list {}", of.api.plural);
        let about = self.about(&what, of.api.kind == "Secret");
        let requests = of.requests(which.namespace.as_deref());
        let (mut all, mut page, mut again) = (Vec::new(), None::<String>, true);
        loop {
            let params = ListParams {
                label_selector: which.labels.clone(),
                field_selector: which.fields.clone(),
                limit: Some(PAGE),
                continue_token: page.clone(),
                ..ListParams::default()
            };
            let mut answer = match self.ask(&about, || requests.list(&params)).await {
                Err(Fault::Refused { code: 410, .. }) if again && page.is_some() => {
                    (all, page, again) = (Vec::new(), None, false);
                    continue;
                }
                other => other?,
            };
            let items = answer.get_mut("items").map(Value::take);
            let Some(Value::Array(items)) = items else {
                return Err(self.unreadable(&about, "no list of items"));
            };
            all.extend(items.into_iter().map(|item| typed(item, of)));
            if all.len() > LIST_MAX {
                return Err(self.unreadable(&about, &format!("more than {LIST_MAX} objects")));
            }
            let next = answer.pointer("/metadata/continue").and_then(Value::as_str);
            match next.filter(|next| !next.is_empty()) {
                Some(next) => page = Some(next.to_owned()),
                None => return Ok(all),
            }
        }
    }

    /// Applies an object as [`MANAGER`].
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn apply(
        &self,
        of: &Resource,
        key: &ObjectKey,
        object: &Value,
        how: Apply,
    ) -> Result<Value, Fault> {
        let what = format!("{} {key}", if how.dry_run { "try" } else { "apply" });
        let about = self.about(&what, key.is_secret());
        let mut params = kube::api::PatchParams::apply(MANAGER);
        (params.force, params.dry_run) = (how.force, how.dry_run);
        let requests = of.requests(key.namespace.as_deref());
        let patch = kube::api::Patch::Apply(object);
        self.ask(&about, || requests.patch(&key.name, &params, &patch)).await
    }

    /// Changes an object by a merge patch (RFC 7396). With a `metadata.resourceVersion` in it, only the
    /// object of that version is changed.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn merge(
        &self,
        of: &Resource,
        key: &ObjectKey,
        patch: &Value,
    ) -> Result<Value, Fault> {
        let what = format!("change {key}");
        let about = self.about(&what, key.is_secret());
        let manager = Some(MANAGER.to_owned());
        let params = kube::api::PatchParams { field_manager: manager, ..Default::default() };
        let requests = of.requests(key.namespace.as_deref());
        let patch = kube::api::Patch::Merge(patch);
        self.ask(&about, || requests.patch(&key.name, &params, &patch)).await
    }

    /// Deletes an object if it has this uid; what depends on it follows in the background. `false`: it
    /// was gone, or another of its name is there.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn delete(&self, of: &Resource, key: &ObjectKey, uid: &str) -> Result<bool, Fault> {
        let what = format!("delete {key}");
        let about = self.about(&what, key.is_secret());
        let params =
            kube::api::DeleteParams::background().preconditions(kube::api::Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            });
        let requests = of.requests(key.namespace.as_deref());
        match self.ask(&about, || requests.delete(&key.name, &params)).await {
            Ok(_) => Ok(true),
            Err(Fault::NotFound { .. } | Fault::Conflict { .. }) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Asks a pod to go, as disruption budgets allow. `version` is that of the API's group `policy`: `v1`
    /// since Kubernetes 1.22, `v1beta1` before.
    ///
    /// # Errors
    /// [`Fault`]; that a budget forbids it is no error.
    pub async fn evict(&self, pod: &ObjectKey, uid: &str, version: &str) -> Result<Evicted, Fault> {
        let what = format!("evict {pod}");
        let about = self.about(&what, false);
        let namespace = pod.namespace.as_deref().unwrap_or("default");
        let path = format!("/api/v1/namespaces/{namespace}/pods/{}/eviction", pod.name);
        let body = json!({
            "apiVersion": format!("policy/{version}"),
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        });
        let bytes = body.to_string().into_bytes();
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(bytes).map_err(|e| self.unreadable(&about, &e.to_string()))?;
        // Once only: 429 is an answer here, and the caller knows when to ask again.
        match self.once(&about, request).await {
            Ok(_) => Ok(Evicted::Yes),
            Err(Fault::NotFound { .. } | Fault::Conflict { .. }) => Ok(Evicted::Gone),
            Err(Fault::Busy { code: 429, words, .. }) => Ok(Evicted::Blocked(words)),
            Err(fault) => Err(fault),
        }
    }

    /// Asks for a token of a ServiceAccount, for so many seconds. The server keeps nothing of it.
    ///
    /// # Errors
    /// [`Fault`]; no part of a token is in it.
    pub async fn token(&self, namespace: &str, name: &str, seconds: u64) -> Result<Token, Fault> {
        let what = format!("make a token for ServiceAccount {namespace}/{name}");
        let about = self.about(&what, false);
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        });
        let bytes = body.to_string().into_bytes();
        let make = || {
            let request = http::Request::post(&path).header("content-type", "application/json");
            request.body(bytes.clone()).map_err(kube::core::request::Error::BuildRequest)
        };
        let answer = self.ask(&about, make).await?;
        let token = answer.pointer("/status/token").and_then(Value::as_str);
        token.map(Token::new).ok_or_else(|| self.unreadable(&about, "no token"))
    }

    fn about<'a>(&'a self, what: &'a str, hide: bool) -> About<'a> {
        About { server: &self.server, what, hide }
    }

    fn unreadable(&self, about: &About<'_>, words: &str) -> Fault {
        let (server, what) = (self.server.clone(), about.what.to_owned());
        Fault::Unreadable { server, what, words: cut(words) }
    }

    /// Asks until there is an answer, a refusal, or the attempts are used up.
    async fn ask(
        &self,
        about: &About<'_>,
        make: impl Fn() -> Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Value, Fault> {
        let mut wait = self.limits.first_wait;
        let mut attempt = 1;
        loop {
            let request = make().map_err(|e| self.unreadable(about, &e.to_string()))?;
            let mut fault = match self.once(about, request).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let asked = match &mut fault {
                Fault::Busy { attempts, after, .. } => {
                    *attempts = attempt;
                    Duration::from_secs(u64::from(*after))
                }
                _ => Duration::ZERO,
            };
            if !fault.is_transient() || attempt >= self.limits.attempts {
                return Err(fault);
            }
            // Spread out, so that many who failed at once do not come back at once.
            let spread = wait.mul_f64(0.75 + fastrand::f64() / 2.0);
            tokio::time::sleep(spread.max(asked).min(self.limits.wait_max)).await;
            wait *= 2;
            attempt += 1;
        }
    }

    async fn once(
        &self,
        about: &About<'_>,
        request: http::Request<Vec<u8>>,
    ) -> Result<Value, Fault> {
        // Not the client's own parsing: it logs an answer that it cannot read, whatever is in it.
        let answer = self.client.request_text(request);
        let text = match tokio::time::timeout(self.limits.request, answer).await {
            Ok(answer) => answer.map_err(|error| explain(&error, about))?,
            Err(_) => {
                let (server, what) = (self.server.clone(), about.what.to_owned());
                let seconds = self.limits.request.as_secs();
                return Err(Fault::TimedOut { server, what, seconds });
            }
        };
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            self.unreadable(about, &place)
        })?;
        if !value.is_object() {
            return Err(self.unreadable(about, "JSON, but no object"));
        }
        Ok(value)
    }
}

fn get(path: &str) -> Result<http::Request<Vec<u8>>, kube::core::request::Error> {
    http::Request::get(path).body(Vec::new()).map_err(kube::core::request::Error::BuildRequest)
}

/// Objects in lists do not say what they are.
pub(crate) fn typed(mut object: Value, of: &Resource) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.entry("apiVersion").or_insert_with(|| Value::from(of.api.api_version.as_str()));
        map.entry("kind").or_insert_with(|| Value::from(of.api.kind.as_str()));
    }
    object
}
