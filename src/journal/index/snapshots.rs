//! Snapshots: the state of a view after an event, so that a fold need not begin at the first.
//!
//! It never hands out bytes that do not have their digest.

use super::store::{Store, known};
use crate::model::Digest;

/// Largest snapshot in bytes; a view beyond it is folded from the log.
pub const SNAPSHOT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Snapshots kept of one view in one version: enough for a look back over the last starts.
pub const SNAPSHOTS_KEPT_MAX: usize = 8;

/// View and a zero byte, version, seq: the snapshots of a view lie in the log's order.
fn key(view: &str, version: u32, seq: u64) -> Vec<u8> {
    let mut key = view.as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&version.to_be_bytes());
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

impl Store {
    /// Keeps a snapshot; whether it is small enough and not ahead of the index.
    pub(super) fn snapshot_put(
        &self,
        view: &str,
        version: u32,
        seq: u64,
        bytes: &[u8],
    ) -> Option<bool> {
        if bytes.len() > SNAPSHOT_BYTES_MAX || view.contains('\0') || seq > self.head()?.seq {
            return Some(false);
        }
        let mut value = Digest::of(bytes).bytes().to_vec();
        value.extend_from_slice(bytes);
        known(self.snapshots.insert(key(view, version, seq), value))?;
        self.forget_snapshots(view, version).map(|()| true)
    }

    /// Lets go of all but the newest of a view's snapshots in one version.
    fn forget_snapshots(&self, view: &str, version: u32) -> Option<()> {
        let (first, last) = (key(view, version, 0), key(view, version, u64::MAX));
        let keys: Vec<_> =
            self.snapshots.range(first..=last).keys().map(known).collect::<Option<_>>()?;
        let old = keys.len().saturating_sub(SNAPSHOTS_KEPT_MAX);
        for key in &keys[..old] {
            known(self.snapshots.remove(key))?;
        }
        Some(())
    }

    /// The newest snapshot at or before `seq`; the outer `None` is a failure.
    #[expect(clippy::option_option, reason = "failed, nothing kept, or the snapshot")]
    pub(super) fn snapshot_latest(
        &self,
        view: &str,
        version: u32,
        seq: u64,
    ) -> Option<Option<(u64, Vec<u8>)>> {
        let least = key(view, version, 0);
        let mut range = self.snapshots.range(least..=key(view, version, seq));
        let Some(found) = range.next_back() else { return Some(None) };
        let (key, value) = known(found)?;
        let (digest, bytes) = value.split_first_chunk::<32>()?;
        let seq = u64::from_be_bytes(*key.last_chunk::<8>()?);
        // A wrong digest is damage, and damage makes the whole index suspect.
        (Digest::of(bytes).bytes() == digest).then(|| Some((seq, bytes.to_vec())))
    }
}
