//! OpenSSH's `allowed_signers` file: principals, options, key (`man ssh-keygen`).
//!
//! A line that cannot be understood makes the whole file unusable: skipping one could turn a
//! restriction into none.

use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::PublicKey;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {why}", .path.display(), .line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct BadSigners {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, where one is to blame.
    pub line: Option<usize>,
    /// What is wrong.
    pub why: String,
}

/// One line of the file.
#[derive(Debug, Clone)]
pub struct AllowedSigner {
    /// Patterns of addresses, as written.
    pub principals: String,
    /// Namespaces the key is good for; none means all.
    namespaces: Option<String>,
    /// Seconds since 1970 from which it is valid.
    pub(super) valid_after: Option<i64>,
    /// Seconds since 1970 until which it is valid.
    pub(super) valid_before: Option<i64>,
    /// The key.
    pub(super) key: PublicKey,
}

/// The file's lines.
#[derive(Debug, Clone, Default)]
pub struct AllowedSigners {
    pub(super) path: PathBuf,
    signers: Vec<AllowedSigner>,
}

impl AllowedSigners {
    /// Reads the file.
    ///
    /// # Errors
    /// [`BadSigners`] naming the line.
    pub fn read(path: &Path) -> Result<Self, BadSigners> {
        let text = std::fs::read_to_string(path).map_err(|error| BadSigners {
            path: path.to_path_buf(),
            line: None,
            why: error.to_string(),
        })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, BadSigners> {
        let mut signers = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            signers.push(signer(line).map_err(|why| BadSigners {
                path: path.to_path_buf(),
                line: Some(number + 1),
                why,
            })?);
        }
        Ok(Self { path: path.to_path_buf(), signers })
    }

    /// The lines that list this key.
    pub(super) fn of<'a>(&'a self, key: &'a ssh_key::public::KeyData) -> Vec<&'a AllowedSigner> {
        self.signers.iter().filter(|signer| signer.key.key_data() == key).collect()
    }
}

impl AllowedSigner {
    /// Whether the key may sign in this namespace.
    pub(super) fn covers(&self, namespace: &str) -> bool {
        self.namespaces.as_deref().is_none_or(|patterns| matches_list(patterns, namespace))
    }

    /// Whether one of the principals is this address.
    pub(super) fn is(&self, address: &str) -> bool {
        matches_list(&self.principals, address)
    }

    /// Why the key is not valid at this time, if it is not.
    pub(super) fn invalid_at(&self, seconds: i64) -> Option<String> {
        let day = |seconds: i64| {
            jiff::Timestamp::from_second(seconds)
                .map_or_else(|_| seconds.to_string(), |t| t.to_string())
        };
        if let Some(after) = self.valid_after.filter(|after| seconds < *after) {
            return Some(format!("it is valid only from {}", day(after)));
        }
        let before = self.valid_before.filter(|before| seconds > *before)?;
        Some(format!("it was valid only until {}", day(before)))
    }
}

fn signer(line: &str) -> Result<AllowedSigner, String> {
    let (principals, rest) = word(line)?;
    let mut found = AllowedSigner {
        principals,
        namespaces: None,
        valid_after: None,
        valid_before: None,
        // Replaced below; the struct has no other way to be half made.
        key: placeholder(rest)?,
    };
    let (options, _) = split_options(rest)?;
    for option in split_commas(&options) {
        let (name, value) = option.split_once('=').unwrap_or((option.as_str(), ""));
        let value = value.trim_matches('"');
        match name.to_ascii_lowercase().as_str() {
            "" => {}
            "namespaces" => found.namespaces = Some(value.to_owned()),
            "valid-after" => found.valid_after = Some(moment(value)?),
            "valid-before" => found.valid_before = Some(moment(value)?),
            "cert-authority" => return Err("cert-authority is not supported; list the keys".into()),
            other => return Err(format!("{other:?} is not an option of allowed_signers")),
        }
    }
    Ok(found)
}

fn placeholder(rest: &str) -> Result<PublicKey, String> {
    let (_, key) = split_options(rest)?;
    let mut parts = key.split_whitespace();
    let (Some(kind), Some(data)) = (parts.next(), parts.next()) else {
        return Err("there is no key on this line".to_owned());
    };
    PublicKey::from_openssh(&format!("{kind} {data}")).map_err(|error| format!("bad key: {error}"))
}

/// The options (possibly none) and the rest that starts with the key type.
fn split_options(rest: &str) -> Result<(String, &str), String> {
    let (first, _) = word(rest)?;
    let is_key = ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| first.starts_with(prefix));
    if is_key {
        return Ok((String::new(), rest));
    }
    let end = raw_word_end(rest)?;
    let (options, key) = rest.split_at(end);
    Ok((options.to_owned(), key.trim_start()))
}

/// The first word, which may be in quotes, and what follows it.
fn word(text: &str) -> Result<(String, &str), String> {
    let end = raw_word_end(text)?;
    let (word, rest) = text.split_at(end);
    Ok((word.trim_matches('"').to_owned(), rest.trim_start()))
}

