//! What every command starts from: the streams, the settings and where things are.
//!
//! Settings are read when a command needs them, so that those that need none work without a config.

use std::path::{Path, PathBuf};

use super::Global;
use super::exit::CliError;
use super::ui::Ui;
use crate::config::{self, CONFIG_PATH, Config, ConfigError, Found};
use crate::telemetry;

/// The start of every command.
pub(super) struct Context {
    /// The streams.
    pub(super) ui: Ui,
    config: Option<PathBuf>,
    state_dir: Option<PathBuf>,
}

impl Context {
    pub(super) fn new(ui: Ui, global: &Global) -> Self {
        Self { ui, config: global.config.clone(), state_dir: global.state_dir.clone() }
    }

    /// The settings.
    pub(super) fn settings(&self) -> Result<Found, CliError> {
        let mut found = config::load(self.config.as_deref())?;
        if let Some(directory) = &self.state_dir {
            found.config.state_directory = Some(absolute(directory)?);
        }
        Ok(found)
    }

    /// Where the config is read from.
    pub(super) fn config_path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| PathBuf::from(CONFIG_PATH))
    }

    /// The settings, or the defaults where nobody named a config and there is none: enough to find
    /// the log and the daemon.
    pub(super) fn places(&self) -> Result<Config, CliError> {
        match self.settings() {
            Ok(found) => Ok(found.config),
            Err(error) => {
                let missing = error.source.downcast_ref::<ConfigError>();
                let missing = matches!(missing, Some(ConfigError::Missing { .. }));
                if !missing || self.config.is_some() {
                    return Err(error);
                }
                let mut config = Config::new("");
                if let Some(directory) = &self.state_dir {
                    config.state_directory = Some(absolute(directory)?);
                }
                Ok(config)
            }
        }
    }

    /// The state directory.
    pub(super) fn state_dir(&self) -> Result<PathBuf, CliError> {
        match &self.state_dir {
            Some(directory) => absolute(directory),
            None => Ok(self.places()?.state_directory()),
        }
    }

    /// The state directory, where somebody named one or a config does.
    pub(super) fn named_state_dir(&self) -> Result<Option<PathBuf>, CliError> {
        if let Some(directory) = &self.state_dir {
            return absolute(directory).map(Some);
        }
        let named = self.config_path().is_file().then(|| self.settings()).transpose()?;
        Ok(named.map(|found| found.config.state_directory()))
    }

    /// The config that somebody named.
    pub(super) fn named_config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The same with this config, where there is one, and this state directory.
    pub(super) fn at(&self, config: Option<&Path>, state_dir: &Path) -> Self {
        let config = config.map(Path::to_path_buf).or_else(|| self.config.clone());
        Self { ui: self.ui, config, state_dir: Some(state_dir.to_owned()) }
    }

    /// How to write about the work.
    pub(super) fn telemetry(&self, global: &Global, base: telemetry::Base) -> telemetry::Options {
        let count = |n: u8| i8::try_from(n).unwrap_or(i8::MAX);
        // What the config says is for the daemon. One that cannot be read is told of by the command
        // itself, in the usual form.
        let config = match base {
            telemetry::Base::Daemon => self.settings().ok().map(|found| found.config.telemetry),
            telemetry::Base::Command => None,
        };
        let config = config.unwrap_or_default();
        telemetry::Options {
            verbosity: count(global.verbose) - count(global.quiet),
            base,
            filter: config.filter,
            format: config.format,
            color: global.color.on(true),
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(CliError::input)
}
