//! Puts back what is not content: owners, modes, times, attributes, links and special files.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown, lchown, symlink};
use std::path::Path;

use jiff::Timestamp;
use rustic_core::repofile::{Metadata, Node, NodeType};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// The most warnings an outcome names.
pub(super) const WARNINGS_MAX: usize = 50;

/// What could not be put back.
#[derive(Default)]
pub(super) struct Warnings {
    pub(super) count: u64,
    pub(super) first: Vec<String>,
}

impl Warnings {
    pub(super) fn note(&mut self, path: &Path, what: &str, error: impl std::fmt::Display) {
        self.count += 1;
        if self.first.len() < WARNINGS_MAX {
            self.first.push(format!("{}: {what}: {error}", path.display()));
        }
    }

    pub(super) fn merge(&mut self, others: Warnings) {
        self.count += others.count;
        let room = WARNINGS_MAX.saturating_sub(self.first.len());
        self.first.extend(others.first.into_iter().take(room));
    }
}

/// The sticky bit of Go's `os.FileMode`.
const STICKY: u32 = 1 << 20;

/// Whether the file itself is to be sticky.
pub(super) fn is_sticky(node: &Node) -> bool {
    node.meta.mode.is_some_and(|go| go & STICKY != 0)
}

/// The mode bits of `chmod(2)` from Go's `os.FileMode`, which restic stores.
pub(super) fn mode(go: u32) -> u32 {
    const SETUID: u32 = 1 << 23;
    const SETGID: u32 = 1 << 22;
    let bit = |go_bit, bit| if go & go_bit == 0 { 0 } else { bit };
    go & 0o777 | bit(SETUID, 0o4000) | bit(SETGID, 0o2000) | bit(STICKY, 0o1000)
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec { tv_sec: time.as_second(), tv_nsec: i64::from(time.subsec_nanosecond()) }
}

/// Makes what is neither file nor folder. What is in the way is gone already.
pub(super) fn special(path: &Path, node: &Node) -> std::io::Result<()> {
    let make = |kind, device| {
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, path, kind, mode, device).map_err(std::io::Error::from)
    };
    match &node.node_type {
        NodeType::Symlink { .. } => symlink(node.node_type.to_link(), path),
        NodeType::Dev { device } => make(FileType::BlockDevice, *device),
        NodeType::Chardev { device } => make(FileType::CharacterDevice, *device),
        NodeType::Fifo => make(FileType::Fifo, 0),
        NodeType::Socket => make(FileType::Socket, 0),
        NodeType::File | NodeType::Dir => Ok(()),
    }
}

/// Whether it is there already and is what [`special`] would make; `None`: nothing is there.
pub(super) fn is_there(path: &Path, node: &Node) -> std::io::Result<Option<bool>> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let kind = meta.file_type();
    Ok(Some(match &node.node_type {
        NodeType::Symlink { .. } => {
            kind.is_symlink() && fs::read_link(path)? == node.node_type.to_link()
        }
        NodeType::Dev { device } => kind.is_block_device() && meta.rdev() == *device,
        NodeType::Chardev { device } => kind.is_char_device() && meta.rdev() == *device,
        NodeType::Fifo => kind.is_fifo(),
        NodeType::Socket => kind.is_socket(),
        NodeType::File | NodeType::Dir => false,
    }))
}

/// Puts back what is known of a file, by its handle where there is one: its path need not be looked up
/// then. What cannot be is a warning, as with every restore by a user
/// who is not root.
pub(super) fn dress(path: &Path, file: Option<&File>, node: &Node, warnings: &mut Warnings) {
    let meta: &Metadata = &node.meta;
    let link = matches!(node.node_type, NodeType::Symlink { .. });
    if meta.uid.is_some() || meta.gid.is_some() {
        // A new owner takes setuid away; the mode comes after it.
        let set = match file {
            Some(file) => fchown(file, meta.uid, meta.gid),
            None => lchown(path, meta.uid, meta.gid),
        };
        if let Err(error) = set {
            warnings.note(path, "its owner cannot be set", error);
        }
    }
    for attribute in &meta.extended_attributes {
        let value = attribute.value.as_deref().unwrap_or_default();
        let set = match file {
            Some(file) => rustix::fs::fsetxattr(file, &*attribute.name, value, XattrFlags::empty()),
            None => rustix::fs::lsetxattr(path, &*attribute.name, value, XattrFlags::empty()),
        };
        if let Err(error) = set {
            warnings.note(path, &format!("{} cannot be set", attribute.name), error);
        }
    }
    if let Some(mtime) = meta.mtime {
        let times = Timestamps {
            last_access: timespec(meta.atime.unwrap_or(mtime)),
            last_modification: timespec(mtime),
        };
        let set = match file {
            Some(file) => rustix::fs::futimens(file, &times),
            None => rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW),
        };
        if let Err(error) = set {
            warnings.note(path, "its times cannot be set", error);
        }
    }
    // Last: until then it bears the mode of a file that is being written.
    let private = (node.node_type == NodeType::File).then_some(0o600);
    let bits = meta.mode.map(mode).filter(|_| !link).or(private);
    if let Some(bits) = bits.map(Permissions::from_mode) {
        let set = match file {
            Some(file) => file.set_permissions(bits),
            None => fs::set_permissions(path, bits),
        };
        if let Err(error) = set {
            warnings.note(path, "its mode cannot be set", error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::mode;

    #[test]
    fn modes_are_those_of_go() {
        assert_eq!(mode(0o644), 0o644);
        assert_eq!(mode(1 << 23 | 1 << 31 | 0o755), 0o4755);
        assert_eq!(mode(1 << 22 | 1 << 20 | 0o770), 0o3770);
    }
}