/// Where the first word ends; blanks in quotes do not end it.
fn raw_word_end(text: &str) -> Result<usize, String> {
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => return Ok(at),
            _ => {}
        }
    }
    if quoted { Err("a quote is not closed".to_owned()) } else { Ok(text.len()) }
}

fn split_commas(options: &str) -> Vec<String> {
    let mut quoted = false;
    let mut all = vec![String::new()];
    for c in options.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(String::new()),
            c => {
                if let Some(last) = all.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    all
}

/// `YYYYMMDD[HHMM[SS]][Z]`: in UTC with the `Z`, else in the machine's own time.
fn moment(text: &str) -> Result<i64, String> {
    let bad = || format!("{text:?} is not a time as YYYYMMDD[HHMM[SS]][Z]");
    let (digits, zone) = match text.strip_suffix('Z') {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    if !digits.chars().all(|c| c.is_ascii_digit()) || ![8, 12, 14].contains(&digits.len()) {
        return Err(bad());
    }
    let field = |from: usize, to: usize| -> Result<i8, String> {
        digits.get(from..to).unwrap_or("0").parse().map_err(|_| bad())
    };
    let year: i16 = digits.get(..4).unwrap_or_default().parse().map_err(|_| bad())?;
    let (hour, minute, second) = (field(8, 10)?, field(10, 12)?, field(12, 14)?);
    let time = DateTime::new(year, field(4, 6)?, field(6, 8)?, hour, minute, second, 0);
    let zoned = time.map_err(|_| bad())?.to_zoned(zone).map_err(|_| bad())?;
    Ok(zoned.timestamp().as_second())
}

/// OpenSSH's pattern lists: comma separated, `*` and `?`, and `!` to exclude whatever else says.
fn matches_list(patterns: &str, text: &str) -> bool {
    let mut found = false;
    for pattern in patterns.split(',').map(str::trim) {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern.as_bytes(), text.as_bytes()) => return false,
            Some(_) => {}
            None => found |= matches(pattern.as_bytes(), text.as_bytes()),
        }
    }
    found
}

/// `*` for any run, `?` for any one byte. Linear: only the last star is ever gone back to.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || Some(c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example key of ssh-keygen's manual style: any well-formed Ed25519 key does.
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn parse(text: &str) -> Result<AllowedSigners, BadSigners> {
        AllowedSigners::parse(Path::new("signers"), text)
    }

    fn one(text: &str) -> AllowedSigner {
        parse(text).unwrap().signers.remove(0)
    }

    #[test]
    fn the_parts_of_a_line_are_read() {
        let line = format!(
            "# people\n\n\"ann@example.org,*@ops.example.org\" \
             namespaces=\"git,file\",valid-after=\"20250101Z\",valid-before=\"202601011200Z\" {KEY} laptop\n"
        );
        let signer = one(&line);
        assert!(signer.is("ann@example.org") && signer.is("x@ops.example.org"));
        assert!(!signer.is("bob@example.org"));
        assert!(signer.covers("git") && !signer.covers("email"));
        assert_eq!(signer.valid_after, Some(1_735_689_600));
        assert!(signer.invalid_at(1_735_689_599).unwrap().contains("from 2025-01-01"));
        assert!(signer.invalid_at(1_735_689_600).is_none());
        assert!(signer.invalid_at(1_767_268_801).unwrap().contains("until 2026-01-01T12"));
    }

    #[test]
    fn a_bare_line_covers_everything() {
        let signer = one(&format!("ann@example.org {KEY}"));
        assert!(signer.covers("git"));
        assert!(signer.invalid_at(0).is_none());
    }

    #[test]
    fn a_bad_line_makes_the_file_unusable_and_is_named() {
        for (bad, word) in [
            (format!("ann cert-authority {KEY}"), "cert-authority"),
            (format!("ann valid-after=\"soon\" {KEY}"), "YYYYMMDD"),
            (format!("ann no-such-thing {KEY}"), "no-such-thing"),
            ("ann".to_owned(), "no key"),
            ("ann ssh-ed25519 AAAA".to_owned(), "bad key"),
            (format!("\"ann {KEY}"), "quote"),
        ] {
            let error = parse(&format!("bob {KEY}\n{bad}\n")).unwrap_err().to_string();
            assert!(error.starts_with("signers:2:") && error.contains(word), "{error}");
        }
    }

    #[test]
    fn patterns_follow_openssh() {
        assert!(matches_list("*@a.org,!root@a.org", "ann@a.org"));
        assert!(!matches_list("*@a.org,!root@a.org", "root@a.org"));
        assert!(!matches_list("!root@a.org", "ann@a.org"), "an exclusion alone matches nothing");
        assert!(matches_list("a?c", "abc") && !matches_list("a?c", "ac"));
        assert!(matches_list("*a*b*", "xxaxxbxx") && !matches_list("*a*b", "ab1"));
        let long = "a".repeat(20_000);
        assert!(!matches_list(&"*a".repeat(20), &format!("{long}b")));
    }
}
