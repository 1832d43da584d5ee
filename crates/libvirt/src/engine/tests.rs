//! The engine with calls that hang, panic or are dropped, on a connection to libvirt's test driver.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(30);

fn engine(threads: usize) -> Arc<Engine> {
    Engine::new(Options { threads, ..Options::new("test:///default") })
}

/// A call that hangs until the sender given with it is dropped.
fn hang(released: mpsc::Receiver<()>) -> impl FnOnce(&Connect) -> Result<(), Error> + Send {
    move |_| match released.recv() {
        Ok(()) | Err(mpsc::RecvError) => Ok(()),
    }
}

#[track_caller]
fn ping(engine: &Engine) -> u32 {
    let answer = engine.submit(LONG, |conn| Ok(conn.get_lib_version()?));
    answer.unwrap().blocking_recv().unwrap().unwrap()
}

/// Waits until the engine's state is as wanted.
#[track_caller]
fn await_state(engine: &Engine, wanted: impl Fn(&State) -> bool) {
    let limit = Instant::now() + LONG;
    while !wanted(&engine.lock()) {
        assert!(Instant::now() < limit, "the state never came");
        thread::yield_now();
    }
}

#[test]
fn a_call_that_hangs_loses_its_thread_and_its_connection() {
    let engine = engine(1);
    let mut events = engine.subscribe();
    ping(&engine);
    let (release, released) = mpsc::channel();
    let answer = engine.submit(SHORT, hang(released)).unwrap();
    let error = answer.blocking_recv().unwrap().unwrap_err();
    assert_eq!(error.code, Code::Timeout);
    ping(&engine);
    let seen: Vec<_> =
        std::iter::from_fn(|| events.next_blocking(LONG)).map(|event| event.kind).take(2).collect();
    let closed = EventKind::ConnectionClosed(CloseReason::Timeout);
    assert_eq!(seen, [closed, EventKind::Reopened]);
    assert_eq!(engine.lock().abandoned, 1);
    drop(release);
    await_state(&engine, |state| state.abandoned == 0);
    assert_eq!(engine.lock().workers, 1);
}

#[test]
fn abandoned_threads_are_bounded_and_their_return_is_noticed() {
    let engine = engine(1);
    let mut releases = Vec::new();
    // A call may also time out while it waits for the next connection, which costs no thread.
    while !engine.lock().exhausted() {
        let (release, released) = mpsc::channel();
        releases.push(release);
        let answer = engine.submit(SHORT / 10, hang(released)).unwrap();
        assert_eq!(answer.blocking_recv().unwrap().unwrap_err().code, Code::Timeout);
    }
    assert!(releases.len() >= ABANDONED_THREADS_MAX);
    let refused = engine.submit(LONG, |_| Ok(())).map(drop).unwrap_err();
    assert_eq!(refused.code, Code::Timeout);
    assert!(refused.message.contains("restart libvirtd"), "{refused}");
    drop(releases);
    await_state(&engine, |state| !state.exhausted());
    ping(&engine);
}

#[test]
fn a_call_dropped_before_it_began_is_not_made() {
    let engine = engine(1);
    let (release, released) = mpsc::channel();
    let first = engine.submit(LONG, hang(released)).unwrap();
    let made = Arc::new(AtomicUsize::new(0));
    let count = || {
        let made = Arc::clone(&made);
        move |_: &Connect| {
            made.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    };
    drop(engine.submit(LONG, count()).unwrap());
    let kept = engine.submit(LONG, count()).unwrap();
    drop(release);
    first.blocking_recv().unwrap().unwrap();
    kept.blocking_recv().unwrap().unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[test]
fn a_panic_fails_its_call_only() {
    let engine = engine(1);
    let answer = engine.submit(LONG, |_| -> Result<(), Error> { panic!("on purpose") });
    let error = answer.unwrap().blocking_recv().unwrap().unwrap_err();
    assert!(error.message.contains("panicked"), "{error}");
    ping(&engine);
    assert_eq!(engine.lock().workers, 1);
}

#[test]
fn closing_fails_what_waits_and_ends_the_threads() {
    let engine = engine(1);
    let (release, released) = mpsc::channel();
    let running = engine.submit(LONG, hang(released)).unwrap();
    await_state(&engine, |state| !state.running.is_empty());
    let waiting = engine.submit(LONG, |_| Ok(())).unwrap();
    engine.close();
    assert_eq!(waiting.blocking_recv().unwrap().unwrap_err().code, Code::Closed);
    assert_eq!(engine.submit(LONG, |_| Ok(())).map(drop).unwrap_err().code, Code::Closed);
    drop(release);
    running.blocking_recv().unwrap().unwrap();
    await_state(&engine, |state| state.workers == 0);
}

#[test]
fn after_the_end_no_thread_is_in_libvirt_but_one_that_hangs() {
    let engine = engine(1);
    // A connection is being opened.
    let _events = engine.subscribe();
    engine.end();
    assert_eq!(*engine.threads.count.lock().unwrap(), 0);

    let engine = self::engine(1);
    let (release, released) = mpsc::channel();
    let running = engine.submit(LONG, hang(released)).unwrap();
    await_state(&engine, |state| !state.running.is_empty());
    engine.end();
    assert_eq!(*engine.threads.count.lock().unwrap(), 1, "it is not waited for without end");
    drop(release);
    running.blocking_recv().unwrap().unwrap();
    engine.threads.wait(LONG);
    assert_eq!(*engine.threads.count.lock().unwrap(), 0);
}

#[test]
fn calls_that_wait_for_a_hanging_daemon_cost_no_threads() {
    // A socket that accepts and never answers is a libvirtd that hangs.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let uri = format!("qemu+unix:///system?socket={}", path.display());
    let engine = Engine::new(Options::new(uri));
    let answers: Vec<_> = (0..40).map(|_| engine.submit(SHORT, |_| Ok(())).unwrap()).collect();
    for answer in answers {
        assert_eq!(answer.blocking_recv().unwrap().unwrap_err().code, Code::Timeout);
    }
    {
        let state = engine.lock();
        assert_eq!((state.abandoned, state.opener), (0, 1));
        assert!(state.workers <= 4);
    }
    // It goes away: the opener returns, and the next call hears why.
    let (accepted, _) = listener.accept().unwrap();
    drop((listener, accepted));
    await_state(&engine, |state| state.opening.is_none());
    let answer = engine.submit(LONG, |_| Ok(())).unwrap();
    assert_eq!(answer.blocking_recv().unwrap().unwrap_err().code, Code::ConnectionLost);
}
