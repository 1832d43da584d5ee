//! Tokens of ServiceAccounts, and what they let do: what a RoleBinding of a namespace to `view` or `edit`
//! gives, and nothing else. A token ends with its account.

use serde_json::{Value, json};

use super::{Refusal, Served, Spot, World};

/// Seconds below which no token is made, as in the real one.
const SECONDS_MIN: u64 = 600;

/// A token that was made.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    token: String,
    account: Spot,
    uid: String,
}

impl World {
    /// Makes a token for an account.
    pub(crate) fn token(&mut self, account: &Spot, request: &Value) -> Result<Value, Refusal> {
        if request["apiVersion"] != "authentication.k8s.io/v1" || request["kind"] != "TokenRequest"
        {
            let words = "the object provided is unrecognized (must be of type TokenRequest)";
            return Err(Refusal::new(400, "BadRequest", words));
        }
        let seconds = request.pointer("/spec/expirationSeconds").and_then(Value::as_u64);
        if seconds.is_some_and(|seconds| seconds < SECONDS_MIN) {
            let words = "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: may not specify a duration less than 10 minutes";
            return Err(Refusal::new(422, "Invalid", words));
        }
        let uid = self.find(account)?["metadata"]["uid"].as_str().unwrap().to_owned();
        let token = format!("account-token-{}", self.given.len());
        self.given.push(Given { token: token.clone(), account: account.clone(), uid });
        let mut answer = request.clone();
        answer["status"] = json!({"token": token});
        Ok(answer)
    }

    /// Whose token it is; `None`: of no account that is there.
    pub(crate) fn holder(&self, token: &str) -> Option<Spot> {
        let given = self.given.iter().find(|given| given.token == token)?;
        let account = self.objects.get(&given.account)?;
        (account["metadata"]["uid"] == given.uid.as_str()).then(|| given.account.clone())
    }

    /// Whether an account may do this to something of a namespace.
    pub(crate) fn lets(&self, account: &Spot, method: &str, of: &Served, namespace: &str) -> bool {
        let bindings = self.objects.iter().filter(|(spot, _)| {
            spot.plural == "rolebindings" && spot.namespace == namespace && !namespace.is_empty()
        });
        let mut mine = bindings.map(|(_, binding)| binding).filter(|binding| {
            let subjects = binding["subjects"].as_array().into_iter().flatten();
            subjects.into_iter().any(|it| {
                it["kind"] == "ServiceAccount"
                    && it["name"] == account.name.as_str()
                    && it["namespace"] == account.namespace.as_str()
            })
        });
        let guarded = of.group == "rbac.authorization.k8s.io";
        mine.any(|binding| match binding["roleRef"]["name"].as_str() {
            Some("view") => method == "GET" && of.kind != "Secret" && !guarded,
            Some("edit") => !guarded,
            _ => false,
        })
    }
}
