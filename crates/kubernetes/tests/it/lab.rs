//! A place to test in: a namespace of its own on the fake server or on a real one, cleaned up at the end
//! whatever happened.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use trueup_fake_kube::FakeKube;
use trueup_kubernetes::release::{Done, Engine, Plan, ReleaseName, Step, Waits, Wish, plan, read};
use trueup_kubernetes::{
    Api, Apply, Fault, Kind, KubeconfigRef, Limits, ObjectKey, Selector, access,
};

/// Names of the tests' own things begin so.
const PREFIX: &str = "trueup-test";

pub(crate) struct Lab {
    pub(crate) api: Api,
    pub(crate) namespace: String,
    pub(crate) fake: Option<FakeKube>,
    _dir: tempfile::TempDir,
}

/// The manifest of the lab's namespace with so many small objects in it.
pub(crate) fn config_maps(count: usize) -> String {
    let one = |index| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m{index}}}\ndata: {{a: '{index}'}}\n"
        )
    };
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: $NS}\n".to_owned();
    namespace + &(0..count).map(one).collect::<String>()
}

pub(crate) fn limits() -> Limits {
    Limits {
        request: Duration::from_secs(10),
        first_wait: Duration::from_millis(10),
        wait_max: Duration::from_millis(200),
        ..Limits::default()
    }
}

pub(crate) fn waits() -> Waits {
    Waits {
        ready: Duration::from_secs(20),
        gone: Duration::from_secs(20),
        definition: Duration::from_secs(20),
    }
}

fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}-{}-{next}", std::process::id())
}

/// The kubeconfig of a real cluster. `KUBECONFIG` itself only counts when it is asked for: a test must
/// not come upon somebody's cluster by chance.
fn real() -> Option<PathBuf> {
    std::env::var_os("TRUEUP_TEST_KUBECONFIG").filter(|p| !p.is_empty()).map(PathBuf::from)
}

impl Lab {
    pub(crate) async fn fake() -> Self {
        Self::over(FakeKube::start()).await
    }

