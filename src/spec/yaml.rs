//! Strict YAML: one document into a JSON value, and, when somebody has to be shown a place, into an
//! index from JSON pointers to spots.
//!
//! The index costs as much as the parse itself, so it is made only for documents with a mistake.
//! Neither reads anything but the text: no includes, no properties, no tags.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Options, Spanned};

use super::diag::{ContentError, Spot};
use super::text::Part;

/// Deepest nesting: ten times what the kinds need, and far from any stack.
pub(crate) const DEPTH_MAX: usize = 64;
/// Most nodes of one document, aliases expanded.
pub(crate) const NODES_MAX: usize = 50_000;
/// Most aliases of one document: a person uses a handful.
pub(crate) const ALIASES_MAX: usize = 100;

/// Words that YAML 1.1 reads as booleans and YAML 1.2 as text.
const YAML11_BOOLEANS: [&str; 20] = [
    "y", "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO", "on", "On", "ON", "off", "Off",
    "OFF", "True", "TRUE", "False", "FALSE",
];

/// Places where one of those words is the very word that is asked for.
const WORDS_MEANT: [&str; 1] = ["/spec/power"];

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

/// Reads one document.
pub(crate) fn parse(part: Part<'_>) -> Result<Value, Vec<ContentError>> {
    let value: Value = serde_saphyr::from_str_with_options(part.text, options())
        .map_err(|e| vec![explain(&e, part)])?;
    match suspect(&value) {
        true => refuse_suspects(&value, part).map(|()| value),
        false => Ok(value),
    }
}

fn explain(error: &serde_saphyr::Error, part: Part<'_>) -> ContentError {
    let spot = error
        .location()
        .map_or(Spot { line: part.first, column: 1, len: 0 }, |l| spot_of(l, part.above));
    let mut message = error.without_snippet().to_string();
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    let mut message = message.lines().next().unwrap_or_default().to_owned();
    if let Some(key) = message.strip_prefix("duplicate mapping key: ") {
        let key = key.split(", set ").next().unwrap_or_default();
        message = format!("duplicate key `{key}`");
    }
    let lower = message.to_lowercase();
    let (code, hint) = if lower.contains("duplicate") {
        ("spec/duplicate-key", "keep one of the two")
    } else if lower.contains("merge key") {
        ("spec/merge-key", "write the fields out, or use a base and a patch")
    } else if lower.contains(" tag ") {
        ("spec/tag", "remove the tag: values are read as they stand")
    } else if ["budget", "limit", "exceed", "depth", "too many", "breach", "alias"]
        .iter()
        .any(|w| lower.contains(w))
    {
        ("spec/bomb", "write it out smaller, with fewer levels, nodes and aliases")
    } else if lower.contains("tab")
        || line_of(part, spot).is_some_and(|l| l.trim_start_matches(' ').starts_with('\t'))
    {
        ("spec/tab", "indent with spaces: YAML does not allow tabs there")
    } else {
        ("spec/syntax", "check the indentation and the quotes around here")
    };
    ContentError::new(code, spot, message).hint(hint)
}

fn line_of<'a>(part: Part<'a>, spot: Spot) -> Option<&'a str> {
    let index = spot.line.checked_sub(part.above + 1)?;
    part.text.lines().nth(usize::try_from(index).ok()?)
}

fn spot_of(location: serde_saphyr::Location, above: u32) -> Spot {
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Spot {
        line: narrow(location.line()).saturating_add(above),
        column: narrow(location.column()),
        len: narrow(location.span().len()),
    }
}

/// Whether the value holds something that looks like a trap; cheap, and seldom true.
fn suspect(value: &Value) -> bool {
    match value {
        Value::String(text) => is_yaml11_boolean(text),
        Value::Number(number) => {
            number.as_f64().is_some_and(|f| number.is_f64() && f.fract() == 0.0)
        }
        Value::Array(items) => items.iter().any(suspect),
        Value::Object(map) => map.iter().any(|(k, v)| is_yaml11_boolean(k) || suspect(v)),
        Value::Null | Value::Bool(_) => false,
    }
}

fn is_yaml11_boolean(text: &str) -> bool {
    text.len() <= 5 && YAML11_BOOLEANS.contains(&text)
}

