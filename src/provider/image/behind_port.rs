//! Golden images behind `port::Provider`.
//!
//! It only ever touches files whose name says that they are an image of ours.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::build::Targets;
use super::builder::{BuildRequest, Builder};
use super::fetch::{FetchLimits, fetch};
use super::qemu_img::convert;
use super::workdir::reap;
use crate::model::resource::{BootFiles, Image, ImageOrigin};
use crate::model::{Fault, Kind, Observed, Resource};
use crate::plan::{Action, Step};
use crate::port::{BoxFuture, Outcome, Progress, ProgressUpdate, Provider, Scope, misdirected};
use crate::provider::files::{Naming, blocking, files_in, remove};

/// Time limit of one conversion: 128 GiB at 20 MB/s.
const CONVERT_TIME: Duration = Duration::from_secs(2 * 3600);

const NAMING: Naming = Naming { kind: Kind::Image, prefix: "image", endings: &["qcow2", "raw"] };

/// Makes and removes golden images.
#[derive(Debug, Clone)]
pub struct ImageProvider {
    downloads: PathBuf,
    builder: Builder,
}

impl ImageProvider {
    /// A provider that keeps unfinished downloads in `downloads` and builds in this process.
    pub fn new(downloads: PathBuf) -> Self {
        Self { downloads, builder: Builder::Here }
    }

    /// The same, building elsewhere.
    #[must_use]
    pub fn with_builder(self, builder: Builder) -> Self {
        Self { builder, ..self }
    }

    async fn create(&self, image: &Image, progress: &Progress) -> Result<Outcome, Fault> {
        let target = PathBuf::from(&image.path);
        ours(&target)?;
        let asked = image.clone();
        if blocking("look for an image", move || prepare(&asked)).await? {
            return Ok(Outcome { already: true, ..Outcome::default() });
        }
        match &image.origin {
            None => Err(Fault::permanent(format!(
                "{}: the plan does not say what the image is made from, which is a bug",
                image.path
            ))),
            Some(ImageOrigin::Fetch { source, sha256 }) => {
                let told = |done, total| {
                    progress(ProgressUpdate { what: "fetching".to_owned(), done, total });
                };
                let limits = FetchLimits::default();
                let file = fetch(source, *sha256, &self.downloads, limits, told)
                    .await
                    .map_err(|error| error.to_fault())?;
                let made = convert(&file, &target, image.format, image.size, CONVERT_TIME).await;
                let made = made.map_err(|error| error.to_fault());
                // What cannot be used is not kept; what only failed now need not be fetched again.
                if !matches!(made, Err(Fault::Transient { .. })) {
                    blocking("remove a download", move || remove(&file)).await?;
                }
                let info = made?;
                let facts = [
                    ("sha256".to_owned(), sha256.to_string()),
                    ("virtualSize".to_owned(), info.virtual_size.to_string()),
                ];
                Ok(Outcome { already: false, facts: facts.into(), ..Outcome::default() })
            }
            Some(ImageOrigin::Build(spec)) => {
                let told = |stage: &str| {
                    progress(ProgressUpdate { what: stage.to_owned(), done: 0, total: None });
                };
                let request = BuildRequest::new(spec, image.format, image.size, target);
                let facts = self.builder.build(request, told).await?;
                Ok(Outcome { already: false, facts, ..Outcome::default() })
            }
        }
    }
}

/// Whether the image is there already; where it is not, the way to it is cleared.
fn prepare(image: &Image) -> Result<bool, Fault> {
    if there(image).is_some() {
        return Ok(true);
    }
    if let Some(folder) = Path::new(&image.path).parent() {
        // What a killed build left behind; a build that still runs keeps its lock and stays.
        for left in reap(folder).map_err(|error| error.to_fault())? {
            tracing::info!(path = %left.display(), "removed what an unfinished build left");
        }
    }
    Ok(false)
}

/// What is on the machine of the image asked for; `None` where it is not there whole.
fn there(image: &Image) -> Option<Image> {
    let is_file = |path: &str| Path::new(path).symlink_metadata().is_ok_and(|meta| meta.is_file());
    let whole = |files: &BootFiles| is_file(&files.kernel) && is_file(&files.initrd);
    let complete = is_file(&image.path) && image.boot_files.as_ref().is_none_or(whole);
    complete.then(|| Image { origin: None, ..image.clone() })
}

/// The downloads that images asked for are made from.
fn downloads_of(scope: &Scope) -> BTreeSet<String> {
    let wishes = scope.desired.resources.values();
    let digests = wishes.filter_map(|wish| match &wish.resource {
        Resource::Image(Image { origin: Some(ImageOrigin::Fetch { sha256, .. }), .. }) => {
            Some(sha256.to_string())
        }
        _ => None,
    });
    digests.collect()
}

