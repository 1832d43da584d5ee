//! How a machine joins: a token for it alone, which is over soon, and the cluster's own authority, by which
//! the machine knows whom it talks to. Pure; whoever makes a token brings what nobody can guess.

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Form, Machine, documents};
use crate::key::ObjectKey;
use crate::node::skew::{self, Version};

/// What a token is made of (kubernetes.io/docs, bootstrap-tokens).
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// Letters of its two parts: the name, which is no secret, and the rest.
const NAME: usize = 6;
const SECRET: usize = 16;
/// Bytes that are not used: those that would make some letters likelier than others.
const EVEN: u8 = 252;
/// The namespace of the cluster's own objects.
const SYSTEM: &str = "kube-system";

/// A bootstrap token. It is shown to nobody.
pub struct Token {
    name: String,
    secret: String,
}

impl Token {
    /// A token of random bytes; `None`: there are too few. It takes no more than twice as many as it has
    /// letters, but in one of a million cases.
    pub fn of(random: &[u8]) -> Option<Self> {
        let mut letters = random
            .iter()
            .filter(|byte| **byte < EVEN)
            .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
        let name: String = letters.by_ref().take(NAME).collect();
        let secret: String = letters.take(SECRET).collect();
        (secret.len() == SECRET).then_some(Self { name, secret })
    }

    /// What it is known by in the cluster.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new("", "Secret", Some(SYSTEM), &format!("bootstrap-token-{}", self.name))
    }

    /// The Secret by which the cluster knows it, until then.
    pub fn object(&self, until: Timestamp) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": self.key().name, "namespace": SYSTEM},
            "stringData": {
                "description": "A machine that trueup lets join.",
                "token-id": self.name,
                "token-secret": self.secret,
                "expiration": format!("{until:.0}"),
                "usage-bootstrap-authentication": "true",
                "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
            },
        })
    }

    /// Words of others without it.
    pub fn out_of(&self, words: &str) -> String {
        words.replace(&self.secret, "(not shown)")
    }

    fn whole(&self) -> String {
        format!("{}.{}", self.name, self.secret)
    }
}

/// Whether a machine with this kubeadm, and a kubelet of its release, can join a cluster whose API server is of
/// that one.
///
/// # Errors
/// In words, why not.
pub fn fits(node: &str, kubeadm: Version, server: Version) -> Result<(), String> {
    let servers = [("the cluster".to_owned(), server)];
    if let Some(why) = skew::check(&servers, &[(node.to_owned(), kubeadm)]).into_iter().next() {
        return Err(why);
    }
    // It reads what the control plane's kubeadm keeps in the cluster, which is in the newest form of that.
    match Form::of(kubeadm) == Form::of(server) {
        true => Ok(()),
        false => Err(format!(
            "kubeadm {kubeadm} of {node} does not read what kubeadm {server} keeps in the cluster: give it an \
             image of a newer release"
        )),
    }
}

/// The kubeconfig by which a machine finds its cluster: where it is, and whom to believe. No credential is
/// in it. `authorities`: a PEM text.
pub fn discovery(server: &str, authorities: &str) -> String {
    let authority = base64::engine::general_purpose::STANDARD.encode(authorities);
    let cluster = json!({"server": server, "certificate-authority-data": authority});
    documents(&[json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": cluster}],
    })])
}

/// What `kubeadm join --config` reads; `found_by`: where the file of [`discovery`] is there.
pub fn join(machine: &Machine<'_>, token: &Token, found_by: &str, kubeadm: Version) -> String {
    let form = Form::of(kubeadm);
    documents(&[json!({
        "apiVersion": form.api_version(),
        "kind": "JoinConfiguration",
        "discovery": {
            "file": {"kubeConfigPath": found_by},
            "tlsBootstrapToken": token.whole(),
        },
        "nodeRegistration": machine.registration(form),
    })])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token::of(&(0..32).collect::<Vec<u8>>()).unwrap()
    }

    #[test]
    fn a_token_has_the_form_that_kubernetes_asks_for() {
        assert_eq!(token().whole(), "abcdef.ghijklmnopqrstuv");
        assert!(Token::of(&[0; 21]).is_none());
        assert!(Token::of(&[255; 64]).is_none(), "such bytes make no letters");
        let edge = Token::of(&[[253, 251].repeat(22)].concat()).unwrap();
        assert_eq!(edge.whole(), "999999.9999999999999999");
    }

    #[test]
    fn the_cluster_knows_it_for_a_while_and_nobody_else_is_told() {
        let until = "2030-01-02T03:04:05.678Z".parse().unwrap();
        let object = token().object(until);
        assert_eq!(object["metadata"]["name"], "bootstrap-token-abcdef");
        assert_eq!(object["stringData"]["expiration"], "2030-01-02T03:04:05Z");
        assert_eq!(object["stringData"]["usage-bootstrap-authentication"], "true");
        assert!(token().key().is_secret(), "a fault about it shows no words of the server");
        let words = token().out_of("bad token abcdef.ghijklmnopqrstuv");
        assert_eq!(words, "bad token abcdef.(not shown)");
    }

    #[test]
    fn a_machine_of_an_older_release_joins_as_long_as_it_understands_the_cluster() {
        let fits =
            |node: &str, server: &str| fits("n1", node.parse().unwrap(), server.parse().unwrap());
        for (node, server) in [("1.20.2", "1.20.2"), ("1.20.2", "1.21.0"), ("1.31.0", "1.33.1")] {
            assert_eq!(fits(node, server), Ok(()), "{node} {server}");
        }
        assert!(fits("1.34.0", "1.33.1").unwrap_err().contains("upgrade the control plane first"));
        assert!(fits("1.18.0", "1.21.0").unwrap_err().contains("at most 2 minors behind"));
        // The policy would let them stand side by side.
        for (node, server) in [("1.21.0", "1.22.0"), ("1.30.4", "1.31.0")] {
            let why = fits(node, server).unwrap_err();
            assert!(why.contains("of n1 does not read what kubeadm v1."), "{why}");
        }
    }

    #[test]
    fn a_machine_believes_the_authority_alone() {
        let found: Value =
            serde_json::from_str(&discovery("https://10.9.0.10:6443", "CA")).unwrap();
        let cluster = &found["clusters"][0]["cluster"];
        assert_eq!(cluster["certificate-authority-data"], "Q0E=");
        assert!(found.get("users").is_none());
        let machine = Machine { node: "n1", name: "cloud-n1", address: "10.9.0.11" };
        let text = join(&machine, &token(), "/run/x", "1.33.0".parse().unwrap());
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["discovery"]["tlsBootstrapToken"], "abcdef.ghijklmnopqrstuv");
        assert_eq!(told["discovery"]["file"]["kubeConfigPath"], "/run/x");
        assert_eq!(told["nodeRegistration"]["name"], "n1");
    }
}
