//! Manifests as data: text in many documents to objects, each mistake with its file, document and line.
//! Pure; nothing is included, expanded or executed.
//!
//! Documents are YAML 1.2, in which `yes` is a text: where Kubernetes wants a boolean, the server then
//! refuses it, which is better than two readers that mean two things.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_saphyr::Options;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use sha2::{Digest, Sha256};

use crate::key::{Kind, ObjectKey, Scopes};

/// Longest text of a release: the largest charts (all of Prometheus, with its definitions) render to
/// about 5 MB.
pub const TEXT_MAX: usize = 32 * 1024 * 1024;
/// Most objects of a release; a plan of more cannot be read by anybody.
pub const OBJECTS_MAX: usize = 5_000;
/// Largest object: what etcd stores by default (`--max-request-bytes`).
pub const OBJECT_MAX: usize = 1_572_864;
/// Deepest nesting: schemas in definitions are the deepest things there are, at about 50.
const DEPTH_MAX: usize = 128;
/// Most nodes of one document, aliases expanded: the largest definitions have about 60,000.
const NODES_MAX: usize = 400_000;
/// Most aliases of one document.
const ALIASES_MAX: usize = 100;

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The file, as the caller named it.
    pub file: String,
    /// The document in it, from 1.
    pub document: u32,
    /// The line in the file, from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} (document {})", self.file, self.line, self.document)
    }
}

/// Why manifests cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct ManifestError {
    /// Where.
    pub place: Place,
    /// What is wrong, and what to do.
    pub fault: String,
}

/// One object as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// What it is.
    pub key: ObjectKey,
    /// Its kind, with the version that it is written in.
    pub kind: Kind,
    /// The object.
    pub object: Value,
    /// Where it stands.
    pub place: Place,
    /// Digest of the object (SHA-256, hex): the same text elsewhere has the same. That of a Secret is made
    /// with a key, where there is one ([`Manifest::seal`]).
    pub digest: String,
}

/// The key for digests of Secrets: a digest without one is enough to try weak values against.
#[derive(Clone, PartialEq, Eq)]
pub struct DigestKey([u8; DigestKey::BYTES]);

impl DigestKey {
    /// Its length, bytes: that of the digests.
    pub const BYTES: usize = 32;

    /// A key of these bytes, which nobody else knows.
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey")
    }
}

impl Manifest {
    /// Gives a Secret a digest from which nobody without the key learns whether a guess is right; the
    /// others have theirs.
    pub fn seal(&mut self, key: &DigestKey) {
        if self.key.is_secret()
            && let Ok(mut keyed) = Hmac::<Sha256>::new_from_slice(&key.0)
        {
            keyed.update(self.digest.as_bytes());
            self.digest = hex::encode(keyed.finalize().into_bytes());
        }
    }

    /// One that was made and not written, by whoever `maker` names.
    ///
    /// # Errors
    /// [`ManifestError`] where it is no object.
    pub fn made(maker: &str, value: Value) -> Result<Self, ManifestError> {
        let place = Place { file: maker.to_owned(), document: 1, line: 1 };
        object(value, &place).map_err(|fault| ManifestError { place, fault })
    }
}

