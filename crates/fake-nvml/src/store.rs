//! Where the state is kept: a JSON file that several processes share.
//!
//! A change is made under a lock and put in place by a rename, so that a reader sees a whole state
//! or the one before. The file read last is held open: no later file can then have its number.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::edit::{Edit, EditError};
use crate::state::State;

/// Why the state could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file holds no state.
    #[error("{} holds no state of a simulated machine: {source}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
    /// The edit.
    #[error("the edit was not made: {source}")]
    Edit {
        /// Why.
        #[source]
        source: EditError,
    },
}

struct Held {
    file: File,
    modified: SystemTime,
    len: u64,
    state: Arc<State>,
}

/// The state file, with what was read from it last.
pub struct Store {
    path: PathBuf,
    held: Option<Held>,
}

impl Store {
    /// The state at `path`; it is read when it is asked for.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), held: None }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state as it is now.
    ///
    /// # Errors
    ///
    /// There is no file, or it holds no state.
    pub fn read(&mut self) -> Result<Arc<State>, StoreError> {
        if let Some(held) = &self.held
            && self.unchanged(held)
        {
            return Ok(Arc::clone(&held.state));
        }
        let mut file = File::open(&self.path).map_err(|source| self.io(source))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|source| self.io(source))?;
        let state = serde_json::from_str(&text)
            .map_err(|source| StoreError::Shape { path: self.path.clone(), source })?;
        self.hold(file, Arc::new(state))
    }

    /// Changes the state with nobody else at it; gives what `change` gives.
    ///
    /// # Errors
    ///
    /// As [`Store::read`], and when the new state cannot be written.
    pub fn change<T>(&mut self, change: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let _lock = self.lock()?;
        let before = self.read()?;
        let mut state = (*before).clone();
        let given = change(&mut state);
        if state != *before {
            self.write(state)?;
        }
        Ok(given)
    }

    /// Makes an edit.
    ///
    /// # Errors
    ///
    /// As [`Store::change`], and when the edit names what is not there.
    pub fn edit(&mut self, edit: &Edit) -> Result<(), StoreError> {
        self.change(|state| state.edit(edit))?.map_err(|source| StoreError::Edit { source })
    }

    /// Puts a state in place of whatever is there.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn replace(&mut self, state: State) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        self.write(state)
    }

    /// The calls made so far that change something, one a line, in order:
    /// `nvmlDeviceSetMigMode gpu=0 mode=1 -> 0`.
    ///
    /// # Errors
    ///
    /// The log is there and cannot be read.
    pub fn calls(&self) -> Result<Vec<String>, StoreError> {
        match fs::read_to_string(self.beside("calls")) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(self.io(source)),
        }
    }

    /// Adds a line to the log of calls.
    pub(crate) fn log(&self, line: &str) -> Result<(), StoreError> {
        let file = File::options().create(true).append(true).open(self.beside("calls"));
        let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        written.map_err(|source| self.io(source))
    }

    fn unchanged(&self, held: &Held) -> bool {
        let (Ok(now), Ok(then)) = (fs::metadata(&self.path), held.file.metadata()) else {
            return false;
        };
        now.ino() == then.ino()
            && now.dev() == then.dev()
            && now.len() == held.len
            && now.modified().is_ok_and(|at| at == held.modified)
    }

    fn hold(&mut self, file: File, state: Arc<State>) -> Result<Arc<State>, StoreError> {
        let metadata = file.metadata().map_err(|source| self.io(source))?;
        let modified = metadata.modified().map_err(|source| self.io(source))?;
        self.held = Some(Held { file, modified, len: metadata.len(), state: Arc::clone(&state) });
        Ok(state)
    }

    fn write(&mut self, state: State) -> Result<(), StoreError> {
        let text = serde_json::to_string_pretty(&state)
            .map_err(|source| StoreError::Shape { path: self.path.clone(), source })?;
        let new = self.beside("new");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&new);
        let mut file = file.map_err(|source| self.io(source))?;
        file.write_all(text.as_bytes()).map_err(|source| self.io(source))?;
        fs::rename(&new, &self.path).map_err(|source| self.io(source))?;
        self.hold(file, Arc::new(state)).map(drop)
    }

    /// Held until it is dropped; a process that dies lets go of it.
    fn lock(&self) -> Result<File, StoreError> {
        let file = File::options().create(true).append(true).open(self.beside("lock"));
        let file = file.map_err(|source| self.io(source))?;
        file.lock().map_err(|source| self.io(source))?;
        Ok(file)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.path.with_extension(suffix)
    }

    fn io(&self, source: io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), source }
    }
}
