//! What tests need of repositories, here and in the command line.

use jiff::Timestamp;

use super::protocol::Snapshot;

/// A snapshot of these paths, of a host `node1`.
pub(crate) fn snapshot(paths: &[&str]) -> Snapshot {
    Snapshot {
        id: "a".repeat(64),
        time: Timestamp::UNIX_EPOCH,
        offset: 0,
        host: "node1".into(),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        tags: Vec::new(),
        tree: String::new(),
        bytes: None,
    }
}
