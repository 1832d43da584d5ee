//! What goes into a build, checked and turned into arguments. Pure.

use std::ffi::OsString;
use std::path::Path;

use super::super::error::ImageError;
use super::Package;
use crate::model::resource::{BuildFile, BuildSpec, BuildUser};

/// The time all deterministic tools are told, in Unix seconds: 2024-01-01. Any constant will do.
pub(super) const EPOCH: u64 = 1_704_067_200;

/// The most files, users, packages and keys of one build; beyond it a package of one's own is the
/// better tool, and a limit keeps a spec from being a bomb.
const ITEMS_MAX: usize = 1000;

/// The most content of one file, in bytes, as it also goes into the log as a plan's input.
const FILE_MAX: usize = 1 << 20;

/// The longest user name, as `useradd(8)` has it.
const USER_NAME_MAX: usize = 32;

/// What every image needs to start, to have a network card set up and to grow its file system.
const BASE: [&str; 8] = [
    "systemd-sysv",
    "udev",
    "dbus",
    "netbase",
    "iproute2",
    "systemd-resolved",
    "e2fsprogs",
    // initramfs-tools compresses with it by default and is much slower without.
    "zstd",
];

/// Checks a spec before anything runs on it.
///
/// # Errors
/// [`ImageError::Input`] for the first thing that is wrong.
pub fn validate(spec: &BuildSpec) -> Result<(), ImageError> {
    check("suite", &spec.suite, is_word)?;
    check("kernel", &spec.kernel, is_package)?;
    if let Some(mirror) = &spec.mirror {
        check("mirror", mirror, is_mirror)?;
    }
    for component in &spec.components {
        check("component", component, is_word)?;
    }
    let counts = [spec.packages.len(), spec.files.len(), spec.users.len()];
    if counts.iter().any(|n| *n > ITEMS_MAX) {
        return Err(wrong(format!("more than {ITEMS_MAX} packages, files or users")));
    }
    for package in &spec.packages {
        check("package", package, is_package)?;
    }
    for (path, file) in &spec.files {
        check_file(path, file)?;
    }
    spec.users.iter().try_for_each(|(name, user)| check_user(name, user))
}

fn wrong(what: String) -> ImageError {
    ImageError::Input { what }
}

fn check(what: &str, value: &str, good: fn(&str) -> bool) -> Result<(), ImageError> {
    if good(value) {
        return Ok(());
    }
    Err(wrong(format!("`{}` is not a {what}", value.escape_debug())))
}

fn check_file(path: &str, file: &BuildFile) -> Result<(), ImageError> {
    check("path: absolute, without `.`, `..` or empty parts", path, is_path)?;
    if file.content.len() > FILE_MAX {
        return Err(wrong(format!("file `{path}` is larger than {FILE_MAX} bytes")));
    }
    if file.mode & !0o7777 != 0 {
        return Err(wrong(format!("file `{path}` has mode {:o}, beyond 7777", file.mode)));
    }
    Ok(())
}

fn check_user(name: &str, user: &BuildUser) -> Result<(), ImageError> {
    check("user name", name, is_user)?;
    if name == "root" {
        return Err(wrong("user `root` is there already and stays locked".to_owned()));
    }
    for group in &user.groups {
        check("group", group, is_user)?;
    }
    for key in &user.ssh_keys {
        // One key a line: a line feed would smuggle in another one, with options.
        check("SSH public key", key, |key| {
            !key.trim().is_empty() && !key.contains(['\n', '\r', '\0'])
        })?;
    }
    if user.ssh_keys.len() > ITEMS_MAX {
        return Err(wrong(format!("user `{name}` has more than {ITEMS_MAX} keys")));
    }
    Ok(())
}

/// A suite or component: `bookworm`, `non-free-firmware`.
fn is_word(text: &str) -> bool {
    starts_alphanumeric(text)
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-./".contains(&b))
        && !text.contains("..")
}

/// A package name (Debian Policy 5.6.7), optionally `=version`; no apt pattern, no `-` at its end,
/// which would mean removal.
fn is_package(text: &str) -> bool {
    let (name, version) = text.split_once('=').unwrap_or((text, "0"));
    let name_ok = starts_alphanumeric(name)
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
        && !name.ends_with(['-', '+']) | name.ends_with("++");
    let version_ok = !version.is_empty()
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.:~".contains(&b));
    name_ok && version_ok
}

/// A URL without blanks: mmdebstrap reads other forms as files and as whole sources lines.
fn is_mirror(text: &str) -> bool {
    let rest =
        ["http://", "https://", "file:///"].iter().find_map(|scheme| text.strip_prefix(scheme));
    rest.is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\'')
    })
}

fn is_path(text: &str) -> bool {
    text.len() > 1
        && text.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
        })
}

fn is_user(text: &str) -> bool {
    (1..=USER_NAME_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

fn starts_alphanumeric(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
}

/// Every package asked for, in a stable order and once each.
fn packages(spec: &BuildSpec) -> Vec<&str> {
    let mut all = vec![spec.kernel.as_str()];
    all.extend(BASE);
    if spec.cloud_init {
        // With python3-minimal it would be without modules that cloud-init loads at run time.
        all.extend(["cloud-init", "python3"]);
    }
    if spec.users.values().any(|user| user.sudo) {
        all.push("sudo");
    }
    if spec.users.values().any(|user| !user.ssh_keys.is_empty()) {
        all.push("openssh-server");
    }
    all.extend(spec.packages.iter().map(String::as_str));
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|package| seen.insert(*package));
    all
}

/// mmdebstrap's arguments.
pub(super) fn mmdebstrap_args(spec: &BuildSpec, apt: &[String], root: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> = [
        "--mode=root",
        // apt's and dpkg's own words belong in the build's log.
        "--verbose",
        "--variant=minbase",
        "--format=directory",
        "--aptopt=APT::Install-Recommends \"false\"",
        "--aptopt=Acquire::Retries \"3\"",
        // Manuals are a third of a small image, and nobody reads them there; licences stay.
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/info/*",
    ]
    .map(OsString::from)
    .to_vec();
    args.extend(apt.iter().map(|setting| format!("--aptopt={setting}").into()));
    if !spec.components.is_empty() {
        args.push(format!("--components={}", spec.components.join(",")).into());
    }
    args.push(format!("--include={}", packages(spec).join(",")).into());
    args.push("--".into());
    args.push((&spec.suite).into());
    args.push(root.into());
    args.extend(spec.mirror.iter().map(OsString::from));
    args
}

/// The settings of the host's own apt that a build needs to reach the archive as the host does:
/// proxies, and whether the archive's dates are checked (not where the clock or a snapshot is off).
pub(super) fn apt_settings(dump: &str) -> Vec<String> {
    const WANTED: [&str; 4] = [
        "Acquire::Check-Valid-Until ",
        "Acquire::Check-Date ",
        "Acquire::http::Proxy",
        "Acquire::https::Proxy",
    ];
    dump.lines()
        .filter(|line| WANTED.iter().any(|wanted| line.starts_with(wanted)))
        .filter(|line| !line.ends_with("\"\";"))
        .map(|line| line.trim_end_matches(';').to_owned())
        .collect()
}

/// Reads `dpkg-query`'s three columns; sorted by name.
pub(super) fn parse_packages(text: &str) -> Vec<Package> {
    let mut packages: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('\t').map(str::to_owned);
            Some(Package { name: fields.next()?, version: fields.next()?, arch: fields.next()? })
        })
        .collect();
    packages.sort();
    packages
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