/// Reads the documents of one file.
///
/// # Errors
/// [`ManifestError`]s, all that were found.
pub fn read(file: &str, text: &str) -> Result<Vec<Manifest>, Vec<ManifestError>> {
    let place = |document, line| Place { file: file.to_owned(), document, line };
    if text.len() > TEXT_MAX {
        let fault = format!("has {} bytes, at most {TEXT_MAX} are read: split it", text.len());
        return Err(vec![ManifestError { place: place(1, 1), fault }]);
    }
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for part in parts(text) {
        let place = place(part.document, part.line);
        match parse(part.text, &place) {
            Ok(Value::Null) => {}
            Ok(value) => objects(value, &place, &mut found, &mut errors),
            Err(error) => errors.push(error),
        }
        if found.len() > OBJECTS_MAX {
            let fault = format!("more than {OBJECTS_MAX} objects: make several releases of it");
            errors.push(ManifestError { place, fault });
            break;
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

/// Gives each object its namespace, and refuses what names the same twice. What `scopes` does not know
/// is returned in the second list, by kind; ask the server and call again.
///
/// # Errors
/// [`ManifestError`]s, all that were found.
pub fn settle(
    manifests: Vec<Manifest>,
    namespace: &str,
    scopes: &Scopes,
) -> Result<(Vec<Manifest>, Vec<Kind>), Vec<ManifestError>> {
    let mut scopes = scopes.clone();
    for manifest in manifests.iter().filter(|m| m.key.is_definition()) {
        scopes.learn_from(&manifest.object);
    }
    let (mut settled, mut unknown, mut errors) = (BTreeMap::new(), Vec::new(), Vec::new());
    for mut manifest in manifests {
        match scopes.namespaced(&manifest.key.group, &manifest.key.kind) {
            None => unknown.push(manifest.kind.clone()),
            Some(true) if manifest.key.namespace.is_none() => {
                manifest.key.namespace = Some(namespace.to_owned());
                manifest.object["metadata"]["namespace"] = Value::from(namespace);
                // From the one before: that of a Secret is made with a key, which is not here.
                let before = [manifest.digest.as_str(), namespace];
                manifest.digest = digest(&Value::from(before.to_vec()));
            }
            Some(false) if manifest.key.namespace.is_some() => {
                let fault = format!(
                    "{} has a namespace, but a {} belongs to the whole cluster: remove `metadata.namespace`",
                    manifest.key, manifest.key.kind
                );
                errors.push(ManifestError { place: manifest.place.clone(), fault });
            }
            Some(_) => {}
        }
        let (key, place) = (manifest.key.clone(), manifest.place.clone());
        if let Some(before) = settled.insert(key.clone(), manifest) {
            let fault = format!("{key} is already at {}: keep one of the two", before.place);
            errors.push(ManifestError { place, fault });
        }
    }
    unknown.sort();
    unknown.dedup();
    if errors.is_empty() { Ok((settled.into_values().collect(), unknown)) } else { Err(errors) }
}

/// One document of a text.
struct Part<'a> {
    text: &'a str,
    document: u32,
    line: u32,
}

/// Cuts a text at its lines `---`; nothing else can stand at the start of a line so (YAML 1.2, 9.1.2).
fn parts(text: &str) -> Vec<Part<'_>> {
    let (mut all, mut start, mut first, mut line, mut at) = (Vec::new(), 0, 1, 1, 0);
    let mut push = |from: usize, to: usize, line: u32| {
        let part = &text[from..to];
        let says = |l: &str| !l.trim().is_empty() && !l.trim_start().starts_with('#');
        if part.lines().any(says) {
            let document = u32::try_from(all.len() + 1).unwrap_or(u32::MAX);
            all.push(Part { text: part, document, line });
        }
    };
    for piece in text.split_inclusive('\n') {
        let bare = piece.trim_end();
        if bare == "---" || bare.starts_with("--- ") {
            push(start, at, first);
            // What stands behind the dashes on their line belongs to the document that they begin.
            let rest = bare[3..].trim_start();
            let skipped = if rest.is_empty() || rest.starts_with('#') { piece.len() } else { 3 };
            start = at + skipped;
            first = if skipped == 3 { line } else { line + 1 };
        }
        at += piece.len();
        line += 1;
    }
    push(start, text.len(), first);
    all
}

fn options() -> Options {
    let budget = serde_saphyr::budget! {
        max_depth: DEPTH_MAX,
        flow_nesting_limit: DEPTH_MAX,
        max_nodes: NODES_MAX,
        max_events: NODES_MAX * 3,
        max_documents: 1,
        max_aliases: ALIASES_MAX,
        max_anchors: ALIASES_MAX,
        max_recorded_anchor_events: NODES_MAX,
    };
    serde_saphyr::options! {
        budget: budget,
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        with_snippet: false,
        emit_comments: false,
    }
}

fn parse(text: &str, place: &Place) -> Result<Value, ManifestError> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let mut place = place.clone();
        if let Some(location) = error.location() {
            let line = u32::try_from(location.line()).unwrap_or(u32::MAX);
            place.line = place.line.saturating_add(line.saturating_sub(1));
        }
        let mut fault = error.without_snippet().to_string();
        // Where it is, is said beside it; what the reader could be told otherwise is of no use here.
        for end in [" at line ", ", set DuplicateKeyPolicy"] {
            if let Some(end) = fault.rfind(end) {
                fault.truncate(end);
            }
        }
        ManifestError { place, fault: fault.lines().next().unwrap_or_default().to_owned() }
    })
}

