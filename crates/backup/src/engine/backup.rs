//! Takes a backup of paths; what is special about a stream is in `stream`.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use jiff::Zoned;
use jiff::tz::TimeZone;
use rustic_core::repofile::SnapshotFile;
use rustic_core::{
    BackupOptions, Excludes, LocalSource, LocalSourceFilterOptions, LocalSourceSaveOptions,
    ParentOptions, SnapshotOptions, StringList,
};

use super::image::Images;
use super::source::{Watch, Watched};
use super::{Feed, Job, Open, told};
use crate::bridge::Pace;
use crate::protocol::{Backup, Fault, Filter, ImageFile, Source, Taken};

impl Job {
    pub(super) fn backup(
        &self,
        open: Open,
        backup: &Backup,
        feed: Option<Feed>,
    ) -> Result<Taken, Fault> {
        match &backup.source {
            Source::Paths { paths } => self.backup_paths(open, backup, paths),
            Source::Stream { name } => {
                let feed = feed.ok_or_else(|| Fault::Invalid { what: "no stream came".into() })?;
                self.backup_stream(open, backup, name, feed)
            }
            Source::Image { name, size, base } => {
                let feed = feed.ok_or_else(|| Fault::Invalid { what: "no image came".into() })?;
                let file = ImageFile { name: name.clone(), size: *size, based: base.is_some() };
                let images = Images { files: &[file], base: base.as_deref() };
                self.backup_images(open, backup, &images, feed)
            }
            Source::Images { files, base } => {
                let feed = feed.ok_or_else(|| Fault::Invalid { what: "no image came".into() })?;
                let images = Images { files, base: base.as_deref() };
                self.backup_images(open, backup, &images, feed)
            }
        }
    }

    /// The snapshot to be filled.
    pub(super) fn blank(&self, backup: &Backup) -> Result<SnapshotFile, Fault> {
        let invalid = |what: String| Fault::Invalid { what };
        let mut tags = Vec::new();
        for tag in &backup.tags {
            if tag.is_empty() || tag.contains(',') {
                return Err(invalid(format!("`{tag}` is no tag: it is empty or has a comma")));
            }
            tags.push(StringList::from_str(tag).map_err(|error| invalid(error.to_string()))?);
        }
        let mut options = SnapshotOptions::default()
            .host(backup.host.clone())
            .tags(tags)
            // The worker's own arguments say nothing about the job.
            .command("trueup".to_owned());
        options.time = Some(match backup.time {
            Some(time) => time.to_zoned(TimeZone::system()),
            None => Zoned::now(),
        });
        let mut snapshot = options.to_snapshot().map_err(|error| self.fault(&error))?;
        snapshot.program_version = concat!("trueup ", env!("CARGO_PKG_VERSION")).to_owned();
        Ok(snapshot)
    }

    fn backup_paths(&self, open: Open, backup: &Backup, paths: &[PathBuf]) -> Result<Taken, Fault> {
        let invalid = |what: String| Fault::Invalid { what };
        if paths.is_empty() {
            return Err(invalid("no path is named".into()));
        }
        for path in paths {
            present(path)?;
        }
        // The library goes back into a folder that it had left where they are not in order, and stores
        // it a second time.
        let mut paths = paths.to_vec();
        paths.sort();
        paths.dedup();
        let paths = &paths[..];
        let filter = LocalSourceFilterOptions::default().one_file_system(backup.one_file_system);
        // The library's patterns select; with `!` before them they leave out.
        let globs = backup.exclude.iter().map(|pattern| format!("!{pattern}"));
        let excludes = Excludes::default().globs(globs.collect::<Vec<_>>());
        let save = LocalSourceSaveOptions::default();
        let inner = LocalSource::new(save, &excludes, &filter, paths)
            .map_err(|error| invalid(error.display_log()))?;
        let watch = Arc::new(Watch::default());
        let pace = Arc::new(Pace::new(self.limits.read_kib));
        let source = Watched { inner, watch: Arc::clone(&watch), pace };
        let like = Filter {
            host: Some(backup.host.clone()),
            paths: paths.to_vec(),
            tags: backup.tags.clone(),
        };
        // The last snapshot says about how much there is; counting costs as much as looking.
        let last = self.snapshots(&open, &like)?.pop();
        let mut parent = ParentOptions::default().force(backup.force);
        if let Some(last) = last.as_ref().filter(|_| !backup.force) {
            parent = parent.parents(vec![last.id.to_hex().as_str().to_owned()]);
        }
        let options = BackupOptions::default().no_scan(last.is_some()).parent_opts(parent);
        let indexed = open.to_indexed_ids().map_err(|error| self.fault(&error))?;
        let stored = indexed.archive(&options, &source, self.blank(backup)?, paths);
        let snapshot = stored.map_err(|error| self.fault(&error))?;
        if let Some(fault) = self.bridge.barred() {
            return Err(fault);
        }
        let (missing_count, missing) = watch.missing();
        Ok(taken(&snapshot, missing_count, missing))
    }
}

/// That a source is there: an empty place where a file system should be mounted is for hooks to see.
fn present(path: &Path) -> Result<(), Fault> {
    if !path.is_absolute() {
        return Err(Fault::Invalid { what: format!("{} is not absolute", path.display()) });
    }
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::SourceVanished { path: path.to_owned(), why: error.to_string() }),
    }
}

pub(super) fn taken(
    snapshot: &SnapshotFile,
    missing_count: u64,
    missing: Vec<crate::protocol::Missing>,
) -> Taken {
    let summary = snapshot.summary.clone().unwrap_or_default();
    Taken {
        snapshot: told(snapshot),
        files_changed: summary.files_new + summary.files_changed,
        files: summary.total_files_processed,
        bytes: summary.total_bytes_processed,
        missing_count,
        missing,
    }
}