    pub(crate) async fn over(fake: FakeKube) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = fake.write_kubeconfig(dir.path());
        let which = KubeconfigRef { path, context: None, programs: false };
        let access = access(&which, limits()).await.unwrap();
        Self { api: access.api, namespace: unique(), fake: Some(fake), _dir: dir }
    }

    async fn real() -> Option<Self> {
        let path = real()?;
        // Whoever names a cluster for this has its programs for credentials, too.
        let which = KubeconfigRef { path, context: None, programs: true };
        let access = access(&which, limits()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        Some(Self { api: access.api, namespace: unique(), fake: None, _dir: dir })
    }

    pub(crate) fn release(&self) -> ReleaseName {
        ReleaseName::new(&self.namespace, "web").unwrap()
    }

    pub(crate) fn engine(&self) -> Engine {
        Engine::new(self.api.clone(), waits())
    }

    /// A group for definitions of this test alone.
    pub(crate) fn group(&self) -> String {
        format!("{}.trueup.test", self.namespace)
    }

    /// What a text asks for; `$NS` and `$GROUP` are this test's own.
    pub(crate) async fn wish(&self, text: &str) -> Wish {
        let text = text.replace("$NS", &self.namespace).replace("$GROUP", &self.group());
        let manifests = read("test.yaml", &text).unwrap();
        let manifests = self.engine().settle(&self.release(), manifests).await.unwrap();
        Wish::new(self.release(), manifests)
    }

    pub(crate) async fn make_namespace(&self) {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        self.put("", "Namespace", None, &self.namespace, object).await;
    }

    /// Applies an object without the marks of a release. In a real cluster a new namespace takes pods
    /// only once its account was made.
    pub(crate) async fn put(
        &self,
        group: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
        object: Value,
    ) {
        let api = object["apiVersion"].as_str().unwrap();
        let version = api.rsplit('/').next().unwrap();
        let of = self.api.resource(&Kind::new(group, version, kind)).await.unwrap();
        let key = ObjectKey::new(group, kind, namespace, name);
        let how = Apply { force: true, dry_run: false };
        let mut left = 40;
        loop {
            match self.api.apply(&of, &key, &object, how).await {
                Ok(_) => return,
                Err(Fault::Forbidden { .. }) if left > 0 => left -= 1,
                Err(fault) => panic!("{fault}"),
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    pub(crate) fn key(&self, group: &str, kind: &str, name: &str) -> ObjectKey {
        ObjectKey::new(group, kind, Some(&self.namespace), name)
    }

    pub(crate) async fn get(&self, version: &str, key: &ObjectKey) -> Option<Value> {
        let of = self.api.resource(&Kind::new(&key.group, version, &key.kind)).await.unwrap();
        self.api.get(&of, key).await.unwrap()
    }

    /// A merge patch under another name than ours.
    pub(crate) async fn edit(&self, plural: &str, key: &ObjectKey, part: &str, patch: &Value) {
        let base = match key.group.as_str() {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        let home = key.namespace.as_ref().map(|ns| format!("/namespaces/{ns}")).unwrap_or_default();
        let part = if part.is_empty() { String::new() } else { format!("/{part}") };
        let path = format!("{base}{home}/{plural}/{}{part}?fieldManager=kubectl-edit", key.name);
        self.patch(&path, patch).await.unwrap();
    }

    pub(crate) async fn patch(&self, path: &str, patch: &Value) -> Result<String, kube::Error> {
        let request = http::Request::patch(path)
            .header("content-type", "application/merge-patch+json")
            .body(patch.to_string().into_bytes())
            .unwrap();
        self.api.client().request_text(request).await
    }

    /// Plans, and performs all of it.
    pub(crate) async fn reconcile(&self, wish: &Wish) -> Plan {
        let mut engine = self.engine();
        let seen = engine.look(wish).await.unwrap();
        let made = plan(wish, &seen);
        assert_eq!(made.refused().collect::<Vec<_>>(), []);
        for step in &made.steps {
            self.perform(&mut engine, wish, step).await;
        }
        made
    }

    /// Performs a step; what a controller would do meanwhile is done here.
    pub(crate) async fn perform(&self, engine: &mut Engine, wish: &Wish, step: &Step) {
        if let Step::AwaitReady { key } = step
            && key.group == "apps"
        {
            let plural = format!("{}s", key.kind.to_lowercase());
            let live = self.get("v1", key).await.unwrap();
            let mut status = json!({"observedGeneration": live["metadata"]["generation"]});
            let counts: &[&str] = match key.kind.as_str() {
                "StatefulSet" => &["replicas"],
                "DaemonSet" => &[
                    "currentNumberScheduled",
                    "desiredNumberScheduled",
                    "numberMisscheduled",
                    "numberReady",
                ],
                _ => &[],
            };
            for count in counts {
                status[count] = json!(0);
            }
            self.edit(&plural, key, "status", &json!({"status": status})).await;
        }
        let done = engine.perform(wish, step).await;
        assert_eq!(done.unwrap_or_else(|e| panic!("{step:?}: {e}")), Done::Done);
    }

    /// Everything of this test is removed, and seen to be gone.
    async fn finish(&self) {
        if self.fake.is_some() {
            return;
        }
        let definitions = Kind::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        for definition in self.ours(&definitions).await {
            let text = |path: &str| definition.pointer(path).and_then(Value::as_str).unwrap();
            // What a test that failed left with a hold on it would keep its definition for ever.
            let kind = Kind::new(text("/spec/group"), "v1", text("/spec/names/kind"));
            for object in self.ours(&kind).await {
                self.let_go(&kind, &object).await;
            }
            self.remove(&definitions, &definition).await;
        }
        let budget = |version| Kind::new("policy", version, "PodDisruptionBudget");
        let within = [
            budget("v1"),
            budget("v1beta1"),
            Kind::new("", "v1", "Pod"),
            Kind::new("apps", "v1", "Deployment"),
            Kind::new("apps", "v1", "StatefulSet"),
            Kind::new("apps", "v1", "DaemonSet"),
            Kind::new("networking.k8s.io", "v1", "Ingress"),
            Kind::new("networking.k8s.io", "v1", "NetworkPolicy"),
            Kind::new("rbac.authorization.k8s.io", "v1", "RoleBinding"),
            Kind::new("rbac.authorization.k8s.io", "v1", "Role"),
            Kind::new("", "v1", "ResourceQuota"),
            Kind::new("", "v1", "LimitRange"),
            Kind::new("", "v1", "Service"),
            Kind::new("", "v1", "ServiceAccount"),
            Kind::new("", "v1", "ConfigMap"),
            Kind::new("", "v1", "Secret"),
            Kind::new("", "v1", "Node"),
            Kind::new("", "v1", "Namespace"),
        ];
        for kind in &within {
            for object in self.ours(kind).await {
                self.remove(kind, &object).await;
            }
        }
        if !self.has_controllers().await {
            self.empty_namespace().await;
        }
        let mut left = Vec::new();
        for _ in 0..240 {
            left.clear();
            for kind in within.iter().chain([&definitions]) {
                let of = |object: Value| ObjectKey::of(&object).unwrap();
                left.extend(self.ours(kind).await.into_iter().map(of));
            }
            if left.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        panic!("left behind: {left:?}");
    }

    /// The objects of a kind that this test made: in its namespace, or with it in their names.
    async fn ours(&self, kind: &Kind) -> Vec<Value> {
        self.api.forget();
        let of = match self.api.resource(kind).await {
            Err(Fault::UnknownKind { .. }) => return Vec::new(),
            other => other.unwrap(),
        };
        let all = self.api.list(&of, &Selector::default()).await.unwrap();
        let ours = |object: &Value| {
            let key = ObjectKey::of(object).unwrap();
            key.namespace
                .as_ref()
                .map_or(key.name.contains(&self.namespace), |home| *home == self.namespace)
        };
        all.into_iter().filter(ours).collect()
    }

    async fn remove(&self, kind: &Kind, object: &Value) {
        let of = self.api.resource(kind).await.unwrap();
        let uid = object["metadata"]["uid"].as_str().unwrap();
        self.api.delete(&of, &ObjectKey::of(object).unwrap(), uid).await.unwrap();
    }

    async fn let_go(&self, kind: &Kind, object: &Value) {
        let of = self.api.resource(kind).await.unwrap();
        let patch = json!({"metadata": {"finalizers": null}});
        match self.api.merge(&of, &ObjectKey::of(object).unwrap(), &patch).await {
            Ok(_) | Err(Fault::NotFound { .. }) => {}
            Err(fault) => panic!("{fault}"),
        }
    }

    /// Whether somebody does what an API server alone does not, as taking down namespaces.
    pub(crate) async fn has_controllers(&self) -> bool {
        let key = ObjectKey::new("", "ServiceAccount", Some("default"), "default");
        self.get("v1", &key).await.is_some()
    }

    /// Says that nothing is in the namespace any more, which is what a controller would do.
    async fn empty_namespace(&self) {
        let key = ObjectKey::new("", "Namespace", None, &self.namespace);
        let Some(mut object) = self.get("v1", &key).await else { return };
        object["spec"]["finalizers"] = json!([]);
        let path = format!("/api/v1/namespaces/{}/finalize", self.namespace);
        let request = http::Request::put(path).header("content-type", "application/json");
        let request = request.body(object.to_string().into_bytes()).unwrap();
        self.api.client().request_text(request).await.unwrap();
    }
}

/// Runs a test in a lab, and cleans up.
pub(crate) async fn within(lab: Lab, test: impl AsyncFnOnce(&Lab)) {
    let done = AssertUnwindSafe(test(&lab)).catch_unwind().await;
    lab.finish().await;
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a test against the real server, where there is one.
pub(crate) async fn within_real(test: impl AsyncFnOnce(&Lab)) {
    match Lab::real().await {
        Some(lab) => within(lab, test).await,
        None => eprintln!("skipped: TRUEUP_TEST_KUBECONFIG names no cluster (make test-kube)"),
    }
}

/// One test for both servers.
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        mod on_the_fake {
            $(#[tokio::test]
            async fn $name() {
                $crate::lab::within($crate::lab::Lab::fake().await, super::$name).await;
            })*
        }
        mod on_a_real_one {
            $(#[tokio::test]
            async fn $name() {
                $crate::lab::within_real(super::$name).await;
            })*
        }
    };
}
pub(crate) use both;

impl Lab {
    /// Whether the server has a kind.
    pub(crate) async fn get_kind(&self, group: &str, version: &str, kind: &str) -> bool {
        self.api.resource(&Kind::new(group, version, kind)).await.is_ok()
    }
}
