//! `Image` to its canonical form, content-addressed.

use std::collections::BTreeMap;

use super::super::kinds::ImageSpec;
use super::super::kinds::image::{BootCheck, BuildDoc, FileDoc, UserDoc};
use super::super::scalar;
use super::super::yaml::push_token;
use super::Cx;
use crate::model::resource::{BootFiles, BuildFile, BuildSpec, BuildUser, Image, ImageOrigin};
use crate::model::{Digest, digest_of};

/// What the serial console shows when a Debian system is up.
const LOGIN_PROMPT: &str = "login:";

/// Longest URL of an image, bytes: what servers and proxies take at the least (RFC 9110, 4.1, asks for
/// 8,000), and four times the longest signed link of an object store.
const URL_MAX: usize = 8000;

pub(super) fn resolve(cx: &mut Cx<'_>, spec: &ImageSpec) -> Option<Image> {
    let pool = cx.pool("/spec/pool", spec.pool.as_deref());
    let size = match &spec.size {
        None => Some(None),
        Some(text) => cx.check("/spec/size", scalar::size(&text.0)).map(Some),
    };
    let origin = match (&spec.source, &spec.build) {
        (Some(source), None) => fetch(cx, source, spec.sha256.as_deref()),
        (None, Some(build)) => {
            if spec.sha256.is_some() {
                cx.err(
                    "spec/conflict",
                    "/spec/sha256",
                    "`sha256` belongs to `source`, not to `build`",
                )
                .hint("remove it: a build is addressed by its inputs");
            }
            build_spec(cx, build).map(|b| ImageOrigin::Build(Box::new(b)))
        }
        (Some(_), Some(_)) => {
            cx.err(
                "spec/conflict",
                "/spec/build",
                "an image has a `source` or a `build`, not both",
            )
            .hint("remove one of them");
            None
        }
        (None, None) => {
            cx.err("spec/missing-field", "/spec", "an image needs a `source` or a `build`");
            None
        }
    };
    let (pool, size, origin) = (pool?, size?, origin?);
    let content = match &origin {
        ImageOrigin::Fetch { sha256, .. } => digest_of(&(sha256, spec.format, size)),
        ImageOrigin::Build(build) => digest_of(&(build.inputs_digest(), spec.format, size)),
    };
    let stem = format!("{}/image-{}-{}", pool.path, cx.settings.file_name(&cx.id), content.short());
    let boot_files = matches!(origin, ImageOrigin::Build(_))
        .then(|| BootFiles { kernel: format!("{stem}.vmlinuz"), initrd: format!("{stem}.initrd") });
    Some(Image {
        pool: pool.name,
        path: format!("{stem}.{}", spec.format.as_str()),
        content,
        format: spec.format,
        size,
        boot_files,
        origin: Some(origin),
    })
}

fn fetch(cx: &mut Cx<'_>, source: &str, sha256: Option<&str>) -> Option<ImageOrigin> {
    let url = source.starts_with("https://") || source.starts_with("http://");
    let plain = if url && has_userinfo(source) {
        // Plans, events and errors name the source: what stands in it is read by many.
        Err("the URL carries a user or a password, and everyone who sees a plan would see it; \
             serve the image without a login, its sha256 is what it is trusted for"
            .to_owned())
    } else if url {
        let good = source.len() > "https://".len()
            && !source.contains(char::is_whitespace)
            && scalar::line(source, URL_MAX).is_ok();
        good.then(|| source.to_owned()).ok_or_else(|| {
            let shown: String = source.chars().take(URL_MAX).collect();
            format!("`{}` is not a URL of at most {URL_MAX} bytes", shown.escape_debug())
        })
    } else {
        scalar::absolute_path(source)
            .map_err(|e| format!("{e}, or give an `http://` or `https://` URL"))
    };
    let source = cx.check("/spec/source", plain);
    let Some(sha256) = sha256 else {
        cx.err("spec/missing-field", "/spec/source", "field `sha256` is missing")
            .hint("an image is verified before use: add the output of `sha256sum`");
        return None;
    };
    let read = sha256.to_ascii_lowercase().parse::<Digest>();
    let sha256 = cx.check("/spec/sha256", read.map_err(|e| e.to_string()))?;
    Some(ImageOrigin::Fetch { source: source?, sha256 })
}

/// Whether a URL has an `@` before its path.
fn has_userinfo(url: &str) -> bool {
    url.split_once("://")
        .and_then(|(_, rest)| rest.split(['/', '?', '#']).next())
        .is_some_and(|authority| authority.contains('@'))
}

