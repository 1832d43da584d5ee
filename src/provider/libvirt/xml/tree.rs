//! A bounded tree of XML elements, and the few edits that merging needs.
//!
//! Attributes keep their order and their prefix, so that what is not ours is written as it was read.
//! Comments are dropped, as libvirt drops them too. It knows nothing about libvirt's elements.

use xml::reader::{EventReader, XmlEvent};
use xmltree::{AttributeMap, Element, EmitterConfig, Namespace, XMLNode};

use super::XmlError;

/// Most bytes of XML that are read: the longest string libvirt's own protocol carries
/// (`REMOTE_STRING_MAX`, 4 MiB).
pub const SIZE_MAX: usize = 4 << 20;

/// Deepest nesting that is read. libvirt's own XML stays below 12; backing chains, which nest, are
/// limited to 200 by libvirt with two levels each at most in theory, and to far less in practice.
pub const DEPTH_MAX: usize = 128;

/// Reads XML whose root element has to be `what`.
pub(super) fn parse(text: &str, what: &'static str) -> Result<Element, XmlError> {
    if text.len() > SIZE_MAX {
        return Err(XmlError::TooLarge { what, size: text.len() });
    }
    let malformed =
        |why: &dyn std::fmt::Display| XmlError::Malformed { what, why: why.to_string() };
    let mut open: Vec<Element> = Vec::new();
    for event in EventReader::new(text.as_bytes()) {
        match event.map_err(|error| malformed(&error))? {
            XmlEvent::StartElement { name, attributes, namespace } => {
                if open.len() >= DEPTH_MAX {
                    return Err(XmlError::TooDeep { what });
                }
                open.push(element(name, attributes, namespace));
            }
            XmlEvent::EndElement { .. } => {
                let Some(done) = open.pop() else {
                    return Err(malformed(&"an element ends that did not start"));
                };
                match open.last_mut() {
                    Some(parent) => parent.children.push(XMLNode::Element(done)),
                    None if done.name == what => return Ok(done),
                    None => {
                        return Err(XmlError::Root { what, found: done.name });
                    }
                }
            }
            XmlEvent::Characters(text) | XmlEvent::CData(text) => {
                if let Some(parent) = open.last_mut() {
                    parent.children.push(XMLNode::Text(text));
                }
            }
            XmlEvent::Doctype { .. } => {
                return Err(malformed(&"a document type is not accepted"));
            }
            XmlEvent::StartDocument { .. }
            | XmlEvent::EndDocument
            | XmlEvent::Whitespace(_)
            | XmlEvent::Comment(_)
            | XmlEvent::ProcessingInstruction { .. } => {}
        }
    }
    Err(malformed(&"it ends too early"))
}

fn element(
    name: xml::name::OwnedName,
    attributes: Vec<xml::attribute::OwnedAttribute>,
    namespace: Namespace,
) -> Element {
    let mut map = AttributeMap::with_capacity(attributes.len());
    for attribute in attributes {
        // `xmltree`'s own reader loses the prefix.
        map.insert(attribute.name.borrow().to_repr(), attribute.value);
    }
    Element {
        prefix: name.prefix,
        namespace: name.namespace,
        namespaces: (!namespace.is_essentially_empty()).then_some(namespace),
        name: name.local_name,
        attributes: map,
        children: Vec::new(),
    }
}

/// Writes the tree, indented; equal trees give equal text.
pub(super) fn write(root: &Element, what: &'static str) -> Result<String, XmlError> {
    let config = EmitterConfig::new().write_document_declaration(false).perform_indent(true);
    let failed = |why: String| XmlError::Write { what, why };
    let mut bytes = Vec::new();
    root.write_with_config(&mut bytes, config).map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
}

/// A new element with attributes.
pub(super) fn new(name: &str, attributes: &[(&str, &str)]) -> Element {
    let mut element = Element::new(name);
    for (key, value) in attributes {
        element.set(key, value);
    }
    element
}

