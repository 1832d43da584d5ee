//! The rules that come with trueup, inside the program: they cannot be missing on a host.

use super::rules::RuleFile;

/// Folder that the shipped rules are shown under; no path of a repository starts like it.
pub const SHIPPED_FOLDER: &str = "trueup:policies/";

macro_rules! shipped_files {
    ($($name:literal),+ $(,)?) => {
        &[$(
            (concat!("trueup:policies/", $name, ".rego"),
             include_str!(concat!("../../policies/", $name, ".rego"))),
            (concat!("trueup:policies/", $name, "_test.rego"),
             include_str!(concat!("../../policies/", $name, "_test.rego"))),
        )+]
    };
}

const FILES: &[(&str, &str)] = shipped_files![
    "backups",
    "bridges",
    "gpus",
    "images",
    "labels",
    "overcommit",
    "quotas",
    "secrets",
];

/// The shipped rules and their tests.
pub fn shipped() -> Vec<RuleFile> {
    FILES.iter().map(|(path, text)| RuleFile::new(*path, *text)).collect()
}
