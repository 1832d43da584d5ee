//! One file: bytes to typed documents and to what is wrong with them, whatever its path.
//!
//! The result depends on the bytes alone, so it is cached by blob id. It holds no path, and an error
//! in it is turned into a diagnostic anew for every path it is asked for.

use std::sync::Arc;

use serde_json::Value;

use super::diag::{ContentError, Spot, did_you_mean};
use super::kinds::{API_VERSION, Doc, DocKind};
use super::schema::{Mismatch, WRONG_TYPE, mismatches};
use super::text::{DOCUMENTS_MAX, Part, decode, split};
use super::yaml::{At, Index, number_at, parse};
use crate::model::{Name, ResourceId};

/// A parsed file.
#[derive(Debug)]
pub(crate) struct ParsedFile {
    /// Its text; empty where the bytes are no text.
    pub(crate) text: Arc<str>,
    /// Its good documents.
    pub(crate) docs: Vec<ParsedDoc>,
    /// What is wrong with it.
    pub(crate) errors: Vec<ContentError>,
    /// Names that its broken documents mention, so that references to them are not called dangling.
    pub(crate) mentions: Vec<String>,
}

/// A good document of a file.
#[derive(Debug, Clone)]
pub(crate) struct ParsedDoc {
    /// What it says.
    pub(crate) doc: Arc<Doc>,
    /// What it is called; `None` for settings, and where its name is none.
    pub(crate) id: Option<ResourceId>,
    /// Which one of the file's documents it is.
    pub(crate) index: usize,
    /// Line its first key stands on.
    pub(crate) line: u32,
}

/// Parses the bytes of one file.
pub(crate) fn parse_file(bytes: &[u8]) -> ParsedFile {
    let mut file = ParsedFile {
        text: Arc::from(""),
        docs: Vec::new(),
        errors: Vec::new(),
        mentions: Vec::new(),
    };
    let text = match decode(bytes) {
        Ok(text) => text,
        Err(error) => {
            let start = &bytes[..bytes.len().min(super::text::FILE_BYTES_MAX)];
            file.mentions = names_in(&String::from_utf8_lossy(start));
            file.errors.push(error);
            return file;
        }
    };
    file.text = Arc::from(text);
    let parts = split(text);
    if parts.len() > DOCUMENTS_MAX {
        let message = format!("{} documents; at most {DOCUMENTS_MAX} are read", parts.len());
        let spot = Spot { line: 1, column: 1, len: 0 };
        file.errors.push(
            ContentError::new("spec/too-many-documents", spot, message)
                .hint("split the file: any number of files is read"),
        );
        return file;
    }
    for (index, part) in parts.into_iter().enumerate() {
        match read(part) {
            Ok(doc) => {
                let (id, line) = (id_of(&doc), part.first);
                file.docs.push(ParsedDoc { doc: Arc::new(doc), id, index, line });
            }
            Err(errors) => {
                file.mentions.extend(names_in(part.text));
                file.errors.extend(errors);
            }
        }
    }
    file
}

/// The id of the resource that a document describes.
fn id_of(doc: &Doc) -> Option<ResourceId> {
    let name = Name::new(doc.metadata.name.as_str()).ok()?;
    Some(ResourceId::new(doc.kind().primitive()?, name))
}

/// Reads one document, or says everything that is wrong with it.
fn read(part: Part<'_>) -> Result<Doc, Vec<ContentError>> {
    let value = parse(part)?;
    let kind = kind_of(&value, part).map_err(|e| vec![e])?;
    let version = value.get("apiVersion").and_then(Value::as_str) == Some(API_VERSION);
    match Doc::typed(kind, value) {
        Ok(doc) if version => Ok(doc),
        other => {
            let value = parse(part)?;
            let why = other.err().map(|e| e.to_string()).unwrap_or_default();
            Err(located(kind, &value, part, &why))
        }
    }
}

fn located(kind: DocKind, value: &Value, part: Part<'_>, why: &str) -> Vec<ContentError> {
    let index = Index::of(part);
    let start = start_of(part);
    let mut errors: Vec<ContentError> = mismatches(kind, value)
        .into_iter()
        .map(|mut m| {
            as_written(&mut m, value, part, &index);
            ContentError {
                code: m.code,
                spot: index.spot(&m.pointer, m.at).unwrap_or(start),
                message: m.message,
                hint: m.hint,
                related: None,
            }
        })
        .collect();
    if errors.is_empty() {
        errors.push(ContentError::new("spec/wrong-value", start, why));
    }
    errors
}

/// Says a number that should be a text as it is written: `1.30` is read as 1.3, which is another version.
fn as_written(m: &mut Mismatch, value: &Value, part: Part<'_>, index: &Index) {
    let Some(Value::Number(read)) = value.pointer(&m.pointer).filter(|_| m.code == WRONG_TYPE)
    else {
        return;
    };
    let Some(written) = index.value(&m.pointer).and_then(|spot| number_at(part, spot)) else {
        return;
    };
    if read.is_f64() {
        m.message = m.message.replace(&format!("`{read}`"), &format!("`{written}`"));
        m.hint = m.hint.as_ref().map(|_| format!("quote it: \"{written}\""));
    }
}

fn start_of(part: Part<'_>) -> Spot {
    Spot { line: part.first, column: 1, len: 0 }
}

fn kind_of(value: &Value, part: Part<'_>) -> Result<DocKind, ContentError> {
    let known = || DocKind::ALL.map(DocKind::word);
    let start = start_of(part);
    let Some(map) = value.as_object() else {
        return Err(ContentError::new("spec/not-a-mapping", start, "a document is a mapping")
            .hint("start with `apiVersion: trueup/v1` and `kind:`"));
    };
    let word = match map.get("kind") {
        Some(Value::String(word)) => word,
        Some(_) | None => {
            return Err(ContentError::new("spec/missing-field", start, "field `kind` is missing")
                .hint(format!("one of {}", known().join(", "))));
        }
    };
    DocKind::from_word(word).ok_or_else(|| {
        let spot = Index::of(part).spot("/kind", At::Value).unwrap_or(start);
        let hint =
            did_you_mean(word, known()).unwrap_or_else(|| format!("one of {}", known().join(", ")));
        ContentError::new("spec/unknown-kind", spot, format!("unknown kind `{word}`")).hint(hint)
    })
}

/// What stands behind `name:` anywhere in a text that cannot be read.
fn names_in(text: &str) -> Vec<String> {
    text.split("name:")
        .skip(1)
        .filter_map(|rest| {
            let word = rest.trim_start_matches([' ', '"', '\'']);
            let end = word
                .find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'))
                .unwrap_or(word.len());
            (end > 0).then(|| word[..end].to_owned())
        })
        .collect()
}

/// The part of `text` that holds document `index`.
pub(crate) fn part_of(text: &str, index: usize) -> Option<Part<'_>> {
    split(text).into_iter().nth(index)
}
