//! Volumes: parse, and write the XML of a new disk.

use std::path::Path;

use xmltree::Element;

use super::tree::{self, Ext, new};
use super::{XmlError, unit};
use crate::model::resource::{Backing, Disk, VolumeFormat};

/// The word used in errors.
const WHAT: &str = "volume";

/// A volume as its XML tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedVolume {
    /// Its file name.
    pub name: String,
    /// Absolute path of its file.
    pub path: String,
    /// Virtual size in bytes.
    pub capacity: u64,
    /// Format; `None`: neither qcow2 nor raw.
    pub format: Option<VolumeFormat>,
    /// What it lies on.
    pub backing: Option<Backing>,
}

/// Reads a volume's XML.
///
/// # Errors
/// The XML is no volume's, or lacks what every volume has.
pub fn parse(xml: &str) -> Result<ParsedVolume, XmlError> {
    let root = tree::parse(xml, WHAT)?;
    let missing = |part| XmlError::Missing { what: WHAT, part };
    let capacity = root.get_child("capacity").ok_or(missing("capacity"))?;
    let size = unit::bytes(&capacity.text(), capacity.attr("unit").unwrap_or("bytes"));
    let path = root.at(&["target", "path"]).ok_or(missing("path"))?.text();
    let backing = root.at(&["backingStore", "path"]).map(Ext::text);
    Ok(ParsedVolume {
        name: root.get_child("name").ok_or(missing("name"))?.text(),
        path,
        capacity: size.ok_or_else(|| XmlError::Value {
            what: WHAT,
            part: "capacity",
            value: capacity.text(),
        })?,
        format: format(&root, "target"),
        backing: backing.filter(|path| !path.is_empty()).map(|path| Backing {
            path,
            format: format(&root, "backingStore").unwrap_or(VolumeFormat::Raw),
        }),
    })
}

fn format(root: &Element, part: &str) -> Option<VolumeFormat> {
    match root.at(&[part, "format"])?.attr("type")? {
        "qcow2" => Some(VolumeFormat::Qcow2),
        "raw" => Some(VolumeFormat::Raw),
        _ => None,
    }
}

/// The XML of a new volume for `disk`.
///
/// # Errors
/// The disk's path has no file name.
pub fn create(disk: &Disk) -> Result<String, XmlError> {
    let name = Path::new(&disk.path).file_name().and_then(|n| n.to_str());
    let name =
        name.ok_or_else(|| XmlError::Value { what: WHAT, part: "path", value: disk.path.clone() })?;
    let size = disk.size.to_string();
    let format = |format: VolumeFormat| new("format", &[("type", format.as_str())]);
    let mut target = Element::new("target").with(format(disk.format));
    if disk.format == VolumeFormat::Qcow2 {
        // qcow2 version 3 (lazy refcounts, zero clusters), which QEMU reads since 1.1.
        target.add(Element::new("compat").with_text("1.1"));
    }
    let mut root = new(WHAT, &[])
        .with(Element::new("name").with_text(name))
        .with(new("capacity", &[("unit", "bytes")]).with_text(&size))
        .with(new("allocation", &[("unit", "bytes")]).with_text("0"))
        .with(target);
    if let Some(backing) = &disk.backing {
        let path = Element::new("path").with_text(&backing.path);
        root.add(Element::new("backingStore").with(path).with(format(backing.format)));
    }
    tree::write(&root, WHAT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    #[test]
    fn a_created_volume_reads_back() {
        let disk = Disk {
            pool: Name::new("fast").unwrap(),
            path: "/srv/vm/web.qcow2".to_owned(),
            format: VolumeFormat::Qcow2,
            size: 8 << 30,
            backing: Some(Backing {
                path: "/srv/vm/image-debian-0123.qcow2".to_owned(),
                format: VolumeFormat::Qcow2,
            }),
            on_image_change: None,
            way_back: None,
        };
        let xml = create(&disk).unwrap();
        // libvirt adds the path when it made the file.
        let xml = xml.replace("<target>", "<target><path>/srv/vm/web.qcow2</path>");
        let volume = parse(&xml).unwrap();
        assert_eq!(volume.name, "web.qcow2");
        assert_eq!(volume.capacity, disk.size);
        assert_eq!(volume.format, Some(VolumeFormat::Qcow2));
        assert_eq!(volume.backing, disk.backing);
    }
}
