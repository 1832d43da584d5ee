//! libvirt's XML: from canonical resources and back, without ever losing what is not ours.
//!
//! An existing object is never written anew: its own XML is the start, and only what the spec says
//! is changed in it, so that addresses, aliases and other people's settings stay. Pure: text in,
//! text out. XML that is read is not trusted: its size and depth are bounded.

pub mod backup;
pub mod domain;
pub mod drill;
mod mark;
pub mod network;
pub mod pool;
mod tree;
mod unit;
pub mod volume;

pub use mark::{Mark, NAMESPACE};
pub use tree::{DEPTH_MAX, SIZE_MAX};

/// XML in the form that `merge` writes, for telling whether a merge changes anything.
///
/// # Errors
/// It is no XML, or its root is not `what`.
pub fn canonical(xml: &str, what: &'static str) -> Result<String, XmlError> {
    tree::write(&tree::parse(xml, what)?, what)
}

/// Why XML could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// It is larger than [`SIZE_MAX`].
    #[error("the XML of a {what} is {size} bytes; at most {SIZE_MAX} are read")]
    TooLarge {
        /// The element expected at the root.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
    },
    /// Its elements are nested deeper than [`DEPTH_MAX`].
    #[error("the XML of a {what} is nested deeper than {DEPTH_MAX} levels")]
    TooDeep {
        /// The element expected at the root.
        what: &'static str,
    },
    /// It is no well-formed XML.
    #[error("the XML of a {what} is malformed: {why}")]
    Malformed {
        /// The element expected at the root.
        what: &'static str,
        /// What the parser says.
        why: String,
    },
    /// Its root is another element.
    #[error("expected the XML of a {what}, found <{found}>")]
    Root {
        /// The element expected at the root.
        what: &'static str,
        /// The element found.
        found: String,
    },
    /// Something that is always there is not.
    #[error("the XML of a {what} has no {part}")]
    Missing {
        /// The root element.
        what: &'static str,
        /// What is missing.
        part: &'static str,
    },
    /// A value cannot be understood.
    #[error("the XML of a {what} has `{value}` as {part}")]
    Value {
        /// The root element.
        what: &'static str,
        /// Where.
        part: &'static str,
        /// What stands there.
        value: String,
    },
    /// It could not be written.
    #[error("the XML of a {what} could not be written: {why}")]
    Write {
        /// The root element.
        what: &'static str,
        /// What the writer says.
        why: String,
    },
}