/// Removes what was downloaded for images that nobody asks for any more.
fn clear(downloads: &Path, wanted: &BTreeSet<String>) -> Result<(), Fault> {
    for path in files_in(downloads)? {
        let digest = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if wanted.contains(digest) {
            continue;
        }
        let stuck = |error: std::io::Error| {
            Fault::transient(format!("{}: cannot be cleared away: {error}", path.display()))
        };
        // Whoever fetches it at this moment holds its lock.
        let file = File::open(&path).map_err(stuck)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                remove(&path)?;
                tracing::info!(file = %path.display(), "removed a download that nothing asks for");
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(stuck(error.into())),
        }
    }
    Ok(())
}

fn path_of(resource: &Resource) -> Option<&str> {
    match resource {
        Resource::Image(image) => Some(image.path.as_str()),
        _ => None,
    }
}

fn ours(path: &Path) -> Result<(), Fault> {
    if path.is_absolute() && NAMING.owner(path).is_some() {
        return Ok(());
    }
    Err(Fault::permanent(format!(
        "{}: it is not named as an image of ours, so it is not touched",
        path.display()
    )))
}

fn delete(path: &Path) -> Result<Outcome, Fault> {
    ours(path)?;
    let targets = Targets::beside(path);
    for companion in [
        targets.failed_log(),
        targets.console(),
        targets.kernel,
        targets.initrd,
        targets.packages,
        targets.log,
    ] {
        remove(&companion)?;
    }
    Ok(Outcome { already: !remove(path)?, ..Outcome::default() })
}

impl Provider for ImageProvider {
    fn name(&self) -> &'static str {
        "image"
    }

    fn kinds(&self) -> &[Kind] {
        &[Kind::Image]
    }

    fn observe<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Result<Observed, Fault>> {
        Box::pin(async move {
            let (downloads, wanted) = (self.downloads.clone(), downloads_of(scope));
            blocking("clear away downloads", move || clear(&downloads, &wanted)).await?;
            let seen = NAMING.observe(scope, path_of, |resource| match resource {
                Resource::Image(image) => there(image).map(Resource::Image),
                _ => None,
            });
            seen.await
        })
    }

    fn perform<'a>(
        &'a self,
        step: &'a Step,
        _scope: &'a Scope,
        progress: Progress,
    ) -> BoxFuture<'a, Result<Outcome, Fault>> {
        Box::pin(async move {
            match &step.action {
                Action::ImageCreate { image } => self.create(image, &progress).await,
                Action::ImageDelete { path } => {
                    let path = PathBuf::from(path);
                    blocking("remove an image", move || delete(&path)).await
                }
                _ => Err(misdirected(self.name(), step)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plan::{Disruption, Reason};
    use crate::provider::files::tests::{beside_a_held_worker, scope};

    #[test]
    fn a_download_that_nothing_asks_for_is_cleared_away_unless_it_is_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            std::fs::write(dir.path().join(name), "x").unwrap();
            File::open(dir.path().join(name)).unwrap()
        };
        let (asked, dropped, busy) = ("a".repeat(64), "b".repeat(64), "c".repeat(64));
        for name in [&asked, &format!("{asked}.part"), &dropped, &format!("{dropped}.part")] {
            file(name);
        }
        let held = file(&format!("{busy}.part"));
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        clear(dir.path(), &BTreeSet::from([asked.clone()])).unwrap();
        let left: Vec<_> = files_in(dir.path()).unwrap();
        let left: Vec<_> = left.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(left, [&asked, &format!("{asked}.part"), &format!("{busy}.part")]);
    }

    #[test]
    fn what_a_crash_left_of_an_image_is_ours_to_remove() {
        let left = Path::new("/pool/image-debian-0123456789ab.qcow2.partial");
        assert_eq!(NAMING.owner(left), Some("image/debian".parse().unwrap()));
        assert_eq!(NAMING.owner(Path::new("/pool/image-debian.qcow2.partial")), None);
    }

    #[test]
    fn an_image_is_removed_off_the_executors_thread() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image-debian-0123456789ab.qcow2");
        std::fs::write(&path, "").unwrap();
        let provider = ImageProvider::new(dir.path().to_owned());
        let step = Step {
            resource: "image/debian".parse().unwrap(),
            action: Action::ImageDelete { path: path.to_str().unwrap().to_owned() },
            disruption: Disruption::Destroy,
            reason: Reason::Gone,
            changes: Vec::new(),
            after: BTreeSet::new(),
            interrupts: BTreeSet::new(),
        };
        let scope = scope(std::collections::BTreeMap::new());
        let progress: Progress = Arc::new(|_| {});
        beside_a_held_worker(provider.perform(&step, &scope, progress)).unwrap();
        assert!(!path.exists());
    }
}