/// Looks at the text of what looked like a trap: only plain scalars are traps.
fn refuse_suspects(value: &Value, part: Part<'_>) -> Result<(), Vec<ContentError>> {
    let index = Index::of(part);
    let mut found = Vec::new();
    walk(value, &mut String::new(), &mut |pointer, value, is_key| {
        if !suspect(value) || (!is_key && WORDS_MEANT.contains(&pointer)) {
            return;
        }
        let at = if is_key { At::Key } else { At::Value };
        let Some(spot) = index.spot(pointer, at) else {
            return;
        };
        let plain = char_at(part, spot).is_some_and(|c| !matches!(c, '"' | '\'' | '|' | '>' | '*'));
        match value {
            Value::String(text) if plain => found.push(yaml11(text, spot)),
            Value::Number(_) if plain => found.extend(odd_number(part, spot)),
            _ => {}
        }
    });
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn yaml11(text: &str, spot: Spot) -> ContentError {
    let truth = matches!(text.to_ascii_lowercase().as_str(), "y" | "yes" | "on" | "true");
    let message = format!("`{text}` is a boolean to some YAML readers and text to others");
    ContentError::new("spec/yaml11-boolean", spot, message)
        .hint(format!("write `{truth}` if you mean that, else quote it: \"{text}\""))
}

fn odd_number(part: Part<'_>, spot: Spot) -> Option<ContentError> {
    let word = number_at(part, spot)?;
    let unsigned = word.trim_start_matches(['+', '-']);
    let digits = unsigned.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    digits.then(|| {
        let message = format!("`{word}` is read as another number than it looks like");
        ContentError::new("spec/ambiguous-number", spot, message)
            .hint(format!("quote it: \"{word}\""))
    })
}

/// A number as it is written at a spot.
pub(crate) fn number_at(part: Part<'_>, spot: Spot) -> Option<String> {
    let before = usize::try_from(spot.column.checked_sub(1)?).ok()?;
    let of_it = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    Some(line_of(part, spot)?.chars().skip(before).take_while(of_it).collect())
}

fn char_at(part: Part<'_>, spot: Spot) -> Option<char> {
    let column = usize::try_from(spot.column.checked_sub(1)?).ok()?;
    line_of(part, spot)?.chars().nth(column)
}

/// Calls `see` for every key (with its own text as the value) and every scalar.
fn walk(value: &Value, pointer: &mut String, see: &mut impl FnMut(&str, &Value, bool)) {
    let length = pointer.len();
    match value {
        Value::Object(map) => {
            for (key, child) in map {
                push_token(pointer, key);
                see(pointer, &Value::String(key.clone()), true);
                walk(child, pointer, see);
                pointer.truncate(length);
            }
        }
        Value::Array(items) => {
            for (n, child) in items.iter().enumerate() {
                push_token(pointer, &n.to_string());
                walk(child, pointer, see);
                pointer.truncate(length);
            }
        }
        scalar => see(pointer, scalar, false),
    }
}

/// Appends a reference token to a JSON pointer (RFC 6901, section 3).
pub(crate) fn push_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    if token.contains(['~', '/']) {
        pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
    } else {
        pointer.push_str(token);
    }
}

/// Which part of an entry is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The key, or the item where it is one of a list.
    Key,
    /// The value.
    Value,
}

/// From JSON pointers to spots in the file.
#[derive(Debug, Default)]
pub(crate) struct Index {
    places: HashMap<String, (Option<Spot>, Spot)>,
}

impl Index {
    /// Indexes a document that parses; one that does not has no places.
    pub(crate) fn of(part: Part<'_>) -> Self {
        let mut index = Self::default();
        if let Ok(tree) = serde_saphyr::from_str_with_options::<Spanned<Tree>>(part.text, options())
        {
            index.add(&tree, None, part.above, &mut String::new());
        }
        index
    }

    /// The spot of `pointer`, or of the nearest thing above it that is there.
    pub(crate) fn spot(&self, pointer: &str, at: At) -> Option<Spot> {
        let mut rest = pointer;
        loop {
            if let Some((key, value)) = self.places.get(rest) {
                let exact = rest.len() == pointer.len();
                return match (at, key) {
                    (At::Key, Some(key)) => Some(*key),
                    (At::Value, Some(key)) if !exact || value.line != key.line => Some(*key),
                    _ => Some(*value),
                };
            }
            rest = &rest[..rest.rfind('/')?];
        }
    }

    /// The spot of the value at `pointer` itself.
    pub(crate) fn value(&self, pointer: &str) -> Option<Spot> {
        self.places.get(pointer).map(|(_, value)| *value)
    }

    /// Where the key of `pointer` stands; none for the items of a list.
    pub(crate) fn key(&self, pointer: &str) -> Option<Spot> {
        self.places.get(pointer).and_then(|(key, _)| *key)
    }

    /// Line and column of the first key of the object at `pointer`.
    pub(crate) fn first_below(&self, pointer: &str) -> Option<(u32, u32)> {
        let prefix = format!("{pointer}/");
        let keys = self.places.iter().filter_map(|(place, (key, _))| {
            let name = place.strip_prefix(&prefix)?;
            key.filter(|_| !name.contains('/')).map(|spot| (spot.line, spot.column))
        });
        keys.min()
    }

    fn add(&mut self, tree: &Spanned<Tree>, key: Option<Spot>, above: u32, pointer: &mut String) {
        let spot = spot_of(tree.referenced, above);
        let length = pointer.len();
        let scalar = matches!(tree.value, Tree::Scalar);
        let spot = Spot { len: if scalar { spot.len } else { 0 }, ..spot };
        self.places.insert(pointer.clone(), (key, spot));
        match &tree.value {
            Tree::Scalar => {}
            Tree::List(items) => {
                for (n, item) in items.iter().enumerate() {
                    push_token(pointer, &n.to_string());
                    self.add(item, None, above, pointer);
                    pointer.truncate(length);
                }
            }
            Tree::Map(entries) => {
                for (name, value) in entries {
                    push_token(pointer, &name.value);
                    self.add(value, Some(spot_of(name.referenced, above)), above, pointer);
                    pointer.truncate(length);
                }
            }
        }
    }
}

/// The shape of a document, with a place for every node.
enum Tree {
    Scalar,
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML node")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}
