//! A kubeconfig for somebody else: the server and its authority as we know them, and a token of their own.
//! Nothing of our credentials is in it.

use std::fmt;

use serde_json::{Value, json};

use super::{Grant, Token};
use crate::access::Access;

/// A kubeconfig with a token. It is shown by nothing here.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig(String);

impl fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kubeconfig(…)")
    }
}

impl Kubeconfig {
    /// For access that was given to the cluster that is called so here.
    pub fn new(access: &Access, cluster: &str, grant: &Grant, token: &Token) -> Self {
        let context = format!("{}@{cluster}", grant.user);
        let quoted = |text: &str| Value::from(text).to_string();
        let lines = [
            "apiVersion: v1".to_owned(),
            "kind: Config".to_owned(),
            format!("current-context: {}", quoted(&context)),
            "clusters:".to_owned(),
            format!("- name: {}", quoted(cluster)),
            format!("  cluster: {}", place(access)),
            "contexts:".to_owned(),
            format!("- name: {}", quoted(&context)),
            format!(
                "  context: {}",
                json!({"cluster": cluster, "namespace": grant.namespace, "user": grant.user})
            ),
            "users:".to_owned(),
            format!("- name: {}", quoted(&grant.user)),
            format!("  user: {}", json!({"token": token.expose()})),
        ];
        Self(format!("# until {}\n{}\n", grant.until, lines.join("\n")))
    }

    /// The file.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// How the server is reached, and by what it is trusted.
fn place(access: &Access) -> Value {
    use base64::Engine as _;
    let mut place = json!({"server": access.api.server()});
    let authorities = access.authorities_pem();
    if !authorities.is_empty() {
        let packed = base64::engine::general_purpose::STANDARD.encode(authorities);
        place["certificate-authority-data"] = Value::from(packed);
    }
    if let Some(name) = access.tls_name() {
        place["tls-server-name"] = Value::from(name);
    }
    place
}