/// One document to its objects: a list holds many.
fn objects(
    value: Value,
    place: &Place,
    found: &mut Vec<Manifest>,
    errors: &mut Vec<ManifestError>,
) {
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|k| k.ends_with("List"));
    if let (true, Some(Value::Array(items))) = (is_list, value.get("items")) {
        for item in items.clone() {
            objects(item, place, found, errors);
        }
        return;
    }
    match object(value, place) {
        Ok(manifest) => found.push(manifest),
        Err(fault) => errors.push(ManifestError { place: place.clone(), fault }),
    }
}

/// What a server writes into metadata, which a manifest must not claim.
const SERVERS_OWN: &[&str] = &["uid", "resourceVersion", "managedFields", "generation", "selfLink"];

fn object(mut value: Value, place: &Place) -> Result<Manifest, String> {
    let Some(map) = value.as_object_mut() else {
        return Err("is no object: `apiVersion`, `kind` and `metadata` are expected".to_owned());
    };
    // Tools that make definitions leave an empty one behind; it is the server's to write.
    map.remove("status");
    let kind = Kind::of(&value)
        .filter(|kind| !kind.kind.is_empty() && !kind.version.is_empty())
        .ok_or("has no `apiVersion` or no `kind`")?;
    if value.pointer("/metadata/name").is_none()
        && value.pointer("/metadata/generateName").is_some()
    {
        return Err(format!(
            "a {} with `generateName` would be another one each time: give it a name",
            kind.kind
        ));
    }
    let key = ObjectKey::of(&value)
        .filter(|key| !key.name.is_empty())
        .ok_or_else(|| format!("a {} without `metadata.name`: give it one", kind.kind))?;
    let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) else {
        return Err(format!("{key}: `metadata` is no mapping"));
    };
    meta.remove("creationTimestamp");
    if let Some(field) = SERVERS_OWN.iter().find(|field| meta.contains_key(**field)) {
        return Err(format!(
            "{key}: `metadata.{field}` is the server's own: remove it (was this taken from a cluster?)"
        ));
    }
    if key.is_secret() {
        encode(&mut value).map_err(|fault| format!("{key}: {fault}"))?;
    }
    let size = value.to_string().len();
    if size > OBJECT_MAX {
        return Err(format!("{key} has {size} bytes, a cluster stores at most {OBJECT_MAX}"));
    }
    let digest = digest(&value);
    Ok(Manifest { key, kind, object: value, place: place.clone(), digest })
}

/// A Secret's `stringData` as `data`, as the server stores it. It would remember us as the owner of keys
/// of `stringData` only, so that one which is no longer written would stay in `data`, and be nobody's.
fn encode(secret: &mut Value) -> Result<(), String> {
    let Some(map) = secret.as_object_mut() else { return Ok(()) };
    let texts = match map.remove("stringData") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(texts)) => texts,
        Some(_) => return Err("`stringData` is no mapping".to_owned()),
    };
    let data = map.entry("data").or_insert_with(|| Value::Object(Map::new()));
    if data.is_null() {
        *data = Value::Object(Map::new());
    }
    let data = data.as_object_mut().ok_or("`data` is no mapping")?;
    for (key, text) in texts {
        let Value::String(text) = text else {
            return Err(format!("`stringData.{key}` is no text: write it in quotes"));
        };
        data.insert(key, Value::String(BASE64.encode(text)));
    }
    Ok(())
}

