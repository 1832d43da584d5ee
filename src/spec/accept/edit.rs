//! Which edits may say a field of the canonical form, and how one is made.
//!
//! It proposes; whether an edit says what it should is proven by its caller.

use serde_json::Value;

use super::super::yaml::Index;
use super::lines::Lines;
use super::value_at;
use crate::model::resource::Network;
use crate::model::{Resource, ResourceId};

/// One way to say a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    /// The field of the document.
    pub(super) pointer: String,
    /// Its new text.
    pub(super) text: String,
}

fn edit(pointer: impl Into<String>, text: impl Into<String>) -> Edit {
    Edit { pointer: pointer.into(), text: text.into() }
}

/// The ways to say that `path` of `resource` is `value`, the plainest first.
pub(super) fn candidates(resource: &Resource, path: &str, value: &Value) -> Vec<Edit> {
    let kib = value.as_u64().and_then(|kib| kib.checked_mul(1024)).map(size);
    match (resource, path) {
        (Resource::VirtualMachine(vm), "/memory/current" | "/memory/max") => {
            let Some(new) = kib else { return Vec::new() };
            let (current, max) = (
                size(vm.memory.current.saturating_mul(1024)),
                size(vm.memory.max.saturating_mul(1024)),
            );
            let whole = match path {
                "/memory/current" => format!("{{ current: {new}, max: {max} }}"),
                _ => format!("{{ current: {current}, max: {new} }}"),
            };
            vec![
                edit(format!("/spec{path}"), new.clone()),
                edit("/spec/memory", new),
                edit("/spec/memory", whole),
            ]
        }
        (Resource::VirtualMachine(_), "/memory/hugepages") => {
            kib.map(|new| edit("/spec/memory/hugepages", new)).into_iter().collect()
        }
        (Resource::VirtualMachine(vm), "/cpus/count" | "/cpus/max") => {
            let Some(new) = value.as_u64() else { return Vec::new() };
            let whole = match path {
                "/cpus/count" => format!("{{ count: {new}, max: {} }}", vm.cpus.max),
                _ => format!("{{ count: {}, max: {new} }}", vm.cpus.count),
            };
            vec![
                edit(format!("/spec{path}"), new.to_string()),
                edit("/spec/cpus", new.to_string()),
                edit("/spec/cpus", whole),
            ]
        }
        (
            Resource::VirtualMachine(_),
            "/autostart" | "/guestAgent" | "/firmware" | "/machine" | "/accelerator" | "/power",
        )
        | (Resource::Network(_), "/autostart" | "/mtu" | "/mode") => {
            plain(value).map(|text| edit(format!("/spec{path}"), text)).into_iter().collect()
        }
        (Resource::Disk(_), "/size") => {
            value.as_u64().map(|bytes| edit("/spec/size", size(bytes))).into_iter().collect()
        }
        (Resource::Network(network), path) if path.starts_with("/dns/") => {
            let records = goal_dns(network, &path["/dns/".len()..], value);
            records.map(|text| edit("/spec/dns", text)).into_iter().collect()
        }
        // Where document and canonical form say a list or an object alike; the proof knows.
        (
            Resource::VirtualMachine(_),
            "/boot" | "/cpus/mode" | "/cpus/topology" | "/cpus/pinning" | "/hostDevices"
            | "/consoleLog",
        )
        | (Resource::Network(_), "/domain" | "/bridge") => plain(value)
            .or_else(|| flow(value))
            .map(|text| edit(format!("/spec{path}"), text))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

/// The records of a network with those of one address made what the machine has.
fn goal_dns(network: &Network, ip: &str, value: &Value) -> Option<String> {
    let mut records = serde_json::to_value(network.dns.clone().unwrap_or_default()).ok()?;
    let list = records.as_array_mut()?;
    list.retain(|record| record.get("ip").and_then(Value::as_str) != Some(ip));
    if !value.is_null() {
        list.push(value.clone());
    }
    flow(&records)
}

/// A patch of an environment that says one field of a resource.
pub(super) fn as_patch(id: &ResourceId, edit: &Edit) -> String {
    let fields: Vec<&str> = edit.pointer.split('/').skip(1).collect();
    let inner =
        fields.iter().rev().fold(edit.text.clone(), |inner, key| format!("{{ {key}: {inner} }}"));
    format!("{{ target: {id}, patch: {inner} }}")
}

/// Puts a patch first in the list of an `Environment`'s patches, which it begins where there is none.
pub(super) fn insert_patch(lines: &mut Lines, index: &Index, patch: &str) -> Option<u32> {
    if index.value("/spec/patches").is_none() {
        let (line, column) = index.first_below("/spec")?;
        lines.insert(line, column, &format!("  - {patch}"))?;
        lines.insert(line, column, "patches:")?;
        return Some(line + 1);
    }
    // A patch stands behind its dash.
    let first = index.value("/spec/patches/0")?;
    lines.insert_item(first.line, first.column, patch)?;
    Some(first.line)
}

/// Makes the edit: the value replaced, or the field put first in its object; the line. `None` where
/// neither can be done.
pub(super) fn apply(lines: &mut Lines, index: &Index, edit: &Edit) -> Option<u32> {
    if let Some((line, column, len)) = value_at(index, &edit.pointer) {
        // Only a scalar has a length.
        let done = match len > 0 {
            true => lines.replace(line, column, len, &edit.text),
            false => {
                let key = index.key(&edit.pointer)?;
                lines.replace_all((key.line, key.column), (line, column), &edit.text)
            }
        };
        return done.map(|()| line);
    }
    let (parent, key) = edit.pointer.rsplit_once('/')?;
    // Deeper objects may be written in one line; the first field of `spec` shows how this one is.
    if parent != "/spec" {
        return None;
    }
    let (line, column) = index.first_below(parent)?;
    lines.insert(line, column, &format!("{key}: {}", edit.text))?;
    Some(line)
}

/// A size that reads back to the same number of bytes.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let exact = UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    exact.map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// A list or an object in brackets: JSON, which is YAML too.
fn flow(value: &Value) -> Option<String> {
    matches!(value, Value::Array(_) | Value::Object(_)).then(|| value.to_string())
}

/// A scalar of YAML that needs no quotes, or JSON's, which is one too.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::String(text) => {
            let bare = text.starts_with(|c: char| c.is_ascii_lowercase())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                && !matches!(
                    text.as_str(),
                    "true" | "false" | "null" | "yes" | "no" | "on" | "off"
                );
            Some(if bare { text.clone() } else { value.to_string() })
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
