//! The world as a test sees it, and changes it as somebody else than the tested would.

use serde_json::{Value, json};

use super::{Spot, World};
use crate::ssa;

/// Who a test is where it does not say.
const SOMEBODY: &str = "kubectl-edit";

impl World {
    /// All objects, by place.
    pub fn objects(&self) -> impl Iterator<Item = (&Spot, &Value)> {
        self.objects.iter()
    }

    /// An object; the namespace of what lives in none is empty.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(&self.place(kind, namespace, name))
    }

    /// Writes an object as somebody else; what it leaves out is gone, but for its status.
    ///
    /// # Panics
    /// Where the server would refuse it.
    pub fn put(&mut self, object: &Value) -> Value {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("/apiVersion"), text("/kind"));
        let is = |k: &&super::Served| k.api_version() == api_version && k.kind == kind;
        let of = self.kinds.iter().find(is).cloned();
        let of = of.unwrap_or_else(|| panic!("no kind {kind} in {api_version}"));
        let spot = of.spot(text("/metadata/namespace"), text("/metadata/name"));
        let before = self.objects.get(&spot).cloned();
        let mut object = object.clone();
        if let Some(old) = &before
            && object.get("status").is_none()
            && let Some(status) = old.get("status")
        {
            object["status"] = status.clone();
        }
        ssa::update(before.as_ref().unwrap_or(&json!({})), &mut object, SOMEBODY, "");
        self.write(&of, before, object).unwrap_or_else(|refusal| panic!("{}", refusal.2))
    }

    /// Changes an object by a merge patch (RFC 7396) as somebody else, its status too.
    ///
    /// # Panics
    /// Where it is not there, or the server would refuse it.
    pub fn edit(&mut self, kind: &str, namespace: &str, name: &str, patch: &Value) -> Value {
        let spot = self.place(kind, namespace, name);
        let of = self.of(&spot);
        let old = self.find(&spot).unwrap_or_else(|refusal| panic!("{}", refusal.2)).clone();
        let mut object = old.clone();
        ssa::merge_patch(&mut object, patch);
        ssa::update(&old, &mut object, SOMEBODY, "");
        self.write(&of, Some(old), object).unwrap_or_else(|refusal| panic!("{}", refusal.2))
    }

    /// Deletes an object as somebody else; `false`: it is not there.
    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) -> bool {
        let spot = self.place(kind, namespace, name);
        let of = self.of(&spot);
        self.delete(&of, &spot, None).is_ok()
    }

    /// Changes an object without a word to those who watch, as if all that tells of it were lost.
    ///
    /// # Panics
    /// Where it is not there.
    pub fn slip(&mut self, kind: &str, namespace: &str, name: &str, patch: &Value) {
        let spot = self.place(kind, namespace, name);
        self.version += 1;
        let version = json!(self.version.to_string());
        let object = self.objects.get_mut(&spot).unwrap_or_else(|| panic!("no {spot:?}"));
        ssa::merge_patch(object, patch);
        object["metadata"]["resourceVersion"] = version;
    }

    /// How long each thing takes that others do: a definition is established, and again until its kind
    /// is served, a pod ends, a workload runs.
    pub fn take_time(&mut self, wait: std::time::Duration) {
        self.slow = wait;
    }

    /// Whether somebody ends pods that were told to go, as kubelets do; they do where nothing is said.
    pub fn run_kubelets(&mut self, run: bool) {
        self.kubelets = run;
        self.tell.send_replace(self.version);
    }

    /// From now on workloads run as soon as they are wished, and budgets count: Deployments,
    /// StatefulSets, DaemonSets, Jobs, claims, and pods on nodes. Without this a test writes each status.
    pub fn run_controllers(&mut self) {
        self.controllers = true;
        self.tell.send_replace(self.version);
    }

    /// No controller sees to this object, so that it stays as it is.
    pub fn stall(&mut self, kind: &str, namespace: &str, name: &str) {
        let spot = self.place(kind, namespace, name);
        self.stalled.insert(spot);
    }

    /// Controllers see to this object again.
    pub fn go_on(&mut self, kind: &str, namespace: &str, name: &str) {
        let spot = self.place(kind, namespace, name);
        self.stalled.remove(&spot);
        self.tell.send_replace(self.version);
    }

    pub(crate) fn compact(&mut self) {
        self.compacted = self.version;
        self.changes.clear();
        self.tell.send_replace(self.version);
    }

    fn place(&self, kind: &str, namespace: &str, name: &str) -> Spot {
        let of = self.kinds.iter().find(|k| k.kind == kind);
        of.unwrap_or_else(|| panic!("no kind {kind}")).spot(namespace, name)
    }

    fn of(&self, spot: &Spot) -> super::Served {
        let is = |k: &&super::Served| k.group == spot.group && k.plural == spot.plural;
        self.kinds.iter().find(is).cloned().unwrap()
    }
}