fn build_spec(cx: &mut Cx<'_>, build: &BuildDoc) -> Option<BuildSpec> {
    words(cx, "/spec/build/suite", std::slice::from_ref(&build.suite), false);
    words(cx, "/spec/build/kernel", std::slice::from_ref(&build.kernel), false);
    words(cx, "/spec/build/packages", &build.packages, true);
    words(cx, "/spec/build/components", &build.components, true);
    if let Some(mirror) = &build.mirror {
        let good = ["http://", "https://"].iter().any(|p| mirror.starts_with(p))
            && !mirror.contains(char::is_whitespace);
        if has_userinfo(mirror) {
            let message = "the URL carries a user or a password, and everyone who sees a plan \
                           would see it";
            cx.err("spec/wrong-value", "/spec/build/mirror", message);
        } else if !good {
            let message = format!("`{}` is not an archive's URL", mirror.escape_debug());
            cx.err("spec/wrong-value", "/spec/build/mirror", message);
        }
    }
    let files = files(cx, &build.files);
    let users = users(cx, "/spec/build/users", &build.users);
    let mut components = build.components.clone();
    components.sort();
    components.dedup();
    let mut packages = build.packages.clone();
    packages.sort();
    packages.dedup();
    Some(BuildSpec {
        suite: build.suite.clone(),
        mirror: build.mirror.clone(),
        components,
        packages,
        kernel: build.kernel.clone(),
        files,
        users,
        cloud_init: build.cloud_init,
        boot_check: match &build.boot_check {
            BootCheck::Flag(true) => Some(LOGIN_PROMPT.to_owned()),
            BootCheck::Flag(false) => None,
            BootCheck::Text(text) => Some(text.clone()),
        },
    })
}

/// Names of packages, suites and components: what goes on a command line as one word each.
fn words(cx: &mut Cx<'_>, pointer: &str, given: &[String], list: bool) {
    for (n, word) in given.iter().enumerate() {
        let good = word.starts_with(|c: char| c.is_ascii_alphanumeric())
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.:/".contains(&b));
        if !good {
            let pointer = match list {
                true => format!("{pointer}/{n}"),
                false => pointer.to_owned(),
            };
            let message = format!("`{}` is not a name Debian knows", word.escape_debug());
            cx.err("spec/wrong-value", pointer, message);
        }
    }
}

fn files(cx: &mut Cx<'_>, given: &BTreeMap<String, FileDoc>) -> BTreeMap<String, BuildFile> {
    let mut files = BTreeMap::new();
    for (path, file) in given {
        let mut pointer = "/spec/build/files".to_owned();
        push_token(&mut pointer, path);
        let path = cx.check(pointer.clone(), scalar::absolute_path(path));
        let mode = cx.check(format!("{pointer}/mode"), scalar::mode_bits(&file.mode));
        if let (Some(path), Some(mode)) = (path, mode) {
            let content = file.content.clone();
            files.insert(path, BuildFile { content, mode });
        }
    }
    files
}

/// Users of an image or of cloud-init.
pub(super) fn users(
    cx: &mut Cx<'_>,
    pointer: &str,
    given: &BTreeMap<String, UserDoc>,
) -> BTreeMap<String, BuildUser> {
    let word = |w: &str| {
        w.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && w.len() <= 32
            && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
    };
    let mut users = BTreeMap::new();
    for (name, user) in given {
        let mut here = pointer.to_owned();
        push_token(&mut here, name);
        if !word(name) {
            let message = format!("`{}` is not a user name", name.escape_debug());
            cx.err("spec/wrong-value", here.clone(), message);
        }
        for (n, group) in user.groups.iter().enumerate().filter(|(_, g)| !word(g)) {
            let message = format!("`{}` is not a group name", group.escape_debug());
            cx.err("spec/wrong-value", format!("{here}/groups/{n}"), message);
        }
        keys(cx, &format!("{here}/sshKeys"), &user.ssh_keys);
        users.insert(
            name.clone(),
            BuildUser {
                ssh_keys: user.ssh_keys.clone(),
                groups: user.groups.clone(),
                sudo: user.sudo,
            },
        );
    }
    users
}

/// SSH public keys: one line each; a private key in its place is an accident worth catching.
pub(super) fn keys(cx: &mut Cx<'_>, pointer: &str, given: &[String]) {
    for (n, key) in given.iter().enumerate() {
        let known = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];
        if key.contains("PRIVATE KEY") {
            cx.err("spec/private-key", format!("{pointer}/{n}"), "this is a private key")
                .hint("take it out of the repository and out of use; the public one belongs here");
        } else if !known.iter().any(|k| key.starts_with(k)) || key.trim().contains('\n') {
            cx.err("spec/wrong-value", format!("{pointer}/{n}"), "this is not an SSH public key")
                .hint("paste the one line of the `.pub` file");
        }
    }
}
