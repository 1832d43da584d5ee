//! What looks like a secret in plain sight: in cloud-init texts and in files written into images.
//!
//! It says where and what kind, never the value. It is a net for accidents, not a proof of absence.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Resource;
use crate::model::resource::{BackupSource, Cluster, ImageOrigin};

/// Something that looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SecretFinding {
    /// The field of the document, as a JSON pointer.
    pub field: String,
    /// Line within the text of that field, from 1; 0 where the field is no text of lines.
    pub line: u32,
    /// What it looks like: `password`, `private key`, `token`.
    pub what: String,
}

/// Most findings kept for one resource: one is enough to refuse it.
const FINDINGS_MAX: usize = 20;
/// Shortest value taken for a secret, characters: shorter ones are words like `no` and `123`.
const VALUE_CHARS_MIN: usize = 4;

/// Keys whose value is a password.
const PASSWORD_KEYS: [&str; 8] =
    ["password", "passwd", "plain_text_passwd", "passphrase", "pass", "psk", "pwd", "chpasswd"];
/// Keys whose value is another secret.
const TOKEN_KEYS: [&str; 14] = [
    "secret",
    "secret_key",
    "api_key",
    "apikey",
    "token",
    "access_token",
    "auth_token",
    "bearer_token",
    "client_secret",
    "aws_secret_access_key",
    "secret_access_key",
    "private_key",
    "join_token",
    "encryption_key",
];
/// How tokens of known issuers begin, and how many characters follow at least.
const TOKEN_STARTS: [(&str, usize); 9] = [
    ("ghp_", 30),
    ("gho_", 30),
    ("ghs_", 30),
    ("github_pat_", 30),
    ("glpat-", 16),
    ("AKIA", 16),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("sk-ant-", 20),
];

/// What looks like a secret in the texts of a resource.
pub(super) fn of_resource(resource: &Resource) -> Vec<SecretFinding> {
    let mut found = Vec::new();
    match resource {
        Resource::Seed(seed) => {
            if let Some(text) = &seed.user_data {
                of_text("/spec/cloudInit/userData", text, &mut found);
            }
            if let Some(text) = &seed.network_config {
                of_text("/spec/cloudInit/networkConfig", text, &mut found);
            }
        }
        Resource::Image(image) => {
            if let Some(ImageOrigin::Build(build)) = &image.origin {
                for (path, file) in &build.files {
                    let path = path.replace('~', "~0").replace('/', "~1");
                    of_text(&format!("/spec/build/files/{path}"), &file.content, &mut found);
                }
            }
        }
        Resource::Backup(backup) => {
            if let BackupSource::Command(command) = &backup.source {
                for (number, argument) in command.argv.iter().enumerate() {
                    of_text(&format!("/spec/source/command/argv/{number}"), argument, &mut found);
                }
            }
            for (when, hooks) in [("before", &backup.hooks.before), ("after", &backup.hooks.after)]
            {
                for (place, hook) in hooks.iter().enumerate() {
                    for (number, argument) in hook.argv.iter().enumerate() {
                        let at = format!("/spec/hooks/{when}/{place}/argv/{number}");
                        of_text(&at, argument, &mut found);
                    }
                }
            }
        }
        Resource::Cluster(cluster) => {
            // What a Kubernetes cluster has to be holds no text of a person.
            let Cluster::Slurm(slurm) = &**cluster else { return found };
            for (key, value) in &slurm.wish.parameters {
                of_text(&format!("/spec/parameters/{key}"), &format!("{key}={value}"), &mut found);
            }
            for (number, line) in slurm.wish.lines.iter().enumerate() {
                of_text(&format!("/spec/lines/{number}"), line, &mut found);
            }
        }
        Resource::Release(release) => {
            let all = release.manifests.0.iter();
            let secrets = all.filter(|it| it.key.is_secret() && holds_values(&it.object));
            found.extend(secrets.map(|it| SecretFinding {
                field: "/spec/manifests".to_owned(),
                line: 0,
                what: format!("value of {}", it.key),
            }));
            // Whoever may read the folder reads what is in it.
            let files = release.folder.iter().flat_map(|folder| folder.content.0.iter());
            for (path, bytes) in files {
                let text = std::str::from_utf8(bytes).unwrap_or_default();
                of_text(&format!("/spec/folder/{path}"), text, &mut found);
            }
        }
        Resource::StoragePool(_)
        | Resource::Network(_)
        | Resource::Disk(_)
        | Resource::GpuLayout(_)
        | Resource::VirtualMachine(_) => {}
    }
    found.sort();
    found.dedup();
    found.truncate(FINDINGS_MAX);
    found
}

/// Whether a Secret of a cluster has a value.
fn holds_values(object: &Value) -> bool {
    let fields = ["data", "stringData"].iter().filter_map(|field| object.get(field)?.as_object());
    fields.flat_map(|fields| fields.values()).any(|value| value.as_str() != Some(""))
}

fn of_text(field: &str, text: &str, found: &mut Vec<SecretFinding>) {
    // User data written as a mapping is JSON below its first line: its fields are the document's.
    let body = text.strip_prefix("#cloud-config\n").unwrap_or(text);
    if let Ok(value @ Value::Object(_)) = serde_json::from_str::<Value>(body) {
        return walk(&mut field.to_owned(), "", &value, found);
    }
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(what) = in_line(line) {
            found.push(SecretFinding { field: field.to_owned(), line: number, what: what.into() });
        }
    }
}

