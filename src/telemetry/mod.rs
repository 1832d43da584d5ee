//! `telemetry`: what the program writes about itself on stderr, through `tracing`.
//!
//! It never carries a secret: only types that can be serialised reach a line, and `Secret` cannot.
//! It is not the log of events: losing a line here loses nothing that trueup knows.

mod format;

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, Format};

use crate::config::LogFormat;
use format::JournalLines;

/// How to write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// How often `-v` was given, less how often `-q`.
    pub verbosity: i8,
    /// What is written at verbosity 0, unless a filter says otherwise.
    pub base: Base,
    /// A filter from the config; `RUST_LOG` and `-v`/`-q` go before it.
    pub filter: Option<String>,
    /// The form of the lines.
    pub format: LogFormat,
    /// Whether colour is allowed; it is used on terminals only.
    pub color: bool,
}

/// What is written when nobody asked for more or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Base {
    /// Warnings and errors: commands that answer and end.
    #[default]
    Command,
    /// Also what happens: the daemon.
    Daemon,
}

/// Why writing could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter has mistakes.
    #[error("the log filter from {origin} is not one")]
    Filter {
        /// Where it is from: `RUST_LOG` or the config.
        origin: &'static str,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// It was set up already.
    #[error("the log was set up before")]
    Again(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sets the writing up for the whole program. To be called once, by `main`.
///
/// # Errors
/// When the filter has mistakes, or on a second call.
pub fn init(options: &Options) -> Result<(), TelemetryError> {
    let filter = filter(options, std::env::var("RUST_LOG").ok().as_deref())?;
    let builder: SubscriberBuilder<DefaultFields, Format, EnvFilter, _> =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = match resolve(options.format, under_systemd()) {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Journal => builder.event_format(JournalLines).try_init(),
        LogFormat::Auto | LogFormat::Human => {
            let color = options.color && std::io::stderr().is_terminal();
            builder.compact().with_target(false).with_ansi(color).try_init()
        }
    };
    result.map_err(TelemetryError::Again)
}

fn resolve(format: LogFormat, under_systemd: bool) -> LogFormat {
    match format {
        LogFormat::Auto if under_systemd => LogFormat::Journal,
        LogFormat::Auto => LogFormat::Human,
        other => other,
    }
}

fn filter(options: &Options, rust_log: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let parse = |origin, text: &str| {
        EnvFilter::builder().parse(text).map_err(|source| TelemetryError::Filter { origin, source })
    };
    match (options.verbosity, rust_log, options.filter.as_deref()) {
        (0, Some(text), _) if !text.is_empty() => parse("RUST_LOG", text),
        (0, _, Some(text)) => parse("the config", text),
        (verbosity, ..) => parse("-v and -q", level(verbosity, options.base)),
    }
}

/// The filter of a verbosity. Other crates' debug output is for `-vvv` only, and so are the errors of the
/// clients of forges and of Kubernetes: each is told by us, with what was asked and what happens next. The latter
/// also shows answers that it cannot read, whatever is in them.
fn level(verbosity: i8, base: Base) -> &'static str {
    let base = match base {
        Base::Command => 0,
        Base::Daemon => 1,
    };
    match verbosity.saturating_add(base) {
        ..=-2 => "off",
        -1 => "error,octocrab=off,kube_client=off",
        0 => "warn,octocrab=off,kube_client=off",
        1 => "warn,trueup=info,octocrab=off,kube_client=off",
        2 => "info,trueup=debug,kube_client=off",
        3 => "debug,trueup=trace",
        4.. => "trace",
    }
}

/// Whether stderr goes to the systemd journal: `JOURNAL_STREAM` holds the device and inode of the
/// stream systemd connected (systemd.exec(5)); a redirected stderr is another one.
fn under_systemd() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr().as_fd())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_v_is_more_and_more_q_is_less() {
        assert_eq!(level(0, Base::Command), "warn,octocrab=off,kube_client=off");
        assert_eq!(level(0, Base::Daemon), "warn,trueup=info,octocrab=off,kube_client=off");
        assert_eq!(level(1, Base::Command), level(0, Base::Daemon));
        assert_eq!(level(-2, Base::Command), "off");
        assert_eq!(level(i8::MAX, Base::Daemon), "trace");
    }

    #[test]
    fn a_switch_goes_before_the_environment_and_that_before_the_config() {
        let options = Options { filter: Some("error".into()), ..Options::default() };
        let shown = |options: &Options, env| filter(options, env).unwrap().to_string();
        assert_eq!(shown(&options, None), "error");
        assert_eq!(shown(&options, Some("debug")), "debug");
        let verbose = Options { verbosity: 4, ..options };
        assert_eq!(shown(&verbose, Some("debug")), "trace");
    }

    #[test]
    fn a_wrong_filter_names_where_it_is_from() {
        let error = filter(&Options::default(), Some("trueup=loud")).unwrap_err();
        assert!(error.to_string().contains("RUST_LOG"));
    }

    #[test]
    fn auto_means_the_journal_only_under_systemd() {
        assert_eq!(resolve(LogFormat::Auto, true), LogFormat::Journal);
        assert_eq!(resolve(LogFormat::Auto, false), LogFormat::Human);
        assert_eq!(resolve(LogFormat::Json, true), LogFormat::Json);
    }
}
