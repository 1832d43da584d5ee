//! The only place that prints: the product on stdout, the talk on stderr.
//!
//! It never prints a control character that came from elsewhere, never colours what is not a
//! terminal, and is quiet when nobody reads any more.

use std::io::{self, IsTerminal as _, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::exit::{CliError, ErrorKind};
use super::paint::{self, Block};

/// The form of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document; for `log` one object a line.
    Json,
    /// One YAML document.
    Yaml,
    /// For a comment or a page.
    Markdown,
}

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    /// Whether to colour a stream that is, or is not, a terminal.
    #[must_use]
    pub fn on(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        }
    }
}

/// Something a command says: as data, and as blocks for people.
pub trait Product: Serialize {
    /// How people see it.
    fn blocks(&self) -> Vec<Block>;
}

/// The two streams.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    format: Format,
    color_out: bool,
    color_err: bool,
    talk: bool,
}

impl Ui {
    /// The streams of this process. `talk`: whether to say more than errors on stderr.
    #[must_use]
    pub fn new(format: Format, color: ColorChoice, talk: bool) -> Self {
        let color_out = color.on(io::stdout().is_terminal());
        let color_err = color.on(io::stderr().is_terminal());
        Self { format, color_out, color_err, talk }
    }

    /// The form asked for.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether stdout is coloured.
    #[must_use]
    pub fn color(&self) -> bool {
        self.color_out
    }

    /// Whether progress may be drawn on stderr.
    #[must_use]
    pub fn progress(&self) -> bool {
        self.talk && io::stderr().is_terminal()
    }

    /// Prints a product in the form asked for.
    ///
    /// # Errors
    /// When stdout cannot be written; a closed pipe is no error.
    pub fn product(&self, product: &impl Product) -> Result<(), CliError> {
        let text = match self.format {
            Format::Table => paint::text(&product.blocks(), self.color_out),
            Format::Markdown => paint::markdown(&product.blocks()),
            Format::Json => json(product)?,
            Format::Yaml => yaml(product)?,
        };
        self.raw(&text)
    }

    /// Prints data that has no form for people, as JSON where nothing else is asked for.
    ///
    /// # Errors
    /// As [`Ui::product`].
    pub fn data(&self, data: &impl Serialize) -> Result<(), CliError> {
        self.raw(&match self.format {
            Format::Yaml => yaml(data)?,
            Format::Table | Format::Json | Format::Markdown => json(data)?,
        })
    }

    /// Prints text as it is, which must be safe for a terminal.
    ///
    /// # Errors
    /// As [`Ui::product`].
    pub fn raw(&self, text: &str) -> Result<(), CliError> {
        match write(&mut io::stdout().lock(), text) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(CliError::machine(error).hint("stdout could not be written"))
            }
            _ => Ok(()),
        }
    }

    /// Prints one line as it is; `false` when nobody reads any more.
    ///
    /// # Errors
    /// As [`Ui::product`].
    pub fn line(&self, text: &str) -> Result<bool, CliError> {
        match write(&mut io::stdout().lock(), &format!("{text}\n")) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(CliError::machine(error)),
        }
    }

    /// Says something about the work on stderr.
    pub fn say(&self, text: &str) {
        if self.talk {
            self.err(&format!("{}\n", paint::clean(text)));
        }
    }

    /// Says that something is not as it should be.
    pub fn warn(&self, text: &str) {
        let label = paint::label("warning:", paint::Label::Warn, self.color_err);
        self.err(&format!("{label} {}\n", paint::clean(text)));
    }

    /// Prints an error, what is below it, and what to do.
    pub fn error(&self, error: &CliError) {
        let mut layers = error.chain().into_iter();
        let label = paint::label("error:", paint::Label::Bad, self.color_err);
        let mut text = format!("{label} {}\n", paint::clean(&layers.next().unwrap_or_default()));
        for layer in layers {
            text.push_str(&format!("  because: {}\n", paint::clean(&layer)));
        }
        let hint = paint::label("hint:", paint::Label::Strong, self.color_err);
        for line in &error.hints {
            text.push_str(&format!("{hint} {}\n", paint::clean(line)));
        }
        if error.kind == ErrorKind::Bug {
            text.push_str(&format!("{hint} this is a bug of trueup: please report it\n"));
        }
        self.err(&text);
    }

    fn err(&self, text: &str) {
        // There is nowhere left to say that stderr is gone.
        if let Err(error) = write(&mut io::stderr().lock(), text) {
            tracing::debug!(%error, "stderr could not be written");
        }
    }
}

fn write(stream: &mut impl Write, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

fn json(data: &impl Serialize) -> Result<String, CliError> {
    let text = serde_json::to_string_pretty(data);
    Ok(text.map_err(|error| CliError::new(ErrorKind::Bug, error))? + "\n")
}

pub(super) fn yaml(data: &impl Serialize) -> Result<String, CliError> {
    // By way of JSON, so that both hold the same.
    let value = serde_json::to_value(data).map_err(|error| CliError::new(ErrorKind::Bug, error))?;
    serde_saphyr::to_string(&value).map_err(|error| CliError::new(ErrorKind::Bug, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_follows_the_switch_and_the_terminal() {
        assert!(ColorChoice::Always.on(false));
        assert!(!ColorChoice::Never.on(true));
        assert!(!ColorChoice::Auto.on(false));
    }

    #[test]
    fn yaml_and_json_hold_the_same() {
        let data = serde_json::json!({"a": "no", "b": [1, 2], "c": {"d": null}});
        let back: serde_json::Value = serde_saphyr::from_str(&yaml(&data).unwrap()).unwrap();
        assert_eq!(back, data);
    }
}
