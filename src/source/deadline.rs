//! A total time limit around calls that have none of their own.
//!
//! gix looks at its interrupt flag only between reads, so a server that drips bytes or stalls can
//! hold a thread for as long as it likes. The work runs in a thread of its own; when the limit is
//! over, the caller goes on and the thread is left to end by itself. How many such threads may be
//! left behind is limited by the caller through [`Abandoned`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Counts the threads still running behind their caller's back.
#[derive(Debug, Clone, Default)]
pub struct Abandoned(Arc<AtomicUsize>);

impl Abandoned {
    /// How many there are now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Missed {
    /// The limit passed first.
    #[error("not finished in time")]
    Late,
    /// The work panicked.
    #[error("the work ended without a result")]
    Died,
    /// No thread could be started.
    #[error("no thread could be started")]
    NoThread(#[source] std::io::Error),
}

/// Time between two looks of a watch: what comes in meanwhile is what a quota may be exceeded by.
const WATCH_EVERY: Duration = Duration::from_millis(50);
/// The most that work which was told to stop gets to clean up before it is left behind.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Runs `work` for at most `limit`. The flag it gets is set when nobody waits for it any more, and
/// when `watch`, asked again and again meanwhile, says that it has to stop.
///
/// # Errors
/// [`Missed`] when there is no result within the limit.
pub fn within<T: Send + 'static>(
    limit: Duration,
    abandoned: &Abandoned,
    mut watch: impl FnMut() -> bool,
    work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> Result<T, Missed> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let (halt, left) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (told, leaving) = (Arc::clone(&halt), Arc::clone(&left));
    let count = abandoned.clone();
    std::thread::Builder::new()
        .name("git-remote".into())
        .spawn(move || {
            // Dropped at the end of the thread, also by a panic.
            let _leaving = Leaving { left: leaving, count };
            // A closed channel means that the caller left: there is nobody to tell.
            sender.send(work(&told)).ok();
        })
        .map_err(Missed::NoThread)?;
    let mut end = Instant::now() + limit;
    loop {
        let wait = end.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(wait.min(WATCH_EVERY)) {
            Ok(result) => return Ok(result),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Missed::Died),
            Err(mpsc::RecvTimeoutError::Timeout) if wait.is_zero() => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if !halt.load(Ordering::Acquire) && watch() {
                    halt.store(true, Ordering::Release);
                    end = end.min(Instant::now() + STOP_GRACE);
                }
            }
        }
    }
    halt.store(true, Ordering::Release);
    abandoned.0.fetch_add(1, Ordering::AcqRel);
    if left.swap(true, Ordering::AcqRel) {
        // It ended in between: `Leaving` saw no flag and did not count down.
        abandoned.0.fetch_sub(1, Ordering::AcqRel);
    }
    Err(Missed::Late)
}

/// Counts its thread down again if it had been given up.
struct Leaving {
    left: Arc<AtomicBool>,
    count: Abandoned,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.left.swap(true, Ordering::AcqRel) {
            self.count.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_in_time_comes_back() {
        let abandoned = Abandoned::default();
        assert_eq!(within(Duration::from_secs(5), &abandoned, || false, |_| 7).unwrap(), 7);
        assert_eq!(abandoned.count(), 0);
    }

    #[test]
    fn late_work_is_left_behind_counted_and_told() {
        let abandoned = Abandoned::default();
        let (go, gate) = mpsc::channel::<()>();
        let (told, saw) = mpsc::channel();
        let missed = within(
            Duration::from_millis(20),
            &abandoned,
            || false,
            move |stop| {
                gate.recv().unwrap();
                told.send(stop.load(Ordering::Acquire)).unwrap();
            },
        );
        assert!(matches!(missed, Err(Missed::Late)));
        assert_eq!(abandoned.count(), 1);
        go.send(()).unwrap();
        assert!(saw.recv().unwrap(), "the work is told that nobody waits");
        // The guard drops right after the send above; the count is the condition waited for.
        while abandoned.count() != 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_watch_stops_the_work_and_its_own_words_come_back() {
        let abandoned = Abandoned::default();
        let spin = |stop: &AtomicBool| {
            while !stop.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            "stopped"
        };
        let said = within(Duration::from_secs(60), &abandoned, || true, spin).unwrap();
        assert_eq!((said, abandoned.count()), ("stopped", 0));
    }

    #[test]
    fn a_panic_is_an_error_and_not_a_hang() {
        let missed = within(
            Duration::from_secs(5),
            &Abandoned::default(),
            || false,
            |_| panic!("on purpose"),
        );
        let missed: Result<(), Missed> = missed;
        assert!(matches!(missed, Err(Missed::Died)));
    }
}
