//! The mark on what is ours, in libvirt's `<metadata>`.
//!
//! The mark says who owns an object; it is never used to guess what the object should be.

use xmltree::{Element, Namespace, XMLNode};

use super::tree::Ext;
use crate::model::{Digest, Name, Ownership, ResourceId};

/// XML namespace of the mark. The number at its end is the version of the mark's form.
pub const NAMESPACE: &str = "https://trueup.dev/xmlns/libvirt/1";

/// Whose an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The environment that owns it.
    pub environment: Name,
    /// The resource it is. A copy made by another tool carries the mark of its original and is
    /// told apart by this.
    pub id: ResourceId,
    /// Digest of the desired resource it was last made from.
    pub digest: Option<Digest>,
    /// Domains only: the memory the guest was last told to have, KiB. libvirt reports what the
    /// guest's balloon has reached so far, which is not what was asked for.
    pub memory: Option<u64>,
}

impl Mark {
    /// The prefix it is written with.
    pub(super) const PREFIX: &str = "trueup";

    /// Whose the object called `id` with this mark is, seen from `environment`.
    pub fn ownership(mark: Option<&Self>, id: &ResourceId, environment: &Name) -> Ownership {
        match mark {
            Some(mark) if mark.id != *id => Ownership::Foreign,
            Some(mark) if mark.environment == *environment => {
                Ownership::Ours { environment: mark.environment.clone() }
            }
            Some(mark) => Ownership::Other { environment: mark.environment.clone() },
            None => Ownership::Foreign,
        }
    }

    /// The mark as an element of its own.
    pub(super) fn element(&self) -> Element {
        let mut element = Element::new("resource");
        element.prefix = Some(Self::PREFIX.to_owned());
        element.namespace = Some(NAMESPACE.to_owned());
        let mut namespaces = Namespace::empty();
        namespaces.put(Self::PREFIX, NAMESPACE);
        element.namespaces = Some(namespaces);
        element.set("environment", self.environment.as_str());
        element.set("id", &self.id.to_string());
        if let Some(digest) = &self.digest {
            element.set("digest", &digest.to_string());
        }
        if let Some(memory) = self.memory {
            element.set("memory", &memory.to_string());
        }
        element
    }

    /// The mark as libvirt's metadata calls take it: prefix, namespace and element are separate.
    #[cfg(feature = "libvirt")]
    pub(in crate::provider::libvirt) fn metadata(&self) -> Result<String, super::XmlError> {
        let mut element = self.element();
        element.prefix = None;
        element.namespace = None;
        element.namespaces = None;
        super::tree::write(&element, "resource")
    }

    /// The prefix for libvirt's metadata calls.
    #[cfg(feature = "libvirt")]
    pub(in crate::provider::libvirt) fn prefix() -> &'static str {
        Self::PREFIX
    }

    /// Puts the mark on an object, in place of an older one.
    pub(super) fn put(&self, root: &mut Element) {
        let metadata = root.make("metadata");
        let new = self.element();
        let place = metadata.children.iter().position(is_mark);
        metadata.children.retain(|node| !is_mark(node));
        let place = place.unwrap_or(metadata.children.len());
        metadata.children.insert(place, XMLNode::Element(new));
    }

    /// The mark on an object. A mark that cannot be understood is none.
    pub(super) fn get(root: &Element) -> Option<Self> {
        let metadata = root.get_child("metadata")?;
        Self::read(metadata.children.iter().find(|node| is_mark(node))?.as_element()?)
    }

    /// The mark as libvirt's metadata calls give it, without its namespace.
    #[cfg(feature = "libvirt")]
    pub(in crate::provider::libvirt) fn of_metadata(text: &str) -> Option<Self> {
        Self::read(&super::tree::parse(text, "resource").ok()?)
    }

    fn read(element: &Element) -> Option<Self> {
        Some(Self {
            environment: Name::new(element.attr("environment")?).ok()?,
            id: element.attr("id")?.parse().ok()?,
            digest: element.attr("digest").and_then(|text| text.parse().ok()),
            memory: element.attr("memory").and_then(|text| text.parse().ok()),
        })
    }
}

fn is_mark(node: &XMLNode) -> bool {
    node.as_element().is_some_and(|element| {
        element.name == "resource" && element.namespace.as_deref() == Some(NAMESPACE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::libvirt::xml::tree;

    fn mark(id: &str) -> Mark {
        Mark {
            environment: Name::new("lab").unwrap(),
            id: id.parse().unwrap(),
            digest: Some(Digest::of("x")),
            memory: Some(1024),
        }
    }

    #[test]
    fn is_put_once_beside_the_metadata_of_others() {
        let text = "<domain><metadata><o:os xmlns:o=\"urn:o\" o:id=\"1\"/></metadata></domain>";
        let mut root = tree::parse(text, "domain").unwrap();
        assert_eq!(Mark::get(&root), None);
        mark("vm/old").put(&mut root);
        mark("vm/web").put(&mut root);
        let text = tree::write(&root, "domain").unwrap();
        let again = tree::parse(&text, "domain").unwrap();
        assert_eq!(Mark::get(&again), Some(mark("vm/web")));
        assert_eq!(text.matches(NAMESPACE).count(), 1, "{text}");
        assert!(text.contains("o:id=\"1\""), "{text}");
    }

    #[test]
    fn a_copied_mark_makes_nobody_an_owner() {
        let (lab, dmz) = (Name::new("lab").unwrap(), Name::new("dmz").unwrap());
        let (web, copy) = ("vm/web".parse().unwrap(), "vm/web-clone".parse().unwrap());
        let mark = mark("vm/web");
        let whose = |id, env| Mark::ownership(Some(&mark), id, env);
        assert!(matches!(whose(&web, &lab), Ownership::Ours { .. }));
        assert!(matches!(whose(&web, &dmz), Ownership::Other { .. }));
        assert_eq!(whose(&copy, &lab), Ownership::Foreign);
        assert_eq!(Mark::ownership(None, &web, &lab), Ownership::Foreign);
    }
}
