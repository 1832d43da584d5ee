//! Finding, reading and checking the config file.
//!
//! The only place that reads the environment for settings.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_saphyr::Error as YamlError;

use super::error::ConfigError;
use super::settings::{Config, PARALLELISM_MAX};

/// Where the config is looked for when nothing else is said.
pub const CONFIG_PATH: &str = "/etc/trueup/config.yaml";
/// Largest config file in bytes: a full one with every comment has 4 KiB.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// Farthest a field's name may be from a known one to be offered instead of it.
const TYPO_DISTANCE_MAX: usize = 3;

/// Who named the config file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `--config` or `TRUEUP_CONFIG`.
    Asked,
    /// Nobody: [`CONFIG_PATH`].
    Default,
}

/// A config and the file it is from.
#[derive(Debug, Clone)]
pub struct Found {
    /// The settings.
    pub config: Config,
    /// The file.
    pub path: PathBuf,
    /// Who named it.
    pub source: Source,
}

/// Reads the config from `asked`, else from [`CONFIG_PATH`].
///
/// # Errors
/// A [`ConfigError`] with the place.
pub fn load(asked: Option<&Path>) -> Result<Found, ConfigError> {
    let source = if asked.is_some() { Source::Asked } else { Source::Default };
    let path = asked.unwrap_or(Path::new(CONFIG_PATH)).to_owned();
    let text = read(&path)?;
    let config = parse(&path, &text)?;
    Ok(Found { config, path, source })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let wrap = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => ConfigError::Missing { path: path.to_owned() },
        _ => wrap(source),
    })?;
    let mut text = String::new();
    let read = file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(wrap)?;
    if read as u64 > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned(), limit: CONFIG_BYTES_MAX });
    }
    Ok(text)
}

/// Reads a config from its text; `path` is for the messages.
///
/// # Errors
/// [`ConfigError::Text`] or [`ConfigError::Value`].
pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        reject_unsupported_tags: true,
        merge_keys: serde_saphyr::MergeKeyPolicy::Error,
        with_snippet: false,
    };
    let config: Config = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| explain(path, error.without_snippet()))?;
    check(path, &config)?;
    Ok(config)
}

fn explain(path: &Path, error: &YamlError) -> ConfigError {
    let (line, column) =
        error.location().map_or((0, 0), |location| (location.line(), location.column()));
    let (message, hint) = match error {
        YamlError::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown field `{field}`"), Some(did_you_mean(field, expected)))
        }
        YamlError::Eof { .. } => (
            "the file ends before it says anything".to_owned(),
            Some("write at least `repository: { url: … }`".to_owned()),
        ),
        other => (first_line(&other.render()), None),
    };
    ConfigError::Text { path: path.to_owned(), line, column, message, hint }
}

/// The parser's message without its place, which stands in front already.
fn first_line(rendered: &str) -> String {
    let line = rendered.lines().next().unwrap_or_default();
    let cut = line.find(" at line ").unwrap_or(line.len());
    let text = line[..cut].trim_end_matches(':');
    text.strip_prefix("error: ").unwrap_or(text).to_owned()
}

fn did_you_mean(field: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(field, name), name))
        .min()
        .filter(|(distance, _)| *distance <= TYPO_DISTANCE_MAX);
    match nearest {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

fn check(path: &Path, config: &Config) -> Result<(), ConfigError> {
    let refuse = |field, message: &str| {
        Err(ConfigError::Value { path: path.to_owned(), field, message: message.to_owned() })
    };
    let repository = &config.repository;
    if repository.url.trim().is_empty() {
        return refuse("repository.url", "is empty: write a path or a URL");
    }
    match userinfo(&repository.url) {
        Some((_, user)) if user.contains(':') => {
            let message =
                "carries a password: put it into a file and name that in repository.credentials";
            return refuse("repository.url", message);
        }
        // Forges take a token in place of a user, so that a user may be one.
        Some(("http" | "https", _)) => {
            let message = "carries a user or a token: put a token into a file and name that in \
                           repository.credentials.tokenFile, a user into \
                           repository.credentials.username";
            return refuse("repository.url", message);
        }
        Some(_) | None => {}
    }
    if relative_place(&repository.url) {
        let message =
            "is a relative path: the daemon has no folder to start from; write it from `/`";
        return refuse("repository.url", message);
    }
    if repository.branch.is_empty() {
        return refuse("repository.branch", "is empty: write the name of the branch to follow");
    }
    if repository.credentials.forms() > 1 {
        let message = "give one of tokenFile, credential and helper, not several";
        return refuse("repository.credentials", message);
    }
    let signatures = &repository.signatures;
    if signatures.required && signatures.ssh.is_none() && signatures.openpgp.is_none() {
        let message = "is set, but no keys are named: give ssh.allowedSigners or openpgp.keyring";
        return refuse("repository.signatures.required", message);
    }
    if !(1..=PARALLELISM_MAX).contains(&config.limits.parallelism) {
        return refuse("limits.parallelism", &format!("must be 1 to {PARALLELISM_MAX}"));
    }
    if let Some((field, message)) = config.forge.as_ref().and_then(|forge| forge.fault()) {
        return refuse(field, message);
    }
    if let Some((field, _)) = config.relative_paths().first() {
        return refuse(field, "must be an absolute path");
    }
    Ok(())
}

/// Whether a repository is named by a path that depends on where the daemon was started. A colon
/// before the first slash makes `host:path`, which is ssh.
fn relative_place(url: &str) -> bool {
    let first = url.split('/').next().unwrap_or_default();
    !url.starts_with('/') && !first.contains(':')
}

/// The scheme of a URL, and what stands before an `@` in it.
fn userinfo(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (user, _) = rest.split('/').next()?.rsplit_once('@')?;
    Some((scheme, user))
}

/// The first of the directories systemd names in `variable`; it separates several with colons.
pub(super) fn first_directory(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable)?;
    std::env::split_paths(&value).find(|path| path.is_absolute())
}

/// The JSON Schema of the config.
#[must_use]
pub fn schema() -> serde_json::Value {
    let generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    schema["title"] = "trueup config".into();
    schema
}
