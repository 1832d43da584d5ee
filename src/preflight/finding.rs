//! What a check found.

use serde::Serialize;

use super::catalogue::{Area, Check};

/// How bad it is; the worst of all decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know; nothing has to be done.
    Note,
    /// It works, but slower, or only in part, or not for long.
    Warning,
    /// What trueup is for cannot work here before this is mended.
    Error,
}

impl Severity {
    /// As it is printed.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What a check found of one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check.
    pub id: Check,
    /// How bad it is.
    pub severity: Severity,
    /// What part of trueup's work it is about.
    pub area: Area,
    /// What it is about: `host`, a PCI address, a program.
    pub subject: String,
    /// What was read.
    pub read: String,
    /// From where.
    pub source: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do: a command or a setting. None where nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    pub(super) fn new(
        id: Check,
        severity: Severity,
        subject: impl Into<String>,
        read: impl Into<String>,
    ) -> Self {
        let (about, subject) = (id.about(), subject.into());
        let source = about.reads.replace("BDF", &subject);
        let remedy = (severity > Severity::Ok).then(|| about.remedy.replace("BDF", &subject));
        let remedy = remedy.filter(|text| !text.is_empty());
        let (area, why) = (about.area, about.why);
        Self { id, severity, area, subject, read: read.into(), source, why, remedy }
    }

    pub(super) fn ok(id: Check, subject: impl Into<String>, read: impl Into<String>) -> Self {
        Self::new(id, Severity::Ok, subject, read)
    }

    pub(super) fn note(id: Check, subject: impl Into<String>, read: impl Into<String>) -> Self {
        Self::new(id, Severity::Note, subject, read)
    }

    pub(super) fn warning(id: Check, subject: impl Into<String>, read: impl Into<String>) -> Self {
        Self::new(id, Severity::Warning, subject, read)
    }

    pub(super) fn error(id: Check, subject: impl Into<String>, read: impl Into<String>) -> Self {
        Self::new(id, Severity::Error, subject, read)
    }

    /// The same, with a remedy that fits better than the general one.
    #[must_use]
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same, read from somewhere more exactly known.
    #[must_use]
    pub(super) fn from(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }
}
