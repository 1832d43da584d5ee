//! What can be wrong with the config, said with file, line, column and what to write instead.
//!
//! It never quotes a value, which could be a secret put in the wrong place.

use std::path::PathBuf;

/// Why there is no usable config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("there is no config at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It is there and cannot be read.
    #[error("cannot read the config {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than a config can be.
    #[error("the config {} is larger than {limit} bytes: that is some other file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Its text is not what it has to be.
    #[error("{}:{line}:{column}: {message}{}", path.display(), hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Text {
        /// The file.
        path: PathBuf,
        /// Line, from 1; 0 where the file as a whole is meant.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong.
        message: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// A value is well formed and cannot be used.
    #[error("{}: {field}: {message}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Which setting: `repository.url`.
        field: &'static str,
        /// What is wrong, and what to write instead.
        message: String,
    },
}
