//! How much of a flood gets through, and what was here before. Pure: it is told the time.

use std::collections::VecDeque;
use std::time::Duration;

/// Requests that may come at once: a push to a busy repository makes a dozen.
const BURST_MAX: u32 = 60;
/// Requests a second after that.
const PER_SECOND: u32 = 10;
/// Signatures remembered: what is sent again within that many says nothing new.
const REMEMBERED_MAX: usize = 256;
/// Least time between two lines about refused requests.
const COMPLAIN_GAP: Duration = Duration::from_secs(60);

/// Counts requests.
#[derive(Debug)]
pub(super) struct Gate {
    /// In thousandths of a request.
    left: u64,
    at: Duration,
    recent: VecDeque<String>,
    complained: Option<Duration>,
}

impl Gate {
    pub(super) fn new(now: Duration) -> Self {
        let left = u64::from(BURST_MAX) * 1_000;
        Self { left, at: now, recent: VecDeque::new(), complained: None }
    }

    /// Whether a request may come in now.
    pub(super) fn admit(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_millis();
        let gained = u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(PER_SECOND.into());
        self.left = self.left.saturating_add(gained).min(u64::from(BURST_MAX) * 1_000);
        self.at = now.max(self.at);
        let admitted = self.left >= 1_000;
        if admitted {
            self.left -= 1_000;
        }
        admitted
    }

    /// Whether nothing with this right signature was here lately.
    pub(super) fn is_new(&mut self, signature: &str) -> bool {
        let signature = signature.trim().to_ascii_lowercase();
        if self.recent.contains(&signature) {
            return false;
        }
        if self.recent.len() == REMEMBERED_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(signature);
        true
    }

    /// Whether a refusal is worth a line now.
    pub(super) fn may_complain(&mut self, now: Duration) -> bool {
        let due = self.complained.is_none_or(|last| now.saturating_sub(last) >= COMPLAIN_GAP);
        if due {
            self.complained = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_let_in_drop_by_drop() {
        let mut gate = Gate::new(Duration::ZERO);
        let now = Duration::from_secs(1);
        let admitted = (0..1_000).filter(|_| gate.admit(now)).count();
        assert_eq!(admitted, BURST_MAX as usize);
        let later = now + Duration::from_millis(500);
        assert_eq!((0..1_000).filter(|_| gate.admit(later)).count(), PER_SECOND as usize / 2);
        let tomorrow = Duration::from_secs(86_400);
        assert_eq!((0..1_000).filter(|_| gate.admit(tomorrow)).count(), BURST_MAX as usize);
    }

    #[test]
    fn what_is_sent_again_is_not_new() {
        let mut gate = Gate::new(Duration::ZERO);
        assert!(gate.is_new("sha256=AB"));
        assert!(!gate.is_new(" sha256=ab"));
        (0..REMEMBERED_MAX).for_each(|n| assert!(gate.is_new(&n.to_string())));
        assert_eq!(gate.recent.len(), REMEMBERED_MAX);
    }

    #[test]
    fn a_flood_of_wrong_ones_is_a_line_a_minute() {
        let mut gate = Gate::new(Duration::ZERO);
        let lines = (0..180).filter(|s| gate.may_complain(Duration::from_secs(*s))).count();
        assert_eq!(lines, 3);
    }
}