/// SHA-256 of a value's JSON, whose keys are sorted.
pub(crate) fn digest(value: &Value) -> String {
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    hex::encode(Sha256::digest(sorted.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "# a comment\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n--- # next\nkind: Namespace\napiVersion: v1\nmetadata: {name: b, creationTimestamp: null}\nstatus: {}\n---\n";

    #[test]
    fn texts_of_a_secret_are_stored_as_the_server_does() {
        let secret = |rest: &str| {
            let text = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\n{rest}");
            read("x.yaml", &text)
        };
        let all = secret("data: {a: eA==, b: eA==}\nstringData: {b: hunter2, c: ''}\n").unwrap();
        let data = serde_json::json!({"a": "eA==", "b": "aHVudGVyMg==", "c": ""});
        assert_eq!(all[0].object["data"], data);
        assert_eq!(all[0].object.get("stringData"), None);
        let bad = secret("stringData: {pin: 1234}\n").unwrap_err()[0].to_string();
        assert!(bad.contains("`stringData.pin` is no text") && !bad.contains("1234"), "{bad}");
    }

    #[test]
    fn documents_are_counted_and_placed() {
        let all = read("x.yaml", TWO).unwrap();
        let shown: Vec<_> = all.iter().map(|m| format!("{} {}", m.place, m.key)).collect();
        assert_eq!(
            shown,
            ["x.yaml:3 (document 1) ConfigMap a", "x.yaml:8 (document 2) Namespace b"]
        );
        assert!(all[1].object.get("status").is_none());
        let (settled, unknown) = settle(all, "shop", &Scopes::default()).unwrap();
        assert_eq!(settled[0].key.to_string(), "ConfigMap shop/a");
        assert_eq!(settled[0].object["metadata"]["namespace"], "shop");
        assert_eq!(settled[1].key.to_string(), "Namespace b");
        assert!(unknown.is_empty());
    }

    #[track_caller]
    fn refused(text: &str, words: &str) {
        let errors = read("x.yaml", text).unwrap_err();
        let shown: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert!(shown[0].contains(words), "{shown:?}");
    }

    #[test]
    fn mistakes_are_refused_with_their_place() {
        refused("a: 1", "x.yaml:1 (document 1): has no `apiVersion` or no `kind`");
        refused("- 1", "is no object");
        refused("apiVersion: v1\nkind: Pod\nmetadata: {}", "a Pod without `metadata.name`");
        refused("apiVersion: v1\nkind: Pod\nmetadata: {generateName: x}", "another one each time");
        refused("apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: b}", "`metadata.uid` is the");
        refused("kind: Pod\n---\napiVersion: v1\nkind: Pod\nkind: Pod\n", "x.yaml:1 (document 1)");
        let errors = read("x.yaml", "\n---\napiVersion: v1\nkind: Pod\nkind: Pod\n").unwrap_err();
        assert_eq!(errors[0].place.line, 5, "{}", errors[0]);
        let huge = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nd: {}",
            "x".repeat(OBJECT_MAX)
        );
        refused(&huge, "a cluster stores at most");
    }

    #[test]
    fn the_same_object_twice_and_a_namespace_too_many_are_refused() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n";
        let errors = settle(read("x", text).unwrap(), "shop", &Scopes::default()).unwrap_err();
        assert_eq!(
            errors[0].to_string(),
            "x:5 (document 2): ConfigMap shop/a is already at x:1 (document 1): keep one of the two"
        );
        let text = "apiVersion: v1\nkind: Node\nmetadata: {name: a, namespace: shop}";
        let errors = settle(read("x", text).unwrap(), "shop", &Scopes::default()).unwrap_err();
        assert!(errors[0].to_string().contains("belongs to the whole cluster"), "{}", errors[0]);
    }

    #[test]
    fn lists_are_opened() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- {apiVersion: v1, kind: Pod, metadata: {name: b}}\n";
        assert_eq!(read("x", text).unwrap().len(), 2);
    }

    #[test]
    fn a_digest_of_a_secret_needs_its_key() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {p: hunter2}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}";
        let all = || read("x", text).unwrap();
        let sealed = |byte: u8| {
            let mut all = all();
            all.iter_mut().for_each(|it| it.seal(&DigestKey::new([byte; DigestKey::BYTES])));
            let settled = settle(all, "shop", &Scopes::default()).unwrap().0;
            settled.into_iter().map(|it| (it.key.kind, it.digest)).collect::<BTreeMap<_, _>>()
        };
        let plain = settle(all(), "shop", &Scopes::default()).unwrap().0;
        let (one, other) = (sealed(1), sealed(2));
        assert_eq!(one, sealed(1));
        assert_ne!(one["Secret"], other["Secret"]);
        assert_eq!(one["ConfigMap"], other["ConfigMap"]);
        assert!(plain.iter().all(|it| !it.key.is_secret() || it.digest != one["Secret"]));
        assert!(!format!("{:?}", DigestKey::new([7; DigestKey::BYTES])).contains('7'));
    }

    #[test]
    fn a_digest_is_of_the_content() {
        let a = read("x", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}").unwrap();
        let b = read("y", "# other\nkind: Pod\nmetadata: {name: a}\napiVersion: v1").unwrap();
        assert_eq!(a[0].digest, b[0].digest);
    }
}
