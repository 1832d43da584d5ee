//! What XML was read as at the last look, by the content of the XML.
//!
//! Most of what libvirt tells is the same at every look, and reading XML is what a look costs most.
//! It is no belief about the machine: libvirt is asked for all of its XML every time, and the same
//! text reads the same. What a look did not use is forgotten with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::xml::XmlError;
use super::super::xml::domain::{self, ParsedDomain};
use super::super::xml::network::{self, ParsedNetwork};
use super::super::xml::volume::{self, ParsedVolume};
use crate::model::Digest;

/// What is kept between looks. Not of pools: they are few, and their XML changes with every byte in
/// use.
#[derive(Debug, Default)]
pub(in super::super) struct Memory(Mutex<Readings>);

/// What was read at one look.
#[derive(Debug, Default)]
struct Readings {
    networks: HashMap<Digest, Arc<ParsedNetwork>>,
    domains: HashMap<Digest, Arc<ParsedDomain>>,
    volumes: HashMap<Digest, Arc<ParsedVolume>>,
}

impl Memory {
    /// Begins a look. A second one beside it begins with nothing, and comes to the same.
    pub(super) fn look(&self) -> Look<'_> {
        Look { memory: self, last: std::mem::take(&mut *self.lock()), now: Readings::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Readings> {
        // Every reading is whole before it is kept, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One look: reads XML, and keeps what it read when it is done.
#[derive(Debug)]
pub(super) struct Look<'a> {
    memory: &'a Memory,
    last: Readings,
    now: Readings,
}

impl Look<'_> {
    /// Reads a network's XML.
    pub(super) fn network(&mut self, xml: &str) -> Result<Arc<ParsedNetwork>, XmlError> {
        read(&mut self.last.networks, &mut self.now.networks, xml, network::parse)
    }

    /// Reads a domain's XML.
    pub(super) fn domain(&mut self, xml: &str) -> Result<Arc<ParsedDomain>, XmlError> {
        read(&mut self.last.domains, &mut self.now.domains, xml, domain::parse)
    }

    /// Reads a volume's XML.
    pub(super) fn volume(&mut self, xml: &str) -> Result<Arc<ParsedVolume>, XmlError> {
        read(&mut self.last.volumes, &mut self.now.volumes, xml, volume::parse)
    }

    /// Ends a look that saw everything.
    pub(super) fn keep(self) {
        *self.memory.lock() = self.now;
    }
}

/// What cannot be read is read again the next time: it is rare, and its error is not kept.
fn read<T>(
    last: &mut HashMap<Digest, Arc<T>>,
    now: &mut HashMap<Digest, Arc<T>>,
    xml: &str,
    parse: impl FnOnce(&str) -> Result<T, XmlError>,
) -> Result<Arc<T>, XmlError> {
    let content = Digest::of(xml);
    if let Some(known) = now.get(&content) {
        return Ok(Arc::clone(known));
    }
    let parsed = match last.remove(&content) {
        Some(known) => known,
        None => Arc::new(parse(xml)?),
    };
    now.insert(content, Arc::clone(&parsed));
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "<network><name>web</name><uuid>9b0ed5b8-7ff5-4a0d-8a4b-1d2ad4a3a0f1</uuid>\
        <bridge name='br0'/></network>";

    #[test]
    fn the_same_text_is_read_once_and_another_one_again() {
        let memory = Memory::default();
        let mut look = memory.look();
        let first = look.network(WEB).unwrap();
        assert!(Arc::ptr_eq(&first, &look.network(WEB).unwrap()), "within a look");
        look.keep();
        let mut look = memory.look();
        assert!(Arc::ptr_eq(&first, &look.network(WEB).unwrap()), "from one look to the next");
        let other = look.network(&WEB.replace("br0", "br1")).unwrap();
        assert_eq!(other.network.bridge.as_deref(), Some("br1"));
        look.keep();
    }

    #[test]
    fn what_a_look_did_not_use_and_what_cannot_be_read_is_not_kept() {
        let memory = Memory::default();
        let mut look = memory.look();
        let first = look.network(WEB).unwrap();
        assert!(look.network("<network/>").is_err());
        look.keep();
        memory.look().keep();
        let mut look = memory.look();
        assert!(!Arc::ptr_eq(&first, &look.network(WEB).unwrap()));
        assert!(look.network("<network/>").is_err());
        look.keep();
        assert_eq!(memory.lock().networks.len(), 1);
    }
}