fn walk(pointer: &mut String, key: &str, value: &Value, found: &mut Vec<SecretFinding>) {
    let length = pointer.len();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                *pointer += &format!("/{}", name.replace('~', "~0").replace('/', "~1"));
                walk(pointer, name, value, found);
                pointer.truncate(length);
            }
        }
        Value::Array(items) => {
            for (nth, item) in items.iter().enumerate() {
                *pointer += &format!("/{nth}");
                walk(pointer, key, item, found);
                pointer.truncate(length);
            }
        }
        Value::String(text) => {
            let keyed = key_says(key).filter(|_| is_value(text));
            let several = text.contains('\n');
            let lines = text.lines().find_map(|line| match in_line(line) {
                // `list: |` of chpasswd: a name, a colon and a password a line.
                None if pointer.ends_with("/chpasswd/list") => in_pair(line),
                found => found,
            });
            let what = if several { lines.or(keyed) } else { keyed.or(lines) };
            if let Some(what) = what {
                let field = pointer.clone();
                found.push(SecretFinding { field, line: 0, what: what.to_owned() });
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `name:password`, where the password is not a hash and not left to chance (`R`, `RANDOM`).
fn in_pair(line: &str) -> Option<&'static str> {
    let (_, value) = line.trim().split_once(':')?;
    (is_value(value) && value != "RANDOM").then_some("password")
}

/// What a line gives away.
fn in_line(line: &str) -> Option<&'static str> {
    if line.contains("-----BEGIN") && line.contains("PRIVATE KEY") {
        return Some("private key");
    }
    if TOKEN_STARTS.iter().any(|(start, more)| has_token(line, start, *more)) {
        return Some("token");
    }
    let at = line.find(['=', ':'])?;
    let (key, value) = (&line[..at], &line[at + 1..]);
    let key = key.rsplit([' ', '\t', '"', '\'', '-', '{', ',']).find(|word| !word.is_empty())?;
    let value = value.trim().trim_end_matches(',').trim_matches(['"', '\'']);
    key_says(key).filter(|_| is_value(value) && !value.contains(' '))
}

fn has_token(line: &str, start: &str, more: usize) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let rest = &line.as_bytes()[at + start.len()..];
        let word = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'_' || **b == b'-';
        rest.iter().take_while(word).count() >= more
    })
}

fn key_says(key: &str) -> Option<&'static str> {
    let key = key.trim().to_ascii_lowercase().replace('-', "_");
    let is = |known: &[&str], tails: &[&str]| {
        known.contains(&key.as_str()) || tails.iter().any(|tail| key.ends_with(tail))
    };
    if is(&PASSWORD_KEYS, &["_password", "_passwd", "_passphrase"]) {
        return Some("password");
    }
    is(&TOKEN_KEYS, &["_token", "_secret", "_api_key", "_secret_key"]).then_some("token")
}

/// Whether a value can be a secret itself: not a hash, a reference, a path or a word of a setting.
fn is_value(value: &str) -> bool {
    let value = value.trim();
    let reference = ["$", "{{", "<", "/", "!", "*", "|", ">", "@", "file:", "env:"];
    value.chars().count() >= VALUE_CHARS_MIN
        && !reference.iter().any(|start| value.starts_with(start))
        && !["true", "false", "null", "none", "random"]
            .contains(&value.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        of_text("/t", text, &mut found);
        found.into_iter().map(|f| format!("{}:{} {}", f.field, f.line, f.what)).collect()
    }

    #[test]
    fn secrets_in_lines_are_found_with_their_line() {
        assert_eq!(seen("#cloud-config\npassword: hunter22\n"), ["/t:2 password"]);
        assert_eq!(seen("#!/bin/sh\nexport DB_PASSWORD='hunter22'\n"), ["/t:2 password"]);
        assert_eq!(seen("a\n-----BEGIN OPENSSH PRIVATE KEY-----\n"), ["/t:2 private key"]);
        let token = format!("curl -H ghp_{}", "a1".repeat(18));
        assert_eq!(seen(&token), ["/t:1 token"]);
    }

    #[test]
    fn secrets_in_mappings_are_found_with_their_field() {
        let text = r#"{"users":[{"name":"ann","plain_text_passwd":"hunter22"}],
            "chpasswd":{"list":"root:hunter22\nann:$6$abc"}}"#;
        let mut found = seen(&format!("#cloud-config\n{text}"));
        found.sort();
        let fields = ["/t/chpasswd/list:0 password", "/t/users/0/plain_text_passwd:0 password"];
        assert_eq!(found, fields);
    }

    #[test]
    fn hashes_references_and_settings_are_no_secrets() {
        for text in [
            "passwd: $6$rounds=4096$abc",
            "password: ${DB_PASSWORD}",
            "password: {{ vault }}",
            "token: /run/secrets/token",
            "ssh_pwauth: true",
            "lock_passwd: true",
            "passwd: '*'",
            "# change the password: it is printed on the label",
            "ssh_authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5]",
            "PermitRootLogin prohibit-password",
        ] {
            assert_eq!(seen(text), Vec::<String>::new(), "{text}");
        }
    }
}
