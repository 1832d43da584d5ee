//! OpenPGP signatures, checked by Debian's `gpgv` against a keyring of the daemon's own.
//!
//! Only its machine-readable status lines are believed (GnuPG, doc/DETAILS), and only when they
//! say exactly one good thing and nothing bad. It never looks at the user's own keyring.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::{BadSigners, SignatureRejection, Signed, Verified};
use crate::source::error::{chain, scrub};
use crate::source::history::plain;
use crate::source::mirror::TEMP_PREFIX;
use crate::source::process;

/// `gpgv` takes some hundredths of a second; a machine under load a few.
const GPGV_LIMIT: Duration = Duration::from_secs(30);

pub(super) fn verify(signed: &Signed<'_>, temp: &Path) -> Result<Verified, SignatureRejection> {
    let commit = signed.commit;
    let Some(keyring) = &signed.policy.openpgp_keyring else {
        let why = "the daemon's config names no OpenPGP keyring".to_owned();
        return Err(SignatureRejection::NotAccepted { commit, what: "OpenPGP", why });
    };
    // gpgv looks for a name without a slash in a home directory, and says "no key" for no file.
    let keyring = std::fs::canonicalize(keyring).map_err(|error| {
        let (path, why) = (keyring.clone(), error.to_string());
        SignatureRejection::Signers(BadSigners { path, line: None, why })
    })?;
    let said =
        gpgv(signed, &keyring, temp).map_err(|why| SignatureRejection::Checker { commit, why })?;
    judge(signed, &keyring, &said)
}

fn gpgv(signed: &Signed<'_>, keyring: &Path, temp: &Path) -> Result<process::Output, String> {
    let home = tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        .tempdir_in(temp)
        .map_err(|error| chain(&error))?;
    let mut file =
        tempfile::Builder::new().tempfile_in(home.path()).map_err(|error| chain(&error))?;
    file.write_all(signed.signature.as_bytes()).map_err(|error| chain(&error))?;
    file.flush().map_err(|error| chain(&error))?;
    let args = [
        OsStr::new("--homedir"),
        home.path().as_os_str(),
        OsStr::new("--status-fd"),
        OsStr::new("1"),
        OsStr::new("--weak-digest"),
        OsStr::new("SHA1"),
        OsStr::new("--keyring"),
        keyring.as_os_str(),
        OsStr::new("--"),
        file.path().as_os_str(),
        OsStr::new("-"),
    ];
    let env = [("LC_ALL", OsStr::new("C"))];
    process::run("gpgv", &args, &env, signed.payload.to_vec(), GPGV_LIMIT)
        .map_err(|error| format!("{error}; install gpgv or accept SSH signatures only"))
}

/// What the status lines add up to.
fn judge(
    signed: &Signed<'_>,
    keyring: &Path,
    said: &process::Output,
) -> Result<Verified, SignatureRejection> {
    let commit = signed.commit;
    let text = String::from_utf8_lossy(&said.stdout);
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("[GNUPG:] "))
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .collect();
    let all = |keyword: &str| {
        lines.iter().filter(|(k, _)| *k == keyword).map(|(_, rest)| *rest).collect::<Vec<_>>()
    };
    let first = |keyword: &str| all(keyword).first().map(|rest| (*rest).to_owned());
    if first("BADSIG").is_some() {
        return Err(SignatureRejection::Tampered { commit });
    }
    for (keyword, why) in [
        ("EXPSIG", "the signature has expired"),
        ("EXPKEYSIG", "the key has expired"),
        ("REVKEYSIG", "the key was revoked"),
    ] {
        if let Some(rest) = first(keyword) {
            let (key, signer) = rest.split_once(' ').unwrap_or((&rest, ""));
            return Err(SignatureRejection::Expired {
                commit,
                signer: plain(signer, 200),
                key: key.to_owned(),
                why: why.to_owned(),
            });
        }
    }
    if let Some(key) = first("NO_PUBKEY") {
        let file = keyring.display().to_string();
        return Err(SignatureRejection::UnknownKey { commit, key, file });
    }
    let (good, valid) = (all("GOODSIG"), all("VALIDSIG"));
    let bad = !all("ERRSIG").is_empty() || !all("NODATA").is_empty() || !said.status.success();
    let ([good], [valid], false) = (good.as_slice(), valid.as_slice(), bad) else {
        let why = scrub(&String::from_utf8_lossy(&said.stderr), &[]);
        return Err(SignatureRejection::Malformed { commit, why });
    };
    let signer = plain(good.split_once(' ').map_or(good, |(_, user)| user), 200);
    // The last field is the primary key's fingerprint, the first that of the signing subkey.
    let key = valid.split(' ').next_back().unwrap_or_default().to_owned();
    let committer = &signed.committer.email;
    if signed.policy.match_committer && address(&signer) != Some(committer.as_str()) {
        let committer = committer.clone();
        return Err(SignatureRejection::OtherCommitter { commit, signer, committer });
    }
    Ok(Verified { signer, key })
}

/// The address in `Name (comment) <address>`; without brackets the user id itself.
fn address(user: &str) -> Option<&str> {
    match user.rsplit_once('<') {
        Some((_, rest)) => rest.strip_suffix('>'),
        None => Some(user),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_in_the_last_brackets() {
        assert_eq!(address("Ann (a <b>) <ann@example.org>"), Some("ann@example.org"));
        assert_eq!(address("ann@example.org"), Some("ann@example.org"));
        assert_eq!(address("Ann <ann@example.org"), None);
    }
}
