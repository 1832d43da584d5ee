//! Tests of what a build accepts and what it asks mmdebstrap for.

use expect_test::expect;

use super::*;

fn spec() -> BuildSpec {
    BuildSpec {
        suite: "bookworm".into(),
        mirror: None,
        components: vec!["main".into()],
        packages: vec!["qemu-guest-agent".into()],
        kernel: "linux-image-cloud-amd64".into(),
        files: [("/etc/motd".into(), BuildFile { content: "hi\n".into(), mode: 0o644 })].into(),
        users: [("ops".into(), BuildUser { sudo: true, ..Default::default() })].into(),
        cloud_init: true,
        boot_check: None,
    }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut BuildSpec), want: &str) {
    let mut bad = spec();
    change(&mut bad);
    let error = validate(&bad).expect_err(want).to_string();
    assert!(error.contains(want), "{error}");
}

fn with_file(path: &str, mode: u32) -> impl FnOnce(&mut BuildSpec) {
    let file = BuildFile { content: String::new(), mode };
    let path = path.to_owned();
    move |spec| {
        spec.files.insert(path, file);
    }
}

fn with_user(name: &str, user: BuildUser) -> impl FnOnce(&mut BuildSpec) {
    let name = name.to_owned();
    move |spec| {
        spec.users.insert(name, user);
    }
}

#[test]
fn nothing_that_is_an_option_a_path_trick_or_a_second_line_gets_through() {
    validate(&spec()).unwrap();
    refused(|s| s.suite = "--hook-dir=/x".into(), "suite");
    refused(|s| s.suite = "../x".into(), "suite");
    refused(|s| s.mirror = Some("deb http://a b c".into()), "mirror");
    refused(|s| s.mirror = Some("/etc/shadow".into()), "mirror");
    refused(|s| s.components = vec!["main,evil --x".into()], "component");
    refused(|s| s.packages = vec!["ssh-".into()], "package");
    refused(|s| s.packages = vec!["a,b".into()], "package");
    refused(|s| s.packages = vec!["./evil.deb".into()], "package");
    refused(|s| s.packages = vec!["?essential".into()], "package");
    refused(|s| s.kernel = String::new(), "kernel");
    for path in ["etc/x", "/etc/../x", "/a//b", "/", "/a/", "/a/./b", "/a\0b"] {
        refused(with_file(path, 0o644), "path");
    }
    refused(with_file("/etc/x", 0o100_644), "mode");
    for name in ["-x", "", "Root", "a:b", "a\nb", "1a"] {
        refused(with_user(name, BuildUser::default()), "user name");
    }
    refused(with_user("root", BuildUser::default()), "locked");
    let two = BuildUser { ssh_keys: vec!["ssh-rsa A\nssh-rsa B".into()], ..Default::default() };
    refused(with_user("a", two), "SSH public key");
    let group = BuildUser { groups: vec!["a,b".into()], ..Default::default() };
    refused(with_user("a", group), "group");
}

#[test]
fn names_with_signs_are_packages() {
    for name in ["g++", "libstdc++6", "python3.11", "curl=7.88.1-10+deb12u5", "0ad"] {
        assert!(is_package(name), "{name}");
    }
}

#[test]
fn the_digest_follows_every_input() {
    let digest = spec().inputs_digest();
    assert_eq!(digest, spec().inputs_digest());
    let changes: [fn(&mut BuildSpec); 4] = [
        |s| s.packages.push("jq".into()),
        |s| s.files.get_mut("/etc/motd").unwrap().mode = 0o600,
        |s| s.users.get_mut("ops").unwrap().sudo = false,
        |s| s.boot_check = Some("login:".into()),
    ];
    for change in changes {
        let mut changed = spec();
        change(&mut changed);
        assert_ne!(digest, changed.inputs_digest());
    }
}

#[test]
fn arguments() {
    let mut spec = spec();
    spec.mirror = Some("https://mirror.example/debian".into());
    let args =
        mmdebstrap_args(&spec, &["Acquire::Check-Date \"false\"".into()], Path::new("/w/root"));
    let text: Vec<_> = args.iter().map(|a| a.to_string_lossy()).collect();
    expect![[r#"
        --mode=root
        --verbose
        --variant=minbase
        --format=directory
        --aptopt=APT::Install-Recommends "false"
        --aptopt=Acquire::Retries "3"
        --dpkgopt=path-exclude=/usr/share/man/*
        --dpkgopt=path-exclude=/usr/share/doc/*
        --dpkgopt=path-include=/usr/share/doc/*/copyright
        --dpkgopt=path-exclude=/usr/share/locale/*
        --dpkgopt=path-exclude=/usr/share/info/*
        --aptopt=Acquire::Check-Date "false"
        --components=main
        --include=linux-image-cloud-amd64,systemd-sysv,udev,dbus,netbase,iproute2,systemd-resolved,e2fsprogs,zstd,cloud-init,python3,sudo,qemu-guest-agent
        --
        bookworm
        /w/root
        https://mirror.example/debian"#]].assert_eq(&text.join("\n"));
}

#[test]
fn only_the_settings_that_reach_the_archive_are_taken_over() {
    let dump = "APT::Architecture \"amd64\";\nAcquire::Check-Valid-Until \"false\";\n\
                Acquire::http::Proxy \"\";\nAcquire::http::Proxy::a.example \"DIRECT\";\n\
                DPkg::Post-Invoke:: \"rm -rf /\";\n";
    assert_eq!(
        apt_settings(dump),
        ["Acquire::Check-Valid-Until \"false\"", "Acquire::http::Proxy::a.example \"DIRECT\""]
    );
}

#[test]
fn packages_are_sorted() {
    let text = "zlib1g\t1:1.2\tamd64\nadduser\t3.134\tall\nbroken\n";
    let names: Vec<_> = parse_packages(text).into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["adduser", "zlib1g"]);
}
