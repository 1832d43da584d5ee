//! The clients of the forges, against forges that keep what they are told and fail on purpose.

pub(crate) mod fake;

mod faults;
mod gitea;
mod read;
mod referee;
mod secrets;
mod write;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use trueup::config::ForgeSettings;
use trueup::forge::connect;
use trueup::forge::ensure::Done;
use trueup::model::CommitId;
use trueup::port::BoxFuture;
use trueup::port::forge::{
    Annotation, CheckReport, CheckState, CommitState, Conclusion, Forge, Level, Status,
};

const MARKER: &str = "<!-- trueup:host/lab -->";

fn client(settings: &ForgeSettings) -> Arc<dyn Forge> {
    connect(settings).unwrap()
}

/// A commit whose id is one digit.
fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn status(state: CommitState, description: &str) -> Status {
    Status {
        context: "trueup/host/lab".into(),
        state,
        description: description.into(),
        url: Some("https://plans.test/1".into()),
    }
}

/// A check with that many annotations, of all levels mixed.
fn check(annotations: u32) -> CheckReport {
    let levels = [Level::Notice, Level::Failure, Level::Warning];
    let remark = |n: u32| Annotation {
        level: levels[n as usize % 3],
        path: "environments/lab/web.yaml".into(),
        start_line: NonZeroU32::new(n + 1).unwrap(),
        end_line: NonZeroU32::new(n + 1).unwrap(),
        columns: Some((3, 9)),
        message: format!("remark {n}"),
        title: None,
    };
    CheckReport {
        name: "trueup/host/lab".into(),
        external_id: "digest-1".into(),
        state: CheckState::Completed(Conclusion::Failure),
        title: "2 to change".into(),
        summary: "…".into(),
        text: None,
        url: None,
        annotations: (0..annotations).map(remark).collect(),
    }
}

/// Counts the writes it lets through, without any wait.
#[derive(Clone, Default)]
struct Paced(Arc<AtomicUsize>);

impl Paced {
    fn pace(&self) -> impl Fn() -> BoxFuture<'static, ()> + Send + Sync + use<> {
        let count = self.0.clone();
        move || {
            count.fetch_add(1, Ordering::SeqCst);
            Box::pin(async {})
        }
    }

    fn writes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Tries again until it is done, as the outbox does.
async fn until_done<T, F>(mut again: impl FnMut() -> F) -> (T, usize)
where
    F: Future<Output = Result<T, trueup::port::ForgeError>>,
{
    for tries in 1..10 {
        match again().await {
            Ok(done) => return (done, tries),
            Err(error) => assert!(error.passes(), "{error}"),
        }
    }
    panic!("never done");
}
