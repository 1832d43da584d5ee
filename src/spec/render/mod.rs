//! Looks of diagnostics: text for people, JSON, SARIF and GitHub annotations for machines.
//!
//! Pure: the source texts for snippets are handed in.
