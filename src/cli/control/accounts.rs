//! Names of users and groups, from the machine's own files.
//!
//! It never asks a directory service: an unknown id is shown as a number.

use std::path::Path;

/// Largest account file read, in bytes.
const ACCOUNTS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Who an operator is, as the log has it: `operator:ann`, or `operator:uid-1000`.
pub(super) fn operator(uid: u32) -> String {
    match user_name(&read(Path::new("/etc/passwd")), uid) {
        Some(name) => format!("operator:{name}"),
        None => format!("operator:uid-{uid}"),
    }
}

/// The number of a group.
pub(super) fn group(name: &str) -> Option<u32> {
    group_id(&read(Path::new("/etc/group")), name)
}

fn read(path: &Path) -> String {
    let small = std::fs::metadata(path).is_ok_and(|meta| meta.len() <= ACCOUNTS_BYTES_MAX);
    if !small {
        return String::new();
    }
    std::fs::read_to_string(path).unwrap_or_else(|error| {
        tracing::warn!(%error, path = %path.display(), "no names for users and groups");
        String::new()
    })
}

/// passwd(5): `name:password:uid:…`.
fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid) && !name.is_empty()).then_some(name)
    })
}

/// group(5): `name:password:gid:…`.
fn group_id(group: &str, name: &str) -> Option<u32> {
    group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_files() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000), Some("ann"));
        assert_eq!(user_name(passwd, 7), None);
        assert_eq!(group_id("root:x:0:\ntrueup:x:998:ann\n", "trueup"), Some(998));
        assert_eq!(group_id("trueup-x:x:1:\n", "trueup"), None);
    }
}
