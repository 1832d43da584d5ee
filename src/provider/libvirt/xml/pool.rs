//! Storage pools: parse, and write the XML of a `dir` pool.
//!
//! Pools cannot carry a mark; whose they are, the log knows.

use uuid::Uuid;
use xmltree::Element;

use super::XmlError;
use super::tree::{self, Ext, new};

/// The word used in errors.
const WHAT: &str = "pool";

/// A storage pool as its XML tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedPool {
    /// Its name, which need not be a valid resource name.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// libvirt's type; trueup manages `dir` only.
    pub kind: String,
    /// Where its volumes appear on the host; empty where they do not.
    pub path: String,
}

/// Reads a pool's XML.
///
/// # Errors
/// The XML is no pool's, or lacks what every pool has.
pub fn parse(xml: &str) -> Result<ParsedPool, XmlError> {
    let root = tree::parse(xml, WHAT)?;
    let missing = |part| XmlError::Missing { what: WHAT, part };
    let name = root.get_child("name").ok_or(missing("name"))?.text();
    let uuid = root.get_child("uuid").ok_or(missing("uuid"))?.text();
    let uuid = Uuid::parse_str(&uuid).map_err(|_| XmlError::Value {
        what: WHAT,
        part: "uuid",
        value: uuid.chars().take(80).collect(),
    })?;
    let path = root.at(&["target", "path"]).map(Ext::text);
    Ok(ParsedPool {
        name,
        uuid,
        kind: root.attr("type").unwrap_or_default().to_owned(),
        path: path.unwrap_or_default(),
    })
}

/// The XML of a pool whose directory is `path`; what else `current` says stays.
///
/// # Errors
/// `current` is no pool's XML.
pub fn merge(
    current: Option<&str>,
    path: &str,
    name: &str,
    uuid: Uuid,
) -> Result<String, XmlError> {
    let mut root = match current {
        Some(xml) => tree::parse(xml, WHAT)?,
        None => new(WHAT, &[("type", "dir")]),
    };
    root.make("name").set_text(name);
    root.make("uuid").set_text(&uuid.to_string());
    // Measured at every refresh, not configured.
    for measured in ["capacity", "allocation", "available"] {
        root.drop_all(measured);
    }
    if root.get_child("source").is_none() {
        root.add(Element::new("source"));
    }
    root.make("target").make("path").set_text(path);
    tree::write(&root, WHAT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_keeps_permissions() {
        let uuid = Uuid::from_u128(7);
        let xml = merge(None, "/srv/vm", "fast", uuid).unwrap();
        let pool = parse(&xml).unwrap();
        assert_eq!((pool.name.as_str(), pool.uuid), ("fast", uuid));
        assert_eq!((pool.kind.as_str(), pool.path.as_str()), ("dir", "/srv/vm"));
        let live = xml.replace(
            "</target>",
            "<permissions><mode>0711</mode></permissions></target><capacity unit='bytes'>9</capacity>",
        );
        let again = merge(Some(&live), "/srv/other", "fast", uuid).unwrap();
        assert!(again.contains("<mode>0711</mode>"), "{again}");
        assert!(!again.contains("capacity"), "{again}");
        assert_eq!(parse(&again).unwrap().path, "/srv/other");
    }
}