/// Reading and editing an element.
pub(super) trait Ext {
    /// The value of an attribute.
    fn attr(&self, key: &str) -> Option<&str>;
    /// Sets an attribute.
    fn set(&mut self, key: &str, value: &str);
    /// Removes an attribute; the others keep their order.
    fn unset(&mut self, key: &str);
    /// The text directly inside, trimmed.
    fn text(&self) -> String;
    /// Replaces everything inside by a text.
    fn set_text(&mut self, text: &str);
    /// The element at a path of names below this one.
    fn at(&self, path: &[&str]) -> Option<&Element>;
    /// The child of this name, made if it is not there.
    fn make(&mut self, name: &str) -> &mut Element;
    /// Every child element of this name.
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element>;
    /// Every child element of this name, to edit.
    fn all_mut<'a>(&'a mut self, name: &'a str) -> impl Iterator<Item = &'a mut Element>;
    /// Adds an element behind all others and gives it back.
    fn add(&mut self, child: Element) -> &mut Element;
    /// The element with one more child, for building.
    fn with(self, child: Element) -> Self;
    /// The element with a text inside, for building.
    fn with_text(self, text: &str) -> Self;
    /// Keeps of the children of this name only those that pass.
    fn keep(&mut self, name: &str, pass: impl FnMut(&Element) -> bool);
    /// Removes every child of this name.
    fn drop_all(&mut self, name: &str);
    /// Removes the child of this name if it has neither attributes nor content.
    fn drop_empty(&mut self, name: &str);
}

impl Ext for Element {
    fn attr(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }

    fn set(&mut self, key: &str, value: &str) {
        self.attributes.insert(key.to_owned(), value.to_owned());
    }

    fn unset(&mut self, key: &str) {
        self.attributes.shift_remove(key);
    }

    fn text(&self) -> String {
        self.get_text().map(|text| text.trim().to_owned()).unwrap_or_default()
    }

    fn set_text(&mut self, text: &str) {
        if self.text() != text || self.children.len() != 1 {
            self.children = vec![XMLNode::Text(text.to_owned())];
        }
    }

    fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |at, name| at.get_child(*name))
    }

    fn make(&mut self, name: &str) -> &mut Element {
        let found =
            self.children.iter().position(|node| node.as_element().is_some_and(|e| e.name == name));
        let index = found.unwrap_or_else(|| {
            self.children.push(XMLNode::Element(Element::new(name)));
            self.children.len() - 1
        });
        match &mut self.children[index] {
            XMLNode::Element(element) => element,
            _ => unreachable!("the position is that of an element"),
        }
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children
            .iter()
            .filter_map(XMLNode::as_element)
            .filter(move |element| element.name == name)
    }

    fn all_mut<'a>(&'a mut self, name: &'a str) -> impl Iterator<Item = &'a mut Element> {
        self.children
            .iter_mut()
            .filter_map(XMLNode::as_mut_element)
            .filter(move |element| element.name == name)
    }

    fn add(&mut self, child: Element) -> &mut Element {
        self.children.push(XMLNode::Element(child));
        match self.children.last_mut() {
            Some(XMLNode::Element(element)) => element,
            _ => unreachable!("an element was just pushed"),
        }
    }

    fn with(mut self, child: Element) -> Self {
        self.add(child);
        self
    }

    fn with_text(mut self, text: &str) -> Self {
        self.set_text(text);
        self
    }

    fn keep(&mut self, name: &str, mut pass: impl FnMut(&Element) -> bool) {
        self.children.retain(|node| {
            node.as_element().is_none_or(|element| element.name != name || pass(element))
        });
    }

    fn drop_all(&mut self, name: &str) {
        self.keep(name, |_| false);
    }

    fn drop_empty(&mut self, name: &str) {
        self.keep(name, |element| !element.attributes.is_empty() || !element.children.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_does_not_know() {
        let text = "<a xmlns:q=\"urn:q\" z=\"1\" b=\"&lt;&quot;\">\n  <q:c q:d=\"2\">t &amp; u</q:c>\n</a>";
        let tree = parse(text, "a").unwrap();
        assert_eq!(write(&tree, "a").unwrap(), text);
    }

    #[test]
    fn refuses_what_is_too_deep_too_large_or_no_xml() {
        let deep = "<a>".repeat(DEPTH_MAX + 1);
        assert_eq!(parse(&deep, "a"), Err(XmlError::TooDeep { what: "a" }));
        let large = " ".repeat(SIZE_MAX + 1);
        assert!(matches!(parse(&large, "a"), Err(XmlError::TooLarge { .. })));
        for bad in ["", "<a>", "a", "<a></b>", "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>"] {
            assert!(matches!(parse(bad, "a"), Err(XmlError::Malformed { .. })), "{bad}");
        }
        assert!(matches!(parse("<b/>", "a"), Err(XmlError::Root { .. })));
    }
}
