//! When a failed resource is tried again.
//!
//! Pure: the time is given and the jitter comes from what failed, so that a replay decides the same.

use jiff::{SignedDuration, Timestamp};

use crate::model::{Digest, Fault, ResourceId};

/// First wait after a fault that may pass by itself, seconds.
pub const RETRY_BASE_S: u64 = 5;
/// Longest wait after a fault that may pass by itself, seconds: a repaired peer is used within it.
pub const RETRY_MAX_S: u64 = 600;
/// Wait after a fault that stays until somebody changes something, seconds. It is tried again all
/// the same, because the machine may have been mended without a word to trueup.
pub const RETRY_SLOW_S: u64 = 900;
/// Heals of one resource within [`FLAP_WINDOW_S`] from which on it is taken to flap.
pub const FLAP_HEALS: usize = 5;
/// Window in which heals are counted, seconds.
pub const FLAP_WINDOW_S: i64 = 600;

/// When `resource`, having failed `attempt` times in a row with `fault`, is tried again.
pub(super) fn retry_at(
    now: Timestamp,
    resource: &ResourceId,
    fault: &Fault,
    attempt: u32,
) -> Timestamp {
    let base = if fault.is_transient() {
        RETRY_BASE_S.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(RETRY_MAX_S)
    } else {
        RETRY_SLOW_S
    };
    // Full-length jitter of a fifth, so that many resources that failed together do not come back
    // together.
    let dice = Digest::of(format!("{resource}/{attempt}")).bytes()[0];
    let wait_ms = base * 1_000 + base * 200 * u64::from(dice) / 255;
    later(now, wait_ms)
}

/// Until when a resource that was healed at `heals` is left alone, if it flaps.
pub(super) fn flapping(now: Timestamp, heals: &[Timestamp]) -> Option<Timestamp> {
    let since = now - SignedDuration::from_secs(FLAP_WINDOW_S);
    let recent = heals.iter().filter(|at| **at >= since).count();
    (recent >= FLAP_HEALS).then(|| later(now, RETRY_MAX_S * 1_000))
}

/// `now` and `ms` milliseconds; the end of time rather than an overflow.
fn later(now: Timestamp, ms: u64) -> Timestamp {
    let wait = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn waits_grow_to_a_limit() {
        let vm: ResourceId = "vm/web".parse().unwrap();
        let wait = |fault: &Fault, attempt| retry_at(at(0), &vm, fault, attempt).as_second() as u64;
        let passing = Fault::transient("busy");
        assert!((RETRY_BASE_S..=RETRY_BASE_S * 6 / 5).contains(&wait(&passing, 1)));
        assert!(wait(&passing, 4) > wait(&passing, 2));
        assert!((RETRY_MAX_S..=RETRY_MAX_S * 6 / 5).contains(&wait(&passing, 99)));
        assert!(wait(&Fault::permanent("no"), 1) >= RETRY_SLOW_S);
    }

    #[test]
    fn flaps_only_when_heals_are_close() {
        let close: Vec<_> = (0..5).map(at).collect();
        let far: Vec<_> = (0..5).map(|n| at(n * FLAP_WINDOW_S)).collect();
        assert!(flapping(at(10), &close).is_some());
        assert!(flapping(at(FLAP_WINDOW_S * 4), &far).is_none());
    }
}
